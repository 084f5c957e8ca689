//! The server's log, as far as we write and read it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::files::FileError;

/// The most of a log that is read, in bytes from its end.
const TAIL_BYTES: u64 = 16 * 1024;

/// How many lines are shown.
const SHOWN_LINES: usize = 8;

/// Opens the log to write behind its end, as the server does too.
pub(crate) fn open(path: &Path) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(path).map_err(FileError::new("open", path))
}

/// How long the log is now.
pub(crate) fn end(path: &Path) -> u64 {
    path.metadata().map_or(0, |found| found.len())
}

/// What was written since then, or the last of it. A log that cannot be read has nothing to say.
pub(crate) fn since(path: &Path, start: u64) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        // A log that the server has begun anew is shorter.
        let start = if length < start { 0 } else { start };
        file.seek(SeekFrom::Start(
            start.max(length.saturating_sub(TAIL_BYTES)),
        ))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// The last lines: what went wrong is at the end.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

/// The lines as the end of an error's text.
pub(crate) fn quote(lines: &str) -> String {
    if lines.is_empty() {
        ", and says nothing in its log".to_owned()
    } else {
        format!("; the end of its log:\n{lines}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_what_is_new_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        open(&path).unwrap().write_all(b"old\n").unwrap();
        let start = end(&path);

        open(&path).unwrap().write_all(b"one\n\ntwo\n").unwrap();

        assert_eq!(last_lines(&since(&path, start)), "one\ntwo");
        assert_eq!(since(&path, start + 1000), "old\none\n\ntwo\n");
        assert_eq!(since(&folder.path().join("none"), 0), "");
    }
}
