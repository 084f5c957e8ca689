//! Work that waits for an engine thread: a lane per function, taken in turn.
//!
//! Turns keep a function with a long backlog from holding up its neighbours for more than one call
//! each, and the bound on what one function runs at a time keeps a thread free for the others.
//!
//! Idle threads are woken in the order of their numbers: a load that one thread can carry stays on
//! one, whose instances are warm. Where work waits and no thread takes any for [`STUCK_AFTER`], there
//! are more threads for a while: functions that never end hold up their neighbours no longer.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nex_process::OwnThread;
use tracing::debug;

/// How long work may wait while no thread takes any, before there is one more.
const STUCK_AFTER: Duration = Duration::from_millis(10);

/// Runs that are shorter than this are not worth waking a second thread for what waits behind them,
const QUICK: Duration = Duration::from_micros(100);
/// unless they add up to this.
const LONG: Duration = Duration::from_millis(1);

/// A function, as the queue and the engine threads know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LaneId(u64);

#[cfg(test)]
impl LaneId {
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number)
    }
}

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
    /// Run this, then call [`Queue::done`].
    Run(LaneId, J),
    /// Drop what is kept for this lane.
    Forget(LaneId),
    /// There was nothing to do for as long as the thread wanted to wait.
    Idle,
}

#[derive(Debug)]
pub(crate) struct Queue<J> {
    state: Mutex<State<J>>,
    /// Wakes a thread.
    wakers: Box<[Condvar]>,
    /// Wakes who looks after stuck threads: work found no idle one.
    pressed: Condvar,
    bounds: Bounds,
}

#[derive(Debug)]
struct State<J> {
    lanes: HashMap<LaneId, Lane<J>>,
    /// Lanes that have a job to give, in the order of their turns.
    turns: VecDeque<LaneId>,
    /// What each thread has still to forget.
    forgotten: Vec<Vec<LaneId>>,
    jobs: usize,
    bytes: usize,
    last_lane: u64,
    /// The threads that there are, a bit each.
    threads: u64,
    /// Those that wait.
    idle: u64,
    /// How many jobs threads have taken.
    taken: u64,
    /// Those that run behind all others, since they held up what waits.
    behind: u64,
    /// The threads as the system knows them.
    own: Vec<Option<OwnThread>>,
    /// Whether somebody looks at `taken` already.
    watched: bool,
    closed: bool,
}

#[derive(Debug)]
struct Lane<J> {
    jobs: VecDeque<J>,
    running: usize,
    in_turn: bool,
    /// How long its last run took.
    ran: Duration,
}

