//! Working folders. Everything here blocks.
//!
//! ```text
//! <data folder>/workloads/<id>/     HOME and working folder, for its owner alone
//!                            tmp/   TMPDIR
//!                           .nex/   the program, its credentials, which process supervises it,
//!                                   how the process of a job ended
//! ```

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nex_process::{Exit, Identity};
use nex_protocol::WorkloadId;
use tracing::warn;

/// Where in a working folder its supervisor is written down.
const SUPERVISOR: &str = ".nex/supervisor.json";

/// The path in a working folder where the supervisor of a job records the exit.
const EXIT: &str = ".nex/exit.json";

/// The folder of one workload.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder, which must not exist unless the workload ran before.
    pub(crate) fn create(path: PathBuf) -> io::Result<Self> {
        for dir in [path.clone(), path.join("tmp"), path.join(".nex")] {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the credentials, for the workload's own programs.
    pub(crate) fn write_creds(&self, text: &str) -> io::Result<PathBuf> {
        let path = self.0.join(".nex/workload.creds");
        remove_if_there(&path)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }

    /// Writes down which process will outlive the workload's own, should this nexlet be killed.
    pub(crate) fn write_supervisor(&self, supervisor: &Identity) -> io::Result<()> {
        let text = serde_json::to_vec(supervisor)?;
        fs::write(self.0.join(SUPERVISOR), text)
    }

    /// The file in which the supervisor of a job records its exit.
    pub(crate) fn exit_file(&self) -> PathBuf {
        self.0.join(EXIT)
    }

    /// Takes a program from the cache, so that it is there also when the cache forgets it.
    pub(crate) fn take_program(&self, cached: &Path, name: &str) -> io::Result<PathBuf> {
        let path = self.0.join(".nex").join(file_name(name));
        remove_if_there(&path)?;
        // A link costs nothing; some file systems have none.
        if fs::hard_link(cached, &path).is_err() {
            fs::copy(cached, &path)?;
        }
        Ok(path)
    }
}

/// Deletes the folders that a predecessor left.
pub(crate) fn remove_leftovers(dir: &Path) {
    for path in leftovers(dir) {
        remove(&path);
    }
}

/// The supervisors of workloads that a predecessor left; they may still be ending them.
pub(crate) fn left_supervisors(dir: &Path) -> Vec<Identity> {
    let read = |path: PathBuf| {
        let text = fs::read(path.join(SUPERVISOR)).ok()?;
        serde_json::from_slice(&text).ok()
    };
    leftovers(dir).into_iter().filter_map(read).collect()
}

/// The recorded exits of jobs whose end a predecessor may not have reported.
pub(crate) fn left_exits(dir: &Path) -> HashMap<WorkloadId, Exit> {
    let read = |path: PathBuf| {
        let id = WorkloadId::new(path.file_name()?.to_str()?).ok()?;
        Some((id, Exit::read(&path.join(EXIT))?))
    };
    leftovers(dir).into_iter().filter_map(read).collect()
}

fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            warn!(dir = %dir.display(), %error, "cannot look for old working folders");
            return Vec::new();
        }
    };
    entries.flatten().map(|entry| entry.path()).collect()
}

/// Deletes a folder and all that is in it; what cannot be deleted is logged.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(path = %path.display(), %error, "a working folder is not deleted");
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A workload's name as the name of a file, for process lists.
fn file_name(name: &str) -> String {
    const MAX_BYTES: usize = 64;
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') {
            c
        } else {
            '-'
        }
    };
    let name: String = name.chars().take(MAX_BYTES).map(safe).collect();
    if name.is_empty() {
        "program".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_folder_and_its_credentials_are_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::create(dir.path().join("w/w1")).unwrap();

        let creds = folder.write_creds("secret").unwrap();

        assert_eq!((mode(folder.path()), mode(&creds)), (0o700, 0o600));
        remove(folder.path());
        assert!(!dir.path().join("w/w1").exists());
    }

    #[test]
    fn a_program_survives_the_cache_whatever_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let cached = dir.path().join("cached");
        fs::write(&cached, "program").unwrap();
        let folder = Folder::create(dir.path().join("w1")).unwrap();

        let program = folder.take_program(&cached, "../we b/").unwrap();
        fs::remove_file(&cached).unwrap();

        assert_eq!(program.parent().unwrap(), folder.path().join(".nex"));
        assert_eq!(fs::read(program).unwrap(), b"program");
    }

    #[test]
    fn leftovers_go() {
        let dir = tempfile::tempdir().unwrap();
        Folder::create(dir.path().join("old")).unwrap();

        remove_leftovers(dir.path());
        remove_leftovers(&dir.path().join("missing"));

        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
