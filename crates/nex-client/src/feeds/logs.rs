//! What workloads print.

use std::{collections::VecDeque, fmt};

use futures_util::{Stream, stream::unfold};
use jiff::Timestamp;
use nex_protocol::{LogStream, Namespace, Subject, WorkloadId, subject::pattern};
use tokio::time::timeout;

use super::{
    lines::{Line, Lines},
    reader::{FeedError, FeedReader, FeedSource},
};
use crate::{client::Client, limits};

/// Which lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Of this namespace instead of the client's; `system` means all.
    pub namespace: Option<Namespace>,
    /// Of this workload alone.
    pub id: Option<WorkloadId>,
    /// From this time on; all that are kept where it is not set.
    pub since: Option<Timestamp>,
    /// Whether to go on with what is printed from now on, or end where now is.
    pub follow: bool,
}

/// A line that a workload printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When the server got its first byte.
    pub time: Timestamp,
    /// The tenant.
    pub namespace: Namespace,
    /// The workload.
    pub id: WorkloadId,
    /// Which output.
    pub stream: LogStream,
    /// The text, without the line's end. What is not UTF-8 is replaced.
    pub line: String,
}

/// Lines as they come.
pub struct Logs {
    reader: FeedReader,
    lines: Lines,
    ready: VecDeque<LogLine>,
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs")
            .field("source", &self.reader.kind())
            .finish_non_exhaustive()
    }
}

fn filter(namespace: &Namespace, id: Option<&WorkloadId>) -> String {
    match id {
        Some(id) if namespace.is_system() => format!("$NEX.FEED.*.logs.{id}.*"),
        Some(id) => format!("$NEX.FEED.{namespace}.logs.{id}.*"),
        None => pattern::logs(namespace),
    }
}

impl Client {
    /// Reads logs. When this returns, nothing that is printed from now on is missed.
    ///
    /// Without the stream of the feeds and without `follow` there is nothing to read;
    /// [`Logs::source`] tells.
    ///
    /// # Errors
    /// When reading cannot begin.
    pub async fn logs(&self, query: &LogQuery) -> Result<Logs, FeedError> {
        let namespace = query.namespace.as_ref().unwrap_or(&self.namespace);
        let filter = filter(namespace, query.id.as_ref());
        Ok(Logs {
            reader: FeedReader::open(self, filter, query.since, query.follow).await?,
            lines: Lines::default(),
            ready: VecDeque::new(),
        })
    }
}

fn parse(line: Line) -> Option<LogLine> {
    let Some(Subject::Logs(namespace, id, stream)) = Subject::parse(&line.subject) else {
        return None;
    };
    Some(LogLine {
        time: line.time,
        namespace,
        id,
        stream,
        line: line.text,
    })
}

impl Logs {
    /// Where the lines come from.
    #[must_use]
    pub fn source(&self) -> FeedSource {
        self.reader.kind()
    }

    /// Ends the lines behind everything that is written by now. To be called when the end of a workload
    /// is known: its lines are published before that.
    pub async fn finish(&mut self) {
        self.reader.finish().await;
    }

    /// The next line; `None` at the end. Cancel safe.
    ///
    /// The beginning of a line is handed out when nothing follows it for a moment, as a prompt does.
    ///
    /// # Errors
    /// Once, when the connection was closed before the end.
    pub async fn next(&mut self) -> Result<Option<LogLine>, FeedError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            let next = if self.lines.has_partial() {
                timeout(limits::PARTIAL_LINE, self.reader.next()).await
            } else {
                Ok(self.reader.next().await)
            };
            let ready = &mut self.ready;
            match next {
                Ok(Ok(Some(message))) => {
                    self.lines
                        .push(&message.subject, message.time, &message.payload, |line| {
                            ready.extend(parse(line));
                        });
                }
                Ok(Ok(None)) | Err(_) if self.lines.has_partial() => {
                    self.lines.flush(|line| ready.extend(parse(line)));
                }
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => {}
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<LogLine, FeedError>> {
        unfold(self, |mut logs| async move {
            let next = logs.next().await.transpose()?;
            Some((next, logs))
        })
    }
}
