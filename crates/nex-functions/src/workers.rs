//! The threads on which engines run, and the watchdog that looks after them.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nex_process::OwnThread;
use tokio::{runtime::Handle, sync::Notify};
use tracing::warn;

use crate::{
    engine::Engine,
    instance::{Addressed, Functions, Instance, Place},
    invocation::Call,
    io::{Driver, Io, Leases},
    limits::Limits,
    memory::Budget,
    outbox::Outbox,
    scheduler::{Ended, Job, Next, Report, Scheduler, Turn, Work},
};

/// Pause after an engine thread could not be started, before the next try.
const SPAWN_AGAIN: Duration = Duration::from_secs(1);
/// The stack of an engine thread besides that of its code, in bytes: for the I/O that it does.
const IO_STACK_BYTES: usize = 1024 * 1024;
/// The stack of the watchdog, in bytes.
const WATCHDOG_STACK_BYTES: usize = 128 * 1024;

/// State that all engine threads share.
struct Shared<E: Engine> {
    engine: Arc<E>,
    scheduler: Arc<Functions<E>>,
    runtime: Handle,
    /// One for each thread that there can be.
    outboxes: Box<[Outbox]>,
    drivers: Box<[Driver]>,
}

/// The stack of a thread that runs an engine's code, in bytes.
pub(crate) fn stack_bytes<E: Engine>() -> usize {
    E::STACK_BYTES + IO_STACK_BYTES
}

/// Starts the watchdog, which starts the engine threads. All end when the scheduler is closed.
pub(crate) fn spawn<E: Engine>(
    engine: &Arc<E>,
    scheduler: &Arc<Functions<E>>,
    io: &Io,
    limits: &Limits,
) -> io::Result<()> {
    let places = limits.bounds().places();
    let shared = Arc::new(Shared {
        engine: Arc::clone(engine),
        scheduler: Arc::clone(scheduler),
        runtime: io.handle().clone(),
        outboxes: (0..places).map(|_| Outbox::default()).collect(),
        drivers: (0..places).map(|thread| io.driver(thread)).collect(),
    });
    let thread = thread::Builder::new().name("engine-watchdog".to_owned());
    let thread = thread.stack_size(WATCHDOG_STACK_BYTES);
    thread.spawn(move || watch(&shared))?;
    Ok(())
}

fn watch<E: Engine>(shared: &Arc<Shared<E>>) {
    let scheduler = &shared.scheduler;
    let budget = Budget::of_machine();
    while let Some(relief) = scheduler.watch() {
        for thread in relief.stuck {
            shared.outboxes[thread].relieve();
        }
        if relief.measures && budget.is_exceeded() {
            scheduler.discard_half();
        }
        if relief.releases {
            nex_process::release_memory();
        }
        if let Some(number) = relief.thread
            && let Err(error) = spawn_one(shared, number)
        {
            warn!(%error, "failed to start an engine thread; it is tried again");
            #[expect(clippy::disallowed_methods, reason = "this thread is for nothing else")]
            thread::sleep(SPAWN_AGAIN);
            scheduler.failed_to_start(number);
        }
    }
    // Nobody looks after those any more that are still in a turn.
    shared.outboxes.iter().for_each(Outbox::relieve);
}

fn spawn_one<E: Engine>(shared: &Arc<Shared<E>>, number: usize) -> io::Result<()> {
    let worker = Worker {
        number,
        shared: Arc::clone(shared),
        answers: Vec::new(),
        holds: false,
    };
    let thread = thread::Builder::new().name(format!("engine-{number}"));
    thread
        .stack_size(stack_bytes::<E>())
        .spawn(move || worker.run())?;
    Ok(())
}

/// One engine thread.
struct Worker<E: Engine> {
    number: usize,
    shared: Arc<Shared<E>>,
    /// Answers of the turn that runs; empty between turns.
    answers: Vec<Addressed>,
    /// Set while answers wait in the outbox.
    holds: bool,
}

impl<E: Engine> Worker<E> {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let (number, scheduler) = (self.number, &shared.scheduler);
        let driver = &shared.drivers[number];
        driver.install();
        scheduler.begin(number, OwnThread::current());
        let mut report = Report::default();
        let mut now = Instant::now();
        while let Some(next) = scheduler.next(number, report, now) {
            report = Report::default();
            match next {
                Next::Run { turn, is_short } => {
                    // Answers wait for the end of a short turn, and for nothing else.
                    if !is_short {
                        self.send();
                    }
                    (report, now) = self.turn(turn);
                    continue;
                }
                Next::Drive => driver.drive(scheduler.told(number), || self.send()),
                Next::Poll => {
                    self.send();
                    driver.poll();
                }
                Next::Send => self.send(),
                Next::Drop(instances) => {
                    self.send();
                    drop(instances);
                }
                Next::Idle if scheduler.leave(number) => return,
                Next::Idle => {}
                Next::Retire => break,
            }
            now = Instant::now();
        }
        self.send();
    }

    /// Sends the answers that are held back.
    fn send(&mut self) {
        if std::mem::take(&mut self.holds) {
            self.shared.outboxes[self.number].send();
        }
    }

    /// Runs a turn; returns its report, and when it ended.
    fn turn(
        &mut self,
        turn: Turn<Call<E>, Box<Instance<E>>>,
    ) -> (Report<Box<Instance<E>>>, Instant) {
        let shared = &self.shared;
        let place = Place {
            scheduler: &shared.scheduler,
            lane: turn.lane,
            id: turn.instance,
            runtime: &shared.runtime,
        };
        let began = Instant::now();
        let engine = &*shared.engine;
        let kept = match turn.work {
            Work::Begin(call, instance) => {
                Instance::begin(engine, instance, call, &place, began, &mut self.answers)
            }
            Work::Resume(instance) => instance.resume(engine, &mut self.answers),
        };
        let now = Instant::now();
        let outbox = &shared.outboxes[self.number];
        for (to, answer) in self.answers.drain(..) {
            self.holds = outbox.put(to, answer, now);
        }
        let ended = Ended {
            lane: turn.lane,
            instance: turn.instance,
            kept,
            took: now - began,
        };
        let report = Report {
            ended: Some(ended),
            holds: self.holds,
        };
        (report, now)
    }
}

impl<J: Job + Send, I: Send> Leases for Scheduler<J, I> {
    fn taken(&self) -> &Notify {
        self.lease_taken()
    }

    fn wait_for_return(&self) {
        self.wait_for_lease();
    }

    fn begin_wait(&self, thread: usize) -> bool {
        Self::begin_wait(self, thread)
    }

    fn end_wait(&self, thread: usize) {
        Self::end_wait(self, thread);
    }
}
