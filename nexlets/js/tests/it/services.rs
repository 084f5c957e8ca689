//! Host services, as scripts use them.

use async_nats::jetstream;
use futures_util::StreamExt as _;
use nex_functions::Policy;
use nex_protocol::ErrorCode;
use nex_testkit::WebServer;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::bench::{Bench, json_of, next_text};

/// A script that tells the code of what is thrown by each expression.
fn codes(expressions: &[&str]) -> String {
    let tries: Vec<String> = expressions
        .iter()
        .map(|expression| format!("() => {expression}"))
        .collect();
    format!(
        "() => [{}].map(f => {{ try {{ f(); return 'none' }} catch (e) {{ return e.code ?? String(e) }} }})",
        tries.join(", ")
    )
}

#[tokio::test]
async fn a_key_value_bucket_is_used_as_in_older_versions() {
    let bench = Bench::new().await;
    let script = "(s, p) => {
        const b = this.kv('things');
        const nothing = b.set('k', p);
        const { get } = b;
        return { nothing: nothing === undefined, same: get('k').every((byte, i) => byte === p[i]),
            isArray: get('k') instanceof Uint8Array, keys: b.keys(), gone: b.delete('k') === undefined,
            left: kv('things').keys() };
    }";
    bench.start(script, "a").await.unwrap();

    let result = json_of(&bench, "a", "\u{0}\u{ff}abc").await;

    let expected = json!({ "nothing": true, "same": true, "isArray": true, "keys": ["k"],
        "gone": true, "left": [] });
    assert_eq!(result, expected);
}

#[tokio::test]
async fn values_and_objects_of_every_byte_come_back_unchanged() {
    let bench = Bench::new().await;
    let script = "(s, p) => { const b = kv('b'); b.set('k', p); return b.get('k') }";
    bench.start(script, "kv").await.unwrap();
    let script = "(s, p) => { const o = objectStore('o'); o.put('n', p); return o.get('n') }";
    bench.start(script, "objects").await.unwrap();

    let largest = bench.client.max_payload() - 4096;
    for bytes in [0, 1, 255, 70_000, 300_000, largest] {
        let payload: Vec<u8> = (0..=255).cycle().take(bytes).collect();
        for subject in ["kv", "objects"] {
            let reply = bench.call(subject, payload.clone()).await;
            assert!(reply.payload == payload, "{subject}: {bytes} bytes changed");
        }
    }
}

#[tokio::test]
async fn revisions_keep_writers_from_overwriting_each_other() {
    let bench = Bench::new().await;
    let script = "() => {
        const b = kv('b');
        const first = b.create('k', 'one');
        const second = b.update('k', 'two', first);
        const codes = [() => b.create('k', 'x'), () => b.update('k', 'x', first)].map(f => {
            try { f() } catch (e) { return e.code }
        });
        const { value, revision } = b.entry('k');
        return { codes, value: String.fromCharCode(...value), same: revision === second };
    }";
    bench.start(script, "a").await.unwrap();

    let result = json_of(&bench, "a", "").await;

    let expected = json!({ "codes": ["exists", "conflict"], "value": "two", "same": true });
    assert_eq!(result, expected);
}

#[tokio::test]
async fn objects_are_listed_described_and_deleted() {
    let bench = Bench::new().await;
    let script = "() => {
        const o = objectStore('o');
        const put = o.put('my file.txt', 'hello');
        const info = o.info('my file.txt');
        const names = o.list().map(one => one.name);
        o.delete('my file.txt');
        let code; try { o.get('my file.txt') } catch (e) { code = e.code }
        return { put, same: JSON.stringify(put) === JSON.stringify(info), names, code,
            left: o.list() };
    }";
    bench.start(script, "a").await.unwrap();

    let result = json_of(&bench, "a", "").await;

    assert_eq!(result["names"], json!(["my file.txt"]));
    assert_eq!(result["code"], "not_found");
    assert_eq!(result["left"], json!([]));
    assert_eq!(result["same"], true);
    let put = &result["put"];
    assert_eq!((&put["size"], &put["chunks"]), (&json!(5), &json!(1)));
    assert_eq!(put["bucket"], "o");
    assert!(put["digest"].as_str().unwrap().starts_with("SHA-256="));
    assert!(put["mtime"].as_str().unwrap().starts_with("20"), "{put}");
}

