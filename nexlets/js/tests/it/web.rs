//! The interfaces of the web.

use nex_testkit::WebServer;
use serde_json::{Value, json};

use crate::bench::{Bench, failure_of, json_of};

/// The results of expressions, each in the body of an asynchronous function; what is thrown is its
/// name and message.
async fn results(bench: &Bench, expressions: &[&str]) -> Vec<Value> {
    let tries: Vec<String> = expressions
        .iter()
        .map(|expression| {
            format!("async () => {{ try {{ {expression} }} catch (e) {{ return `${{e.name}}: ${{e.message}}` }} }}")
        })
        .collect();
    let script = format!(
        "export default async (request, nex) => Promise.all([{}].map(call => call()))",
        tries.join(",\n")
    );
    bench.start(&script, "web").await.expect("it starts");
    let results = json_of(bench, "web", "").await;
    results.as_array().expect("an array").clone()
}

async fn hold(cases: &[(&str, Value)]) {
    let bench = Bench::new().await;
    let expressions: Vec<_> = cases.iter().map(|(expression, _)| *expression).collect();
    let results = results(&bench, &expressions).await;
    for ((expression, expected), result) in cases.iter().zip(results) {
        assert_eq!(result, *expected, "{expression}");
    }
}

#[tokio::test]
async fn text_is_encoded_and_decoded() {
    hold(&[
        ("return [...new TextEncoder().encode('aü😀')]", json!([97, 195, 188, 240, 159, 152, 128])),
        ("return new TextDecoder().decode(new Uint8Array([239, 187, 191, 97]))", json!("a")),
        ("return new TextDecoder('utf8', { ignoreBOM: true }).decode(new Uint8Array([239, 187, 191, 97])).length", json!(2)),
        ("return new TextDecoder().decode(new Uint8Array([97, 255, 98]))", json!("a\u{fffd}b")),
        ("return new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([255]))", json!("TypeError: the bytes are no UTF-8")),
        ("return new TextDecoder('utf-16')", json!("RangeError: the encoding `utf-16` is not known: want `utf-8`")),
        ("const d = new TextDecoder(); return d.decode(new Uint8Array([0xf0, 0x9f]), { stream: true }) + '|' + d.decode(new Uint8Array([0x98, 0x80]))", json!("|😀")),
        ("const d = new TextDecoder(); return d.decode(new Uint8Array([97, 0xf0]), { stream: true }) + d.decode()", json!("a\u{fffd}")),
        ("return new TextDecoder().decode(new DataView(new Uint8Array([97, 98, 99]).buffer, 1, 1))", json!("b")),
        ("const t = new Uint8Array(3); return [new TextEncoder().encodeInto('aüb', t), [...t]]", json!([{ "read": 2, "written": 3 }, [97, 195, 188]])),
        ("return atob(btoa('hello'))", json!("hello")),
        ("return btoa('ü€')", json!("InvalidCharacterError: String contains an invalid character")),
    ])
    .await;
}

#[tokio::test]
async fn urls_are_as_in_browsers() {
    hold(&[
        (
            "const u = new URL('../b?x=1#y', 'https://me:pw@Example.com:8080/a/c'); return [u.href, u.origin, u.protocol, u.username, u.password, u.host, u.hostname, u.port, u.pathname, u.search, u.hash]",
            json!(["https://me:pw@example.com:8080/b?x=1#y", "https://example.com:8080", "https:", "me", "pw", "example.com:8080", "example.com", "8080", "/b", "?x=1", "#y"]),
        ),
        ("return new URL('nonsense')", json!("TypeError: invalid URL: nonsense")),
        ("return [URL.canParse('x:'), URL.canParse('x'), URL.parse('nope')]", json!([true, false, null])),
        ("const u = new URL('http://a/'); u.host = 'b:81'; u.pathname = '/p q'; u.hash = 'h'; u.protocol = 'https'; return String(u)", json!("https://b:81/p%20q#h")),
        ("const u = new URL('http://a/?x=1'); u.searchParams.append('y', 'ä &'); return [u.search, JSON.stringify(u)]", json!(["?x=1&y=%C3%A4+%26", "\"http://a/?x=1&y=%C3%A4+%26\""])),
        ("const u = new URL('http://a/?x=1'), p = u.searchParams; u.search = 'z=2'; return [p.get('x'), p.get('z')]", json!([null, "2"])),
        ("const p = new URLSearchParams({ b: 1, a: 2 }); p.append('b', 3); p.sort(); return [String(p), p.getAll('b'), p.has('c'), p.size]", json!(["a=2&b=1&b=3", ["1", "3"], false, 3])),
        ("const p = new URLSearchParams([['a', '1'], ['a', '2'], ['b', '3']]); p.set('a', '9'); p.delete('b'); return [...p]", json!([["a", "9"]])),
        ("return [...new URLSearchParams('?a=%20b+c&d')]", json!([["a", " b c"], ["d", ""]])),
    ])
    .await;
}

