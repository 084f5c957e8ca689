//! Files that are for their owner only, and that are there whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What could not be done with a file or a folder.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} `{}`", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// The next step for the person who sees the error.
    pub const HINT: &'static str =
        "see whether that disk is full or read-only, and who may read and write there";

    pub(crate) fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn into_source(self) -> io::Error {
        self.source
    }
}

/// Replaces a file by one that has these bytes, mode 0600. A crash leaves the old one or the new. A
/// file that is so already stays, which needs no space on disk.
///
/// There must be one writer at a time: who holds the lock of the folder.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if is_written(path, bytes) {
        return Ok(());
    }
    write_whole(path, bytes).map_err(FileError::new("write", path))
}

fn is_written(path: &Path, bytes: &[u8]) -> bool {
    let private = |found: fs::Metadata| found.is_file() && found.mode() & 0o777 == 0o600;
    fs::symlink_metadata(path).is_ok_and(private) && fs::read(path).is_ok_and(|kept| kept == bytes)
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    let temporary = folder.join(temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The name is on disk only when its folder is.
    File::open(folder)?.sync_all()
}

/// Makes a folder for its owner only, and those above it as usual. Nothing changes at one that
/// exists.
pub(crate) fn make_folder(path: &Path) -> Result<(), FileError> {
    let make = || {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        }
    };
    make().map_err(FileError::new("make the folder", path))
}

/// The text of a file; none where there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::new("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old and longer").unwrap();

        write(&path, b"new").unwrap();

        assert_eq!(read(&path).unwrap().as_deref(), Some("new"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_has_the_bytes_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"same").unwrap();
        let inode = || fs::metadata(&path).unwrap().ino();
        let first = inode();

        write(&path, b"same").unwrap();
        assert_eq!(inode(), first);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, b"same").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_new_folder_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");

        make_folder(&path).unwrap();
        make_folder(&path).unwrap();

        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
