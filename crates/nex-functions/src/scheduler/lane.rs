//! The lane of one function: its backlog, its instances, and the turns that run.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::pace::Pace;

/// A function, as the scheduler and the engine threads know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LaneId(pub(super) u64);

/// An instance of a function's code. Another instance never has the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InstanceId(pub(super) u64);

/// The bounds of one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneBounds {
    /// Turns that compute at a time. Less than the threads, so that one function alone cannot hold up the
    /// others.
    pub(crate) computing: usize,
    /// Instances, running ones included.
    pub(crate) instances: usize,
    /// Turns that wait in a synchronous host call at a time, beside those that compute.
    pub(crate) waiting: usize,
}

/// One turn of an instance on an engine thread.
#[derive(Debug)]
pub(crate) struct Turn<J, I> {
    pub(crate) lane: LaneId,
    pub(crate) instance: InstanceId,
    pub(crate) work: Work<J, I>,
}

/// The work of a turn.
#[derive(Debug)]
pub(crate) enum Work<J, I> {
    /// A job, to begin in this instance, or in a new one.
    Begin(J, Option<I>),
    /// An instance that was woken.
    Resume(I),
}

/// A turn that is over.
#[derive(Debug)]
pub(crate) struct Ended<I> {
    pub(crate) lane: LaneId,
    pub(crate) instance: InstanceId,
    /// None where the instance is gone.
    pub(crate) kept: Option<Kept<I>>,
    pub(crate) took: Duration,
}

/// An instance between turns.
#[derive(Debug)]
pub(crate) struct Kept<I> {
    pub(crate) instance: I,
    /// Jobs that can begin in it before one of those in flight is over.
    pub(crate) room: usize,
    /// Set where no job is in flight in it: then it is kept only to make the next start fast.
    pub(crate) is_idle: bool,
}

#[derive(Debug)]
struct Parked<I> {
    id: InstanceId,
    kept: Kept<I>,
    since: Instant,
    /// Set while it is among those to resume.
    is_ready: bool,
}

/// An instance that a thread has.
#[derive(Debug)]
struct Running {
    id: InstanceId,
    /// Set once it is woken meanwhile: it is resumed as soon as its turn is over.
    is_woken: bool,
}

#[derive(Debug)]
pub(super) struct Lane<J, I> {
    bounds: LaneBounds,
    backlog: VecDeque<J>,
    /// The last one was used last.
    parked: Vec<Parked<I>>,
    /// Parked instances that were woken, in that order.
    ready: VecDeque<InstanceId>,
    running: Vec<Running>,
    /// Number of running turns that wait in a synchronous host call.
    waiting: usize,
    /// Number of running turns that are long although short ones were expected.
    stuck: usize,
    /// Set while it is among the lanes whose turn comes.
    pub(super) is_queued: bool,
    /// Time at which its last turn was taken.
    pub(super) taken_at: Option<Instant>,
    pub(super) pace: Pace,
}

impl<J, I> Lane<J, I> {
    pub(super) fn new(bounds: LaneBounds) -> Self {
        Self {
            bounds,
            backlog: VecDeque::new(),
            parked: Vec::new(),
            ready: VecDeque::new(),
            running: Vec::new(),
            waiting: 0,
            stuck: 0,
            is_queued: false,
            taken_at: None,
            pace: Pace::default(),
        }
    }

    pub(super) fn push(&mut self, job: J) {
        self.backlog.push_back(job);
    }

    /// Takes jobs out that have not begun.
    pub(super) fn withdraw(&mut self, which: impl Fn(&J) -> bool) -> Vec<J> {
        if !self.backlog.iter().any(&which) {
            return Vec::new();
        }
        let (out, kept) = self.backlog.drain(..).partition::<Vec<J>, _>(which);
        self.backlog = kept.into();
        out
    }

    /// Returns the number of turns that compute.
    fn computing(&self) -> usize {
        self.running.len() - self.waiting
    }

    /// Returns whether there is a turn to take.
    pub(super) fn has_turn(&self) -> bool {
        self.computing() < self.bounds.computing
            && (!self.ready.is_empty() || !self.backlog.is_empty() && self.has_room())
    }

    fn has_room(&self) -> bool {
        self.with_room().is_some() || self.parked.len() + self.running.len() < self.bounds.instances
    }

