//! The thread on which functions do their I/O, and who does its work.
//!
//! All connections of functions are on one runtime of one thread, apart from the nexlet's own. Code
//! that asks a host service and waits would wake that thread with each question and be woken with
//! each answer, which takes longer than the question itself. So while nothing else runs, the runtime
//! is *lent* to the engine thread that waits: it reads from the sockets itself, as a bare client does.
//!
//! ```text
//!   own thread     drives ─┐                                   ┌─> drives
//!   engine thread          └─> drives │ code │ drives │ code ──┘
//!                              ↑ asks          ↑ asks   ↑ ends, or computes for long
//! ```
//!
//! # Invariants
//!
//! - An engine thread begins a turn only while no other invocation runs or waits. What else there is
//!   to do on the runtime is done in its turn, which ends with the answer, or soon after [`LONGEST`].
//! - The runtime comes back when the invocation ends, and from code that computes: its own thread looks
//!   every [`LOOK_PERIOD`] whether nobody has driven for [`PAUSE`]. All I/O of functions waits so long.

use std::{
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::Notify,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Span;

/// After how long the turn of an engine thread is to end: it must not be one that is put behind all
/// other threads.
const LONGEST: Duration = Duration::from_millis(2);
/// How long the runtime may be lent to who does not drive it.
const PAUSE: Duration = Duration::from_micros(500);
/// How often its own thread looks at that.
const LOOK_PERIOD: Duration = Duration::from_micros(500);
/// How long tasks of functions may go on when their nexlet has gone without waiting for them.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(1);

/// The runtime of functions, until this is dropped; then for a moment more, for tasks to end.
#[derive(Debug)]
pub(crate) struct Io {
    handle: Handle,
    lender: Weak<Lender>,
    stop: CancellationToken,
}

/// The place of an engine thread, from which it can drive the runtime.
#[derive(Clone)]
pub(crate) struct Seat {
    thread: usize,
    lender: Weak<Lender>,
    /// Whether nothing runs but what this thread runs, and nothing waits.
    is_alone: Arc<dyn Fn() -> bool + Send + Sync>,
}

struct Lender {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    /// What its tasks are part of, for the log.
    span: Span,
    holder: Mutex<Holder>,
    /// Wakes the own thread while the runtime is lent.
    came_back: Condvar,
    /// Makes the own thread lend it.
    wanted: Notify,
    /// Makes an engine thread end its turn.
    enough: Notify,
}

#[derive(Clone, Copy, Debug)]
enum Holder {
    /// The runtime's own thread.
    Own,
    /// An engine thread.
    Lent {
        to: usize,
        /// Whether it drives it just now.
        drives: bool,
        /// Since when it does so, or does not.
        since: Instant,
    },
}

/// An engine thread drives the runtime as long as this lives.
struct Turn<'a> {
    lender: &'a Lender,
    of: usize,
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lender")
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

impl Io {
    /// Starts the thread. Once this is dropped it ends with the last of these tasks, or after
    /// [`LEFTOVER_LIMIT`].
    pub(crate) fn start(tasks: TaskTracker) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let lender = Arc::new(Lender {
            runtime: Some(runtime),
            span: Span::current(),
            holder: Mutex::new(Holder::Own),
            came_back: Condvar::new(),
            wanted: Notify::new(),
            enough: Notify::new(),
        });
        let io = Self {
            handle,
            lender: Arc::downgrade(&lender),
            stop: CancellationToken::new(),
        };
        let stop = io.stop.clone();
        let over = async move {
            stop.cancelled().await;
            tasks.close();
            timeout(LEFTOVER_LIMIT, tasks.wait()).await.ok();
        };
        let thread = thread::Builder::new().name("functions-io".to_owned());
        thread.spawn(move || {
            let _entered = lender.span.enter();
            lender.run(over);
        })?;
        Ok(io)
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The place of the engine thread of this number.
    pub(crate) fn seat(
        &self,
        thread: usize,
        is_alone: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Seat {
        Seat {
            thread,
            lender: Weak::clone(&self.lender),
            is_alone: Arc::new(is_alone),
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Lender {
    fn runtime(&self) -> &Runtime {
        let runtime = self.runtime.as_ref();
        runtime.expect("it is taken out when nobody has this any more")
    }

    /// What the own thread does, until it is over.
    fn run(&self, over: impl Future<Output = ()>) {
        let mut over = std::pin::pin!(over);
        loop {
            let wanted = self.runtime().block_on(async {
                tokio::select! {
                    () = &mut over => false,
                    () = self.wanted.notified() => true,
                }
            });
            if !wanted {
                return;
            }
            self.wait_for_return();
        }
    }

    fn wait_for_return(&self) {
        let mut holder = self.lock();
        while let Holder::Lent { drives, since, .. } = *holder {
            match (drives, since.elapsed()) {
                (true, passed) if passed >= LONGEST => self.enough.notify_one(),
                (false, passed) if passed >= PAUSE => {
                    *holder = Holder::Own;
                    return;
                }
                _ => {}
            }
            let waited = self.came_back.wait_timeout(holder, LOOK_PERIOD);
            (holder, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lends it to a thread, unless another one has it.
    fn lend(&self, to: usize) -> Option<Turn<'_>> {
        let mut holder = self.lock();
        let before = *holder;
        if matches!(before, Holder::Lent { to: other, .. } if other != to) {
            return None;
        }
        *holder = Holder::Lent {
            to,
            drives: true,
            since: Instant::now(),
        };
        drop(holder);
        if matches!(before, Holder::Own) {
            self.wanted.notify_one();
        }
        Some(Turn {
            lender: self,
            of: to,
        })
    }

    /// Takes it from a thread that has it.
    fn take_back(&self, thread: usize) {
        let mut holder = self.lock();
        if matches!(*holder, Holder::Lent { to, .. } if to == thread) {
            *holder = Holder::Own;
            drop(holder);
            self.came_back.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Holder> {
        // It is one value.
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        // Names that are being looked up hold up nobody.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut holder = self.lender.lock();
        if let Holder::Lent { to, drives, since } = &mut *holder
            && *to == self.of
        {
            *drives = false;
            *since = Instant::now();
        }
    }
}

impl Seat {
    /// Drives the runtime until this is told, and returns true; false where that is not for this
    /// thread to do, or not any more, so that it is to wait until somebody else has done it. `until`
    /// is when it waits no more.
    pub(crate) fn drive(&self, told: &Notify, until: Instant) -> bool {
        let Some(lender) = self.lender.upgrade() else {
            return false;
        };
        let left = until.saturating_duration_since(Instant::now());
        if left < 2 * LONGEST || !(self.is_alone)() {
            lender.take_back(self.thread);
            return false;
        }
        let Some(turn) = lender.lend(self.thread) else {
            return false;
        };
        // One may be left of a turn that ended by itself just then.
        lender.enough.notified().now_or_never();
        let _entered = lender.span.enter();
        let is_told = lender.runtime().block_on(async {
            tokio::select! {
                biased;
                () = told.notified() => true,
                () = lender.enough.notified() => false,
            }
        });
        drop(turn);
        if !is_told {
            lender.take_back(self.thread);
        }
        is_told
    }

    /// Gives the runtime back, if it is here: nothing is asked for a while.
    pub(crate) fn give_back(&self) {
        if let Some(lender) = self.lender.upgrade() {
            lender.take_back(self.thread);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn start() -> Io {
        Io::start(TaskTracker::new()).unwrap()
    }

    fn seat(io: &Io) -> Seat {
        io.seat(0, || true)
    }

    /// Where the runtime's next task is done; and when it is.
    fn ask(io: &Io) -> (Receiver<thread::ThreadId>, Arc<Notify>) {
        let (done_tx, done_rx) = sync_channel(1);
        let told = Arc::new(Notify::new());
        let tells = Arc::clone(&told);
        io.handle.spawn(async move {
            // Not before whoever asked may drive.
            tokio::time::sleep(Duration::from_micros(200)).await;
            done_tx.send(thread::current().id()).unwrap();
            tells.notify_one();
        });
        (done_rx, told)
    }

    fn until() -> Instant {
        Instant::now() + LONG
    }

    #[test]
    fn one_that_is_alone_drives_while_it_waits() {
        let io = start();
        let seat = seat(&io);
        let deadline = until();
        loop {
            let (done_rx, told) = ask(&io);
            seat.drive(&told, until());
            // On a busy machine the own thread may be quicker, or the turn too long.
            if done_rx.recv_timeout(LONG) == Ok(thread::current().id()) {
                break;
            }
            assert!(Instant::now() < deadline, "it never drives");
        }
    }

    #[test]
    fn one_that_is_not_alone_leaves_it_to_the_own_thread() {
        let io = start();
        let alone = Arc::new(AtomicBool::new(true));
        let is_alone = Arc::clone(&alone);
        let seat = io.seat(0, move || is_alone.load(Ordering::Relaxed));
        drop(io.lender.upgrade().unwrap().lend(0));

        alone.store(false, Ordering::Relaxed);
        let (done_rx, told) = ask(&io);

        assert!(!seat.drive(&told, until()));
        assert_ne!(done_rx.recv_timeout(LONG), Ok(thread::current().id()));
    }

    #[test]
    fn one_that_has_little_time_left_just_waits() {
        let io = start();
        let (done_rx, told) = ask(&io);
        assert!(!seat(&io).drive(&told, Instant::now() + LONGEST));
        assert_ne!(done_rx.recv_timeout(LONG), Ok(thread::current().id()));
    }

    #[test]
    fn one_has_it_at_a_time() {
        let io = start();
        let (first, second) = (seat(&io), io.seat(1, || true));
        let lender = io.lender.upgrade().unwrap();
        let turn = lender.lend(first.thread);
        assert!(turn.is_some());
        let (done_rx, told) = ask(&io);

        assert!(!second.drive(&told, until()));
        // Which takes nothing from the first one.
        second.give_back();
        assert!(matches!(*lender.lock(), Holder::Lent { to: 0, .. }));

        drop(turn);
        first.give_back();
        assert_ne!(done_rx.recv_timeout(LONG), Ok(thread::current().id()));
    }

    #[test]
    fn nobody_drives_for_long() {
        let io = start();
        let never = Notify::new();
        assert!(!seat(&io).drive(&never, until()));

        let (done_rx, _told) = ask(&io);
        assert_ne!(done_rx.recv_timeout(LONG), Ok(thread::current().id()));
    }

    #[test]
    fn it_comes_back_from_one_that_computes() {
        let io = start();
        // It drove once, and does neither drive nor give back from now on.
        drop(io.lender.upgrade().unwrap().lend(0));
        let (done_rx, _told) = ask(&io);

        assert_ne!(done_rx.recv_timeout(LONG), Ok(thread::current().id()));
    }

    #[test]
    fn it_ends_after_its_tasks() {
        let tasks = TaskTracker::new();
        let io = Io::start(tasks.clone()).unwrap();
        let (lender, seat) = (Weak::clone(&io.lender), seat(&io));
        let go_on = Arc::new(Notify::new());
        let (going_on, (done_tx, done_rx)) = (Arc::clone(&go_on), sync_channel(1));
        let task = async move {
            going_on.notified().await;
            done_tx.send(()).unwrap();
        };
        tasks.spawn_on(task, io.handle());

        drop(io);
        assert!(done_rx.try_recv().is_err());
        go_on.notify_one();

        assert_eq!(done_rx.recv_timeout(LONG), Ok(()));
        let deadline = until();
        while lender.strong_count() > 0 {
            assert!(Instant::now() < deadline, "its thread does not end");
            thread::yield_now();
        }
        assert!(!seat.drive(&Notify::new(), until()));
    }
}
