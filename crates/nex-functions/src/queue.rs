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
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nex_process::OwnThread;
use tracing::debug;

/// How long work may wait while no thread takes any, before there is one more.
const STUCK_AFTER: Duration = Duration::from_millis(10);

/// Runs that are shorter than this are not worth waking a second thread for what waits behind them,
const QUICK: Duration = Duration::from_micros(100);
/// unless they add up to this.
const LONG: Duration = Duration::from_millis(4);

/// No run is taken for shorter than this.
const SHORTEST: Duration = Duration::from_micros(1);

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
    /// Run this, and come back with how long that took.
    Run {
        lane: LaneId,
        job: J,
        /// Whether its runs are short, as far as is known.
        quick: bool,
    },
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
    /// Those that run something, and hold answers back.
    holding: u64,
    /// Those of them that did so already when they were last looked at.
    suspect: u64,
    /// How many jobs threads have taken.
    taken: u64,
    /// Those that run behind all others, since they held up what waits.
    behind: Arc<AtomicU64>,
    /// The threads as the system knows them.
    own: Vec<Option<OwnThread>>,
    /// Whether somebody looks at `taken` and `holding` already.
    watched: bool,
    closed: bool,
}

#[derive(Debug)]
struct Lane<J> {
    jobs: VecDeque<J>,
    running: usize,
    in_turn: bool,
    /// How long a run takes: as long as the last one, and at most twice as long as those before it, unless
    /// it was long. One that had to share its processor seems longer than it is.
    ran: Duration,
}

/// A run that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    pub(crate) lane: LaneId,
    pub(crate) took: Duration,
}

/// What a thread has done before it asks for more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Before {
    pub(crate) ran: Option<Ran>,
    /// Whether it holds answers back.
    pub(crate) holds: bool,
}

/// What is to be done about threads that have been at the same run for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relief {
    /// Those that hold answers back, a bit each: these are to be sent.
    pub(crate) stuck: u64,
    /// A thread to start, since all are stuck.
    pub(crate) thread: Option<usize>,
}

/// What is to be done about a new job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wants {
    /// Its turn comes.
    Nothing,
    /// The run that is to end soon may be the first that does not.
    Watch,
    /// A thread.
    Wake,
}

impl<J: Waiting> Queue<J> {
    /// A queue without lanes.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let behind = Arc::new(AtomicU64::new(0));
        let state = State {
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            forgotten: vec![Vec::new(); bounds.most_threads],
            jobs: 0,
            bytes: 0,
            last_lane: 0,
            threads: (1 << bounds.threads) - 1,
            idle: 0,
            holding: 0,
            suspect: 0,
            taken: 0,
            behind: Arc::clone(&behind),
            own: vec![None; bounds.most_threads],
            watched: false,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            behind,
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

    fn heed(&self, mut state: MutexGuard<'_, State<J>>, wants: Wants) {
        match wants {
            // A woken thread that leaves some of it wakes the next one.
            Wants::Wake => self.wake(state),
            Wants::Watch if !state.watched => {
                state.watched = true;
                drop(state);
                self.pressed.notify_one();
            }
            Wants::Watch | Wants::Nothing => {}
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
        let mut more_wanted = false;
        if let Some(ran) = before.ran {
            more_wanted = state.done(&ran, self.bounds.running_per_lane);
        }
        if state.behind.fetch_and(!bit, Ordering::Relaxed) & bit != 0 {
            if more_wanted {
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
                if more_wanted {
                    self.wake(state);
                }
                return Some(Next::Forget(id));
            }
            if let Some((lane, job, quick)) = state.take(self.bounds.running_per_lane) {
                // Of what waits behind a short run, this thread itself is the first to take.
                let more_wanted = (more_wanted || !quick) && !state.turns.is_empty();
                // This run may be the first that is not short.
                let left_alone = !more_wanted && !state.turns.is_empty();
                let mut watch = false;
                if quick && before.holds {
                    state.holding |= bit;
                }
                if (quick && before.holds) || left_alone {
                    watch = !std::mem::replace(&mut state.watched, true);
                }
                if more_wanted {
                    self.wake(state);
                } else {
                    drop(state);
                }
                if watch {
                    self.pressed.notify_one();
                }
                return Some(Next::Run { lane, job, quick });
            }
            if before.holds {
                return Some(Next::Nothing);
            }
            state.idle |= bit;
            let waker = &self.wakers[thread];
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
            let full = state.idle == 0 && number >= self.bounds.most_threads;
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
            if held_up && state.idle != 0 {
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
        state.jobs == 0 && state.threads & !state.idle == bit
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
    fn push(&mut self, bounds: &Bounds, id: LaneId, job: J) -> Result<Wants, J> {
        let bytes = job.bytes();
        if self.jobs >= bounds.jobs || self.bytes + bytes > bounds.bytes {
            return Err(job);
        }
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Err(job);
        };
        lane.jobs.push_back(job);
        let now_in_turn = lane.take_turn(id, &mut self.turns, bounds.running_per_lane);
        // One that runs now comes to it soon, or else each that waits may have a thread.
        let wakes = match lane.waits_soon() {
            true => now_in_turn && lane.running == 0,
            false => lane.in_turn,
        };
        self.jobs += 1;
        self.bytes += bytes;
        Ok(match (wakes, now_in_turn) {
            (true, _) => Wants::Wake,
            (false, true) => Wants::Watch,
            (false, false) => Wants::Nothing,
        })
    }

    /// Notes that a run is over; whether its lane wants another thread than the one that says so.
    fn done(&mut self, ran: &Ran, max_running: usize) -> bool {
        let Some(lane) = self.lanes.get_mut(&ran.lane) else {
            return false;
        };
        lane.running -= 1;
        lane.ran = match ran.took {
            took if took >= LONG => took,
            took => took.min(lane.ran.saturating_mul(2)).max(SHORTEST),
        };
        lane.take_turn(ran.lane, &mut self.turns, max_running) && !lane.waits_soon()
    }

    fn put_behind(&mut self) {
        let behind = self.behind.load(Ordering::Relaxed);
        for (number, own) in self.own.iter().enumerate() {
            let bit = 1 << number;
            let Some(own) = own.filter(|_| self.threads & !behind & bit != 0) else {
                continue;
            };
            if own.is_running() {
                match own.behind_all() {
                    Ok(()) => {
                        self.behind.fetch_or(bit, Ordering::Relaxed);
                    }
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
