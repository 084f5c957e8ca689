//! Bounds of functions and of the host, in one table.

use std::{
    num::{NonZero, NonZeroU16},
    thread,
    time::Duration,
};

use crate::scheduler::{Bounds, LaneBounds};

/// How long an invocation may take, its wait for a thread included, where the start request says
/// nothing.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest `timeout` that a start request may ask for.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// The most invocations in flight in one instance of a function, where the engine takes several and the
/// start request says nothing.
pub const DEFAULT_CONCURRENCY: NonZeroU16 = NonZeroU16::new(100).unwrap();
/// The most that a start request may ask for.
pub const MAX_CONCURRENCY: NonZeroU16 = NonZeroU16::new(1000).unwrap();
/// Limit for loading code at its start.
pub const LOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for a load where its engine does not end it.
pub(crate) const LOADED_TIMEOUT: Duration = LOAD_TIMEOUT.saturating_mul(3);
/// The memory of one function on one engine thread, in bytes.
pub const MEMORY_BYTES: usize = 64 * 1024 * 1024;
/// How much longer than its timeout a function may take to stop: for the round trips of it.
pub(crate) const DRAIN_MARGIN: Duration = Duration::from_secs(5);
/// How long the last log lines of a stopped function may take to get out.
pub(crate) const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest time without a sign of the nexlet after which a stream delivers a message again. The
/// nexlet gives a sign for each message that it holds for a third of it.
pub(crate) const MAX_ACK_WAIT: Duration = Duration::from_secs(10);
/// How often invocations that wait for a thread are looked at for their deadline.
pub(crate) const EXPIRY_PERIOD: Duration = Duration::from_millis(50);
/// How often functions that did something are reported about.
pub(crate) const REPORT_PERIOD: Duration = Duration::from_secs(1);

/// The bounds of a [`FunctionHost`](crate::FunctionHost).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Engine threads.
    pub threads: usize,
    /// Turns of one function that compute at a time. Less than the threads, so that one function alone
    /// cannot hold up the others.
    pub running: usize,
    /// Loads of code at a time: several per processor, since code may wait while it is set up.
    pub loads: usize,
    /// Invocations of one function that are in the host: waiting, running or being answered.
    pub in_flight: usize,
    /// Invocations of all functions that wait for a thread.
    pub waiting: usize,
    /// Bytes of their payloads.
    pub waiting_bytes: usize,
    /// Memory of one instance of a function, in bytes.
    pub memory_bytes: usize,
}

/// Engine threads more than usual while all are stuck.
const EXTRA_THREADS: usize = 16;
/// Engine threads that may wait in synchronous host calls, beside those.
const WAITING_THREADS: usize = 64;
/// Such threads of one function.
const WAITING_PER_FUNCTION: usize = 16;
/// Instances of one function.
const INSTANCES: usize = 64;

impl Limits {
    /// Returns how many engine threads there are at most, and so how many instances run at a time.
    #[must_use]
    pub fn most_threads(&self) -> usize {
        self.bounds().places()
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            jobs: self.waiting,
            bytes: self.waiting_bytes,
            threads: self.threads,
            extra: EXTRA_THREADS,
            waiting: WAITING_THREADS,
        }
    }

    pub(crate) fn lane(&self) -> LaneBounds {
        LaneBounds {
            computing: self.running,
            instances: INSTANCES,
            waiting: WAITING_PER_FUNCTION,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            threads: cores + 1,
            running: cores,
            loads: 4 * (cores + 1),
            in_flight: 1024,
            waiting: 8192,
            waiting_bytes: 64 * 1024 * 1024,
            memory_bytes: MEMORY_BYTES,
        }
    }
}
