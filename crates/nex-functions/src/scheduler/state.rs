//! The state of the scheduler, under its lock. Methods change the state and note who is to be woken;
//! [`Signals`] go out when the lock is let go.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    Bounds, Job, Next, Relief, Report,
    lane::{Ended, InstanceId, Lane, LaneId, Turn, Work},
    lease::Lease,
    threads::{Run, Thread, Threads},
};

/// Limit for work to wait while no thread takes any, before there is one more thread; and for a turn that
/// was expected to be short, before it counts as stuck.
pub(super) const STUCK_AFTER: Duration = Duration::from_millis(10);
/// Period of the watchdog while an engine thread has the lease.
const LEASE_PERIOD: Duration = Duration::from_millis(2);
/// Limit for an instance that nobody calls.
const IDLE_AFTER: Duration = Duration::from_secs(30);
/// Period of the search for idle instances.
const TIDY_PERIOD: Duration = Duration::from_secs(5);
/// Bound on the lanes in turn that are searched for long turns: a search is made for each batch of answers.
const LOOKED_AT: usize = 64;
/// New instances after which the memory of the process is looked at.
const NEW_INSTANCES: usize = 64;
/// Instances that a thread drops before it looks for work again.
const DROPPED_AT_A_TIME: usize = 64;
/// Dropped instances after which their memory is given back to the system: the allocator keeps it by itself,
/// for it looks at the ends of its heaps alone.
const GONE: usize = 64;

/// Threads to wake when the lock is let go.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Engine threads, each with whether it drives.
    pub(super) threads: Vec<(usize, bool)>,
    /// The runtime's own thread: an engine thread takes the lease from it.
    pub(super) lease_taken: bool,
    /// The runtime's own thread: it has the lease again.
    pub(super) lease_returned: bool,
    /// The watchdog.
    pub(super) watchdog: bool,
}

/// Decision about a thread that has asked for work.
#[derive(Debug)]
pub(super) enum Step<J, I> {
    Next(Next<J, I>),
    /// Sleep until the state of the thread is another one than `Parked`.
    Park,
    /// Get rid of idle priority, and ask again.
    Promote,
    /// End.
    Close,
}

/// All of a scheduler that changes.
#[derive(Debug)]
pub(super) struct State<J, I> {
    pub(super) bounds: Bounds,
    pub(super) lanes: HashMap<LaneId, Lane<J, I>>,
    /// Lanes that have a turn to give, in the order in which they get it.
    pub(super) turns: VecDeque<LaneId>,
    pub(super) threads: Threads,
    pub(super) lease: Lease,
    /// Instances to drop. An engine thread does that: it takes long, and needs its stack.
    pub(super) garbage: Vec<I>,
    /// Jobs that have not begun, and their bytes.
    jobs: usize,
    bytes: usize,
    last_id: u64,
    /// Since when the first of the lanes in turn waits, or when a thread took a turn last.
    pressed_since: Instant,
    /// Instances made since memory was looked at.
    new_instances: usize,
    /// Instances dropped since memory was given back to the system.
    gone: usize,
    /// Set where that is to be done once all garbage is dropped.
    releases: bool,
    /// Set where there may be idle instances.
    has_idle: bool,
    /// Time of the last search for idle instances.
    tidied: Instant,
    /// Set while the watchdog looks from time to time; else it is to be woken.
    pub(super) is_watched: bool,
    pub(super) is_closed: bool,
    pub(super) signals: Signals,
}

