//! What the queue knows, under its lock.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use nex_process::OwnThread;
use tracing::debug;

use super::{
    Bounds, Ran, Waiting,
    lane::{Lane, LaneId, QUICK},
};

/// All of a queue that changes.
#[derive(Debug)]
pub(super) struct State<J> {
    pub(super) lanes: HashMap<LaneId, Lane<J>>,
    /// Lanes that have a job to give, in the order of their turns.
    pub(super) turns: VecDeque<LaneId>,
    /// What each thread has still to forget.
    pub(super) forgotten: Vec<Vec<LaneId>>,
    pub(super) jobs: usize,
    pub(super) bytes: usize,
    pub(super) last_lane: u64,
    /// The threads that there are, a bit each.
    pub(super) threads: u64,
    /// Those that wait.
    pub(super) idle: u64,
    /// The one of them that does I/O meanwhile, or did when it was woken.
    pub(super) driver: Option<usize>,
    /// Those that do I/O or send answers, and ask for something to do in a moment.
    pub(super) coming: u64,
    /// Those of them that do I/O, which they must not be kept from.
    pub(super) doing_io: u64,
    /// Those whose last run was one of a lane whose runs are short.
    pub(super) quick: u64,
    /// Those that run something, and hold answers back.
    pub(super) holding: u64,
    /// Those of them that did so already when they were last looked at.
    pub(super) suspect: u64,
    /// How many jobs threads have taken.
    pub(super) taken: u64,
    /// Those that run behind all others, since they held up what waits.
    pub(super) behind: Arc<AtomicU64>,
    /// The threads as the system knows them.
    pub(super) own: Vec<Option<OwnThread>>,
    /// Whether somebody looks at `taken` and `holding` already.
    pub(super) watched: bool,
    pub(super) closed: bool,
}

/// What is known once a run is over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    /// Whether its lane wants another thread than the one that says so.
    pub(super) more_wanted: bool,
    /// Whether runs of its lane are short.
    pub(super) quick: bool,
}

/// What is to be done about a new job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wants {
    /// Its turn comes.
    Nothing,
    /// The run that is to end soon may be the first that does not.
    Watch,
    /// A thread.
    Wake,
}

impl<J: Waiting> State<J> {
    pub(super) fn new(bounds: &Bounds, behind: Arc<AtomicU64>) -> Self {
        Self {
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            forgotten: vec![Vec::new(); bounds.most_threads],
            jobs: 0,
            bytes: 0,
            last_lane: 0,
            threads: (1 << bounds.threads) - 1,
            idle: 0,
            driver: None,
            coming: 0,
            doing_io: 0,
            quick: 0,
            holding: 0,
            suspect: 0,
            taken: 0,
            behind,
            own: vec![None; bounds.most_threads],
            watched: false,
            closed: false,
        }
    }

    /// Whether all other threads are idle, but for those that have to let all others go first.
    pub(super) fn is_alone(&self, thread: usize) -> bool {
        let busy = self.threads & !self.idle & !self.behind.load(Ordering::Relaxed);
        busy & !(1 << thread) == 0
    }

    /// Whether what waits in a lane is left to the thread that runs one of its jobs.
    pub(super) fn is_left(&self, id: LaneId) -> bool {
        let lane = self.lanes.get(&id);
        lane.is_some_and(Lane::is_left)
    }

    /// Whether something waits that is not left to a thread, and is not short, among the next lanes: this is
    /// asked for each batch of answers.
    pub(super) fn has_long(&self) -> bool {
        let is_long = |lane: &Lane<J>| !lane.is_left() && lane.ran >= QUICK;
        let mut turns = self.turns.iter().take(64);
        turns.any(|id| self.lanes.get(id).is_some_and(is_long))
    }

    /// The idle thread to wake: one that does I/O is awake.
    pub(super) fn first_idle(&self) -> Option<usize> {
        let is_idle = |thread: &usize| self.idle & (1 << thread) != 0;
        let first = || (self.idle != 0).then(|| self.idle.trailing_zeros() as usize);
        self.driver.filter(is_idle).or_else(first)
    }

    pub(super) fn push(&mut self, bounds: &Bounds, id: LaneId, job: J) -> Result<Wants, J> {
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
            true => now_in_turn && lane.running <= lane.stuck,
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

    /// Notes that a run is over.
    pub(super) fn done(&mut self, ran: &Ran, max_running: usize) -> Done {
        let Some(lane) = self.lanes.get_mut(&ran.lane) else {
            return Done::default();
        };
        lane.ended(ran.took);
        let in_turn = lane.take_turn(ran.lane, &mut self.turns, max_running);
        Done {
            more_wanted: in_turn && !lane.waits_soon(),
            quick: lane.ran < QUICK,
        }
    }

    /// Whether lanes wait behind runs of their own that began before so many jobs were taken: those are
    /// stuck.
    pub(super) fn holds_up_since(&mut self, taken: u64) -> bool {
        let mut some = false;
        for id in &self.turns {
            if let Some(lane) = self.lanes.get_mut(id)
                && lane.running > 0
                && lane.taken_at <= taken
            {
                lane.stuck = lane.running;
                some = true;
            }
        }
        some
    }

    pub(super) fn put_behind(&mut self) {
        let behind = self.behind.load(Ordering::Relaxed);
        for (number, own) in self.own.iter().enumerate() {
            let bit = 1 << number;
            let others = !behind & !self.doing_io;
            let Some(own) = own.filter(|_| self.threads & others & bit != 0) else {
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
    pub(super) fn take(&mut self, max_running: usize) -> Option<(LaneId, J, bool)> {
        let next = self.turns.iter().position(|id| !self.is_left(*id))?;
        self.taken += 1;
        let id = self.turns.remove(next)?;
        let lane = self.lanes.get_mut(&id)?;
        lane.in_turn = false;
        lane.taken_at = self.taken;
        let job = lane.jobs.pop_front()?;
        lane.running += 1;
        lane.take_turn(id, &mut self.turns, max_running);
        self.jobs -= 1;
        let quick = lane.ran < QUICK;
        self.bytes -= job.bytes();
        Some((id, job, quick))
    }
}
