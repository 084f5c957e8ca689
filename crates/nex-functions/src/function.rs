//! One deployed function, as those who ask about it see it.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use nex_protocol::{
    GoDuration, StartWorkloadRequest, Tags, WorkloadId, WorkloadState, WorkloadSummary,
};
use tokio_util::sync::CancellationToken;

/// A function that listens. Its [`Pump`](crate::pump::Pump) writes the counters; others read them.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) id: WorkloadId,
    /// What was asked for, with the final name.
    pub(crate) request: StartWorkloadRequest,
    pub(crate) subjects: Vec<String>,
    /// Its triggers on streams, as `stream` or `stream:filter`.
    pub(crate) streams: Vec<String>,
    pub(crate) started: Timestamp,
    pub(crate) counters: Counters,
    /// Asks it to stop.
    pub(crate) stop: CancellationToken,
    /// Whether it is to leave nothing behind.
    pub(crate) purge: AtomicBool,
    /// Why it did, nevertheless.
    pub(crate) unpurged: OnceLock<String>,
    /// It is dead.
    pub(crate) ended: CancellationToken,
}

/// What a function has done so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    calls: AtomicU64,
    errors: AtomicU64,
    ran_nanos: AtomicU64,
    in_flight: AtomicUsize,
    /// Messages of streams that wait here, run, or become dead letters.
    held: AtomicUsize,
    redelivered: AtomicU64,
    dead_letters: AtomicU64,
}

impl Counters {
    /// Counts an invocation that is over.
    pub(crate) fn count(&self, took: Duration, failed: bool) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        self.ran_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Tells how many invocations are under way.
    pub(crate) fn set_in_flight(&self, count: usize) {
        self.in_flight.store(count, Ordering::Relaxed);
    }

    /// A message of a stream is here.
    pub(crate) fn take(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// It is not any more.
    pub(crate) fn release(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a run on a message that was delivered before.
    pub(crate) fn count_redelivered(&self) {
        self.redelivered.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a dead letter.
    pub(crate) fn count_dead_letter(&self) {
        self.dead_letters.fetch_add(1, Ordering::Relaxed);
    }

    fn busy(&self) -> bool {
        [&self.in_flight, &self.held]
            .iter()
            .any(|count| count.load(Ordering::Relaxed) > 0)
    }
}

impl Function {
    pub(crate) fn summary(&self) -> WorkloadSummary {
        WorkloadSummary {
            id: self.id.clone(),
            metadata: self.metadata(),
            name: self.request.name.clone(),
            namespace: Some(self.request.namespace.clone()),
            runtime: self.ran().to_string(),
            start_time: self.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            tags: self.request.tags.clone(),
            workload_lifecycle: self.request.workload_lifecycle.to_string(),
            workload_state: self.state(),
            workload_type: self.request.workload_type.clone(),
        }
    }

    fn state(&self) -> WorkloadState {
        if self.stop.is_cancelled() {
            WorkloadState::Stopping
        } else if self.counters.busy() {
            WorkloadState::Running
        } else {
            WorkloadState::Warm
        }
    }

    fn ran(&self) -> GoDuration {
        let nanos = self.counters.ran_nanos.load(Ordering::Relaxed);
        GoDuration(Duration::from_nanos(nanos))
    }

    fn metadata(&self) -> Tags {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
        let mut tags = Tags::from([
            ("subjects".to_owned(), self.subjects.join(",")),
            ("calls".to_owned(), count(&self.counters.calls)),
            ("errors".to_owned(), count(&self.counters.errors)),
        ]);
        if !self.streams.is_empty() {
            tags.extend([
                ("streams".to_owned(), self.streams.join(",")),
                ("redelivered".to_owned(), count(&self.counters.redelivered)),
                (
                    "dead_letters".to_owned(),
                    count(&self.counters.dead_letters),
                ),
            ]);
        }
        tags
    }
}
