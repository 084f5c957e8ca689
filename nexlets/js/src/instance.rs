//! One function in one QuickJS runtime, with the invocations that are in flight in it.

use std::{task::Poll, time::Instant};

use bytes::Bytes;
use nex_functions::{Failure, Finished, Invocation, InvocationKey, Setting};
use rquickjs::{Ctx, Error, Function, Persistent, TypedArray, Value, function::This};

use crate::{ffi, ready::Ready, script::Script, services::pairs, setup};

/// A script that was run once and is ready to be called. What it keeps in variables stays from call
/// to call, in this runtime alone, and the calls in flight share it.
pub struct Instance {
    // Dropped in this order: a value must not outlive its runtime.
    function: Persistent<Function<'static>>,
    /// How a module's function is run; none for a script's.
    run: Option<Persistent<Function<'static>>>,
    pub(crate) ready: Ready,
}

impl Instance {
    /// Runs a script in a runtime of its own; its value, or its default export, is the function.
    pub(crate) fn new(script: &Script, setting: &Setting) -> Result<Self, Failure> {
        let (ready, function, run) = setup::set_up(script, setting)?;
        Ok(Self {
            function,
            run,
            ready,
        })
    }

    /// Calls the function, and goes on until nothing in the runtime can go on.
    pub(crate) fn begin(
        &mut self,
        key: InvocationKey,
        invocation: &Invocation,
        finished: &mut Vec<Finished>,
    ) -> Poll<Result<Bytes, Failure>> {
        let ready = &self.ready;
        ready.context.with(|ctx| {
            ffi::enter(&ctx);
            let task = ready.host.open(key, invocation);
            ready.host.tasks.switch(&ctx, task.id);
            let called = self.enter(&ctx, invocation);
            ready.called(&ctx, &task, called);
            ready.turn(&ctx);
        });
        let before = finished.len();
        self.ready.hand_out(finished);
        let own = finished[before..].iter().position(|(over, _)| *over == key);
        match own {
            Some(at) => Poll::Ready(finished.swap_remove(before + at).1),
            None => Poll::Pending,
        }
    }

    /// Goes on with what waits, as far as it can go on.
    pub(crate) fn resume(&mut self, finished: &mut Vec<Finished>) {
        self.ready.context.with(|ctx| {
            ffi::enter(&ctx);
            self.ready.turn(&ctx);
        });
        self.ready.hand_out(finished);
    }

    /// The time of the next turn that no answer of a host service causes.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        self.ready.wakes_at()
    }

    /// Returns whether code was ended half-way through something, or memory ran out.
    pub(crate) fn is_worn_out(&self) -> bool {
        self.ready.is_worn_out.get()
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
