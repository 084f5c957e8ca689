//! Output of functions: taken from engine threads without waiting, written to the feed by a task.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_nats::HeaderMap;
use nex_protocol::{
    LogStream,
    function::{INVOCATION_END_HEADER, INVOCATION_HEADER},
    header_value,
};
use nexlet::LogWriter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{engine::Invocation, invocation::watched};

/// How many lines of one function wait for the connection before further ones are dropped.
const WAITING_LINES: usize = 512;
/// The longest line in bytes; longer ones are cut. With the above it bounds the memory.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// The last character of a cut line and the sign that it is cut, in bytes at most.
const LINE_TAIL_BYTES: usize = 4 + '…'.len_utf8();

/// Where a function's output goes. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct Console {
    inner: Option<Arc<Inner>>,
    /// The invocation that writes here, where somebody looks for its lines.
    watched: Option<Arc<str>>,
}

#[derive(Debug)]
struct Inner {
    lines_tx: mpsc::Sender<Line>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Line {
    what: What,
    /// The invocation that it is of, where somebody looks for it.
    invocation: Option<Arc<str>>,
    /// How many lines were dropped just before this one.
    dropped_before: u64,
}

#[derive(Debug)]
enum What {
    Text(LogStream, String),
    /// No more lines of the invocation come.
    End,
}

/// The writing half of a [`Console`].
#[derive(Debug)]
pub(crate) struct ConsoleWriter {
    lines_rx: mpsc::Receiver<Line>,
    inner: Arc<Inner>,
}

/// The lines of a [recorded](Console::recorded) console.
#[derive(Debug)]
pub struct RecordedLines(mpsc::Receiver<Line>);

impl RecordedLines {
    /// The lines since this was asked, each with the id of its invocation where that is known.
    pub fn take(&mut self) -> Vec<(Option<String>, String)> {
        let lines = std::iter::from_fn(|| self.0.try_recv().ok());
        let texts = lines.filter_map(|line| match line.what {
            What::Text(_, text) => Some((line.invocation.map(|id| id.to_string()), text)),
            What::End => None,
        });
        texts.collect()
    }
}

impl Console {
    /// One that drops everything.
    #[must_use]
    pub fn muted() -> Self {
        Self {
            inner: None,
            watched: None,
        }
    }

    /// A console and what writes its lines.
    pub(crate) fn new() -> (Self, ConsoleWriter) {
        let (lines_tx, lines_rx) = mpsc::channel(WAITING_LINES);
        let inner = Arc::new(Inner {
            lines_tx,
            dropped: AtomicU64::new(0),
        });
        let writer = ConsoleWriter {
            lines_rx,
            inner: Arc::clone(&inner),
        };
        let console = Self {
            inner: Some(inner),
            watched: None,
        };
        (console, writer)
    }

    /// A console whose lines are kept until they are asked for, for tests of engines.
    #[must_use]
    pub fn recorded() -> (Self, RecordedLines) {
        let (console, writer) = Self::new();
        (console, RecordedLines(writer.lines_rx))
    }

    /// Returns the console for the lines of one invocation: they carry its id where its caller gave one.
    #[must_use]
    pub fn for_invocation(&self, invocation: &Invocation) -> Self {
        Self {
            inner: self.inner.clone(),
            watched: watched(&invocation.headers).map(Into::into),
        }
    }

    /// Returns the console for lines of no invocation.
    #[must_use]
    pub fn for_nobody(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            watched: None,
        }
    }

    /// Takes one line. Line breaks in it are shown as `\n`; what is over 8 KiB is cut.
    ///
    /// Where the feed cannot keep up the line is dropped, and the number of dropped lines is
    /// written to stderr in their place.
    pub fn line(&self, stream: LogStream, text: &str) {
        self.send(What::Text(stream, one_line(text)), self.watched.clone());
    }

    /// A line of an invocation that is over.
    pub(crate) fn line_of(&self, invocation: Option<&str>, stream: LogStream, text: &str) {
        let invocation = invocation.map(Into::into);
        self.send(What::Text(stream, one_line(text)), invocation);
    }

    /// Says that all lines of an invocation that somebody looks for are written.
    pub(crate) fn end(&self, invocation: &str) {
        self.send(What::End, Some(invocation.into()));
    }

    fn send(&self, what: What, invocation: Option<Arc<str>>) {
        let Some(inner) = &self.inner else { return };
        let Ok(slot) = inner.lines_tx.try_reserve() else {
            inner.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        slot.send(Line {
            what,
            invocation,
            dropped_before: inner.dropped.swap(0, Ordering::Relaxed),
        });
    }
}

/// The text on one bounded line.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_LINE_BYTES));
    for c in text.chars() {
        if line.len() + LINE_TAIL_BYTES > MAX_LINE_BYTES {
            line.push('…');
            break;
        }
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            c => line.push(c),
        }
    }
    line
}

impl ConsoleWriter {
    /// Writes lines as they come; after `closed`, those that are there, and ends.
    pub(crate) async fn run(mut self, log: LogWriter, closed: CancellationToken) {
        loop {
            let line = tokio::select! {
                biased;
                line = self.lines_rx.recv() => line,
                () = closed.cancelled() => break,
            };
            let Some(line) = line else { break };
            self.write(&log, line).await;
        }
        while let Ok(line) = self.lines_rx.try_recv() {
            self.write(&log, line).await;
        }
    }

    async fn write(&self, log: &LogWriter, line: Line) {
        let headers = line.invocation.as_deref().map(headers);
        notice(log, line.dropped_before, headers.as_ref()).await;
        match line.what {
            What::Text(stream, text) => log.line_with(stream, &text, headers.as_ref()).await,
            What::End => {
                let mut headers = headers.unwrap_or_default();
                headers.insert(INVOCATION_END_HEADER, "true");
                log.mark(&headers).await;
            }
        }
        if self.lines_rx.is_empty() {
            // Nobody knows when the next line will come to carry the number.
            notice(log, self.inner.dropped.swap(0, Ordering::Relaxed), None).await;
        }
    }
}

fn headers(invocation: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(INVOCATION_HEADER, header_value(invocation));
    headers
}

async fn notice(log: &LogWriter, dropped: u64, headers: Option<&HeaderMap>) {
    if dropped > 0 {
        let text = format!("… {dropped} lines dropped");
        log.line_with(LogStream::Stderr, &text, headers).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_bounded() {
        assert_eq!(one_line("a\r\nb"), "a\\r\\nb");
        let long = one_line(&"ü".repeat(MAX_LINE_BYTES));
        assert!(long.len() <= MAX_LINE_BYTES && long.ends_with('…'));
    }

    #[test]
    fn what_finds_no_room_is_counted_with_the_next_line() {
        let (console, mut writer) = Console::new();
        for _ in 0..WAITING_LINES + 3 {
            console.line(LogStream::Stdout, "line");
        }
        assert_eq!(writer.lines_rx.try_recv().unwrap().dropped_before, 0);

        console.line(LogStream::Stdout, "after");

        let last = std::iter::from_fn(|| writer.lines_rx.try_recv().ok()).last();
        assert_eq!(last.unwrap().dropped_before, 3);
    }
}
