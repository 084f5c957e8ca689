//! The answers of host services and the timers that invocations wait for.
//!
//! Each belongs to a task. Values of JavaScript are kept here and not in closures, so that they can be
//! let go before the runtime ends.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    mem,
    rc::Rc,
    task::Waker,
    time::{Duration, Instant},
};

use nex_functions::{CallId, Calls, Changes, Question, ServiceCode, ServiceError};
use rquickjs::{Function, Object, Persistent};

use crate::{services::Answer, task::Task};

/// Most timers of an invocation at a time.
const MAX_TIMERS: usize = 10_000;
/// Most buckets that an invocation can watch at a time.
const MAX_WATCHES: usize = 64;
/// The shortest time of a timer that goes off again and again.
const MIN_PERIOD: Duration = Duration::from_millis(1);
/// The longest time of a timer: longer than any invocation.
const MAX_DELAY_MILLIS: f64 = 86_400_000.0;

/// What is open in one runtime.
pub(crate) struct Events(RefCell<Open>);

struct Open {
    /// Made when it is first used.
    calls: Option<Calls<Answer>>,
    /// Called when there is an answer.
    waker: Waker,
    waiting: HashMap<CallId, Waiting>,
    /// By the time at which they are due, and in the order in which they were set.
    timers: BTreeMap<(Instant, u64), Timer>,
    due: HashMap<u64, Instant>,
    watches: HashMap<u64, Watch>,
    last: u64,
}

/// Who waits for an answer.
pub(crate) struct Waiting {
    pub(crate) task: Rc<Task>,
    pub(crate) resolve: Persistent<Function<'static>>,
    pub(crate) reject: Persistent<Function<'static>>,
    /// An error that was made where the service was asked, so that it has that place.
    pub(crate) error: Persistent<Object<'static>>,
    /// Whether the answer is of no use once the function has returned.
    pub(crate) idle: bool,
}

struct Timer {
    task: Rc<Task>,
    callback: Persistent<Function<'static>>,
    period: Option<Duration>,
}

struct Watch {
    task: Rc<Task>,
    changes: Changes,
}

impl Events {
    /// Nothing. The waker is called when there is an answer.
    pub(crate) fn new(waker: Waker) -> Self {
        Self(RefCell::new(Open {
            calls: None,
            waker,
            waiting: HashMap::new(),
            timers: BTreeMap::new(),
            due: HashMap::new(),
            watches: HashMap::new(),
            last: 0,
        }))
    }

    /// Calls another waker for the answers of what is asked from now on.
    pub(crate) fn set_waker(&self, waker: Waker) {
        let mut open = self.0.borrow_mut();
        if let Some(calls) = &mut open.calls {
            calls.set_waker(waker.clone());
        }
        open.waker = waker;
    }

    /// Returns whether neither an answer nor a timer can come any more.
    pub(crate) fn is_empty(&self) -> bool {
        let open = self.0.borrow();
        open.timers.is_empty() && open.calls.as_ref().is_none_or(Calls::is_empty)
    }

    /// Asks a question; `waiting` hears of the answer.
    pub(crate) fn ask(
        &self,
        question: Question<Answer>,
        waiting: Waiting,
    ) -> Result<CallId, Box<(Waiting, ServiceError)>> {
        let mut open = self.0.borrow_mut();
        let Open { calls, waker, .. } = &mut *open;
        let calls = calls.get_or_insert_with(|| Calls::new(waker.clone()));
        match calls.begin(waiting.task.id, question) {
            Ok(id) => {
                let mut of_task = waiting.task.open.borrow_mut();
                match waiting.idle {
                    true => of_task.idle.insert(id),
                    false => of_task.calls.insert(id),
                };
                drop(of_task);
                open.waiting.insert(id, waiting);
                Ok(id)
            }
            Err(error) => Err(Box::new((waiting, error))),
        }
    }

    /// The next answer that has come, and who waits for it. Never waits.
    pub(crate) fn answer(&self) -> Option<(Waiting, Result<Answer, ServiceError>)> {
        let mut open = self.0.borrow_mut();
        loop {
            let (id, answer) = open.calls.as_mut()?.try_next()?;
            let is_of_use = |waiting: &Waiting| !(waiting.idle && waiting.task.is_leaving());
            // One of no use stays unanswered, and goes with its task.
            if open.waiting.get(&id).is_some_and(is_of_use)
                && let Some(waiting) = open.take_waiting(id)
            {
                return Some((waiting, answer));
            }
        }
    }

    /// Cuts a question off: nobody hears of its answer.
    pub(crate) fn cancel(&self, id: CallId) {
        let waiting = self.0.borrow_mut().cancel(id);
        drop(waiting);
    }

