//! Questions of the invocations of one instance that are open at the same time.
//!
//! ```text
//!   begin ──> task on the I/O runtime ──> channel of answers ──> try_next
//!     │                                          └──> the waker of the instance
//!     └── the budget of the invocation: number, bytes, room for answers
//! ```

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    task::Waker,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};

use super::{
    error::{ServiceCode, ServiceError},
    question::{Question, nobody},
};

/// Most open questions of an invocation; the next is refused.
const MAX_OPEN: usize = 1024;
/// Most bytes that the open questions of an invocation may have brought.
const MAX_BROUGHT_BYTES: usize = 64 * 1024 * 1024;
/// Most bytes of the answers that are worked on for an invocation together; the others wait.
const ANSWERS_BYTES: usize = 128 * 1024 * 1024;
/// What an answer counts for that has no size of its own: a large message.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// The open questions of one instance. It goes on meanwhile, and its waker is called for each answer.
///
/// Each question counts towards the budget of its owner, an invocation. Dropping this cuts off all that
/// is under way; that may have happened or not.
pub struct Calls<T> {
    open: HashMap<CallId, Open>,
    budgets: HashMap<u64, Budget>,
    waker: Waker,
    answers_tx: Sender<Answered<T>>,
    answers_rx: Receiver<Answered<T>>,
    last: u64,
}

/// Names a question that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

struct Open {
    task: AbortHandle,
    owner: u64,
    brought_bytes: usize,
}

/// The open questions of one invocation; gone when there are none.
struct Budget {
    open: usize,
    brought_bytes: usize,
    room: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            open: 0,
            brought_bytes: 0,
            room: Arc::new(Semaphore::new(ANSWERS_BYTES / MESSAGE_BYTES)),
        }
    }
}

struct Answered<T> {
    id: CallId,
    answer: Result<T, ServiceError>,
    /// The room of the answer, until somebody has it.
    _room: Option<OwnedSemaphorePermit>,
}

impl<T> fmt::Debug for Calls<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("open", &self.open.len())
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Calls<T> {
    /// No open questions. The waker is called on the I/O runtime when there is an answer to take.
    #[must_use]
    pub fn new(waker: Waker) -> Self {
        // Each answer in it has its room, so that is its bound.
        let (answers_tx, answers_rx) = channel();
        Self {
            open: HashMap::new(),
            budgets: HashMap::new(),
            waker,
            answers_tx,
            answers_rx,
            last: 0,
        }
    }

    /// Calls another waker from now on, for questions that are asked from now on.
    pub fn set_waker(&mut self, waker: Waker) {
        self.waker = waker;
    }

    /// Returns whether no question is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Asks a question for an invocation, without waiting. `owner` names the invocation within the
    /// instance.
    ///
    /// # Errors
    /// Too many of its questions are open, or have brought too much.
    pub fn begin(&mut self, owner: u64, question: Question<T>) -> Result<CallId, ServiceError> {
        let Some(runtime) = question.runtime else {
            return Err(nobody());
        };
        let brought_bytes = question.cost.brings_bytes;
        let budget = self.budgets.entry(owner).or_default();
        budget.take(brought_bytes)?;
        let room = Arc::clone(&budget.room);
        self.last += 1;
        let id = CallId(self.last);
        let takes = question.cost.takes_bytes.div_ceil(MESSAGE_BYTES).max(1);
        let takes = u32::try_from(takes.min(ANSWERS_BYTES / MESSAGE_BYTES)).unwrap_or(1);
        let (work, answers_tx) = (question.work, self.answers_tx.clone());
        let waker = self.waker.clone();
        let task = runtime.spawn(async move {
            // It is closed by nobody, so this only waits.
            let room = room.acquire_many_owned(takes).await.ok();
            let answer = work.await;
            let answered = Answered {
                id,
                answer,
                _room: room,
            };
            // The instance may be gone.
            answers_tx.send(answered).ok();
            waker.wake();
        });
        let open = Open {
            task: task.abort_handle(),
            owner,
            brought_bytes,
        };
        self.open.insert(id, open);
        Ok(id)
    }

    /// The next answer to a question that is open, if there is one. Never waits.
    pub fn try_next(&mut self) -> Option<(CallId, Result<T, ServiceError>)> {
        while let Ok(answered) = self.answers_rx.try_recv() {
            // One that was cut off may have been answered just before.
            if self.cancel(answered.id) {
                return Some((answered.id, answered.answer));
            }
        }
        None
    }

    /// Cuts a question off: there will be no answer. Returns whether it was open.
    pub fn cancel(&mut self, id: CallId) -> bool {
        let Some(open) = self.open.remove(&id) else {
            return false;
        };
        open.task.abort();
        if let Some(budget) = self.budgets.get_mut(&open.owner) {
            budget.open -= 1;
            budget.brought_bytes -= open.brought_bytes;
            if budget.open == 0 {
                self.budgets.remove(&open.owner);
            }
        }
        true
    }
}

impl Budget {
    fn take(&mut self, brought_bytes: usize) -> Result<(), ServiceError> {
        if self.open >= MAX_OPEN {
            let text = format!("{MAX_OPEN} calls are open already: await some of them first");
            return Err(ServiceError::new(ServiceCode::TooLarge, text));
        }
        if self.open > 0 && self.brought_bytes + brought_bytes > MAX_BROUGHT_BYTES {
            let text = format!(
                "the calls that are open have more than {MAX_BROUGHT_BYTES} bytes: await some of them first"
            );
            return Err(ServiceError::new(ServiceCode::TooLarge, text));
        }
        self.open += 1;
        self.brought_bytes += brought_bytes;
        Ok(())
    }
}

impl<T> Drop for Calls<T> {
    fn drop(&mut self) {
        for open in self.open.values() {
            open.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> Question<()> {
        Question::new(tokio::runtime::Handle::current(), std::future::pending())
    }

    #[tokio::test]
    async fn each_invocation_has_a_budget_of_its_own() {
        let mut calls = Calls::new(Waker::noop().clone());
        let mut ids: Vec<_> = (0..MAX_OPEN)
            .map(|_| calls.begin(1, never()).unwrap())
            .collect();

        let refused = calls.begin(1, never()).unwrap_err();
        assert_eq!(refused.code, ServiceCode::TooLarge);
        assert!(calls.begin(2, never()).is_ok());

        assert!(calls.cancel(ids.pop().unwrap()));
        assert!(calls.begin(1, never()).is_ok());
    }

    #[tokio::test]
    async fn the_answer_of_a_call_that_was_cut_off_is_not_handed_out() {
        let mut calls = Calls::new(Waker::noop().clone());
        let runtime = tokio::runtime::Handle::current();
        let cut_off = calls
            .begin(1, Question::new(runtime.clone(), async { Ok(1) }))
            .unwrap();
        calls
            .begin(1, Question::new(runtime, async { Ok(2) }))
            .unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }

        calls.cancel(cut_off);

        assert_eq!(calls.try_next().map(|(_, answer)| answer), Some(Ok(2)));
        assert!(calls.try_next().is_none() && calls.is_empty() && calls.budgets.is_empty());
    }
}
