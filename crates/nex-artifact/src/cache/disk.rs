//! The files of the cache. Everything here blocks.
//!
//! The time of a file's last access is the time of its last use; that of its last change tells
//! whether its content was checked.

use std::{
    fs::{self, DirBuilder, File, FileTimes, Permissions},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::NamedTempFile;

use crate::digest::Digest;

/// What the names of files begin with that are not complete.
const PART_PREFIX: &str = ".part-";
/// After how long an incomplete file is one that a crash left behind.
const PART_AGE: Duration = Duration::from_secs(24 * 3600);

/// A new file that is not complete yet. Dropped, it is deleted.
pub(super) fn new_part(dir: &Path) -> io::Result<NamedTempFile> {
    make_dir(dir)?;
    tempfile::Builder::new()
        .prefix(PART_PREFIX)
        .tempfile_in(dir)
}

#[cfg(unix)]
fn make_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(not(unix))]
fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(dir)
}

/// Closes a complete file and gives it its name. Answers when it was last changed.
pub(super) fn publish(part: NamedTempFile, path: &Path) -> io::Result<SystemTime> {
    // A name without its content, after a power cut, would be found wrong and fetched again; one
    // with half of it too. Syncing spares the check of that at each start.
    part.as_file().sync_all()?;
    let part = part.into_temp_path();
    set_mode(&part, false)?;
    part.persist(path).map_err(|error| error.error)?;
    fs::metadata(path)?.modified()
}

/// The time of a file's last change if it has that digest; a file that has not is deleted.
/// `checked` is the time of the change that was checked before.
pub(super) fn check(
    path: &Path,
    digest: Digest,
    size: u64,
    checked: Option<SystemTime>,
) -> io::Result<Option<SystemTime>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let changed = metadata.modified()?;
    if metadata.len() == size
        && (checked == Some(changed) || Digest::of_file(path)? == (digest, size))
    {
        return Ok(Some(changed));
    }
    fs::remove_file(path)?;
    Ok(None)
}

/// Notes that a file is used now, and makes it executable where that is wanted.
pub(super) fn mark_used(dir: &Path, path: &Path, executable: bool) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        // Evicted in this moment by a fetch of something else.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "the cache in `{}` is too small for what is used at a time",
                    dir.display()
                ),
            ));
        }
        Err(error) => return Err(error),
    };
    file.set_times(FileTimes::new().set_accessed(SystemTime::now()))?;
    if executable {
        set_mode(path, true)?;
    }
    Ok(())
}

#[cfg(unix)]
fn set_mode(path: &Path, executable: bool) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = if executable { 0o500 } else { 0o400 };
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(path: &Path, _executable: bool) -> io::Result<()> {
    let mut permissions: Permissions = fs::metadata(path)?.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(path, permissions)
}

struct Entry {
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

/// Deletes what was not used for longest until the rest is within the limit. What runs goes on:
/// a deleted file lives until its last user ends.
pub(super) fn evict(dir: &Path, keep: &Path, limit_bytes: u64) -> io::Result<()> {
    let mut entries = Vec::new();
    let mut total = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if is_part(&path) {
            remove_if_old(&path, &metadata);
            continue;
        }
        total += metadata.len();
        if path != keep {
            let used = metadata.accessed().unwrap_or(SystemTime::UNIX_EPOCH);
            entries.push(Entry {
                path,
                size: metadata.len(),
                used,
            });
        }
    }
    entries.sort_by_key(|entry| entry.used);
    for entry in entries {
        if total <= limit_bytes {
            break;
        }
        // Somebody else may have deleted it first.
        fs::remove_file(&entry.path).ok();
        total -= entry.size;
    }
    Ok(())
}

fn is_part(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(PART_PREFIX))
}

fn remove_if_old(path: &Path, metadata: &fs::Metadata) {
    let age = metadata
        .modified()
        .ok()
        .and_then(|modified| modified.elapsed().ok());
    if age.is_some_and(|age| age > PART_AGE) {
        fs::remove_file(path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};
    use std::io::Write as _;

    fn put(dir: &Path, content: &[u8], used_ago: u64) -> (PathBuf, Digest) {
        let mut part = new_part(dir).unwrap();
        part.write_all(content).unwrap();
        let digest = Digest::of(Sha256::new_with_prefix(content));
        let path = dir.join(digest.to_string());
        publish(part, &path).unwrap();
        let used = SystemTime::now() - Duration::from_secs(used_ago);
        File::open(&path)
            .unwrap()
            .set_times(FileTimes::new().set_accessed(used))
            .unwrap();
        (path, digest)
    }

    #[test]
    fn the_longest_unused_goes_first_and_the_newest_never() {
        let dir = tempfile::tempdir().unwrap();
        let (old, _) = put(dir.path(), &[1; 100], 300);
        let (middle, _) = put(dir.path(), &[2; 100], 200);
        let (new, _) = put(dir.path(), &[3; 100], 100);

        evict(dir.path(), &new, 200).unwrap();
        assert!(!old.exists() && middle.exists() && new.exists());

        evict(dir.path(), &new, 0).unwrap();
        assert!(!middle.exists() && new.exists());
    }

    #[test]
    fn a_file_that_was_changed_is_found_out_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let (path, digest) = put(dir.path(), b"content", 0);
        let checked = check(&path, digest, 7, None).unwrap();
        assert!(checked.is_some());

        fs::remove_file(&path).unwrap();
        fs::write(&path, b"CONTENT").unwrap();
        let later = SystemTime::now() + Duration::from_secs(1);
        File::open(&path)
            .unwrap()
            .set_times(FileTimes::new().set_modified(later))
            .unwrap();

        assert_eq!(check(&path, digest, 7, checked).unwrap(), None);
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_cached_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = put(dir.path(), b"content", 0);
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;

        assert_eq!(mode(), 0o400);
        mark_used(dir.path(), &path, true).unwrap();
        assert_eq!(mode(), 0o500);
    }
}
