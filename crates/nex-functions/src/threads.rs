//! The threads on which engines run.

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use async_nats::Subject;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::{
    console::Console,
    engine::{Engine, Failure, FailureKind, Invocation, Setting, Source},
    queue::{LaneId, Next, Queue, Waiting},
    services::Services,
    trace::traceparent,
};

/// Code that has been loaded, with what its instances are given.
pub(crate) struct Code<E: Engine> {
    pub(crate) module: E::Module,
    pub(crate) name: String,
    pub(crate) console: Console,
    pub(crate) services: Services,
    pub(crate) memory_bytes: usize,
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
    pub(crate) name: String,
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
    /// Room for the answer, kept since the invocation was let in: a thread never waits for it.
    pub(crate) answer_tx: mpsc::OwnedPermit<Answer>,
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
    fn deadline(&self) -> Instant {
        match self {
            Self::Load(load) => load.deadline,
            Self::Call(call) => call.invocation.deadline,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Load(load) => load.source.code.len(),
            Self::Call(call) => call.invocation.payload.len(),
        }
    }
}

/// Starts the threads. They end when the queue is closed.
pub(crate) fn spawn<E: Engine>(
    engine: &Arc<E>,
    queue: &Arc<Queue<Job<E>>>,
    count: usize,
) -> io::Result<()> {
    for number in 0..count {
        let (engine, queue) = (Arc::clone(engine), Arc::clone(queue));
        // Made on its thread, which its instances cannot leave.
        let run = move || {
            let worker = Worker {
                engine,
                queue,
                instances: HashMap::new(),
            };
            worker.run(number);
        };
        thread::Builder::new()
            .name(format!("engine-{number}"))
            .stack_size(E::STACK_BYTES)
            .spawn(run)?;
    }
    Ok(())
}

/// One engine thread. It alone touches its instances.
struct Worker<E: Engine> {
    engine: Arc<E>,
    queue: Arc<Queue<Job<E>>>,
    instances: HashMap<LaneId, Ready<E>>,
}

/// Code that is ready to run, and what it was given to reach the world.
struct Ready<E: Engine> {
    instance: E::Instance,
    services: Services,
}

impl<E: Engine> Worker<E> {
    fn run(mut self, number: usize) {
        while let Some(next) = self.queue.next(number) {
            match next {
                Next::Forget(lane) => drop(self.instances.remove(&lane)),
                Next::Run(lane, Job::Load(load)) => {
                    self.load(load);
                    self.queue.done(lane);
                }
                Next::Run(lane, Job::Call(call)) => {
                    self.call(lane, call);
                    self.queue.done(lane);
                }
            }
        }
    }

    fn load(&self, load: Load<E>) {
        let setting = Setting {
            name: load.name,
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

    fn call(&mut self, lane: LaneId, call: Call<E>) {
        let started = Instant::now();
        let invocation = &call.invocation;
        let result = if started < invocation.deadline {
            self.invoke(lane, &call.code, invocation)
        } else {
            Err(waited())
        };
        call.answer_tx.send(Answer {
            invocation: call.invocation,
            reply: call.reply,
            result,
            took: started.elapsed(),
        });
    }

    fn invoke(
        &mut self,
        lane: LaneId,
        code: &Code<E>,
        invocation: &Invocation,
    ) -> Result<Bytes, Failure> {
        let mut ready = match self.instances.remove(&lane) {
            Some(ready) => ready,
            None => self.instantiate(code, invocation.deadline)?,
        };
        ready.services.set_trace(traceparent(&invocation.headers));
        let result = contained(|| self.engine.call(&mut ready.instance, invocation));
        match &result {
            Err(failure) if failure.kind.ends_instance() => {}
            _ => drop(self.instances.insert(lane, ready)),
        }
        result
    }

    fn instantiate(&self, code: &Code<E>, deadline: Instant) -> Result<Ready<E>, Failure> {
        let services = code.services.for_instance();
        let setting = Setting {
            name: code.name.clone(),
            console: code.console.clone(),
            services: services.clone(),
            memory_bytes: code.memory_bytes,
            deadline,
        };
        let instance = contained(|| self.engine.instantiate(&code.module, &setting))?;
        Ok(Ready { instance, services })
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
