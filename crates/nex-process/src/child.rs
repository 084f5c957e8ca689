//! One child of this process, from its start until it is reaped.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Semaphore;

use crate::command::Exit;
use crate::isolate::{Bond, isolate};
use crate::os::Watch;
use crate::reaper;

/// Starts at the same time. Each holds a thread until exec has happened; more of
/// them than processors only cost memory.
static STARTS: Semaphore = Semaphore::const_new(2);

/// A child that this process started and will reap.
///
/// Dropping it leaves the child to the reaper, which kills it if it has not
/// ended within `abandon_limit`.
#[derive(Debug)]
pub(crate) struct OwnedChild {
    pid: Pid,
    watch: Arc<Watch>,
    exit: Option<Exit>,
    abandon_limit: Duration,
}

/// A child with the pipes that were asked for.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: OwnedChild,
    pub(crate) stdout: Option<Receiver>,
    pub(crate) stderr: Option<Receiver>,
}

/// Starts a program in a session of its own.
///
/// Cancelled, it still may start the program, and then abandons it.
pub(crate) async fn start(
    mut command: std::process::Command,
    abandon_limit: Duration,
) -> io::Result<Started> {
    let _permit = STARTS.acquire().await.map_err(io::Error::other)?;
    let starting = tokio::task::spawn_blocking(move || {
        isolate(&mut command, Bond::Wakes);
        let spawned = reaper::spawn(&mut command)?;
        adopt(spawned, abandon_limit)
    });
    starting.await.map_err(io::Error::other)?
}

fn adopt(mut spawned: std::process::Child, abandon_limit: Duration) -> io::Result<Started> {
    let pid = Pid::from_child(&spawned);
    let watch = Watch::new(pid).inspect_err(|_| reaper::abandon(pid, Duration::ZERO))?;
    let child = OwnedChild {
        pid,
        watch: Arc::new(watch),
        exit: None,
        abandon_limit,
    };
    let stdout = spawned
        .stdout
        .take()
        .map(|pipe| Receiver::from_owned_fd(pipe.into()));
    let stderr = spawned
        .stderr
        .take()
        .map(|pipe| Receiver::from_owned_fd(pipe.into()));
    Ok(Started {
        child,
        stdout: stdout.transpose()?,
        stderr: stderr.transpose()?,
    })
}

impl OwnedChild {
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Resolves when the child has ended and is reaped. Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        self.watch.ended().await?;
        let exit = reaper::try_reap(self.pid)?
            .ok_or_else(|| io::Error::other("a process that ended is still running"))?;
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Sends a signal to this process alone; none if it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        // A process that ended meanwhile needs no signal.
        self.watch.signal(signal).ok();
    }

    /// Something that can signal this very process while it is owned.
    pub(crate) fn watch(&self) -> Weak<Watch> {
        Arc::downgrade(&self.watch)
    }

    /// Sends a signal to the process group that the child leads.
    pub(crate) fn signal_group(&self, signal: Signal) {
        // Until it is reaped, nobody else can have its number.
        if self.exit.is_none() {
            rustix::process::kill_process_group(self.pid, signal).ok();
        }
    }
}

impl Drop for OwnedChild {
    fn drop(&mut self) {
        if self.exit.is_none() {
            reaper::abandon(self.pid, self.abandon_limit);
        }
    }
}
