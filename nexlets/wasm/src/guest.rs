//! What one run of a guest can see and do: its input, its output, and its bounds.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use nex_functions::{Console, Invocation, Subject};
use nex_protocol::LogStream;
use wasmtime::Memory;

use crate::limits::{Bounds, Ended};

/// The longest line of a log in bytes; the rest of a longer one is dropped.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// The state of one run. A guest has no files and no network: only three streams.
#[derive(Debug)]
pub(crate) struct Guest {
    name: Arc<str>,
    subject: Subject,
    /// `NAME=value`, each.
    pub(crate) environment: Arc<[String]>,
    pub(crate) stdin: Stdin,
    pub(crate) stdout: Stdout,
    pub(crate) stderr: Stderr,
    /// Whether the guest has not closed them.
    pub(crate) open: [bool; 3],
    pub(crate) deadline: Instant,
    pub(crate) bounds: Bounds,
    /// Its memory, once it has been instantiated.
    pub(crate) memory: Option<Memory>,
}

impl Guest {
    pub(crate) fn new(
        name: Arc<str>,
        environment: Arc<[String]>,
        console: Console,
        memory_bytes: usize,
        invocation: &Invocation,
    ) -> Self {
        Self {
            name,
            subject: invocation.subject.clone(),
            environment,
            stdin: Stdin(invocation.payload.clone()),
            stdout: Stdout {
                bytes: Vec::new(),
                max_bytes: invocation.max_result_bytes,
            },
            stderr: Stderr {
                line: Vec::new(),
                console,
            },
            open: [true; 3],
            deadline: invocation.deadline,
            bounds: Bounds { memory_bytes },
            memory: None,
        }
    }

    /// Its arguments: `[name, subject]`.
    pub(crate) fn args(&self) -> [&str; 2] {
        [&self.name, &self.subject]
    }
}

/// What is left of the payload.
#[derive(Debug)]
pub(crate) struct Stdin(Bytes);

impl Stdin {
    /// Fills as much as there is; returns how much that was.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.0.len());
        into[..count].copy_from_slice(&self.0.split_to(count));
        count
    }
}

/// The result so far.
#[derive(Debug)]
pub(crate) struct Stdout {
    bytes: Vec<u8>,
    max_bytes: usize,
}

impl Stdout {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        if bytes.len() > self.max_bytes - self.bytes.len() {
            return Err(Ended::Output(self.max_bytes));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes).into()
    }
}

/// Makes lines of the log.
#[derive(Debug)]
pub(crate) struct Stderr {
    /// The line that has not ended yet.
    line: Vec<u8>,
    console: Console,
}

impl Stderr {
    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end]);
            self.end_line();
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes);
    }

    /// Writes what has no line break behind it.
    pub(crate) fn finish(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        // One byte more than the console shows, so that it marks the line as cut.
        let room = (MAX_LINE_BYTES + 1).saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let text = String::from_utf8_lossy(line);
        self.console.line(LogStream::Stderr, &text);
        self.line.clear();
    }
}
