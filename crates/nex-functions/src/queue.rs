//! Work that waits for an engine thread: a lane per function, taken in turn.
//!
//! Turns keep a function with a long backlog from holding up its neighbours for more than one call
//! each, and the bound on what one function runs at a time keeps a thread free for the others.
//!
//! A load that one thread can carry stays on one, whose instances are warm: idle threads are woken in the
//! order of their numbers, what waits behind a short run is left to the thread that runs it, and a thread
//! that is alone with short runs does the I/O between them itself (see [`io`](crate::io)).
//!
//! Where work waits and no thread takes any for [`STUCK_AFTER`], there are more threads for a while:
//! functions that never end hold up their neighbours no longer.

mod lane;
mod state;

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nex_process::OwnThread;
use tokio::sync::Notify;

pub(crate) use self::lane::LaneId;
use self::{
    lane::Lane,
    state::{State, Wants},
};

/// How long work may wait while no thread takes any, before there is one more.
const STUCK_AFTER: Duration = Duration::from_millis(10);

/// What waits.
pub(crate) trait Waiting {
    /// When it is of no use any more, if ever.
    fn deadline(&self) -> Option<Instant>;
    /// The memory that it holds while it waits.
    fn bytes(&self) -> usize;
}

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How many jobs wait in all.
    pub(crate) jobs: usize,
    /// How many bytes they hold.
    pub(crate) bytes: usize,
    /// How many jobs of one lane run at a time.
    pub(crate) running_per_lane: usize,
    /// How many threads there are.
    pub(crate) threads: usize,
    /// How many there are at most, while some are stuck; at most 64.
    pub(crate) most_threads: usize,
}

/// What an engine thread does next.
#[derive(Debug)]
pub(crate) enum Next<J> {
    /// Run this, and come back with how long that took.
    Run {
        lane: LaneId,
        job: J,
        /// Whether its runs are short, as far as is known.
        quick: bool,
        /// Whether it is all that runs.
        alone: bool,
    },
    /// There is nothing to do, and nothing runs. Short runs are expected, and this thread is to do the I/O
    /// until it is [told](Queue::told) that there is one.
    Drive,
    /// There is nothing to do just now: what the thread holds back should go before it waits.
    Nothing,
    /// It was put behind all others meanwhile: it has to take its turn again, or make room for one
    /// that does.
    Behind,
    /// Drop what is kept for this lane.
    Forget(LaneId),
    /// There was nothing to do for as long as the thread wanted to wait.
    Idle,
}

#[derive(Debug)]
pub(crate) struct Queue<J> {
    state: Mutex<State<J>>,
    /// The same as in the state: a thread that may be kept from running must not take the lock for little.
    behind: Arc<AtomicU64>,
    wakers: Box<[Waker]>,
    /// Wakes who looks after stuck threads: work found no idle one.
    pressed: Condvar,
    bounds: Bounds,
}

/// What wakes a thread.
#[derive(Debug, Default)]
struct Waker {
    /// Where it sleeps.
    parked: Condvar,
    /// Where it does I/O meanwhile.
    told: Notify,
}

/// A run that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    pub(crate) lane: LaneId,
    /// How long it took, unless that says nothing about the next one.
    pub(crate) took: Option<Duration>,
}

/// What a thread has done before it asks for more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Before {
    pub(crate) ran: Option<Ran>,
    /// Whether it holds answers back.
    pub(crate) holds: bool,
    /// Whether it has the I/O, which somebody else has to do when it sleeps.
    pub(crate) has_io: bool,
    /// Whether it was to do the I/O and cannot.
    pub(crate) cannot_drive: bool,
}

/// What is to be done about threads that have been at the same run for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relief {
    /// Those that hold answers back, a bit each: these are to be sent.
    pub(crate) stuck: u64,
    /// A thread to start, since all are stuck.
    pub(crate) thread: Option<usize>,
}

impl<J: Waiting> Queue<J> {
    /// A queue without lanes.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let behind = Arc::new(AtomicU64::new(0));
        let state = State::new(&bounds, Arc::clone(&behind));
        Self {
            state: Mutex::new(state),
            behind,
            wakers: (0..bounds.most_threads).map(|_| Waker::default()).collect(),
            pressed: Condvar::new(),
            bounds,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // Nothing in here runs foreign code, so the state is whole whatever happened to a thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_lane(&self) -> LaneId {
        let mut state = self.lock();
        state.last_lane += 1;
        let id = LaneId(state.last_lane);
        state.lanes.insert(id, Lane::default());
        id
    }

