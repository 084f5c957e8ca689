//! How others on this machine find a server that runs.
//!
//! A data folder says in `running.json` how to reach it, while it is ready. A registry folder,
//! the same for all data folders of a person, has a pointer to each. Whether one lives is told by
//! its lock alone, so that a crash leaves nothing that must be cleaned up first.

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data_dir;
use crate::files::{self, FileError};

const RUNNING_FILE: &str = "running.json";

/// How many bytes of the hash of a path name its pointer.
const POINTER_NAME_BYTES: usize = 8;

/// A server that is ready.
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

/// Keeps a server findable until it is dropped.
#[derive(Debug)]
pub struct Announcement {
    running: PathBuf,
    pointer: PathBuf,
}

impl Running {
    /// Makes this server findable: for when it is ready, by the process that holds its data folder.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn announce(&self, registry_dir: &Path) -> Result<Announcement, FileError> {
        let running = self.data_dir.join(RUNNING_FILE);
        let text = serde_json::to_vec_pretty(self).expect("the data folder's path is text");
        files::write(&running, &text)?;
        files::make_folder(registry_dir)?;
        let path = self.data_dir.as_os_str().as_encoded_bytes();
        let name = HEXLOWER.encode(&Sha256::digest(path)[..POINTER_NAME_BYTES]);
        let pointer = registry_dir.join(name);
        files::write(&pointer, path)?;
        Ok(Announcement { running, pointer })
    }

    /// All servers of a registry that run now, the latest first.
    #[must_use]
    pub fn find(registry_dir: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(registry_dir) else {
            return Vec::new();
        };
        let mut found: Vec<Self> = entries
            .flatten()
            .filter_map(|entry| Self::behind(&entry.path()))
            .collect();
        found.sort_by_key(|running| std::cmp::Reverse(running.started));
        found
    }

    /// The server behind a pointer, if it lives. A pointer to a folder that is gone is removed; one
    /// to a folder that is there is its next owner's.
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
        let text = fs::read(data_dir.join(RUNNING_FILE)).ok()?;
        let running: Self = serde_json::from_slice(&text).ok()?;
        (running.data_dir == data_dir && data_dir::in_use(&data_dir)).then_some(running)
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        fs::remove_file(&self.running).ok();
        fs::remove_file(&self.pointer).ok();
    }
}

/// Takes away what a process that was killed has left. Its folder is ours now.
pub(crate) fn forget_last(data_dir: &Path) {
    fs::remove_file(data_dir.join(RUNNING_FILE)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DataDir;
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

    #[test]
    fn those_that_run_are_found_the_latest_first() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry");
        let first = DataDir::open(&home.path().join("first")).unwrap();
        let second = DataDir::open(&home.path().join("second")).unwrap();
        let first = (running(&first, 1), first);
        let second = (running(&second, 2), second);

        let _first = first.0.announce(&registry).unwrap();
        let announcement = second.0.announce(&registry).unwrap();

        assert_eq!(
            Running::find(&registry),
            [second.0.clone(), first.0.clone()]
        );
        drop(announcement);
        assert_eq!(Running::find(&registry), [first.0]);
    }

    #[test]
    fn one_that_was_killed_is_not_found() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry");
        let data_dir = DataDir::open(&home.path().join("data")).unwrap();
        // As after `kill -9`: the files stay, the lock does not.
        std::mem::forget(running(&data_dir, 1).announce(&registry).unwrap());
        assert_eq!(Running::find(&registry).len(), 1);

        drop(data_dir);

        assert_eq!(Running::find(&registry), []);
        assert_eq!(fs::read_dir(&registry).unwrap().count(), 1);
        // Nor while the next owner of the folder is not ready yet.
        let _data_dir = DataDir::open(&home.path().join("data")).unwrap();
        assert_eq!(Running::find(&registry), []);
    }

    #[test]
    fn a_folder_that_others_could_have_filled_is_not_believed() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry");
        let data_dir = DataDir::open(&home.path().join("data")).unwrap();
        let _announcement = running(&data_dir, 1).announce(&registry).unwrap();
        assert_eq!(Running::find(&registry).len(), 1);

        let open = fs::Permissions::from_mode(0o770);
        fs::set_permissions(data_dir.path(), open).unwrap();

        assert_eq!(Running::find(&registry), []);
    }

    #[test]
    fn a_pointer_to_nothing_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry");
        let data_dir = DataDir::open(&home.path().join("data")).unwrap();
        std::mem::forget(running(&data_dir, 1).announce(&registry).unwrap());

        fs::remove_dir_all(home.path().join("data")).unwrap();

        assert_eq!(Running::find(&registry), []);
        assert_eq!(fs::read_dir(&registry).unwrap().count(), 0);
        assert_eq!(Running::find(&home.path().join("none")), []);
    }
}
