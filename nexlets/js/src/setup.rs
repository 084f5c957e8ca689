//! Makes a runtime, and runs the code of a function once in it, to its value.
//!
//! A module may wait for host services at its top level. The engine thread waits with it: nothing else can
//! go on in a runtime that is not set up.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use nex_functions::{Failure, FailureKind, Parker, Setting};
use nex_protocol::LogStream;
use rquickjs::{
    Context, Ctx, Error, Function, Module, Persistent, Runtime, Value, context::EvalOptions,
    promise::PromiseState,
};

use crate::{
    console,
    engine::MAX_STACK_BYTES,
    failure::failed,
    ffi,
    loader::FileLoader,
    ready::Ready,
    rejections::Rejections,
    script::{Form, Script},
    services::{self, Host},
    task::{State, Task, Tasks},
    web::Web,
};

/// A value that is kept in a runtime.
type Kept = Persistent<Function<'static>>;

/// Makes a runtime, the function of a script in it, and what runs the function of a module.
pub(crate) fn set_up(
    script: &Script,
    setting: &Setting,
) -> Result<(Ready, Kept, Option<Kept>), Failure> {
    let parker = Parker::new();
    let ready = make(script, setting, &parker)?;
    let host = Rc::clone(&ready.host);
    let task = host.open_setup(setting.deadline, &setting.console);
    let context = ready.context.clone();
    let setup = Setup {
        ready: &ready,
        task: &task,
        parker: &parker,
    };
    let (function, run) = context.with(|ctx| setup.run(&ctx, script))?;
    host.events.set_waker(setting.waker.clone());
    Ok((ready, function, run))
}

fn make(script: &Script, setting: &Setting, parker: &Parker) -> Result<Ready, Failure> {
    let internal = |error: Error| Failure::new(FailureKind::Internal, error.to_string());
    let runtime = Runtime::new().map_err(internal)?;
    runtime.set_max_stack_size(MAX_STACK_BYTES);
    runtime.set_memory_limit(setting.memory_bytes);
    let tasks = Rc::new(Tasks::new(setting.deadline));
    let asked = Rc::clone(&tasks);
    runtime.set_interrupt_handler(Some(Box::new(move || asked.is_time_over())));
    let files = Arc::clone(script.files());
    let loader = FileLoader(Arc::clone(&files));
    runtime.set_loader(loader.clone(), loader);
    let rejections = Rc::new(Rejections::default());
    let (tracked, of) = (Rc::clone(&rejections), Rc::clone(&tasks));
    runtime.set_host_promise_rejection_tracker(Some(Box::new(
        move |ctx, promise, reason, is_handled| {
            tracked.track(&ctx, of.current_id(), promise, reason, is_handled);
        },
    )));
    let context = Context::full(&runtime).map_err(internal)?;
    let services = setting.services.clone();
    let console = setting.console.for_nobody();
    let host = Rc::new(Host::new(services, console, tasks, parker.waker()));
    let installed = context.with(|ctx| {
        ffi::enter(&ctx);
        console::install(&ctx, &host)
            .and_then(|()| services::install(&ctx, &host))
            .and_then(|()| Web::install(&ctx, &host, &setting.about))
            .map_err(|error| failed(&ctx, error, None, &files, setting.memory_bytes).0)
    });
    Ok(Ready {
        web: installed?,
        host,
        rejections,
        context,
        files,
        memory_bytes: setting.memory_bytes,
        is_worn_out: Cell::new(false),
        finished: RefCell::default(),
        next_turn: Cell::new(None),
        aftermath: Cell::default(),
    })
}

/// A runtime that is being set up.
struct Setup<'a> {
    ready: &'a Ready,
    task: &'a Rc<Task>,
    /// Blocks the thread until there is an answer.
    parker: &'a Parker,
}

