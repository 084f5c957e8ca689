//! The thread on which functions do their I/O, and who does its work.
//!
//! All connections of functions are on one runtime of one thread, apart from the nexlet's own. Each
//! message would make that thread wake an engine thread, and be woken by it with the answer; code that
//! asks a host service and waits, the same with each question. That takes longer than what many functions
//! do. So while one engine thread is all that runs, the runtime is *lent* to it: it reads from the sockets
//! itself, as a bare client does.
//!
//! ```text
//!   own thread     drives ─┐                                                    ┌─> drives
//!   engine thread          └─> drives │ code │ drives │ code │ drives │ code ──┘
//!                              ↑ nothing to   ↑ asks          ↑ ends   ↑ which is long
//!                                do for short code
//! ```
//!
//! # Invariants
//!
//! - An engine thread drives only while nothing else runs but what has to let all others go first: between
//!   short runs, and while what it runs waits for an answer. What else there is to do on the runtime is
//!   done in its turn.
//! - The runtime comes back before a run that is not expected to be short, when another thread has
//!   something to run, and from code that computes for long against what was expected: its own thread looks
//!   every [`LOOK_PERIOD`] whether nobody has driven for [`PAUSE`]. All I/O of functions waits so long, four
//!   milliseconds at most.
//! - A turn that waits for an answer ends soon after [`LONGEST`]: a thread that has something to run and
//!   holds up others may be put behind all others, and must not drive then.

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
    task::yield_now,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Span;

/// After how long the turn of an engine thread that waits for an answer is to end.
const LONGEST: Duration = Duration::from_millis(2);
/// How long the runtime may be lent to who does not drive it.
const PAUSE: Duration = Duration::from_millis(2);
/// How often its own thread looks at that,
const LOOK_PERIOD: Duration = Duration::from_millis(2);
/// unless nothing has run for so long.
const QUIET: Duration = Duration::from_millis(10);
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
    /// Whether nothing runs but what this thread runs and what is behind all others, and nothing waits.
    is_alone: Arc<dyn Fn() -> bool + Send + Sync>,
}

struct Lender {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    /// What its tasks are part of, for the log.
    span: Span,
    loan: Mutex<Loan>,
    /// Wakes the own thread while the runtime is lent: it is back, or is not driven any more.
    changed: Condvar,
    /// Makes the own thread lend it.
    wanted: Notify,
    /// Makes an engine thread end its turn.
    enough: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Loan {
    holder: Holder,
    /// Whether the own thread looks at it from time to time, where it is lent; else it is to be woken.
    looks: bool,
}

#[derive(Clone, Copy, Debug)]
enum Holder {
    /// The runtime's own thread.
    Own,
    /// An engine thread.
    Lent {
        to: usize,
        does: Does,
        /// Since when.
        since: Instant,
    },
}

/// What an engine thread does that has the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// It drives it until there is something to run.
    Wait,
    /// It drives it until a question of what it runs is answered.
    Ask,
    /// It runs something.
    Compute,
}

