//! Native workloads: what a stop, an end and a start mean.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use futures_util::TryStreamExt as _;
use nex_testkit::{NexUp, bin, wait_until};

use crate::{LIMIT, devrun, find, list, start_shell};

/// Ignores all signals that can be ignored, and has a child in a session of its own.
const STUBBORN: &str = r#"trap "" INT TERM; setsid sleep 1000 & sleep 1000 & wait"#;

/// The grace of a stop where the start request says nothing.
const GRACE: Duration = Duration::from_secs(5);

/// Processes of the home that run `sleep`.
fn sleepers(up: &NexUp) -> Vec<String> {
    up.processes()
        .iter()
        .map(|process| format!("{process:?}"))
        .filter(|process| process.contains("sleep"))
        .collect()
}

#[test]
fn a_stubborn_tree_is_dead_when_the_stop_is_answered() {
    let up = NexUp::start();
    start_shell(&up, "stubborn", "service", STUBBORN, &[]).ok();
    wait_until("both children run", LIMIT, || {
        let found = sleepers(&up);
        (found.len() >= 2).then_some(()).ok_or(found)
    })
    .unwrap();

    let stopped = up.nex(&["workload", "stop", "stubborn"]).ok();

    assert_eq!(sleepers(&up), Vec::<String>::new());
    // The grace, and the time that a busy machine needs for the command itself.
    assert!(stopped.took < 3 * GRACE, "{stopped}");
    assert!(find(&up, "stubborn").is_err());
}

#[test]
fn wait_exits_as_the_job_did() {
    let up = NexUp::start();

    let failed = start_shell(&up, "fails", "job", "exit 7", &["--wait"]);
    let killed = start_shell(&up, "killed", "job", "kill -9 $$", &["--wait"]);
    let fine = start_shell(&up, "fine", "job", "true", &["--wait"]);

    assert_eq!(
        (failed.code, killed.code, fine.code),
        (7, 137, 0),
        "{failed}{killed}"
    );
    let metadata = |name| find(&up, name).expect("a finished job stays listed")["metadata"].clone();
    assert_eq!(metadata("fails")["exit_code"], "7");
    assert_eq!(metadata("killed")["signal"], "9");
}

#[test]
fn the_environment_is_small_and_its_own() {
    let up = NexUp::start();
    let shell = "env; echo cwd=$(pwd); touch \"$HOME/mine\" \"$TMPDIR/mine\" && echo writable";
    start_shell(&up, "env", "job", shell, &["--wait"]).ok();

    let logs = wait_until("the output is kept", LIMIT, || {
        let logs = up.nex(&["logs", "env", "--json"]).ok().stdout;
        logs.contains("writable")
            .then_some(logs.clone())
            .ok_or(logs)
    })
    .unwrap();
    let lines: Vec<String> = logs
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"))
        .map(|line| line["line"].as_str().expect("the text").to_owned())
        .collect();
    let seen: BTreeMap<&str, &str> = lines
        .iter()
        .filter_map(|line| line.split_once('='))
        .collect();
    let expected = [
        "HOME",
        "NATS_CREDS",
        "NATS_URL",
        "NEX_WORKLOAD_ID",
        "NEX_WORKLOAD_NAME",
        "NEX_WORKLOAD_NAMESPACE",
        "NEX_WORKLOAD_NATS_B64_JWT",
        "NEX_WORKLOAD_NATS_NKEY",
        "NEX_WORKLOAD_NATS_SERVERS",
        "PATH",
        "TMPDIR",
    ];
    // A shell adds these to any environment.
    let found: Vec<&str> = seen
        .keys()
        .copied()
        .filter(|key| !["PWD", "OLDPWD", "SHLVL", "_", "cwd"].contains(key))
        .collect();
    assert_eq!(found, expected, "{logs}");
    assert_eq!(seen["cwd"], seen["HOME"]);
    assert_eq!(seen["NATS_URL"], up.url());
    assert_eq!(seen["NEX_WORKLOAD_NAME"], "env");
}

#[test]
fn a_service_that_ends_is_started_again() {
    let up = NexUp::start();
    start_shell(&up, "flaky", "service", "echo run; sleep 0.2; exit 1", &[]).ok();

    wait_until("it ran three times", LIMIT, || {
        let logs = up.nex(&["logs", "flaky"]).ok().stdout;
        (logs.matches("run").count() >= 3).then_some(()).ok_or(logs)
    })
    .unwrap();

    up.nex(&["workload", "stop", "flaky"]).ok();
}

#[tokio::test]
async fn sixty_four_starts_at_once_share_one_artifact() {
    let up = NexUp::start();
    let service = bin("echo-service");

    thread::scope(|scope| {
        for number in 0..64 {
            let (up, service) = (&up, &service);
            scope.spawn(move || devrun(up, service, &["--name", &format!("echo-{number}")]));
        }
    });

    let running = list(&up);
    assert_eq!(running.len(), 64);
    for workload in &running {
        assert_eq!(workload["workload_state"], "running", "{workload}");
        assert_eq!(workload["metadata"]["restarts"], "0", "{workload}");
    }
    let cached = fs::read_dir(up.data_dir().join("nexlets/native/artifacts")).unwrap();
    let cached: Vec<_> = cached.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(cached.len(), 1, "{cached:?}");
    let (objects, chunks, messages) = uploaded(&up).await;
    assert_eq!(objects, 1);
    // Each chunk once, and one message that describes them.
    assert_eq!(messages, chunks + 1);
}

/// How many objects the bucket of artifacts has, the chunks that they are made of, and the
/// messages that there are in all.
async fn uploaded(up: &NexUp) -> (usize, u64, u64) {
    let client = async_nats::ConnectOptions::new()
        .credentials_file(up.data_dir().join("cli.creds"))
        .await
        .unwrap()
        .connect(up.url())
        .await
        .unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let bucket = jetstream.get_object_store("NEXCLIFILES").await.unwrap();
    let objects: Vec<_> = bucket.list().await.unwrap().try_collect().await.unwrap();
    let chunks = objects.iter().map(|object| object.chunks as u64).sum();
    let mut stream = jetstream.get_stream("OBJ_NEXCLIFILES").await.unwrap();
    let messages = stream.info().await.unwrap().state.messages;
    (objects.len(), chunks, messages)
}
