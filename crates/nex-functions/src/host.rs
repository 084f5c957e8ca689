//! The function host: starts functions, stops them, knows them.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use jiff::Timestamp;
use nex_nats::Connection;
use nex_protocol::{StartWorkloadRequest, Tags, WorkloadId, WorkloadSummary};
use nexlet::{Refusal, Start, Started, Stop, StopError, made_up_name};
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, info, warn};

use crate::{
    connections::{Connections, Lease},
    console::{Console, ConsoleWriter},
    dead_letter::DeadLetters,
    engine::{About, Engine, Failure, FailureKind, Setting, Source},
    function::{Counters, Function},
    instance::{self, Lane, contained},
    invocation::Code,
    io::Io,
    limits::{LAST_LINES_TIMEOUT, LOAD_TIMEOUT, LOADED_TIMEOUT, Limits},
    pump::{Parts, Pump},
    reply::Replies,
    reporter::{Reporter, report},
    request::{FunctionRequest, Isolation},
    scheduler::Scheduler,
    services::{Grants, HttpClient, Policy, Reach, Services},
    stream::{self, StreamParts, StreamPump, StreamSource},
    triggers::{self, Triggers},
    workers,
};

/// Runs the functions of a nexlet on one engine.
///
/// Its threads start with the first function: a nexlet without any is small.
pub struct FunctionHost<E: Engine> {
    engine: Arc<E>,
    limits: Limits,
    policy: Policy,
    http: Arc<HttpClient>,
    scheduler: Arc<instance::Functions<E>>,
    /// Bounds the loads, which have threads of their own: they do not wait behind calls.
    loads: Arc<Semaphore>,
    /// Runs with the first function, as the engine threads do.
    io: Mutex<Option<Io>>,
    connections: Connections,
    functions: Arc<Functions>,
    reporter: Reporter,
    tasks: TaskTracker,
}

/// All functions that are not dead.
#[derive(Debug, Default)]
struct Functions(Mutex<HashMap<WorkloadId, Arc<Function>>>);

/// A function to start.
#[derive(Debug)]
pub struct NewFunction {
    /// Who wants it, and for whom.
    pub start: Start,
    /// The start request inside of that.
    pub request: FunctionRequest,
    /// Its code.
    pub source: Source,
}

