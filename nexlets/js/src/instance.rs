//! One function in one QuickJS runtime.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Instant};

use bytes::Bytes;
use nex_functions::{Console, Failure, FailureKind, Invocation, Setting};
use nex_protocol::LogStream;
use rquickjs::{
    Context, Ctx, Error, Function, Module, Persistent, Runtime, TypedArray, Value,
    context::EvalOptions, function::This, promise::PromiseState,
};

use crate::{
    console,
    engine::MAX_STACK_BYTES,
    events::Turn,
    failure::Thrown,
    files::Files,
    loader::FileLoader,
    rejections::Rejections,
    result::{Unsendable, to_bytes},
    script::{Form, Script},
    services::{self, Host, pairs},
    web::Web,
};

/// A script that was run once and is ready to be called. What it keeps in variables stays from call
/// to call, in this runtime alone.
pub struct Instance {
    // Dropped in this order: a value must not outlive its runtime.
    function: Persistent<Function<'static>>,
    /// How a module's function is run; none for a script's.
    run: Option<Persistent<Function<'static>>>,
    ready: Ready,
}

/// A runtime with all that functions find in it.
struct Ready {
    web: Web,
    host: Rc<Host>,
    rejections: Rc<Rejections>,
    context: Context,
    files: Arc<Files>,
    console: Console,
    memory_bytes: usize,
}

/// Ends code at its deadline: the runtime asks it every few thousand steps.
#[derive(Debug)]
pub(crate) struct Clock {
    deadline: Cell<Instant>,
    expired: Cell<bool>,
}

impl Clock {
    fn set(&self, deadline: Instant) {
        self.deadline.set(deadline);
        self.expired.set(false);
    }

    /// When the current call has to be over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline.get()
    }

    /// Whether it is.
    pub(crate) fn check(&self) -> bool {
        let expired = self.expired.get() || Instant::now() >= self.deadline.get();
        self.expired.set(expired);
        expired
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        // What waits keeps values of the runtime, which closures in the runtime keep in turn.
        self.host.events.clear();
        self.rejections.clear();
    }
}

impl Instance {
    /// Runs a script in a runtime of its own; its value, or its default export, is the function.
    pub(crate) fn new(script: &Script, setting: &Setting) -> Result<Self, Failure> {
        let ready = Ready::new(script, setting)?;
        let context = ready.context.clone();
        let (function, run) = context.with(|ctx| {
            let evaluated = match script.form() {
                Form::Script => ctx
                    .eval_with_options(script.text(), options(script))
                    .map(Some),
                Form::Module => ready.module(&ctx, script),
            };
            let settled = evaluated.and_then(|value| {
                ready.finish(&ctx)?;
                ready.log_rejections(&ctx);
                ready.rejections.clear();
                Ok(value)
            });
            let value: Option<Value<'_>> =
                settled.map_err(|error| script.refused(ready.failed(&ctx, error)))?;
            let value = value.ok_or_else(|| script.refused(never_settles("the module")))?;
            let Some(function) = value.as_function() else {
                return Err(script.no_function(value.type_name()));
            };
            let run = match script.form() {
                Form::Script => None,
                Form::Module => {
                    let run = ready.web.run(&ctx);
                    let run = run.map_err(|error| ready.failed(&ctx, error))?;
                    Some(Persistent::save(&ctx, run))
                }
            };
            Ok((Persistent::save(&ctx, function.clone()), run))
        })?;
        Ok(Self {
            function,
            run,
            ready,
        })
    }

    /// Calls the function once.
    pub(crate) fn call(&mut self, invocation: &Invocation) -> Result<Bytes, Failure> {
        let ready = &self.ready;
        ready.host.clock.set(invocation.deadline);
        let result = ready.context.with(|ctx| {
            let result = self.invoke(&ctx, invocation);
            // What the function left behind belongs to this invocation and its deadline.
            let finished = ready.finish(&ctx);
            if finished.is_ok() {
                ready.log_rejections(&ctx);
            }
            match finished {
                Err(error) if result.is_ok() => Err(ready.failed(&ctx, error)),
                _ => result,
            }
        });
        ready.host.events.clear();
        ready.rejections.clear();
        result
    }

