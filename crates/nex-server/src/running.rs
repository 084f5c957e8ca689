//! The registry by which other programs on this machine find a `nex up` and its phase.
//!
//! ```text
//!   Starting ──> Ready <──> Restarting
//!       │          │             │
//!       └──────────┴──> Stopping ┘──> Stopped ──some seconds──> (nothing)
//!
//!   any of the first four ──kill -9──> Killed
//! ```
//!
//! A registry folder, the same for all data folders of a person, has a pointer to each folder that a
//! `nex up` has, from before its server starts until after its server has ended. The folder's
//! `running.json` has the address; `expected.json` has it as far as it is known while there is no
//! `running.json`. Beside it `phase.json` has a phase other than ready: its removal,
//! for which a full disk has space, shows that the server is ready again. The lock of the folder
//! alone tells whether the process lives, so a crash leaves nothing that must be cleaned up first.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data_dir::{self, DataDir};
use crate::files::{self, FileError};
use crate::server::{self, Port};

const RUNNING_FILE: &str = "running.json";
const EXPECTED_FILE: &str = "expected.json";
const PHASE_FILE: &str = "phase.json";

/// Time for which a `nex up` that has ended in order is shown as stopped.
const STOPPED_LIMIT: Duration = Duration::from_secs(5);

/// How many bytes of the hash of a path name its pointer.
const POINTER_NAME_BYTES: usize = 8;

/// The phase of a `nex up`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The process has the folder, and no server is ready yet.
    Starting,
    /// The server takes clients.
    Ready,
    /// The server ended, for this reason, and is started again.
    Restarting(String),
    /// The process ends.
    Stopping,
    /// The process has ended in order a moment ago. A service manager that restarts it starts it now.
    Stopped,
    /// The process was killed, and nothing has the folder.
    Killed,
}

/// The address and credentials of the server of a `nex up`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// URL for clients.
    pub url: String,
    /// Path of a `.creds` file with all rights in the account; for who may read the data folder.
    pub creds: PathBuf,
    /// The process that owns the data folder.
    pub pid: u32,
    /// The data folder.
    pub data_dir: PathBuf,
    /// When the server was started.
    pub started: Timestamp,
}

/// A `nex up` as its data folder shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpStatus {
    /// The data folder.
    pub data_dir: PathBuf,
    /// The phase.
    pub phase: Phase,
    /// The address of the server, also while it does not run; none where its port is not known yet.
    pub running: Option<Running>,
}

/// Keeps a `nex up` findable until it is dropped.
#[derive(Debug)]
pub struct Announcement {
    data_dir: PathBuf,
    pointer: PathBuf,
    stopping: bool,
}

impl Announcement {
    /// Makes the `nex up` of this process findable, in [`Phase::Starting`], with the address that
    /// its server will have on this port.
    ///
    /// # Errors
    /// The pointer or the address cannot be written.
    pub fn starting(
        data_dir: &DataDir,
        registry_dir: &Path,
        port: Port,
    ) -> Result<Self, FileError> {
        expect(data_dir, port)?;
        files::make_folder(registry_dir)?;
        let path = data_dir.path().as_os_str().as_encoded_bytes();
        let name = HEXLOWER.encode(&Sha256::digest(path)[..POINTER_NAME_BYTES]);
        let pointer = registry_dir.join(name);
        files::write(&pointer, path)?;
        Ok(Self {
            data_dir: data_dir.path().to_owned(),
            pointer,
            stopping: false,
        })
    }

