//! A runtime with all that functions find in it, and the turns in which it goes on.
//!
//! ```text
//!   turn:  jobs ──> timers that are due, jobs after each ──> answers, jobs after each ──> deadlines
//!                                                                                       ──> waits
//! ```
//!
//! After each of these the tasks that have done something are looked at: a result that has settled is
//! taken, an error that nobody has caught fails its invocation, and an invocation is over when its result
//! is there and all that it asked of the host is answered.
//!
//! # Invariants
//!
//! - Code runs under the task on whose behalf it runs, and is interrupted at the deadline of that task.
//! - A task that is over waits for nothing. Who waited for its calls gets an error, and its code may go on
//!   with that, for a bounded time of each turn; jobs of it that are left then are discarded.
//! - No code runs while a state of this crate is borrowed.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use nex_functions::{Failure, FailureKind, Finished};
use nex_protocol::LogStream;
use rquickjs::{Context, Ctx, Error, Persistent, Value, promise::PromiseState};

use crate::{
    events::Waiting,
    failure::failed,
    ffi,
    files::Files,
    rejections::Rejections,
    result::{Unsendable, to_bytes},
    services::{self, Host, answered, ended, refuse},
    task::{State, Task},
    web::Web,
};

/// Most answers that one turn takes, so that it ends and results can be handed out.
const ANSWERS_A_TURN: usize = 64;

/// The time of a turn in which code of invocations that are over may go on: to release what others wait
/// for, and to hand on the error that it gets from then on.
const AFTERMATH: Duration = Duration::from_millis(50);
/// As much more for each invocation that the turn ends at its deadline,
const AFTERMATH_OF_ONE: Duration = Duration::from_millis(1);
/// and the most for all of them.
const MAX_AFTERMATH: Duration = Duration::from_millis(100);

/// A runtime with all that functions find in it.
pub(crate) struct Ready {
    pub(crate) web: Web,
    pub(crate) host: Rc<Host>,
    pub(crate) rejections: Rc<Rejections>,
    pub(crate) context: Context,
    pub(crate) files: Arc<Files>,
    pub(crate) memory_bytes: usize,
    /// Code was ended half-way through something, or memory ran out.
    pub(crate) is_worn_out: Cell<bool>,
    /// Invocations that are over and not handed out yet.
    pub(crate) finished: RefCell<Vec<Finished>>,
    /// The time of the next turn: now, or the next deadline.
    pub(crate) next_turn: Cell<Option<Instant>>,
    /// The time that is left in this turn for code of invocations that are over.
    pub(crate) aftermath: Cell<Duration>,
}

impl Drop for Ready {
    fn drop(&mut self) {
        // What waits keeps values of the runtime, which closures in the runtime keep in turn.
        self.host.events.clear();
        self.host.tasks.clear();
        self.rejections.clear();
        #[cfg(test)]
        self.host.fake.take();
    }
}

impl Ready {
    /// Adds what is over to a list.
    pub(crate) fn hand_out(&self, finished: &mut Vec<Finished>) {
        finished.append(&mut self.finished.borrow_mut());
    }

