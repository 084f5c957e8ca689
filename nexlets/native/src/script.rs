//! Scripts: the interpreter that the first line of a program names.
//!
//! The kernel takes the line as it is. A carriage return at its end is a part of the interpreter's name, or of
//! its argument, and a byte order mark before it makes the file no script at all.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Upper bound of the bytes of a first line that the kernel reads.
const LINE_BYTES: u64 = 256;

/// Upper bound of the scripts that the kernel goes through to a program.
const LEVELS: usize = 5;

/// The reason why no system can run a script.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BrokenScript {
    /// The file was saved with the line breaks of Windows.
    #[error(
        "the script names the interpreter `{}`, with a carriage return at the end",
        .0.escape_debug()
    )]
    CarriageReturn(String),
    /// The file was saved with a byte order mark.
    #[error("the script begins with a byte order mark, not with `#!`")]
    ByteOrderMark,
}

impl BrokenScript {
    /// The next step for its author.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::CarriageReturn(_) => {
                "save it with the line breaks of Unix (LF, not CRLF), as `sed -i 's/\\r$//' FILE` does"
            }
            Self::ByteOrderMark => "save it as UTF-8 without the mark",
        }
    }
}

/// The reason for which an interpreter cannot be executed, and the next step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) text: String,
    pub(crate) hint: &'static str,
}

/// The next step where the first line of a script names something that is no interpreter.
const NAME_ANOTHER: &str =
    "name a program in the first line of the script, as `#!/usr/bin/env python3`";

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

/// Returns `true` for a regular file with an executable bit.
pub(crate) fn is_executable(program: &Path) -> bool {
    let found = program.metadata();
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The reason for which the interpreter of a script cannot be executed, where there is one.
///
/// `otherwise` is that of an interpreter in which nothing wrong is found. A program that is no script has none.
pub(crate) fn interpreter_fault(program: &Path, otherwise: Option<&str>) -> Option<Fault> {
    fault_within(program, otherwise, LEVELS)
}

fn fault_within(program: &Path, otherwise: Option<&str>, levels: usize) -> Option<Fault> {
    let named = interpreter(&first_line(program).ok()?)?;
    let path = named
        .split([' ', '\t'])
        .next()
        .filter(|path| !path.is_empty())?;
    let path = Path::new(path);
    let (why, hint) = match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (
            "which does not exist".to_owned(),
            "install it where the node runs, or name another one in the first line of the script",
        ),
        Err(error) => (
            format!("which cannot be read: {error}"),
            "check who may read it, or name another one in the first line of the script",
        ),
        Ok(found) if found.is_dir() => ("which is a folder".to_owned(), NAME_ANOTHER),
        Ok(_) if !is_executable(path) => (
            "which is no program: want a regular file with the executable bit".to_owned(),
            NAME_ANOTHER,
        ),
        // An interpreter may be a script too.
        Ok(_) => match (check(path), levels) {
            (Err(broken), _) => (format!("which cannot be executed: {broken}"), broken.hint()),
            (Ok(()), 0) => (
                "which is the last of too many scripts".to_owned(),
                NAME_ANOTHER,
            ),
            (Ok(()), _) => match fault_within(path, otherwise, levels - 1) {
                Some(inner) => (
                    format!("which cannot be executed: {}", inner.text),
                    inner.hint,
                ),
                None => (otherwise?.to_owned(), NAME_ANOTHER),
            },
        },
    };
    let named = named.escape_debug();
    let text = format!("the script names the interpreter `{named}`, {why}");
    Some(Fault { text, hint })
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
        let broken = check(file.path()).err()?;
        Some(format!("{broken}; {}", broken.hint()))
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
    fn the_fault_of_an_interpreter_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.display().to_string()
        };
        let crlf = script("crlf", "#!/bin/sh\r\n");
        let plain = script("plain", "text");
        for (interpreter, reason) in [
            ("/tmp", "`/tmp`, which is a folder"),
            ("/etc/passwd -e", "`/etc/passwd -e`, which is no program"),
            ("/opt/none/bash", "which does not exist"),
            (
                &crlf,
                "which cannot be executed: the script names the interpreter `/bin/sh\\r`",
            ),
            (&plain, "which is bad"),
        ] {
            let outer = script("outer", &format!("#!{interpreter}\n"));
            let fault = interpreter_fault(Path::new(&outer), Some("which is bad")).unwrap();
            assert!(fault.text.contains(reason), "{fault:?}");
            assert_eq!(
                fault.hint.contains("CRLF"),
                interpreter == crlf,
                "{fault:?}"
            );
        }
        let good = script("good", "#!/bin/sh\n");
        assert_eq!(interpreter_fault(Path::new(&good), None), None);
        assert_eq!(interpreter_fault(Path::new("/bin/sh"), Some("bad")), None);
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