impl<E: Engine> fmt::Debug for FunctionHost<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionHost")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Functions {
    fn lock(&self) -> MutexGuard<'_, HashMap<WorkloadId, Arc<Function>>> {
        // Only whole entries go in and out, so the table is good whatever happened to a thread.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Engine> FunctionHost<E> {
    /// A host without functions.
    #[must_use]
    pub fn new(engine: E, limits: Limits) -> Self {
        Self {
            engine: Arc::new(engine),
            limits,
            policy: Policy::default(),
            http: Arc::default(),
            scheduler: Arc::new(Scheduler::new(limits.bounds())),
            loads: Arc::new(Semaphore::new(limits.loads)),
            io: Mutex::default(),
            connections: Connections::default(),
            functions: Arc::default(),
            reporter: Reporter::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// The same host with this policy for its host services, in place of the default one.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Starts a function. It is answered when the server knows its subscriptions.
    ///
    /// # Errors
    /// The code is wrong, there is no room, or NATS does not take us.
    pub async fn start(&self, new: NewFunction) -> Result<Started, Refusal> {
        let NewFunction {
            mut start,
            request,
            source,
        } = new;
        if start.request.name.is_empty() {
            start.request.name = made_up_name();
        }
        let runtime = self.ensure_threads()?;
        let functions = Arc::clone(&self.functions);
        self.reporter.ensure(&runtime, move || {
            functions.lock().values().cloned().collect()
        });
        let about = Arc::new(About {
            id: start.id.to_string(),
            name: start.request.name.clone(),
            namespace: start.request.namespace.to_string(),
            environment: request.environment.clone(),
        });
        // First, since code may use host services when it is made ready.
        let lease = self.connections.lease(&start, &runtime).await?;
        let reach = Reach {
            client: lease.connection().client().clone(),
            buckets: Arc::clone(lease.buckets()),
            http: Arc::clone(&self.http),
            grants: Grants::new(request.services.clone(), self.policy),
        };
        let services = Services::new(reach, runtime.clone());
        let loading = self.load(&runtime, Arc::clone(&about), source, services.clone());
        let module = match loading.await {
            Ok(module) => module,
            Err(refusal) => {
                lease.release().await;
                return Err(refusal);
            }
        };
        let listening = triggers::listen(lease.connection(), &runtime, &start, &request);
        let Triggers {
            subscriptions,
            sources,
        } = match listening.await {
            Ok(triggers) => triggers,
            Err(refusal) => {
                lease.release().await;
                return Err(refusal);
            }
        };
        let (console, writer) = Console::new();
        let function = Arc::new(Function {
            id: start.id,
            request: start.request,
            subjects: request
                .subjects()
                .map(|it| it.subject.to_string())
                .collect(),
            streams: request.streams().map(ToString::to_string).collect(),
            started: Timestamp::now(),
            host: start.host,
            counters: Counters::default(),
            stop: CancellationToken::new(),
            purge: AtomicBool::new(false),
            unpurged: OnceLock::new(),
            ended: CancellationToken::new(),
        });
        let code = Arc::new(Code {
            module,
            about,
            fresh: request.isolation == Isolation::Fresh,
            console,
            services,
            memory_bytes: self.limits.memory_bytes,
            concurrency: request.concurrency.map_or(1, |it| usize::from(it.get())),
        });
        let client = lease.connection().client();
        let lane = Arc::new(Lane::open(&self.scheduler, self.limits.lane()));
        let consumers = sources.iter().map(StreamSource::names).collect();
        let streams = sources.into_iter().enumerate().map(|(number, source)| {
            StreamPump::new(StreamParts {
                function: Arc::clone(&function),
                code: Arc::clone(&code),
                lane: Arc::clone(&lane),
                client: client.clone(),
                dead_letters: DeadLetters::new(function.host.client()),
                source,
                number,
                timeout: request.timeout,
            })
        });
        let streams: Vec<_> = streams.collect();
        let pump = Pump::new(Parts {
            client: client.clone(),
            replays: (!streams.is_empty()).then(|| function.host.client().clone()),
            replies: Replies::new(client.clone(), &function),
            function: Arc::clone(&function),
            code,
            lane,
            subscriptions,
            timeout: request.timeout,
            in_flight: self.limits.in_flight,
        });
        let life = Life {
            function: Arc::clone(&function),
            functions: Arc::clone(&self.functions),
            consumers,
            lease,
        };
        life.begin().await;
        let living = life.run(pump, streams, writer).in_current_span();
        self.tasks.spawn_on(living, &runtime);
        Ok(Started {
            name: function.request.name.clone(),
        })
    }

    /// Stops a function: no more messages, everything delivered is answered, then it is dead.
    ///
    /// # Errors
    /// When there is none with this id.
    pub async fn stop(&self, stop: &Stop) -> Result<(), StopError> {
        let function = self.functions.lock().get(&stop.id).cloned();
        let function = function.ok_or(StopError::NotFound)?;
        if stop.purge {
            function.purge.store(true, Ordering::Relaxed);
        }
        function.stop.cancel();
        function.ended.cancelled().await;
        match function.unpurged.get() {
            Some(why) if stop.purge => Err(StopError::StillAlive(format!(
                "the function has stopped, but its consumer stays: {why}"
            ))),
            _ => Ok(()),
        }
    }

    /// All functions.
    #[must_use]
    pub fn list(&self) -> Vec<WorkloadSummary> {
        self.functions
            .lock()
            .values()
            .map(|function| function.summary())
            .collect()
    }

    /// How many functions are not dead.
    #[must_use]
    pub fn active(&self) -> usize {
        self.functions.lock().len()
    }

    /// What a function was started with, and its final name.
    #[must_use]
    pub fn get(&self, id: &WorkloadId) -> Option<StartWorkloadRequest> {
        let functions = self.functions.lock();
        functions.get(id).map(|function| function.request.clone())
    }

    /// Stops every function; waits at most `grace` for their ends.
    pub async fn shutdown(&self, grace: Duration) {
        for function in self.functions.lock().values() {
            function.stop.cancel();
        }
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait())
            .await
            .is_err()
        {
            warn!(?grace, "functions outlived the grace of the shutdown");
        }
        self.tasks.reopen();
    }

    /// Starts all threads, if they do not run yet; returns the runtime on which functions do their I/O.
    fn ensure_threads(&self) -> Result<Handle, Refusal> {
        let start = || {
            let leases = Arc::clone(&self.scheduler);
            let io = Io::start(self.tasks.clone(), leases, workers::stack_bytes::<E>())?;
            workers::spawn(&self.engine, &self.scheduler, &io, &self.limits)?;
            Ok(io)
        };
        let mut running = self.io.lock().unwrap_or_else(PoisonError::into_inner);
        let io = match running.take() {
            Some(io) => io,
            None => start().map_err(|error: io::Error| Refusal::internal(&error))?,
        };
        Ok(running.insert(io).handle().clone())
    }

    /// Loads code and makes it ready once, to see whether it is any good.
    async fn load(
        &self,
        runtime: &Handle,
        about: Arc<About>,
        source: Source,
        services: Services,
    ) -> Result<E::Module, Refusal> {
        // Many functions start at once when a nexlet comes back.
        let permit = Arc::clone(&self.loads).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let engine = Arc::clone(&self.engine);
        let memory_bytes = self.limits.memory_bytes;
        let loading = runtime.spawn_blocking(move || {
            let _permit = permit;
            let setting = Setting {
                about,
                console: Console::muted(),
                services,
                memory_bytes,
                deadline: Instant::now() + LOAD_TIMEOUT,
                // It is dropped before anything could be in flight.
                waker: Waker::noop().clone(),
            };
            contained(|| {
                let module = engine.load(&source)?;
                engine.instantiate(&module, &setting)?;
                Ok(module)
            })
        });
        // The engine keeps to its deadline itself, where it can.
        match tokio::time::timeout(LOADED_TIMEOUT, loading).await {
            Ok(Ok(loaded)) => loaded.map_err(|failure| refusal(&failure)),
            _gone_or_elapsed => Err(Refusal::busy(
                "the code is not ready yet, it may be that it still compiles; try again",
            )),
        }
    }
}