    /// Ends a lane. Threads forget what they keep for it; jobs that still wait are dropped.
    fn close_lane(&self, id: LaneId) {
        let mut state = self.lock();
        let Some(lane) = state.lanes.remove(&id) else {
            return;
        };
        state.turns.retain(|turn| *turn != id);
        state.jobs -= lane.jobs.len();
        state.bytes -= lane.jobs.iter().map(Waiting::bytes).sum::<usize>();
        let threads = state.threads;
        for (number, forgotten) in state.forgotten.iter_mut().enumerate() {
            if threads & (1 << number) != 0 {
                forgotten.push(id);
            }
        }
        let idle = std::mem::take(&mut state.idle);
        let driver = state.driver;
        drop(state);
        for number in (0..self.wakers.len()).filter(|number| idle & (1 << number) != 0) {
            self.tell(number, driver);
        }
    }

    /// What tells a thread that does I/O that there is something to run.
    pub(crate) fn told(&self, thread: usize) -> &Notify {
        &self.wakers[thread].told
    }

    fn tell(&self, thread: usize, driver: Option<usize>) {
        let waker = &self.wakers[thread];
        if driver == Some(thread) {
            waker.told.notify_one();
        } else {
            waker.parked.notify_one();
        }
    }

    /// Wakes a thread for a lane that is in turn now, unless one comes anyway.
    fn wake(&self, mut state: MutexGuard<'_, State<J>>) {
        if state.coming != 0 {
            return self.watch(state);
        }
        let Some(thread) = state.first_idle() else {
            return self.watch(state);
        };
        state.idle &= !(1 << thread);
        let driver = state.driver;
        if driver == Some(thread) {
            state.coming |= 1 << thread;
            state.doing_io |= 1 << thread;
        }
        // Whoever wakes wants the lock.
        drop(state);
        self.tell(thread, driver);
    }

    /// Makes somebody look whether what waits is taken.
    fn watch(&self, mut state: MutexGuard<'_, State<J>>) {
        if !std::mem::replace(&mut state.watched, true) {
            drop(state);
            self.pressed.notify_one();
        }
    }

    fn push(&self, id: LaneId, job: J) -> Result<(), J> {
        let mut state = self.lock();
        let wants = state.push(&self.bounds, id, job)?;
        self.heed(state, wants);
        Ok(())
    }

    fn push_all(&self, id: LaneId, jobs: Vec<J>) -> Vec<J> {
        if jobs.is_empty() {
            return jobs;
        }
        let mut state = self.lock();
        let mut wants = Wants::Nothing;
        let mut refused = Vec::new();
        for job in jobs {
            match state.push(&self.bounds, id, job) {
                Ok(wanted) => wants = wants.max(wanted),
                Err(job) => refused.push(job),
            }
        }
        self.heed(state, wants);
        refused
    }

    fn heed(&self, state: MutexGuard<'_, State<J>>, wants: Wants) {
        match wants {
            // A woken thread that leaves some of it wakes the next one.
            Wants::Wake => self.wake(state),
            Wants::Watch => self.watch(state),
            Wants::Nothing => {}
        }
    }

    /// Takes out what is not to run any more.
    fn withdraw(&self, id: LaneId, which: impl Fn(&J) -> bool) -> Vec<J> {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(&id) else {
            return Vec::new();
        };
        if !lane.jobs.iter().any(&which) {
            return Vec::new();
        }
        let (out, kept) = lane.jobs.drain(..).partition::<Vec<J>, _>(which);
        lane.jobs = kept.into();
        if lane.in_turn && lane.jobs.is_empty() {
            lane.in_turn = false;
            state.turns.retain(|turn| *turn != id);
        }
        state.jobs -= out.len();
        state.bytes -= out.iter().map(Waiting::bytes).sum::<usize>();
        out
    }