impl Setup<'_> {
    fn run(&self, ctx: &Ctx<'_>, script: &Script) -> Result<(Kept, Option<Kept>), Failure> {
        let ready = self.ready;
        ffi::enter(ctx);
        ready.host.tasks.switch(ctx, self.task.id);
        let evaluated = match script.form() {
            Form::Script => {
                let value = ctx.eval_with_options(script.text(), options(script));
                value.map(Some).map_err(|error| self.failed(ctx, error))
            }
            Form::Module => self.module(ctx, script),
        };
        let settled = evaluated.and_then(|value| {
            self.finish(ctx)?;
            Ok(value)
        });
        let value: Option<Value<'_>> = settled.map_err(|failure| script.refused(failure))?;
        let value = value.ok_or_else(|| {
            let text = "the module can never settle: nothing is left to run or to wait for";
            script.refused(Failure::new(FailureKind::Code, text))
        })?;
        let Some(function) = value.as_function() else {
            return Err(script.no_function(value.type_name()));
        };
        let run = match script.form() {
            Form::Script => None,
            Form::Module => {
                let run = ready
                    .web
                    .run(ctx)
                    .map_err(|error| self.failed(ctx, error))?;
                Some(Persistent::save(ctx, run))
            }
        };
        drop(ready.host.close(self.task));
        ready.host.tasks.switch(ctx, 0);
        Ok((Persistent::save(ctx, function.clone()), run))
    }

    /// The default export of a module; `None` if it never comes to its end.
    fn module<'js>(&self, ctx: &Ctx<'js>, script: &Script) -> Result<Option<Value<'js>>, Failure> {
        let module = Module::declare(ctx.clone(), script.name(), script.text());
        let evaluated = module.and_then(Module::eval);
        let (module, promise) = evaluated.map_err(|error| self.failed(ctx, error))?;
        loop {
            self.turn(ctx)?;
            if promise.state() != PromiseState::Pending {
                self.ready.rejections.handled(ctx, promise.as_value());
                let settled = promise.result::<Value<'js>>().transpose();
                settled.map_err(|error| self.failed(ctx, error))?;
                let default = module.namespace().and_then(|all| all.get("default"));
                return default.map(Some).map_err(|error| self.failed(ctx, error));
            }
            if self.ready.host.events.is_empty() {
                return Ok(None);
            }
            self.park();
        }
    }

    /// Runs what is left after the result, and waits for the answers of what was asked; timers and watches
    /// are dropped.
    fn finish(&self, ctx: &Ctx<'_>) -> Result<(), Failure> {
        let Host { events, tasks, .. } = &*self.ready.host;
        loop {
            events.drop_timers(self.task);
            self.turn(ctx)?;
            events.drop_timers(self.task);
            if self.task.open.borrow().calls.is_empty() {
                break;
            }
            self.park();
        }
        tasks.switch(ctx, self.task.id);
        for (id, reason) in self.ready.rejections.take(ctx, |_| true) {
            self.ready.log_rejection(ctx, id, reason);
        }
        Ok(())
    }

    fn turn(&self, ctx: &Ctx<'_>) -> Result<(), Failure> {
        self.ready.turn(ctx);
        self.ready.host.tasks.switch(ctx, self.task.id);
        if self.task.check() {
            return Err(self.failed(ctx, Error::Exception));
        }
        // What a job or a timer has thrown.
        match &*self.task.state.borrow() {
            State::Leaving(Err(failure)) => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    fn park(&self) {
        let wakes_at = self.ready.wakes_at();
        let until = wakes_at.map_or(self.task.deadline, |at| at.min(self.task.deadline));
        self.parker.park(until);
    }

    fn failed(&self, ctx: &Ctx<'_>, error: Error) -> Failure {
        let ready = self.ready;
        let (failure, stack) = failed(
            ctx,
            error,
            Some(self.task),
            &ready.files,
            ready.memory_bytes,
        );
        if failure.kind == FailureKind::Code && !stack.is_empty() {
            let line = format!("{}: {stack}", failure.message);
            self.task.console.line(LogStream::Stderr, &line);
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
