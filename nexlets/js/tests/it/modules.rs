//! Modules: their form, their files, and the asynchronous host services.

use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use nex_protocol::ErrorCode;
use nex_testkit::WebServer;
use serde_json::json;

use crate::bench::{Bench, failure_of, json_of, next_text};

#[tokio::test]
async fn a_module_is_given_the_request_and_its_results_are_sent() {
    let bench = Bench::new().await;
    let script = "export default async (request, nex) => ({
        subject: request.subject, text: request.text(), json: request.json(),
        bytes: request.payload instanceof Uint8Array, header: request.headers.get('x-one'),
        attempt: request.attempt, id: typeof request.id,
    })";
    bench.start(script, "a").await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("X-One", "1");
    headers.append("X-One", "2");

    let request = bench
        .client
        .request_with_headers("a", headers, "{\"a\":1}".into());
    let reply = request.await.unwrap();

    let result: serde_json::Value = serde_json::from_slice(&reply.payload).unwrap();
    let expected = json!({ "subject": "a", "text": "{\"a\":1}", "json": { "a": 1 },
        "bytes": true, "header": "1, 2", "attempt": 1, "id": "string" });
    assert_eq!(result, expected);
    for (number, (result, expected)) in [
        ("'text'", "text"),
        ("new Uint8Array([97, 98])", "ab"),
        ("({ a: [1] })", "{\"a\":[1]}"),
        ("undefined", ""),
        ("new Response('body', { status: 404 })", "body"),
        ("Response.json({ a: 1 })", "{\"a\":1}"),
        ("new Response()", ""),
        ("new Response(null, { status: 204 })", ""),
        (
            "new Promise(done => setTimeout(() => done('later'), 5))",
            "later",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let subject = format!("r.{number}");
        let script = format!("export default async () => {result}");
        bench.start(&script, &subject).await.unwrap();
        let reply = bench.call(subject, "").await;
        assert_eq!(reply.payload, expected, "{result}");
    }
}

#[tokio::test]
async fn services_are_asked_for_with_await() {
    let bench = Bench::new().await;
    let mut heard = bench.client.subscribe("heard").await.unwrap();
    bench.start("(s, p) => p", "echo").await.unwrap();
    let web =
        WebServer::start(|_request| b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine".to_vec());
    let script = "const text = bytes => new TextDecoder().decode(bytes);
    export default async (request, nex) => {
        const kv = nex.kv('b'), notes = nex.objectStore('o');
        const none = await kv.set('k', 'one');
        const first = (await kv.entry('k')).revision;
        const second = await kv.update('k', 'two', first);
        const codes = [];
        for (const call of [() => kv.create('k', 'x'), () => kv.update('k', 'x', first), () => kv.get('nothing'),
            () => kv.get(), () => nex.messaging.request('nobody'), () => nex.messaging.publish('$SYS.x')]) {
            await call().catch(error => codes.push(error.code));
        }
        const value = text(await kv.get('k'));
        const keys = await kv.keys();
        await kv.delete('k');
        const put = await notes.put('n', 'object');
        nex.messaging.publish('heard', 'not awaited');
        return {
            none: none === undefined, second: second > first, codes, value, keys, left: await kv.keys(),
            object: text(await notes.get('n')), size: (await notes.info('n')).size, same: put.nuid === (await notes.info('n')).nuid,
            names: (await notes.list()).map(one => one.name),
            echo: text(await nex.messaging.request('echo', 'hi')),
            many: (await nex.messaging.requestMany('echo', 'hi', { max: 1 })).map(text),
            http: (await nex.http.get(request.text())).response,
        };
    }";
    bench.start(script, "a").await.unwrap();

    let result = json_of(&bench, "a", &format!("http://{}", web.address())).await;

    let expected = json!({ "none": true, "second": true,
        "codes": ["exists", "conflict", "not_found", "bad_request", "no_responders", "denied"],
        "value": "two", "keys": ["k"], "left": [], "object": "object", "size": 6, "same": true,
        "names": ["n"], "echo": "hi", "many": ["hi"], "http": "fine" });
    assert_eq!(result, expected);
    assert_eq!(next_text(&mut heard).await, "not awaited");
}

#[tokio::test]
async fn calls_that_are_made_together_are_under_way_together() {
    const CALLS: usize = 10;
    let bench = Bench::new().await;
    let mut asked = bench.client.subscribe("slow").await.unwrap();
    let client = bench.client.clone();
    // Answers when all have asked: one after the other they would wait for ever.
    tokio::spawn(async move {
        let questions: Vec<_> = asked.by_ref().take(CALLS).collect().await;
        for question in questions {
            let reply = question.reply.unwrap();
            client.publish(reply, question.payload).await.unwrap();
        }
    });
    let script = format!(
        "export default async (request, nex) => {{
            const asked = Array.from({{ length: {CALLS} }}, (_, n) => nex.messaging.request('slow', String(n)));
            return (await Promise.all(asked)).map(bytes => String.fromCharCode(...bytes)).join('');
        }}"
    );
    bench.start(&script, "a").await.unwrap();

    assert_eq!(bench.call("a", "").await.payload, "0123456789");
}

