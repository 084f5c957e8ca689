//! What is published about nodes, nexlets and workloads: `$NEX.FEED.<from>.events.<NAME>`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Tags,
    ids::{InvalidId, Namespace, NexletId, NodeId, WorkloadId},
    ingress::{INGRESS_EVENT, IngressMessage},
    lenient::{null_default, null_time},
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
    /// A node that drained takes work again. Extension, named after the other.
    NodeLameduckCleared(NodeId),
    /// A nexlet of a node can run workloads.
    NexletStarted(NodeId, NexletStarted),
    /// A nexlet of a node is gone.
    NexletStopped(NodeId, NexletStopped),
    /// The nexlets of a node were told to drain.
    NexletLameduckSet(NodeId, NexletLameduckSet),
    /// A workload runs, at its first start and at every restart.
    WorkloadStarted(WorkloadEvent),
    /// A workload has ended.
    WorkloadStopped(WorkloadEvent),
    /// A function has run. Go Nex defines and never publishes it; the name is ours.
    WorkloadTriggered(WorkloadTriggered),
    /// A port of a workload has come or gone.
    Ingress(NexletId, IngressMessage),
}

/// Body of `NODESTARTED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeStarted {
    /// The node.
    pub id: NodeId,
    /// Its name.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// Its nexus.
    #[serde(deserialize_with = "null_default")]
    pub nexus: String,
    /// Its tags.
    #[serde(deserialize_with = "null_default")]
    pub tags: Tags,
    /// The id of this event's schema.
    #[serde(rename = "type", deserialize_with = "null_default")]
    pub schema: String,
}

/// Body of `NODESTOPPED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeStopped {
    /// The node.
    pub id: NodeId,
}

/// Body of `NODELAMEDUCKSET`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeLameduckSet {
    /// The node.
    pub id: NodeId,
    /// When it ends.
    #[serde(deserialize_with = "null_time")]
    pub time: Timestamp,
}

/// Body of `NODELAMEDUCKCLEARED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeLameduckCleared {
    /// The node.
    pub id: NodeId,
}

/// Body of `AGENTSTARTED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NexletStarted {
    /// The nexlet.
    pub id: NexletId,
    /// Its name.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// The type of workload that it runs.
    #[serde(deserialize_with = "null_default")]
    pub register_type: String,
}

/// Body of `AGENTSTOPPED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NexletStopped {
    /// The nexlet.
    pub id: NexletId,
    /// Its name.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// Why.
    #[serde(deserialize_with = "null_default")]
    pub reason: String,
    /// When.
    #[serde(deserialize_with = "null_time")]
    pub timestamp: Timestamp,
}

/// Body of `AGENTLAMEDUCKSET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NexletLameduckSet {
    /// Whether they drain.
    #[serde(deserialize_with = "null_default")]
    pub success: bool,
}

/// Body of `WORKLOADSTARTED` and `WORKLOADSTOPPED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkloadEvent {
    /// How it failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WorkloadError>,
    /// The workload.
    pub id: WorkloadId,
    /// More about it: `name`, `restarts`, `exit_code`, `signal`.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Tags::is_empty"
    )]
    pub metadata: Tags,
    /// The tenant that owns it.
    pub namespace: Namespace,
    /// The type.
    #[serde(deserialize_with = "null_default")]
    pub workload_type: String,
}

/// How a workload failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkloadError {
    /// The exit code as text, or `-1` where a signal ended it.
    #[serde(deserialize_with = "null_default")]
    pub code: String,
    /// For people; may be empty.
    #[serde(deserialize_with = "null_default")]
    pub message: String,
}

/// Body of `WORKLOADTRIGGERED`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkloadTriggered {
    /// How long the function ran, in milliseconds.
    #[serde(deserialize_with = "null_default")]
    pub duration: f64,
    /// The workload.
    pub id: WorkloadId,
    /// The tenant that owns it.
    pub namespace: Namespace,
}

