//! Answers of one engine thread on their way to the tasks that send them.
//!
//! While a thread has one short run after the other, its answers go out some at a time: each would
//! else wake the thread of the connection, which would write each to the socket by itself.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc::OwnedPermit;

use crate::invocation::Answer;

/// How long an answer waits for others, and how many there are then at most. A thread that gets
/// stuck meanwhile is relieved of them; see [`Scheduler::watch`](crate::scheduler::Scheduler::watch).
const HOLD: Duration = Duration::from_millis(1);
const MOST: usize = 128;

/// What one engine thread has answered and not sent yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    answers: Vec<(OwnedPermit<Answer>, Answer)>,
    since: Option<Instant>,
}

impl Outbox {
    /// Takes an answer that there is just now; returns whether it waits for others.
    pub(crate) fn put(&self, to: OwnedPermit<Answer>, answer: Answer, now: Instant) -> bool {
        let mut held = self.lock();
        held.answers.push((to, answer));
        let since = *held.since.get_or_insert(now);
        let waits = now.saturating_duration_since(since) < HOLD && held.answers.len() < MOST;
        if !waits {
            held.send();
        }
        waits
    }

    /// Sends what waits.
    pub(crate) fn send(&self) {
        self.lock().send();
    }

    /// The same for a thread that is stuck. One that is just sending needs no help.
    pub(crate) fn relieve(&self) {
        if let Ok(mut held) = self.0.try_lock() {
            held.send();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // An answer is in it or is not.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn send(&mut self) {
        self.since = None;
        for (to, answer) in self.answers.drain(..) {
            to.send(answer);
        }
    }
}
