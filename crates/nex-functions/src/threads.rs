//! The threads on which engines run.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use async_nats::Subject;
use bytes::Bytes;
use nex_process::OwnThread;
use tokio::sync::{mpsc::OwnedPermit, oneshot};
use tracing::{error, warn};

use crate::{
    console::Console,
    engine::{About, Engine, Failure, FailureKind, Invocation, InvocationKey, Setting, Source},
    io::{Io, Seat, Waited},
    limits::{LOAD_TIMEOUT, Limits},
    memory::Budget,
    outbox::Outbox,
    park::Parker,
    queue::{Before, LaneId, Next, Queue, Ran, Waiting},
    services::Services,
    stream::Delivery,
    warm::{TIDY_PERIOD, Warm},
};

/// Code that has been loaded, with what its instances are given.
pub(crate) struct Code<E: Engine> {
    pub(crate) module: E::Module,
    pub(crate) about: Arc<About>,
    pub(crate) console: Console,
    pub(crate) services: Services,
    pub(crate) memory_bytes: usize,
    /// Whether each invocation has an instance of its own.
    pub(crate) fresh: bool,
}

/// Work for an engine thread.
pub(crate) enum Job<E: Engine> {
    /// Load code and see whether it can be made ready.
    Load(Box<Load<E>>),
    /// Run it once.
    Call(Call<E>),
}

/// Code to load.
pub(crate) struct Load<E: Engine> {
    pub(crate) about: Arc<About>,
    pub(crate) source: Source,
    pub(crate) services: Services,
    pub(crate) memory_bytes: usize,
    pub(crate) loaded_tx: oneshot::Sender<Result<E::Module, Failure>>,
}

/// Code to run.
pub(crate) struct Call<E: Engine> {
    pub(crate) code: Arc<Code<E>>,
    pub(crate) asked: Box<Asked>,
    /// Where it comes from a stream: its time begins when it runs, since it can wait.
    pub(crate) stream: Option<OfStream>,
    /// Room for the answer, kept since the invocation was let in: a thread never waits for it.
    pub(crate) answer_tx: OwnedPermit<Answer>,
}

/// What is to be run. It goes from thread to thread and back, and stays where it is in memory.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) invocation: Invocation,
    /// Where its caller waits.
    pub(crate) reply: Option<Subject>,
    /// Which delivery of a stream it is.
    pub(crate) delivery: Option<Delivery>,
}

/// What a call on a message of a stream has besides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfStream {
    /// Which of the function's triggers on streams it is.
    pub(crate) trigger: usize,
    /// How long it may run.
    pub(crate) timeout: Duration,
}

/// How an invocation went.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What was run, or would have been.
    pub(crate) asked: Box<Asked>,
    pub(crate) result: Result<Bytes, Failure>,
    /// How long it ran.
    pub(crate) took: Duration,
}

impl<E: Engine> Waiting for Job<E> {
    fn deadline(&self) -> Option<Instant> {
        match self {
            // Its time begins when it runs, as that of a message of a stream does.
            Self::Load(_) => None,
            Self::Call(call) if call.stream.is_some() => None,
            Self::Call(call) => Some(call.asked.invocation.deadline),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Load(load) => load.source.code.len(),
            Self::Call(call) => call.asked.invocation.payload.len(),
        }
    }
}

/// How long after an engine thread could not be started another try is made.
const SPAWN_AGAIN: Duration = Duration::from_secs(1);

/// The stack that an engine thread has besides what its code needs, in bytes: for I/O that it does while
/// it waits.
const IO_STACK_BYTES: usize = 1024 * 1024;

/// The stack of the thread that looks after the others, in bytes.
const KEEPER_STACK_BYTES: usize = 128 * 1024;

/// What all engine threads share.
struct Shared<E: Engine> {
    engine: Arc<E>,
    queue: Arc<Queue<Job<E>>>,
    /// One for each thread that there can be.
    outboxes: Box<[Outbox]>,
    seats: Box<[Seat]>,
}

/// Starts the threads, and one that looks after them: it starts more while all of these are stuck. They
/// end when the queue is closed.
pub(crate) fn spawn<E: Engine>(
    engine: &Arc<E>,
    queue: &Arc<Queue<Job<E>>>,
    io: &Io,
    limits: &Limits,
) -> io::Result<()> {
    let seat = |thread| {
        let queue = Arc::clone(queue);
        io.seat(thread, move || queue.is_alone(thread))
    };
    let shared = Arc::new(Shared {
        engine: Arc::clone(engine),
        queue: Arc::clone(queue),
        outboxes: (0..limits.most_threads())
            .map(|_| Outbox::default())
            .collect(),
        seats: (0..limits.most_threads()).map(seat).collect(),
    });
    // First, for it starts those again that cannot be started just now.
    let thread = thread::Builder::new().name("engine-keeper".to_owned());
    let thread = thread.stack_size(KEEPER_STACK_BYTES);
    let keeping = Arc::clone(&shared);
    thread.spawn(move || keep(&keeping))?;
    for number in 0..limits.threads {
        if let Err(error) = spawn_one(&shared, number) {
            warn!(%error, "failed to start an engine thread; it is tried again");
            queue.retire(number);
        }
    }
    Ok(())
}

