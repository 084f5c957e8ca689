//! The threads on which engines run.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use async_nats::Subject;
use bytes::Bytes;
use nex_process::OwnThread;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use crate::{
    console::Console,
    engine::{About, Engine, Failure, FailureKind, Invocation, Setting, Source},
    memory::Budget,
    pump::watched,
    queue::{LaneId, Next, Queue, Waiting},
    services::Services,
    trace::traceparent,
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
    Load(Load<E>),
    /// Run it once.
    Call(Call<E>),
}

/// Code to load.
pub(crate) struct Load<E: Engine> {
    pub(crate) about: Arc<About>,
    pub(crate) source: Source,
    pub(crate) services: Services,
    pub(crate) memory_bytes: usize,
    pub(crate) deadline: Instant,
    pub(crate) loaded_tx: oneshot::Sender<Result<E::Module, Failure>>,
}

/// Code to run.
pub(crate) struct Call<E: Engine> {
    pub(crate) code: Arc<Code<E>>,
    pub(crate) invocation: Invocation,
    pub(crate) reply: Option<Subject>,
    /// Where it comes from a stream: its time begins when it runs, since it can wait.
    pub(crate) stream: Option<OfStream>,
    /// Room for the answer, kept since the invocation was let in: a thread never waits for it.
    pub(crate) answer_tx: mpsc::OwnedPermit<Answer>,
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
    pub(crate) invocation: Invocation,
    pub(crate) reply: Option<Subject>,
    pub(crate) result: Result<Bytes, Failure>,
    /// How long it ran.
    pub(crate) took: Duration,
}

impl<E: Engine> Waiting for Job<E> {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Load(load) => Some(load.deadline),
            Self::Call(call) if call.stream.is_some() => None,
            Self::Call(call) => Some(call.invocation.deadline),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Load(load) => load.source.code.len(),
            Self::Call(call) => call.invocation.payload.len(),
        }
    }
}

/// How long after an engine thread could not be started another try is made.
const SPAWN_AGAIN: Duration = Duration::from_secs(1);

/// The stack of the thread that looks after the others, in bytes.
const KEEPER_STACK_BYTES: usize = 128 * 1024;

/// Starts the threads, and one that starts more while all of these are stuck. They end when the queue
/// is closed.
pub(crate) fn spawn<E: Engine>(
    engine: &Arc<E>,
    queue: &Arc<Queue<Job<E>>>,
    count: usize,
) -> io::Result<()> {
    for number in 0..count {
        spawn_one(engine, queue, number)?;
    }
    let (engine, queue) = (Arc::clone(engine), Arc::clone(queue));
    let keep = move || {
        while let Some(number) = queue.wants_thread() {
            if let Err(error) = spawn_one(&engine, &queue, number) {
                warn!(%error, "failed to start an engine thread; it is tried again");
                queue.retire(number);
                #[expect(clippy::disallowed_methods, reason = "this thread is for nothing else")]
                thread::sleep(SPAWN_AGAIN);
            }
        }
    };
    let thread = thread::Builder::new().name("engine-keeper".to_owned());
    thread.stack_size(KEEPER_STACK_BYTES).spawn(keep)?;
    Ok(())
}

fn spawn_one<E: Engine>(
    engine: &Arc<E>,
    queue: &Arc<Queue<Job<E>>>,
    number: usize,
) -> io::Result<()> {
    let (engine, queue) = (Arc::clone(engine), Arc::clone(queue));
    // Made on its thread, which its instances cannot leave.
    let run = move || {
        let worker = Worker {
            engine,
            queue,
            warm: Warm::new(Budget::of_machine(), Instant::now()),
        };
        worker.run(number);
    };
    let thread = thread::Builder::new().name(format!("engine-{number}"));
    thread.stack_size(E::STACK_BYTES).spawn(run)?;
    Ok(())
}

/// One engine thread. It alone touches its instances.
struct Worker<E: Engine> {
    engine: Arc<E>,
    queue: Arc<Queue<Job<E>>>,
    warm: Warm<Ready<E>>,
}

