//! Decides which engine thread runs which function, and which thread drives the I/O.
//!
//! Each function has a lane: its backlog and its instances. Lanes take turns, so that a function with a
//! long backlog holds up its neighbours for no more than one turn each. A turn is one job that begins in
//! an instance, or an instance that goes on since it was woken; between turns an instance is parked in
//! its lane, and any thread may take it. An instance whose invocations wait costs no thread.
//!
//! A load that one thread can carry stays on one: idle threads are woken in the order of their numbers,
//! and the backlog of a function with short turns is left to the thread that runs it. A thread that is
//! alone with short turns has the [lease](lease) of the I/O runtime and drives it between turns. Nobody
//! has to be woken then for a message that comes, nor for the answer.
//!
//! The watchdog takes the lease from a thread that computes for 2 ms. Where work waits and no thread takes
//! any for 10 ms, it starts another thread and gives those that compute idle priority (`SCHED_IDLE`).
//! A thread whose turn waits in a synchronous host call has another one in its place, up to a bound.
//!
//! All state is under one lock and changes only by the methods of [`state`], which also note who has to be
//! woken; [`Scheduler::update`] sends these signals when it has let go of the lock. These files use locks
//! only by `crate::sync`: the model check in `tests/model` compiles them with those of a model
//! checker.

mod lane;
mod lease;
mod pace;
mod state;
mod threads;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nex_process::OwnThread;

pub(crate) use self::lane::{Ended, InstanceId, Kept, LaneBounds, LaneId, Turn, Work};
use self::{
    lane::Lane,
    lease::Lease,
    state::{STUCK_AFTER, Signals, State, Step},
    threads::Thread,
};
use crate::sync::{AtomicBool, Condvar, Mutex, MutexGuard, Notify, Ordering, PoisonError};

/// Limit for a thread beyond the usual number to stay without work.
const EXTRA_PATIENCE: Duration = Duration::from_secs(5);

/// Work that waits in a lane.
pub(crate) trait Job {
    /// The memory that it holds while it waits.
    fn bytes(&self) -> usize;
}

/// The bounds of a scheduler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Jobs that wait in all lanes.
    pub(crate) jobs: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// Engine threads.
    pub(crate) threads: usize,
    /// Threads more than that while all are stuck.
    pub(crate) extra: usize,
    /// Threads that may wait in synchronous host calls, beside those.
    pub(crate) waiting: usize,
}

impl Bounds {
    /// Returns the highest number of engine threads.
    pub(crate) fn places(&self) -> usize {
        self.threads + self.extra + self.waiting
    }
}

/// The next step of an engine thread.
#[derive(Debug)]
pub(crate) enum Next<J, I> {
    /// Run a turn, and come back with its end.
    Run {
        turn: Turn<J, I>,
        /// Set where answers may wait for its end.
        is_short: bool,
    },
    /// Nothing is to do. The thread has the lease, and drives until it is [told](Scheduler::told).
    Drive,
    /// The thread has the lease, and there is more to run: do what I/O there is just now.
    Poll,
    /// Nothing is to do just now: send the answers that are held back.
    Send,
    /// Drop these.
    Drop(Vec<I>),
    /// There was nothing to do for [`EXTRA_PATIENCE`].
    Idle,
    /// End: the thread cannot get rid of its idle priority, and another one takes its place.
    Retire,
}

/// The last step of a thread that asks for the next.
#[derive(Debug)]
pub(crate) struct Report<I> {
    pub(crate) ended: Option<Ended<I>>,
    /// Set while it holds answers back.
    pub(crate) holds: bool,
}

impl<I> Default for Report<I> {
    fn default() -> Self {
        Self {
            ended: None,
            holds: false,
        }
    }
}

/// Tasks of the watchdog, for threads that have been at the same turn for long.
#[derive(Debug, Default)]
pub(crate) struct Relief {
    /// Threads whose answers are to be sent for them.
    pub(crate) stuck: Vec<usize>,
    /// A thread to start.
    pub(crate) thread: Option<usize>,
    /// Threads that have idle priority from now on.
    demoted: Vec<usize>,
    /// Set where the memory of the process is to be measured.
    pub(crate) measures: bool,
    /// Set where freed memory is to be given back to the system.
    pub(crate) releases: bool,
}

impl Relief {
    fn asks(&self) -> bool {
        !self.stuck.is_empty() || self.thread.is_some() || self.measures || self.releases
    }
}

#[derive(Debug)]
pub(crate) struct Scheduler<J, I> {
    state: Mutex<State<J, I>>,
    wakers: Box<[Waker]>,
    /// Wakes the runtime's own thread where it waits for the lease.
    lease_returned: Condvar,
    /// Makes it let go of the runtime.
    lease_taken: Notify,
    watchdog: Condvar,
}