#[tokio::test]
async fn more_calls_than_may_be_open_are_refused() {
    let bench = Bench::new().await;
    let _silent = bench.client.subscribe("silent").await.unwrap();
    let script = "export default async (request, nex) => {
        const codes = [];
        for (let n = 0; n < 1100; n++) nex.messaging.request('silent').catch(error => codes.push(error.code));
        await null; await null;
        return codes.length + ' ' + codes[0];
    }";
    let asking = json!({ "timeout": "1s" });
    bench.start_asking(script, "a", asking).await.1.unwrap();

    // What it asked for and nobody answers, it waits for until its time is over.
    let (code, text) = failure_of(&bench.call("a", "").await);

    assert_eq!(code, ErrorCode::Timeout, "{text}");
    let script = "export default async (request, nex) => {
        let refused;
        for (let n = 0; n < 1100; n++) nex.messaging.publish('x').catch(error => refused ??= error.code);
        await new Promise(done => setTimeout(done, 1));
        return refused;
    }";
    bench.start(script, "b").await.unwrap();
    assert_eq!(bench.call("b", "").await.payload, "too_large");
}

#[tokio::test]
async fn a_bucket_is_watched() {
    let bench = Bench::new().await;
    let script = "export default async (request, nex) => {
        const kv = nex.kv('b');
        await kv.put('a.1', 'old');
        const seen = [];
        for await (const { key, value, operation } of kv.watch('a.*')) {
            seen.push([key, operation, value && String.fromCharCode(...value)]);
            if (seen.length === 1) { await kv.put('b.1', 'other'); await kv.put('a.2', 'new'); await kv.delete('a.1') }
            if (seen.length === 3) break;
        }
        const updates = kv.watch('a.3', { updatesOnly: true });
        const first = updates.next();
        const timer = setInterval(() => kv.put('a.3', 'x'), 5);
        const { value } = await first;
        clearInterval(timer);
        let code; try { await kv.watch('a.*b').next() } catch (error) { code = error.code }
        return { seen, key: value.key, code };
    }";
    bench.start(script, "a").await.unwrap();

    let result = json_of(&bench, "a", "").await;

    let expected = json!({ "seen": [["a.1", "put", "old"], ["a.2", "put", "new"], ["a.1", "delete", null]],
        "key": "a.3", "code": "bad_request" });
    assert_eq!(result, expected);
}

