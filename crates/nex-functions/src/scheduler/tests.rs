//! Tests of the state alone: time is a parameter, and threads are numbers.

use super::{state::STUCK_AFTER, *};

#[derive(Debug, PartialEq)]
struct Task(&'static str);

impl Job for Task {
    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// An instance, by the name of the job that it was made for.
type Instance = &'static str;

const SHORT: Duration = Duration::from_micros(10);
const LONG: Duration = Duration::from_millis(50);

const BOUNDS: Bounds = Bounds {
    jobs: 100,
    bytes: 100,
    threads: 2,
    extra: 1,
    waiting: 2,
};

const LANE: LaneBounds = LaneBounds {
    computing: 2,
    instances: 3,
    waiting: 1,
};

/// A state, and the time in it.
struct Sim {
    state: State<Task, Instance>,
    now: Instant,
}

/// The turn of a thread: lane, instance, and the name of its job.
type Given = (LaneId, InstanceId, &'static str);

impl Sim {
    fn new(bounds: Bounds) -> Self {
        let now = Instant::now() + Duration::from_secs(3600);
        let mut sim = Self {
            state: State::new(bounds, now),
            now,
        };
        for number in 0..bounds.threads {
            assert_eq!(sim.look().thread, Some(number));
            sim.parks(number);
        }
        assert_eq!(sim.look().thread, None);
        sim
    }

    fn lane(&mut self, bounds: LaneBounds) -> LaneId {
        let id = LaneId(self.state.new_id());
        self.state.lanes.insert(id, Lane::new(bounds));
        id
    }

    /// A lane whose turns are known to take so long.
    fn lane_with(&mut self, took: Duration) -> LaneId {
        let id = self.lane(LANE);
        self.state.lanes.get_mut(&id).unwrap().pace.note(took);
        id
    }

    fn push(&mut self, lane: LaneId, name: &'static str) -> Option<usize> {
        assert_eq!(self.refused(lane, name), []);
        self.woken()
    }

    fn refused(&mut self, lane: LaneId, name: &'static str) -> Vec<Task> {
        self.state.push(lane, vec![Task(name)], self.now)
    }

    /// The thread that was woken by what was done.
    fn woken(&mut self) -> Option<usize> {
        let signals = std::mem::take(&mut self.state.signals);
        signals.threads.first().map(|(number, _)| *number)
    }

    fn look(&mut self) -> Relief {
        self.state.look(self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn step(&mut self, thread: usize, ended: Option<Ended<Instance>>) -> Step<Task, Instance> {
        let report = Report {
            ended,
            holds: false,
        };
        self.state.step(thread, report, self.now)
    }

    /// Gives a thread its next turn.
    fn take_after(&mut self, thread: usize, ended: Option<Ended<Instance>>) -> Given {
        let step = match self.step(thread, ended) {
            Step::Next(Next::Poll) => self.step(thread, None),
            other => other,
        };
        match step {
            Step::Next(Next::Run { turn, .. }) => {
                let name = match turn.work {
                    Work::Begin(task, _) => task.0,
                    Work::Resume(instance) => instance,
                };
                (turn.lane, turn.instance, name)
            }
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, thread: usize) -> Given {
        self.take_after(thread, None)
    }

    fn parks(&mut self, thread: usize) {
        let step = self.step(thread, None);
        assert!(matches!(step, Step::Park), "{step:?}");
    }
}

/// The end of a turn whose instance is idle then.
fn ended(given: Given, took: Duration) -> Option<Ended<Instance>> {
    kept(given, took, 1, true)
}

fn kept(given: Given, took: Duration, room: usize, is_idle: bool) -> Option<Ended<Instance>> {
    let (lane, instance, name) = given;
    let kept = Kept {
        instance: name,
        room,
        is_idle,
    };
    Some(Ended {
        lane,
        instance,
        kept: Some(kept),
        took,
    })
}

#[test]
fn lanes_take_turns() {
    let mut sim = Sim::new(BOUNDS);
    let (a, b) = (sim.lane(LANE), sim.lane(LANE));
    for (lane, name) in [(a, "a1"), (a, "a2"), (a, "a3"), (b, "b1")] {
        sim.push(lane, name);
    }

    let mut last = None;
    let order: Vec<_> = (0..4)
        .map(|_| {
            let given = sim.take_after(0, last.take());
            last = ended(given, LONG);
            given.2
        })
        .collect();

    assert_eq!(order, ["a1", "b1", "a2", "a3"]);
}

#[test]
fn a_lane_computes_no_more_turns_at_a_time_than_its_bound() {
    let mut sim = Sim::new(BOUNDS);
    let (a, b) = (sim.lane(LANE), sim.lane(LANE));
    for name in ["a1", "a2", "a3"] {
        sim.push(a, name);
    }
    let first = sim.take(0);
    assert_eq!((first.2, sim.take(1).2), ("a1", "a2"));
    sim.push(b, "b1");

    // As if there were a third thread.
    assert_eq!(sim.take(2).2, "b1");
    assert_eq!(sim.take_after(0, ended(first, LONG)).2, "a3");
}

#[test]
fn a_full_scheduler_gives_jobs_back() {
    let mut sim = Sim::new(Bounds {
        jobs: 2,
        bytes: 5,
        ..BOUNDS
    });
    let lane = sim.lane(LANE);
    sim.push(lane, "1234");
    assert_eq!(sim.refused(lane, "12"), [Task("12")]);
    sim.push(lane, "1");
    assert_eq!(sim.refused(lane, ""), [Task("")]);

    sim.take(0);
    sim.push(lane, "1234");
}

#[test]
fn long_jobs_get_a_thread_each() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane(LANE);

    assert_eq!(sim.push(lane, "1"), Some(0));
    assert_eq!(sim.push(lane, "2"), Some(1));
    assert_eq!(sim.push(lane, "3"), None, "no thread is left");
}

#[test]
fn many_jobs_at_once_wake_one_thread_which_wakes_the_next() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane(LANE);
    let jobs = vec![Task("1"), Task("2"), Task("3")];
    assert_eq!(sim.state.push(lane, jobs, sim.now), []);
    assert_eq!(sim.state.signals.threads, [(0, false)]);
    sim.woken();

    sim.take(0);

    assert_eq!(sim.woken(), Some(1));
}

#[test]
fn the_backlog_of_short_turns_is_left_to_their_thread() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane_with(SHORT);
    assert_eq!(sim.push(lane, "1"), Some(0));
    let first = sim.take(0);

    assert_eq!(sim.push(lane, "2"), None);

    // Another thread would not take it.
    sim.parks(1);
    assert_eq!(sim.take_after(0, ended(first, SHORT)).2, "2");
}

#[test]
fn the_backlog_of_a_turn_that_is_long_against_what_was_expected_gets_a_thread() {
    let mut sim = Sim::new(BOUNDS);
    let (stuck, other) = (sim.lane_with(SHORT), sim.lane_with(SHORT));
    sim.push(stuck, "1");
    sim.take(0);
    sim.push(stuck, "2");
    sim.pass(STUCK_AFTER - SHORT);
    sim.look();
    assert_eq!(sim.woken(), None);

    // Though threads take turns of other lanes.
    sim.push(other, "other");
    sim.take(1);
    sim.parks(1);
    sim.pass(2 * SHORT);
    sim.look();

    assert_eq!(sim.woken(), Some(1));
    assert_eq!(sim.take(1).2, "2");
}

#[test]
fn jobs_are_taken_out_and_their_room_is_free() {
    let mut sim = Sim::new(Bounds { jobs: 2, ..BOUNDS });
    let lane = sim.lane(LANE);
    sim.push(lane, "1");
    sim.push(lane, "2");

    let out = sim.state.withdraw(lane, |_| true);

    assert_eq!(out, [Task("1"), Task("2")]);
    assert!(sim.state.turns.is_empty());
    sim.push(lane, "3");
    sim.push(lane, "4");
    assert_eq!(sim.take(0).2, "3");
}

#[test]
fn a_closed_lane_drops_its_instances_on_an_engine_thread() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane(LANE);
    sim.push(lane, "1");
    sim.push(lane, "2");
    let (one, two) = (sim.take(0), sim.take(1));
    let step = sim.step(0, ended(one, LONG));
    assert!(matches!(step, Step::Park), "{step:?}");
    sim.push(lane, "3");

    let jobs = sim.state.close_lane(lane);

    assert_eq!(jobs, [Task("3")]);
    // The parked one at once, the running one after its turn.
    let dropped = |step| match step {
        Step::Next(Next::Drop(dropped)) => dropped,
        other => panic!("{other:?}"),
    };
    assert_eq!(dropped(sim.step(0, None)), ["1"]);
    assert_eq!(dropped(sim.step(1, ended(two, LONG))), ["2"]);
    assert_eq!(sim.refused(lane, "4"), [Task("4")]);
}

#[test]
fn a_job_begins_in_the_instance_that_was_used_last_and_has_room() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane(LANE);
    sim.push(lane, "1");
    sim.push(lane, "2");
    let (one, two) = (sim.take(0), sim.take(1));
    sim.step(1, kept(two, LONG, 1, false));
    sim.step(0, kept(one, LONG, 0, false));

    sim.push(lane, "3");
    let third = sim.take(0);
    assert_eq!(third.1, two.1, "the last one has no room");
    sim.step(0, kept(third, LONG, 0, false));
    sim.push(lane, "4");
    let fourth = sim.take(0);
    assert!(fourth.1 != one.1 && fourth.1 != two.1, "a new one");
    sim.step(0, kept(fourth, LONG, 0, false));

    // There are as many as there may be.
    sim.push(lane, "5");
    sim.parks(0);
    let now = sim.now;
    sim.state.wake(lane, one.1, now);
    let resumed = sim.take(0);
    assert_eq!(sim.take_after(0, ended(resumed, LONG)).2, "5");
}

#[test]
fn an_instance_that_is_woken_resumes() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane(LANE);
    sim.push(lane, "1");
    let given = sim.take(0);
    let now = sim.now;
    sim.step(0, kept(given, LONG, 1, false));

    sim.state.wake(lane, given.1, now);
    assert_eq!(sim.woken(), Some(0));
    sim.state.wake(lane, given.1, now);
    let again = sim.take(0);
    assert_eq!((again.1, again.2), (given.1, "1"));
    // While it runs.
    sim.state.wake(lane, given.1, now);
    assert_eq!(sim.take_after(0, kept(again, LONG, 1, false)).1, given.1);
    sim.step(0, ended(again, LONG));
    // Its work is over.
    sim.state.wake(lane, InstanceId(1000), now);
    sim.parks(0);
}

