//! Output of functions: taken from engine threads without waiting, written to the feed by a task.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use nex_protocol::LogStream;
use nexlet::LogWriter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many lines of one function wait for the connection before further ones are dropped.
const WAITING_LINES: usize = 512;
/// The longest line in bytes; longer ones are cut. With the above it bounds the memory.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// The last character of a cut line and the sign that it is cut, in bytes at most.
const LINE_TAIL_BYTES: usize = 4 + '…'.len_utf8();

/// Where a function's output goes. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct Console(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    lines_tx: mpsc::Sender<Line>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Line {
    stream: LogStream,
    text: String,
    /// How many lines were dropped just before this one.
    dropped_before: u64,
}

/// The writing half of a [`Console`].
#[derive(Debug)]
pub(crate) struct ConsoleWriter {
    lines_rx: mpsc::Receiver<Line>,
    inner: Arc<Inner>,
}

impl Console {
    /// One that drops everything.
    #[must_use]
    pub fn muted() -> Self {
        Self(None)
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
        (Self(Some(inner)), writer)
    }

    /// Takes one line. Line breaks in it are shown as `\n`; what is over 8 KiB is cut.
    ///
    /// Where the feed cannot keep up the line is dropped, and the number of dropped lines is
    /// written to stderr in their place.
    pub fn line(&self, stream: LogStream, text: &str) {
        let Some(inner) = &self.0 else { return };
        let Ok(slot) = inner.lines_tx.try_reserve() else {
            inner.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        slot.send(Line {
            stream,
            text: one_line(text),
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
        notice(log, line.dropped_before).await;
        log.line(line.stream, &line.text).await;
        if self.lines_rx.is_empty() {
            // Nobody knows when the next line will come to carry the number.
            notice(log, self.inner.dropped.swap(0, Ordering::Relaxed)).await;
        }
    }
}

async fn notice(log: &LogWriter, dropped: u64) {
    if dropped > 0 {
        log.line(LogStream::Stderr, &format!("… {dropped} lines dropped"))
            .await;
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