    /// The time of the next turn that no answer of a host service causes.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        let timer = self.host.events.next_timer();
        timer.into_iter().chain(self.next_turn.get()).min()
    }

    /// Takes what the function of an invocation has returned, or thrown.
    pub(crate) fn called<'js>(
        &self,
        ctx: &Ctx<'js>,
        task: &Rc<Task>,
        called: Result<Value<'js>, Error>,
    ) {
        self.host.tasks.touch(task);
        match called {
            Ok(value) if value.as_promise().is_some() => {
                let promise = Some(Persistent::save(ctx, value));
                *task.state.borrow_mut() = State::Running(promise);
            }
            Ok(value) => self.conclude(ctx, task, value),
            Err(error) => self.uncaught(ctx, task, error),
        }
    }

    /// Does all that can be done now, but for what this makes possible later.
    pub(crate) fn turn(&self, ctx: &Ctx<'_>) {
        let Host { events, tasks, .. } = &*self.host;
        let now = Instant::now();
        self.aftermath.set(AFTERMATH);
        if self.next_turn.get().is_some_and(|next| next <= now) {
            self.expire(ctx, now);
        }
        self.drain(ctx);
        while let Some((task, callback)) = events.due(now) {
            tasks.switch(ctx, task.id);
            if !task.check() {
                let called = callback
                    .restore(ctx)
                    .and_then(|call| call.call::<_, ()>(()));
                self.went(ctx, &task, called);
            }
            self.drain(ctx);
        }
        let mut left = ANSWERS_A_TURN;
        while left > 0
            && let Some((waiting, answer)) = events.answer()
        {
            left -= 1;
            let task = Rc::clone(&waiting.task);
            tasks.switch(ctx, task.id);
            let told = answered(&self.host, ctx, waiting, answer);
            self.went(ctx, &task, told);
            self.drain(ctx);
        }
        self.next_turn.set((left == 0).then_some(now));
        self.look(ctx);
        tasks.switch(ctx, 0);
    }

    fn went(&self, ctx: &Ctx<'_>, task: &Rc<Task>, result: Result<(), Error>) {
        self.host.tasks.touch(task);
        if let Err(error) = result {
            self.uncaught(ctx, task, error);
        }
    }

    /// Runs jobs until there are none, and ends the invocations that are over by that.
    fn drain(&self, ctx: &Ctx<'_>) {
        let mut touched: Vec<Rc<Task>> = Vec::new();
        loop {
            if !self.run_jobs(ctx) {
                return;
            }
            for task in self.host.tasks.take_touched() {
                if !touched.iter().any(|other| other.id == task.id) {
                    touched.push(task);
                }
            }
            for task in &touched {
                self.review(ctx, task);
            }
            if ffi::next_job(ctx).is_some() {
                continue;
            }
            for task in touched.drain(..).filter(|task| task.is_done()) {
                self.end(ctx, &task);
            }
            self.log_rejections_of_nobody(ctx);
            if ffi::next_job(ctx).is_none() {
                return;
            }
        }
    }

    /// Runs jobs until there are none. Returns false where the set-up has no time left for them.
    fn run_jobs(&self, ctx: &Ctx<'_>) -> bool {
        let tasks = &self.host.tasks;
        while let Some(id) = ffi::next_job(ctx) {
            tasks.follow(id);
            let Some(task) = tasks.current() else {
                let has_run = self.as_nobody(|| {
                    if ffi::run_job(ctx).is_err() {
                        self.log_uncaught(ctx, id);
                    }
                });
                if !has_run {
                    ffi::discard_job(ctx);
                }
                continue;
            };
            // After the deadline its jobs are those of an invocation that is over.
            if task.check() {
                match task.key {
                    Some(_) => self.end_late(ctx, &task),
                    None => return false,
                }
                continue;
            }
            tasks.touch(&task);
            if let Err(error) = ffi::run_job(ctx) {
                self.uncaught(ctx, &task, error);
            }
        }
        true
    }

    /// Runs code of nobody, or of an invocation that is over, in the time that is left for it. Returns
    /// false, and does not run it, where none is left.
    fn as_nobody(&self, run: impl FnOnce()) -> bool {
        let left = self.aftermath.get();
        if left.is_zero() {
            // It may be half-way through something.
            self.is_worn_out.set(true);
            return false;
        }
        let started = Instant::now();
        self.host.tasks.allow_nobody(started + left);
        run();
        self.aftermath.set(left.saturating_sub(started.elapsed()));
        true
    }

    /// Takes the result of a task whose promise has settled, and fails it where it left an error to nobody.
    fn review(&self, ctx: &Ctx<'_>, task: &Rc<Task>) {
        if task.key.is_none() || task.is_over() {
            return;
        }
        if let Some(promise) = settled(ctx, task) {
            self.rejections.handled(ctx, &promise);
            self.host.tasks.switch(ctx, task.id);
            match promise.as_promise().and_then(|promise| promise.result()) {
                Some(Ok(value)) => self.conclude(ctx, task, value),
                Some(Err(error)) => self.uncaught(ctx, task, error),
                None => {}
            }
        }
        let is_leaving = task.is_leaving();
        if is_leaving {
            self.host.events.drop_timers(task);
        }
        // Until then somebody may still ask for it.
        let is_left = is_leaving || task.open.borrow().is_quiet();
        if is_left && ffi::next_job(ctx).is_none() && !self.rejections.is_empty() {
            self.host.tasks.switch(ctx, task.id);
            for (_, reason) in self.rejections.take(ctx, |id| id == task.id) {
                let (failure, stack) = self.rejected(ctx, Some(task), reason);
                self.fail(task, failure, &stack);
            }
        }
    }

    /// Makes the result of an invocation of what its function has returned.
    fn conclude<'js>(&self, ctx: &Ctx<'js>, task: &Rc<Task>, value: Value<'js>) {
        let value = match self.web.result(ctx, value) {
            Ok(value) => value,
            Err(error) => return self.uncaught(ctx, task, error),
        };
        match to_bytes(ctx, value) {
            Ok(bytes) => task.leave(Ok(bytes)),
            Err(Unsendable::Exception(error)) => self.uncaught(ctx, task, error),
            Err(Unsendable::Kind(kind)) => {
                let text = format!("it returned a {kind}, which cannot be sent");
                task.leave(Err(Failure::new(FailureKind::Code, text)));
            }
        }
    }

    /// Fails the invocation whose code has thrown something that nobody caught.
    fn uncaught(&self, ctx: &Ctx<'_>, task: &Rc<Task>, error: Error) {
        let (failure, stack) = failed(ctx, error, Some(task), &self.files, self.memory_bytes);
        let is_late = failure.kind == FailureKind::Deadline;
        self.fail(task, failure, &stack);
        if is_late && task.key.is_some() {
            self.end(ctx, task);
        }
    }

    /// Fails an invocation. One that has failed already, or is over, keeps its result; then the log has it.
    fn fail(&self, task: &Rc<Task>, failure: Failure, stack: &str) {
        if matches!(failure.kind, FailureKind::Deadline | FailureKind::Memory) {
            self.is_worn_out.set(true);
        }
        let is_failed = match &*task.state.borrow() {
            State::Running(_) | State::Leaving(Ok(_)) => false,
            State::Leaving(Err(_)) | State::Over => true,
        };
        if is_failed && failure.kind != FailureKind::Deadline {
            task.console.line(LogStream::Stderr, &line(&failure, stack));
            return;
        }
        if failure.kind == FailureKind::Code && !stack.is_empty() {
            let line = format!("{}: {stack}", failure.message);
            task.console.line(LogStream::Stderr, &line);
        }
        task.leave(Err(failure));
    }

    /// Looks at all tasks: whose promise was settled by another, who can never go on, whose time is over.
    fn look(&self, ctx: &Ctx<'_>) {
        let Host { events, tasks, .. } = &*self.host;
        loop {
            let all = tasks.all();
            let mut changed = false;
            // Nothing is left that could make any of them go on.
            let is_stuck = events.is_empty();
            for task in all.iter().filter(|task| task.key.is_some()) {
                // A neighbour may have settled its promise, or cut off its last call.
                if is_settled(ctx, task) || task.is_done() {
                    tasks.touch(task);
                    changed = true;
                } else if is_stuck && !task.is_leaving() {
                    let text = "the promise it returned can never settle: nothing is left to run or to wait for";
                    task.leave(Err(Failure::new(FailureKind::Code, text)));
                    tasks.touch(task);
                    changed = true;
                }
            }
            if !changed {
                let first = all.iter().map(|task| task.deadline).min();
                let next = first.into_iter().chain(self.next_turn.get()).min();
                return self.next_turn.set(next);
            }
            drop(all);
            self.drain(ctx);
        }
    }

    /// Ends the invocations whose deadlines have passed.
    fn expire(&self, ctx: &Ctx<'_>, now: Instant) {
        for task in self.host.tasks.all() {
            if task.key.is_some() && task.deadline <= now {
                self.end_late(ctx, &task);
            }
        }
    }

    fn end_late(&self, ctx: &Ctx<'_>, task: &Rc<Task>) {
        task.leave(Err(Failure::new(FailureKind::Deadline, "interrupted")));
        self.end(ctx, task);
    }

    /// Ends an invocation with the result that it has. Who waits for a call of one that is ended before
    /// all is answered is told; a call that is of no use any more stays unanswered.
    fn end(&self, ctx: &Ctx<'_>, task: &Rc<Task>) {
        let before = std::mem::replace(&mut *task.state.borrow_mut(), State::Over);
        let (State::Leaving(result), Some(key)) = (before, task.key) else {
            return;
        };
        let is_late = matches!(&result, Err(failure) if failure.kind == FailureKind::Deadline);
        let waiting = self.host.close(task);
        self.finished.borrow_mut().push((key, result));
        self.host.tasks.switch(ctx, task.id);
        if is_late && !waiting.is_empty() {
            let left = self.aftermath.get() + AFTERMATH_OF_ONE;
            self.aftermath.set(left.min(MAX_AFTERMATH));
            self.as_nobody(|| self.refuse_all(ctx, task.id, waiting));
        }
    }

    fn refuse_all(&self, ctx: &Ctx<'_>, id: u64, waiting: Vec<Waiting>) {
        for waiting in waiting {
            if refuse(ctx, waiting, &ended()).is_err() {
                self.log_uncaught(ctx, id);
            }
        }
    }

    /// Logs what code of nobody has thrown, or of an invocation that is over.
    fn log_uncaught(&self, ctx: &Ctx<'_>, id: u64) {
        // It was interrupted: that its invocation is over was told before.
        if self.host.tasks.is_time_over() {
            self.is_worn_out.set(true);
            drop(ctx.catch());
            return;
        }
        let (failure, stack) = failed(ctx, Error::Exception, None, &self.files, self.memory_bytes);
        let console = self.host.console_of(id);
        console.line(LogStream::Stderr, &line(&failure, &stack));
    }

    fn log_rejections_of_nobody(&self, ctx: &Ctx<'_>) {
        let tasks = &self.host.tasks;
        for (id, reason) in self.rejections.take(ctx, |id| !tasks.is_live(id)) {
            tasks.switch(ctx, id);
            self.as_nobody(|| {
                // That its invocation is over was told to code of it that has no use for it.
                if !is_ended(&reason) {
                    self.log_rejection(ctx, id, reason);
                }
            });
        }
    }

    /// Logs the error of a promise that nobody waits for.
    pub(crate) fn log_rejection<'js>(&self, ctx: &Ctx<'js>, id: u64, reason: Value<'js>) {
        let (failure, stack) = self.rejected(ctx, None, reason);
        let console = self.host.console_of(id);
        console.line(LogStream::Stderr, &line(&failure, &stack));
    }

    /// The failure of an invocation that left an error to nobody.
    fn rejected<'js>(
        &self,
        ctx: &Ctx<'js>,
        task: Option<&Task>,
        reason: Value<'js>,
    ) -> (Failure, String) {
        let error = ctx.throw(reason);
        let (mut failure, stack) = failed(ctx, error, task, &self.files, self.memory_bytes);
        if failure.kind == FailureKind::Code {
            let message = &failure.message;
            failure.message = format!("a promise that nobody waits for was rejected: {message}");
        }
        (failure, stack)
    }
}