/// Code that is ready to run, and what it was given to reach the world.
struct Ready<E: Engine> {
    instance: E::Instance,
    services: Services,
    console: Console,
}

impl<E: Engine> Ready<E> {
    fn call(&mut self, engine: &E, invocation: &Invocation) -> Result<Bytes, Failure> {
        self.services.set_trace(traceparent(&invocation.headers));
        self.console.follow(watched(&invocation.headers));
        contained(|| engine.call(&mut self.instance, invocation))
    }
}

impl<E: Engine> Worker<E> {
    fn run(mut self, number: usize) {
        let own = OwnThread::current();
        self.queue.begin(number, own);
        loop {
            // One that keeps nothing can wait for ever, if it need not leave.
            let patience = !self.warm.is_empty() || self.queue.is_extra(number);
            let patience = patience.then_some(TIDY_PERIOD);
            let mut behind = false;
            match self.queue.next(number, patience) {
                None => return,
                Some(Next::Idle) => {
                    if self.queue.leave(number) {
                        return;
                    }
                    self.warm.tidy(Instant::now());
                }
                Some(Next::Forget(lane)) => self.warm.forget(lane),
                Some(Next::Run(lane, Job::Load(load))) => {
                    let started = Instant::now();
                    self.load(load);
                    behind = self.queue.done(number, lane, started.elapsed());
                }
                Some(Next::Run(lane, Job::Call(call))) => {
                    let took = self.call(lane, call);
                    behind = self.queue.done(number, lane, took);
                }
            }
            if behind && own.is_none_or(|own| own.in_turn().is_err()) {
                // It cannot come back without a privilege, and what it would start is as it is. So
                // another one takes its place.
                return self.queue.retire(number);
            }
        }
    }

    fn load(&self, load: Load<E>) {
        let setting = Setting {
            about: load.about,
            console: Console::muted(),
            services: load.services,
            memory_bytes: load.memory_bytes,
            deadline: load.deadline,
        };
        let loaded = contained(|| {
            let module = self.engine.load(&load.source)?;
            self.engine.instantiate(&module, &setting)?;
            Ok(module)
        });
        // Whoever asked may have given up.
        load.loaded_tx.send(loaded).ok();
    }

    fn call(&mut self, lane: LaneId, mut call: Call<E>) -> Duration {
        let started = Instant::now();
        if let Some(OfStream { timeout, .. }) = call.stream {
            call.invocation.deadline = started + timeout;
        }
        let invocation = &call.invocation;
        let result = if started < invocation.deadline {
            self.invoke(lane, &call.code, invocation, started)
        } else {
            Err(waited())
        };
        let ended = Instant::now();
        let took = ended - started;
        call.answer_tx.send(Answer {
            invocation: call.invocation,
            reply: call.reply,
            result,
            took,
        });
        self.warm.tidy(ended);
        took
    }

    fn invoke(
        &mut self,
        lane: LaneId,
        code: &Code<E>,
        invocation: &Invocation,
        now: Instant,
    ) -> Result<Bytes, Failure> {
        let result = if !code.fresh
            && let Some(ready) = self.warm.get(lane, now)
        {
            ready.call(&self.engine, invocation)
        } else {
            let mut ready = self.instantiate(code, invocation)?;
            let result = ready.call(&self.engine, invocation);
            if !code.fresh {
                self.warm.keep(lane, ready, now);
            }
            result
        };
        if let Err(failure) = &result
            && failure.kind.ends_instance()
        {
            self.warm.forget(lane);
        }
        result
    }

    fn instantiate(&self, code: &Code<E>, first: &Invocation) -> Result<Ready<E>, Failure> {
        let services = code.services.for_instance();
        let console = code.console.for_instance();
        // What it writes while it is made is for the one who waits for that.
        console.follow(watched(&first.headers));
        let setting = Setting {
            about: Arc::clone(&code.about),
            console: console.clone(),
            services: services.clone(),
            memory_bytes: code.memory_bytes,
            deadline: first.deadline,
        };
        let instance = contained(|| self.engine.instantiate(&code.module, &setting))?;
        Ok(Ready {
            instance,
            services,
            console,
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
