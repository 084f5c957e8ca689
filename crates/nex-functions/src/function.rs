//! One deployed function, as those who ask about it see it.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use jiff::Timestamp;
use nex_protocol::{
    GoDuration, StartWorkloadRequest, Tags, WorkloadId, WorkloadState, WorkloadSummary,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, Over};

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
    /// Through which it is reported about.
    pub(crate) host: nexlet::Host,
    /// It is dead.
    pub(crate) ended: CancellationToken,
}

/// What a function has done so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    metrics: Metrics,
    in_flight: AtomicUsize,
    /// Messages of streams that wait here, run, or become dead letters.
    held: AtomicUsize,
    /// Deliveries by its consumers since these were made, as far as is known here.
    deliveries: AtomicU64,
    redelivered: AtomicU64,
    dead_letters: AtomicU64,
    /// Whether one of these three is not what was last reported.
    streams_changed: AtomicBool,
}

impl Counters {
    /// Counts an invocation that is over.
    pub(crate) fn count(&self, over: &Over) {
        self.metrics.count(over);
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

    /// Counts deliveries by a consumer.
    pub(crate) fn count_deliveries(&self, count: u64) {
        self.deliveries.fetch_add(count, Ordering::Relaxed);
        self.streams_changed.store(true, Ordering::Release);
    }

    /// Counts a message that came although it was delivered before.
    pub(crate) fn count_redelivered(&self) {
        self.redelivered.fetch_add(1, Ordering::Relaxed);
        self.streams_changed.store(true, Ordering::Release);
    }

    /// Counts a dead letter.
    pub(crate) fn count_dead_letter(&self) {
        self.dead_letters.fetch_add(1, Ordering::Relaxed);
        self.streams_changed.store(true, Ordering::Release);
    }

    /// How many invocations and messages of streams are under way.
    fn under_way(&self) -> usize {
        let counts = [&self.in_flight, &self.held];
        counts
            .map(|count| count.load(Ordering::Relaxed))
            .iter()
            .sum()
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
        } else if self.counters.under_way() > 0 {
            WorkloadState::Running
        } else {
            WorkloadState::Warm
        }
    }

    fn ran(&self) -> GoDuration {
        GoDuration(self.counters.metrics.ran())
    }

    /// What is new since the last report, for the metrics subject; `None` where nothing is.
    ///
    /// Counts are since the start, so that a lost report loses nothing; times are of the
    /// invocations since the last one.
    pub(crate) fn report(&self) -> Option<Value> {
        let counters = &self.counters;
        let changed = counters.streams_changed.swap(false, Ordering::Acquire);
        let report = counters.metrics.report(changed)?;
        let mut body = json!(report);
        body["in_flight"] = counters.under_way().into();
        if !self.streams.is_empty() {
            body["deliveries"] = counters.deliveries.load(Ordering::Relaxed).into();
            body["redelivered"] = counters.redelivered.load(Ordering::Relaxed).into();
            body["dead_letters"] = counters.dead_letters.load(Ordering::Relaxed).into();
        }
        Some(body)
    }

    fn metadata(&self) -> Tags {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
        let (calls, errors) = self.counters.metrics.counts();
        let mut tags = Tags::from([
            ("subjects".to_owned(), self.subjects.join(",")),
            ("calls".to_owned(), calls.to_string()),
            ("errors".to_owned(), errors.to_string()),
        ]);
        tags.extend(self.counters.metrics.tags());
        if !self.streams.is_empty() {
            tags.extend([
                ("streams".to_owned(), self.streams.join(",")),
                ("deliveries".to_owned(), count(&self.counters.deliveries)),
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
