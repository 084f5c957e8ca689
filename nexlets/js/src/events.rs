//! What an invocation waits for: answers of host services, and timers.
//!
//! ```text
//!   jobs of promises ──run dry──> turn: a timer that is due, or the next answer ──> jobs …
//!                                  └─ nothing is open: what still waits never ends
//! ```
//!
//! All of it belongs to one invocation. Values of JavaScript are kept here and not in closures, so
//! that they can be let go before the runtime ends.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use nex_functions::{CallId, Calls, Changes, Question, ServiceCode, ServiceError};
use rquickjs::{Ctx, Function, Object, Persistent};

use crate::services::Answer;

/// How many timers there may be at a time.
const MAX_TIMERS: usize = 10_000;
/// How many buckets can be watched at a time.
const MAX_WATCHES: usize = 64;
/// The shortest time of a timer that goes off again and again.
const MIN_PERIOD: Duration = Duration::from_millis(1);
/// The longest time of a timer: longer than any invocation.
const MAX_DELAY_MILLIS: f64 = 86_400_000.0;

/// What is open in one runtime.
#[derive(Default)]
pub(crate) struct Events(RefCell<Open>);

#[derive(Default)]
struct Open {
    /// Made when it is first used.
    calls: Option<Calls<Answer>>,
    waiting: HashMap<CallId, Waiting>,
    /// By the time at which they are due, and in the order in which they were set.
    timers: BTreeMap<(Instant, u64), Timer>,
    due: HashMap<u64, Instant>,
    watches: HashMap<u64, Changes>,
    last: u64,
}

/// Who waits for an answer.
pub(crate) struct Waiting {
    pub(crate) resolve: Persistent<Function<'static>>,
    pub(crate) reject: Persistent<Function<'static>>,
    /// An error that was made where the service was asked, so that it has that place.
    pub(crate) error: Persistent<Object<'static>>,
    /// Whether the answer is of no use once the function has returned.
    pub(crate) idle: bool,
}

struct Timer {
    callback: Persistent<Function<'static>>,
    period: Option<Duration>,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Something happened; jobs may wait.
    Went,
    /// Nothing is open.
    Empty,
    /// It is time to look at the clock.
    Waited,
}

/// What happens next.
enum Next {
    Answer(Box<(Waiting, Result<Answer, ServiceError>)>),
    Timer(Persistent<Function<'static>>),
    Other(Turn),
}

impl Events {
    /// Asks a question; `waiting` hears of the answer.
    pub(crate) fn ask(
        &self,
        question: Question<Answer>,
        waiting: Waiting,
    ) -> Result<CallId, Box<(Waiting, ServiceError)>> {
        let mut open = self.0.borrow_mut();
        match open.calls.get_or_insert_default().begin(question) {
            Ok(id) => {
                open.waiting.insert(id, waiting);
                Ok(id)
            }
            Err(error) => Err(Box::new((waiting, error))),
        }
    }

    /// Cuts a question off: nobody hears of its answer.
    pub(crate) fn cancel(&self, id: CallId) {
        let mut open = self.0.borrow_mut();
        if let Some(calls) = &mut open.calls {
            calls.cancel(id);
        }
        let waiting = open.waiting.remove(&id);
        drop(open);
        drop(waiting);
    }

    /// Sets a timer.
    pub(crate) fn set_timer(
        &self,
        callback: Persistent<Function<'static>>,
        millis: f64,
        repeats: bool,
    ) -> Result<u64, ServiceError> {
        let mut open = self.0.borrow_mut();
        if open.timers.len() >= MAX_TIMERS {
            let text = format!("{MAX_TIMERS} timers are set already");
            return Err(ServiceError::new(ServiceCode::TooLarge, text));
        }
        let millis = if millis > 0.0 {
            millis.min(MAX_DELAY_MILLIS)
        } else {
            0.0
        };
        let delay = Duration::from_secs_f64(millis / 1000.0);
        let period = repeats.then_some(delay.max(MIN_PERIOD));
        open.last += 1;
        let id = open.last;
        open.put(id, Timer { callback, period }, period.unwrap_or(delay));
        Ok(id)
    }

