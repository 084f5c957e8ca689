//! The clock that running guests are interrupted by.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use wasmtime::Engine;

/// How far apart the moments are at which a guest looks at its deadline.
const TICK: Duration = Duration::from_millis(5);
/// How many ticks without a running guest go by before the thread sleeps. Waking it costs more than
/// some ticks, and under load the next call comes soon.
const QUIET_TICKS: u32 = 200;
/// Its stack in bytes.
const STACK_BYTES: usize = 128 * 1024;

/// Advances an engine's epoch every [`TICK`] while guests run. Its thread ends with it.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many guests run.
    running: usize,
    /// Whether the thread ticks; else it sleeps until a guest wakes it.
    ticking: bool,
    /// The ticker is gone.
    closed: bool,
}

/// A guest that runs; it does not when this is dropped.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Shared);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Three plain values, each good by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticker {
    pub(crate) fn start(engine: Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let ticked = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("wasm-ticker".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || tick(&ticked, &engine))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Says that a guest runs now.
    pub(crate) fn running(&self) -> Running<'_> {
        let mut state = self.shared.lock();
        state.running += 1;
        if !state.ticking {
            state.ticking = true;
            self.shared.changed.notify_one();
        }
        Running(&self.shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A ticker that panicked has nothing left to tick.
            thread.join().ok();
        }
    }
}

fn tick(shared: &Shared, engine: &Engine) {
    let mut quiet = 0;
    let mut state = shared.lock();
    while !state.closed {
        quiet = if state.running == 0 { quiet + 1 } else { 0 };
        if quiet > QUIET_TICKS {
            state.ticking = false;
            let woken = shared
                .changed
                .wait_while(state, |state| !state.ticking && !state.closed);
            state = woken.unwrap_or_else(PoisonError::into_inner);
            quiet = 0;
        }
        let waited = shared.changed.wait_timeout(state, TICK);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        engine.increment_epoch();
    }
}