impl<J: Job, I> State<J, I> {
    pub(super) fn new(bounds: Bounds, now: Instant) -> Self {
        Self {
            bounds,
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            threads: Threads::new(bounds.places()),
            lease: Lease::Keeper,
            garbage: Vec::new(),
            jobs: 0,
            bytes: 0,
            last_id: 0,
            pressed_since: now,
            new_instances: 0,
            gone: 0,
            releases: false,
            has_idle: false,
            tidied: now,
            is_watched: false,
            is_closed: false,
            signals: Signals::default(),
        }
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    // Work.

    /// Lines a lane up where it has a turn to give; whether it did.
    pub(super) fn queue(&mut self, id: LaneId, now: Instant) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return false;
        };
        let queues = !lane.is_queued && lane.has_turn();
        if queues {
            lane.is_queued = true;
            if self.turns.is_empty() {
                self.pressed_since = now;
            }
            self.turns.push_back(id);
        }
        queues
    }

    /// Adds jobs, and wakes a thread for the first of them: one that leaves some wakes the next. Returns those
    /// for which there is no room.
    pub(super) fn push(&mut self, id: LaneId, jobs: Vec<J>, now: Instant) -> Vec<J> {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return jobs;
        };
        let mut refused = Vec::new();
        for job in jobs {
            let bytes = job.bytes();
            if self.jobs >= self.bounds.jobs || self.bytes + bytes > self.bounds.bytes {
                refused.push(job);
                continue;
            }
            lane.push(job);
            self.jobs += 1;
            self.bytes += bytes;
        }
        self.offer(id, now);
        refused
    }

    /// Makes an instance resume.
    pub(super) fn wake(&mut self, id: LaneId, instance: InstanceId, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.wake(instance);
            self.offer(id, now);
        }
    }

    /// Finds a thread for new work of a lane.
    fn offer(&mut self, id: LaneId, now: Instant) {
        let is_new = self.queue(id, now);
        let Some(lane) = self.lanes.get(&id) else {
            return;
        };
        // A thread that runs this lane comes to it soon, or else each job may have a thread.
        let wakes = match lane.clears_soon() {
            true => is_new && !lane.is_served(),
            false => lane.is_queued,
        };
        if wakes {
            self.wake_one();
        } else if is_new {
            // The turn that is to end soon may be the first that does not.
            self.watch();
        }
    }

    /// Takes jobs out that have not begun.
    pub(super) fn withdraw(&mut self, id: LaneId, which: impl Fn(&J) -> bool) -> Vec<J> {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Vec::new();
        };
        let out = lane.withdraw(which);
        if lane.is_queued && !lane.has_turn() {
            lane.is_queued = false;
            self.turns.retain(|turn| *turn != id);
        }
        self.forget(out.iter());
        out
    }

    fn forget<'a>(&mut self, jobs: impl Iterator<Item = &'a J>)
    where
        J: 'a,
    {
        for job in jobs {
            self.jobs -= 1;
            self.bytes -= job.bytes();
        }
    }

    /// Ends a lane; returns its jobs that have not begun.
    pub(super) fn close_lane(&mut self, id: LaneId) -> VecDeque<J> {
        let Some(lane) = self.lanes.remove(&id) else {
            return VecDeque::new();
        };
        self.turns.retain(|turn| *turn != id);
        let (instances, jobs) = lane.into_parts();
        self.forget(jobs.iter());
        self.discard(instances);
        jobs
    }

    /// Has an engine thread drop instances.
    pub(super) fn discard(&mut self, instances: impl IntoIterator<Item = I>) {
        self.garbage.extend(instances);
        if !self.garbage.is_empty() {
            self.wake_one();
        }
    }

    /// Returns whether the turn of a lane is left to a thread that runs this lane already.
    fn is_left(&self, id: LaneId) -> bool {
        self.lanes.get(&id).is_some_and(Lane::is_left)
    }

    /// Returns whether a lane in turn has long turns, and no thread that comes to them.
    pub(super) fn has_long(&self) -> bool {
        let is_long = |lane: &Lane<J, I>| !lane.is_left() && !lane.pace.is_short();
        let mut turns = self.turns.iter().take(LOOKED_AT);
        turns.any(|id| self.lanes.get(id).is_some_and(is_long))
    }

    /// The next turn, and whether it is expected to be short.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Turn<J, I>, bool)> {
        loop {
            let next = self.turns.iter().position(|id| !self.is_left(*id))?;
            let id = self.turns.remove(next)?;
            let new = InstanceId(self.new_id());
            let lane = self.lanes.get_mut(&id)?;
            lane.is_queued = false;
            let Some((instance, work)) = lane.take(new) else {
                continue;
            };
            lane.taken_at = Some(now);
            let is_short = lane.pace.is_short();
            self.pressed_since = now;
            if let Work::Begin(job, instance) = &work {
                self.jobs -= 1;
                self.bytes -= job.bytes();
                self.new_instances += usize::from(instance.is_none());
                if self.new_instances >= NEW_INSTANCES {
                    self.watch();
                }
            }
            self.queue(id, now);
            let turn = Turn {
                lane: id,
                instance,
                work,
            };
            return Some((turn, is_short));
        }
    }

    /// Ends a turn; whether its lane wants another thread than the one that ran it.
    pub(super) fn end(&mut self, thread: usize, ended: Ended<I>, now: Instant) -> bool {
        let Some(lane) = self.lanes.get_mut(&ended.lane) else {
            self.garbage.extend(ended.kept.map(|kept| kept.instance));
            return false;
        };
        self.has_idle |= ended.kept.is_some();
        lane.pace.note(ended.took);
        lane.end(ended.instance, ended.kept, now);
        let (is_short, clears_soon) = (lane.pace.is_short(), lane.clears_soon());
        self.threads.set_ran_short(thread, is_short);
        self.queue(ended.lane, now) && !clears_soon
    }

    // Threads.

    /// Wakes a thread for the next turn, unless one comes anyway.
    pub(super) fn wake_one(&mut self) {
        if self.threads.one_comes() {
            return self.watch();
        }
        let Some(number) = self.threads.first_idle() else {
            // Those that wait in host calls have others in their place, at once.
            self.signals.watchdog |= self.threads.not_waiting() < self.bounds.threads;
            return self.watch();
        };
        let drives = self.threads.get(number) == Thread::Driving;
        let state = match drives {
            true => Thread::Coming,
            false => Thread::Waking,
        };
        self.threads.set(number, state);
        self.signals.threads.push((number, drives));
    }

    /// Makes the watchdog look whether all goes on.
    pub(super) fn watch(&mut self) {
        if !std::mem::replace(&mut self.is_watched, true) {
            self.signals.watchdog = true;
        }
    }

    /// Decides what a thread does after what it did.
    pub(super) fn step(&mut self, thread: usize, report: Report<I>, now: Instant) -> Step<J, I> {
        let before = self.threads.get(thread);
        let was_expected = before == Thread::Coming;
        let has_run = report.ended.is_some();
        self.threads.set(thread, Thread::Waking);
        let ended = report.ended.map(|ended| self.end(thread, ended, now));
        let mut wants_another = ended.unwrap_or_default();
        if matches!(before, Thread::Running(run) if run.is_demoted) {
            if wants_another {
                self.wake_one();
            }
            return Step::Promote;
        }
        if self.is_closed {
            self.take_back(thread);
            return Step::Close;
        }
        if !self.garbage.is_empty() {
            self.take_back(thread);
            if wants_another {
                self.wake_one();
            }
            let rest = self.garbage.len().saturating_sub(DROPPED_AT_A_TIME);
            let instances = self.garbage.split_off(rest);
            self.gone += instances.len();
            self.threads.set(thread, Thread::Dropping);
            return Step::Next(Next::Drop(instances));
        }
        let runs_short = self.threads.ran_short(thread);
        if has_run && runs_short && !report.holds && !self.turns.is_empty() && self.lend(thread) {
            self.threads.set(thread, Thread::Coming);
            return Step::Next(Next::Poll);
        }
        if let Some((turn, is_short)) = self.take(now) {
            // Of the backlog of short turns this thread itself is the first to take.
            wants_another = (wants_another || !is_short) && !self.turns.is_empty()
                // What would have woken another one, had this one not been about to ask.
                || was_expected && self.has_long();
            let keeps_lease = is_short && !wants_another && self.threads.is_alone(thread);
            if self.lease.is_of(thread) && keeps_lease {
                self.lease = Lease::computing(thread, now);
                self.watch();
            }
            if !keeps_lease {
                self.take_back(thread);
            }
            let run = Run {
                lane: turn.lane,
                holds: is_short && report.holds,
                since: now,
                is_demoted: false,
            };
            self.threads.set(thread, Thread::Running(run));
            if wants_another {
                self.wake_one();
            } else if run.holds || !self.turns.is_empty() {
                // This turn may be the first that is not short.
                self.watch();
            }
            return Step::Next(Next::Run { turn, is_short });
        }
        if !self.turns.is_empty() {
            // They are left to threads whose turns are short, or seem to be.
            self.watch();
        }
        if runs_short && self.lend(thread) {
            self.threads.set(thread, Thread::Driving);
            return Step::Next(Next::Drive);
        }
        self.take_back(thread);
        if report.holds {
            self.threads.set(thread, Thread::Coming);
            return Step::Next(Next::Send);
        }
        self.threads.set(thread, Thread::Parked);
        Step::Park
    }

    /// Takes a thread out, with the turn that it has run.
    pub(super) fn retire(&mut self, thread: usize, report: Report<I>, now: Instant) {
        let wants_another = report
            .ended
            .is_some_and(|ended| self.end(thread, ended, now));
        self.take_back(thread);
        self.threads.set(thread, Thread::Absent);
        self.signals.watchdog = true;
        if wants_another {
            self.wake_one();
        }
    }

    /// Takes an idle thread out that is one more than usual; whether it did.
    pub(super) fn leave(&mut self, thread: usize) -> bool {
        let leaves = self.is_extra(thread) && self.turns.is_empty() && self.garbage.is_empty();
        if leaves {
            self.threads.set(thread, Thread::Absent);
        }
        leaves
    }

    /// Begins a wait in the turn of a thread; whether the thread drives meanwhile.
    pub(super) fn begin_wait(&mut self, thread: usize, now: Instant) -> bool {
        let Thread::Running(run) = self.threads.get(thread) else {
            return false;
        };
        let has_room = self.threads.waiting() < self.bounds.waiting
            && self.lanes.get_mut(&run.lane).is_some_and(Lane::begin_wait);
        if !has_room {
            return false;
        }
        self.threads.set(thread, Thread::Waiting(run));
        self.queue(run.lane, now);
        if !self.turns.is_empty() {
            self.wake_one();
        }
        let drives =
            !self.is_closed && self.threads.is_alone(thread) && self.lease.is_open_to(thread);
        if drives {
            self.signals.lease_taken |= self.lease == Lease::Keeper;
            self.lease = Lease::driving(thread);
        } else {
            self.take_back(thread);
        }
        drives
    }

    /// Ends a wait.
    pub(super) fn end_wait(&mut self, thread: usize, now: Instant) {
        let Thread::Waiting(run) = self.threads.get(thread) else {
            return;
        };
        if let Some(lane) = self.lanes.get_mut(&run.lane) {
            lane.end_wait();
        }
        let run = Run { since: now, ..run };
        self.threads.set(thread, Thread::Running(run));
        if self.lease.is_of(thread) {
            // It may soon wait again.
            self.lease = Lease::computing(thread, now);
            self.watch();
        }
    }

    /// Ends all threads after their turns. The runtime's own thread has the lease from now on: nobody would take it
    /// from a turn that does not end.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.lease = Lease::Keeper;
        self.signals.lease_returned = true;
    }

    // The lease.

    /// Returns whether a thread is one more than usual.
    pub(super) fn is_extra(&self, thread: usize) -> bool {
        thread >= self.bounds.threads
    }

    /// Gives the lease to a thread that drives, if it can have it and nobody else is busy.
    pub(super) fn lend(&mut self, thread: usize) -> bool {
        let lends = !self.is_extra(thread)
            && self.lease.is_open_to(thread)
            && self.threads.is_alone(thread);
        if lends {
            self.signals.lease_taken |= self.lease == Lease::Keeper;
            self.lease = Lease::driving(thread);
        }
        lends
    }

    /// Takes the lease from a thread that has it.
    pub(super) fn take_back(&mut self, thread: usize) {
        if self.lease.is_of(thread) {
            self.lease = Lease::Keeper;
            self.signals.lease_returned = true;
        }
    }

    // What the watchdog does.

    /// Returns the time until the next look; `None` where nothing has to be looked after.
    pub(super) fn watch_period(&self, now: Instant) -> Option<Duration> {
        let is_recent = now.saturating_duration_since(self.pressed_since) < STUCK_AFTER;
        let is_pressed = !self.turns.is_empty()
            || self.threads.any_holds()
            || self.lease.is_computing()
            || self.releases
            || (is_recent && self.lease != Lease::Keeper);
        if is_pressed {
            let is_lent = self.lease != Lease::Keeper;
            return Some(if is_lent { LEASE_PERIOD } else { STUCK_AFTER });
        }
        let tidies = self.has_idle || self.gone > 0;
        tidies.then(|| (self.tidied + TIDY_PERIOD).saturating_duration_since(now))
    }

    /// Does what threads do not that are at the same turn for long.
    pub(super) fn look(&mut self, now: Instant) -> Relief {
        let mut relief = Relief::default();
        if let Some(number) = self.start_missing() {
            relief.thread = Some(number);
            return relief;
        }
        self.relieve(&mut relief, now);
        self.tidy(&mut relief, now);
        relief
    }

    /// Returns whether there are fewer threads than usual, those aside that wait in host calls, and one is
    /// wanted.
    pub(super) fn lacks_thread(&self) -> bool {
        self.threads.not_waiting() < self.bounds.threads
            && (self.threads.waiting() == 0 || !self.turns.is_empty())
    }

    /// The number of a thread to start, where one is lacking.
    fn start_missing(&mut self) -> Option<usize> {
        if !self.lacks_thread() {
            return None;
        }
        let number = self.threads.first_absent()?;
        self.threads.set(number, Thread::Waking);
        Some(number)
    }

    fn tidy(&mut self, relief: &mut Relief, now: Instant) {
        if now.saturating_duration_since(self.tidied) >= TIDY_PERIOD {
            self.tidied = now;
            if let Some(until) = now.checked_sub(IDLE_AFTER) {
                self.discard_idle(until);
            }
            relief.measures = true;
        }
        if self.new_instances >= NEW_INSTANCES {
            self.new_instances = 0;
            relief.measures = true;
        }
        if self.releases && self.garbage.is_empty() && !self.threads.any_drops() {
            self.releases = false;
            self.gone = 0;
            relief.releases = true;
        }
    }

    /// Takes from stuck threads what others wait for, and finds others for the work that waits.
    fn relieve(&mut self, relief: &mut Relief, now: Instant) {
        if self.lease.is_overdue(now) {
            self.lease = Lease::Keeper;
            self.signals.lease_returned = true;
        }
        let is_long = |since: Instant| now.saturating_duration_since(since) >= STUCK_AFTER;
        for number in 0..self.threads.len() {
            if let Thread::Running(run) | Thread::Waiting(run) = self.threads.get(number)
                && run.holds
                && is_long(run.since)
            {
                relief.stuck.push(number);
                self.threads.set_holds(number, false);
            }
        }
        let mut is_served = true;
        for id in &self.turns {
            if let Some(lane) = self.lanes.get_mut(id)
                && lane.taken_at.is_some_and(is_long)
                && lane.mark_stuck()
            {
                is_served = false;
            }
        }
        let is_held_up = !self.turns.is_empty() && is_long(self.pressed_since);
        if is_held_up {
            // They did not come.
            self.threads.give_up_on_coming();
        }
        if (is_held_up || !is_served) && self.threads.any_idle() {
            self.wake_one();
        } else if is_held_up && self.threads.not_waiting() < self.bounds.threads + self.bounds.extra
        {
            relief.thread = self.threads.first_absent();
            if let Some(number) = relief.thread {
                relief.demoted = self.demote();
                self.threads.set(number, Thread::Waking);
            }
        }
    }

    /// Gives idle priority to those that compute: what they hold up would else share a processor with
    /// them. Those that wait for an answer are left alone.
    fn demote(&mut self) -> Vec<usize> {
        let runs: Vec<_> = self
            .threads
            .runs()
            .filter(|(_, run)| !run.is_demoted)
            .collect();
        let mut demoted = Vec::new();
        for (number, _) in runs {
            let Some(own) = self.threads.own(number) else {
                continue;
            };
            if own.is_running() && own.set_idle_priority().is_ok() {
                self.take_back(number);
                self.threads.set_demoted(number);
                demoted.push(number);
            }
        }
        demoted
    }

    /// Drops idle instances that nobody has used since then.
    fn discard_idle(&mut self, until: Instant) {
        let mut idle = Vec::new();
        self.has_idle = false;
        for lane in self.lanes.values_mut() {
            idle.extend(lane.take_idle(until));
            self.has_idle |= lane.idle_since().next().is_some();
        }
        let gone = self.gone + self.garbage.len() + idle.len();
        self.releases |= gone >= GONE || (gone > 0 && !self.has_idle);
        self.discard(idle);
    }

    /// Drops the half of the idle instances that nobody has used for the longest time.
    pub(super) fn discard_half(&mut self) {
        let idle = self.lanes.values().flat_map(Lane::idle_since);
        let mut since: Vec<Instant> = idle.collect();
        if !since.is_empty() {
            let middle = since.len() / 2;
            let (_, middle, _) = since.select_nth_unstable(middle);
            self.discard_idle(*middle);
            // What is resident decides what goes next.
            self.releases = true;
        }
    }
}
