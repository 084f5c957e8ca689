//! Looks at the file that is to be deployed.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use super::detect::HEAD_BYTES;
use crate::error::CommandError;

/// The beginning of a file that can be deployed.
pub(super) struct Head {
    pub(super) bytes: Vec<u8>,
    pub(super) size_bytes: u64,
}

impl Head {
    /// Reads it.
    ///
    /// # Errors
    /// When it cannot be read, or is no regular file with something in it.
    pub(super) fn read(path: &Path) -> Result<Self, CommandError> {
        let failed = |error| unreadable(path, &error);
        let refused = |what: &str, hint: &str| {
            let file = path.display();
            Err(CommandError::failed(format!("failed to deploy `{file}`: {what}")).hint(hint))
        };
        // Before it is opened: opening a pipe would wait for somebody to write to it.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return refused("it is no regular file", "copy it into a file first");
        }
        if metadata.len() == 0 {
            return refused("it is empty", "was it saved, or built?");
        }
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        let file = File::open(path).map_err(failed)?;
        file.take(HEAD_BYTES as u64)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        Ok(Self {
            bytes,
            size_bytes: metadata.len(),
        })
    }
}

fn unreadable(path: &Path, error: &io::Error) -> CommandError {
    let told = CommandError::failed(format!("failed to read `{}`", path.display())).because(error);
    match error.kind() {
        io::ErrorKind::NotFound if path.is_relative() => {
            told.hint("check the path: it is looked for in the folder where `nex` was started")
        }
        io::ErrorKind::PermissionDenied => {
            told.hint("`ls -l` shows who may read it; so must be every folder on the way")
        }
        _ => told.hint("check the path"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_with_something_in_it_can_be_deployed() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        let full = dir.path().join("full");
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&full, "#!/bin/sh\nexit 0\n").unwrap();

        let refused = |path: &Path| match Head::read(path) {
            Ok(_) => panic!("`{}` can be deployed", path.display()),
            Err(error) => error.text(),
        };
        for (path, wanted) in [
            (dir.path().join("gone"), "failed to read `"),
            (empty, "it is empty"),
            ("/dev/null".into(), "no regular file"),
        ] {
            let text = refused(&path);
            assert!(text.contains(wanted), "{text}");
            assert!(text.contains("\n\nhint: "), "{text}");
        }
        assert!(refused(Path::new("gone.js")).contains("where `nex` was started"));
        let head = Head::read(&full).unwrap();
        assert_eq!(
            (head.bytes.as_slice(), head.size_bytes),
            (b"#!/bin/s".as_slice(), 17)
        );
    }
}
