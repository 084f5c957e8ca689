//! Scripts: the interpreter that the first line of a program names.
//!
//! The kernel takes the line as it is. A carriage return at its end is a part of the interpreter's name, or of
//! its argument, and a byte order mark before it makes the file no script at all.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// Upper bound of the bytes of a first line that the kernel reads.
const LINE_BYTES: u64 = 256;

/// The reason why no system can run a script.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BrokenScript {
    /// The file was saved with the line breaks of Windows.
    #[error(
        "the script names the interpreter `{}`, with a carriage return at the end: save it with the line breaks of Unix (LF, not CRLF)",
        .0.escape_debug()
    )]
    CarriageReturn(String),
    /// The file was saved with a byte order mark.
    #[error(
        "the script begins with a byte order mark, not with `#!`: save it as UTF-8 without one"
    )]
    ByteOrderMark,
}

/// Checks the first line of a program. One that is no script, or cannot be read, is left to the kernel.
pub(crate) fn check(program: &Path) -> Result<(), BrokenScript> {
    let Ok(line) = first_line(program) else {
        return Ok(());
    };
    if line.starts_with(b"\xef\xbb\xbf#!") {
        return Err(BrokenScript::ByteOrderMark);
    }
    match interpreter(&line) {
        Some(named) if named.ends_with('\r') => Err(BrokenScript::CarriageReturn(named)),
        _ => Ok(()),
    }
}

/// The interpreter and its argument that a script names.
pub(crate) fn interpreter_of(program: &Path) -> Option<String> {
    interpreter(&first_line(program).ok()?)
}

fn interpreter(line: &[u8]) -> Option<String> {
    let named = String::from_utf8_lossy(line.strip_prefix(b"#!")?).into_owned();
    Some(named.trim_matches([' ', '\t']).to_owned())
}

fn first_line(program: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for somebody to write to it.
    if !program.metadata()?.is_file() {
        return Ok(Vec::new());
    }
    let mut line = Vec::new();
    File::open(program)?
        .take(LINE_BYTES)
        .read_to_end(&mut line)?;
    let end = line.iter().position(|byte| *byte == b'\n');
    line.truncate(end.unwrap_or(line.len()));
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(bytes: &[u8]) -> Option<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        check(file.path()).err().map(|error| error.to_string())
    }

    #[test]
    fn a_script_of_an_editor_of_windows_is_named_with_its_interpreter() {
        for (text, named) in [
            ("#!/bin/sh\r\nexit 0\r\n", r"`/bin/sh\r`"),
            ("#! /usr/bin/env python3\r\n", r"`/usr/bin/env python3\r`"),
            ("#!/bin/sh -e\r", r"`/bin/sh -e\r`"),
        ] {
            let text = checked(text.as_bytes()).unwrap();
            assert!(text.contains(named) && text.contains("CRLF"), "{text}");
        }
        let marked = checked("\u{feff}#!/bin/sh\n".as_bytes()).unwrap();
        assert!(marked.contains("byte order mark"), "{marked}");
    }

    #[test]
    fn other_programs_are_left_to_the_kernel() {
        for bytes in [
            &b"#!/bin/sh\nexit 0\r\n"[..],
            b"\x7fELF\r\n",
            b"",
            b"\xef\xbb\xbftext\r\n",
        ] {
            assert_eq!(checked(bytes), None, "{bytes:?}");
        }
        assert_eq!(check(Path::new("/nowhere")), Ok(()));
        assert_eq!(check(Path::new("/tmp")), Ok(()));
    }
}