fn keep<E: Engine>(shared: &Arc<Shared<E>>) {
    while let Some(relief) = shared.queue.relieves() {
        for (number, outbox) in shared.outboxes.iter().enumerate() {
            if relief.stuck & (1 << number) != 0 {
                outbox.relieve();
            }
        }
        if let Some(number) = relief.thread
            && let Err(error) = spawn_one(shared, number)
        {
            warn!(%error, "failed to start an engine thread; it is tried again");
            shared.queue.retire(number);
            #[expect(clippy::disallowed_methods, reason = "this thread is for nothing else")]
            thread::sleep(SPAWN_AGAIN);
        }
    }
    // Nobody looks after those any more that are still in a run.
    shared.outboxes.iter().for_each(Outbox::relieve);
}

fn spawn_one<E: Engine>(shared: &Arc<Shared<E>>, number: usize) -> io::Result<()> {
    let shared = Arc::clone(shared);
    let run = move || {
        let worker = Worker {
            number,
            shared,
            warm: Warm::new(Budget::of_machine(), Instant::now()),
        };
        worker.run();
    };
    let thread = thread::Builder::new().name(format!("engine-{number}"));
    thread
        .stack_size(E::STACK_BYTES + IO_STACK_BYTES)
        .spawn(run)?;
    Ok(())
}

/// One engine thread. It alone touches its instances.
struct Worker<E: Engine> {
    number: usize,
    shared: Arc<Shared<E>>,
    warm: Warm<Ready<E>>,
}

/// Code that is ready to run, and where its thread waits while an invocation is suspended.
struct Ready<E: Engine> {
    instance: E::Instance,
    parker: Parker,
    last_key: u64,
}

impl<E: Engine> Ready<E> {
    /// Runs one invocation to its end. This thread waits with it while it is suspended.
    fn call(&mut self, engine: &E, invocation: &Invocation) -> Result<Bytes, Failure> {
        self.last_key += 1;
        let key = InvocationKey(self.last_key);
        let instance = &mut self.instance;
        let mut finished = Vec::new();
        let begun = engine.begin(instance, key, invocation, &mut finished);
        if let Poll::Ready(result) = begun {
            return result;
        }
        loop {
            let until = engine.wakes_at(instance).unwrap_or(invocation.deadline);
            self.parker.park(until);
            engine.resume(instance, &mut finished);
            if let Some((_, result)) = finished.drain(..).find(|(over, _)| *over == key) {
                return result;
            }
        }
    }
}

impl<E: Engine> Worker<E> {
    fn run(mut self) {
        let seat = self.seat();
        self.serve(&seat);
        seat.give_back();
    }

    fn serve(&mut self, seat: &Seat) {
        let own = OwnThread::current();
        let shared = Arc::clone(&self.shared);
        let (number, queue) = (self.number, &shared.queue);
        let outbox = &shared.outboxes[number];
        queue.begin(number, own);
        let mut before = Before::default();
        loop {
            // One that keeps nothing can wait for ever, if it need not leave.
            let patience = !self.warm.is_empty() || queue.is_extra(number);
            let patience = patience.then_some(TIDY_PERIOD);
            let next = queue.next(number, before, patience);
            // Between short runs, while nothing else runs, it does the I/O itself.
            let drives = match &next {
                Some(Next::Run { quick, alone, .. }) => *quick && *alone,
                Some(Next::Drive) => true,
                _ => false,
            };
            // Answers wait for the end of a short run, and for nothing else.
            if !drives && !matches!(next, Some(Next::Run { quick: true, .. })) {
                outbox.send();
            }
            if before.has_io && !drives {
                seat.give_back();
            }
            before = Before {
                has_io: drives,
                ..Before::default()
            };
            match next {
                None => return,
                Some(Next::Nothing) => {}
                Some(Next::Idle) => {
                    if queue.leave(number) {
                        return;
                    }
                    self.warm.tidy(Instant::now());
                }
                Some(Next::Forget(lane)) => self.warm.forget(lane),
                Some(Next::Behind) => {
                    if own.is_none_or(|own| own.in_turn().is_err()) {
                        // It cannot come back without a privilege, and what it would start is as it
                        // is. So another one takes its place.
                        return queue.retire(number);
                    }
                }
                Some(Next::Drive) => {
                    match seat.wait(queue.told(number), patience, || outbox.send()) {
                        Waited::Told => {}
                        Waited::Long => {
                            if !queue.stops_driving(number) {
                                seat.give_back();
                                self.warm.tidy(Instant::now());
                            }
                        }
                        Waited::Not => {
                            before = Before {
                                cannot_drive: true,
                                ..Before::default()
                            }
                        }
                    }
                }
                Some(Next::Run { lane, job, .. }) => {
                    let started = Instant::now();
                    let is_call = matches!(job, Job::Call(_));
                    let (ended, holds) = self.work(lane, job, started, outbox);
                    if !drives {
                        // It may have asked something.
                        seat.give_back();
                    } else if !holds && queue.pauses(number) {
                        seat.turn();
                    }
                    let took = is_call.then(|| ended - started);
                    before.ran = Some(Ran { lane, took });
                    before.holds = holds;
                }
            }
        }
    }

