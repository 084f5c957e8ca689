//! Consumers that commands leave in streams.

use std::time::Duration;

use async_nats::{ConnectOptions, jetstream};
use nex_testkit::{NexUp, eventually, wait_until};

use crate::{ECHO_JS, LIMIT, devrun, file};

/// JetStream as the owner of the `nex up` uses it.
async fn context(up: &NexUp) -> jetstream::Context {
    let options = ConnectOptions::new()
        .credentials_file(up.data_dir().join("cli.creds"))
        .await
        .unwrap();
    jetstream::new(options.connect(up.url()).await.unwrap())
}

#[tokio::test]
async fn commands_that_read_logs_leave_no_consumers() {
    let up = NexUp::start();
    devrun(
        &up,
        &file(up.home(), "echo.js", ECHO_JS),
        &["--trigger-subject", "echo"],
    );
    up.nex(&["req", "echo", "x"]).ok();
    let context = context(&up).await;
    let stream = context.get_stream("NEX_FEEDS").await.unwrap();
    wait_until("a line", LIMIT, || {
        up.nex(&["logs", "echo"]).stdout.contains("called on")
    })
    .unwrap();

    for _ in 0..10 {
        up.nex(&["logs", "echo"]).ok();
        up.nex(&["events"]).ok();
        up.nex(&["invoke", "echo", "x"]).ok();
    }

    // The server itself deletes an unused consumer after 30 s.
    eventually("no consumers", Duration::from_secs(5), || async {
        let left = stream.get_info().await.unwrap().state.consumer_count;
        (left == 0).then_some(()).ok_or(left)
    })
    .await;
}
