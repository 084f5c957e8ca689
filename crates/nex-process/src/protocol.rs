//! What an owner and its supervisor say to each other: one JSON value a line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::Exit;

/// The longest line that either side takes. The kernel takes no more than a few
/// megabytes of arguments and environment, so a longer one is a fault.
pub(crate) const MAX_LINE_BYTES: usize = 32 * 1024 * 1024;

/// A string of the operating system; almost always it is plain text.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Text {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl From<&OsStr> for Text {
    fn from(value: &OsStr) -> Self {
        match value.to_str() {
            Some(text) => Self::Utf8(text.to_owned()),
            None => Self::Bytes(value.as_bytes().to_vec()),
        }
    }
}

impl From<Text> for OsString {
    fn from(value: Text) -> Self {
        match value {
            Text::Utf8(text) => Self::from(text),
            Text::Bytes(bytes) => Self::from_vec(bytes),
        }
    }
}

/// The first line to a supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) program: Text,
    pub(crate) args: Vec<Text>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: Text,
    pub(crate) orphan_grace: Duration,
    /// The file in which the exit of the main process is recorded.
    pub(crate) exit_file: Option<Text>,
}

/// Every later line to a supervisor.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Ask to end, and kill at the end of the grace.
    Stop { grace: Duration },
    /// Kill at once.
    Kill,
}

/// A line from a supervisor.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The program runs.
    Started { pid: u32 },
    /// The program could not be started; the supervisor ends.
    Failed(Failure),
    /// The main process ended; what is left of its tree is being killed.
    Exited(Exit),
    /// Nothing of the tree is left; the supervisor ends.
    Gone,
}

/// Why a program could not be started.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    /// The error of the system, where there is one.
    pub(crate) errno: Option<i32>,
    pub(crate) message: String,
}

/// What the supervisor was about to do when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Set itself up.
    Setup,
    /// Look at the working folder.
    WorkingFolder,
    /// Find what the program's first line, or its ELF header, names.
    Interpreter,
    /// Execute the program.
    Execute,
}

impl Failure {
    pub(crate) fn new(stage: Stage, error: &std::io::Error) -> Self {
        Self {
            stage,
            errno: error.raw_os_error(),
            message: error.to_string(),
        }
    }

    /// The same error on the owner's side.
    pub(crate) fn into_error(self) -> std::io::Error {
        match self.errno {
            Some(errno) => std::io::Error::from_raw_os_error(errno),
            None => std::io::Error::other(self.message),
        }
    }
}

/// One value as a line.
pub(crate) fn encode<T: Serialize>(value: &T) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Bytes that came in, cut into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    /// Takes what was read.
    ///
    /// # Errors
    /// A line that is longer than [`MAX_LINE_BYTES`].
    pub(crate) fn push(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.buffer.len() + bytes.len() > MAX_LINE_BYTES {
            return Err(std::io::Error::other("a control line is too long"));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next complete line as a value, if it has come.
    ///
    /// # Errors
    /// A line that is not such a value.
    pub(crate) fn next<T: serde::de::DeserializeOwned>(&mut self) -> std::io::Result<Option<T>> {
        let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let value = serde_json::from_slice(&self.buffer[..end]);
        self.buffer.drain(..=end);
        // The first line can be large and nothing after it is.
        self.buffer.shrink_to(256);
        Ok(Some(value?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_wherever_the_reads_ended() {
        let orders = [
            Order::Stop {
                grace: Duration::from_millis(1500),
            },
            Order::Kill,
        ];
        let bytes: Vec<u8> = orders
            .iter()
            .flat_map(|order| encode(order).unwrap())
            .collect();

        for size in 1..bytes.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for chunk in bytes.chunks(size) {
                lines.push(chunk).unwrap();
                while let Some(order) = lines.next::<Order>().unwrap() {
                    seen.push(order);
                }
            }
            assert_eq!(seen, orders, "reads of {size} bytes");
        }
    }

    #[test]
    fn a_string_that_is_not_text_survives_the_channel() {
        for bytes in [&b"plain"[..], b"\xff\xfe not text", b""] {
            let text = Text::from(OsStr::from_bytes(bytes));
            let line = encode(&text).unwrap();
            let back: Text = serde_json::from_slice(&line).unwrap();
            assert_eq!(OsString::from(back).as_bytes(), bytes);
        }
    }

    #[test]
    fn a_line_that_is_no_order_is_an_error() {
        let mut lines = Lines::default();
        lines.push(b"{\"reboot\":1}\n").unwrap();
        assert!(lines.next::<Order>().is_err());
    }
}
