//! An instance of a function's code, with the invocations that are in flight in it.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    task::{Poll, Wake, Waker},
    time::Instant,
};

use tokio::{runtime::Handle, sync::mpsc::OwnedPermit, task::AbortHandle};
use tracing::error;

use crate::{
    engine::{Engine, Failure, FailureKind, Finished, InvocationKey, Setting},
    invocation::{Answer, Call, Code, Pending, waited},
    scheduler::{InstanceId, Kept, LaneHandle, LaneId, Scheduler},
};

/// The scheduler of a function host.
pub(crate) type Functions<E> = Scheduler<Call<E>, Box<Instance<E>>>;

/// The lane of one function.
pub(crate) type Lane<E> = LaneHandle<Call<E>, Box<Instance<E>>>;

/// An answer, and the room that is kept for it.
pub(crate) type Addressed = (OwnedPermit<Answer>, Answer);

/// Code that is ready to run. One engine thread at a time has it.
pub(crate) struct Instance<E: Engine> {
    code: Arc<Code<E>>,
    ready: E::Instance,
    /// The invocations that wait.
    open: HashMap<InvocationKey, Open>,
    last_key: u64,
    /// Invocations that the turn has ended; empty between turns.
    finished: Vec<Finished>,
    alarm: Alarm<E>,
}

/// An invocation that waits.
struct Open {
    pending: Arc<Pending>,
    answer_tx: OwnedPermit<Answer>,
    began: Instant,
}

/// Resumes an instance.
struct Alarm<E: Engine> {
    bell: Arc<Bell<E>>,
    waker: Waker,
    runtime: Handle,
    /// The next time at which it is resumed without being woken, and the task that does it.
    set: Option<(Instant, AbortHandle)>,
}

struct Bell<E: Engine> {
    scheduler: Weak<Functions<E>>,
    lane: LaneId,
    instance: InstanceId,
}

impl<E: Engine> Wake for Bell<E> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(scheduler) = self.scheduler.upgrade() {
            scheduler.wake(self.lane, self.instance);
        }
    }
}

/// The place of an instance in the scheduler.
pub(crate) struct Place<'a, E: Engine> {
    pub(crate) scheduler: &'a Arc<Functions<E>>,
    pub(crate) lane: LaneId,
    pub(crate) id: InstanceId,
    /// The runtime that rings when a timer is due.
    pub(crate) runtime: &'a Handle,
}

impl<E: Engine> Instance<E> {
    /// Makes code ready for a first invocation.
    fn new(engine: &E, call: &Call<E>, place: &Place<'_, E>) -> Result<Box<Self>, Failure> {
        let code = &call.code;
        let invocation = &call.pending.invocation;
        let alarm = Alarm::new(place);
        let setting = Setting {
            about: Arc::clone(&code.about),
            // What it writes while it is made is for the one who waits for that.
            console: code.console.for_invocation(invocation),
            services: code.services.clone(),
            memory_bytes: code.memory_bytes,
            deadline: invocation.deadline,
            waker: alarm.waker.clone(),
        };
        let ready = contained(|| engine.instantiate(&code.module, &setting))?;
        Ok(Box::new(Self {
            code: Arc::clone(code),
            ready,
            open: HashMap::new(),
            last_key: 0,
            finished: Vec::new(),
            alarm,
        }))
    }

    /// Begins a call in an instance, or in a new one; answers those that are over then. Returns what is kept
    /// of the instance.
    pub(crate) fn begin(
        engine: &E,
        instance: Option<Box<Self>>,
        mut call: Call<E>,
        place: &Place<'_, E>,
        now: Instant,
        answers: &mut Vec<Addressed>,
    ) -> Option<Kept<Box<Self>>> {
        if let Some(stream) = call.stream
            && let Some(pending) = Arc::get_mut(&mut call.pending)
        {
            pending.invocation.deadline = now + stream.timeout;
        }
        if now >= call.pending.invocation.deadline {
            answers.push(answer(call.answer_tx, call.pending, Err(waited()), now));
            return instance.map(|instance| instance.keep(engine));
        }
        let made = match instance {
            Some(instance) => Ok(instance),
            None => Self::new(engine, &call, place),
        };
        let mut instance = match made {
            Ok(instance) => instance,
            Err(failure) => {
                answers.push(answer(call.answer_tx, call.pending, Err(failure), now));
                return None;
            }
        };
        instance.last_key += 1;
        let key = InvocationKey(instance.last_key);
        let (ready, finished) = (&mut instance.ready, &mut instance.finished);
        let invocation = &call.pending.invocation;
        let begun = contained(|| Ok(engine.begin(ready, key, invocation, finished)));
        match begun {
            Ok(Poll::Ready(result)) => {
                answers.push(answer(call.answer_tx, call.pending, result, now));
            }
            Ok(Poll::Pending) => {
                let open = Open {
                    pending: call.pending,
                    answer_tx: call.answer_tx,
                    began: now,
                };
                instance.open.insert(key, open);
            }
            Err(failure) => {
                answers.push(answer(
                    call.answer_tx,
                    call.pending,
                    Err(failure.clone()),
                    now,
                ));
                instance.fail(&failure, answers);
                return None;
            }
        }
        instance.settle(engine, answers)
    }

