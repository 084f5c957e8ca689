//! A nexlet whose workloads are entries of a map.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nex_protocol::{Lifecycle, StartWorkloadRequest, Tags, WorkloadId, WorkloadSummary};
use nexlet::{Description, Nexlet, Refusal, Start, Started, Stop, StopError};
use serde_json::json;

/// The type of its workloads.
pub(super) const TYPE: &str = "noop";

/// How many starts there were, over all nexlets of this process.
#[derive(Debug, Default)]
pub(super) struct Starts(AtomicUsize);

impl Starts {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The nexlet.
#[derive(Debug)]
pub(super) struct Noop {
    workloads: Mutex<HashMap<WorkloadId, (WorkloadSummary, StartWorkloadRequest)>>,
    starts: Arc<Starts>,
}

impl Noop {
    pub(super) fn new(starts: Arc<Starts>) -> Self {
        Self {
            workloads: Mutex::default(),
            starts,
        }
    }

    fn workloads(
        &self,
    ) -> MutexGuard<'_, HashMap<WorkloadId, (WorkloadSummary, StartWorkloadRequest)>> {
        self.workloads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nexlet for Noop {
    fn describe(&self) -> Description {
        Description {
            name: "noop".into(),
            workload_type: TYPE.into(),
            version: "1.0.0".into(),
            description: "does nothing".into(),
            lifecycles: vec![Lifecycle::Service],
            max_workloads: 0,
            start_request_schema: json!({
                "type": "object",
                "required": ["uri"],
                "additionalProperties": false,
                "properties": {
                    "uri": { "type": "string" },
                    "argv": { "type": "array", "items": { "type": "string" } },
                },
            }),
        }
    }

    async fn start(&self, start: Start) -> Result<Started, Refusal> {
        let (id, request) = (&start.id, &start.request);
        start.host.workload_started(id, request, Tags::new()).await;
        let name = request.name.clone();
        let entry = (start.summary(), start.request);
        self.workloads().insert(start.id, entry);
        self.starts.0.fetch_add(1, Ordering::Relaxed);
        Ok(Started { name })
    }

    async fn stop(&self, stop: Stop) -> Result<(), StopError> {
        let ended = self.workloads().remove(&stop.id);
        ended.map(drop).ok_or(StopError::NotFound)
    }

    fn list(&self) -> Vec<WorkloadSummary> {
        let workloads = self.workloads();
        workloads
            .values()
            .map(|(summary, _)| summary.clone())
            .collect()
    }

    fn active(&self) -> usize {
        self.workloads().len()
    }

    fn get(&self, id: &WorkloadId) -> Option<StartWorkloadRequest> {
        self.workloads().get(id).map(|(_, request)| request.clone())
    }

    async fn shutdown(&self, _grace: Duration) {
        self.workloads().clear();
    }
}
