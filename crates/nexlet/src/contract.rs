//! What a nexlet author implements, and the types around it.

use std::{error::Error, future::Future, time::Duration};

use nex_protocol::{
    ErrorCode, Lifecycle, Namespace, NatsConnectionData, StartWorkloadRequest, Tags, WorkloadId,
    WorkloadState, WorkloadSummary, error::WORKLOAD_NOT_FOUND,
};

use crate::{chain::Chain, host::Host};

/// Who a nexlet is; told to the node when it registers.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Its name as a NATS micro service: letters, digits, `-` and `_`.
    pub name: String,
    /// The type of workload that it runs.
    pub workload_type: String,
    /// Its version: SemVer.
    pub version: String,
    /// For people.
    pub description: String,
    /// What it runs. The runner refuses starts of any other lifecycle.
    pub lifecycles: Vec<Lifecycle>,
    /// The most workloads it runs at a time; 0 means no limit. The runner enforces it.
    pub max_workloads: u64,
    /// JSON Schema of its start request, the document inside `run_request`.
    pub start_request_schema: serde_json::Value,
}

/// A program that runs one type of workload.
///
/// Calls come concurrently, and none is ever cancelled: a stop that takes longer than the caller
/// waits is still carried to its end.
pub trait Nexlet: Send + Sync + 'static {
    /// Who it is. Always the same answer.
    fn describe(&self) -> Description;

    /// Starts a workload; answers when it runs, or why it does not.
    ///
    /// The runner has checked that the id is new, that the lifecycle is one of its own, and that
    /// `max_workloads` is not passed. The nexlet tells the world through
    /// [`Host::workload_started`] and [`Host::workload_stopped`].
    fn start(&self, start: Start) -> impl Future<Output = Result<Started, Refusal>> + Send;

    /// Stops a workload; answers when it is dead, and at once where it has already ended.
    fn stop(&self, stop: Stop) -> impl Future<Output = Result<(), StopError>> + Send;

    /// All workloads of all namespaces, also the ended ones that it still remembers; those have
    /// `ended` in their metadata. Must not block.
    fn list(&self) -> Vec<WorkloadSummary>;

    /// How many workloads take a place: all but the ended ones. Each heartbeat asks for it, so a
    /// nexlet with many workloads should count them without making a list. Must not block.
    fn active(&self) -> usize {
        self.list().iter().filter(|it| is_active(it)).count()
    }

    /// The start request of a workload, with its final name. Must not block.
    fn get(&self, id: &WorkloadId) -> Option<StartWorkloadRequest>;

    /// Stops every workload; answers when all are dead. `grace` bounds each one's own grace.
    fn shutdown(&self, grace: Duration) -> impl Future<Output = ()> + Send;
}

/// Whether a workload takes a place: everything that has not ended.
pub(crate) fn is_active(workload: &WorkloadSummary) -> bool {
    workload.workload_state != WorkloadState::Stopped && !workload.metadata.contains_key("ended")
}

/// One workload to start.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its id.
    pub id: WorkloadId,
    /// What was asked for.
    pub request: StartWorkloadRequest,
    /// Credentials of this workload alone.
    pub credentials: NatsConnectionData,
    /// Credentials with the rights of its namespace; not every node sends them.
    pub namespace_credentials: Option<NatsConnectionData>,
    /// Whether it ran before and is taken up again after a restart of the node.
    pub existing: bool,
    /// Feeds, and the NATS client of the nexlet.
    pub host: Host,
}

impl Start {
    /// What a list shows of this workload from now on: it runs, since this moment.
    #[must_use]
    pub fn summary(&self) -> WorkloadSummary {
        let now = jiff::Timestamp::now();
        WorkloadSummary {
            id: self.id.clone(),
            metadata: Tags::new(),
            name: self.request.name.clone(),
            namespace: Some(self.request.namespace.clone()),
            runtime: "--".to_owned(),
            start_time: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            tags: self.request.tags.clone(),
            workload_lifecycle: self.request.workload_lifecycle.to_string(),
            workload_state: WorkloadState::Running,
            workload_type: self.request.workload_type.clone(),
        }
    }
}

/// A workload that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its final name: that of the request, or one from [`made_up_name`](crate::made_up_name).
    pub name: String,
}

/// Why a workload was not started. `Display` is the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// The code on the wire.
    pub code: ErrorCode,
    /// For the person who asked: one sentence, with the cause.
    pub text: String,
    /// The next step, where there is one. The text ends with it too.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal with any code.
    #[must_use]
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            hint: None,
        }
    }

    /// Returns the refusal with a next step, which becomes the end of the text too: callers of older versions, and of
    /// Go, show the text alone.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        self.text = format!("{}; {hint}", self.text);
        self.hint = Some(hint);
        self
    }

    /// The request asks for something impossible.
    #[must_use]
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, text)
    }

    /// Something that the request names does not exist.
    #[must_use]
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, text)
    }

    /// No capacity at the moment; another node may have some.
    #[must_use]
    pub fn busy(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::Busy, text)
    }

    /// A fault of this side, with all its causes.
    #[must_use]
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        Self::new(ErrorCode::Internal, Chain(error).to_string())
    }
}

/// One workload to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Its id.
    pub id: WorkloadId,
    /// The tenant that owns it; the runner has checked that.
    pub namespace: Namespace,
    /// Whether what it would find again after another start is to go too.
    pub purge: bool,
}

/// Why a workload was not stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// There is none with this id. The text is fixed by the wire protocol.
    #[error("{WORKLOAD_NOT_FOUND}")]
    NotFound,
    /// It could not be ended.
    #[error("{0}")]
    StillAlive(String),
}