#[test]
fn a_thread_that_is_alone_after_a_short_turn_drives() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane_with(SHORT);
    sim.push(lane, "1");
    let given = sim.take(0);

    let step = sim.step(0, ended(given, SHORT));

    assert!(matches!(step, Step::Next(Next::Drive)), "{step:?}");
    assert!(sim.state.signals.lease_taken);
    sim.state.signals = Signals::default();
    // It is the one to wake.
    assert_eq!(sim.push(lane, "2"), Some(0));
    sim.take(0);
    assert!(sim.state.lease.is_computing());
}

#[test]
fn a_thread_does_not_drive_beside_another_or_after_a_long_turn() {
    let mut sim = Sim::new(BOUNDS);
    let (short, long) = (sim.lane_with(SHORT), sim.lane_with(LONG));
    sim.push(long, "long");
    let slow = sim.take(1);
    sim.push(short, "1");
    let given = sim.take(0);

    let beside = sim.step(0, ended(given, SHORT));
    let after = sim.step(1, ended(slow, LONG));

    assert!(matches!(beside, Step::Park), "{beside:?}");
    assert!(matches!(after, Step::Park), "{after:?}");
    assert_eq!(sim.state.lease, Lease::Keeper);
}

#[test]
fn a_thread_that_computes_for_two_milliseconds_loses_the_lease() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane_with(SHORT);
    sim.push(lane, "1");
    let given = sim.take(0);
    sim.step(0, ended(given, SHORT));
    sim.push(lane, "2");
    sim.take(0);

    sim.pass(Duration::from_micros(1900));
    sim.look();
    assert!(sim.state.lease.is_of(0));
    sim.pass(Duration::from_micros(100));
    sim.look();

    assert_eq!(sim.state.lease, Lease::Keeper);
    assert!(sim.state.signals.lease_returned);
}

