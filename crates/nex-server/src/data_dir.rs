//! The data folder of a node: who may use it, and where in it things are.
//!
//! ```text
//! <data>/                 0700
//!   nex.lock              held while somebody uses the folder; its pid is inside
//!   identities.json       the keys, made once
//!   port                  the port that "any free port" became
//!   running.json          how to reach it, from when it is ready; phase.json: why it is not now
//!   expected.json         how to reach it probably, while there is no running.json
//!   cli.creds             for whoever may read this folder
//!   nats-server.conf      written at each start; .log and .pid are the server's
//!   server.json           the server's process, to find it after a crash of ours
//!   ports/                where the server says on which port it listens
//!   nats/accounts/        account JWTs; the server changes them
//!   nats/jetstream/       what JetStream keeps
//! ```
//! Other parts of a node have folders of their own in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::files::{self, FileError};
use crate::identities::{Identities, IdentitiesError};
use crate::running;

/// The file by which a folder is known to be ours.
const LOCK_FILE: &str = "nex.lock";

/// How often a lock that is held is tried, and the pause between. Whoever looks whether we run
/// holds it for a moment, and so does a fork of a process that was just killed.
const LOCK_TRIES: u32 = 15;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made or written to.
    #[error("the data folder `{}` is not writable", path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is something else of that name.
    #[error("`{}` is not a folder", path.display())]
    NotAFolder {
        /// What is there.
        path: PathBuf,
    },
    /// Others than the owner have access; the folder has keys in it.
    #[error("the data folder `{}` is open to others: mode {mode:03o}, want 700", path.display())]
    TooOpen {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("the data folder `{}` belongs to another user", path.display())]
    OtherOwner {
        /// The folder.
        path: PathBuf,
    },
    /// It has files in it and none by which we know it.
    #[error("the folder `{}` is not empty and not a data folder of nex", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error("the data folder `{}` is in use{}", path.display(), by(*pid))]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process, where it has said so.
        pid: Option<u32>,
    },
    /// Its name cannot stand in the server's configuration.
    #[error("the path `{}` of the data folder is not UTF-8", path.display())]
    NotText {
        /// The folder.
        path: PathBuf,
    },
    /// The keys are not there.
    #[error(transparent)]
    Identities(#[from] IdentitiesError),
    /// A file in it cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

fn by(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}

impl DataDirError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let elsewhere = "choose another folder with `--data-dir`";
        match self {
            Self::NotWritable { .. } | Self::NotAFolder { .. } | Self::NotText { .. } => {
                elsewhere.to_owned()
            }
            Self::TooOpen { path, .. } => format!("type: chmod 700 {}", shell_word(path)),
            Self::OtherOwner { .. } => format!("run as the owner of the folder, or {elsewhere}"),
            Self::Foreign { .. } => "give a new or an empty folder with `--data-dir`".to_owned(),
            Self::Locked { .. } => {
                format!("`nex up` runs there already: stop it first, or {elsewhere}")
            }
            Self::Identities(IdentitiesError::Damaged { .. }) => format!(
                "put the file back from a copy; or {elsewhere}: a new node, with nothing of the old"
            ),
            Self::Identities(IdentitiesError::Seed(_)) => {
                "the system gave no random bytes: try again".to_owned()
            }
            Self::Identities(IdentitiesError::File(_)) | Self::File(_) => {
                FileError::HINT.to_owned()
            }
        }
    }
}

/// A path as one word that a shell reads.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A data folder that this process alone uses, until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identities: Identities,
    /// The lock goes when it is closed.
    _lock: File,
}

/// Who the node of a folder is. `Debug` shows no seed.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The public server nkey: the node's id.
    pub public: String,
    /// The seed of the server nkey.
    pub seed: String,
    /// The seed of the curve key, for environments that are sealed for the node.
    pub curve_seed: String,
}

impl std::fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NodeIdentity").field(&self.public).finish()
    }
}

/// The account of a folder's applications. `Debug` shows no seed.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The public account nkey.
    pub public: String,
    /// The seed of the key that signs its users.
    pub signing_seed: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Account").field(&self.public).finish()
    }
}