    /// Shows how to reach the server, from now on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn ready(&self, running: &Running) -> Result<(), FileError> {
        let text = serde_json::to_vec_pretty(running).expect("the data folder's path is text");
        files::write(&self.data_dir.join(RUNNING_FILE), &text)
    }

    /// Shows the phase of a `nex up` that has been ready.
    ///
    /// # Errors
    /// The file cannot be written, or not be removed; then it shows the phase before.
    pub fn show(&mut self, phase: &Phase) -> Result<(), FileError> {
        self.stopping = *phase == Phase::Stopping;
        self.write(phase)
    }

    fn write(&self, phase: &Phase) -> Result<(), FileError> {
        let path = self.data_dir.join(PHASE_FILE);
        if *phase == Phase::Ready {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(FileError::new("remove", &path)(error))
                }
                _ => Ok(()),
            };
        }
        let text = serde_json::to_vec(phase).expect("a phase is plain data");
        files::write(&path, &text)
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if self.stopping && self.write(&Phase::Stopped).is_ok() {
            // The pointer stays with it, for the next owner of the folder.
            keep_address(&self.data_dir);
            return;
        }
        forget_last(&self.data_dir);
        fs::remove_file(&self.pointer).ok();
    }
}

impl UpStatus {
    /// Every `nex up` of a registry that runs, or that was killed and not started again; the latest
    /// first.
    #[must_use]
    pub fn find(registry_dir: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(registry_dir) else {
            return Vec::new();
        };
        let mut found: Vec<Self> = entries
            .flatten()
            .filter(|entry| is_pointer(&entry.file_name()))
            .filter_map(|entry| Self::behind(&entry.path()))
            .collect();
        found.sort_by_key(|status| {
            std::cmp::Reverse(status.running.as_ref().map(|running| running.started))
        });
        found
    }

    /// The `nex up` behind a pointer. A pointer to a folder that is gone is removed; one to a folder
    /// that is there is its next owner's.
    fn behind(pointer: &Path) -> Option<Self> {
        let data_dir = PathBuf::from(fs::read_to_string(pointer).ok()?);
        if !data_dir.is_absolute() {
            return None;
        }
        if !data_dir.exists() {
            fs::remove_file(pointer).ok();
            return None;
        }
        // Somebody else may have made a folder where ours was, to be taken for us.
        if !data_dir::is_trusted(&data_dir) {
            return None;
        }
        // Before the file: of one that ends in between, the file may be gone.
        let lives = data_dir::in_use(&data_dir);
        let running = read_running(&data_dir, RUNNING_FILE);
        if !lives && !pointer.exists() {
            return None;
        }
        let phase = match &running {
            _ if !lives => match read_phase(&data_dir) {
                Phase::Stopped if is_recent(&data_dir.join(PHASE_FILE)) => Phase::Stopped,
                Phase::Stopped => return None,
                _ => Phase::Killed,
            },
            Some(_) => read_phase(&data_dir),
            None => Phase::Starting,
        };
        Some(Self {
            phase,
            running: running.or_else(|| read_running(&data_dir, EXPECTED_FILE)),
            data_dir,
        })
    }
}

/// Returns whether a file of the registry has the name of a pointer. While a pointer is written, its text is
/// in a temporary file beside it.
fn is_pointer(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.len() == 2 * POINTER_NAME_BYTES && name.iter().all(u8::is_ascii_hexdigit)
}

/// Writes down how to reach the server once it is ready, where that has changed.
fn expect(data_dir: &DataDir, port: Port) -> Result<(), FileError> {
    let file = data_dir.file(EXPECTED_FILE);
    let Some(port) = server::expected_port(port, data_dir)? else {
        fs::remove_file(file).ok();
        return Ok(());
    };
    let url = server::url(port);
    let last = read_running(data_dir.path(), EXPECTED_FILE);
    if last.is_some_and(|last| last.url == url) {
        return Ok(());
    }
    let expected = Running {
        url,
        creds: server::creds_path(data_dir),
        pid: std::process::id(),
        data_dir: data_dir.path().to_owned(),
        started: Timestamp::now(),
    };
    let text = serde_json::to_vec_pretty(&expected).expect("the data folder's path is text");
    files::write(&file, &text)
}

fn read_running(data_dir: &Path, name: &str) -> Option<Running> {
    let text = fs::read(data_dir.join(name)).ok()?;
    let running: Running = serde_json::from_slice(&text).ok()?;
    (running.data_dir == data_dir).then_some(running)
}