#[tokio::test]
async fn several_files_import_each_other() {
    let bench = Bench::new().await;
    let files = [
        (
            "main.js",
            "import { double } from './lib/math.js';
             import words from './words.json' with { type: 'json' };
             export default async request => {
                 const { late } = await import('./lib/late.mjs');
                 return [double(21), words.hello, late, import.meta.url ?? 'no url'].join(' ');
             }",
        ),
        (
            "lib/math.js",
            "import { two } from '../two.mjs'; export const double = n => n * two",
        ),
        ("two.mjs", "export const two = await Promise.resolve(2)"),
        ("lib/late.mjs", "export const late = 'late'"),
        ("words.json", "{ \"hello\": \"world\" }"),
    ];
    bench.start_files(&files, "a").await.unwrap();

    let reply = bench.call("a", "").await;

    assert!(reply.payload.starts_with(b"42 world late "), "{reply:?}");
}

#[tokio::test]
async fn only_files_of_the_function_are_imported() {
    let bench = Bench::new().await;
    for (import, cause) in [
        ("./gone.js", "the function has no file `gone.js`"),
        ("../main.js", "leads out of the folder"),
        ("/etc/passwd", "a path of the machine"),
        ("left-pad", "there are no packages; bundle it"),
        ("@scope/package", "there are no packages; bundle it"),
        ("file:///etc/passwd", "not loaded from elsewhere"),
        ("https://esm.sh/left-pad", "not loaded from elsewhere"),
        ("data:text/javascript,1", "not loaded from elsewhere"),
        ("https", "modules of Node are not there"),
        ("node:fs", "modules of Node are not there"),
        ("fs/promises", "modules of Node are not there"),
        (
            "./lib",
            "it is a folder; want a file in it, as `./lib/index.mjs`",
        ),
        (
            "./lib/",
            "it is a folder; want a file in it, as `./lib/index.mjs`",
        ),
        ("./lib/a", "want the whole name: `./lib/a.js`"),
        ("lib/a.js", "want `./lib/a.js`"),
        ("./notes.txt", "end in `.js`, `.mjs` or `.json`"),
    ] {
        let main = format!("// '{import}'\nimport '{import}';\nexport default () => 1");
        let files = [
            ("main.mjs", &*main),
            ("lib/a.js", ""),
            ("lib/index.mjs", ""),
        ];
        let refusal = bench.start_files(&files, "a").await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::BadRequest, "{refusal}");
        let named = format!("at main.mjs:2:8: TypeError: cannot import `{import}`");
        for part in [cause, &named] {
            assert!(refusal.text.contains(part), "{part}: {refusal}");
        }
    }
}

#[tokio::test]
async fn an_import_that_fails_has_its_place_wherever_it_is() {
    let bench = Bench::new().await;
    let one = "export { x } from\n  './x.js';\nexport default () => 1";
    let refusal = bench.start(one, "a").await.unwrap_err();
    for part in [":2:3: ", "the function is this one file; deploy its folder"] {
        assert!(refusal.text.contains(part), "{part}: {refusal}");
    }
    for (files, parts) in [
        (
            [
                ("main.mjs", "import './lib/a.js';\nexport default () => 1"),
                ("lib/a.js", "\n\nimport '../b.js'"),
            ],
            ["lib/a.js:3:8", "the function has no file `b.js`"],
        ),
        (
            [
                (
                    "main.mjs",
                    "import x from './x.json';\nexport default () => x",
                ),
                ("x.json", "{\n  wrong"),
            ],
            ["x.json:2:", "the file is no JSON"],
        ),
    ] {
        let refusal = bench.start_files(&files, "a").await.unwrap_err();
        for part in parts {
            assert!(refusal.text.contains(part), "{part}: {refusal}");
        }
    }

    let late = "export default async () => {\n  await import('https');\n}";
    bench.start(late, "late").await.unwrap();
    let (code, text) = failure_of(&bench.call("late", "").await);
    assert_eq!(code, ErrorCode::Internal);
    assert!(
        text.contains("cannot import `https`") && text.contains(":2:16"),
        "{text}"
    );
}