    fn invoke(&self, ctx: &Ctx<'_>, invocation: &Invocation) -> Result<Bytes, Failure> {
        let ready = &self.ready;
        let value = self
            .enter(ctx, invocation)
            .and_then(|value| ready.settle(ctx, value))
            .map_err(|error| ready.failed(ctx, error))?;
        let Some(value) = value else {
            return Err(never_settles("the promise it returned"));
        };
        let value = ready.web.result(ctx, value);
        let value = value.map_err(|error| ready.failed(ctx, error))?;
        to_bytes(ctx, value).map_err(|unsendable| match unsendable {
            Unsendable::Exception(error) => ready.failed(ctx, error),
            Unsendable::Kind(kind) => {
                let text = format!("it returned a {kind}, which cannot be sent");
                Failure::new(FailureKind::Code, text)
            }
        })
    }

    fn enter<'js>(&self, ctx: &Ctx<'js>, invocation: &Invocation) -> Result<Value<'js>, Error> {
        let function = self.function.clone().restore(ctx)?;
        let subject = invocation.subject.as_str();
        let payload = TypedArray::<u8>::new_copy(ctx.clone(), &invocation.payload)?;
        let Some(run) = &self.run else {
            return function.call((This(ctx.globals()), subject, payload));
        };
        let headers: Vec<(&str, &str)> = invocation
            .headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(|value| (name.as_ref(), value.as_str())))
            .collect();
        let headers = pairs(ctx, &headers)?;
        let (id, attempt) = (invocation.id.as_str(), invocation.attempt as f64);
        let run = run.clone().restore(ctx)?;
        run.call((function, id, subject, payload, headers, attempt))
    }
}

impl Ready {
    fn new(script: &Script, setting: &Setting) -> Result<Self, Failure> {
        let internal = |error: Error| Failure::new(FailureKind::Internal, error.to_string());
        let runtime = Runtime::new().map_err(internal)?;
        runtime.set_max_stack_size(MAX_STACK_BYTES);
        runtime.set_memory_limit(setting.memory_bytes);
        let clock = Rc::new(Clock {
            deadline: Cell::new(setting.deadline),
            expired: Cell::new(false),
        });
        let asked = Rc::clone(&clock);
        runtime.set_interrupt_handler(Some(Box::new(move || asked.check())));
        let files = Arc::clone(script.files());
        let loader = FileLoader(Arc::clone(&files));
        runtime.set_loader(loader.clone(), loader);
        let rejections = Rc::new(Rejections::default());
        let tracked = Rc::clone(&rejections);
        runtime.set_host_promise_rejection_tracker(Some(Box::new(
            move |ctx, promise, reason, is_handled| {
                tracked.track(&ctx, promise, reason, is_handled);
            },
        )));
        let context = Context::full(&runtime).map_err(internal)?;
        let host = Rc::new(Host {
            services: setting.services.clone(),
            clock,
            events: Rc::default(),
            console: setting.console.clone(),
        });
        let installed = context.with(|ctx| {
            console::install(&ctx, &setting.console)
                .and_then(|()| services::install(&ctx, &host))
                .and_then(|()| Web::install(&ctx, &host, &setting.about))
                .map_err(|error| {
                    let (clock, memory_bytes) = (&host.clock, setting.memory_bytes);
                    failed(&ctx, error, clock, &files, memory_bytes).0
                })
        });
        Ok(Self {
            web: installed?,
            host,
            rejections,
            context,
            files,
            console: setting.console.clone(),
            memory_bytes: setting.memory_bytes,
        })
    }

