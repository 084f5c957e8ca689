//! The output of one run on its way to the log subjects.

use std::time::Duration;

use nex_process::Tree;
use nex_protocol::LogStream;
use nexlet::LogWriter;
use tokio::task::JoinSet;
use tracing::warn;

/// How long the last output may take when no process is left: NATS may take no messages, or a
/// process elsewhere may have been given the pipe.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// The copying of both streams.
pub(super) struct Copying(JoinSet<()>);

/// Begins to copy a tree's output.
pub(super) fn copy(log: &LogWriter, tree: &mut Tree) -> Copying {
    let mut copies = JoinSet::new();
    let pipes = [
        (LogStream::Stdout, tree.take_stdout()),
        (LogStream::Stderr, tree.take_stderr()),
    ];
    for (stream, pipe) in pipes {
        let Some(pipe) = pipe else { continue };
        let log = log.clone();
        copies.spawn(async move {
            if let Err(error) = log.copy(stream, pipe).await {
                warn!(%error, ?stream, "output of a workload is lost");
            }
        });
    }
    Copying(copies)
}

impl Copying {
    /// Waits until everything is sent, for two seconds at most. For a tree that is dead.
    pub(super) async fn finish(mut self, log: &LogWriter) {
        let sent = async { while self.0.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_OUTPUT, sent).await.is_err() {
            self.0.abort_all();
            warn!("the last output of a workload is lost");
            let told = log.line(LogStream::Stderr, "nex: the last output was lost");
            tokio::time::timeout(LAST_OUTPUT, told).await.ok();
        }
    }
}
