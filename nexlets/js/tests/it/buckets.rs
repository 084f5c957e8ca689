//! The consumers that functions leave on the server.

use std::time::Duration;

use async_nats::jetstream;
use nex_testkit::eventually;
use serde_json::json;

use crate::bench::{Bench, failure_of};

/// The number of consumers of all streams.
async fn consumers(bench: &Bench) -> usize {
    let context = jetstream::new(bench.client.clone());
    context.query_account().await.unwrap().consumers
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
