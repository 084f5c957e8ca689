//! Objects that contradict their metadata, and the consumers that functions leave on the server.

use std::time::{Duration, Instant};

use async_nats::jetstream;
use nex_testkit::eventually;
use serde_json::{Value, json};

use crate::bench::{Bench, failure_of, json_of};

/// Limit for a refusal, here on a busy machine.
const REFUSED_WITHIN: Duration = Duration::from_millis(2500);

/// Returns the length of the object that the payload names, or the error.
const GET: &str = "(s, p) => {
    try {
        return { length: objectStore('o').get(String.fromCharCode(...p)).length };
    } catch ({ code, message }) {
        return { code, message };
    }
}";

async fn publish(bench: &Bench, subject: String, payload: String) {
    let context = jetstream::new(bench.client.clone());
    let sent = context.publish(subject, payload.into()).await;
    sent.unwrap().await.unwrap();
}

/// Writes metadata by hand, as whoever may publish can.
async fn put_metadata(bench: &Bench, name: &str, changes: &Value) {
    let mut info = json!({
        "name": name, "bucket": "o", "nuid": name, "size": 300, "chunks": 3,
        "mtime": "2026-01-01T00:00:00Z",
    });
    for (field, value) in changes.as_object().unwrap() {
        info[field] = value.clone();
    }
    let key = data_encoding::BASE64URL.encode(name.as_bytes());
    publish(bench, format!("$O.o.M.{key}"), info.to_string()).await;
}

/// The number of consumers of all streams.
async fn consumers(bench: &Bench) -> usize {
    let context = jetstream::new(bench.client.clone());
    context.query_account().await.unwrap().consumers
}

#[tokio::test]
async fn an_object_that_contradicts_its_metadata_is_refused_soon() {
    let bench = Bench::new().await;
    bench.start(GET, "get").await.unwrap();
    let make = "() => { objectStore('o').put('n', 'x') }";
    bench.start(make, "make").await.unwrap();
    bench.call("make", "").await;
    let other = "SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=";
    // Name, stored chunks, what the metadata says, the code and a part of the error.
    let cases = [
        ("none", 0, json!({}), "damaged", "0 of its 3 chunks"),
        ("fewer", 2, json!({}), "damaged", "2 of its 3 chunks"),
        ("more", 4, json!({}), "damaged", "more than 3 chunks"),
        (
            "short",
            3,
            json!({ "size": 301 }),
            "damaged",
            "300 of its 301",
        ),
        (
            "long",
            3,
            json!({ "size": 299 }),
            "damaged",
            "more than 299",
        ),
        (
            "zero",
            3,
            json!({ "size": 0 }),
            "damaged",
            "more than 0 bytes",
        ),
        (
            "nothing",
            3,
            json!({ "chunks": 0 }),
            "damaged",
            "0 of its 300",
        ),
        ("other", 3, json!({ "digest": other }), "damaged", "digest"),
        (
            "strange",
            3,
            json!({ "digest": "MD5=x" }),
            "damaged",
            "digest",
        ),
        (
            "huge",
            1,
            json!({ "size": 1u64 << 50 }),
            "too_large",
            "at most",
        ),
        (
            "largest",
            0,
            json!({ "size": 16 << 20 }),
            "damaged",
            "0 of its",
        ),
        ("all", 0, json!({ "nuid": ">" }), "damaged", "`nuid`"),
        (
            "negative",
            0,
            json!({ "size": -1 }),
            "unavailable",
            "`negative`",
        ),
    ];
    for (name, chunks, metadata, ..) in &cases {
        for _ in 0..*chunks {
            publish(&bench, format!("$O.o.C.{name}"), "x".repeat(100)).await;
        }
        put_metadata(&bench, name, metadata).await;
    }
    for _ in 0..3 {
        publish(&bench, "$O.o.C.right".to_owned(), "x".repeat(100)).await;
    }
    put_metadata(&bench, "right", &json!({})).await;

    for (name, _, _, code, part) in &cases {
        let begun = Instant::now();
        let answer = json_of(&bench, "get", name).await;
        assert!(
            begun.elapsed() < REFUSED_WITHIN,
            "{name}: {:?}",
            begun.elapsed()
        );
        assert_eq!(answer["code"], *code, "{name}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(part), "{name}: {message}");
    }
    assert_eq!(
        json_of(&bench, "get", "right").await,
        json!({ "length": 300 })
    );
    assert_eq!(json_of(&bench, "get", "n").await, json!({ "length": 1 }));
}

#[tokio::test]
async fn an_object_that_is_replaced_meanwhile_is_one_or_the_other() {
    let bench = Bench::new().await;
    let script = "export default async (request, nex) => {
        const o = nex.objectStore('o'), bytes = new Uint8Array(300000);
        await o.put('n', bytes);
        let done = false, gets = 0, mixed = 0;
        const putting = (async () => {
            for (let n = 0; n < 60; n++) { bytes.fill(n); await o.put('n', bytes); }
            done = true;
        })();
        while (!done) {
            const got = await o.get('n');
            gets++;
            if (got.length !== bytes.length || got.some(byte => byte !== got[0])) mixed++;
        }
        await putting;
        return { some: gets > 0, mixed };
    }";
    let more = json!({ "timeout": "20s" });
    bench.start_asking(script, "a", more).await.1.unwrap();

    let result = json_of(&bench, "a", "").await;

    assert_eq!(result, json!({ "some": true, "mixed": 0 }));
}

#[tokio::test]
async fn functions_leave_no_consumers() {
    let bench = Bench::new().await;
    let script = "export default async (request, nex) => {
        const keys = nex.kv('k'), objects = nex.objectStore('o');
        await keys.put('a', '1');
        await objects.put('n', 'content');
        for (let n = 0; n < 50; n++) {
            await keys.keys();
            await objects.list();
            await objects.get('n');
            for await (const change of keys.watch('>')) break;
        }
        return 'done';
    }";
    let more = json!({ "timeout": "20s" });
    bench.start_asking(script, "calls", more).await.1.unwrap();
    // One is ended by its time, with a watch and a read under way.
    let script = "export default async (request, nex) => {
        for await (const change of nex.kv('k').watch('never')) return;
    }";
    let more = json!({ "timeout": "200ms" });
    bench.start_asking(script, "cut", more).await.1.unwrap();

    let reply = bench.call("calls", "").await;
    assert_eq!(reply.payload, "done", "{:?}", reply.headers);
    for _ in 0..5 {
        failure_of(&bench.call("cut", "").await);
    }

    // The server itself deletes an unused consumer after 30 s.
    eventually("no consumers", Duration::from_secs(10), || async {
        let left = consumers(&bench).await;
        (left == 0).then_some(()).ok_or(left)
    })
    .await;
}
