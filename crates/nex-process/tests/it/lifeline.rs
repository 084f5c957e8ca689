//! Children that watch their lifeline, and short questions.

use std::path::Path;
use std::time::{Duration, Instant};

use nex_process::{CaptureError, Command, Exit, LifelineChild, Reaper, output, spawn_lifeline};

use crate::support::{HELPER, LONG, alive, eventually, exists, new_mark, runs, shell, suspend};

async fn start(file: &Path) -> LifelineChild {
    Reaper::install().unwrap();
    let mut command = Command::new(HELPER);
    command.args = vec!["lifeline".into(), file.into()];
    let child = spawn_lifeline(command).await.unwrap();
    eventually("the child runs", || file.exists());
    child
}

#[tokio::test]
async fn a_child_ends_when_its_lifeline_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(&folder.path().join("up")).await;

    child.cut_lifeline();
    let exit = tokio::time::timeout(LONG, child.wait())
        .await
        .unwrap()
        .unwrap();

    assert_eq!(exit, Exit::Code(7));
}

#[tokio::test]
async fn a_dropped_child_ends_and_is_reaped() {
    let folder = tempfile::tempdir().unwrap();
    let child = start(&folder.path().join("up")).await;
    let pid = child.pid();

    drop(child);

    eventually("the child is reaped", || !exists(pid));
}

/// As in a container: the session was made outside and has no number inside.
#[test]
fn children_are_reaped_where_our_session_has_no_number() {
    const TEST: &str = "lifeline::a_dropped_child_ends_and_is_reaped";
    let unshare = |script: &str| {
        std::process::Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .args(["sh", "-c", script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", TEST])
            .output()
    };
    if !unshare("true").is_ok_and(|output| output.status.success()) {
        return nex_testkit::skip("`unshare --pid` is not permitted here");
    }

    let output = unshare("\"$@\"; exit $?").unwrap();

    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn a_child_can_be_terminated_and_killed() {
    let folder = tempfile::tempdir().unwrap();
    for (name, signal) in [("term", libc::SIGTERM), ("kill", libc::SIGKILL)] {
        let mut child = start(&folder.path().join(name)).await;

        if signal == libc::SIGTERM {
            child.terminate()
        } else {
            child.kill()
        }
        let exit = tokio::time::timeout(LONG, child.wait())
            .await
            .unwrap()
            .unwrap();

        assert_eq!(exit, Exit::Signal(signal));
    }
}

#[tokio::test]
async fn a_suspended_child_can_be_terminated() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(&folder.path().join("up")).await;
    suspend(child.pid());

    child.terminate();
    let exit = tokio::time::timeout(LONG, child.wait())
        .await
        .unwrap()
        .unwrap();

    assert_eq!(exit, Exit::Signal(libc::SIGTERM));
}

#[tokio::test]
async fn a_short_program_is_captured() {
    let captured = output(shell("echo out; echo err >&2; exit 9", &new_mark()), LONG)
        .await
        .unwrap();

    assert_eq!(captured.exit, Exit::Code(9));
    assert_eq!(captured.stdout, b"out\n");
    assert_eq!(captured.stderr, b"err\n");
}

#[tokio::test]
async fn more_output_than_is_kept_does_not_block_the_program() {
    let script = "head -c 3000000 /dev/zero; exit 2";

    let captured = output(shell(script, &new_mark()), LONG).await.unwrap();

    assert_eq!(
        (captured.exit, captured.stdout.len()),
        (Exit::Code(2), 1024 * 1024)
    );
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_its_group() {
    let mark = new_mark();

    let start = Instant::now();
    let result = output(
        shell("sleep 1000 & sleep 1000", &mark),
        Duration::from_millis(200),
    )
    .await;

    assert!(
        matches!(result, Err(CaptureError::TooSlow { .. })),
        "{result:?}"
    );
    assert!(start.elapsed() < LONG);
    eventually("its processes are dead", || alive(&mark).is_empty());
}

#[tokio::test]
async fn a_program_that_is_missing_is_an_error() {
    let result = output(Command::new("/no/such/program"), LONG).await;

    let error = result.expect_err("must not run");
    assert_eq!(error.to_string(), "failed to run `/no/such/program`");
}

#[tokio::test]
async fn the_background_look_leaves_the_ends_of_owned_children_to_their_owners() {
    Reaper::install().unwrap();
    let mut owned = spawn_lifeline(shell("exit 9", &new_mark())).await.unwrap();
    eventually("the owned child has ended", || !runs(owned.pid()));

    // That an abandoned one is gone says that the background thread has looked since.
    let abandoned = spawn_lifeline(shell("exit 0", &new_mark())).await.unwrap();
    let pid = abandoned.pid();
    drop(abandoned);
    eventually("the abandoned child is reaped", || !exists(pid));

    assert_eq!(owned.wait().await.unwrap(), Exit::Code(9));
}