    /// The default export of a module; `None` if it never comes to its end.
    fn module<'js>(&self, ctx: &Ctx<'js>, script: &Script) -> Result<Option<Value<'js>>, Error> {
        let module = Module::declare(ctx.clone(), script.name(), script.text())?;
        let (module, promise) = module.eval()?;
        match self.settle(ctx, promise.into_value())? {
            Some(_undefined) => module.namespace()?.get("default").map(Some),
            None => Ok(None),
        }
    }

    /// The value of a promise, once it has one; `None` where it never will.
    fn settle<'js>(&self, ctx: &Ctx<'js>, value: Value<'js>) -> Result<Option<Value<'js>>, Error> {
        let Some(promise) = value.as_promise() else {
            return Ok(Some(value));
        };
        loop {
            self.run_jobs(ctx)?;
            if promise.state() != PromiseState::Pending {
                self.rejections.handled(ctx, promise.as_value());
                return promise.result().transpose();
            }
            if self.turn(ctx)? == Turn::Empty {
                return Ok(None);
            }
        }
    }

    /// Runs what is left after a result, and waits for the answers of what was asked; timers are
    /// dropped.
    fn finish(&self, ctx: &Ctx<'_>) -> Result<(), Error> {
        loop {
            self.host.events.leave();
            self.run_jobs(ctx)?;
            self.host.events.leave();
            if self.turn(ctx)? == Turn::Empty {
                return Ok(());
            }
        }
    }

    /// Logs the errors of promises that nobody waits for.
    fn log_rejections(&self, ctx: &Ctx<'_>) {
        for reason in self.rejections.take(ctx) {
            let error = ctx.throw(reason);
            let (clock, memory_bytes) = (&self.host.clock, self.memory_bytes);
            let (failure, stack) = failed(ctx, error, clock, &self.files, memory_bytes);
            let mut line = format!("a promise that nobody waits for was rejected: {failure}");
            if !stack.is_empty() {
                line.push_str(": ");
                line.push_str(&stack);
            }
            self.console.line(LogStream::Stderr, &line);
        }
    }

    fn run_jobs(&self, ctx: &Ctx<'_>) -> Result<(), Error> {
        loop {
            if self.host.clock.check() {
                return Err(Error::Exception);
            }
            if !ctx.execute_pending_job() {
                return Ok(());
            }
        }
    }

    fn turn(&self, ctx: &Ctx<'_>) -> Result<Turn, Error> {
        let Host { events, clock, .. } = &*self.host;
        events.turn(ctx, clock.deadline(), |ctx, waiting, answer| {
            services::answered(&self.host, ctx, waiting, answer)
        })
    }

    fn failed(&self, ctx: &Ctx<'_>, error: Error) -> Failure {
        let (clock, memory_bytes) = (&self.host.clock, self.memory_bytes);
        let (failure, stack) = failed(ctx, error, clock, &self.files, memory_bytes);
        if failure.kind == FailureKind::Code && !stack.is_empty() {
            let line = format!("{}: {stack}", failure.message);
            self.console.line(LogStream::Stderr, &line);
        }
        failure
    }
}

fn options(script: &Script) -> EvalOptions {
    let mut options = EvalOptions::default();
    // A script, not a module: `this` is the global object in its arrow functions.
    options.global = true;
    options.strict = false;
    options.filename = Some(script.name().to_owned());
    options
}

fn never_settles(what: &str) -> Failure {
    let text = format!("{what} can never settle: nothing is left to run or to wait for");
    Failure::new(FailureKind::Code, text)
}

/// What the pending exception, or an error of the library, means, and the calls that led there.
fn failed(
    ctx: &Ctx<'_>,
    error: Error,
    clock: &Clock,
    files: &Files,
    memory_bytes: usize,
) -> (Failure, String) {
    let thrown = match error {
        Error::Exception | Error::Unknown | Error::Allocation => Thrown::take(ctx, files),
        other => {
            let failure = Failure::new(FailureKind::Code, other.to_string());
            return (failure, String::new());
        }
    };
    let (kind, message) = if clock.expired.get() {
        (FailureKind::Deadline, "interrupted".to_owned())
    } else if thrown.is_out_of_memory() {
        (
            FailureKind::Memory,
            out_of_memory(&thrown.text, memory_bytes),
        )
    } else {
        (FailureKind::Code, thrown.text)
    };
    let failure = Failure {
        kind,
        message,
        position: thrown.position,
        hint: thrown.hint,
    };
    (failure, thrown.stack)
}

fn out_of_memory(thrown: &str, memory_bytes: usize) -> String {
    let limit = memory_bytes / (1024 * 1024);
    let doubt = match thrown {
        "null" => " (or it threw `null`, which cannot be told apart)",
        _ => "",
    };
    format!("out of memory: its limit is {limit} MiB{doubt}")
}
