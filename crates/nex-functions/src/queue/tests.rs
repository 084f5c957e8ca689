use std::thread;

use super::*;

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

fn run(queue: &Queue<Job>) -> (LaneId, &'static str) {
    match queue.next(0, None).unwrap() {
        Next::Run(id, job) => (id, job.0),
        other => panic!("{other:?}"),
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
            queue.done(0, id, Duration::ZERO);
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
    queue.done(0, a, Duration::ZERO);
    assert_eq!(run(&queue).1, "a3");
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

    assert!(matches!(queue.next(0, None), Some(Next::Forget(id)) if id == a));
    assert!(queue.push(a, job("late")).is_err());
    queue.close();
    assert!(queue.next(0, None).is_none());
}

#[test]
fn a_thread_that_waited_long_enough_is_told() {
    let queue = queue(WIDE);

    let next = queue.next(0, Some(Duration::from_millis(1)));

    assert!(matches!(next, Some(Next::Idle)), "{next:?}");
}

#[test]
fn what_waits_behind_a_long_run_wakes_another_thread() {
    let queue = queue(Bounds { threads: 2, ..WIDE });
    let a = queue.open_lane();
    thread::scope(|scope| {
        let other = scope.spawn(|| queue.next(1, None));
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
            matches!(other, Some(Next::Run(_, Job("a2", _)))),
            "{other:?}"
        );
    });
}

#[test]
fn there_is_one_more_thread_while_all_are_stuck() {
    let queue = queue(WIDE);
    let (a, b) = (queue.open_lane(), queue.open_lane());
    thread::scope(|scope| {
        let watching = scope.spawn(|| queue.wants_thread());
        queue.push(a, job("never ends")).unwrap();
        run(&queue);
        queue.push(b, job("waits")).unwrap();

        assert_eq!(watching.join().unwrap(), Some(1));
    });
    let next = queue.next(1, None).unwrap();
    assert!(matches!(next, Next::Run(_, Job("waits", _))), "{next:?}");
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
        let watching = scope.spawn(|| queue.wants_thread());
        queue.push(a, job("never ends")).unwrap();
        run(&queue);
        queue.push(b, job("waits")).unwrap();
        assert_eq!(watching.join().unwrap(), Some(1));
        drop(end_tx);
    });

    assert!(queue.done(0, a, Duration::from_secs(1)));
    run(&queue);
    assert!(!queue.done(0, b, Duration::ZERO), "it is told once");
    queue.retire(0);
    assert_eq!(queue.wants_thread(), Some(0), "another one takes its place");
}
