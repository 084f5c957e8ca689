//! What the tests share: marked workloads, and looking for them in `/proc`.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nex_process::{Command, Ended, Launcher, Reaper, Tree};
use rustix::process::{Pid, Signal};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_nex-process-test-helper");

/// No wait of a test takes nearly as long, unless what it waits for never comes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Asks not to be stopped, and has a child in another session.
pub(crate) const STUBBORN: &str =
    r#"trap "" INT TERM; setsid sleep 1000 & sleep 1000 & wait; wait"#;

/// How many processes [`STUBBORN`] has when all of it runs.
pub(crate) const STUBBORN_SIZE: usize = 3;

/// A mark in the environment of all processes of one workload.
pub(crate) fn new_mark() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

pub(crate) fn launcher() -> Launcher {
    Reaper::install().unwrap();
    Launcher::new(HELPER)
}

pub(crate) fn shell(script: &str, mark: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args = vec!["-c".into(), script.into()];
    command.env = vec![
        ("PATH".into(), "/usr/bin:/bin".into()),
        ("MARK".into(), mark.into()),
    ];
    command
}

/// Ends a tree that should end by itself, or fails.
pub(crate) async fn wait(tree: &mut Tree) -> Ended {
    tokio::time::timeout(LONG, tree.wait())
        .await
        .expect("the tree ends")
}

pub(crate) async fn read_all(pipe: Option<Receiver>) -> String {
    let mut text = String::new();
    let mut pipe = pipe.expect("a pipe was asked for");
    tokio::time::timeout(LONG, pipe.read_to_string(&mut text))
        .await
        .expect("the pipe ends")
        .unwrap();
    text
}

/// The living processes that carry the mark.
pub(crate) fn alive(mark: &str) -> Vec<u32> {
    let wanted = format!("MARK={mark}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        // Zombies have no environment; processes end while we look.
        let Ok(environment) = fs::read(entry.path().join("environ")) else {
            continue;
        };
        if environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
        {
            found.extend(
                entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<u32>().ok()),
            );
        }
    }
    found
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "never: {what}");
        #[expect(clippy::disallowed_methods, reason = "the pause between two looks")]
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

/// Waits until a workload consists of this many processes.
pub(crate) fn wait_for(mark: &str, count: usize) -> Vec<u32> {
    eventually(&format!("{count} processes of {mark}"), || {
        alive(mark).len() == count
    });
    alive(mark)
}

pub(crate) fn parent_of(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .unwrap();
    line.trim().parse().unwrap()
}

/// Whether a process runs. One that ended may still wait for process 1, whose
/// child it became, to ask how.
pub(crate) fn runs(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains("zombie"))
}

/// Whether there is such a process, though it may have ended.
pub(crate) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

pub(crate) fn kill_9(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Suspends a process, and waits until it is.
pub(crate) fn suspend(pid: u32) {
    signal(pid, Signal::STOP);
    eventually("the process is suspended", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        status.is_ok_and(|status| status.contains("T (stopped)"))
    });
}

/// Lets a suspended process go on.
pub(crate) fn resume(pid: u32) {
    signal(pid, Signal::CONT);
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