#[test]
fn a_turn_that_does_not_end_keeps_no_lease_of_a_closed_scheduler() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane_with(SHORT);
    sim.push(lane, "1");
    let given = sim.take(0);
    sim.step(0, ended(given, SHORT));
    sim.push(lane, "2");
    sim.take(0);
    assert!(sim.state.lease.is_computing());

    sim.state.close();

    assert_eq!(sim.state.lease, Lease::Keeper);
    assert!(sim.state.signals.lease_returned);
}

#[test]
fn there_is_one_more_thread_while_all_are_stuck() {
    let mut sim = Sim::new(BOUNDS);
    let lanes = [sim.lane(LANE), sim.lane(LANE)];
    sim.push(lanes[0], "1");
    sim.push(lanes[0], "2");
    sim.take(0);
    sim.take(1);
    sim.push(lanes[1], "3");
    assert_eq!(sim.look().thread, None);

    sim.pass(STUCK_AFTER);

    assert_eq!(sim.look().thread, Some(2));
    assert_eq!(sim.look().thread, None, "it comes");
    let given = sim.take(2);
    assert_eq!(given.2, "3");
    // It stays while there is work, and no longer.
    sim.push(lanes[1], "4");
    assert!(!sim.state.leave(2));
    let given = sim.take_after(2, ended(given, LONG));
    sim.step(2, ended(given, LONG));
    assert!(sim.state.leave(2));
    assert!(!sim.state.leave(1), "that is one of the usual ones");
}

