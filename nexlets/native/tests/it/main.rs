//! The nexlet with real processes on a real server.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test's own functions may panic as the test may"
)]

mod conformance;
mod support;

use std::{collections::BTreeMap, fs, time::Duration};

use futures_util::future::join_all;
use nex_protocol::{ErrorCode, WorkloadState};
use nex_testkit::eventually;
use nexlet::{Nexlet as _, StopError};
use serde_json::json;
use support::{Bench, Feed, LIMIT};

fn shell(script: &str) -> serde_json::Value {
    json!({ "uri": "file:///bin/sh", "argv": ["-c", script], "stop_grace": "400ms" })
}

#[tokio::test]
async fn a_stubborn_service_is_gone_when_stop_returns() {
    let bench = Bench::start().await;
    let script = r#"trap "" INT TERM; setsid sleep 1000 & sleep 1000 & echo up; wait"#;
    let mut feed = bench.feed().await;
    bench.service("w1", shell(script)).await.unwrap();
    feed.line("up").await;
    assert!(bench.processes().len() >= 3, "{:?}", bench.processes());
    assert_eq!(bench.native.active(), 1);

    bench.stop("w1").await.unwrap();

    assert_eq!(bench.processes(), []);
    assert!(bench.native.list().is_empty());
    assert_eq!(bench.stop("w1").await, Err(StopError::NotFound));
    eventually("no working folder", LIMIT, || async {
        bench.folders().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_polite_service_is_stopped_at_once_and_its_last_words_come_first() {
    let bench = Bench::start().await;
    let script = r#"trap "echo bye; exit 0" INT; echo up; while :; do sleep 1000 & wait $!; done"#;
    let mut feed = bench.feed().await;
    bench.service("w1", shell(script)).await.unwrap();
    feed.line("up").await;

    bench.stop("w1").await.unwrap();

    let rest = feed.until_event("WORKLOADSTOPPED").await;
    assert_eq!(rest.lines, ["bye"]);
    assert_eq!(rest.event["error"], json!(null));
    assert_eq!(rest.event["metadata"]["exit_code"], "0");
}

#[tokio::test]
async fn a_job_tells_its_exit_code_and_stays_listed() {
    let bench = Bench::start().await;
    let mut feed = bench.feed().await;

    bench.job("good", shell("echo done")).await.unwrap();
    let good = feed.until_event("WORKLOADSTOPPED").await;
    assert_eq!(good.lines, ["done"]);
    assert_eq!(good.event["error"], json!(null));
    bench.job("bad", shell("exit 3")).await.unwrap();
    let bad = feed.until_event("WORKLOADSTOPPED").await;
    assert_eq!(bad.event["error"]["code"], "3");
    bench.job("killed", shell("kill -9 $$")).await.unwrap();
    let killed = feed.until_event("WORKLOADSTOPPED").await;
    assert_eq!(killed.event["error"]["code"], "-1");
    assert_eq!(killed.event["metadata"]["signal"], "9");

    let summary = async |id: &str| {
        eventually("an end", LIMIT, || async {
            bench
                .summary(id)
                .filter(|summary| summary.metadata.contains_key("ended"))
        })
        .await
    };
    let (good, bad, killed) = (
        summary("good").await,
        summary("bad").await,
        summary("killed").await,
    );
    assert_eq!(
        (good.workload_state, good.metadata["exit_code"].as_str()),
        (WorkloadState::Stopped, "0")
    );
    assert_eq!(
        (bad.workload_state, bad.metadata["exit_code"].as_str()),
        (WorkloadState::Error, "3")
    );
    assert_eq!(
        (killed.workload_state, killed.metadata["signal"].as_str()),
        (WorkloadState::Error, "9")
    );
    // Its files go at once, what is known of it stays.
    eventually("no folder", LIMIT, || async {
        bench.folders().is_empty().then_some(())
    })
    .await;
    // Stopping what has ended is no error, and takes nothing from the list.
    bench.stop("bad").await.unwrap();
    assert_eq!((bench.native.list().len(), bench.native.active()), (3, 0));
    bench.native.shutdown(Duration::from_secs(1)).await;
    assert!(bench.native.list().is_empty());
}

#[tokio::test]
async fn a_start_that_is_stopped_is_not_refused_as_busy() {
    let bench = Bench::start().await;

    let (started, stopped) =
        tokio::join!(bench.service("w1", shell("sleep 100")), bench.stop("w1"));

    stopped.unwrap();
    // For a client that hears `busy` tries another node.
    assert_eq!(started.unwrap_err().code, ErrorCode::Nexlet);
    assert!(bench.native.list().is_empty() && bench.folders().is_empty());
}

#[tokio::test]
async fn a_process_sees_its_environment_and_nothing_else() {
    let bench = Bench::start().await;
    let mut feed = bench.feed().await;
    let request = json!({ "uri": "file:///usr/bin/env", "environment": { "LEVEL": "info" } });

    bench.job("w1", request).await.unwrap();
    let output = feed.until_event("WORKLOADSTOPPED").await;

    let home = bench.folder("w1");
    let home = home.display();
    let expected = [
        ("HOME", home.to_string()),
        ("LEVEL", "info".into()),
        ("NATS_CREDS", format!("{home}/.nex/workload.creds")),
        ("NATS_URL", bench.server.url().into()),
        ("NEX_WORKLOAD_ID", "w1".into()),
        ("NEX_WORKLOAD_NAME", "web".into()),
        ("NEX_WORKLOAD_NAMESPACE", "default".into()),
        ("NEX_WORKLOAD_NATS_B64_JWT", "and0".into()),
        ("NEX_WORKLOAD_NATS_NKEY", "SEED".into()),
        ("NEX_WORKLOAD_NATS_SERVERS", bench.server.url().into()),
        ("PATH", "/usr/local/bin:/usr/bin:/bin".into()),
        ("TMPDIR", format!("{home}/tmp")),
    ];
    let expected: BTreeMap<&str, String> = expected.into();
    let seen: BTreeMap<&str, String> = output
        .lines
        .iter()
        .map(|line| {
            line.split_once('=')
                .map(|(name, value)| (name, value.to_owned()))
                .unwrap()
        })
        .collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_process_starts_in_its_own_folder_with_empty_input() {
    let bench = Bench::start().await;
    let mut feed = bench.feed().await;
    let script = r#"pwd; cat; touch "$TMPDIR/x" && stat -c %a "$HOME" "$NATS_CREDS""#;

    bench.job("w1", shell(script)).await.unwrap();
    let output = feed.until_event("WORKLOADSTOPPED").await;

    let home = bench.folder("w1").display().to_string();
    assert_eq!(output.lines, [home.as_str(), "700", "600"]);
}

#[tokio::test]
async fn a_service_is_started_again_and_says_why() {
    let bench = Bench::start().await;
    let mut feed = bench.feed().await;

    bench
        .service("w1", shell("echo run; exit 3"))
        .await
        .unwrap();

    for run in 0..3 {
        let started = feed.until_event("WORKLOADSTARTED").await;
        assert_eq!(started.event["metadata"]["restarts"], run.to_string());
    }
    let waiting = eventually("a service that waits", LIMIT, || async {
        bench
            .summary("w1")
            .filter(|summary| summary.workload_state == WorkloadState::Error)
    })
    .await;
    let error = &waiting.metadata["error"];
    assert!(
        error.starts_with("ended with exit code 3; starting again in"),
        "{error}"
    );
    bench.stop("w1").await.unwrap();
    let stopped = feed.until_event("WORKLOADSTOPPED").await;
    assert!(
        stopped
            .lines
            .iter()
            .any(|line| line.starts_with("nex: ended with exit code 3"))
    );
    assert!(bench.native.list().is_empty());
}

#[tokio::test]
async fn what_cannot_run_is_refused_and_leaves_nothing() {
    let bench = Bench::start().await;
    let plain = bench.dir.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    let file = |path: &str| json!({ "uri": format!("file://{path}") });
    let cases = [
        (json!({ "argv": [] }), ErrorCode::BadRequest, "uri"),
        (
            file("/no/such/program"),
            ErrorCode::NotFound,
            "No such file",
        ),
        (file("/tmp"), ErrorCode::Internal, "no regular file"),
        (
            file(plain.to_str().unwrap()),
            ErrorCode::BadRequest,
            "executable bit",
        ),
        (
            json!({ "uri": "nats://NOBODY/web" }),
            ErrorCode::NotFound,
            "NOBODY",
        ),
    ];
    for (request, code, text) in cases {
        let refusal = bench.service("w1", request).await.unwrap_err();
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.text.contains(text), "{refusal}");
    }
    assert!(bench.native.list().is_empty() && bench.folders().is_empty());
    assert_eq!(bench.processes(), []);
}

#[tokio::test]
async fn sixty_four_starts_of_one_artifact_all_run() {
    let bench = Bench::start().await;
    let path = bench.dir.path().join("program");
    fs::copy("/bin/echo", &path).unwrap();
    let uploaded = nex_artifact::upload(&bench.client, "NEXCLIFILES", &path, |_, _| {})
        .await
        .unwrap();

    let starts = (0..64).map(|number| {
        let request = json!({ "uri": uploaded.uri, "argv": [number.to_string()] });
        bench.job_owned(format!("w{number}"), request)
    });
    for started in join_all(starts).await {
        started.unwrap();
    }

    eventually("all ends", LIMIT, || async {
        let list = bench.native.list();
        let ended = list
            .iter()
            .filter(|summary| summary.metadata.contains_key("ended"))
            .count();
        if ended == 64 { Ok(()) } else { Err(ended) }
    })
    .await;
    for summary in bench.native.list() {
        assert_eq!(
            summary.metadata.get("exit_code").map(String::as_str),
            Some("0"),
            "{summary:?}"
        );
    }
    let cached = fs::read_dir(bench.dir.path().join("data/artifacts")).unwrap();
    assert_eq!(cached.count(), 1);
}

#[tokio::test]
async fn shutdown_ends_all_within_its_grace() {
    let bench = Bench::start().await;
    let mut feed = bench.feed().await;
    let stubborn = json!({
        "uri": "file:///bin/sh",
        "argv": ["-c", r#"trap "" INT TERM; echo up; while :; do sleep 1000; done"#],
        "stop_grace": "1h",
    });
    bench.service("w1", stubborn).await.unwrap();
    feed.line("up").await;

    bench.native.shutdown(Duration::from_millis(300)).await;

    assert_eq!(bench.processes(), []);
    assert!(bench.native.list().is_empty() && bench.folders().is_empty());
    let late = bench.service("w2", shell("true")).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::Busy);
}

#[tokio::test]
async fn many_lines_arrive_in_order() {
    let bench = Bench::start().await;
    let mut feed: Feed = bench.feed().await;

    bench.job("w1", shell("seq 1 20000")).await.unwrap();
    let output = feed.until_event("WORKLOADSTOPPED").await;

    let expected: Vec<String> = (1..=20000).map(|number| number.to_string()).collect();
    assert_eq!(output.lines, expected);
}