    /// Waits for what a thread has to do after what it did, at most for `patience` where it has some;
    /// `None` once the queue is closed.
    pub(crate) fn next(
        &self,
        thread: usize,
        before: Before,
        patience: Option<Duration>,
    ) -> Option<Next<J>> {
        let mut state = self.lock();
        let bit = 1 << thread;
        state.holding &= !bit;
        state.suspect &= !bit;
        let was_expected = state.coming & bit != 0;
        state.coming &= !bit;
        state.doing_io &= !bit;
        state.driver = state.driver.filter(|driver| *driver != thread);
        let mut more_wanted = false;
        if let Some(ran) = before.ran {
            let done = state.done(&ran, self.bounds.running_per_lane);
            more_wanted = done.more_wanted;
            state.quick &= !bit;
            state.quick |= if done.quick { bit } else { 0 };
        }
        if state.behind.fetch_and(!bit, Ordering::Relaxed) & bit != 0 {
            if more_wanted || (was_expected && !state.turns.is_empty()) {
                self.wake(state);
            }
            return Some(Next::Behind);
        }
        loop {
            if state.closed {
                return None;
            }
            state.idle &= !bit;
            if let Some(id) = state.forgotten[thread].pop() {
                // What is forgotten may be large.
                if more_wanted || (was_expected && !state.turns.is_empty()) {
                    self.wake(state);
                }
                return Some(Next::Forget(id));
            }
            if let Some((lane, job, quick)) = state.take(self.bounds.running_per_lane) {
                // Of what waits behind a short run, this thread itself is the first to take.
                let more_wanted = (more_wanted || !quick) && !state.turns.is_empty()
                    // What would have woken another one, had this one not been about to ask.
                    || was_expected && state.has_long();
                // This run may be the first that is not short.
                let left_alone = !more_wanted && !state.turns.is_empty();
                let alone = !more_wanted && !self.is_extra(thread) && state.is_alone(thread);
                if quick && before.holds {
                    state.holding |= bit;
                }
                if more_wanted {
                    self.wake(state);
                } else if (quick && before.holds) || left_alone {
                    self.watch(state);
                }
                return Some(Next::Run {
                    lane,
                    job,
                    quick,
                    alone,
                });
            }
            if !state.turns.is_empty() && !std::mem::replace(&mut state.watched, true) {
                // It is left to a thread that runs something short, or seems to.
                self.pressed.notify_one();
            }
            let drives = state.quick & bit != 0 && !before.cannot_drive && !self.is_extra(thread);
            if drives && state.driver.is_none() && state.is_alone(thread) {
                state.idle |= bit;
                state.driver = Some(thread);
                return Some(Next::Drive);
            }
            if before.holds || before.has_io {
                state.coming |= bit;
                return Some(Next::Nothing);
            }
            state.idle |= bit;
            let waker = &self.wakers[thread].parked;
            state = match patience {
                None => waker.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let waited = waker.wait_timeout(state, patience);
                    let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    if timeout.timed_out() && state.idle & bit != 0 && !state.closed {
                        state.idle &= !bit;
                        return Some(Next::Idle);
                    }
                    state
                }
            };
        }
    }

    /// Says which thread of the system has this number, before it asks for anything.
    pub(crate) fn begin(&self, thread: usize, own: Option<OwnThread>) {
        self.lock().own[thread] = own;
    }

    /// Waits until threads are stuck with answers, or one more thread is wanted; `None` once the queue
    /// is closed.
    ///
    /// Those that run while one more is wanted, and do not just wait for an answer, go behind all
    /// others of the machine: what they hold up would else share a processor with them.
    pub(crate) fn relieves(&self) -> Option<Relief> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let number = state.threads.trailing_ones() as usize;
            if number < self.bounds.threads {
                state.threads |= 1 << number;
                return Some(Relief {
                    stuck: 0,
                    thread: Some(number),
                });
            }
            // Nobody can be woken, and nothing is left to others that they may never come to.
            let full = state.idle == 0
                && number >= self.bounds.most_threads
                && !state.turns.iter().any(|id| state.is_left(*id));
            if (state.turns.is_empty() || full) && state.holding == 0 {
                state.watched = false;
                let waited = self.pressed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let taken = state.taken;
            state.suspect = state.holding;
            let waited = self.pressed.wait_timeout(state, STUCK_AFTER);
            let (waited, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = waited;
            if state.closed || !timeout.timed_out() {
                continue;
            }
            let stuck = std::mem::take(&mut state.suspect);
            state.holding &= !stuck;
            let mut relief = Relief {
                stuck,
                thread: None,
            };
            let held_up = !state.turns.is_empty() && state.taken == taken;
            if held_up {
                // Whoever was to come did not.
                state.coming = 0;
            }
            if (state.holds_up_since(taken) || held_up) && state.idle != 0 {
                self.wake(state);
                state = self.lock();
            } else if held_up && number < self.bounds.most_threads {
                state.put_behind();
                state.threads |= 1 << number;
                relief.thread = Some(number);
            }
            if relief.stuck != 0 || relief.thread.is_some() {
                return Some(relief);
            }
        }
    }

    /// Whether a thread runs all that there is to run, and not behind all others.
    pub(crate) fn is_alone(&self, thread: usize) -> bool {
        let bit = 1 << thread;
        if self.behind.load(Ordering::Relaxed) & bit != 0 {
            return false;
        }
        let state = self.lock();
        state.jobs == 0 && state.is_alone(thread)
    }

    /// Says that a thread does no I/O any more, since it waited for so long; whether it was told just then
    /// that there is something to run.
    pub(crate) fn stops_driving(&self, thread: usize) -> bool {
        let mut state = self.lock();
        let bit = 1 << thread;
        let told = state.idle & bit == 0;
        state.idle &= !bit;
        state.driver = None;
        told
    }

    /// Whether a thread that goes on in a moment may do I/O until then: it is all that runs.
    pub(crate) fn pauses(&self, thread: usize) -> bool {
        let mut state = self.lock();
        let bit = 1 << thread;
        let may = state.behind.load(Ordering::Relaxed) & bit == 0 && state.is_alone(thread);
        if may {
            state.coming |= bit;
            state.doing_io |= bit;
        }
        may
    }

    /// Whether a thread is one more than usual.
    pub(crate) fn is_extra(&self, thread: usize) -> bool {
        thread >= self.bounds.threads
    }

    /// Takes a thread out that is one more than usual, unless there is something to run; whether it
    /// did.
    pub(crate) fn leave(&self, thread: usize) -> bool {
        let mut state = self.lock();
        let leaves = self.is_extra(thread) && state.turns.is_empty();
        if leaves {
            state.threads &= !(1 << thread);
            state.idle &= !(1 << thread);
            state.coming &= !(1 << thread);
            state.doing_io &= !(1 << thread);
            state.behind.fetch_and(!(1 << thread), Ordering::Relaxed);
            state.own[thread] = None;
            state.forgotten[thread].clear();
        }
        leaves
    }

    /// Takes a thread out that is about to end; there will be another one of its number.
    pub(crate) fn retire(&self, thread: usize) {
        let mut state = self.lock();
        state.threads &= !(1 << thread);
        state.behind.fetch_and(!(1 << thread), Ordering::Relaxed);
        state.own[thread] = None;
        state.forgotten[thread].clear();
        drop(state);
        self.pressed.notify_one();
    }

    /// Ends all threads, after what they are doing.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        for waker in &self.wakers {
            waker.parked.notify_one();
            waker.told.notify_one();
        }
        self.pressed.notify_one();
    }
}