/// Wakes an engine thread.
#[derive(Debug, Default)]
struct Waker {
    /// Wakes it from sleep.
    parked: Condvar,
    /// Ends its drive.
    told: Notify,
    /// Set while it has idle priority. Such a thread must not take the lock: it may be kept from running
    /// for long while it holds it.
    is_demoted: AtomicBool,
}

impl<J: Job, I> Scheduler<J, I> {
    /// A scheduler without lanes and threads.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            state: Mutex::new(State::new(bounds, Instant::now())),
            wakers: (0..bounds.places()).map(|_| Waker::default()).collect(),
            lease_returned: Condvar::new(),
            lease_taken: Notify::new(),
            watchdog: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<J, I>> {
        // No foreign code runs under the lock, so the state is whole whatever happened to a thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes those whom that concerns.
    fn update<T>(&self, change: impl FnOnce(&mut State<J, I>) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let signals = std::mem::take(&mut state.signals);
        drop(state);
        self.send(signals);
        result
    }

    fn send(&self, signals: Signals) {
        for (thread, drives) in signals.threads {
            match drives {
                true => self.wakers[thread].told.notify_one(),
                false => self.wakers[thread].parked.notify_one(),
            }
        }
        if signals.lease_taken {
            self.lease_taken.notify_one();
        }
        if signals.lease_returned {
            self.lease_returned.notify_one();
        }
        if signals.watchdog {
            self.watchdog.notify_one();
        }
    }

    // For those who have work.

    /// Makes a lane.
    pub(crate) fn open_lane(&self, bounds: LaneBounds) -> LaneId {
        self.update(|state| {
            let id = LaneId(state.new_id());
            state.lanes.insert(id, Lane::new(bounds));
            id
        })
    }

    /// Ends a lane: its parked instances are dropped, those that run when their turns are over. Returns
    /// the jobs that have not begun.
    pub(crate) fn close_lane(&self, id: LaneId) -> impl Iterator<Item = J> + use<J, I> {
        self.update(|state| state.close_lane(id)).into_iter()
    }

    /// Adds jobs; returns those for which there is no room.
    pub(crate) fn push(&self, id: LaneId, jobs: Vec<J>) -> Vec<J> {
        if jobs.is_empty() {
            return jobs;
        }
        let now = Instant::now();
        self.update(|state| state.push(id, jobs, now))
    }

    /// Takes jobs out that have not begun.
    pub(crate) fn withdraw(&self, id: LaneId, which: impl Fn(&J) -> bool) -> Vec<J> {
        self.update(|state| state.withdraw(id, which))
    }

    /// Resumes an instance, at once or after the turn that it has just now.
    pub(crate) fn wake(&self, id: LaneId, instance: InstanceId) {
        let now = Instant::now();
        self.update(|state| state.wake(id, instance, now));
    }

    /// Ends all threads after the turns that they run.
    pub(crate) fn close(&self) {
        self.update(State::close);
        for waker in &self.wakers {
            waker.parked.notify_one();
            waker.told.notify_one();
        }
        self.watchdog.notify_one();
    }

    // For engine threads.

    /// Says which thread of the system has this number, before it asks for anything.
    pub(crate) fn begin(&self, thread: usize, own: Option<OwnThread>) {
        self.update(|state| state.threads.identify(thread, own));
    }

    /// Tells a thread that drives that there is something to do.
    pub(crate) fn told(&self, thread: usize) -> &Notify {
        &self.wakers[thread].told
    }

    /// Waits for what a thread has to do after what it did; `None` once the scheduler is closed. `now` is
    /// when its turn ended.
    pub(crate) fn next(
        &self,
        thread: usize,
        report: Report<I>,
        now: Instant,
    ) -> Option<Next<J, I>> {
        let mut report = report;
        let mut now = now;
        if !self.promote(thread) {
            self.update(|state| state.retire(thread, report, now));
            return Some(Next::Retire);
        }
        loop {
            let report = std::mem::take(&mut report);
            match self.update(|state| state.step(thread, report, now)) {
                Step::Next(next) => return Some(next),
                Step::Close => return None,
                // It was demoted just before it came here.
                Step::Promote if self.promote(thread) => {}
                Step::Promote => {
                    self.update(|state| state.retire(thread, Report::default(), now));
                    return Some(Next::Retire);
                }
                Step::Park => {
                    if !self.park(thread) {
                        return Some(Next::Idle);
                    }
                }
            }
            now = Instant::now();
        }
    }

    /// Sleeps until the thread is woken; returns false where it is one more than usual and was not for
    /// [`EXTRA_PATIENCE`].
    fn park(&self, thread: usize) -> bool {
        let parked = &self.wakers[thread].parked;
        let mut state = self.lock();
        while state.threads.get(thread) == Thread::Parked && !state.is_closed {
            if !state.is_extra(thread) {
                state = parked.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = parked.wait_timeout(state, EXTRA_PATIENCE);
            let (waited, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = waited;
            if timeout.timed_out() && state.threads.get(thread) == Thread::Parked {
                state.threads.set(thread, Thread::Waking);
                return false;
            }
        }
        true
    }

    /// Takes idle priority from a thread; false where the system does not let it.
    fn promote(&self, thread: usize) -> bool {
        let is_demoted = &self.wakers[thread].is_demoted;
        !is_demoted.swap(false, Ordering::Relaxed)
            || OwnThread::current().is_some_and(|own| own.restore_priority().is_ok())
    }

    /// Takes a thread out that is one more than usual, unless there is something to run; whether it did.
    pub(crate) fn leave(&self, thread: usize) -> bool {
        self.update(|state| state.leave(thread))
    }

    /// Takes a thread out that could not be started.
    pub(crate) fn failed_to_start(&self, thread: usize) {
        self.update(|state| state.threads.set(thread, Thread::Absent));
    }

    /// Begins to wait in a turn, in a synchronous host call; whether the thread is to drive meanwhile.
    pub(crate) fn begin_wait(&self, thread: usize) -> bool {
        if self.wakers[thread].is_demoted.load(Ordering::Relaxed) {
            return false;
        }
        let now = Instant::now();
        self.update(|state| state.begin_wait(thread, now))
    }

    /// Ends the wait.
    pub(crate) fn end_wait(&self, thread: usize) {
        let now = Instant::now();
        self.update(|state| state.end_wait(thread, now));
    }

    /// Drops the half of the idle instances that nobody has used for the longest time.
    pub(crate) fn discard_half(&self) {
        self.update(State::discard_half);
    }

    // For the thread of the I/O runtime.

    /// Makes the runtime's own thread let go of it, and [wait](Self::wait_for_lease).
    pub(crate) fn lease_taken(&self) -> &Notify {
        &self.lease_taken
    }

    /// Waits until no engine thread has the lease.
    pub(crate) fn wait_for_lease(&self) {
        let mut state = self.lock();
        while state.lease != Lease::Keeper {
            let waited = self.lease_returned.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    // For the watchdog.

    /// Waits until something is to be done for threads that have been at the same turn for long; `None`
    /// once the scheduler is closed.
    pub(crate) fn watch(&self) -> Option<Relief> {
        loop {
            let relief = self.look(Instant::now());
            if relief.asks() {
                return Some(relief);
            }
            if !self.rest() {
                return None;
            }
        }
    }

    /// Does now what threads do not that are at the same turn for long.
    pub(crate) fn look(&self, now: Instant) -> Relief {
        self.update(|state| {
            let relief = state.look(now);
            for thread in &relief.demoted {
                let is_demoted = &self.wakers[*thread].is_demoted;
                is_demoted.store(true, Ordering::Relaxed);
            }
            relief
        })
    }

    /// Sleeps until it is time to look again; returns false once the scheduler is closed.
    fn rest(&self) -> bool {
        let mut state = self.lock();
        if state.is_closed {
            return false;
        }
        if state.lacks_thread() {
            // Since it looked.
            return true;
        }
        let period = state.watch_period(Instant::now());
        // Others wake it where it sleeps for long.
        state.is_watched = period.is_some_and(|period| period <= STUCK_AFTER);
        match period {
            None => drop(self.watchdog.wait(state)),
            Some(period) => drop(self.watchdog.wait_timeout(state, period)),
        }
        true
    }
}

/// The lane of a function, open as long as this lives.
#[derive(Debug)]
pub(crate) struct LaneHandle<J: Job, I> {
    id: LaneId,
    scheduler: Arc<Scheduler<J, I>>,
}

impl<J: Job, I> LaneHandle<J, I> {
    pub(crate) fn open(scheduler: &Arc<Scheduler<J, I>>, bounds: LaneBounds) -> Self {
        Self {
            id: scheduler.open_lane(bounds),
            scheduler: Arc::clone(scheduler),
        }
    }

    /// Adds jobs; returns those for which there is no room.
    pub(crate) fn push(&self, jobs: Vec<J>) -> Vec<J> {
        self.scheduler.push(self.id, jobs)
    }

    /// Takes jobs out that have not begun.
    pub(crate) fn withdraw(&self, which: impl Fn(&J) -> bool) -> Vec<J> {
        self.scheduler.withdraw(self.id, which)
    }
}

impl<J: Job, I> Drop for LaneHandle<J, I> {
    fn drop(&mut self) {
        // Nobody waits for what has not begun.
        drop(self.scheduler.close_lane(self.id));
    }
}

#[cfg(test)]
mod tests;
