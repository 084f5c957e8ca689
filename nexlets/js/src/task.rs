//! The invocations in flight in one runtime, and the one on whose behalf code runs just now.
//!
//! ```text
//!   begin ──> Running ──result──> Leaving ──what it asked is answered──> Over
//!                │                   │                                    ↑
//!                └───────────────────┴── deadline ────────────────────────┘
//! ```
//!
//! Each has a number, its task. QuickJS hands the number on: a reaction of a promise, and so what comes
//! after an `await`, has the task that registered it. Number 0 is nobody.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap, VecDeque},
    mem,
    rc::Rc,
    time::Instant,
};

use bytes::Bytes;
use nex_functions::{CallId, Console, Failure, InvocationKey, Services};
use rquickjs::{Ctx, Persistent, Value};

use crate::ffi;

/// Invocations that are over whose consoles are kept, for code of theirs that still runs.
const MAX_ENDED: usize = 256;

/// One invocation, or the set-up of the runtime.
pub(crate) struct Task {
    pub(crate) id: u64,
    /// The host's name for it; `None` for the set-up.
    pub(crate) key: Option<InvocationKey>,
    pub(crate) deadline: Instant,
    /// Set once it was found to run past its deadline.
    is_late: Cell<bool>,
    pub(crate) services: Rc<Services>,
    pub(crate) console: Rc<Console>,
    pub(crate) state: RefCell<State>,
    pub(crate) open: RefCell<Open>,
}

/// The progress of an invocation.
pub(crate) enum State {
    /// Its function runs, or the promise that it has returned is awaited.
    Running(Option<Persistent<Value<'static>>>),
    /// Has its result; not all that it asked of the host is answered.
    Leaving(Result<Bytes, Failure>),
    /// Has handed out its result.
    Over,
}

/// The open calls, timers and watches of an invocation.
#[derive(Default)]
pub(crate) struct Open {
    /// Calls that have to be answered before it is over.
    pub(crate) calls: BTreeSet<CallId>,
    /// Calls that are of no use once it has a result.
    pub(crate) idle: BTreeSet<CallId>,
    pub(crate) timers: BTreeSet<u64>,
    pub(crate) watches: BTreeSet<u64>,
}

impl Open {
    /// Returns whether nothing is open that could make code of the invocation run.
    pub(crate) fn is_quiet(&self) -> bool {
        self.calls.is_empty() && self.idle.is_empty() && self.timers.is_empty()
    }
}

impl Task {
    /// Returns whether its deadline has passed, and notes it: from then on it stays so.
    pub(crate) fn check(&self) -> bool {
        let is_late = self.is_late.get() || Instant::now() >= self.deadline;
        self.is_late.set(is_late);
        is_late
    }

    /// Returns whether it was found to run past its deadline.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late.get()
    }

    pub(crate) fn is_leaving(&self) -> bool {
        !matches!(*self.state.borrow(), State::Running(_))
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.state.borrow(), State::Over)
    }

    /// Returns whether it has a result and nothing more is awaited.
    pub(crate) fn is_done(&self) -> bool {
        self.key.is_some()
            && matches!(*self.state.borrow(), State::Leaving(_))
            && self.open.borrow().calls.is_empty()
    }

    /// Sets the result, in place of the promise or of another result.
    pub(crate) fn leave(&self, result: Result<Bytes, Failure>) {
        // A value of the runtime may be let go with it, after the state is free again.
        let before = mem::replace(&mut *self.state.borrow_mut(), State::Leaving(result));
        drop(before);
    }
}

/// All tasks of one runtime.
pub(crate) struct Tasks {
    live: RefCell<HashMap<u64, Rc<Task>>>,
    current: RefCell<Current>,
    /// Tasks that have done something since they were looked at.
    touched: RefCell<Vec<Rc<Task>>>,
    /// Until when code may run that belongs to nobody.
    nobody_until: Cell<Instant>,
    /// Consoles of tasks that are over, where they differ from that of the runtime.
    ended: RefCell<VecDeque<(u64, Rc<Console>)>>,
    last: Cell<u64>,
}

struct Current {
    id: u64,
    /// The task of this number, unless it is over.
    task: Option<Rc<Task>>,
}