impl<E: Engine> Drop for FunctionHost<E> {
    fn drop(&mut self) {
        for function in self.functions.lock().values() {
            function.stop.cancel();
        }
        self.scheduler.close();
    }
}

fn refusal(failure: &Failure) -> Refusal {
    let text = match failure.kind {
        FailureKind::Deadline => {
            format!("the code was not ready within {LOAD_TIMEOUT:?}: {failure}")
        }
        _ => failure.to_string(),
    };
    Refusal {
        hint: failure.hint.clone(),
        ..Refusal::new(failure.kind.code(), text)
    }
}

/// A function from its first event to its last.
struct Life {
    function: Arc<Function>,
    functions: Arc<Functions>,
    /// The streams that trigger it, each with its consumer there.
    consumers: Vec<(String, String)>,
    lease: Lease,
}

impl Life {
    async fn begin(&self) {
        let Function {
            id, request, host, ..
        } = &*self.function;
        let function = Arc::clone(&self.function);
        self.functions.lock().insert(id.clone(), function);
        let metadata = self.metadata();
        host.workload_started(id, request, metadata).await;
    }

    async fn run<E: Engine>(
        self,
        pump: Pump<E>,
        streams: Vec<StreamPump<E>>,
        writer: ConsoleWriter,
    ) {
        let metadata = self.metadata();
        let Function {
            id, request, host, ..
        } = &*self.function;
        let log = host.log(&request.namespace, id);
        let no_more_lines = CancellationToken::new();
        let working = async {
            tokio::join!(
                pump.run(),
                join_all(streams.into_iter().map(StreamPump::run))
            );
            if self.function.purge.load(Ordering::Relaxed) {
                purge(&self.function, &self.consumers, self.lease.connection()).await;
            }
            self.lease.release().await;
            no_more_lines.cancel();
            tokio::time::sleep(LAST_LINES_TIMEOUT).await;
        };
        // Lines go out beside the replies, never before them.
        tokio::select! {
            () = working => warn!(workload = %id, "its last lines of output are lost"),
            () = writer.run(log.clone(), no_more_lines.clone()) => log.flush().await,
        }
        // What happened since the last report, and is in no other one.
        report(&self.function).await;
        host.workload_stopped(id, request, metadata, None).await;
        self.functions.lock().remove(id);
        self.function.ended.cancel();
    }

    fn metadata(&self) -> Tags {
        Tags::from([("name".to_owned(), self.function.request.name.clone())])
    }
}

/// Removes the consumers of a function's triggers. One that other replicas use stays.
async fn purge(function: &Function, consumers: &[(String, String)], connection: &Connection) {
    for (stream, consumer) in consumers {
        let (nexlet, namespace) = (function.host.client(), &function.request.namespace);
        match stream::purge(connection, nexlet, namespace, stream, consumer).await {
            Ok(true) => {}
            Ok(false) => info!(%stream, %consumer, "kept: other replicas use it"),
            Err(why) => {
                warn!(%stream, %consumer, %why, "failed to remove a consumer");
                function.unpurged.set(why).ok();
            }
        }
    }
}