    /// Takes a timer back.
    pub(crate) fn clear_timer(&self, id: u64) {
        let mut open = self.0.borrow_mut();
        let timer = match open.due.remove(&id) {
            Some(due) => open.timers.remove(&(due, id)),
            None => None,
        };
        drop(open);
        drop(timer);
    }

    /// Keeps the changes of a bucket under a number.
    pub(crate) fn watch(&self, changes: Changes) -> Result<u64, ServiceError> {
        let mut open = self.0.borrow_mut();
        if open.watches.len() >= MAX_WATCHES {
            let text = format!("{MAX_WATCHES} buckets are watched already");
            return Err(ServiceError::new(ServiceCode::TooLarge, text));
        }
        open.last += 1;
        let id = open.last;
        open.watches.insert(id, changes);
        Ok(id)
    }

    /// The changes with that number.
    pub(crate) fn changes(&self, id: u64) -> Option<Changes> {
        self.0.borrow().watches.get(&id).cloned()
    }

    pub(crate) fn unwatch(&self, id: u64) {
        self.0.borrow_mut().watches.remove(&id);
    }

    /// Waits for the next thing to happen, until `deadline` at most, and tells who waits for it.
    pub(crate) fn turn(
        &self,
        ctx: &Ctx<'_>,
        deadline: Instant,
        told: impl FnOnce(&Ctx<'_>, Waiting, Result<Answer, ServiceError>) -> rquickjs::Result<()>,
    ) -> rquickjs::Result<Turn> {
        // No code runs while the state is borrowed.
        let next = self.0.borrow_mut().next(deadline);
        match next {
            Next::Answer(answered) => {
                let (waiting, answer) = *answered;
                told(ctx, waiting, answer)?;
            }
            Next::Timer(callback) => callback.restore(ctx)?.call::<_, ()>(())?,
            Next::Other(turn) => return Ok(turn),
        }
        Ok(Turn::Went)
    }

    /// Lets go what is of no use once there is a result: timers, and waits for changes.
    pub(crate) fn leave(&self) {
        let mut open = self.0.borrow_mut();
        let timers = std::mem::take(&mut open.timers);
        open.due.clear();
        open.watches.clear();
        let Open { calls, waiting, .. } = &mut *open;
        let idle = waiting.extract_if(|_, waiting| waiting.idle);
        let idle: Vec<_> = idle.collect();
        if let Some(calls) = calls {
            for (id, _) in &idle {
                calls.cancel(*id);
            }
        }
        drop(open);
        drop((timers, idle));
    }

    /// Lets everything go.
    pub(crate) fn clear(&self) {
        let open = std::mem::take(&mut *self.0.borrow_mut());
        drop(open);
    }
}

impl Open {
    fn put(&mut self, id: u64, timer: Timer, delay: Duration) {
        let due = Instant::now() + delay;
        self.due.insert(id, due);
        self.timers.insert((due, id), timer);
    }

    fn next(&mut self, deadline: Instant) -> Next {
        let first = self.timers.first_key_value().map(|(key, _)| *key);
        if let Some((due, id)) = first
            && due <= Instant::now()
            && let Some(timer) = self.timers.remove(&(due, id))
        {
            self.due.remove(&id);
            let callback = timer.callback.clone();
            if let Some(period) = timer.period {
                self.put(id, timer, period);
            }
            return Next::Timer(callback);
        }
        let nothing = self.calls.as_ref().is_none_or(Calls::is_empty);
        if nothing && first.is_none() {
            return Next::Other(Turn::Empty);
        }
        let until = first.map_or(deadline, |(due, _)| due.min(deadline));
        let Some((id, answer)) = self.calls.get_or_insert_default().next(until) else {
            return Next::Other(Turn::Waited);
        };
        match self.waiting.remove(&id) {
            Some(waiting) => Next::Answer(Box::new((waiting, answer))),
            None => Next::Other(Turn::Waited),
        }
    }
}