/// A failure with the calls that led there, as a line of the log.
fn line(failure: &Failure, stack: &str) -> String {
    match stack {
        "" => failure.to_string(),
        stack => format!("{failure}: {stack}"),
    }
}

/// Returns whether a reason is that an invocation is over.
fn is_ended(reason: &Value<'_>) -> bool {
    let code = reason
        .as_object()
        .map(|error| error.get::<_, Option<String>>("code"));
    match code {
        Some(Ok(code)) => code.as_deref() == Some(services::ENDED),
        Some(Err(_)) => {
            reason.ctx().catch();
            false
        }
        None => false,
    }
}

fn is_settled(ctx: &Ctx<'_>, task: &Task) -> bool {
    promise(ctx, task).is_some_and(|promise| is_over(&promise))
}

/// Takes the promise of a task, if it has settled.
fn settled<'js>(ctx: &Ctx<'js>, task: &Task) -> Option<Value<'js>> {
    let promise = promise(ctx, task).filter(is_over)?;
    let before = std::mem::replace(&mut *task.state.borrow_mut(), State::Running(None));
    drop(before);
    Some(promise)
}

fn promise<'js>(ctx: &Ctx<'js>, task: &Task) -> Option<Value<'js>> {
    match &*task.state.borrow() {
        State::Running(Some(promise)) => promise.clone().restore(ctx).ok(),
        _ => None,
    }
}

fn is_over(promise: &Value<'_>) -> bool {
    let promise = promise.as_promise();
    promise.is_some_and(|promise| promise.state() != PromiseState::Pending)
}