#[tokio::test]
async fn every_key_that_is_listed_can_be_read_and_deleted() {
    let bench = Bench::new().await;
    let jetstream = jetstream::new(bench.client.clone());
    let config = jetstream::kv::Config {
        bucket: "b".to_owned(),
        ..Default::default()
    };
    jetstream.create_key_value(config).await.unwrap();
    // As programs without a client for buckets write them.
    let keys = ["device:1", "a@b.c", "ü", "50%", "x*y", "(a),[b]", "plain"];
    for key in keys {
        let put = jetstream.publish(format!("$KV.b.{key}"), key.into());
        put.await.unwrap().await.unwrap();
    }
    let script = "() => {
        const b = kv('b');
        const keys = b.keys();
        const text = bytes => new TextDecoder().decode(bytes);
        const same = keys.filter(k => text(b.get(k)) === k && text(b.entry(k).value) === k);
        keys.forEach(k => b.delete(k));
        return { same: same.length, left: b.keys() };
    }";
    bench.start(script, "a").await.unwrap();
    let refused = codes(&[
        "kv('b').put('device:1', 'x')",
        "kv('b').create('device:1', 'x')",
        "kv('b').get('a b')",
        "kv('b').get('a.*')",
        "kv('b').get('>')",
        "kv('b').get('a..b')",
        "kv('b').get('')",
        "kv('b').delete('*')",
    ]);
    bench.start(&refused, "refused").await.unwrap();

    let refused = json_of(&bench, "refused", "").await;
    let result = json_of(&bench, "a", "").await;

    assert_eq!(refused, json!(vec!["bad_request"; 8]));
    assert_eq!(result, json!({ "same": keys.len(), "left": [] }));
}

#[tokio::test]
async fn an_object_that_cannot_be_read_does_not_hide_the_others() {
    let bench = Bench::new().await;
    let script = "() => { const o = objectStore('o'); o.put('a', '1'); o.put('b', '2'); }";
    bench.start(script, "make").await.unwrap();
    assert_eq!(bench.call("make", "").await.payload, "");
    let jetstream = jetstream::new(bench.client.clone());
    for (subject, metadata) in [("x", "no JSON"), ("y", "{}"), ("z", "")] {
        let put = jetstream.publish(format!("$O.o.M.{subject}"), metadata.into());
        put.await.unwrap().await.unwrap();
    }
    let script = "() => { const l = objectStore('o').list();
        return { names: l.map(one => one.name), unreadable: l.unreadable } }";
    bench.start(script, "list").await.unwrap();
    let module =
        "export default async (request, nex) => { const l = await nex.objectStore('o').list();
        return { names: l.map(one => one.name), unreadable: l.unreadable } }";
    bench.start(module, "later").await.unwrap();

    for subject in ["list", "later"] {
        let listed = json_of(&bench, subject, "").await;
        assert_eq!(
            listed,
            json!({ "names": ["a", "b"], "unreadable": 3 }),
            "{subject}"
        );
    }
}

#[tokio::test]
async fn metadata_of_others_costs_no_object_its_content() {
    let bench = Bench::new().await;
    let make = "() => { objectStore('o').put('kept', 'content') }";
    bench.start(make, "make").await.unwrap();
    assert_eq!(bench.call("make", "").await.payload, "");
    let jetstream = jetstream::new(bench.client.clone());
    // Written by hand: links have no chunks, and where chunks are is a part of a subject.
    for (name, nuid) in [
        ("link", ""),
        ("gone", ""),
        ("all", ">"),
        ("some", "*"),
        ("odd", "a b"),
    ] {
        let link = json!({ "bucket": "o", "name": name });
        let metadata =
            json!({ "name": name, "bucket": "o", "nuid": nuid, "options": { "link": link } });
        let subject = format!(
            "$O.o.M.{}",
            data_encoding::BASE64URL.encode(name.as_bytes())
        );
        let put = jetstream.publish(subject, metadata.to_string().into());
        put.await.unwrap().await.unwrap();
    }
    let script = "() => {
        const o = objectStore('o');
        const text = name => String.fromCharCode(...o.get(name));
        for (const name of ['link', 'all', 'odd']) o.put(name, 'new ' + name);
        for (const name of ['gone', 'some']) o.delete(name);
        return ['kept', 'link', 'all', 'odd'].map(text).concat(o.list().map(one => one.name).sort());
    }";
    bench.start(script, "use").await.unwrap();

    let result = json_of(&bench, "use", "").await;

    let expected = [
        "content", "new link", "new all", "new odd", "all", "kept", "link", "odd",
    ];
    assert_eq!(result, json!(expected));
}

