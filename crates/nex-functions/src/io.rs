//! The runtime on which functions do their I/O, and the threads that drive it.
//!
//! All connections of functions are on one runtime, apart from the nexlet's own. Its own thread, the
//! keeper, drives it while no engine thread has the lease (see [`scheduler`](crate::scheduler)). With the
//! keeper alone each message would make that thread wake an engine thread, and be woken by it with the
//! answer, which takes longer than many functions do; an engine thread that has the lease reads from the
//! sockets itself, as a bare client does.
//!
//! ```text
//!   keeper         drives ─┐                                                    ┌─> drives
//!   engine thread          └─> drives │ code │ drives │ code │ drives │ code ──┘
//!                              ↑ nothing to    ↑ waits        ↑ ends  ↑ which is long
//!                                do for short code
//! ```

use std::{
    cell::RefCell,
    io,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::Notify,
    task::yield_now,
    time::{timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Span;

/// How long tasks of functions may go on when their nexlet has gone without waiting for them.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(1);

/// The owner of the lease: decides which thread drives.
pub(crate) trait Leases: Send + Sync {
    /// Tells the keeper that an engine thread has the lease.
    fn taken(&self) -> &Notify;
    /// Waits until no engine thread has it.
    fn wait_for_return(&self);
    /// An engine thread begins to wait in a host call; whether it has the lease meanwhile.
    fn begin_wait(&self, thread: usize) -> bool;
    /// Ends the wait of an engine thread.
    fn end_wait(&self, thread: usize);
}

/// The runtime of functions, until this is dropped; then for a moment more, for tasks to end.
pub(crate) struct Io {
    driven: Arc<Driven>,
    stop: CancellationToken,
}

struct Driven {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    leases: Arc<dyn Leases>,
    /// What its tasks are part of, for the log.
    span: Span,
}

/// An engine thread's way to the runtime.
#[derive(Clone)]
pub(crate) struct Driver {
    thread: usize,
    driven: Weak<Driven>,
}

thread_local! {
    /// The way of this thread, if it is an engine thread: host calls come from deep inside of an engine.
    static HERE: RefCell<Option<Driver>> = const { RefCell::new(None) };
}

impl Io {
    /// Starts the keeper. Once this is dropped it ends with the last of these tasks, or after
    /// [`LEFTOVER_LIMIT`].
    pub(crate) fn start(
        tasks: TaskTracker,
        leases: Arc<dyn Leases>,
        blocking_stack: usize,
    ) -> io::Result<Self> {
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_all().thread_stack_size(blocking_stack);
        let driven = Arc::new(Driven {
            runtime: Some(runtime.build()?),
            leases,
            span: Span::current(),
        });
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let over = async move {
            stopped.cancelled().await;
            tasks.close();
            timeout(LEFTOVER_LIMIT, tasks.wait()).await.ok();
        };
        let thread = thread::Builder::new().name("functions-io".to_owned());
        let keeper = Arc::clone(&driven);
        thread.spawn(move || {
            let _entered = keeper.span.enter();
            keeper.keep(over);
        })?;
        Ok(Self { driven, stop })
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.driven.runtime().handle()
    }

    /// The way of the engine thread of this number.
    pub(crate) fn driver(&self, thread: usize) -> Driver {
        Driver {
            thread,
            driven: Arc::downgrade(&self.driven),
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Driven {
    fn runtime(&self) -> &Runtime {
        let runtime = self.runtime.as_ref();
        runtime.expect("it is taken out when nobody has this any more")
    }

    /// Drives while no engine thread does, until it is over.
    fn keep(&self, over: impl Future<Output = ()>) {
        let mut over = std::pin::pin!(over);
        loop {
            let goes_on = self.runtime().block_on(async {
                tokio::select! {
                    () = &mut over => false,
                    () = self.leases.taken().notified() => true,
                }
            });
            if !goes_on {
                return;
            }
            self.leases.wait_for_return();
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        // Names that are being looked up hold up nobody.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Driver {
    /// Makes this the way of the calling thread.
    pub(crate) fn install(&self) {
        HERE.set(Some(self.clone()));
    }

    /// Drives until the thread is told that there is something to run. The thread has the lease. `first` is
    /// done where a task that it wakes is near.
    pub(crate) fn drive(&self, told: &Notify, first: impl FnOnce()) {
        let Some(driven) = self.driven.upgrade() else {
            return first();
        };
        let _entered = driven.span.enter();
        driven.runtime().block_on(async {
            first();
            told.notified().await;
        });
    }

    /// Does what I/O there is just now. The thread has the lease.
    pub(crate) fn poll(&self) {
        let Some(driven) = self.driven.upgrade() else {
            return;
        };
        let _entered = driven.span.enter();
        driven.runtime().block_on(async {
            // Looks at the sockets each time.
            yield_now().await;
            yield_now().await;
        });
    }
}

/// A wait of an engine thread in a host call, which ends when this is dropped.
pub(crate) struct Wait {
    driver: Driver,
    driven: Arc<Driven>,
    drives: bool,
}

impl Wait {
    /// Begins a wait of the calling thread, if it is an engine thread.
    pub(crate) fn begin() -> Option<Self> {
        let driver = HERE.with_borrow(Clone::clone)?;
        let driven = driver.driven.upgrade()?;
        Some(Self {
            drives: driven.leases.begin_wait(driver.thread),
            driver,
            driven,
        })
    }

    /// Drives until the thread is told, and returns true; false once it is too late, or where it is not for
    /// this thread to drive.
    pub(crate) fn drive(&self, told: &Notify, until: Instant) -> bool {
        if !self.drives {
            return false;
        }
        let _entered = self.driven.span.enter();
        let told = async { timeout_at(until.into(), told.notified()).await.is_ok() };
        self.driven.runtime().block_on(told)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.driven.leases.end_wait(self.driver.thread);
    }
}
