//! Objects whose chunks are not there, uploads that were killed, and consumers that commands leave.

use std::{
    fs,
    time::{Duration, Instant},
};

use async_nats::{
    ConnectOptions,
    jetstream::{self, stream::Stream},
};
use data_encoding::{BASE64URL, HEXLOWER};
use nex_testkit::{NexUp, eventually, wait_until};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{ECHO_JS, LIMIT, devrun, file, refusals::refused};

/// Limit for a refusal, and for an upload that waits for nobody, here on a busy machine.
const SOON: Duration = Duration::from_secs(3);

/// JetStream as the owner of the `nex up` uses it.
async fn context(up: &NexUp) -> jetstream::Context {
    let options = ConnectOptions::new()
        .credentials_file(up.data_dir().join("cli.creds"))
        .await
        .unwrap();
    jetstream::new(options.connect(up.url()).await.unwrap())
}

async fn artifacts(context: &jetstream::Context) -> Stream {
    context.get_stream("OBJ_NEXCLIFILES").await.unwrap()
}

#[tokio::test]
async fn an_artifact_whose_chunks_are_missing_is_refused_and_repaired() {
    let up = NexUp::start();
    let echo = file(up.home(), "echo.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "echo"]);
    let digest = HEXLOWER.encode(&Sha256::digest(ECHO_JS));
    let context = context(&up).await;
    let stream = artifacts(&context).await;
    let chunks = format!("$O.NEXCLIFILES.C.{digest}");
    stream.purge().filter(&chunks).await.unwrap();

    for (kind, lifecycle) in [("js", "function"), ("wasm", "function"), ("native", "job")] {
        let uri = format!("nats://NEXCLIFILES/{digest}");
        let request = json!({ "uri": uri, "triggers": [{ "subject": "x" }] });
        let begun = Instant::now();
        let output = up.nex(&[
            "workload",
            "start",
            "--type",
            kind,
            "--lifecycle",
            lifecycle,
            "--name",
            "damaged",
            "--start-request",
            &request.to_string(),
        ]);
        refused(
            output,
            1,
            &[
                &uri,
                "damaged",
                "0 of its 1 chunks",
                "hint: upload it again",
            ],
        );
        assert!(begun.elapsed() < SOON, "{kind}: {:?}", begun.elapsed());
    }

    devrun(&up, &echo, &["--trigger-subject", "echo"]);
    let reply = up.nex(&["req", "echo", "again"]).ok();
    assert!(reply.stdout.contains("again"), "{reply}");
}

#[tokio::test]
async fn an_upload_that_was_killed_does_not_delay_the_next() {
    let up = NexUp::start();
    let context = context(&up).await;
    devrun(
        &up,
        &file(up.home(), "echo.js", ECHO_JS),
        &["--trigger-subject", "echo"],
    );
    let stream = artifacts(&context).await;
    // A program, so that it may be large.
    let mut program = b"#!/bin/sh\nexit 0\n".to_vec();
    program.extend((0..10_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()));
    let path = up.home().path().join("large");
    fs::write(&path, &program).unwrap();
    let args = ["devrun", "large", "--type", "native", "--lifecycle", "job"];
    let chunks = format!(
        "$O.NEXCLIFILES.C.{}",
        HEXLOWER.encode(&Sha256::digest(&program))
    );
    let stored = async || stream.direct_get_last_for_subject(&*chunks).await.is_ok();

    let mut uploading = up.home().nex_command(&args).unwrap().spawn().unwrap();
    eventually("the first chunk", LIMIT, || async { stored().await }).await;
    uploading.kill().unwrap();
    uploading.wait().unwrap();
    let name = BASE64URL
        .encode(format!("{}_latest", HEXLOWER.encode(&Sha256::digest(&program))).as_bytes());
    let metadata = format!("$O.NEXCLIFILES.M.{name}");
    let named = stream.direct_get_last_for_subject(&*metadata).await;
    assert!(named.is_err() && stored().await, "it was killed too late");
    let whole = Instant::now();

    up.nex(&args).ok();
    let whole = whole.elapsed();

    // The same again, without anything to wait for or to send, is the rest of the time.
    let rest = Instant::now();
    up.nex(&args).ok();
    assert!(
        whole < rest.elapsed() + SOON,
        "{whole:?}, {:?}",
        rest.elapsed()
    );
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
