//! The model, and the cases that are checked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use shuttle::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    src::scheduler::{
        Bounds, Ended, InstanceId, Job, Kept, LaneBounds, LaneId, Next, Report, Scheduler, Turn,
        Work,
    },
    sync::{self, Notify, Reactor},
};

/// Number of random orders that are tried of each case.
const ORDERS: usize = 500;
/// Number of times that a thread is held up in the orders that are chosen against the threads.
const HOLDUPS: usize = 3;

/// A job of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Over when it has run.
    Plain,
    /// Waits once for an answer, suspended.
    Suspends,
    /// Waits once for an answer, on its thread.
    Blocks,
    /// Adds a plain job to its lane, and waits on its thread until that is over.
    CallsItself,
}

struct Task {
    kind: Kind,
    over: Arc<Notify>,
}

impl Job for Task {
    fn bytes(&self) -> usize {
        1
    }
}

/// An instance with the jobs that are suspended in it.
struct Instance {
    suspended: Vec<Arc<Notify>>,
    /// Answers that have come.
    answers: Arc<AtomicUsize>,
}

/// Input that the reactor delivers.
enum Event {
    Push(LaneId, Vec<Task>),
    Answer(LaneId, InstanceId, Arc<AtomicUsize>),
    Tell(Arc<Notify>),
}

struct World {
    scheduler: Scheduler<Task, Instance>,
    reactor: Reactor<Event>,
    concurrency: usize,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl World {
    fn deliver(&self, event: Event) {
        match event {
            Event::Push(lane, tasks) => {
                assert!(self.scheduler.push(lane, tasks).is_empty());
            }
            Event::Answer(lane, instance, answers) => {
                answers.fetch_add(1, Ordering::SeqCst);
                self.scheduler.wake(lane, instance);
            }
            Event::Tell(over) => over.notify_one(),
        }
    }

    /// The I/O runtime's own thread.
    fn keep(&self, over: &AtomicUsize) {
        while over.load(Ordering::SeqCst) == 0 {
            let taken = self.scheduler.lease_taken();
            self.reactor.run(taken, |event| self.deliver(event));
            self.scheduler.wait_for_lease();
        }
    }

    /// An engine thread.
    fn work(&self, number: usize) {
        let mut report = Report::default();
        while let Some(next) = self.scheduler.next(number, report, Instant::now()) {
            report = Report::default();
            match next {
                Next::Run { turn, .. } => report = self.run(number, turn),
                Next::Drive => {
                    let told = self.scheduler.told(number);
                    self.reactor.run(told, |event| self.deliver(event));
                }
                Next::Poll => self.reactor.poll(|event| self.deliver(event)),
                Next::Idle if self.scheduler.leave(number) => return,
                Next::Send | Next::Drop(_) | Next::Idle => {}
                Next::Retire => return,
            }
        }
    }

    fn run(&self, number: usize, turn: Turn<Task, Instance>) -> Report<Instance> {
        let (lane, id) = (turn.lane, turn.instance);
        let mut instance = match turn.work {
            Work::Begin(task, instance) => {
                let mut instance = instance.unwrap_or_else(|| Instance {
                    suspended: Vec::new(),
                    answers: Arc::default(),
                });
                self.begin(number, lane, id, &mut instance, task);
                instance
            }
            Work::Resume(instance) => instance,
        };
        let answers = instance.answers.swap(0, Ordering::SeqCst);
        for over in instance.suspended.drain(..answers) {
            over.notify_one();
        }
        let in_flight = instance.suspended.len();
        let kept = Kept {
            room: self.concurrency - in_flight,
            is_idle: in_flight == 0,
            instance,
        };
        let ended = Ended {
            lane,
            instance: id,
            kept: Some(kept),
            // All turns are short, so that threads drive.
            took: Duration::from_micros(1),
        };
        Report {
            ended: Some(ended),
            holds: false,
        }
    }

    fn begin(
        &self,
        number: usize,
        lane: LaneId,
        id: InstanceId,
        instance: &mut Instance,
        task: Task,
    ) {
        match task.kind {
            Kind::Plain => task.over.notify_one(),
            Kind::Suspends => {
                instance.suspended.push(task.over);
                let answers = Arc::clone(&instance.answers);
                self.reactor.add(Event::Answer(lane, id, answers));
            }
            Kind::Blocks => {
                let answered = Arc::new(Notify::new());
                self.reactor.add(Event::Tell(Arc::clone(&answered)));
                self.wait(number, &answered);
                task.over.notify_one();
            }
            Kind::CallsItself => {
                let over = Arc::new(Notify::new());
                let inner = Task {
                    kind: Kind::Plain,
                    over: Arc::clone(&over),
                };
                self.reactor.add(Event::Push(lane, vec![inner]));
                self.wait(number, &over);
                task.over.notify_one();
            }
        }
    }

    fn wait(&self, number: usize, told: &Notify) {
        match self.scheduler.begin_wait(number) {
            true => self.reactor.run(told, |event| self.deliver(event)),
            false => told.wait(),
        }
        self.scheduler.end_wait(number);
    }
}

/// A case: the lanes, with the jobs that come to each.
struct Case {
    threads: usize,
    concurrency: usize,
    lanes: &'static [&'static [Kind]],
}

