//! The disk of `nex up`: it may become full, and free again.
//!
//! ```text
//!   plenty ──no space, or the server logs a failed write──> full ──space again──> streams stuck?
//!      ↑                                                                            │no     │yes
//!      └────────────────────────────────────────────────────────────────────────────┘       v
//!                                                                         nats-server is restarted
//! ```
//!
//! nats-server gives up a stream to which it could not write, until its next start.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use nex_nats::Connection;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::error::CommandError;

/// The pause between two looks at the disk.
const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// A disk with less space than this counts as full: streams write blocks, and each has some files.
const FULL_BYTES: u64 = 1024 * 1024;

/// A disk that was full counts as free again with this much space.
const FREE_BYTES: u64 = 8 * 1024 * 1024;

/// The shortest time between two restarts for stuck streams.
const RESTART_PERIOD: Duration = Duration::from_secs(30);

/// Length of the part of the server's log that is searched at a time, in bytes from its end.
const LOG_BYTES: u64 = 64 * 1024;

/// Texts in the server's log for a write that failed.
const FAILED_WRITES: [&str; 3] = [
    "no space left on device",
    "disk quota exceeded",
    "critical write error",
];

/// Texts of an error at the start that come from a disk, or what JetStream may use of it, without
/// space.
const NO_SPACE: [&str; 3] = [
    "no space left on device",
    "disk quota exceeded",
    "insufficient storage resources",
];

/// Adds what to do to an error that a full disk caused, where no hint tells it.
pub(super) fn hinted(error: CommandError) -> CommandError {
    if !error.mentions(&NO_SPACE) {
        return error;
    }
    error.or_hint("free space on the disk, or choose another data folder with `--data-dir`")
}

/// A look-out for streams that were stuck by a full disk.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    log: PathBuf,
    /// The offset up to which the log was searched.
    log_end: u64,
    was_full: bool,
    last_restart: Option<Instant>,
}

impl Disk {
    pub(super) fn new(folder: &Path, log: PathBuf) -> Self {
        Self {
            folder: folder.to_owned(),
            log_end: length(&log),
            log,
            was_full: false,
            last_restart: None,
        }
    }

    /// Resolves when streams are stuck that a restart of the server brings back, with their names.
    /// Cancel safe.
    pub(super) async fn stuck_streams(&mut self, node: &Connection) -> Vec<String> {
        loop {
            tokio::time::sleep(LOOK_PERIOD).await;
            let free = nex_server::free_bytes(&self.folder).unwrap_or(u64::MAX);
            let full = free < FULL_BYTES;
            let failed = self.log_tells_failed_write();
            if !self.was_full && (full || failed) {
                let folder = self.folder.display();
                warn!(%folder, free, "the disk is full: streams take no messages, and logs and events are lost");
            }
            self.was_full |= full || failed;
            let recent = self
                .last_restart
                .is_some_and(|last| last.elapsed() < RESTART_PERIOD);
            if !self.was_full || free < FREE_BYTES || recent {
                continue;
            }
            match nex_client::stuck_streams(node.client()).await {
                Ok(stuck) if stuck.is_empty() => {
                    info!(free, "the disk has space again, and streams take messages");
                    self.was_full = false;
                }
                Ok(stuck) => {
                    self.was_full = false;
                    self.last_restart = Some(Instant::now());
                    return stuck;
                }
                Err(error) => debug!(error = %nexlet::Chain(&error), "streams do not answer"),
            }
        }
    }

    /// Searches what the log has gained since the last look.
    fn log_tells_failed_write(&mut self) -> bool {
        let end = length(&self.log);
        let last_end = std::mem::replace(&mut self.log_end, end);
        if end == last_end {
            return false;
        }
        // A log that the server has begun anew is shorter.
        let start = if end < last_end { 0 } else { last_end };
        let read = || {
            let mut file = File::open(&self.log)?;
            file.seek(SeekFrom::Start(start.max(end.saturating_sub(LOG_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(LOG_BYTES).read_to_end(&mut bytes)?;
            std::io::Result::Ok(bytes)
        };
        let text = String::from_utf8_lossy(&read().unwrap_or_default()).to_lowercase();
        FAILED_WRITES.iter().any(|failed| text.contains(failed))
    }
}

fn length(file: &Path) -> u64 {
    file.metadata().map_or(0, |found| found.len())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    #[test]
    fn a_failed_write_is_found_once_in_what_the_log_gains() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("log");
        let failed =
            "[ERR] Filestore [F] Critical write error: write /a: No space left on device\n";
        fs::write(&log, failed).unwrap();
        let mut disk = Disk::new(home.path(), log.clone());
        let append = |text: &str| {
            let mut file = fs::File::options().append(true).open(&log).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };

        assert!(!disk.log_tells_failed_write(), "it was there before");
        append("[INF] hello\n");
        assert!(!disk.log_tells_failed_write());
        append(failed);
        assert!(disk.log_tells_failed_write());
        assert!(!disk.log_tells_failed_write());
    }
}
