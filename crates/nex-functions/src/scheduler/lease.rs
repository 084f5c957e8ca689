//! The lease of the I/O runtime: the one thread that may drive it.

use std::time::{Duration, Instant};

/// Limit for a thread to compute while it has the lease.
const PATIENCE: Duration = Duration::from_millis(2);

/// The thread that has the I/O runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// The runtime's own thread drives it.
    Keeper,
    /// An engine thread drives it, or runs a turn that is expected to be short.
    Engine {
        thread: usize,
        /// Since when it computes; none while it drives.
        computes_since: Option<Instant>,
    },
}

impl Lease {
    /// The lease of a thread that drives.
    pub(super) fn driving(thread: usize) -> Self {
        Self::Engine {
            thread,
            computes_since: None,
        }
    }

    /// The lease of a thread that runs a turn.
    pub(super) fn computing(thread: usize, since: Instant) -> Self {
        Self::Engine {
            thread,
            computes_since: Some(since),
        }
    }

    pub(super) fn is_of(self, number: usize) -> bool {
        matches!(self, Self::Engine { thread, .. } if thread == number)
    }

    /// Returns whether a thread has it, or can have it.
    pub(super) fn is_open_to(self, number: usize) -> bool {
        self == Self::Keeper || self.is_of(number)
    }

    /// Returns whether nobody has driven the runtime for too long.
    pub(super) fn is_overdue(self, now: Instant) -> bool {
        matches!(self, Self::Engine { computes_since: Some(since), .. }
            if now.saturating_duration_since(since) >= PATIENCE)
    }

    /// Returns whether the thread that has it computes.
    pub(super) fn is_computing(self) -> bool {
        matches!(self, Self::Engine { computes_since, .. } if computes_since.is_some())
    }
}
