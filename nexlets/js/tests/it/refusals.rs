//! Refusals of JetStream as functions get them: what is wrong, and what to type.

use async_nats::jetstream::{self, kv, object_store, stream};
use nex_functions::Policy;
use nex_testkit::NatsServer;
use serde_json::json;

use crate::bench::{Bench, json_of};

/// Evaluates each expression of the payload, and returns what is thrown.
const TRY: &str = "(s, p) => JSON.parse(new TextDecoder().decode(p)).map(text => {
    try {
        return { result: String(new Function('kv', 'objectStore', 'return ' + text)(kv, objectStore)) };
    } catch ({ code, message }) {
        return { code, message };
    }
})";

/// Checks the code of each refusal, and that its message has these parts.
async fn refused(bench: &Bench, cases: &[(&str, &str, &[&str])]) {
    bench.start(TRY, "try").await.unwrap();
    let expressions: Vec<&str> = cases.iter().map(|case| case.0).collect();
    let answers = json_of(bench, "try", &json!(expressions).to_string()).await;
    for ((expression, code, parts), answer) in cases.iter().zip(answers.as_array().unwrap()) {
        assert_eq!(answer["code"], *code, "{expression}: {answer}");
        let message = answer["message"].as_str().unwrap();
        for part in *parts {
            assert!(
                message.contains(part),
                "{expression}: no `{part}`: {message}"
            );
        }
        assert!(!message.contains("error code"), "{expression}: {message}");
    }
}

async fn messages(context: &jetstream::Context, stream: &str) -> u64 {
    let stream = context.get_stream(stream).await.unwrap();
    stream.cached_info().state.messages
}

#[tokio::test]
async fn limits_of_a_bucket_are_named_with_what_raises_them() {
    let bench = Bench::new().await;
    let context = jetstream::new(bench.client.clone());
    for (bucket, max_bytes, max_value_size) in [("small", 20_000, -1), ("short", -1, 10)] {
        let config = kv::Config {
            bucket: bucket.to_owned(),
            max_bytes,
            max_value_size,
            ..Default::default()
        };
        context.create_key_value(config).await.unwrap();
    }
    for (bucket, max_bytes) in [("small", 500_000), ("sealed", -1)] {
        let config = object_store::Config {
            bucket: bucket.to_owned(),
            max_bytes,
            ..Default::default()
        };
        let mut store = context.create_object_store(config).await.unwrap();
        store.put("n", &mut &b"x"[..]).await.unwrap();
        if bucket == "sealed" {
            store.seal().await.unwrap();
        }
    }
    // One consumer each, which somebody has.
    for (name, subject) in [("KV_few", "$KV.few.>"), ("OBJ_few", "$O.few.>")] {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            max_messages_per_subject: i64::from(name == "KV_few"),
            max_consumers: 1,
            allow_direct: true,
            allow_rollup: true,
            ..Default::default()
        };
        let stream = context.create_stream(config).await.unwrap();
        let durable = jetstream::consumer::pull::Config {
            durable_name: Some("somebody".to_owned()),
            ..Default::default()
        };
        stream.create_consumer(durable).await.unwrap();
    }

    let full = &["`KV_small` is full", "edit KV_small --max-bytes"];
    let cases: &[(&str, &str, &[&str])] = &[
        ("kv('small').put('k', 'x'.repeat(30000))", "full", full),
        ("kv('small').create('k', 'x'.repeat(30000))", "full", full),
        (
            "objectStore('small').put('large', 'x'.repeat(1000000))",
            "full",
            &["`OBJ_small` is full", "edit OBJ_small --max-bytes"],
        ),
        (
            "kv('short').put('k', 'x'.repeat(30))",
            "too_large",
            &["`KV_short`", "edit KV_short --max-msg-size"],
        ),
        (
            "kv('few').keys()",
            "unavailable",
            &["as many consumers", "consumer ls KV_few"],
        ),
        (
            "objectStore('few').list()",
            "unavailable",
            &["as many consumers", "consumer ls OBJ_few"],
        ),
        (
            "objectStore('sealed').put('m', 'x')",
            "unavailable",
            &["`OBJ_sealed` is sealed", "use another"],
        ),
        ("kv('b').get('a b')", "bad_request", &["without spaces"]),
        ("objectStore('b').get('')", "bad_request", &["1 to 1024"]),
        (
            "kv('b').put('k', 'x'.repeat(2000000))",
            "too_large",
            &["the server takes"],
        ),
    ];
    refused(&bench, cases).await;

    // What could not be stored takes no room.
    assert_eq!(messages(&context, "OBJ_small").await, 2);
}

#[tokio::test]
async fn buckets_that_are_missing_are_named_with_what_makes_them() {
    let policy = Policy {
        create_buckets: false,
        ..Policy::LOCAL
    };
    let bench = Bench::with(policy).await;

    let cases: &[(&str, &str, &[&str])] = &[
        ("kv('gone').get('k')", "not_found", &["`nats kv add gone`"]),
        ("kv('gone').keys()", "not_found", &["`nats kv add gone`"]),
        (
            "objectStore('gone').get('n')",
            "not_found",
            &["`nats object add gone`"],
        ),
        (
            "objectStore('gone').put('n', 'x')",
            "not_found",
            &["`nats object add gone`"],
        ),
    ];
    refused(&bench, cases).await;
}

#[tokio::test]
async fn limits_of_the_account_and_the_server_are_named() {
    let limited = "jetstream { max_file_store: 100MB }
        accounts { A {
            jetstream { max_file: 2MB, max_streams: 1 }
            users [ { user: a, password: a } ]
        } }
        no_auth_user: a";
    let bench = Bench::on(NatsServer::builder().jetstream(true).config(limited)).await;
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "objectStore('one').put('n', 'x'.repeat(5000000))",
            "full",
            &["account", "`nats account info`"],
        ),
        (
            "kv('two').put('k', 'x')",
            "unavailable",
            &["as many streams", "`nats stream ls -a`"],
        ),
    ];
    refused(&bench, cases).await;

    let small = "jetstream { max_file_store: 1MB }";
    let bench = Bench::on(NatsServer::builder().jetstream(true).config(small)).await;
    let cases: &[(&str, &str, &[&str])] = &[(
        "objectStore('o').put('n', 'x'.repeat(5000000))",
        "full",
        &["no space left", "`max_file_store`"],
    )];
    refused(&bench, cases).await;

    let bench = Bench::on(NatsServer::builder()).await;
    let off: &[&str] = &["JetStream is off", "`jetstream {}`"];
    let cases: &[(&str, &str, &[&str])] = &[
        ("kv('b').get('k')", "unavailable", off),
        ("objectStore('b').put('n', 'x')", "unavailable", off),
    ];
    refused(&bench, cases).await;
}
