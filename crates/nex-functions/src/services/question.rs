//! A question to a host service: asked by waiting for it, or [among others](super::Calls).

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    time::Instant,
};

use tokio::{runtime::Handle, sync::Notify};

use super::error::{ServiceCode, ServiceError};
use crate::io::Wait;

/// The work that answers a question.
pub(super) type Work<T> = Pin<Box<dyn Future<Output = Result<T, ServiceError>> + Send>>;

/// Something to ask of the world. Nothing happens before it is asked.
#[must_use = "nothing happens before it is asked"]
pub struct Question<T> {
    /// Where the work is done; none where there are no services.
    pub(super) runtime: Option<Handle>,
    pub(super) work: Work<T>,
    pub(super) cost: Cost,
}

/// What a question holds in memory outside of the function's own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// The bytes that it brings.
    pub(super) brings_bytes: usize,
    /// The most that its answer can have, in bytes; at least as much as a message is counted.
    pub(super) takes_bytes: usize,
}

impl Cost {
    pub(super) fn takes(takes_bytes: usize) -> Self {
        Self {
            brings_bytes: 0,
            takes_bytes,
        }
    }

    pub(super) fn brings(brings_bytes: usize) -> Self {
        Self {
            brings_bytes,
            takes_bytes: 0,
        }
    }
}

impl<T> fmt::Debug for Question<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Question<T> {
    /// A question that this future answers, on this runtime.
    pub fn new(
        runtime: Handle,
        answer: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
    ) -> Self {
        Self {
            runtime: Some(runtime),
            work: Box::pin(answer),
            cost: Cost::default(),
        }
    }

    /// Asks, and waits for the answer until `deadline`.
    ///
    /// For engine threads alone: on a thread that does I/O it would wait for itself.
    ///
    /// # Errors
    /// What the service says, or that there was no answer in time. The work is cut off then; what
    /// was under way may have happened or not.
    pub fn wait(self, deadline: Instant) -> Result<T, ServiceError> {
        let Some(runtime) = self.runtime else {
            return Err(nobody());
        };
        let (answer_tx, answer_rx) = sync_channel(1);
        let told = Arc::new(Notify::new());
        let (work, tells) = (self.work, Arc::clone(&told));
        let task = runtime.spawn(async move {
            // Whoever asked may have given up.
            answer_tx.send(work.await).ok();
            tells.notify_one();
        });
        let wait = Wait::begin();
        if let Some(wait) = &wait {
            let _told = wait.drive(&told, deadline);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match answer_rx.recv_timeout(left) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                task.abort();
                let text = "no answer within the time of this invocation";
                Err(ServiceError::new(ServiceCode::Timeout, text))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let text = "the host is stopping";
                Err(ServiceError::new(ServiceCode::Unavailable, text))
            }
        }
    }

    /// The same question with its answer turned into something else.
    pub fn map<U: 'static>(self, turn: impl FnOnce(T) -> U + Send + 'static) -> Question<U> {
        let work = self.work;
        Question {
            runtime: self.runtime,
            work: Box::pin(async move { work.await.map(turn) }),
            cost: self.cost,
        }
    }
}

/// The answer where there are no services.
pub(super) fn nobody() -> ServiceError {
    let text = "there are no host services here";
    ServiceError::new(ServiceCode::Unavailable, text)
}