#[tokio::test]
async fn random_numbers_and_digests_are_made() {
    let digest = |name| {
        format!(
            "const d = await crypto.subtle.digest('{name}', new TextEncoder().encode('abc')); return [d instanceof ArrayBuffer, [...new Uint8Array(d)].map(b => b.toString(16).padStart(2, '0')).join('').slice(0, 16)]"
        )
    };
    let digests = ["SHA-1", "SHA-256", "SHA-384", "SHA-512"].map(digest);
    // The first bytes of the digests of `abc` in FIPS 180-2.
    let expected = [
        "a9993e364706816a",
        "ba7816bf8f01cfea",
        "cb00753f45a35e8b",
        "ddaf35a193617aba",
    ];
    let mut cases: Vec<(&str, Value)> = digests
        .iter()
        .zip(expected)
        .map(|(script, start)| (script.as_str(), json!([true, start])))
        .collect();
    cases.extend([
        ("return /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID())", json!(true)),
        ("return crypto.randomUUID() === crypto.randomUUID()", json!(false)),
        ("const a = new Uint32Array(100); return crypto.getRandomValues(a) === a && a.some(n => n !== 0) && new Set(a).size > 90", json!(true)),
        ("return crypto.getRandomValues(new Uint8Array(65537))", json!("QuotaExceededError: want at most 65536 bytes")),
        ("return crypto.getRandomValues(new Float64Array(1))", json!("TypeMismatchError: want an array of whole numbers")),
        ("return await crypto.subtle.digest('MD5', new Uint8Array())", json!("NotSupportedError: the digest `MD5` is not known: want SHA-1, SHA-256, SHA-384 or SHA-512")),
    ]);
    hold(&cases).await;
}

#[tokio::test]
async fn values_are_cloned() {
    hold(&[
        ("const o = { a: [1, { b: 2 }], d: new Date(5), m: new Map([[1, new Set([2])]]) }; const c = structuredClone(o); return [c, c.a !== o.a, c.d.getTime(), [...c.m.get(1)]]", json!([{ "a": [1, { "b": 2 }], "d": "1970-01-01T00:00:00.005Z", "m": {} }, true, 5, [2]])),
        ("const o = {}; o.self = o; const c = structuredClone(o); return c.self === c && c !== o", json!(true)),
        ("const a = new Uint8Array([1, 2, 3]).subarray(1); const c = structuredClone(a); a[0] = 9; return [...c]", json!([2, 3])),
        ("const e = structuredClone(new RangeError('x')); return [e instanceof RangeError, e.message]", json!([true, "x"])),
        ("return String(structuredClone(/a/gi))", json!("/a/gi")),
        ("return structuredClone(() => 1)", json!("DataCloneError: a function cannot be cloned")),
        ("return structuredClone({ s: Symbol() })", json!("DataCloneError: a symbol cannot be cloned")),
    ])
    .await;
}

#[tokio::test]
async fn timers_go_off_in_order() {
    hold(&[
        ("const seen = []; await new Promise(done => { setTimeout(() => { seen.push(3); done() }, 20); setTimeout(n => seen.push(n), 1, 2); queueMicrotask(() => seen.push(1)); const no = setTimeout(() => seen.push('no'), 2); clearTimeout(no) }); return seen", json!([1, 2, 3])),
        ("let n = 0; await new Promise(done => { const t = setInterval(() => { if (++n === 3) { clearInterval(t); done() } }, 1) }); return n", json!(3)),
        ("return setTimeout('text')", json!("TypeError: want a function")),
        ("const t = performance.now(); await new Promise(done => setTimeout(done, 5)); return performance.now() - t >= 4", json!(true)),
        ("clearTimeout(undefined); clearTimeout(12345); return 'fine'", json!("fine")),
    ])
    .await;
}

#[tokio::test]
async fn signals_abort() {
    hold(&[
        ("const c = new AbortController(); const seen = []; c.signal.addEventListener('abort', e => seen.push(e.type)); c.signal.onabort = () => seen.push('on'); c.abort(); c.abort(); return [seen, c.signal.aborted, c.signal.reason.name]", json!([["abort", "on"], true, "AbortError"])),
        ("AbortSignal.abort(new Error('mine')).throwIfAborted()", json!("Error: mine")),
        ("const s = AbortSignal.timeout(1); await new Promise(done => s.addEventListener('abort', done)); return s.reason.name", json!("TimeoutError")),
        ("const c = new AbortController(); const any = AbortSignal.any([new AbortController().signal, c.signal]); c.abort('x'); return [any.aborted, any.reason]", json!([true, "x"])),
    ])
    .await;
}