impl Case {
    fn run(&self) {
        sync::begin();
        let scheduler = Scheduler::new(Bounds {
            jobs: 100,
            bytes: 100,
            threads: self.threads,
            extra: 1,
            waiting: 2,
        });
        let world = Arc::new(World {
            scheduler,
            reactor: Reactor::new(),
            concurrency: self.concurrency,
            threads: Mutex::default(),
        });
        let keeper_over = Arc::new(AtomicUsize::new(0));
        let keeper = {
            let (world, over) = (Arc::clone(&world), Arc::clone(&keeper_over));
            thread::spawn(move || world.keep(&over))
        };
        let watchdog = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                while let Some(relief) = world.scheduler.watch() {
                    if let Some(number) = relief.thread {
                        let its = Arc::clone(&world);
                        let thread = thread::spawn(move || its.work(number));
                        world.threads.lock().unwrap().push(thread);
                    }
                }
            })
        };
        let mut all = Vec::new();
        for kinds in self.lanes {
            let lane = world.scheduler.open_lane(LaneBounds {
                computing: 1,
                instances: 3,
                waiting: 2,
            });
            let mut tasks = Vec::new();
            for kind in *kinds {
                let over = Arc::new(Notify::new());
                tasks.push(Task {
                    kind: *kind,
                    over: Arc::clone(&over),
                });
                all.push(over);
            }
            // The first by itself, the others at once.
            let others = tasks.split_off(1);
            world.reactor.add(Event::Push(lane, tasks));
            world.reactor.add(Event::Push(lane, others));
        }
        for over in all {
            over.wait();
        }
        world.scheduler.close();
        watchdog.join().unwrap();
        let threads = std::mem::take(&mut *world.threads.lock().unwrap());
        for thread in threads {
            thread.join().unwrap();
        }
        keeper_over.store(1, Ordering::SeqCst);
        world.scheduler.lease_taken().notify_one();
        keeper.join().unwrap();
    }

    fn check(&'static self) {
        shuttle::check_random(|| self.run(), ORDERS);
        shuttle::check_pct(|| self.run(), ORDERS, HOLDUPS);
    }
}

#[test]
fn plain_jobs_of_two_functions_all_run() {
    static CASE: Case = Case {
        threads: 2,
        concurrency: 1,
        lanes: &[
            &[Kind::Plain, Kind::Plain, Kind::Plain],
            &[Kind::Plain, Kind::Plain],
        ],
    };
    CASE.check();
}

#[test]
fn suspended_jobs_go_on_when_their_answers_have_come() {
    static CASE: Case = Case {
        threads: 2,
        concurrency: 2,
        lanes: &[
            &[Kind::Suspends, Kind::Suspends, Kind::Suspends],
            &[Kind::Plain, Kind::Suspends],
        ],
    };
    CASE.check();
}

#[test]
fn jobs_that_wait_on_their_threads_hold_up_no_others() {
    static CASE: Case = Case {
        threads: 1,
        concurrency: 1,
        lanes: &[&[Kind::Blocks, Kind::Blocks], &[Kind::Plain, Kind::Blocks]],
    };
    CASE.check();
}

#[test]
fn a_function_that_calls_itself_is_answered() {
    static CASE: Case = Case {
        threads: 1,
        concurrency: 1,
        lanes: &[&[Kind::CallsItself, Kind::CallsItself], &[Kind::Plain]],
    };
    CASE.check();
}