#[tokio::test]
async fn a_bucket_that_was_deleted_meanwhile_is_made_again() {
    let bench = Bench::new().await;
    let script = "(s, p) => { kv('b').set('k', p); objectStore('o').put('n', p); return 'stored' }";
    bench.start(script, "a").await.unwrap();
    bench.start("() => kv('b').get('k')", "get").await.unwrap();
    assert_eq!(bench.call("a", "1").await.payload, "stored");
    assert_eq!(bench.call("get", "").await.payload, "1");
    let jetstream = jetstream::new(bench.client.clone());

    jetstream.delete_key_value("b").await.unwrap();

    let gone = bench.call("get", "").await;
    let (_, text) = nex_nats::read_error(&gone).unwrap();
    assert!(text.contains("there is no key `k`"), "{text}");
    assert_eq!(bench.call("a", "2").await.payload, "stored");
    assert_eq!(bench.call("get", "").await.payload, "2");
}

#[tokio::test]
async fn messages_are_published_and_requests_answered() {
    let bench = Bench::new().await;
    let mut heard = bench.client.subscribe("heard").await.unwrap();
    bench
        .start("(s, p) => 'first ' + p.length", "ask")
        .await
        .unwrap();
    bench
        .start("() => { throw new Error('no') }", "fail")
        .await
        .unwrap();
    let script = "(s, p) => {
        messaging.publish('heard', p);
        const text = bytes => String.fromCharCode(...bytes);
        let failed; try { messaging.request('fail', p) } catch (e) { failed = [e.code, e.message] }
        let nobody; try { messaging.request('nobody.there') } catch (e) { nobody = e.code }
        const many = messaging.requestMany('ask', 'xyz', { max: 5, timeout: 5000, stall: 50 });
        return { one: text(messaging.request('ask', p)), many: many.map(text), failed, nobody };
    }";
    bench.start(script, "a").await.unwrap();

    let result = json_of(&bench, "a", "hello").await;

    assert_eq!(next_text(&mut heard).await, "hello");
    assert_eq!(result["one"], "first 5");
    assert_eq!(result["many"], json!(["first 3"]));
    assert_eq!(result["failed"][0], "remote_error");
    assert!(
        result["failed"][1]
            .as_str()
            .unwrap()
            .contains("500: Error: no")
    );
    assert_eq!(result["nobody"], "no_responders");
}

#[tokio::test]
async fn all_who_answer_are_gathered_up_to_the_maximum() {
    let bench = Bench::new().await;
    for number in 0..4 {
        let mut asked = bench.client.subscribe("who").await.unwrap();
        let client = bench.client.clone();
        tokio::spawn(async move {
            while let Some(question) = asked.next().await {
                let reply = question.reply.unwrap();
                client
                    .publish(reply, number.to_string().into())
                    .await
                    .unwrap();
            }
        });
    }
    let script = "() => {
        const ask = max => messaging.requestMany('who', '', { max, timeout: 5000, stall: 200 });
        return { all: ask(100).map(a => a[0] - 48).sort(), two: ask(2).length };
    }";
    bench.start(script, "a").await.unwrap();
    nex_nats::barrier(&bench.client).await.unwrap();

    let result = json_of(&bench, "a", "").await;

    assert_eq!(result, json!({ "all": [0, 1, 2, 3], "two": 2 }));
}

#[tokio::test]
async fn every_method_reaches_a_url_with_headers_query_and_body() {
    let bench = Bench::new().await;
    let web = WebServer::start(|request| {
        let has = |line: &str| request.headers.iter().any(|header| header == line);
        let body = format!(
            "{} {} {} {}",
            request.method,
            request.path,
            has("x-own: yes"),
            String::from_utf8_lossy(&request.body)
        );
        let length = body.len();
        let head =
            format!("HTTP/1.1 201 Created\r\ncontent-length: {length}\r\nx-a: 1\r\nx-a: 2\r\n\r\n");
        let body = if request.method == "HEAD" { "" } else { &body };
        format!("{head}{body}").into_bytes()
    });
    let script = "(s, p) => {
        const url = String.fromCharCode(...p), options = { headers: { 'x-own': 'yes' }, query: { q: 'a b' } };
        const all = ['get', 'post', 'put', 'patch', 'delete', 'head'].map(method =>
            http[method](url, method === 'get' || method === 'head' ? undefined : 'data', options));
        return all.map(r => [r.status, r.response, r.headers['X-A'], r.body.length]);
    }";
    bench.start(script, "a").await.unwrap();

    let url = format!("http://{}/p?x=1", web.address());
    let result = json_of(&bench, "a", &url).await;

    let expected = |method: &str, body: &str| {
        let text = format!("{method} /p?x=1&q=a+b true {body}");
        json!([201, text, "1, 2", text.len()])
    };
    let expected = json!([
        expected("GET", ""),
        expected("POST", "data"),
        expected("PUT", "data"),
        expected("PATCH", "data"),
        expected("DELETE", "data"),
        [201, null, "1, 2", 0],
    ]);
    assert_eq!(result, expected);
}

