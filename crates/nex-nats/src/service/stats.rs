//! What each endpoint counts.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nex_protocol::{ErrorCode, header_value};
use serde_json::{Value, json};

use super::Endpoint;

/// One endpoint and its counters.
#[derive(Debug)]
pub(super) struct EndpointStats {
    pub(super) endpoint: Endpoint,
    queue_group: String,
    requests: AtomicU64,
    errors: AtomicU64,
    busy_nanos: AtomicU64,
    last_error: Mutex<String>,
}

impl EndpointStats {
    pub(super) fn new(endpoint: Endpoint, queue_group: String) -> Self {
        Self {
            endpoint,
            queue_group,
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
            last_error: Mutex::new(String::new()),
        }
    }

    pub(super) fn received(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, after: Duration) {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.busy_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, code: ErrorCode, text: &str) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let text = format!("{code}:{}", header_value(text));
        *self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Its entry in an answer to `INFO`.
    pub(super) fn info(&self) -> Value {
        json!({
            "name": self.endpoint.name,
            "subject": self.endpoint.subject,
            "queue_group": self.queue_group,
            "metadata": null,
        })
    }

    /// Its entry in an answer to `STATS`.
    pub(super) fn counters(&self) -> Value {
        let requests = self.requests.load(Ordering::Relaxed);
        let busy = self.busy_nanos.load(Ordering::Relaxed);
        let last_error = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        json!({
            "name": self.endpoint.name,
            "subject": self.endpoint.subject,
            "queue_group": self.queue_group,
            "num_requests": requests,
            "num_errors": self.errors.load(Ordering::Relaxed),
            "last_error": *last_error,
            "processing_time": busy,
            "average_processing_time": busy.checked_div(requests).unwrap_or(0),
        })
    }
}
