//! Work that waits for an engine thread: a lane per function, taken in turn.
//!
//! Turns keep a function with a long backlog from holding up its neighbours for more than one call
//! each, and the bound on what one function runs at a time keeps a thread free for the others.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// A function, as the queue and the engine threads know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LaneId(u64);

/// What waits.
pub(crate) trait Waiting {
    /// When it is of no use any more.
    fn deadline(&self) -> Instant;
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
}

/// What an engine thread does next.
#[derive(Debug)]
pub(crate) enum Next<J> {
    /// Run this, then call [`Queue::done`].
    Run(LaneId, J),
    /// Drop what is kept for this lane.
    Forget(LaneId),
}

#[derive(Debug)]
pub(crate) struct Queue<J> {
    state: Mutex<State<J>>,
    changed: Condvar,
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
    closed: bool,
}

#[derive(Debug)]
struct Lane<J> {
    jobs: VecDeque<J>,
    running: usize,
    in_turn: bool,
}

impl<J: Waiting> Queue<J> {
    /// A queue for so many threads.
    pub(crate) fn new(threads: usize, bounds: Bounds) -> Self {
        let state = State {
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            forgotten: vec![Vec::new(); threads],
            jobs: 0,
            bytes: 0,
            last_lane: 0,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
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
        for thread in &mut state.forgotten {
            thread.push(id);
        }
        self.changed.notify_all();
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
        state.jobs += 1;
        state.bytes += bytes;
        if now_in_turn {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Takes out what is past its deadline; jobs of one lane all have the same time to live.
    fn expired(&self, id: LaneId, now: Instant) -> Vec<J> {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(&id) else {
            return Vec::new();
        };
        let count = lane.jobs.iter().take_while(|job| job.deadline() <= now);
        let count = count.count();
        let expired: Vec<J> = lane.jobs.drain(..count).collect();
        if lane.in_turn && lane.jobs.is_empty() {
            lane.in_turn = false;
            state.turns.retain(|turn| *turn != id);
        }
        state.jobs -= expired.len();
        state.bytes -= expired.iter().map(Waiting::bytes).sum::<usize>();
        expired
    }

    /// Waits for what a thread has to do; `None` once the queue is closed.
    pub(crate) fn next(&self, thread: usize) -> Option<Next<J>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(id) = state.forgotten[thread].pop() {
                return Some(Next::Forget(id));
            }
            if let Some((id, job)) = state.take(self.bounds.running_per_lane) {
                return Some(Next::Run(id, job));
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells that a job of the lane is over.
    pub(crate) fn done(&self, id: LaneId) {
        let mut state = self.lock();
        let State { lanes, turns, .. } = &mut *state;
        if let Some(lane) = lanes.get_mut(&id) {
            lane.running -= 1;
            if lane.take_turn(id, turns, self.bounds.running_per_lane) {
                self.changed.notify_one();
            }
        }
    }

    /// Ends all threads, after what they are doing.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
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
        self.queue.expired(self.id, now)
    }
}

impl<J: Waiting> Drop for LaneGuard<J> {
    fn drop(&mut self) {
        self.queue.close_lane(self.id);
    }
}

impl<J> Lane<J> {
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
    fn take(&mut self, max_running: usize) -> Option<(LaneId, J)> {
        let id = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&id)?;
        lane.in_turn = false;
        let job = lane.jobs.pop_front()?;
        lane.running += 1;
        lane.take_turn(id, &mut self.turns, max_running);
        self.jobs -= 1;
        self.bytes -= job.bytes();
        Some((id, job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[derive(Debug, PartialEq)]
    struct Job(&'static str, Instant);

    impl Waiting for Job {
        fn deadline(&self) -> Instant {
            self.1
        }

        fn bytes(&self) -> usize {
            self.0.len()
        }
    }

    fn queue(bounds: Bounds) -> Queue<Job> {
        Queue::new(1, bounds)
    }

    const WIDE: Bounds = Bounds {
        jobs: 100,
        bytes: 100,
        running_per_lane: 2,
    };

    fn job(name: &'static str) -> Job {
        Job(name, Instant::now() + Duration::from_secs(60))
    }

    fn run(queue: &Queue<Job>) -> (LaneId, &'static str) {
        match queue.next(0).unwrap() {
            Next::Run(id, job) => (id, job.0),
            Next::Forget(id) => panic!("asked to forget {id:?}"),
        }
    }

    #[test]
    fn lanes_take_turns() {
        let queue = queue(WIDE);
        let (a, b) = (queue.open_lane(), queue.open_lane());
        for name in ["a1", "a2", "a3"] {
            queue.push(a, job(name)).unwrap();
        }
        queue.push(b, job("b1")).unwrap();

        let order: Vec<_> = (0..4)
            .map(|_| {
                let (id, name) = run(&queue);
                queue.done(id);
                name
            })
            .collect();

        assert_eq!(order, ["a1", "b1", "a2", "a3"]);
    }

    #[test]
    fn a_lane_runs_no_more_than_its_bound_at_a_time() {
        let queue = queue(WIDE);
        let (a, b) = (queue.open_lane(), queue.open_lane());
        for name in ["a1", "a2", "a3"] {
            queue.push(a, job(name)).unwrap();
        }
        assert_eq!((run(&queue).1, run(&queue).1), ("a1", "a2"));
        queue.push(b, job("b1")).unwrap();

        assert_eq!(run(&queue).1, "b1");
        queue.done(a);
        assert_eq!(run(&queue).1, "a3");
    }

    #[test]
    fn a_full_queue_gives_the_job_back() {
        let queue = queue(Bounds {
            jobs: 2,
            bytes: 5,
            running_per_lane: 1,
        });
        let a = queue.open_lane();

        queue.push(a, job("abc")).unwrap();
        assert_eq!(queue.push(a, job("def")).unwrap_err().0, "def");
        queue.push(a, job("gh")).unwrap();
        assert_eq!(queue.push(a, job("")).unwrap_err().0, "");

        run(&queue);
        queue.push(a, job("abc")).unwrap();
    }

    #[test]
    fn what_is_past_its_deadline_is_taken_out() {
        let queue = queue(WIDE);
        let a = queue.open_lane();
        let now = Instant::now();
        queue.push(a, Job("old", now)).unwrap();
        queue.push(a, job("new")).unwrap();

        assert_eq!(queue.expired(a, now), [Job("old", now)]);
        assert_eq!(run(&queue).1, "new");
    }

    #[test]
    fn a_closed_lane_is_forgotten_and_takes_nothing() {
        let queue = queue(WIDE);
        let a = queue.open_lane();
        queue.push(a, job("dropped")).unwrap();

        queue.close_lane(a);

        assert!(matches!(queue.next(0), Some(Next::Forget(id)) if id == a));
        assert!(queue.push(a, job("late")).is_err());
        queue.close();
        assert!(queue.next(0).is_none());
    }
}
