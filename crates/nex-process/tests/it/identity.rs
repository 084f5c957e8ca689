//! Processes of an earlier run.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nex_process::Identity;

use crate::support::LONG;

fn shell(script: &str) -> Child {
    Command::new("/bin/sh")
        .args(["-c", script])
        .spawn()
        .unwrap()
}

/// The identity as the next run reads it from a file.
fn recorded(child: &Child) -> Identity {
    let identity = Identity::of(child.id()).unwrap();
    let text = serde_json::to_string(&identity).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_recorded_process_is_asked_to_end() {
    let mut child = shell("exec sleep 1000");
    let identity = recorded(&child);
    assert!(identity.is_alive());

    identity.end(LONG).await.unwrap();

    assert!(!identity.is_alive(), "a zombie is not alive");
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
}

#[tokio::test]
async fn one_that_does_not_listen_is_killed_after_its_grace() {
    let folder = tempfile::tempdir().unwrap();
    let up = folder.path().join("up");
    let mut child = shell(&format!(
        "trap '' TERM; touch {}; while :; do sleep 0.01; done",
        up.display()
    ));
    let identity = recorded(&child);
    crate::support::eventually("the trap is set", || up.exists());
    let grace = Duration::from_millis(200);

    let start = Instant::now();
    identity.end(grace).await.unwrap();

    assert!(start.elapsed() >= grace);
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[tokio::test]
async fn the_end_of_a_process_can_be_awaited_and_is_no_error_later() {
    let mut child = shell("exec sleep 0.1");
    let identity = recorded(&child);

    identity.ended().await.unwrap();
    child.wait().unwrap();

    identity.ended().await.unwrap();
    identity.end(Duration::ZERO).await.unwrap();
    assert!(!identity.is_alive());
}

#[tokio::test]
async fn another_process_with_the_same_number_is_not_touched() {
    let mut child = shell("exec sleep 1000");
    let mut json = serde_json::to_value(Identity::of(child.id()).unwrap()).unwrap();
    for (field, other) in [
        ("start_ticks", serde_json::json!(1)),
        ("boot_id", "another".into()),
    ] {
        let same = std::mem::replace(&mut json[field], other);
        let identity: Identity = serde_json::from_value(json.clone()).unwrap();
        json[field] = same;

        assert!(!identity.is_alive(), "{field}");
        identity.end(Duration::ZERO).await.unwrap();
    }

    assert!(child.try_wait().unwrap().is_none(), "it was killed");
    child.kill().unwrap();
    child.wait().unwrap();
}
