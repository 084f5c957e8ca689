//! A place where an engine thread waits until somebody wakes it.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
    time::Instant,
};

use tokio::sync::Notify;

use crate::io::Wait;

/// Blocks an engine thread until its [waker](Self::waker) is called. Meanwhile the thread does the I/O
/// of functions where that is its turn.
///
/// For engine threads alone: a thread that does I/O would wait for itself.
#[derive(Debug, Default)]
pub struct Parker {
    signal: Arc<Signal>,
}

/// A wake that a thread takes, once however often it was given.
#[derive(Default)]
struct Signal {
    state: Mutex<State>,
    /// Ends a wait without I/O.
    changed: Condvar,
    /// Ends a turn of I/O.
    driven: Notify,
}

#[derive(Clone, Copy, Default)]
struct State {
    is_woken: bool,
    /// A thread waits for `changed`; where none does, a wake costs no call of the system.
    sleeps: bool,
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").finish_non_exhaustive()
    }
}

impl Parker {
    /// Returns one that nobody has woken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the wait of the thread, or its next one if it does not wait. Any thread may call it.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.signal))
    }

    /// Waits until the waker is called, or until `until`.
    pub fn park(&self, until: Instant) {
        if self.signal.take() {
            return;
        }
        let wait = Wait::begin();
        // It may be told of a wake that was taken before.
        while let Some(wait) = &wait
            && wait.drive(&self.signal.driven, until)
        {
            if self.signal.take() {
                return;
            }
        }
        self.signal.wait(until);
    }
}

impl Signal {
    fn take(&self) -> bool {
        std::mem::take(&mut self.lock().is_woken)
    }

    fn wait(&self, until: Instant) {
        let mut state = self.lock();
        while !state.is_woken {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.sleeps = true;
            let waited = self.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        *state = State::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Both are single values, whatever happened to a thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.lock();
        state.is_woken = true;
        let sleeps = state.sleeps;
        drop(state);
        if sleeps {
            self.changed.notify_one();
        }
        self.driven.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_wake_before_the_wait_ends_it_at_once() {
        let parker = Parker::new();
        let started = Instant::now();
        parker.waker().wake();

        parker.park(started + LONG);

        assert!(started.elapsed() < LONG);
    }

    #[test]
    fn a_wake_from_another_thread_ends_the_wait() {
        let parker = Parker::new();
        let started = Instant::now();
        for _ in 0..1000 {
            let waker = parker.waker();
            let wakes = thread::spawn(move || waker.wake());
            parker.park(started + LONG);
            wakes.join().unwrap();
        }
        assert!(started.elapsed() < LONG);
    }

    #[test]
    fn a_wait_ends_at_its_time() {
        let parker = Parker::new();
        let until = Instant::now() + Duration::from_millis(20);

        parker.park(until);

        assert!(Instant::now() >= until);
    }
}