    /// Runs it; when it ended, and whether its answer is still here.
    fn work(
        &mut self,
        lane: LaneId,
        job: Job<E>,
        started: Instant,
        outbox: &Outbox,
    ) -> (Instant, bool) {
        let call = match job {
            Job::Call(call) => call,
            Job::Load(load) => {
                self.load(*load);
                return (Instant::now(), false);
            }
        };
        let (to, answer, ended) = self.call(lane, call, started);
        let mut holds = outbox.put(to, answer, ended);
        if self.warm.wants_tidying(ended) {
            outbox.send();
            holds = false;
            self.warm.tidy(ended);
        }
        (ended, holds)
    }

    fn load(&self, load: Load<E>) {
        let setting = Setting {
            about: load.about,
            console: Console::muted(),
            services: load.services,
            memory_bytes: load.memory_bytes,
            deadline: Instant::now() + LOAD_TIMEOUT,
            // It is dropped before anything could be in flight.
            waker: Waker::noop().clone(),
        };
        let engine = &self.shared.engine;
        let loaded = contained(|| {
            let module = engine.load(&load.source)?;
            engine.instantiate(&module, &setting)?;
            Ok(module)
        });
        // Whoever asked may have given up.
        load.loaded_tx.send(loaded).ok();
    }

    fn call(
        &mut self,
        lane: LaneId,
        call: Call<E>,
        started: Instant,
    ) -> (OwnedPermit<Answer>, Answer, Instant) {
        let mut asked = call.asked;
        let invocation = &mut asked.invocation;
        if let Some(OfStream { timeout, .. }) = call.stream {
            invocation.deadline = started + timeout;
        }
        let result = if started < invocation.deadline {
            self.invoke(lane, &call.code, invocation, started)
        } else {
            Err(waited())
        };
        let ended = Instant::now();
        let took = ended - started;
        let answer = Answer {
            asked,
            result,
            took,
        };
        (call.answer_tx, answer, ended)
    }

    fn invoke(
        &mut self,
        lane: LaneId,
        code: &Code<E>,
        invocation: &Invocation,
        now: Instant,
    ) -> Result<Bytes, Failure> {
        let engine = &self.shared.engine;
        let mut made = None;
        let ready = match self.warm.get(lane, now) {
            Some(ready) if !code.fresh => ready,
            _ => made.insert(self.instantiate(code, invocation)?),
        };
        let ran = contained(|| {
            let result = ready.call(engine, invocation);
            Ok((result, engine.is_worn_out(&ready.instance)))
        });
        let is_worn_out = !matches!(ran, Ok((_, false)));
        match made {
            Some(made) if !code.fresh && !is_worn_out => self.warm.keep(lane, made, now),
            None if is_worn_out => self.warm.forget(lane),
            _ => {}
        }
        ran.and_then(|(result, _)| result)
    }

    fn seat(&self) -> Seat {
        self.shared.seats[self.number].clone()
    }

    fn instantiate(&self, code: &Code<E>, first: &Invocation) -> Result<Ready<E>, Failure> {
        let services = code.services.for_thread(self.seat());
        let parker = services.parker();
        let setting = Setting {
            about: Arc::clone(&code.about),
            // What it writes while it is made is for the one who waits for that.
            console: code.console.for_invocation(first),
            services,
            memory_bytes: code.memory_bytes,
            deadline: first.deadline,
            waker: parker.waker(),
        };
        let instance = contained(|| self.shared.engine.instantiate(&code.module, &setting))?;
        Ok(Ready {
            instance,
            parker,
            last_key: 0,
        })
    }
}

/// The failure of an invocation whose deadline came before its turn.
pub(crate) fn waited() -> Failure {
    let text = "it waited for a free engine thread all that time";
    Failure::new(FailureKind::Deadline, text)
}

/// Runs an engine's code; a panic in it becomes a failure of this function alone.
fn contained<T>(run: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // What a panic leaves half done is the instance, and that is dropped then.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_panic| {
        error!("the engine panicked");
        let text = "the engine failed; its log says more";
        Err(Failure::new(FailureKind::Internal, text))
    })
}
