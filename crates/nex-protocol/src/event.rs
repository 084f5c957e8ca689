//! What is published about nodes, nexlets and workloads: `$NEX.FEED.<from>.events.<NAME>`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Tags,
    ids::{Namespace, NexletId, NodeId, WorkloadId},
    subject::Subject,
};

/// An event, as its sender makes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A node takes requests.
    NodeStarted(NodeStarted),
    /// A node ends.
    NodeStopped(NodeId),
    /// A node drains; it ends at that time.
    NodeLameduckSet(NodeId, Timestamp),
    /// A nexlet of a node can run workloads.
    NexletStarted(NodeId, NexletStarted),
    /// A nexlet of a node is gone.
    NexletStopped(NodeId, NexletStopped),
    /// A workload runs, at its first start and at every restart.
    WorkloadStarted(WorkloadEvent),
    /// A workload has ended.
    WorkloadStopped(WorkloadEvent),
}

/// Body of `NODESTARTED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStarted {
    /// The node.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its nexus.
    pub nexus: String,
    /// Its tags.
    pub tags: Tags,
    /// The id of this event's schema.
    #[serde(rename = "type")]
    pub schema: String,
}

/// Body of `AGENTSTARTED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NexletStarted {
    /// The nexlet.
    pub id: NexletId,
    /// Its name.
    pub name: String,
    /// The type of workload that it runs.
    pub register_type: String,
}

/// Body of `AGENTSTOPPED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NexletStopped {
    /// The nexlet.
    pub id: NexletId,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
    /// When.
    pub timestamp: Timestamp,
}

/// Body of `WORKLOADSTARTED` and `WORKLOADSTOPPED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadEvent {
    /// How it failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WorkloadError>,
    /// The workload.
    pub id: WorkloadId,
    /// More about it: `name`, `restarts`, `exit_code`, `signal`.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub metadata: Tags,
    /// The tenant that owns it.
    pub namespace: Namespace,
    /// The type.
    pub workload_type: String,
}

/// How a workload failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadError {
    /// The exit code as text, or `-1` where a signal ended it.
    pub code: String,
    /// For people; may be empty.
    pub message: String,
}

impl Event {
    /// The name on the wire, in upper case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NodeStarted(_) => "NODESTARTED",
            Self::NodeStopped(_) => "NODESTOPPED",
            Self::NodeLameduckSet(..) => "NODELAMEDUCKSET",
            Self::NexletStarted(..) => "AGENTSTARTED",
            Self::NexletStopped(..) => "AGENTSTOPPED",
            Self::WorkloadStarted(_) => "WORKLOADSTARTED",
            Self::WorkloadStopped(_) => "WORKLOADSTOPPED",
        }
    }

    /// Where it is published.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let from = match self {
            Self::NodeStarted(event) => event.id.as_str(),
            Self::NodeStopped(node)
            | Self::NodeLameduckSet(node, _)
            | Self::NexletStarted(node, _)
            | Self::NexletStopped(node, _) => node.as_str(),
            Self::WorkloadStarted(event) | Self::WorkloadStopped(event) => event.namespace.as_str(),
        };
        Subject::Event(from.to_owned(), self.name().to_owned())
    }

    /// The JSON body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let body = match self {
            Self::NodeStarted(event) => serde_json::to_vec(event),
            Self::NodeStopped(node) => serde_json::to_vec(&serde_json::json!({ "id": node })),
            Self::NodeLameduckSet(node, time) => {
                serde_json::to_vec(&serde_json::json!({ "id": node, "time": time }))
            }
            Self::NexletStarted(_, event) => serde_json::to_vec(event),
            Self::NexletStopped(_, event) => serde_json::to_vec(event),
            Self::WorkloadStarted(event) | Self::WorkloadStopped(event) => {
                serde_json::to_vec(event)
            }
        };
        body.expect("events are maps of strings, which always encode")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_job_reads_as_in_go() {
        let event = Event::WorkloadStopped(WorkloadEvent {
            error: Some(WorkloadError {
                code: "3".into(),
                message: String::new(),
            }),
            id: WorkloadId::new("w1").unwrap(),
            metadata: Tags::new(),
            namespace: Namespace::default_tenant(),
            workload_type: "native".into(),
        });

        assert_eq!(
            event.subject().to_string(),
            "$NEX.FEED.default.events.WORKLOADSTOPPED"
        );
        assert_eq!(
            String::from_utf8(event.body()).unwrap(),
            r#"{"error":{"code":"3","message":""},"id":"w1","namespace":"default","workload_type":"native"}"#
        );
    }
}
