//! What a nexlet gets from its runner.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::PublishError;
use bytes::Bytes;
use nex_protocol::{
    Namespace, NexletId, NodeId, StartWorkloadRequest, Subject, Tags, WorkloadId,
    event::{Event, WorkloadError, WorkloadEvent},
    registration::EndedWorkload,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::log::LogWriter;

/// How long publishing an event may take while the connection is down. After that the event is
/// given up, with a warning: a workload's life must not hang on the server's.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many ends are remembered; about a megabyte.
const MAX_LATEST: usize = 10_000;

/// Feeds, and the NATS client of the nexlet. Cheap to clone.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    client: async_nats::Client,
    node: NodeId,
    nexlet: NexletId,
    changed: Notify,
    ends: Mutex<Ends>,
    /// Cancelled when the nexlet itself ends: what ends with it is to be taken up again.
    closing: CancellationToken,
}

/// Ends of workloads.
#[derive(Default)]
struct Ends {
    /// Those that the node is still to hear of.
    untold: VecDeque<EndedWorkload>,
    /// The latest ones, told or not: a node that was not there may not have heard of them.
    latest: HashMap<WorkloadId, EndedWorkload>,
    /// Their ids, the oldest first.
    order: VecDeque<WorkloadId>,
    /// Those that are stopped here because another nexlet has them: they do not end.
    moved: HashSet<WorkloadId>,
}

impl Ends {
    fn add(&mut self, ended: EndedWorkload) {
        if !ended.refused {
            self.remember(&ended);
        }
        self.untold.push_back(ended);
    }

