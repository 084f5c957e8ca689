//! Processes that an earlier run of this program started.

use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::os::{self, Watch};

/// How long a process may take to die of SIGKILL. Only one that hangs in the
/// kernel takes longer.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// One process on this machine, in all time: its number may be used again, not
/// with the same start in the same boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pid: u32,
    start_ticks: u64,
    boot_id: String,
}

/// Why a process could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// It may not be signalled, or not be watched.
    #[error("failed to signal process {pid}")]
    Signal {
        /// The process.
        pid: u32,
        /// Why not.
        source: io::Error,
    },
    /// It was killed and is still there.
    #[error("process {pid} did not end within {limit:?} of being killed")]
    StillAlive {
        /// The process.
        pid: u32,
        /// The time it had.
        limit: Duration,
    },
}

impl Identity {
    /// Describes a process that runs now.
    ///
    /// # Errors
    /// There is no such process, or the system does not tell.
    pub fn of(pid: u32) -> io::Result<Self> {
        let start_ticks = os::stat(parse(pid)?)?.start_ticks;
        Ok(Self {
            pid,
            start_ticks,
            boot_id: os::boot_id()?,
        })
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether this very process still runs. A zombie does not.
    pub fn is_alive(&self) -> bool {
        let stat = parse(self.pid).and_then(os::stat);
        let same = stat.is_ok_and(|stat| stat.start_ticks == self.start_ticks && !stat.ended());
        same && os::boot_id().is_ok_and(|boot_id| boot_id == self.boot_id)
    }

    /// Resolves when the process has ended. Cancel safe.
    ///
    /// # Errors
    /// It cannot be watched.
    pub async fn ended(&self) -> io::Result<()> {
        match self.watch()? {
            Some(watch) => watch.ended().await,
            None => Ok(()),
        }
    }

    /// Ends the process: SIGTERM, and SIGKILL after `grace`. Returns when it is
    /// dead, at once if it was before. It alone, not what it started.
    ///
    /// # Errors
    /// It may not be signalled, or does not die.
    pub async fn end(&self, grace: Duration) -> Result<(), EndError> {
        let failed = |source| EndError::Signal {
            pid: self.pid,
            source,
        };
        let Some(watch) = self.watch().map_err(failed)? else {
            return Ok(());
        };
        for (signal, limit) in [(Signal::TERM, grace), (Signal::KILL, KILL_LIMIT)] {
            match watch.signal(signal) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                    return Err(failed(error));
                }
                Ok(()) | Err(_) => {}
            }
            if let Ok(ended) = timeout(limit, watch.ended()).await {
                return ended.map_err(failed);
            }
        }
        Err(EndError::StillAlive {
            pid: self.pid,
            limit: KILL_LIMIT,
        })
    }

    /// A watch on this process; none if it has ended.
    fn watch(&self) -> io::Result<Option<Watch>> {
        if !self.is_alive() {
            return Ok(None);
        }
        match Watch::new(parse(self.pid)?) {
            // Asked again: the number may have changed hands before the watch.
            Ok(watch) => Ok(self.is_alive().then_some(watch)),
            Err(_) if !self.is_alive() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn parse(pid: u32) -> io::Result<Pid> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a process number"))
}