#[tokio::test]
async fn errors_have_the_place_in_their_file() {
    let bench = Bench::new().await;
    let files = [
        (
            "main.js",
            "import { check } from './lib/check.js';\nexport default async (request, nex) => {\n  await null;\n  return check(request.text(), nex);\n}",
        ),
        (
            "lib/check.js",
            "export const check = async (text, nex) => {\n  if (text === 'throw') throw new TypeError('no');\n  if (text === 'reject') await Promise.reject(new Error('later'));\n  if (text === 'kv')\n    return await nex.kv('b').get('nothing');\n  if (text === 'value') throw { code: 7 };\n}",
        ),
    ];
    bench.start_files(&files, "a").await.unwrap();
    for (payload, expected) in [
        ("throw", "TypeError: no at lib/check.js:2:35"),
        ("reject", "Error: later at lib/check.js:3:"),
        (
            "kv",
            "Error: there is no key `nothing` in the bucket `b` at lib/check.js:5:",
        ),
        ("value", "{\"code\":7}"),
    ] {
        let (code, text) = failure_of(&bench.call("a", payload).await);
        assert_eq!(code, ErrorCode::Internal);
        assert!(text.starts_with(expected), "{text}");
    }
    let broken = [
        ("main.mjs", "import './b.js';\nexport default () => 1"),
        ("b.js", "let x = 1;\nlet x = 2;"),
    ];
    let refusal = bench.start_files(&broken, "b").await.unwrap_err();
    assert!(
        refusal.text.starts_with("syntax error at b.js:2:"),
        "{refusal}"
    );
}

#[tokio::test]
async fn the_log_has_the_stack() {
    let bench = Bench::new().await;
    let script = "const inner = () => { throw new Error('deep') };\nconst outer = () => inner() + 1;\nexport default async () => outer() + 1;";
    let path = tempfile::Builder::new().suffix(".js").tempfile().unwrap();
    std::fs::write(path.path(), script).unwrap();
    let (id, started) = bench.start_file(path.path(), "a").await;
    started.unwrap();
    let subject = format!("$NEX.FEED.default.logs.{id}.stderr");
    let mut stderr = bench.client.subscribe(subject).await.unwrap();

    bench.call("a", "").await;

    let line = next_text(&mut stderr).await;
    let (inner, outer) = (line.find("at inner ("), line.find("at outer ("));
    assert!(line.starts_with("Error: deep: at inner ("), "{line}");
    assert!(inner < outer, "{line}");
}

#[tokio::test]
async fn the_environment_and_the_workload_are_known() {
    let bench = Bench::new().await;
    let script = "export default (request, nex) => ({ env: nex.env, workload: nex.workload })";
    let asking = json!({ "environment": { "MODE": "test" } });
    let (id, started) = bench.start_asking(script, "a", asking).await;
    let name = started.unwrap().name;

    let result = json_of(&bench, "a", "").await;

    let workload = json!({ "id": id.as_str(), "name": name, "namespace": "default" });
    assert_eq!(
        result,
        json!({ "env": { "MODE": "test" }, "workload": workload })
    );
}

#[tokio::test]
async fn isolation_decides_what_is_left_of_a_call() {
    let bench = Bench::new().await;
    let script = "let calls = 0; export default () => String(++calls)";
    bench.start(script, "shared").await.unwrap();
    let asking = json!({ "isolation": "fresh" });
    bench.start_asking(script, "fresh", asking).await.1.unwrap();

    let mut most = 0;
    // More calls than there are engine threads: one of them has been called before.
    for _ in 0..50 {
        assert_eq!(bench.call("fresh", "").await.payload, "1");
        let calls = bench.call("shared", "").await.payload;
        most = most.max(std::str::from_utf8(&calls).unwrap().parse().unwrap());
    }

    assert!(most > 1, "{most}");
}

