//! The locks of the model, and its reactor.

use std::{cell::RefCell, collections::VecDeque};

pub(crate) use shuttle::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
pub(crate) use std::sync::PoisonError;

use std::sync::Arc;

/// Stands for `tokio::sync::Notify`: a permit that the reactor waits for.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    permit: AtomicBool,
}

/// Waits for permits and events.
#[derive(Debug, Default)]
struct Changes {
    lock: Mutex<()>,
    changed: Condvar,
}

thread_local! {
    /// The waits of the run. shuttle runs all threads of a model on one thread of the system.
    static CHANGES: RefCell<Arc<Changes>> = RefCell::default();
}

fn changes() -> Arc<Changes> {
    CHANGES.with_borrow(Arc::clone)
}

/// Begins a run of the model.
pub(crate) fn begin() {
    CHANGES.set(Arc::default());
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_one(&self) {
        let changes = changes();
        let _lock = changes.lock.lock().unwrap();
        self.permit.store(true, Ordering::SeqCst);
        changes.changed.notify_all();
    }

    fn take(&self) -> bool {
        self.permit.swap(false, Ordering::SeqCst)
    }

    /// Waits without the reactor.
    pub(crate) fn wait(&self) {
        let changes = changes();
        let mut lock = changes.lock.lock().unwrap();
        while !self.take() {
            lock = changes.changed.wait(lock).unwrap();
        }
    }
}

/// Stands for the I/O runtime: one thread at a time delivers what has come.
#[derive(Debug)]
pub(crate) struct Reactor<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    events: VecDeque<T>,
    is_driven: bool,
}

impl<T> Reactor<T> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                events: VecDeque::new(),
                is_driven: false,
            }),
        }
    }

    /// Something comes.
    pub(crate) fn add(&self, event: T) {
        let changes = changes();
        let _lock = changes.lock.lock().unwrap();
        self.state.lock().unwrap().events.push_back(event);
        changes.changed.notify_all();
    }

    /// Delivers what comes until told. While another thread does, waits for it or for being told.
    pub(crate) fn run(&self, told: &Notify, deliver: impl Fn(T)) {
        let changes = changes();
        let mut lock = changes.lock.lock().unwrap();
        loop {
            if told.take() {
                return;
            }
            match self.next() {
                Some(event) => {
                    drop(lock);
                    deliver(event);
                    lock = changes.lock.lock().unwrap();
                    self.state.lock().unwrap().is_driven = false;
                    changes.changed.notify_all();
                }
                None => lock = changes.changed.wait(lock).unwrap(),
            }
        }
    }

    /// Delivers what has come already.
    pub(crate) fn poll(&self, deliver: impl Fn(T)) {
        let changes = changes();
        loop {
            let lock = changes.lock.lock().unwrap();
            let Some(event) = self.next() else { return };
            drop(lock);
            deliver(event);
            let _lock = changes.lock.lock().unwrap();
            self.state.lock().unwrap().is_driven = false;
            changes.changed.notify_all();
        }
    }

    fn next(&self) -> Option<T> {
        let mut state = self.state.lock().unwrap();
        if state.is_driven {
            return None;
        }
        let event = state.events.pop_front()?;
        state.is_driven = true;
        Some(event)
    }
}
