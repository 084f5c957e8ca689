//! What the tasks of a runner share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use nex_protocol::{
    ErrorCode, Lifecycle, WorkloadId, WorkloadSummary,
    registration::{NexletState, NexletSummary},
};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{Route, Stay};
use crate::{
    contract::{Description, Nexlet, Refusal, Started, is_active},
    host::Host,
};

/// How many workloads are started at a time; more wait.
const STARTS_AT_A_TIME: usize = 64;
/// How many starts may be under way or waiting; more are refused.
const MAX_STARTS: usize = 1024;

pub(super) struct Shared<N> {
    pub(super) nexlet: Arc<N>,
    pub(super) description: Description,
    pub(super) host: Host,
    /// Way of a remote nexlet to NATS.
    pub(super) route: Option<Route>,
    /// Below this subject the node says which heartbeats with ends it has heard.
    pub(super) heard: String,
    pub(super) start_permits: Semaphore,
    /// Cancelled when requests are no longer taken; then every task ends.
    pub(super) ended: CancellationToken,
    started_at: Timestamp,
    inner: Mutex<Inner>,
}

struct Inner {
    state: NexletState,
    /// The starts that are under way or waiting, each with its outcome to come.
    starting: HashMap<WorkloadId, UnderWay>,
}

impl<N: Nexlet> Shared<N> {
    pub(super) fn new(
        nexlet: Arc<N>,
        description: Description,
        host: Host,
        route: Option<Route>,
    ) -> Self {
        Self {
            nexlet,
            description,
            heard: host.client().new_inbox(),
            host,
            route,
            start_permits: Semaphore::new(STARTS_AT_A_TIME),
            ended: CancellationToken::new(),
            started_at: Timestamp::now(),
            inner: Mutex::new(Inner {
                state: NexletState::Running,
                starting: HashMap::new(),
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is one step, so a panic elsewhere leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on to a later state and tells the node. A nexlet never goes back to an earlier one.
    pub(super) fn set_state(&self, state: NexletState) {
        let mut inner = self.inner();
        if inner.state != NexletState::Stopping {
            inner.state = state;
        }
        drop(inner);
        self.host.changed();
    }

    /// Takes no more workloads, if none runs and none is being started. Answers how the stay with
    /// the node ends then: a nexlet that was told to drain is spent, and of no use to another node.
    pub(super) fn leave(&self) -> Option<Stay> {
        let mut inner = self.inner();
        // With the lock held: a start that begins after it finds the new state.
        if !inner.starting.is_empty() || self.nexlet.active() > 0 {
            return None;
        }
        let drained = inner.state == NexletState::Lameduck;
        inner.state = NexletState::Stopping;
        Some(if drained { Stay::Ended } else { Stay::NodeGone })
    }

    /// Whether it was told to drain.
    pub(super) fn drains(&self) -> bool {
        self.inner().state == NexletState::Lameduck
    }

    /// Refuses new workloads in any other state than running.
    pub(super) fn check_running(&self) -> Result<(), Refusal> {
        match self.inner().state {
            NexletState::Running => Ok(()),
            NexletState::Lameduck => Err(Refusal::busy("this nexlet drains")),
            _ => Err(Refusal::busy("this nexlet ends")),
        }
    }

    /// Who this nexlet is now.
    pub(super) fn summary(&self) -> NexletSummary {
        let lifecycles: Vec<&str> = self
            .description
            .lifecycles
            .iter()
            .map(|lifecycle| lifecycle.as_str())
            .collect();
        NexletSummary {
            name: self.description.name.clone(),
            start_time: self.started_at,
            state: self.inner().state.as_str().to_owned(),
            supported_lifecycles: lifecycles.join(","),
            workload_type: self.description.workload_type.clone(),
            version: self.description.version.clone(),
            workload_count: self.nexlet.active() as u64,
        }
    }

    /// Takes an id for a start, until the claim is dropped.
    pub(super) fn claim(
        self: &Arc<Self>,
        id: &WorkloadId,
        lifecycle: Lifecycle,
    ) -> Result<Claim<N>, ClaimError> {
        if !self.description.lifecycles.contains(&lifecycle) {
            let workload_type = &self.description.workload_type;
            let text = format!("`{workload_type}` workloads have no lifecycle `{lifecycle}`");
            return Err(Refusal::bad_request(text).into());
        }
        self.check_running()?;
        // Asked with the lock held: a start leaves `starting` only after it has failed, or after the
        // nexlet knows its workload.
        let mut inner = self.inner();
        if let Some(under_way) = inner.starting.get(id) {
            return Err(ClaimError::UnderWay(under_way.clone()));
        }
        if self.nexlet.get(id).is_some() {
            return Err(ClaimError::Known(id.clone()));
        }
        if inner.starting.len() >= MAX_STARTS {
            return Err(Refusal::busy("too many workloads are being started").into());
        }
        let max = self.description.max_workloads;
        if max > 0 && count(&self.nexlet.list(), &inner.starting) >= max {
            let text = format!("this nexlet runs {max} workloads, its limit");
            return Err(Refusal::busy(text).into());
        }
        let (outcome_tx, outcome_rx) = watch::channel(None);
        let under_way = UnderWay {
            id: id.clone(),
            outcome_rx,
        };
        inner.starting.insert(id.clone(), under_way);
        Ok(Claim {
            shared: Arc::clone(self),
            id: id.clone(),
            outcome_tx,
        })
    }
}

impl<N: Nexlet> Shared<N> {
    /// The start of that workload, where it is under way.
    pub(super) fn under_way(&self, id: &WorkloadId) -> Option<UnderWay> {
        self.inner().starting.get(id).cloned()
    }
}

/// Workloads that run or are about to, each once.
fn count(known: &[WorkloadSummary], starting: &HashMap<WorkloadId, UnderWay>) -> u64 {
    let running = known
        .iter()
        .filter(|w| is_active(w) && !starting.contains_key(&w.id));
    (running.count() + starting.len()) as u64
}

/// Why an id cannot be started.
#[derive(Debug)]
pub(super) enum ClaimError {
    /// The workload runs here.
    Known(WorkloadId),
    /// Another request starts it; the outcome is open.
    UnderWay(UnderWay),
    /// It ran here, and has ended.
    Over(WorkloadId),
    /// Anything else.
    Refused(Refusal),
}

impl From<Refusal> for ClaimError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ClaimError> for Refusal {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Known(id) | ClaimError::UnderWay(UnderWay { id, .. }) => {
                Self::bad_request(format!("workload `{id}` was started before"))
            }
            ClaimError::Over(id) => Self::bad_request(format!("workload `{id}` has ended here")),
            ClaimError::Refused(refusal) => refusal,
        }
    }
}

/// A start that another request has begun.
#[derive(Clone, Debug)]
pub(super) struct UnderWay {
    id: WorkloadId,
    outcome_rx: watch::Receiver<Option<Result<Started, Refusal>>>,
}

impl UnderWay {
    /// Waits for the outcome of the start.
    ///
    /// # Errors
    /// The refusal of the nexlet, or a failure of the start itself.
    pub(super) async fn outcome(mut self) -> Result<Started, Refusal> {
        let outcome = match self.outcome_rx.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_dropped) => None,
        };
        outcome.unwrap_or_else(|| {
            let text = format!("the start of workload `{}` has failed", self.id);
            Err(Refusal::new(ErrorCode::Internal, text))
        })
    }
}