    /// Goes on with what waits.
    pub(crate) fn resume(
        mut self: Box<Self>,
        engine: &E,
        answers: &mut Vec<Addressed>,
    ) -> Option<Kept<Box<Self>>> {
        let (ready, finished) = (&mut self.ready, &mut self.finished);
        let resumed = contained(|| {
            engine.resume(ready, finished);
            Ok(())
        });
        if let Err(failure) = resumed {
            self.fail(&failure, answers);
            return None;
        }
        self.settle(engine, answers)
    }

    /// Answers those that are over.
    fn settle(
        mut self: Box<Self>,
        engine: &E,
        answers: &mut Vec<Addressed>,
    ) -> Option<Kept<Box<Self>>> {
        for (key, result) in self.finished.drain(..) {
            if let Some(open) = self.open.remove(&key) {
                answers.push(answer(open.answer_tx, open.pending, result, open.began));
            }
        }
        let is_over = self.open.is_empty();
        if is_over && (self.code.fresh || engine.is_worn_out(&self.ready)) {
            return None;
        }
        Some(self.keep(engine))
    }

    fn keep(mut self: Box<Self>, engine: &E) -> Kept<Box<Self>> {
        let in_flight = self.open.len();
        let room = match self.code.fresh || (in_flight > 0 && engine.is_worn_out(&self.ready)) {
            true => 0,
            false => self.code.concurrency.saturating_sub(in_flight),
        };
        if in_flight > 0
            && let Some(at) = engine.wakes_at(&self.ready)
        {
            self.alarm.set(at);
        }
        Kept {
            room,
            is_idle: in_flight == 0,
            instance: self,
        }
    }

    /// Answers all, since the engine failed.
    fn fail(&mut self, failure: &Failure, answers: &mut Vec<Addressed>) {
        for (_, open) in self.open.drain() {
            let result = Err(failure.clone());
            answers.push(answer(open.answer_tx, open.pending, result, open.began));
        }
    }
}

fn answer(
    answer_tx: OwnedPermit<Answer>,
    pending: Arc<Pending>,
    result: Result<bytes::Bytes, Failure>,
    began: Instant,
) -> Addressed {
    let answer = Answer {
        pending,
        result,
        took: began.elapsed(),
    };
    (answer_tx, answer)
}

impl<E: Engine> Alarm<E> {
    fn new(place: &Place<'_, E>) -> Self {
        let bell = Arc::new(Bell {
            scheduler: Arc::downgrade(place.scheduler),
            lane: place.lane,
            instance: place.id,
        });
        Self {
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            runtime: place.runtime.clone(),
            set: None,
        }
    }

    /// Rings at a time, unless it rings before that anyway.
    fn set(&mut self, at: Instant) {
        // One whose time has come may have rung before the instance went on.
        let now = Instant::now();
        let rings_before = |(set, _): &(Instant, AbortHandle)| *set <= at && *set > now;
        if self.set.as_ref().is_some_and(rings_before) {
            return;
        }
        let bell = Arc::clone(&self.bell);
        let task = self.runtime.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            bell.wake();
        });
        if let Some((_, before)) = self.set.replace((at, task.abort_handle())) {
            before.abort();
        }
    }
}

impl<E: Engine> Drop for Alarm<E> {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.set {
            task.abort();
        }
    }
}

/// Runs an engine's code; a panic in it becomes a failure of this function alone.
pub(crate) fn contained<T>(run: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // What a panic leaves half done is the instance, and that is dropped then.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_panic| {
        error!("the engine panicked");
        let text = "the engine failed; its log says more";
        Err(Failure::new(FailureKind::Internal, text))
    })
}