    fn remember(&mut self, ended: &EndedWorkload) {
        let id = &ended.id;
        if self.latest.insert(id.clone(), ended.clone()).is_none() {
            self.order.push_back(id.clone());
        }
        if self.order.len() > MAX_LATEST
            && let Some(oldest) = self.order.pop_front()
        {
            self.latest.remove(&oldest);
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("node", &self.0.node)
            .field("nexlet", &self.0.nexlet)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// A host on a client. Nexlets get theirs from the runner; tests make one.
    #[must_use]
    pub fn new(client: async_nats::Client, node: NodeId, nexlet: NexletId) -> Self {
        Self::closing_with(client, node, nexlet, CancellationToken::new())
    }

    /// A host of a nexlet that ends when `closing` is cancelled.
    pub(crate) fn closing_with(
        client: async_nats::Client,
        node: NodeId,
        nexlet: NexletId,
        closing: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            client,
            node,
            nexlet,
            changed: Notify::new(),
            ends: Mutex::default(),
            closing,
        }))
    }

    /// The nexlet's own client, with the nexlet's rights.
    #[must_use]
    pub fn client(&self) -> &async_nats::Client {
        &self.0.client
    }

    /// The node that this nexlet belongs to.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.0.node
    }

    /// The nexlet's own id.
    #[must_use]
    pub fn nexlet(&self) -> &NexletId {
        &self.0.nexlet
    }

    /// The largest payload that the server takes, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.0.client.max_payload()
    }

    /// Where the output of a workload goes.
    #[must_use]
    pub fn log(&self, namespace: &Namespace, id: &WorkloadId) -> LogWriter {
        LogWriter::new(&self.0.client, namespace, id)
    }

    /// Publishes metrics of a workload: JSON by convention, what it is about is the nexlet's to
    /// say. Whoever wants to listens to the metrics feed; nothing is kept.
    ///
    /// # Errors
    /// When the connection is closed or the message is larger than the server takes. While the
    /// connection is down it waits for a place in the queue.
    pub async fn metrics(
        &self,
        namespace: &Namespace,
        id: &WorkloadId,
        metrics: impl Into<Bytes>,
    ) -> Result<(), PublishError> {
        let subject = Subject::Metrics(namespace.clone(), id.clone()).to_string();
        self.0.client.publish(subject, metrics.into()).await
    }

    /// Publishes an event, after everything that was published on this host before. A failure is
    /// logged.
    pub async fn event(&self, event: Event) {
        let subject = event.subject().to_string();
        let publishing = self.0.client.publish(subject, event.body().into());
        match tokio::time::timeout(EVENT_TIMEOUT, publishing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(event = event.name(), %error, "event is lost"),
            Err(_elapsed) => warn!(
                event = event.name(),
                "event is lost: NATS takes no messages"
            ),
        }
        self.changed();
    }

    /// Publishes that a workload runs: at its first start and at every restart.
    pub async fn workload_started(
        &self,
        id: &WorkloadId,
        request: &StartWorkloadRequest,
        metadata: Tags,
    ) {
        let event = workload_event(id, request, metadata, None);
        self.event(Event::WorkloadStarted(event)).await;
    }

    /// Publishes that a workload has ended for good, and tells the node, which then does not hand
    /// it back after a restart. Nothing of it, where it is stopped because another nexlet has it.
    pub async fn workload_stopped(
        &self,
        id: &WorkloadId,
        request: &StartWorkloadRequest,
        metadata: Tags,
        error: Option<WorkloadError>,
    ) {
        if self.ends().moved.remove(id) {
            return self.changed();
        }
        self.tell_end(id, error.as_ref(), false);
        let event = workload_event(id, request, metadata, error);
        self.event(Event::WorkloadStopped(event)).await;
    }

    /// Publishes that a workload is not taken up again, and tells the node, which hands it back
    /// later once more.
    pub(crate) async fn workload_refused(
        &self,
        id: &WorkloadId,
        request: &StartWorkloadRequest,
        error: WorkloadError,
    ) {
        self.tell_end(id, Some(&error), true);
        let event = workload_event(id, request, Tags::new(), Some(error));
        self.event(Event::WorkloadStopped(event)).await;
    }

    fn tell_end(&self, id: &WorkloadId, error: Option<&WorkloadError>, refused: bool) {
        if !self.0.closing.is_cancelled() {
            self.ends().add(EndedWorkload {
                id: id.clone(),
                error: error.cloned(),
                refused,
            });
        }
    }

    /// Whether a workload has ended here, as far as is remembered. Then the node is told once
    /// more: who asks did not hear of it.
    pub(crate) fn has_ended(&self, id: &WorkloadId) -> bool {
        let mut ends = self.ends();
        let Some(ended) = ends.latest.get(id).cloned() else {
            return false;
        };
        ends.untold.push_back(ended);
        drop(ends);
        self.changed();
        true
    }

    /// A workload is to be stopped here, and runs on elsewhere.
    pub(crate) fn moves(&self, id: &WorkloadId) {
        self.ends().moved.insert(id.clone());
    }

    /// A workload is here, or was not: what ends from now on is its own end.
    pub(crate) fn moves_no_longer(&self, id: &WorkloadId) {
        self.ends().moved.remove(id);
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        // Each change is one step, so a panic elsewhere leaves nothing half done.
        self.0.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next ends for a heartbeat; more may be left.
    pub(crate) fn take_ends(&self) -> Vec<EndedWorkload> {
        /// Far below the largest message that a server takes.
        const MAX_ENDS: usize = 500;
        let mut ends = self.ends();
        let next = ends.untold.len().min(MAX_ENDS);
        let taken = ends.untold.drain(..next).collect();
        if !ends.untold.is_empty() {
            self.changed();
        }
        taken
    }

    /// Takes ends back whose heartbeat was not sent.
    pub(crate) fn untake_ends(&self, taken: Vec<EndedWorkload>) {
        let mut ends = self.ends();
        for end in taken.into_iter().rev() {
            ends.untold.push_front(end);
        }
    }

    /// Says that the number of workloads may have changed, so that the node hears of it at once.
    /// Events do so by themselves.
    pub fn changed(&self) {
        self.0.changed.notify_one();
    }

    /// Resolves after the next call of [`changed`](Self::changed). Cancel safe.
    pub(crate) async fn wait_changed(&self) {
        self.0.changed.notified().await;
    }
}

fn workload_event(
    id: &WorkloadId,
    request: &StartWorkloadRequest,
    metadata: Tags,
    error: Option<WorkloadError>,
) -> WorkloadEvent {
    WorkloadEvent {
        error,
        id: id.clone(),
        metadata,
        namespace: request.namespace.clone(),
        workload_type: request.workload_type.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_ends_are_forgotten() {
        let mut ends = Ends::default();
        let end = |number: usize, refused| EndedWorkload {
            id: WorkloadId::new(format!("w{number}")).unwrap(),
            error: None,
            refused,
        };

        ends.add(end(MAX_LATEST + 1, true));
        for number in 0..=MAX_LATEST {
            ends.add(end(number, false));
            ends.add(end(number, false));
        }

        let knows = |number| ends.latest.contains_key(&end(number, false).id);
        assert!(!knows(0) && knows(1) && knows(MAX_LATEST));
        // What was not taken up may come back.
        assert!(!knows(MAX_LATEST + 1));
        assert_eq!(ends.order.len(), ends.latest.len());
    }
}