#[test]
fn a_thread_that_waits_in_a_host_call_has_another_in_its_place() {
    let mut sim = Sim::new(Bounds {
        threads: 1,
        ..BOUNDS
    });
    let narrow = LaneBounds {
        computing: 1,
        ..LANE
    };
    let lane = sim.lane(narrow);
    sim.push(lane, "1");
    let first = sim.take(0);
    let now = sim.now;

    assert!(sim.state.begin_wait(0, now), "it is alone, so it drives");
    sim.push(lane, "2");

    assert_eq!(sim.look().thread, Some(1));
    let second = sim.take(1);
    assert_eq!(second.2, "2");
    // The lane has no room for another wait.
    assert!(!sim.state.begin_wait(1, now));
    sim.push(lane, "3");
    assert_eq!(sim.look().thread, None);
    // It goes on beside the other one, and its lane has one turn too many until it ends.
    sim.state.end_wait(0, now);
    let step = sim.step(1, ended(second, LONG));
    assert!(matches!(step, Step::Park), "{step:?}");
    assert_eq!(sim.take_after(0, ended(first, LONG)).2, "3");
}

#[test]
fn a_thread_that_waits_beside_another_does_not_drive() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane(LANE);
    sim.push(lane, "1");
    sim.push(lane, "2");
    sim.take(0);
    sim.take(1);
    let now = sim.now;

    assert!(!sim.state.begin_wait(0, now));
    assert_eq!(sim.state.lease, Lease::Keeper);
}

#[test]
fn answers_of_a_thread_that_gets_stuck_are_asked_for() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane_with(SHORT);
    for name in ["1", "2"] {
        sim.push(lane, name);
    }
    let given = sim.take(0);
    let report = Report {
        ended: ended(given, SHORT),
        holds: true,
    };
    let now = sim.now;
    let step = sim.state.step(0, report, now);
    assert!(matches!(step, Step::Next(Next::Run { .. })), "{step:?}");

    sim.pass(STUCK_AFTER - SHORT);
    assert!(sim.look().stuck.is_empty());
    sim.pass(SHORT);
    assert_eq!(sim.look().stuck, [0]);
    assert!(sim.look().stuck.is_empty(), "once");
}

#[test]
fn who_holds_answers_back_sends_them_before_it_sleeps() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane_with(LONG);
    sim.push(lane, "1");
    let given = sim.take(0);
    let report = Report {
        ended: ended(given, LONG),
        holds: true,
    };
    let now = sim.now;

    let step = sim.state.step(0, report, now);

    assert!(matches!(step, Step::Next(Next::Send)), "{step:?}");
    sim.parks(0);
}

#[test]
fn idle_instances_go_after_half_a_minute() {
    let mut sim = Sim::new(BOUNDS);
    let lane = sim.lane(LANE);
    sim.push(lane, "idle");
    sim.push(lane, "busy");
    let (idle, busy) = (sim.take(0), sim.take(1));
    sim.step(0, ended(idle, LONG));
    sim.step(1, kept(busy, LONG, 1, false));

    sim.pass(Duration::from_secs(29));
    sim.look();
    sim.parks(0);
    sim.pass(Duration::from_secs(6));
    sim.look();

    match sim.step(0, None) {
        Step::Next(Next::Drop(dropped)) => assert_eq!(dropped, ["idle"]),
        other => panic!("{other:?}"),
    }
    // Its memory goes back to the system when it is dropped, and not while a thread is at it.
    sim.pass(Duration::from_secs(5));
    assert!(!sim.look().releases);
    sim.parks(0);
    assert!(sim.look().releases);
}

#[test]
fn where_memory_is_short_the_half_goes_that_was_used_first() {
    let mut sim = Sim::new(BOUNDS);
    for name in ["1", "2", "3", "4"] {
        let lane = sim.lane(LANE);
        sim.push(lane, name);
        let given = sim.take(0);
        sim.step(0, ended(given, LONG));
        sim.pass(SHORT);
    }

    sim.state.discard_half();

    match sim.step(0, None) {
        Step::Next(Next::Drop(dropped)) => assert_eq!(dropped.len(), 3),
        other => panic!("{other:?}"),
    }
}