    /// Sets a timer; one of a task that has its result never goes off.
    pub(crate) fn set_timer(
        &self,
        task: &Rc<Task>,
        callback: Persistent<Function<'static>>,
        millis: f64,
        repeats: bool,
    ) -> Result<u64, ServiceError> {
        let mut open = self.0.borrow_mut();
        if task.open.borrow().timers.len() >= MAX_TIMERS {
            let text = format!("{MAX_TIMERS} timers are set already");
            return Err(ServiceError::new(ServiceCode::TooLarge, text));
        }
        open.last += 1;
        let id = open.last;
        if task.is_leaving() {
            drop(open);
            drop(callback);
            return Ok(id);
        }
        let millis = if millis > 0.0 {
            millis.min(MAX_DELAY_MILLIS)
        } else {
            0.0
        };
        let delay = Duration::from_secs_f64(millis / 1000.0);
        let period = repeats.then_some(delay.max(MIN_PERIOD));
        let timer = Timer {
            task: Rc::clone(task),
            callback,
            period,
        };
        open.put(id, timer, period.unwrap_or(delay));
        Ok(id)
    }

    /// Takes a timer back.
    pub(crate) fn clear_timer(&self, id: u64) {
        let timer = self.0.borrow_mut().take_timer(id);
        drop(timer);
    }

    /// The callback and the task of the next timer that is due at `now`.
    pub(crate) fn due(&self, now: Instant) -> Option<(Rc<Task>, Persistent<Function<'static>>)> {
        let mut open = self.0.borrow_mut();
        let ((due, id), _) = open.timers.first_key_value()?;
        let (due, id) = (*due, *id);
        if due > now {
            return None;
        }
        let timer = open.take_timer(id)?;
        let (task, callback) = (Rc::clone(&timer.task), timer.callback.clone());
        if let Some(period) = timer.period {
            open.put(id, timer, period);
        }
        Some((task, callback))
    }

    /// The time at which the next timer is due.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let open = self.0.borrow();
        open.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Keeps the changes of a bucket under a number.
    pub(crate) fn watch(&self, task: &Rc<Task>, changes: Changes) -> Result<u64, ServiceError> {
        let mut open = self.0.borrow_mut();
        let mut of_task = task.open.borrow_mut();
        if of_task.watches.len() >= MAX_WATCHES {
            let text = format!("{MAX_WATCHES} buckets are watched already");
            return Err(ServiceError::new(ServiceCode::TooLarge, text));
        }
        open.last += 1;
        let id = open.last;
        of_task.watches.insert(id);
        let task = Rc::clone(task);
        open.watches.insert(id, Watch { task, changes });
        Ok(id)
    }

    /// The changes with that number.
    pub(crate) fn changes(&self, id: u64) -> Option<Changes> {
        let open = self.0.borrow();
        open.watches.get(&id).map(|watch| watch.changes.clone())
    }

    pub(crate) fn unwatch(&self, id: u64) {
        if let Some(watch) = self.0.borrow_mut().watches.remove(&id) {
            watch.task.open.borrow_mut().watches.remove(&id);
        }
    }

    /// Drops the timers of a task.
    pub(crate) fn drop_timers(&self, task: &Task) {
        let timers = mem::take(&mut task.open.borrow_mut().timers);
        if timers.is_empty() {
            return;
        }
        let mut open = self.0.borrow_mut();
        let timers: Vec<_> = timers.iter().map(|id| open.take_timer(*id)).collect();
        drop(open);
        drop(timers);
    }

    /// Cuts off all that is open of a task, and returns who waited.
    pub(crate) fn close(&self, task: &Task) -> Vec<Waiting> {
        self.drop_timers(task);
        let of_task = mem::take(&mut *task.open.borrow_mut());
        let mut open = self.0.borrow_mut();
        for id in &of_task.watches {
            open.watches.remove(id);
        }
        let calls = of_task.calls.iter().chain(&of_task.idle);
        calls.filter_map(|id| open.cancel(*id)).collect()
    }

    /// Lets everything go.
    pub(crate) fn clear(&self) {
        let mut open = self.0.borrow_mut();
        let calls = open.calls.take();
        let (waiting, timers) = (mem::take(&mut open.waiting), mem::take(&mut open.timers));
        let watches = mem::take(&mut open.watches);
        open.due.clear();
        drop(open);
        drop((calls, waiting, timers, watches));
    }
}

impl Open {
    fn put(&mut self, id: u64, timer: Timer, delay: Duration) {
        let due = Instant::now() + delay;
        timer.task.open.borrow_mut().timers.insert(id);
        self.due.insert(id, due);
        self.timers.insert((due, id), timer);
    }

    fn take_timer(&mut self, id: u64) -> Option<Timer> {
        let due = self.due.remove(&id)?;
        let timer = self.timers.remove(&(due, id))?;
        timer.task.open.borrow_mut().timers.remove(&id);
        Some(timer)
    }

    fn take_waiting(&mut self, id: CallId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        let mut of_task = waiting.task.open.borrow_mut();
        of_task.calls.remove(&id);
        of_task.idle.remove(&id);
        drop(of_task);
        Some(waiting)
    }

    fn cancel(&mut self, id: CallId) -> Option<Waiting> {
        if let Some(calls) = &mut self.calls {
            calls.cancel(id);
        }
        self.take_waiting(id)
    }
}