/// Why an event cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEvent {
    /// Its name is none of the protocol's.
    #[error("unknown event `{0}`")]
    Name(String),
    /// Its subject names no sender of the kind that the name wants.
    #[error("invalid sender of an event")]
    Sender(#[source] InvalidId),
    /// Its body is not of the type that the name wants.
    #[error("failed to decode an event")]
    Body(#[source] serde_json::Error),
}

impl Event {
    /// The name on the wire, in upper case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NodeStarted(_) => "NODESTARTED",
            Self::NodeStopped(_) => "NODESTOPPED",
            Self::NodeLameduckSet(..) => "NODELAMEDUCKSET",
            Self::NodeLameduckCleared(_) => "NODELAMEDUCKCLEARED",
            Self::NexletStarted(..) => "AGENTSTARTED",
            Self::NexletStopped(..) => "AGENTSTOPPED",
            Self::NexletLameduckSet(..) => "AGENTLAMEDUCKSET",
            Self::WorkloadStarted(_) => "WORKLOADSTARTED",
            Self::WorkloadStopped(_) => "WORKLOADSTOPPED",
            Self::WorkloadTriggered(_) => "WORKLOADTRIGGERED",
            Self::Ingress(..) => INGRESS_EVENT,
        }
    }

    /// Where it is published.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let from = match self {
            Self::NodeStarted(event) => event.id.as_str(),
            Self::NodeStopped(node)
            | Self::NodeLameduckSet(node, _)
            | Self::NodeLameduckCleared(node)
            | Self::NexletStarted(node, _)
            | Self::NexletStopped(node, _)
            | Self::NexletLameduckSet(node, _) => node.as_str(),
            Self::WorkloadStarted(event) | Self::WorkloadStopped(event) => event.namespace.as_str(),
            Self::WorkloadTriggered(event) => event.namespace.as_str(),
            Self::Ingress(nexlet, _) => nexlet.as_str(),
        };
        Subject::Event(from.to_owned(), self.name().to_owned())
    }

    /// The JSON body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let body = match self {
            Self::NodeStarted(event) => serde_json::to_vec(event),
            Self::NodeStopped(node) => serde_json::to_vec(&NodeStopped { id: node.clone() }),
            Self::NodeLameduckSet(node, time) => serde_json::to_vec(&NodeLameduckSet {
                id: node.clone(),
                time: *time,
            }),
            Self::NodeLameduckCleared(node) => {
                serde_json::to_vec(&NodeLameduckCleared { id: node.clone() })
            }
            Self::NexletStarted(_, event) => serde_json::to_vec(event),
            Self::NexletStopped(_, event) => serde_json::to_vec(event),
            Self::NexletLameduckSet(_, event) => serde_json::to_vec(event),
            Self::WorkloadTriggered(event) => serde_json::to_vec(event),
            Self::Ingress(_, event) => serde_json::to_vec(event),
            Self::WorkloadStarted(event) | Self::WorkloadStopped(event) => {
                serde_json::to_vec(event)
            }
        };
        body.expect("events are maps of strings and numbers, which always encode")
    }

    /// Reads an event: the two parts of its [`Subject::Event`], and its body.
    ///
    /// # Errors
    /// [`InvalidEvent`] says which of the three is wrong. Peers of later versions may send events
    /// of names unknown here: who only shows events shows those as they are.
    pub fn parse(from: &str, name: &str, body: &[u8]) -> Result<Self, InvalidEvent> {
        let node = || NodeId::new(from).map_err(InvalidEvent::Sender);
        Ok(match name {
            "NODESTARTED" => Self::NodeStarted(read(body)?),
            "NODESTOPPED" => Self::NodeStopped(read::<NodeStopped>(body)?.id),
            "NODELAMEDUCKSET" => {
                let event: NodeLameduckSet = read(body)?;
                Self::NodeLameduckSet(event.id, event.time)
            }
            "NODELAMEDUCKCLEARED" => {
                Self::NodeLameduckCleared(read::<NodeLameduckCleared>(body)?.id)
            }
            "AGENTSTARTED" => Self::NexletStarted(node()?, read(body)?),
            "AGENTSTOPPED" => Self::NexletStopped(node()?, read(body)?),
            "AGENTLAMEDUCKSET" => Self::NexletLameduckSet(node()?, read(body)?),
            "WORKLOADSTARTED" => Self::WorkloadStarted(read(body)?),
            "WORKLOADSTOPPED" => Self::WorkloadStopped(read(body)?),
            "WORKLOADTRIGGERED" => Self::WorkloadTriggered(read(body)?),
            INGRESS_EVENT => {
                let nexlet = NexletId::new(from).map_err(InvalidEvent::Sender)?;
                Self::Ingress(nexlet, read(body)?)
            }
            _ => return Err(InvalidEvent::Name(name.to_owned())),
        })
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, InvalidEvent> {
    serde_json::from_slice(body).map_err(InvalidEvent::Body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_go_are_read() {
        let node = format!("N{}", "A".repeat(55));
        let nexlet = |event| matches!(event, Ok(Event::NexletStopped(..)));
        let body = br#"{"id":"a1","name":"","reason":"","timestamp":"2026-01-02T03:04:05+02:00"}"#;

        assert!(nexlet(Event::parse(&node, "AGENTSTOPPED", body)));
        assert!(matches!(
            Event::parse("tenant", "AGENTSTOPPED", body),
            Err(InvalidEvent::Sender(_))
        ));
        assert!(matches!(
            Event::parse(&node, "AGENTSTOPPED", b"{}"),
            Err(InvalidEvent::Body(_))
        ));
        assert!(matches!(
            Event::parse(&node, "AGENTBORED", body),
            Err(InvalidEvent::Name(_))
        ));
    }

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
