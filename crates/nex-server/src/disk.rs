//! Space on the disk of a data folder.

use std::fs;
use std::io;
use std::path::Path;

use crate::files::FileError;

/// Bytes that this user may still write to the disk on which a folder is.
///
/// # Errors
/// The system does not tell.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Bytes that streams may take together: what they take, and three quarters of what is free.
///
/// The server's own default leaves out what they take, so that a disk that fills up stops streams
/// that have not grown.
pub(crate) fn room_for_streams(store: &Path, folder: &Path) -> Result<u64, FileError> {
    let free = free_bytes(folder).map_err(FileError::new("look for free space at", folder))?;
    Ok(used_bytes(store) + free / 4 * 3)
}

/// Bytes of all files below a folder; what cannot be read counts as nothing.
fn used_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => used_bytes(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_keep_what_they_have_and_get_a_part_of_the_rest() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("a/b")).unwrap();
        fs::write(home.path().join("a/b/1.blk"), [0; 1000]).unwrap();
        fs::write(home.path().join("a/2.blk"), [0; 10]).unwrap();
        let free = free_bytes(home.path()).unwrap();

        assert_eq!(used_bytes(home.path()), 1010);
        let room = room_for_streams(home.path(), home.path()).unwrap();
        // Other tests write to the disk too.
        assert!(room > 1010 && room < 1010 + free, "{room} of {free}");
    }
}