impl<J: Waiting> Queue<J> {
    /// A queue without lanes.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let state = State {
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            forgotten: vec![Vec::new(); bounds.most_threads],
            jobs: 0,
            bytes: 0,
            last_lane: 0,
            threads: (1 << bounds.threads) - 1,
            idle: 0,
            taken: 0,
            behind: 0,
            own: vec![None; bounds.most_threads],
            watched: false,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            wakers: (0..bounds.most_threads).map(|_| Condvar::new()).collect(),
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
        state.lanes.insert(
            id,
            Lane {
                jobs: VecDeque::new(),
                running: 0,
                in_turn: false,
                ran: Duration::MAX,
            },
        );
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
        drop(state);
        self.wakers
            .iter()
            .enumerate()
            .filter(|(number, _)| idle & (1 << number) != 0)
            .for_each(|(_, waker)| waker.notify_one());
    }

    /// Wakes a thread for a lane that is in turn now.
    fn wake(&self, mut state: MutexGuard<'_, State<J>>) {
        let waker = match state.idle.trailing_zeros() {
            64 if state.watched => return,
            64 => {
                state.watched = true;
                &self.pressed
            }
            number => {
                state.idle &= !(1 << number);
                &self.wakers[number as usize]
            }
        };
        // Whoever wakes wants the lock.
        drop(state);
        waker.notify_one();
    }

    fn push(&self, id: LaneId, job: J) -> Result<(), J> {
        let mut state = self.lock();
        let bytes = job.bytes();
        if state.jobs >= self.bounds.jobs || state.bytes + bytes > self.bounds.bytes {
            return Err(job);
        }
        let State { lanes, turns, .. } = &mut *state;
        let Some(lane) = lanes.get_mut(&id) else {
            return Err(job);
        };
        lane.jobs.push_back(job);
        let now_in_turn = lane.take_turn(id, turns, self.bounds.running_per_lane);
        // One that runs now comes to it soon, or else each that waits may have a thread.
        let wake = match lane.waits_soon() {
            true => now_in_turn && lane.running == 0,
            false => lane.in_turn,
        };
        state.jobs += 1;
        state.bytes += bytes;
        if wake {
            self.wake(state);
        } else if now_in_turn && !state.watched {
            // The run that is to end soon may be the first that does not.
            state.watched = true;
            drop(state);
            self.pressed.notify_one();
        }
        Ok(())
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

    /// Waits for what a thread has to do, at most for `patience` where it has some; `None` once the
    /// queue is closed.
    pub(crate) fn next(&self, thread: usize, patience: Option<Duration>) -> Option<Next<J>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            state.idle &= !(1 << thread);
            if let Some(id) = state.forgotten[thread].pop() {
                return Some(Next::Forget(id));
            }
            if let Some((id, job, quick)) = state.take(self.bounds.running_per_lane) {
                // Of what waits behind a short run, this thread itself is the first to take.
                if !quick && !state.turns.is_empty() {
                    self.wake(state);
                }
                return Some(Next::Run(id, job));
            }
            state.idle |= 1 << thread;
            let waker = &self.wakers[thread];
            state = match patience {
                None => waker.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let waited = waker.wait_timeout(state, patience);
                    let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    if timeout.timed_out() && state.idle & (1 << thread) != 0 && !state.closed {
                        state.idle &= !(1 << thread);
                        return Some(Next::Idle);
                    }
                    state
                }
            };
        }
    }

    /// Tells that a job of the lane is over, and how long it ran.
    ///
    /// Returns whether the thread was put behind all others meanwhile: it has to take its turn again,
    /// or make room for one that does.
    pub(crate) fn done(&self, thread: usize, id: LaneId, ran: Duration) -> bool {
        let mut state = self.lock();
        let behind = state.behind & (1 << thread) != 0;
        state.behind &= !(1 << thread);
        let State { lanes, turns, .. } = &mut *state;
        if let Some(lane) = lanes.get_mut(&id) {
            lane.running -= 1;
            lane.ran = ran;
            // The thread that says so is about to look for more itself.
            if lane.take_turn(id, turns, self.bounds.running_per_lane) && !lane.waits_soon() {
                self.wake(state);
            }
        }
        behind
    }

    /// Says which thread of the system has this number, before it asks for anything.
    pub(crate) fn begin(&self, thread: usize, own: Option<OwnThread>) {
        self.lock().own[thread] = own;
    }

    /// Waits until one more thread is wanted; its number, or `None` once the queue is closed.
    ///
    /// Those that run meanwhile, and do not just wait for an answer, go behind all others of the
    /// machine: what they hold up would else share a processor with them.
    pub(crate) fn wants_thread(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let number = state.threads.trailing_ones() as usize;
            if number < self.bounds.threads {
                state.threads |= 1 << number;
                return Some(number);
            }
            let full = state.idle == 0 && number >= self.bounds.most_threads;
            if state.turns.is_empty() || full {
                state.watched = false;
                let waited = self.pressed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let taken = state.taken;
            let waited = self.pressed.wait_timeout(state, STUCK_AFTER);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.turns.is_empty() || state.taken != taken || state.closed {
                continue;
            }
            if state.idle != 0 {
                self.wake(state);
                state = self.lock();
            } else if number < self.bounds.most_threads {
                state.put_behind();
                state.threads |= 1 << number;
                return Some(number);
            }
        }
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
            state.own[thread] = None;
            state.forgotten[thread].clear();
        }
        leaves
    }

    /// Takes a thread out that is about to end; there will be another one of its number.
    pub(crate) fn retire(&self, thread: usize) {
        let mut state = self.lock();
        state.threads &= !(1 << thread);
        state.own[thread] = None;
        state.forgotten[thread].clear();
        drop(state);
        self.pressed.notify_one();
    }

    /// Ends all threads, after what they are doing.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wakers.iter().for_each(Condvar::notify_one);
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

impl<J> Lane<J> {
    /// Whether the thread that runs one of its jobs comes to all that wait before long.
    fn waits_soon(&self) -> bool {
        let waiting = u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
        self.ran < QUICK && self.ran.saturating_mul(waiting) < LONG
    }

    /// Lines up for a turn where there is something to run and room to run it.
    fn take_turn(&mut self, id: LaneId, turns: &mut VecDeque<LaneId>, max_running: usize) -> bool {
        let wants = !self.in_turn && !self.jobs.is_empty() && self.running < max_running;
        if wants {
            self.in_turn = true;
            turns.push_back(id);
        }
        wants
    }
}

impl<J: Waiting> State<J> {
    fn put_behind(&mut self) {
        for (number, own) in self.own.iter().enumerate() {
            let bit = 1 << number;
            let Some(own) = own.filter(|_| self.threads & !self.behind & bit != 0) else {
                continue;
            };
            if own.is_running() {
                match own.behind_all() {
                    Ok(()) => self.behind |= bit,
                    Err(error) => debug!(%error, "a stuck thread keeps its turns"),
                }
            }
        }
    }

    /// The next job, and whether runs of its lane are short.
    fn take(&mut self, max_running: usize) -> Option<(LaneId, J, bool)> {
        let id = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&id)?;
        lane.in_turn = false;
        let job = lane.jobs.pop_front()?;
        lane.running += 1;
        lane.take_turn(id, &mut self.turns, max_running);
        self.jobs -= 1;
        self.taken = self.taken.wrapping_add(1);
        let quick = lane.ran < QUICK;
        self.bytes -= job.bytes();
        Some((id, job, quick))
    }
}

#[cfg(test)]
mod tests;
