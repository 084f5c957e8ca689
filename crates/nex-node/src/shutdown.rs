//! Owns every background task of a node: one signal in, one wait out.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

/// The node's tasks and the signal that ends them. Clones share both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Starts a task that shutdown signals and waits for.
    pub(crate) fn spawn<F, Fut>(&self, span: tracing::Span, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let task = task(self.token.child_token());
        self.tasks.spawn(task.instrument(span));
    }

    /// Signals every task and waits until all have ended, or `limit` is over.
    ///
    /// Answers whether all have ended.
    pub(crate) async fn finish(&self, limit: Duration) -> bool {
        self.token.cancel();
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_task_is_signalled_and_waited_for() {
        let shutdown = Shutdown::default();
        let (ended_tx, mut ended_rx) = tokio::sync::mpsc::channel(1);
        shutdown.spawn(tracing::Span::none(), |cancel| async move {
            cancel.cancelled().await;
            ended_tx.send(()).await.unwrap();
        });

        assert!(shutdown.finish(Duration::from_secs(10)).await);

        assert_eq!(ended_rx.try_recv(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_hangs_is_not_waited_for_for_ever() {
        let shutdown = Shutdown::default();
        shutdown.spawn(tracing::Span::none(), |_| std::future::pending());

        assert!(!shutdown.finish(Duration::from_secs(1)).await);
    }
}
