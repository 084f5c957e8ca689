//! What a nexlet gets from its runner.

use std::{
    fmt,
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_nats::PublishError;
use bytes::Bytes;
use nex_protocol::{
    Namespace, NexletId, NodeId, StartWorkloadRequest, Subject, Tags, WorkloadId,
    event::{Event, WorkloadError, WorkloadEvent},
    registration::EndedWorkload,
    workload::INTERRUPTED_METADATA,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    ends::{Ends, MAX_ENDS, Memory},
    log::LogWriter,
};

/// How long publishing an event may take while the connection is down. After that the event is
/// given up, with a warning: a workload's life must not hang on the server's.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Feeds, and the NATS client of the nexlet. Cheap to clone.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    client: async_nats::Client,
    node: NodeId,
    nexlet: NexletId,
    changed: Notify,
    ends: Memory,
    /// Cancelled when the nexlet itself ends: what ends with it is to be taken up again.
    closing: CancellationToken,
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
        let ends = Memory::default();
        Self::remembering(client, node, nexlet, CancellationToken::new(), ends)
    }

    /// A host of a nexlet that ends when `closing` is cancelled, and that knows what has ended in
    /// its earlier stays.
    pub(crate) fn remembering(
        client: async_nats::Client,
        node: NodeId,
        nexlet: NexletId,
        closing: CancellationToken,
        ends: Memory,
    ) -> Self {
        Self(Arc::new(Inner {
            client,
            node,
            nexlet,
            changed: Notify::new(),
            ends,
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

    /// Publishes that a workload has ended for good, and tells the node, which then does not restore
    /// it. Where the nexlet ends, the event says that the workload is interrupted, and the node restores
    /// it. Publishes nothing of a workload that is stopped because another nexlet has it.
    pub async fn workload_stopped(
        &self,
        id: &WorkloadId,
        request: &StartWorkloadRequest,
        mut metadata: Tags,
        error: Option<WorkloadError>,
    ) {
        if self.ends().moves_no_longer(id) {
            return self.changed();
        }
        self.tell_end(id, error.as_ref(), false);
        if self.0.closing.is_cancelled() {
            metadata.insert(INTERRUPTED_METADATA.to_owned(), true.to_string());
        }
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
            let ended = EndedWorkload {
                id: id.clone(),
                error: error.cloned(),
                refused,
            };
            self.ends().add(&self.0.node, ended);
        }
    }

    /// Whether a workload has ended here, as far as is remembered. Then the node is told once
    /// more: who asks did not hear of it.
    pub(crate) fn has_ended(&self, id: &WorkloadId) -> bool {
        let ended = self.ends().tell_again(&self.0.node, id);
        if ended {
            self.changed();
        }
        ended
    }

    /// A workload is to be stopped here, and runs on elsewhere.
    pub(crate) fn moves(&self, id: &WorkloadId) {
        self.ends().moves(id);
    }

    /// A workload was not here when it was to be stopped for another nexlet.
    pub(crate) fn moves_no_longer(&self, id: &WorkloadId) {
        self.ends().moves_no_longer(id);
    }

    /// A workload is being started: an earlier refusal of it is out of date.
    pub(crate) fn starts(&self, id: &WorkloadId) {
        self.ends().starts(id);
    }

    /// The nexlet ends although nobody ordered it to: the ends of its workloads are not reported.
    pub(crate) fn close(&self) {
        self.0.closing.cancel();
    }

    /// The node confirms the ends that it has recorded: they are reported until it has.
    pub(crate) fn node_confirms_ends(&self) {
        self.ends().confirms(&self.0.node);
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        // Each change is one step, so a panic elsewhere leaves nothing half done.
        self.0.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ends for a heartbeat, and by what number the node says that it has heard them.
    pub(crate) fn take_ends(&self) -> (u64, Vec<EndedWorkload>) {
        let mut ends = self.ends();
        let (number, taken) = ends.take(Instant::now(), &self.0.node);
        if taken.len() == MAX_ENDS {
            self.changed();
        }
        (number, taken)
    }

    /// The heartbeat of that number was not sent.
    pub(crate) fn untake_ends(&self, number: u64) {
        self.ends().untake(number);
    }

    /// A heartbeat is out.
    pub(crate) fn ends_are_sent(&self) {
        self.ends().sent();
    }

    /// The node has heard the ends in the heartbeat of that number.
    pub(crate) fn ends_are_heard(&self, number: u64) {
        self.ends().heard(number);
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