/// An id that is being started.
pub(super) struct Claim<N: Nexlet> {
    shared: Arc<Shared<N>>,
    id: WorkloadId,
    outcome_tx: watch::Sender<Option<Result<Started, Refusal>>>,
}

impl<N: Nexlet> Claim<N> {
    /// Ends the start, and reports its outcome to the requests that wait for it.
    pub(super) fn finish(self, outcome: Result<Started, Refusal>) {
        self.outcome_tx.send_replace(Some(outcome));
    }
}

impl<N: Nexlet> Drop for Claim<N> {
    fn drop(&mut self) {
        self.shared.inner().starting.remove(&self.id);
        self.shared.host.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Start, Started, Stop, StopError};
    use nex_protocol::{NexletId, NodeId, StartWorkloadRequest};
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    /// Runs as many workloads as it is told.
    struct Counted(AtomicUsize);

    impl Nexlet for Counted {
        fn describe(&self) -> Description {
            Description {
                name: "counted".into(),
                workload_type: "counted".into(),
                version: "1.0.0".into(),
                description: String::new(),
                lifecycles: vec![Lifecycle::Job],
                max_workloads: 0,
                start_request_schema: serde_json::json!({}),
            }
        }

        async fn start(&self, _start: Start) -> Result<Started, Refusal> {
            Err(Refusal::busy("never"))
        }

        async fn stop(&self, _stop: Stop) -> Result<(), StopError> {
            Err(StopError::NotFound)
        }

        fn list(&self) -> Vec<WorkloadSummary> {
            Vec::new()
        }

        fn active(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }

        fn get(&self, _id: &WorkloadId) -> Option<StartWorkloadRequest> {
            None
        }

        async fn shutdown(&self, _grace: Duration) {}
    }

    #[tokio::test]
    async fn a_nexlet_with_work_does_not_leave() {
        let nowhere = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let client = nowhere.connect("nats://127.0.0.1:1").await.unwrap();
        let node = NodeId::new(format!("N{}", "A".repeat(55))).unwrap();
        let host = Host::new(client, node, NexletId::mint());
        let nexlet = Arc::new(Counted(AtomicUsize::new(1)));
        let description = nexlet.describe();
        let shared = Arc::new(Shared::new(Arc::clone(&nexlet), description, host, None));
        assert_eq!(shared.leave(), None);

        nexlet.0.store(0, Ordering::Relaxed);
        let id = WorkloadId::new("w1").unwrap();
        let claim = shared.claim(&id, Lifecycle::Job).unwrap();
        assert_eq!(shared.leave(), None);
        shared.check_running().unwrap();

        drop(claim);
        assert_eq!(shared.leave(), Some(Stay::NodeGone));
        shared.check_running().unwrap_err();
    }
}
