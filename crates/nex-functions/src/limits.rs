//! Bounds of functions and of the host, in one table.

use std::{
    num::{NonZero, NonZeroU16},
    thread,
    time::Duration,
};

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
/// Limit for loading code at its start, on its engine thread.
pub const LOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Loads in the queue at a time, for each engine thread: one runs, the others keep it busy.
pub(crate) const LOADS_PER_THREAD: usize = 4;
/// Limit for a load with its time in the queue: the loads before it, its own, and one more.
pub(crate) const LOADED_TIMEOUT: Duration =
    LOAD_TIMEOUT.saturating_mul(LOADS_PER_THREAD as u32 + 1);
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
    /// Engine threads; at most 63.
    pub threads: usize,
    /// Invocations of one function that run at a time. Less than the threads, so that one function
    /// alone cannot hold up the others.
    pub running: usize,
    /// Invocations of one function that are in the host: waiting, running or being answered.
    pub in_flight: usize,
    /// Invocations of all functions that wait for a thread.
    pub waiting: usize,
    /// Bytes of their payloads.
    pub waiting_bytes: usize,
    /// Memory of one function on one engine thread, in bytes.
    pub memory_bytes: usize,
}

/// How many engine threads more there are at most while all of them are stuck.
const EXTRA_THREADS: usize = 16;
/// The most engine threads of a host, those more included.
const MAX_THREADS: usize = 64;

impl Limits {
    /// How many engine threads there are at most: some more than usual while all are stuck in runs
    /// that do not end soon.
    #[must_use]
    pub fn most_threads(&self) -> usize {
        (self.threads + EXTRA_THREADS).min(MAX_THREADS)
    }
}

impl Default for Limits {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            threads: (cores + 1).min(MAX_THREADS / 2),
            running: cores,
            in_flight: 1024,
            waiting: 8192,
            waiting_bytes: 64 * 1024 * 1024,
            memory_bytes: MEMORY_BYTES,
        }
    }
}
