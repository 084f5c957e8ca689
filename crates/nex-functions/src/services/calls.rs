//! Questions of one invocation that are asked at the same time.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    time::Instant,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};

use super::{
    error::{ServiceCode, ServiceError},
    question::{Question, nobody},
};
use crate::io::Seat;

/// How many questions may be open at a time; the next is refused.
const MAX_OPEN: usize = 1024;
/// How many bytes the open ones may have brought.
const MAX_BROUGHT_BYTES: usize = 64 * 1024 * 1024;
/// How many bytes the answers of those that are worked on may have together; the others wait.
const ANSWERS_BYTES: usize = 128 * 1024 * 1024;
/// What an answer counts for that has no size of its own: a large message.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// The open questions of one invocation, for an engine thread that goes on meanwhile.
///
/// Dropping it cuts off all that is under way; that may have happened or not.
pub struct Calls<T> {
    open: HashMap<CallId, Open>,
    brought_bytes: usize,
    room: Arc<Semaphore>,
    answers_tx: Sender<Answered<T>>,
    answers_rx: Receiver<Answered<T>>,
    /// That there is an answer.
    told: Arc<Notify>,
    /// Where the thread is that waits, if that is known.
    seat: Option<Seat>,
    last: u64,
}

/// Names a question that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

struct Open {
    task: AbortHandle,
    brought_bytes: usize,
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

impl<T: Send + 'static> Default for Calls<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + 'static> Calls<T> {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        // What is in it has its room, so that is its bound.
        let (answers_tx, answers_rx) = channel();
        Self {
            open: HashMap::new(),
            brought_bytes: 0,
            room: Arc::new(Semaphore::new(ANSWERS_BYTES / MESSAGE_BYTES)),
            answers_tx,
            answers_rx,
            told: Arc::default(),
            seat: None,
            last: 0,
        }
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Asks a question, without waiting.
    ///
    /// # Errors
    /// When too many are open, or have brought too much.
    pub fn begin(&mut self, question: Question<T>) -> Result<CallId, ServiceError> {
        let Some(runtime) = question.runtime else {
            return Err(nobody());
        };
        let brought_bytes = question.cost.brings_bytes;
        if self.open.len() >= MAX_OPEN {
            let text = format!("{MAX_OPEN} calls are open already: await some of them first");
            return Err(ServiceError::new(ServiceCode::TooLarge, text));
        }
        if !self.open.is_empty() && self.brought_bytes + brought_bytes > MAX_BROUGHT_BYTES {
            let text = format!(
                "the calls that are open have more than {MAX_BROUGHT_BYTES} bytes: await some of them first"
            );
            return Err(ServiceError::new(ServiceCode::TooLarge, text));
        }
        self.last += 1;
        let id = CallId(self.last);
        let room = Arc::clone(&self.room);
        let takes = question.cost.takes_bytes.div_ceil(MESSAGE_BYTES).max(1);
        let takes = u32::try_from(takes.min(ANSWERS_BYTES / MESSAGE_BYTES)).unwrap_or(1);
        self.seat = question.seat;
        let (work, answers_tx) = (question.work, self.answers_tx.clone());
        let told = Arc::clone(&self.told);
        let task = runtime.spawn(async move {
            // It is closed by nobody, so this only waits.
            let room = room.acquire_many_owned(takes).await.ok();
            let answer = work.await;
            let answered = Answered {
                id,
                answer,
                _room: room,
            };
            // Whoever asked may have given up.
            answers_tx.send(answered).ok();
            told.notify_one();
        });
        let open = Open {
            task: task.abort_handle(),
            brought_bytes,
        };
        self.open.insert(id, open);
        self.brought_bytes += brought_bytes;
        Ok(id)
    }

    /// The next answer to a question that is open; waits for it until `until` at most.
    ///
    /// For engine threads alone, as [`Question::wait`].
    pub fn next(&mut self, until: Instant) -> Option<(CallId, Result<T, ServiceError>)> {
        loop {
            let answered = self.answered(until)?;
            // One that was cut off may have been answered just before.
            if self.close(answered.id) {
                return Some((answered.id, answered.answer));
            }
        }
    }

    fn answered(&self, until: Instant) -> Option<Answered<T>> {
        if let Some(seat) = &self.seat {
            loop {
                match self.answers_rx.try_recv() {
                    Ok(answered) => return Some(answered),
                    // It may have been told of one that was taken before.
                    Err(TryRecvError::Empty) if seat.drive(&self.told, until) => {}
                    Err(_) => break,
                }
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        self.answers_rx.recv_timeout(left).ok()
    }

    /// Cuts a question off: there will be no answer. Whether it was open.
    pub fn cancel(&mut self, id: CallId) -> bool {
        self.close(id)
    }

    fn close(&mut self, id: CallId) -> bool {
        let Some(open) = self.open.remove(&id) else {
            return false;
        };
        open.task.abort();
        self.brought_bytes -= open.brought_bytes;
        true
    }

    /// Cuts off all that is open.
    pub fn clear(&mut self) {
        for (_, open) in self.open.drain() {
            open.task.abort();
        }
        self.brought_bytes = 0;
        while self.answers_rx.try_recv().is_ok() {}
    }
}

impl<T> Drop for Calls<T> {
    fn drop(&mut self) {
        for open in self.open.values() {
            open.task.abort();
        }
    }
}
