//! Output of workloads, framed into messages.
//!
//! One message holds whole lines, each with its line feed, as many as were there at the time. A
//! line without an end is sent after a short quiet, so that a prompt is seen; a line longer than
//! a message is cut. Readers put lines together per subject.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::HeaderMap;
use bytes::{Bytes, BytesMut};
use nex_protocol::{LogStream, Namespace, Subject, WorkloadId};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tracing::warn;

mod frame;

use frame::Framer;

/// The largest log message in bytes, where the server does not ask for smaller ones.
const MAX_MESSAGE_BYTES: usize = 32 * 1024;
/// How much is read from a workload's pipe at a time.
const READ_BYTES: usize = 16 * 1024;
/// After how long without output a line that has no end yet is sent.
const QUIET: Duration = Duration::from_millis(100);
/// How long [`LogWriter::flush`] waits for the socket.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes the output of one workload to its log subjects. Cheap to clone.
///
/// Writers wait while the connection takes no more; nothing is dropped to keep up. What the
/// client refuses is counted, and said on the workload's stderr as soon as that works again.
#[derive(Clone)]
pub struct LogWriter(Arc<Inner>);

struct Inner {
    client: async_nats::Client,
    stdout: String,
    stderr: String,
    lost_bytes: AtomicU64,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter")
            .field("stdout", &self.0.stdout)
            .finish_non_exhaustive()
    }
}

impl LogWriter {
    pub(crate) fn new(client: &async_nats::Client, namespace: &Namespace, id: &WorkloadId) -> Self {
        let subject = |stream| Subject::Logs(namespace.clone(), id.clone(), stream).to_string();
        Self(Arc::new(Inner {
            client: client.clone(),
            stdout: subject(LogStream::Stdout),
            stderr: subject(LogStream::Stderr),
            lost_bytes: AtomicU64::new(0),
        }))
    }

    /// Writes one line, or several joined by line feeds; the last line feed is added.
    pub async fn line(&self, stream: LogStream, text: &str) {
        self.line_with(stream, text, None).await;
    }

    /// [`line`](Self::line), with headers for those who look for it.
    pub async fn line_with(&self, stream: LogStream, text: &str, headers: Option<&HeaderMap>) {
        let mut framer = Framer::new(self.max_message());
        framer.push(text.as_bytes());
        if !text.ends_with('\n') {
            framer.push(b"\n");
        }
        while let Some(message) = framer.next_lines() {
            self.publish(stream, headers, message).await;
        }
    }

    /// Publishes a message without a line, for those who look for its headers. Whoever prints lines
    /// prints nothing for it.
    pub async fn mark(&self, headers: &HeaderMap) {
        self.try_publish(LogStream::Stderr, Some(headers), Bytes::new())
            .await;
    }

    /// Writes everything that `reader` yields, until its end.
    ///
    /// # Errors
    /// Reading failed; what was read before is written.
    pub async fn copy(self, stream: LogStream, reader: impl AsyncRead) -> io::Result<()> {
        tokio::pin!(reader);
        let mut framer = Framer::new(self.max_message());
        let mut chunk = BytesMut::with_capacity(READ_BYTES);
        loop {
            let read = reader.read_buf(&mut chunk);
            let read = if framer.is_empty() {
                read.await
            } else {
                match tokio::time::timeout(QUIET, read).await {
                    Ok(read) => read,
                    Err(_quiet) => {
                        self.publish_rest(stream, &mut framer).await;
                        continue;
                    }
                }
            };
            let end = !matches!(read, Ok(1..));
            framer.push(&chunk);
            chunk.clear();
            while let Some(message) = framer.next_lines() {
                self.publish(stream, None, message).await;
            }
            if end {
                self.publish_rest(stream, &mut framer).await;
                return read.map(|_| ());
            }
        }
    }

    /// Waits until what was written is handed to the system, for two seconds at most.
    pub async fn flush(&self) {
        match tokio::time::timeout(FLUSH_TIMEOUT, self.0.client.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "output is not flushed"),
            Err(_elapsed) => warn!("output is not flushed: NATS takes no messages"),
        }
    }

    /// Counts output that was read and could not be written, to be shown with what is next.
    pub fn count_lost(&self, bytes: u64) {
        self.0.lost_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn max_message(&self) -> usize {
        MAX_MESSAGE_BYTES
            .min(self.0.client.max_payload() / 2)
            .max(1)
    }

    async fn publish_rest(&self, stream: LogStream, framer: &mut Framer) {
        if let Some(message) = framer.take_rest() {
            self.publish(stream, None, message).await;
        }
    }

    async fn publish(&self, stream: LogStream, headers: Option<&HeaderMap>, message: Bytes) {
        let lost = self.0.lost_bytes.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let notice = format!("nex: {lost} bytes of output were lost\n");
            if !self
                .try_publish(LogStream::Stderr, None, notice.into())
                .await
            {
                self.count_lost(lost);
            }
        }
        let bytes = message.len() as u64;
        if !self.try_publish(stream, headers, message).await {
            self.count_lost(bytes);
        }
    }

    async fn try_publish(
        &self,
        stream: LogStream,
        headers: Option<&HeaderMap>,
        message: Bytes,
    ) -> bool {
        let subject = match stream {
            LogStream::Stdout => &self.0.stdout,
            LogStream::Stderr => &self.0.stderr,
        };
        let (client, to) = (&self.0.client, subject.clone());
        let published = match headers {
            Some(headers) => {
                let headers = headers.clone();
                client.publish_with_headers(to, headers, message).await
            }
            None => client.publish(to, message).await,
        };
        match published {
            Ok(()) => true,
            Err(error) => {
                warn!(%subject, %error, "output is lost");
                false
            }
        }
    }
}