#[tokio::test]
async fn headers_requests_and_responses_are_objects() {
    hold(&[
        ("const h = new Headers({ 'X-A': 1 }); h.append('x-a', ' 2 '); h.set('b', 3); return [h.get('X-a'), h.has('B'), [...h], h.get('none')]", json!(["1, 2", true, [["b", "3"], ["x-a", "1, 2"]], null])),
        ("return new Headers({ 'a b': 1 })", json!("TypeError: invalid name of a header: a b")),
        ("return new Headers({ a: 'x\\ny' })", json!("TypeError: the value of a header has a line break or a zero")),
        ("const r = new Request('http://a/b', { method: 'post', body: new URLSearchParams({ q: 'ä' }) }); return [r.method, r.url, r.headers.get('content-type'), await r.text()]", json!(["POST", "http://a/b", "application/x-www-form-urlencoded;charset=UTF-8", "q=%C3%A4"])),
        ("return new Request('http://a/', { body: 'x' })", json!("TypeError: a request with GET has no body")),
        ("const r = new Response('{\"a\":1}', { status: 201 }); const c = r.clone(); return [r.ok, r.status, await r.json(), r.bodyUsed, await c.text(), r.headers.get('content-type')]", json!([true, 201, { "a": 1 }, true, "{\"a\":1}", "text/plain;charset=UTF-8"])),
        ("const r = new Response('x'); await r.text(); return await r.text()", json!("TypeError: the body was read already")),
        ("return [...await new Response(new Uint8Array([1, 2]).buffer).bytes()]", json!([1, 2])),
        ("return new Response('', { status: 99 })", json!("RangeError: want a status from 200 to 599")),
    ])
    .await;
}

#[tokio::test]
async fn fetch_calls_through_the_service_of_the_host() {
    let web = WebServer::start(|request| {
        if request.path == "/moved" {
            return b"HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n".to_vec();
        }
        let text = String::from_utf8_lossy(&request.body);
        let body = format!("{} {}|{text}", request.method, request.path);
        let length = body.len();
        let head = format!(
            "HTTP/1.1 404 Not Found\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: {length}\r\n\r\n"
        );
        (head + &body).into_bytes()
    });
    let url = format!("http://{}", web.address());
    let bench = Bench::new().await;
    let script = "export default async request => {
        const url = request.text();
        const posted = await fetch(url + '/p?q=1', { method: 'POST', body: 'hello', headers: { 'x-b': 'c' } });
        const moved = await fetch(new URL('/moved', url));
        const refused = await fetch('http://0.0.0.0/').catch(error => [error.name, error.code]);
        const controller = new AbortController();
        const aborted = fetch(url + '/x', { signal: controller.signal }).catch(error => error.name);
        controller.abort();
        const both = await Promise.all([fetch(url + '/1'), fetch(new Request(url + '/2'))]);
        return { status: posted.status, ok: posted.ok, header: posted.headers.get('X-A'), body: await posted.text(),
            moved: [moved.url === url + '/there', moved.redirected, (await moved.text())], refused, aborted: await aborted,
            both: await Promise.all(both.map(one => one.text())) };
    }";
    bench.start(script, "a").await.unwrap();

    let result = json_of(&bench, "a", &url).await;

    let expected = json!({ "status": 404, "ok": false, "header": "1, 2", "body": "POST /p?q=1|hello",
        "moved": [true, true, "GET /there|"], "refused": ["TypeError", "denied"], "aborted": "AbortError",
        "both": ["GET /1|", "GET /2|"] });
    assert_eq!(result, expected);
    bench
        .start(
            "export default async () => {\n  await fetch('http://0.0.0.0/');\n}",
            "b",
        )
        .await
        .unwrap();
    let (_, text) = failure_of(&bench.call("b", "").await);
    assert!(
        text.starts_with("TypeError: ") && text.contains(" at f.js:2:"),
        "{text}"
    );
}

#[tokio::test]
async fn a_function_can_have_globals_of_its_own_in_their_place() {
    let bench = Bench::new().await;
    bench
        .start("globalThis.fetch = () => 'mine'; const URL = 1; function crypto() { return 2 }\n() => [fetch(), URL, crypto()]", "a")
        .await
        .unwrap();

    assert_eq!(json_of(&bench, "a", "").await, json!(["mine", 1, 2]));
}