/// The lane of a function, open as long as this lives.
#[derive(Debug)]
pub(crate) struct LaneGuard<J: Waiting> {
    id: LaneId,
    queue: Arc<Queue<J>>,
}

impl<J: Waiting> LaneGuard<J> {
    /// A new lane.
    pub(crate) fn open(queue: &Arc<Queue<J>>) -> Self {
        Self {
            id: queue.open_lane(),
            queue: Arc::clone(queue),
        }
    }

    /// Adds a job, or gives it back where there is no room.
    pub(crate) fn push(&self, job: J) -> Result<(), J> {
        self.queue.push(self.id, job)
    }

    /// Adds jobs, and gives back those for which there is no room.
    pub(crate) fn push_all(&self, jobs: Vec<J>) -> Vec<J> {
        self.queue.push_all(self.id, jobs)
    }

    /// Takes out what is past its deadline.
    pub(crate) fn expired(&self, now: Instant) -> Vec<J> {
        self.withdraw(|job| job.deadline().is_some_and(|deadline| deadline <= now))
    }

    /// Takes out what is not to run any more.
    pub(crate) fn withdraw(&self, which: impl Fn(&J) -> bool) -> Vec<J> {
        self.queue.withdraw(self.id, which)
    }
}

impl<J: Waiting> Drop for LaneGuard<J> {
    fn drop(&mut self) {
        self.queue.close_lane(self.id);
    }
}

#[cfg(test)]
mod tests;