impl Tasks {
    /// No tasks. Until `deadline` code of nobody may run.
    pub(crate) fn new(deadline: Instant) -> Self {
        Self {
            live: RefCell::default(),
            current: RefCell::new(Current { id: 0, task: None }),
            touched: RefCell::default(),
            nobody_until: Cell::new(deadline),
            ended: RefCell::default(),
            last: Cell::new(0),
        }
    }

    /// Adds a task.
    pub(crate) fn open(
        &self,
        key: Option<InvocationKey>,
        deadline: Instant,
        services: Rc<Services>,
        console: Rc<Console>,
    ) -> Rc<Task> {
        self.last.set(self.last.get() + 1);
        let id = self.last.get();
        let task = Rc::new(Task {
            id,
            key,
            deadline,
            is_late: Cell::new(false),
            services,
            console,
            state: RefCell::new(State::Running(None)),
            open: RefCell::default(),
        });
        self.live.borrow_mut().insert(id, Rc::clone(&task));
        task
    }

    /// Removes a task: what runs under its number from now on is code of nobody.
    pub(crate) fn close(&self, task: &Rc<Task>, has_console: bool) {
        self.live.borrow_mut().remove(&task.id);
        let mut current = self.current.borrow_mut();
        if current.id == task.id {
            current.task = None;
        }
        drop(current);
        self.touched
            .borrow_mut()
            .retain(|other| other.id != task.id);
        if has_console {
            let mut ended = self.ended.borrow_mut();
            if ended.len() == MAX_ENDED {
                ended.pop_front();
            }
            ended.push_back((task.id, Rc::clone(&task.console)));
        }
    }

    /// Lets code run under this task from now on.
    pub(crate) fn switch(&self, ctx: &Ctx<'_>, id: u64) {
        ffi::set_task(ctx, id);
        self.follow(id);
    }

    /// The runtime itself has switched to this task, or is about to.
    pub(crate) fn follow(&self, id: u64) {
        if self.current.borrow().id == id {
            return;
        }
        let task = self.live.borrow().get(&id).cloned();
        let before = mem::replace(&mut *self.current.borrow_mut(), Current { id, task });
        drop(before);
    }

    /// Lets code of nobody run until then.
    pub(crate) fn allow_nobody(&self, until: Instant) {
        self.nobody_until.set(until);
    }

    /// The task on whose behalf code runs, unless it is over.
    pub(crate) fn current(&self) -> Option<Rc<Task>> {
        self.current.borrow().task.clone()
    }

    pub(crate) fn current_id(&self) -> u64 {
        self.current.borrow().id
    }

    /// The console of a task, also of one that is over; `None` for that of the runtime.
    pub(crate) fn console(&self, id: u64) -> Option<Rc<Console>> {
        if let Some(task) = self.live.borrow().get(&id) {
            return Some(Rc::clone(&task.console));
        }
        let ended = self.ended.borrow();
        let found = ended.iter().find(|(ended, _)| *ended == id);
        found.map(|(_, console)| Rc::clone(console))
    }

    /// Returns whether what runs has to end, as its time is over.
    pub(crate) fn is_time_over(&self) -> bool {
        match &self.current.borrow().task {
            Some(task) => task.check(),
            None => Instant::now() >= self.nobody_until.get(),
        }
    }

    pub(crate) fn is_live(&self, id: u64) -> bool {
        self.live.borrow().contains_key(&id)
    }

    /// All tasks, in no order.
    pub(crate) fn all(&self) -> Vec<Rc<Task>> {
        self.live.borrow().values().cloned().collect()
    }

    /// Notes that a task has done something.
    pub(crate) fn touch(&self, task: &Rc<Task>) {
        let mut touched = self.touched.borrow_mut();
        if !touched.iter().rev().any(|other| other.id == task.id) {
            touched.push(Rc::clone(task));
        }
    }

    /// The tasks that have done something since this was asked.
    pub(crate) fn take_touched(&self) -> Vec<Rc<Task>> {
        self.touched.take()
    }

    /// Lets all go, with the values of the runtime that they have.
    pub(crate) fn clear(&self) {
        let current = mem::replace(
            &mut *self.current.borrow_mut(),
            Current { id: 0, task: None },
        );
        let (live, touched) = (self.live.take(), self.touched.take());
        for task in live.values() {
            drop(mem::replace(&mut *task.state.borrow_mut(), State::Over));
        }
        drop((current, live, touched));
    }
}
