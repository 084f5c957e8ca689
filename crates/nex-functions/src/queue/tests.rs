use std::thread;

use super::{
    lane::{LONG, QUICK},
    *,
};

#[derive(Debug, PartialEq)]
struct Job(&'static str, Instant);

impl Waiting for Job {
    fn deadline(&self) -> Option<Instant> {
        Some(self.1)
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }
}

fn queue(bounds: Bounds) -> Queue<Job> {
    Queue::new(bounds)
}

const WIDE: Bounds = Bounds {
    jobs: 100,
    bytes: 100,
    running_per_lane: 2,
    threads: 1,
    most_threads: 2,
};

fn job(name: &'static str) -> Job {
    Job(name, Instant::now() + Duration::from_secs(60))
}

/// What the first thread runs next, after this.
fn run_after(queue: &Queue<Job>, ran: Option<Ran>) -> (LaneId, &'static str) {
    let before = Before {
        ran,
        ..Before::default()
    };
    match queue.next(0, before, None).unwrap() {
        Next::Run { lane, job, .. } => (lane, job.0),
        other => panic!("{other:?}"),
    }
}

fn run(queue: &Queue<Job>) -> (LaneId, &'static str) {
    run_after(queue, None)
}

fn one_more(thread: usize) -> Option<Relief> {
    Some(Relief {
        stuck: 0,
        thread: Some(thread),
    })
}

fn over(lane: LaneId) -> Option<Ran> {
    let took = Some(Duration::ZERO);
    Some(Ran { lane, took })
}

/// Makes a lane known for short runs.
fn run_quickly(queue: &Queue<Job>, lane: LaneId) {
    queue.push(lane, job("quick")).unwrap();
    run(queue);
    queue
        .lock()
        .done(&over(lane).unwrap(), WIDE.running_per_lane);
}

/// How long a thread waits for what a test is about.
const LIMIT: Option<Duration> = Some(Duration::from_secs(10));

#[test]
fn lanes_take_turns() {
    let queue = queue(WIDE);
    let (a, b) = (queue.open_lane(), queue.open_lane());
    for name in ["a1", "a2", "a3"] {
        queue.push(a, job(name)).unwrap();
    }
    queue.push(b, job("b1")).unwrap();

    let mut ran = None;
    let order: Vec<_> = (0..4)
        .map(|_| {
            let (id, name) = run_after(&queue, ran);
            ran = over(id);
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
    let ran = Some(Ran {
        lane: a,
        took: Some(LONG),
    });
    assert_eq!(run_after(&queue, ran).1, "a3");
}

#[test]
fn a_thread_is_alone_while_nothing_else_runs_or_waits() {
    let queue = queue(Bounds { threads: 2, ..WIDE });
    let lane = queue.open_lane();
    queue.push(lane, job("a1")).unwrap();
    assert_eq!(run(&queue).1, "a1");
    assert!(!queue.is_alone(0), "the other thread may run something");

    queue.lock().idle |= 1 << 1;
    assert!(queue.is_alone(0));

    queue.push(lane, job("a2")).unwrap();
    assert!(!queue.is_alone(0), "something waits");
    run(&queue);
    queue.behind.store(1, Ordering::Relaxed);
    assert!(!queue.is_alone(0), "it runs behind all others");
}

#[test]
fn a_full_queue_gives_the_job_back() {
    let queue = queue(Bounds {
        jobs: 2,
        bytes: 5,
        running_per_lane: 1,
        ..WIDE
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
fn what_a_full_queue_gives_back_of_many_is_the_rest() {
    let queue = queue(Bounds { jobs: 2, ..WIDE });
    let a = queue.open_lane();

    let refused = queue.push_all(a, ["a1", "a2", "a3", "a4"].map(job).into());

    assert_eq!(
        refused.iter().map(|job| job.0).collect::<Vec<_>>(),
        ["a3", "a4"]
    );
    assert_eq!(run(&queue).1, "a1");
    assert_eq!(run_after(&queue, over(a)).1, "a2");
}

#[test]
fn many_at_once_get_a_thread_each_where_their_runs_are_long() {
    let queue = queue(Bounds { threads: 2, ..WIDE });
    let a = queue.open_lane();
    thread::scope(|scope| {
        let threads = [0, 1].map(|number| {
            scope.spawn({
                let queue = &queue;
                move || queue.next(number, Before::default(), LIMIT)
            })
        });
        while queue.lock().idle != 0b11 {
            thread::yield_now();
        }

        assert!(queue.push_all(a, ["a1", "a2"].map(job).into()).is_empty());

        for thread in threads {
            let next = thread.join().unwrap();
            assert!(matches!(next, Some(Next::Run { .. })), "{next:?}");
        }
    });
}

#[test]
fn what_is_past_its_deadline_is_taken_out() {
    let queue = queue(WIDE);
    let a = queue.open_lane();
    let now = Instant::now();
    queue.push(a, Job("old", now)).unwrap();
    queue.push(a, job("new")).unwrap();

    assert_eq!(queue.withdraw(a, |job| job.1 <= now), [Job("old", now)]);
    assert_eq!(run(&queue).1, "new");
}

#[test]
fn a_closed_lane_is_forgotten_and_takes_nothing() {
    let queue = queue(WIDE);
    let a = queue.open_lane();
    queue.push(a, job("dropped")).unwrap();

    queue.close_lane(a);

    assert!(matches!(queue.next(0, Before::default(), None), Some(Next::Forget(id)) if id == a));
    assert!(queue.push(a, job("late")).is_err());
    queue.close();
    assert!(queue.next(0, Before::default(), None).is_none());
}

#[test]
fn a_thread_that_waited_long_enough_is_told() {
    let queue = queue(WIDE);

    let next = queue.next(0, Before::default(), Some(Duration::from_millis(1)));

    assert!(matches!(next, Some(Next::Idle)), "{next:?}");
}

#[test]
fn what_waits_behind_a_long_run_wakes_another_thread() {
    let queue = queue(Bounds { threads: 2, ..WIDE });
    let a = queue.open_lane();
    thread::scope(|scope| {
        let other = scope.spawn(|| queue.next(1, Before::default(), None));
        while queue.lock().idle == 0 {
            thread::yield_now();
        }
        // As if a thread had been woken by the first and not come to it yet.
        queue.lock().idle = 0;
        queue.push(a, job("a1")).unwrap();
        queue.push(a, job("a2")).unwrap();
        queue.lock().idle = 1 << 1;

        assert_eq!(run(&queue).1, "a1");

        let other = other.join().unwrap();
        assert!(
            matches!(
                other,
                Some(Next::Run {
                    job: Job("a2", _),
                    ..
                })
            ),
            "{other:?}"
        );
    });
}

#[test]
fn there_is_one_more_thread_while_all_are_stuck() {
    let queue = queue(WIDE);
    let (a, b) = (queue.open_lane(), queue.open_lane());
    thread::scope(|scope| {
        let watching = scope.spawn(|| queue.relieves());
        queue.push(a, job("never ends")).unwrap();
        run(&queue);
        queue.push(b, job("waits")).unwrap();

        assert_eq!(watching.join().unwrap(), one_more(1));
    });
    let next = queue.next(1, Before::default(), None).unwrap();
    assert!(
        matches!(
            next,
            Next::Run {
                job: Job("waits", _),
                ..
            }
        ),
        "{next:?}"
    );
    assert!(queue.leave(1));
    assert!(!queue.leave(0), "the usual threads stay");
}

#[test]
fn a_thread_does_not_leave_while_something_waits() {
    let queue = queue(WIDE);
    let a = queue.open_lane();
    queue.push(a, job("waits")).unwrap();

    assert!(!queue.leave(1));
}

#[test]
fn who_holds_up_others_goes_behind_them_and_is_told() {
    let queue = queue(WIDE);
    let (a, b) = (queue.open_lane(), queue.open_lane());
    let (own_tx, own_rx) = std::sync::mpsc::channel();
    let (end_tx, end_rx) = std::sync::mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            own_tx.send(OwnThread::current()).unwrap();
            while end_rx.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {}
        });
        queue.begin(0, own_rx.recv().unwrap());
        let watching = scope.spawn(|| queue.relieves());
        queue.push(a, job("never ends")).unwrap();
        run(&queue);
        queue.push(b, job("waits")).unwrap();
        assert_eq!(watching.join().unwrap(), one_more(1));
        drop(end_tx);
    });

    queue.push(b, job("more")).unwrap();
    let told = queue.next(
        0,
        Before {
            ran: over(a),
            ..Before::default()
        },
        None,
    );
    assert!(matches!(told, Some(Next::Behind)), "{told:?}");
    assert_eq!(run(&queue).1, "waits");
    assert_eq!(run_after(&queue, over(b)).1, "more", "it is told once");
    queue.retire(0);
    assert_eq!(queue.relieves(), one_more(0), "another one takes its place");
}

#[test]
fn who_holds_answers_back_is_told_before_it_waits() {
    let queue = queue(WIDE);
    let holds = Before {
        holds: true,
        ..Before::default()
    };

    let next = queue.next(0, holds, None);

    assert!(matches!(next, Some(Next::Nothing)), "{next:?}");
}

#[test]
fn answers_of_a_thread_that_gets_stuck_are_asked_for_though_others_go_on() {
    let queue = queue(Bounds { threads: 2, ..WIDE });
    let (a, b) = (queue.open_lane(), queue.open_lane());
    run_quickly(&queue, a);
    queue.push(a, job("never ends")).unwrap();
    let holds = Before {
        holds: true,
        ..Before::default()
    };
    let next = queue.next(1, holds, None);
    assert!(
        matches!(next, Some(Next::Run { quick: true, .. })),
        "{next:?}"
    );
    thread::scope(|scope| {
        let watching = scope.spawn(|| queue.relieves());
        let (mut ran, begun) = (None, Instant::now());
        while !watching.is_finished() && LIMIT.is_some_and(|limit| begun.elapsed() < limit) {
            queue.push(b, job("other")).unwrap();
            let (lane, _) = run_after(&queue, ran);
            ran = over(lane);
        }

        queue.close();

        let relief = watching.join().unwrap().unwrap();
        assert_eq!(relief.stuck, 1 << 1);
    });
}

#[test]
fn what_waits_behind_a_run_that_was_short_until_now_gets_a_thread() {
    let queue = queue(Bounds { threads: 2, ..WIDE });
    let a = queue.open_lane();
    run_quickly(&queue, a);
    thread::scope(|scope| {
        let other = scope.spawn(|| queue.next(1, Before::default(), LIMIT));
        scope.spawn(|| while queue.relieves().is_some() {});
        // Whoever looks after stuck threads sleeps.
        while queue.lock().idle == 0 || queue.lock().watched {
            thread::yield_now();
        }
        // As if the first thread waited too: it alone is woken.
        queue.lock().idle |= 1;
        let refused = queue.push_all(a, ["never ends", "waits"].map(job).into());
        let first = run(&queue).1;
        let next = other.join().unwrap();
        queue.close();

        assert_eq!((refused.len(), first), (0, "never ends"));
        assert!(
            matches!(
                next,
                Some(Next::Run {
                    job: Job("waits", _),
                    ..
                })
            ),
            "{next:?}"
        );
    });
}

/// Does a short run of a new lane on the first thread, which is what it did last then.
fn did_short_run(queue: &Queue<Job>) -> (LaneId, Before) {
    let lane = queue.open_lane();
    run_quickly(queue, lane);
    queue.push(lane, job("short")).unwrap();
    run(queue);
    let before = Before {
        ran: over(lane),
        ..Before::default()
    };
    (lane, before)
}

#[test]
fn a_thread_that_is_alone_after_a_short_run_does_the_io_until_it_is_told() {
    let queue = queue(Bounds { threads: 2, ..WIDE });
    let (lane, before) = did_short_run(&queue);
    let b = queue.open_lane();
    // The other thread waits, and would be the first one if it were not for the I/O.
    let mut state = queue.lock();
    state.idle |= 1 << 1;
    state.lanes.get_mut(&b).unwrap().ran = QUICK / 2;
    drop(state);

    let next = queue.next(0, before, None);
    assert!(matches!(next, Some(Next::Drive)), "{next:?}");
    assert_eq!(queue.lock().first_idle(), Some(0));
    let told = queue.told(0).notified();
    let mut told = Box::pin(told);
    assert!(!told.as_mut().enable());

    queue.push(lane, job("a")).unwrap();
    queue.push(b, job("b")).unwrap();

    assert!(told.as_mut().enable(), "it is told");
    assert_eq!(queue.lock().idle, 1 << 1, "nobody else is, for it comes");
    let next = queue.next(0, Before::default(), None);
    let Some(Next::Run { quick, alone, .. }) = next else {
        panic!("{next:?}");
    };
    assert!(quick && alone);
}

#[test]
fn a_thread_does_no_io_beside_another_or_after_a_long_run() {
    let queue = queue(Bounds { threads: 2, ..WIDE });
    let (lane, before) = did_short_run(&queue);
    let is_nothing = |before| {
        let has_io = true;
        let next = queue.next(0, Before { has_io, ..before }, None);
        matches!(next, Some(Next::Nothing))
    };
    assert!(is_nothing(before), "the other thread may run something");

    queue.lock().idle |= 1 << 1;
    let cannot = Before {
        cannot_drive: true,
        ..Before::default()
    };
    assert!(is_nothing(cannot), "somebody else does it");

    queue.push(lane, job("long")).unwrap();
    assert_eq!(run(&queue).1, "long");
    queue.lock().lanes.get_mut(&lane).unwrap().ran = LONG;
    let long = Before {
        ran: Some(Ran {
            lane,
            took: Some(LONG),
        }),
        ..Before::default()
    };
    assert!(is_nothing(long), "it would not come to it");
}

#[test]
fn what_waits_behind_a_short_run_is_left_to_its_thread_unless_that_is_stuck() {
    let queue = queue(Bounds { threads: 2, ..WIDE });
    let a = queue.open_lane();
    run_quickly(&queue, a);
    let b = queue.open_lane();
    queue.push(a, job("seems short")).unwrap();
    run(&queue);
    queue.push(a, job("waits")).unwrap();
    let has_io = Before {
        has_io: true,
        ..Before::default()
    };
    let next = queue.next(1, has_io, None);
    assert!(matches!(next, Some(Next::Nothing)), "{next:?}");

    // Though others go on, whose lane is not held up.
    let next = thread::scope(|scope| {
        let watching = scope.spawn(|| while queue.relieves().is_some() {});
        let deadline = Instant::now() + LIMIT.unwrap();
        let mut ran = None;
        let next = loop {
            queue.push(b, job("b")).unwrap();
            let before = Before {
                ran,
                ..Before::default()
            };
            match queue.next(1, before, LIMIT) {
                Some(Next::Run { lane, .. }) if lane == b => ran = over(b),
                next => break next,
            }
            if Instant::now() > deadline {
                break None;
            }
        };
        queue.close();
        watching.join().unwrap();
        next
    });

    assert!(
        matches!(&next, Some(Next::Run { lane, .. }) if *lane == a),
        "{next:?}"
    );
    // And goes on as long as that one does.
    let mut state = queue.lock();
    for _ in 0..30 {
        let took = Some(Duration::from_micros(1));
        state.done(&Ran { lane: a, took }, WIDE.running_per_lane);
        state.push(&WIDE, a, job("more")).unwrap();
        let taken = std::iter::from_fn(|| state.take(WIDE.running_per_lane));
        assert!(taken.map(|(lane, ..)| lane).any(|lane| lane == a));
    }
    let lane = &state.lanes[&a];
    assert_eq!((lane.running, lane.stuck), (2, 1));
}

#[test]
fn how_long_runs_take_follows_them_but_not_one_that_stands_out() {
    let mut lane = Lane::<Job>::default();
    let micros = Duration::from_micros;
    lane.take_note(micros(8));
    assert_eq!(lane.ran, micros(8));

    lane.take_note(Duration::from_secs(1));
    assert_eq!(lane.ran, micros(12));
    for _ in 0..4 {
        lane.take_note(micros(8));
    }
    assert!(lane.ran < micros(10), "{:?}", lane.ran);

    for _ in 0..50 {
        lane.take_note(micros(800));
        lane.take_note(micros(8));
    }
    assert!(lane.ran > QUICK, "{:?}", lane.ran);
    for _ in 0..20 {
        lane.take_note(micros(8));
    }
    assert!(lane.ran < micros(12), "{:?}", lane.ran);

    // One in five that is long is not one that stands out.
    for _ in 0..3 {
        lane.take_note(micros(3000));
        for _ in 0..4 {
            lane.take_note(micros(8));
        }
    }
    assert!(lane.ran > QUICK, "{:?}", lane.ran);
}
