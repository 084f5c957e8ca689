//! Elsewhere: process groups are all there is.

use std::io;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

/// How often a process is asked whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What is known about a process here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The session.
    pub(crate) session: i32,
    /// Start after boot; unknown here.
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// Whether the process has ended; a zombie cannot be told apart here.
    pub(crate) fn ended(&self) -> bool {
        false
    }
}

/// Asks whether a process exists.
pub(crate) fn stat(pid: Pid) -> io::Result<Stat> {
    let session = rustix::process::getsid(Some(pid))?.as_raw_nonzero().get();
    Ok(Stat {
        session,
        start_ticks: 0,
    })
}

/// There is no such identifier here.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(String::new())
}

/// Orphans cannot be adopted here.
pub(crate) fn become_subreaper() -> io::Result<()> {
    Ok(())
}

/// Names stay as they are here.
pub(crate) fn set_name(_name: &str) {}

/// Children that this crate did not start cannot be found here.
pub(crate) fn children(_parent: Pid) -> Vec<Pid> {
    Vec::new()
}

/// The same.
pub(crate) fn children_by_scan(_parent: Pid) -> Vec<Pid> {
    Vec::new()
}

/// Sends SIGKILL to the process group of the tree's main process.
pub(crate) fn kill_own_tree(main: Pid) {
    // It may have ended meanwhile, which is what is wanted.
    kill_process_group(main, Signal::KILL).ok();
}

/// Sends SIGKILL to the process group that a child leads.
pub(crate) fn kill_subtree(child: Pid) {
    // It may have ended meanwhile, which is what is wanted.
    kill_process_group(child, Signal::KILL).ok();
}

/// Watches one process by asking.
#[derive(Debug)]
pub(crate) struct Watch(Pid);

impl Watch {
    /// Watches a process.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn new(pid: Pid) -> io::Result<Self> {
        rustix::process::test_kill_process(pid)?;
        Ok(Self(pid))
    }

    /// Resolves when the process has ended. Cancel safe.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        while self.alive() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    fn alive(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.0), options) {
            Ok(ended) => ended.is_none(),
            // It is not a child of ours.
            Err(_) => rustix::process::test_kill_process(self.0).is_ok(),
        }
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.0, signal)?)
    }
}