    /// The parked instance in which the next job begins: the one that was used last.
    fn with_room(&self) -> Option<usize> {
        let mut parked = self.parked.iter();
        parked.rposition(|it| it.kept.room > 0 && !it.is_ready)
    }

    /// Takes the next turn; `new` is the id of an instance that has to be made for it.
    pub(super) fn take(&mut self, new: InstanceId) -> Option<(InstanceId, Work<J, I>)> {
        if !self.has_turn() {
            return None;
        }
        let (id, work) = if let Some(id) = self.ready.pop_front() {
            let index = self.parked.iter().position(|it| it.id == id)?;
            (id, Work::Resume(self.parked.remove(index).kept.instance))
        } else {
            let parked = self.with_room().map(|index| self.parked.remove(index));
            let job = self.backlog.pop_front()?;
            match parked {
                Some(parked) => (parked.id, Work::Begin(job, Some(parked.kept.instance))),
                None => (new, Work::Begin(job, None)),
            }
        };
        self.running.push(Running {
            id,
            is_woken: false,
        });
        Some((id, work))
    }

    /// Makes an instance resume. One that is gone needs no more turns.
    pub(super) fn wake(&mut self, id: InstanceId) {
        if let Some(running) = self.running.iter_mut().find(|it| it.id == id) {
            running.is_woken = true;
        } else if let Some(parked) = self.parked.iter_mut().find(|it| it.id == id)
            // One without work in flight was woken for work that is over.
            && !parked.kept.is_idle
            && !std::mem::replace(&mut parked.is_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// Parks the instance of a turn that is over.
    pub(super) fn end(&mut self, id: InstanceId, kept: Option<Kept<I>>, now: Instant) {
        let Some(index) = self.running.iter().position(|it| it.id == id) else {
            return;
        };
        let is_woken = self.running.swap_remove(index).is_woken;
        self.stuck = self.stuck.min(self.computing());
        if let Some(kept) = kept {
            // What wakes an instance without work in flight was for work that is over.
            let is_ready = is_woken && !kept.is_idle;
            self.parked.push(Parked {
                id,
                kept,
                since: now,
                is_ready,
            });
            if is_ready {
                self.ready.push_back(id);
            }
        }
    }

    /// Begins a wait of a running turn, which does not compute until its end; false where there is no
    /// room for one.
    pub(super) fn begin_wait(&mut self) -> bool {
        let has_room = self.waiting < self.bounds.waiting;
        if has_room {
            self.waiting += 1;
            self.stuck = self.stuck.min(self.computing());
        }
        has_room
    }

    pub(super) fn end_wait(&mut self) {
        self.waiting -= 1;
    }

    fn waits(&self) -> usize {
        self.backlog.len() + self.ready.len()
    }

    /// Returns whether a thread that runs this lane comes to the end of its backlog before long.
    pub(super) fn clears_soon(&self) -> bool {
        self.pace.clears_soon(self.waits())
    }

    /// Returns whether a thread runs this lane, as far as is known with short turns.
    pub(super) fn is_served(&self) -> bool {
        self.computing() > self.stuck
    }

    /// Returns whether the backlog is left to the thread that runs a turn of this lane.
    pub(super) fn is_left(&self) -> bool {
        self.is_served() && self.clears_soon()
    }

    /// Counts all turns as stuck, if there are any.
    pub(super) fn mark_stuck(&mut self) -> bool {
        self.stuck = self.computing();
        self.stuck > 0
    }

    /// The times since when idle instances are parked.
    pub(super) fn idle_since(&self) -> impl Iterator<Item = Instant> {
        let idle = self.parked.iter().filter(|it| it.kept.is_idle);
        idle.map(|it| it.since)
    }

    /// Takes idle instances out that are parked since then or longer.
    pub(super) fn take_idle(&mut self, until: Instant) -> impl Iterator<Item = I> {
        let idle = self
            .parked
            .extract_if(.., move |it| it.kept.is_idle && it.since <= until);
        idle.map(|it| it.kept.instance)
    }

    /// All parked instances and the backlog.
    pub(super) fn into_parts(self) -> (Vec<I>, VecDeque<J>) {
        let parked = self.parked.into_iter().map(|it| it.kept.instance);
        (parked.collect(), self.backlog)
    }
}
