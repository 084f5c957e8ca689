//! One function in one QuickJS runtime.

use std::{cell::Cell, rc::Rc, time::Instant};

use bytes::Bytes;
use nex_functions::{Failure, FailureKind, Invocation, Setting};
use rquickjs::{
    Context, Ctx, Error, Function, Persistent, Runtime, TypedArray, Value, context::EvalOptions,
    function::This, promise::PromiseState,
};

use crate::{
    console,
    engine::MAX_STACK_BYTES,
    failure::Thrown,
    result::{Unsendable, to_bytes},
    script::Script,
    services,
};

/// A script that was run once and is ready to be called. What it keeps in variables stays from call
/// to call, in this runtime alone.
pub struct Instance {
    // Dropped in this order: a value must not outlive its runtime.
    function: Persistent<Function<'static>>,
    context: Context,
    clock: Rc<Clock>,
    file: String,
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

impl Instance {
    /// Runs a script in a runtime of its own; its value is the function.
    pub(crate) fn new(script: &Script, setting: &Setting) -> Result<Self, Failure> {
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
        let context = Context::full(&runtime).map_err(internal)?;

        let function = context.with(|ctx| {
            let prepared = console::install(&ctx, &setting.console)
                .and_then(|()| services::install(&ctx, &setting.services, &clock))
                .and_then(|()| ctx.eval_with_options(script.text(), options(script)));
            let value: Value<'_> = prepared.map_err(|error| {
                let failure = failed(&ctx, error, &clock, script.name(), setting.memory_bytes);
                script.refused(failure)
            })?;
            match value.as_function() {
                Some(function) => Ok(Persistent::save(&ctx, function.clone())),
                None => Err(script.no_function(value.type_name())),
            }
        })?;
        Ok(Self {
            function,
            context,
            clock,
            file: script.name().to_owned(),
            memory_bytes: setting.memory_bytes,
        })
    }

    /// Calls the function once.
    pub(crate) fn call(&mut self, invocation: &Invocation) -> Result<Bytes, Failure> {
        self.clock.set(invocation.deadline);
        self.context.with(|ctx| {
            let result = self.run(&ctx, invocation);
            // What the function left behind belongs to this invocation and its deadline.
            while !self.clock.expired.get() && ctx.execute_pending_job() {
                self.clock.check();
            }
            if self.clock.expired.get() && result.is_ok() {
                return Err(self.failed(&ctx, Error::Exception));
            }
            result
        })
    }

    fn run(&self, ctx: &Ctx<'_>, invocation: &Invocation) -> Result<Bytes, Failure> {
        let value = self
            .enter(ctx, invocation)
            .and_then(|value| self.settle(ctx, value))
            .map_err(|error| self.failed(ctx, error))?;
        let Some(value) = value else {
            let text = "the promise it returned can never settle: nothing is left to run";
            return Err(Failure::new(FailureKind::Code, text));
        };
        to_bytes(ctx, value).map_err(|unsendable| match unsendable {
            Unsendable::Exception(error) => self.failed(ctx, error),
            Unsendable::Kind(kind) => {
                let text = format!("it returned a {kind}, which cannot be sent");
                Failure::new(FailureKind::Code, text)
            }
        })
    }

    fn enter<'js>(&self, ctx: &Ctx<'js>, invocation: &Invocation) -> Result<Value<'js>, Error> {
        let function = self.function.clone().restore(ctx)?;
        let payload = TypedArray::<u8>::new_copy(ctx.clone(), &invocation.payload)?;
        function.call((This(ctx.globals()), invocation.subject.as_str(), payload))
    }

    /// The value of a promise, once it has one; `None` where it never will.
    fn settle<'js>(&self, ctx: &Ctx<'js>, value: Value<'js>) -> Result<Option<Value<'js>>, Error> {
        let Some(promise) = value.as_promise() else {
            return Ok(Some(value));
        };
        while promise.state() == PromiseState::Pending {
            if self.clock.check() {
                return Err(Error::Exception);
            }
            if !ctx.execute_pending_job() {
                return Ok(None);
            }
        }
        promise.result().transpose()
    }

    fn failed(&self, ctx: &Ctx<'_>, error: Error) -> Failure {
        failed(ctx, error, &self.clock, &self.file, self.memory_bytes)
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

/// What the pending exception, or an error of the library, means.
fn failed(ctx: &Ctx<'_>, error: Error, clock: &Clock, file: &str, memory_bytes: usize) -> Failure {
    let thrown = match error {
        Error::Exception | Error::Unknown | Error::Allocation => Thrown::take(ctx, file),
        other => return Failure::new(FailureKind::Code, other.to_string()),
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
    Failure {
        kind,
        message,
        position: thrown.position,
    }
}

fn out_of_memory(thrown: &str, memory_bytes: usize) -> String {
    let limit = memory_bytes / (1024 * 1024);
    let doubt = match thrown {
        "null" => " (or it threw `null`, which cannot be told apart)",
        _ => "",
    };
    format!("out of memory: its limit is {limit} MiB{doubt}")
}