fn is_recent(file: &Path) -> bool {
    let modified = file.metadata().and_then(|found| found.modified());
    // A time in the future is that of a clock that was set back.
    modified.is_ok_and(|at| at.elapsed().unwrap_or_default() < STOPPED_LIMIT)
}

fn read_phase(data_dir: &Path) -> Phase {
    let read = || serde_json::from_slice(&fs::read(data_dir.join(PHASE_FILE)).ok()?).ok();
    read().unwrap_or(Phase::Ready)
}

/// Removes the phase of the last owner of a folder, and keeps its address apart.
pub(crate) fn forget_last(data_dir: &Path) {
    keep_address(data_dir);
    fs::remove_file(data_dir.join(PHASE_FILE)).ok();
}

/// Keeps the address of a server that has ended, for the next one probably has it too.
fn keep_address(data_dir: &Path) {
    let running = data_dir.join(RUNNING_FILE);
    if fs::rename(&running, data_dir.join(EXPECTED_FILE)).is_err() {
        fs::remove_file(running).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn running(data_dir: &DataDir, started: i64) -> Running {
        Running {
            url: "nats://127.0.0.1:4222".into(),
            creds: data_dir.path().join("cli.creds"),
            pid: 7,
            data_dir: data_dir.path().to_owned(),
            started: Timestamp::from_second(started).unwrap(),
        }
    }

    fn ready(data_dir: &DataDir, registry: &Path, started: i64) -> Announcement {
        let announcement = Announcement::starting(data_dir, registry, Port::Free).unwrap();
        announcement.ready(&running(data_dir, started)).unwrap();
        announcement
    }

    fn phases(registry: &Path) -> Vec<Phase> {
        let found = UpStatus::find(registry).into_iter();
        found.map(|status| status.phase).collect()
    }

    #[test]
    fn those_that_run_are_found_the_latest_first() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry");
        let first = DataDir::open(&home.path().join("first")).unwrap();
        let second = DataDir::open(&home.path().join("second")).unwrap();
        let found = || -> Vec<Option<Running>> {
            let found = UpStatus::find(&registry).into_iter();
            found.map(|status| status.running).collect()
        };

        let _first = ready(&first, &registry, 1);
        let announcement = ready(&second, &registry, 2);

        let both = [Some(running(&second, 2)), Some(running(&first, 1))];
        assert_eq!(found(), both);
        drop(announcement);
        assert_eq!(found(), both[1..]);
    }

    #[test]
    fn each_phase_is_seen_from_the_first_moment_to_the_last() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry");
        let data_dir = DataDir::open(&home.path().join("data")).unwrap();

        let mut announcement = Announcement::starting(&data_dir, &registry, Port::Free).unwrap();
        assert_eq!(phases(&registry), [Phase::Starting]);
        announcement.ready(&running(&data_dir, 1)).unwrap();
        for phase in [
            Phase::Ready,
            Phase::Restarting("it died".into()),
            Phase::Ready,
            Phase::Stopping,
        ] {
            announcement.show(&phase).unwrap();
            assert_eq!(phases(&registry), [phase]);
        }
        drop(announcement);
        drop(data_dir);
        assert_eq!(phases(&registry), [Phase::Stopped]);
        // Later it has no part in anything.
        let phase = fs::File::options()
            .append(true)
            .open(home.path().join("data").join(PHASE_FILE))
            .unwrap();
        let later = std::time::SystemTime::now() - 2 * STOPPED_LIMIT;
        phase.set_modified(later).unwrap();
        assert_eq!(phases(&registry), []);
        let _data_dir = DataDir::open(&home.path().join("data")).unwrap();
        assert_eq!(phases(&registry), [Phase::Starting]);
    }

    #[test]
    fn one_that_was_killed_is_told_apart_from_one_that_starts() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry");
        let data_dir = DataDir::open(&home.path().join("data")).unwrap();
        // As after `kill -9`: the files stay, the lock does not.
        std::mem::forget(ready(&data_dir, &registry, 1));
        assert_eq!(phases(&registry), [Phase::Ready]);

        drop(data_dir);

        assert_eq!(phases(&registry), [Phase::Killed]);
        // The next owner of the folder is not ready yet.
        let _data_dir = DataDir::open(&home.path().join("data")).unwrap();
        assert_eq!(phases(&registry), [Phase::Starting]);
    }

    #[test]
    fn the_address_is_known_in_each_phase() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry");
        let path = home.path().join("data");
        let found = || {
            let status = UpStatus::find(&registry).pop().unwrap();
            (status.phase, status.running.map(|running| running.url))
        };
        let at = |phase, port: u16| (phase, Some(format!("nats://127.0.0.1:{port}")));

        let data_dir = DataDir::open(&path).unwrap();
        let first = Announcement::starting(&data_dir, &registry, Port::Free).unwrap();
        assert_eq!(found(), (Phase::Starting, None));
        first.ready(&running(&data_dir, 1)).unwrap();
        std::mem::forget(first);
        drop(data_dir);
        assert_eq!(found(), at(Phase::Killed, 4222));
        let data_dir = DataDir::open(&path).unwrap();
        assert_eq!(found(), at(Phase::Starting, 4222));
        let mut again = Announcement::starting(&data_dir, &registry, Port::Fixed(4222)).unwrap();
        assert_eq!(found(), at(Phase::Starting, 4222));
        again.ready(&running(&data_dir, 2)).unwrap();
        again.show(&Phase::Stopping).unwrap();
        drop(again);
        drop(data_dir);
        assert_eq!(found(), at(Phase::Stopped, 4222));
        // An address that it will not have again is not its own any more.
        let data_dir = DataDir::open(&path).unwrap();
        std::mem::forget(Announcement::starting(&data_dir, &registry, Port::Fixed(4333)).unwrap());
        assert_eq!(found(), at(Phase::Starting, 4333));
        drop(data_dir);
        assert_eq!(found(), at(Phase::Killed, 4333));
        fs::write(path.join("port"), "4444").unwrap();
        let data_dir = DataDir::open(&path).unwrap();
        let _kept = Announcement::starting(&data_dir, &registry, Port::Free).unwrap();
        assert_eq!(found(), at(Phase::Starting, 4444));
    }

    #[test]
    fn a_folder_that_others_could_have_filled_is_not_believed() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry");
        let data_dir = DataDir::open(&home.path().join("data")).unwrap();
        let _announcement = ready(&data_dir, &registry, 1);
        assert_eq!(phases(&registry).len(), 1);

        let open = fs::Permissions::from_mode(0o770);
        fs::set_permissions(data_dir.path(), open).unwrap();

        assert_eq!(phases(&registry), []);
    }

    #[test]
    fn only_pointers_count_in_the_registry() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry");
        let data_dir = DataDir::open(&home.path().join("data")).unwrap();
        let announcement = ready(&data_dir, &registry, 1);
        let name = announcement.pointer.file_name().unwrap();
        let name = name.to_str().unwrap().to_owned();
        // The first is there while a pointer is written, or after a crash in that moment.
        for other in [format!(".{name}.tmp"), format!("{name}~"), "a".to_owned()] {
            fs::copy(&announcement.pointer, registry.join(&other)).unwrap();
            assert_eq!(phases(&registry), [Phase::Ready], "{other}");
        }
    }

    #[test]
    fn a_pointer_to_nothing_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry");
        let data_dir = DataDir::open(&home.path().join("data")).unwrap();
        std::mem::forget(ready(&data_dir, &registry, 1));

        fs::remove_dir_all(home.path().join("data")).unwrap();

        assert_eq!(phases(&registry), []);
        assert_eq!(fs::read_dir(&registry).unwrap().count(), 0);
        assert_eq!(phases(&home.path().join("none")), []);
    }
}
