//! All workloads by their ids, and what others may ask of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use nex_protocol::{StartWorkloadRequest, WorkloadId, WorkloadSummary};
use nexlet::Refusal;
use tokio::sync::watch;

use crate::{WORKLOAD_TYPE, finished::Finished, status::Status};

/// Everybody else's end of a workload. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: WorkloadId,
    request: StartWorkloadRequest,
    start_time: Timestamp,
    stop_grace: Duration,
    /// The grace of the shortest stop that was ordered.
    stop_tx: watch::Sender<Option<Duration>>,
    status_rx: watch::Receiver<Status>,
}

impl Handle {
    pub(crate) fn new(
        id: WorkloadId,
        request: StartWorkloadRequest,
        stop_grace: Duration,
        stop_tx: watch::Sender<Option<Duration>>,
        status_rx: watch::Receiver<Status>,
    ) -> Self {
        let start_time = Timestamp::now();
        Self(Arc::new(Shared {
            id,
            request,
            start_time,
            stop_grace,
            stop_tx,
            status_rx,
        }))
    }

    /// A job that ended in an earlier life of the nexlet: a list shows it, and nothing else is left.
    pub(crate) fn finished(finished: Finished) -> Self {
        let (stop_tx, _) = watch::channel(None);
        let (_, status_rx) = watch::channel(finished.status);
        Self(Arc::new(Shared {
            id: finished.id,
            request: finished.request,
            start_time: finished.start_time,
            stop_grace: Duration::ZERO,
            stop_tx,
            status_rx,
        }))
    }

    pub(crate) fn start_time(&self) -> Timestamp {
        self.0.start_time
    }

    pub(crate) fn request(&self) -> &StartWorkloadRequest {
        &self.0.request
    }

    /// Orders a stop with the workload's own grace, or a shorter one. Of several orders the
    /// shortest counts. Answers with the grace that it has.
    pub(crate) fn stop(&self, at_most: Option<Duration>) -> Duration {
        let grace = at_most.map_or(self.0.stop_grace, |most| most.min(self.0.stop_grace));
        self.0.stop_tx.send_if_modified(|ordered| {
            let shorter = ordered.is_none_or(|before| grace < before);
            if shorter {
                *ordered = Some(grace);
            }
            shorter
        });
        grace
    }

    /// Resolves when the workload has ended for good. Cancel safe.
    pub(crate) async fn ended(&self) {
        let mut status_rx = self.0.status_rx.clone();
        // An error means that the owner is gone, and with it the workload.
        status_rx.wait_for(|status| status.end.is_some()).await.ok();
    }

    fn lives(&self) -> bool {
        self.0.status_rx.borrow().end.is_none()
    }

    fn summary(&self) -> WorkloadSummary {
        let status = self.0.status_rx.borrow();
        let request = &self.0.request;
        WorkloadSummary {
            id: self.0.id.clone(),
            metadata: status.metadata(),
            name: request.name.clone(),
            namespace: Some(request.namespace.clone()),
            runtime: "--".to_owned(),
            start_time: self.0.start_time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            tags: request.tags.clone(),
            workload_lifecycle: request.workload_lifecycle.to_string(),
            workload_state: status.state,
            workload_type: WORKLOAD_TYPE.to_owned(),
        }
    }
}

/// All workloads, the ended ones that are still listed too.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<HashMap<WorkloadId, Handle>>);

impl Registry {
    fn handles(&self) -> MutexGuard<'_, HashMap<WorkloadId, Handle>> {
        // Each change is one step, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a workload; refuses an id that is there.
    pub(crate) fn add(&self, handle: Handle) -> Result<(), Refusal> {
        let mut handles = self.handles();
        let id = handle.0.id.clone();
        if handles.contains_key(&id) {
            return Err(Refusal::bad_request(format!(
                "workload `{id}` was started before"
            )));
        }
        handles.insert(id, handle);
        Ok(())
    }

    pub(crate) fn remove(&self, id: &WorkloadId) {
        self.handles().remove(id);
    }

    pub(crate) fn find(&self, id: &WorkloadId) -> Option<Handle> {
        self.handles().get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Handle> {
        self.handles().values().cloned().collect()
    }

    /// How many have not ended.
    pub(crate) fn active(&self) -> usize {
        self.handles().values().filter(|it| it.lives()).count()
    }

    /// What stands in a list.
    pub(crate) fn summaries(&self) -> Vec<WorkloadSummary> {
        self.all().iter().map(Handle::summary).collect()
    }
}