#[tokio::test]
async fn redirects_are_followed_with_a_limit_and_without_secrets() {
    let bench = Bench::new().await;
    let target = WebServer::start(|request| {
        let secret = request.headers.iter().any(|line| line.contains("secret"));
        let body = format!("{} {secret} {}", request.method, request.body.len());
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    });
    let to = target.address();
    let web = WebServer::start(move |request| {
        let (status, to) = match request.path.as_str() {
            "/other" => (302, format!("http://{to}/")),
            "/kept" => (307, format!("http://{to}/")),
            _ => (301, "/again".to_owned()),
        };
        format!("HTTP/1.1 {status} x\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    });
    let script = "(s, p) => {
        const url = String.fromCharCode(...p), options = { headers: { authorization: 'secret' } };
        const post = path => http.post(url + path, 'data', options).response;
        let code; try { post('/again') } catch (e) { code = e.code }
        return [post('/other'), post('/kept'), code];
    }";
    bench.start(script, "a").await.unwrap();

    let result = json_of(&bench, "a", &format!("http://{}", web.address())).await;

    assert_eq!(
        result,
        json!(["GET false 0", "POST false 4", "remote_error"])
    );
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let bench = Bench::new().await;
    let web = WebServer::start(|_request| {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.resize(9 * 1024 * 1024, b'x');
        answer
    });
    let url = format!("http://{}/", web.address());
    let get = format!("http.get('{url}')");
    bench.start(&codes(&[&get]), "a").await.unwrap();

    assert_eq!(json_of(&bench, "a", "").await, json!(["too_large"]));
}

#[tokio::test]
async fn what_is_private_wants_a_policy_and_the_link_wants_to_be_named() {
    let web = WebServer::start(|_request| {
        b"HTTP/1.1 302 x\r\nlocation: http://169.254.169.254/latest\r\n\r\n".to_vec()
    });
    let loopback = format!("http.get('http://{}/')", web.address());
    let localhost = format!("http.get('http://localhost:{}/')", web.address().port());
    let all = [
        loopback.as_str(),
        &localhost,
        "http.get('http://169.254.169.254/latest/meta-data')",
        "http.get('http://[::ffff:169.254.169.254]/')",
        "http.get('http://0x7f000001/')",
        "http.get('http://10.0.0.1/')",
        "http.get('http://[::1]:1/')",
    ];

    let closed = Bench::with(Policy::default()).await;
    closed.start(&codes(&all), "a").await.unwrap();
    assert_eq!(
        json_of(&closed, "a", "").await,
        json!(vec!["denied"; all.len()])
    );

    // The redirect leads to the link: that is a request of its own.
    let open = Bench::new().await;
    open.start(&codes(&all[..4]), "a").await.unwrap();
    assert_eq!(json_of(&open, "a", "").await, json!(vec!["denied"; 4]));
}

#[tokio::test]
async fn what_makes_no_sense_is_a_bad_request() {
    let bench = Bench::new().await;
    let all = [
        "kv()",
        "kv('no.bucket').get('k')",
        "kv('b').get()",
        "kv('b').get('')",
        "kv('b').get('a..b')",
        "kv('b').get('a.*')",
        "kv('b').set('k')",
        "kv('b').set('k', {})",
        "kv('b').update('k', 'v', 1.5)",
        "objectStore('b').get('')",
        "messaging.publish('a b')",
        "messaging.publish('a.>')",
        "messaging.requestMany('a', '', { max: 'x' })",
        "http.get()",
        "http.get('nothing')",
        "http.get('file:///etc/passwd')",
        "http.get('http://user:secret@host/')",
        "http.get('http://host/', { headers: { host: 'other' } })",
        "http.get('http://host/', { headers: { 'a b': 'x' } })",
        "http.get('http://host/', { headers: { a: 'x\\r\\ny: z' } })",
        "http.post('http://host/', 7)",
    ];
    bench.start(&codes(&all), "a").await.unwrap();

    let result = json_of(&bench, "a", "").await;

    for (expression, code) in all.iter().zip(result.as_array().unwrap()) {
        assert_eq!(code, "bad_request", "{expression}");
    }
}

#[tokio::test]
async fn what_belongs_to_the_system_and_what_was_not_asked_for_is_denied() {
    let bench = Bench::new().await;
    let all = [
        "messaging.publish('$JS.API.STREAM.DELETE.KV_b')",
        "messaging.request('$SYS.REQ.SERVER.PING')",
        "messaging.requestMany('$NEX.SVC.x')",
        "messaging.publish('_INBOX.NEX.a')",
        "objectStore('NEXCLIFILES').list()",
        "kv('other').get('k')",
        "objectStore('any').list()",
        "http.get('http://127.0.0.1:1/')",
        "messaging.publish('b')",
    ];
    let asked = json!({ "kv": ["mine"], "messaging": ["a.>", "$SYS.>", "$NEX.>"] });
    let script = codes(
        &[
            &all[..],
            &["kv('mine').set('k', 'v')", "messaging.publish('a.b')"],
        ]
        .concat(),
    );
    bench.start_with(&script, "a", asked).await.unwrap();

    let result = json_of(&bench, "a", "").await;

    let mut expected = vec!["denied"; all.len()];
    expected.extend(["none", "none"]);
    assert_eq!(result, json!(expected));
    let refused = bench.start_with("s => s", "b", json!({ "disk": [] })).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::BadRequest);
}

#[tokio::test]
async fn without_the_policy_for_it_no_bucket_is_made() {
    let bench = Bench::with(Policy::default()).await;
    let all = ["kv('b').set('k', 'v')", "objectStore('b').put('k', 'v')"];
    bench.start(&codes(&all), "a").await.unwrap();

    assert_eq!(
        json_of(&bench, "a", "").await,
        json!(["not_found", "not_found"])
    );
}

#[tokio::test]
async fn an_error_that_nobody_catches_has_its_place() {
    let bench = Bench::new().await;
    let script = "s => {\n  return kv('b').get('nothing')\n}";
    bench.start(script, "a").await.unwrap();

    let reply = bench.call("a", "").await;

    let (_, text) = nex_nats::read_error(&reply).unwrap();
    assert_eq!(
        text,
        "Error: there is no key `nothing` in the bucket `b` at f.js:2:18"
    );
}

#[tokio::test]
async fn a_deadline_that_passes_ends_the_wait() {
    let bench = Bench::new().await;
    let _silent = bench.client.subscribe("silent").await.unwrap();
    nex_nats::barrier(&bench.client).await.unwrap();
    let script = "(s, p) => {
        if (p.length) for (;;) { try { messaging.request('silent') } catch {} }
        return 'next';
    }";
    bench.start(script, "a").await.unwrap();

    let reply = bench.call("a", "wait").await;

    let (code, text) = nex_nats::read_error(&reply).unwrap();
    assert_eq!(code, ErrorCode::Timeout, "{text}");
    assert_eq!(bench.call("a", "").await.payload, "next");
}

#[tokio::test]
async fn services_work_while_a_script_is_made_ready() {
    let bench = Bench::new().await;
    let jetstream = jetstream::new(bench.client.clone());
    let config = jetstream::kv::Config {
        bucket: "settings".to_owned(),
        ..Default::default()
    };
    let bucket = jetstream.create_key_value(config).await.unwrap();
    bucket.put("word", "hello".into()).await.unwrap();
    let script = "const word = String.fromCharCode(...kv('settings').get('word')); () => word";

    bench.start(script, "a").await.unwrap();

    assert_eq!(bench.call("a", "").await.payload, "hello");
}

#[tokio::test]
async fn a_connection_serves_several_requests_and_is_replaced_when_it_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // Serves three requests on each connection, then closes it without a word; each answer says
    // which connection it was.
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
            for _ in 0..3 {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    let bench = Bench::new().await;
    let script = "(s, p) => {
        const url = String.fromCharCode(...p), seen = [];
        for (let i = 0; i < 6; i++) seen.push(http.get(url).response);
        return seen.join('');
    }";
    bench.start(script, "a").await.unwrap();

    assert_eq!(bench.call("a", url).await.payload, "000111");
}