impl DataDir {
    /// Takes a folder for this process: makes it where it is missing, locks it, and makes its keys
    /// the first time.
    ///
    /// It may block for a third of a second where another process holds the lock.
    ///
    /// # Errors
    /// The folder is not for us, or not for us alone, or in use.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let not_writable = |source| DataDirError::NotWritable {
            path: path.to_owned(),
            source,
        };
        if path.exists() && !path.is_dir() {
            return Err(DataDirError::NotAFolder {
                path: path.to_owned(),
            });
        }
        files::make_folder(path).map_err(|error| not_writable(error.into_source()))?;
        let path = path.canonicalize().map_err(not_writable)?;
        if path.to_str().is_none() {
            return Err(DataDirError::NotText { path });
        }
        check_access(&path)?;
        let lock = lock(&path)?;
        running::forget_last(&path);
        let identities = Identities::load_or_create(&path.join("identities.json"))?;
        Ok(Self {
            path,
            identities,
            _lock: lock,
        })
    }

    /// The folder: absolute, without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who the node is; the same for as long as the folder exists.
    #[must_use]
    pub fn node_identity(&self) -> NodeIdentity {
        NodeIdentity {
            public: self.identities.node.public_key(),
            seed: self.identities.stored.node.clone(),
            curve_seed: self.identities.stored.node_curve.clone(),
        }
    }

    /// The account of the applications; the same for as long as the folder exists.
    #[must_use]
    pub fn account(&self) -> Account {
        Account {
            public: self.identities.account.public_key(),
            signing_seed: self.identities.stored.account_signing_key.clone(),
        }
    }

    pub(crate) fn identities(&self) -> &Identities {
        &self.identities
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn check_access(path: &Path) -> Result<(), DataDirError> {
    let found = fs::metadata(path).map_err(FileError::new("look at", path))?;
    if !is_own(&found) {
        return Err(DataDirError::OtherOwner {
            path: path.to_owned(),
        });
    }
    // Before its mode, for nobody should be told to change that of a folder that is not of nex.
    if !path.join(LOCK_FILE).exists() {
        let mut files = fs::read_dir(path).map_err(FileError::new("list", path))?;
        // Another `nex up` may have made the lock since; then the folder is ours too.
        if files.next().is_some() && !path.join(LOCK_FILE).exists() {
            return Err(DataDirError::Foreign {
                path: path.to_owned(),
            });
        }
    }
    if !is_closed(&found) {
        return Err(DataDirError::TooOpen {
            path: path.to_owned(),
            mode: found.mode() & 0o777,
        });
    }
    Ok(())
}

fn is_own(folder: &fs::Metadata) -> bool {
    folder.uid() == rustix::process::geteuid().as_raw()
}

fn is_closed(folder: &fs::Metadata) -> bool {
    folder.mode() & 0o077 == 0
}

/// Whether what is in a folder can only be from us.
pub(crate) fn is_trusted(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| is_own(&found) && is_closed(&found))
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let file = path.join(LOCK_FILE);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file)
        .map_err(|source| DataDirError::NotWritable {
            path: path.to_owned(),
            source,
        })?;
    for tries_left in (0..LOCK_TRIES).rev() {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tries_left > 0 => pause(),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                lock.read_to_string(&mut text).ok();
                return Err(DataDirError::Locked {
                    path: path.to_owned(),
                    pid: text.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => {
                return Err(FileError::new("lock", &file)(source).into());
            }
        }
    }
    let write = |lock: &mut File| {
        lock.set_len(0)?;
        lock.rewind()?;
        lock.write_all(format!("{}\n", std::process::id()).as_bytes())
    };
    write(&mut lock).map_err(FileError::new("write", &file))?;
    Ok(lock)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the folder is opened before anything else runs"
)]
fn pause() {
    std::thread::sleep(LOCK_PAUSE);
}

/// Whether a process holds the lock of a data folder.
pub(crate) fn in_use(path: &Path) -> bool {
    let Ok(lock) = File::open(path.join(LOCK_FILE)) else {
        return false;
    };
    // A shared lock, so that several who look do not see each other.
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_folder_is_made_and_keeps_its_node() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state/nex");

        let (node, account) = {
            let data = DataDir::open(&path).unwrap();
            (data.node_identity(), data.account())
        };
        let again = DataDir::open(&path).unwrap();

        assert_eq!(again.node_identity(), node);
        assert_eq!(again.account(), account);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for file in ["nex.lock", "identities.json"] {
            assert_eq!(mode(&path.join(file)), 0o600, "{file}");
        }
    }

    #[test]
    fn a_second_process_is_told_who_has_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("data");
        let data = DataDir::open(&path).unwrap();

        let error = DataDir::open(&path).unwrap_err();

        assert!(
            matches!(error, DataDirError::Locked { pid: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        assert!(error.hint().contains("stop it first"));
        assert!(in_use(&path));
        drop(data);
        assert!(!in_use(&path));
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let home = tempfile::tempdir().unwrap();
        for mode in [0o755, 0o710, 0o704] {
            chmod(home.path(), mode);

            let error = DataDir::open(home.path()).unwrap_err();

            assert!(
                matches!(error, DataDirError::TooOpen { mode: seen, .. } if seen == mode),
                "{error}"
            );
            assert!(error.hint().starts_with("type: chmod 700 /"));
            assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_folder_of_somebody_elses_files_is_refused() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("thesis.tex"), "").unwrap();

        let error = DataDir::open(home.path()).unwrap_err();

        assert!(matches!(error, DataDirError::Foreign { .. }), "{error}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_or_a_place_below_one_is_no_folder() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();

        let at = DataDir::open(&file).unwrap_err();
        let below = DataDir::open(&file.join("x")).unwrap_err();

        assert!(matches!(at, DataDirError::NotAFolder { .. }), "{at}");
        assert!(matches!(below, DataDirError::NotWritable { .. }), "{below}");
        assert!(below.hint().contains("--data-dir"));
    }

    #[test]
    fn a_hint_can_be_pasted() {
        assert_eq!(shell_word(Path::new("/a/b-c.d")), "/a/b-c.d");
        assert_eq!(shell_word(Path::new("/it's a/b")), r"'/it'\''s a/b'");
    }
}