/// An engine thread drives the runtime as long as this lives.
struct Turn<'a> {
    lender: &'a Lender,
    of: usize,
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lender")
            .field("loan", &self.loan)
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
            loan: Mutex::new(Loan {
                holder: Holder::Own,
                looks: false,
            }),
            changed: Condvar::new(),
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
        let mut loan = self.lock();
        loan.looks = true;
        while let Holder::Lent { does, since, .. } = loan.holder {
            match (does, since.elapsed()) {
                (Does::Wait, passed) if passed >= QUIET => {
                    loan.looks = false;
                    let waited = self.changed.wait(loan);
                    loan = waited.unwrap_or_else(PoisonError::into_inner);
                    loan.looks = true;
                    continue;
                }
                (Does::Ask, passed) if passed >= LONGEST => self.enough.notify_one(),
                (Does::Compute, passed) if passed >= PAUSE => {
                    loan.holder = Holder::Own;
                    break;
                }
                _ => {}
            }
            let waited = self.changed.wait_timeout(loan, LOOK_PERIOD);
            (loan, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        loan.looks = false;
    }

    /// Lends it to a thread, unless another one has it.
    fn lend(&self, to: usize, does: Does) -> Option<Turn<'_>> {
        let mut loan = self.lock();
        let before = loan.holder;
        if matches!(before, Holder::Lent { to: other, .. } if other != to) {
            return None;
        }
        loan.holder = Holder::Lent {
            to,
            does,
            since: Instant::now(),
        };
        drop(loan);
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
        let mut loan = self.lock();
        if loan.is_lent_to(thread) {
            loan.holder = Holder::Own;
            drop(loan);
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Loan> {
        // It is one value.
        self.loan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loan {
    fn is_lent_to(&self, thread: usize) -> bool {
        matches!(self.holder, Holder::Lent { to, .. } if to == thread)
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
        let mut loan = self.lender.lock();
        if let Holder::Lent { to, does, since } = &mut loan.holder
            && *to == self.of
        {
            *does = Does::Compute;
            *since = Instant::now();
            if !loan.looks {
                drop(loan);
                self.lender.changed.notify_one();
            }
        }
    }
}

/// How a thread waited for something to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// Until it was told.
    Told,
    /// As long as it wanted.
    Long,
    /// Not at all: another thread has the runtime.
    Not,
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
        let Some(turn) = lender.lend(self.thread, Does::Ask) else {
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

    /// Drives the runtime until this thread is told that there is something to run, or as long as it
    /// has patience. `first` is done where a task that it wakes is near.
    pub(crate) fn wait(
        &self,
        told: &Notify,
        patience: Option<Duration>,
        first: impl FnOnce(),
    ) -> Waited {
        let lender = self.lender.upgrade();
        let turn = lender
            .as_ref()
            .and_then(|lender| Some((lender, lender.lend(self.thread, Does::Wait)?)));
        let Some((lender, _turn)) = turn else {
            first();
            return Waited::Not;
        };
        let _entered = lender.span.enter();
        lender.runtime().block_on(async {
            first();
            match patience {
                None => told.notified().await,
                Some(patience) => {
                    if timeout(patience, told.notified()).await.is_err() {
                        return Waited::Long;
                    }
                }
            }
            Waited::Told
        })
    }

    /// Does what there is to do on the runtime just now, unless another engine thread has it, or its own
    /// one is still at it.
    pub(crate) fn turn(&self) {
        let Some(lender) = self.lender.upgrade() else {
            return;
        };
        let Some(_turn) = lender.lend(self.thread, Does::Wait) else {
            return;
        };
        let _entered = lender.span.enter();
        lender.runtime().block_on(async {
            // Looks at the sockets each time.
            yield_now().await;
            yield_now().await;
        });
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
        drop(io.lender.upgrade().unwrap().lend(0, Does::Ask));

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
        let turn = lender.lend(first.thread, Does::Ask);
        assert!(turn.is_some());
        let (done_rx, told) = ask(&io);

        assert!(!second.drive(&told, until()));
        // Which takes nothing from the first one.
        second.give_back();
        assert!(lender.lock().is_lent_to(0));

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
        drop(io.lender.upgrade().unwrap().lend(0, Does::Ask));
        let (done_rx, _told) = ask(&io);

        assert_ne!(done_rx.recv_timeout(LONG), Ok(thread::current().id()));
    }

    #[test]
    fn one_drives_between_runs_until_it_is_told() {
        let io = start();
        let seat = seat(&io);
        let deadline = until();
        loop {
            let (done_rx, told) = ask(&io);
            let mut was_first = false;
            assert_eq!(seat.wait(&told, None, || was_first = true), Waited::Told);
            assert!(was_first);
            seat.give_back();
            // On a busy machine the own thread may be quicker.
            if done_rx.recv_timeout(LONG) == Ok(thread::current().id()) {
                break;
            }
            assert!(Instant::now() < deadline, "it never drives");
        }
    }

    #[test]
    fn one_waits_as_long_as_it_has_patience() {
        let io = start();
        let patience = Some(Duration::from_millis(5));
        let waited = seat(&io).wait(&Notify::new(), patience, || ());
        assert_eq!(waited, Waited::Long);
    }

    #[test]
    fn one_does_not_wait_where_another_drives() {
        let io = start();
        let lender = io.lender.upgrade().unwrap();
        let _turn = lender.lend(1, Does::Wait);
        let mut was_first = false;
        let waited = seat(&io).wait(&Notify::new(), None, || was_first = true);
        assert_eq!(waited, Waited::Not);
        assert!(was_first);
    }

    #[test]
    fn a_turn_does_what_there_is_to_do() {
        let io = start();
        let seat = seat(&io);
        let deadline = until();
        loop {
            seat.turn();
            let (done_tx, done_rx) = sync_channel(1);
            io.handle.spawn(async move {
                done_tx.send(thread::current().id()).unwrap();
            });
            seat.turn();
            // On a busy machine its own thread may have got it back meanwhile.
            if done_rx.recv_timeout(LONG) == Ok(thread::current().id()) {
                break;
            }
            assert!(Instant::now() < deadline, "it never drives");
        }
    }

    #[test]
    fn it_comes_back_from_one_that_computes_after_a_long_wait() {
        let io = start();
        let lender = io.lender.upgrade().unwrap();
        let begun = Instant::now();
        let turn = lender.lend(0, Does::Wait);
        // Its own thread looks for a while, and then no more.
        while lender.lock().looks || begun.elapsed() < 10 * QUIET {
            assert!(begun.elapsed() < LONG, "its own thread looks for ever");
            thread::yield_now();
        }

        drop(turn);
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
