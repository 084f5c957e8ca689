use futures_util::future::join_all;
use nex_protocol::{ErrorCode, Lifecycle};
use nexlet::Nexlet as _;

use crate::bench::{Bench, next_text};

#[tokio::test]
async fn the_echo_of_the_seeds_answers() {
    let Some(seeds) = nex_testkit::seeds() else {
        return nex_testkit::skip("the folder of the seeds is not here");
    };
    let bench = Bench::new().await;
    let (_, started) = bench.start_file(&seeds.join("echo.js"), "echo").await;
    started.unwrap();

    let reply = bench.call("echo", "hello nex!").await;

    let expected = r#"{"triggered_on":"echo","payload":"hello nex!"}"#;
    assert_eq!(reply.payload, expected);
}

#[tokio::test]
async fn every_payload_up_to_the_servers_maximum_comes_back() {
    let bench = Bench::new().await;
    bench.start("(s, p) => p", "echo").await.unwrap();
    let largest = bench.client.max_payload() - 4096;

    for bytes in [0, 1, 255, 65_536, largest] {
        let payload: Vec<u8> = (0..=255).cycle().take(bytes).collect();
        let reply = bench.call("echo", payload.clone()).await;
        assert!(reply.payload == payload, "{bytes} bytes came back changed");
    }
}

#[tokio::test]
async fn what_a_function_prints_is_a_line_of_its_log() {
    let bench = Bench::new().await;
    let script = r"s => {
        console.log('text', 1, null, undefined, { a: [1] }, 'two\nlines', Symbol('x'), 7n);
        console.warn(new Uint8Array([1, 2]), [new Error('e').message]);
        const loop = {}; loop.loop = loop;
        console.error(loop, s => s, new TypeError('t'));
    }";
    let path = tempfile::Builder::new().suffix(".js").tempfile().unwrap();
    std::fs::write(&path, script).unwrap();
    let (id, started) = bench.start_file(path.path(), "a").await;
    started.unwrap();
    let subject = |stream| format!("$NEX.FEED.default.logs.{id}.{stream}");
    let mut stdout = bench.client.subscribe(subject("stdout")).await.unwrap();
    let mut stderr = bench.client.subscribe(subject("stderr")).await.unwrap();

    bench.call("a", "").await;

    assert_eq!(
        next_text(&mut stdout).await,
        "text 1 null undefined {\"a\":[1]} two\\nlines Symbol(x) 7\n"
    );
    assert_eq!(next_text(&mut stderr).await, "bytes(2)[1 2] [\"e\"]\n");
    let line = next_text(&mut stderr).await;
    assert!(
        line.starts_with("[object Object] s => s TypeError: t at "),
        "{line}"
    );
}

#[tokio::test]
async fn an_error_with_line_breaks_reaches_the_caller_on_one_line() {
    let bench = Bench::new().await;
    let script = "s => {\n  throw new Error('first\\r\\nsecond')\n}";
    bench.start(script, "a").await.unwrap();

    let reply = bench.call("a", "").await;

    let (code, text) = nex_nats::read_error(&reply).unwrap();
    assert_eq!(code, ErrorCode::Internal);
    assert_eq!(text, "Error: first  second at f.js:2:13");
}

#[tokio::test]
async fn a_runaway_is_ended_and_the_next_call_works() {
    let bench = Bench::new().await;
    let script =
        "(s, p) => { if (p.length) { const a = []; for (;;) a.push('x' + a.length) } return 'ok' }";
    bench.start(script, "a").await.unwrap();

    let reply = bench.call("a", "eat").await;

    let (_, text) = nex_nats::read_error(&reply).unwrap();
    assert!(
        text.starts_with("out of memory: its limit is 64 MiB"),
        "{text}"
    );
    assert_eq!(bench.call("a", "").await.payload, "ok");
}

#[tokio::test]
async fn many_functions_and_calls_at_once_are_all_answered() {
    let bench = Bench::new().await;
    for number in 0..20 {
        let script = format!("(s, p) => s + ' {number} ' + String.fromCharCode(...p)");
        bench.start(&script, &format!("f.{number}")).await.unwrap();
    }

    let replies = join_all((0..400).map(|call| {
        let number = call % 20;
        let replied = bench.call(format!("f.{number}"), call.to_string());
        async move { (format!("f.{number} {number} {call}"), replied.await.payload) }
    }));

    for (expected, payload) in replies.await {
        assert_eq!(payload, expected);
    }
    assert_eq!(bench.nexlet.list().len(), 20);
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_the_cause() {
    let bench = Bench::new().await;
    let refusal = bench
        .start("(s, p) => {\n  return 1 +* 2\n}", "a")
        .await
        .unwrap_err();
    assert_eq!(refusal.code, ErrorCode::BadRequest);
    assert!(
        refusal.text.starts_with("syntax error at f.js:2:13: "),
        "{refusal}"
    );

    for (uri, subject, code, part) in [
        (
            "file:///nowhere/f.js",
            "a",
            ErrorCode::NotFound,
            "/nowhere/f.js",
        ),
        ("nats://none/f.js", "a", ErrorCode::NotFound, "none"),
        ("ftp://host/f.js", "a", ErrorCode::BadRequest, "file:///"),
        (
            "file:///f.js",
            "$JS.API.>",
            ErrorCode::BadRequest,
            "not for functions",
        ),
    ] {
        let refusal = bench.start_uri(uri, subject).await.1.unwrap_err();
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.text.contains(part), "{refusal}");
    }
    assert!(bench.nexlet.list().is_empty());
}

#[tokio::test]
async fn a_script_in_the_object_store_runs() {
    let bench = Bench::new().await;
    let jetstream = async_nats::jetstream::new(bench.client.clone());
    let config = async_nats::jetstream::object_store::Config {
        bucket: "apps".to_owned(),
        ..Default::default()
    };
    let bucket = jetstream.create_object_store(config).await.unwrap();
    let mut script: &[u8] = b"() => 'from the store'";
    bucket.put("hello_v1", &mut script).await.unwrap();

    bench
        .start_uri("nats://apps/hello:v1", "a")
        .await
        .1
        .unwrap();

    assert_eq!(bench.call("a", "").await.payload, "from the store");
}

#[tokio::test]
async fn it_says_who_it_is() {
    let description = nexlet_js::nexlet(nexlet_js::JsConfig::default()).describe();

    assert_eq!(description.name, "nex_js");
    assert_eq!(description.workload_type, "js");
    assert_eq!(description.lifecycles, [Lifecycle::Function]);
    let schema = &description.start_request_schema;
    assert!(
        schema["properties"]["uri"]["description"].is_string(),
        "{schema}"
    );
}