#[tokio::test]
async fn what_is_a_module_is_told_by_the_file_and_by_what_is_in_it() {
    let bench = Bench::new().await;
    for (number, (script, is_module)) in [
        ("export default () => String(this === undefined)", true),
        (
            "const f = () => String(this === undefined);\nexport { f as default }",
            true,
        ),
        (
            "import('./x.js').catch(() => {}); () => String(this === undefined)",
            false,
        ),
        ("// export default\n() => String(this === undefined)", false),
        (
            "'export default 1'; () => String(this === undefined)",
            false,
        ),
        (
            "#!/usr/bin/env node\n() => String(this === undefined)",
            false,
        ),
        (
            "#!/usr/bin/env node\nexport default () => String(this === undefined)",
            true,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let subject = format!("m.{number}");
        bench.start(script, &subject).await.unwrap();
        let reply = bench.call(subject, "").await;
        assert_eq!(reply.payload, is_module.to_string(), "{script}");
    }
}

#[tokio::test]
async fn a_rejection_that_nobody_waits_for_fails_its_call_and_the_others_are_logged() {
    let bench = Bench::new().await;
    let script = "const late = async () => { throw new Error('not awaited') };
    export default async (request, nex) => {
        const caught = Promise.reject(new Error('caught later'));
        late();
        nex.kv('b').get();
        await null;
        try { await caught } catch {}
        if (request.text() === 'fail') throw new Error('the call itself');
        return 'fine';
    }";
    let (id, started) = bench.start_asking(script, "a", json!({})).await;
    started.unwrap();
    let subject = format!("$NEX.FEED.default.logs.{id}.stderr");
    let mut stderr = bench.client.subscribe(subject).await.unwrap();
    nex_nats::barrier(&bench.client).await.unwrap();

    let failure = failure_of(&bench.call("a", "").await);
    let failure_itself = failure_of(&bench.call("a", "fail").await);

    let rejected = "a promise that nobody waits for was rejected: Error: not awaited at f.js:1:";
    assert!(failure.1.starts_with(rejected), "{failure:?}");
    assert!(
        failure_itself.1.contains("the call itself"),
        "{failure_itself:?}"
    );
    for begin in [
        "a promise that nobody waits for was rejected: Error: not awaited: at late (f.js:1:",
        "a promise that nobody waits for was rejected: Error: `kv.get`: argument 1: want a key as a string at f.js:5:",
        "failed on a: a promise that nobody waits for was rejected: Error: not awaited at f.js:1:",
        rejected,
        "a promise that nobody waits for was rejected: Error: `kv.get`: argument 1: want a key as a string at f.js:5:",
        "failed on a: Error: the call itself at f.js:8:",
    ] {
        let line = next_text(&mut stderr).await;
        assert!(line.starts_with(begin), "{line}");
    }
}

/// Node ends a process for each of these; here they end the call.
#[tokio::test]
async fn an_error_that_nobody_can_catch_fails_the_call_with_its_place() {
    let bench = Bench::new().await;
    for (number, (code, text)) in [
        (
            "queueMicrotask(() => { throw new Error('boom') }); return 'fine'",
            "Error: boom at f.js:1:",
        ),
        (
            "queueMicrotask(() => { throw new Error('boom') }); await nex.kv('b').keys(); return 'fine'",
            "Error: boom at f.js:1:",
        ),
        (
            "setTimeout(() => { throw new Error('boom') }, 1); await new Promise(done => setTimeout(done, 50)); return 'fine'",
            "Error: boom at f.js:1:",
        ),
        (
            "nex.kv('b').get('missing'); return 'fine'",
            "a promise that nobody waits for was rejected: Error: ",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let script = format!("export default async (request, nex) => {{ {code} }}");
        let subject = format!("u.{number}");
        bench.start(&script, &subject).await.unwrap();

        let failure = failure_of(&bench.call(subject.as_str(), "").await);

        assert_eq!(failure.0, ErrorCode::Internal, "{code}");
        assert!(failure.1.starts_with(text), "{code}: {failure:?}");
    }
}
