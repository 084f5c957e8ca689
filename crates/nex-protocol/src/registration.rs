//! What nexlets and nodes say to each other, beside the workload messages.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    connection::NatsConnectionData,
    event::WorkloadError,
    ids::{NexletId, NodeId, WorkloadId},
    lenient::{null_default, null_time},
    workload::{Lifecycle, NexletStartWorkloadRequest},
};

/// A nexlet introduces itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RegisterRequest {
    /// For people.
    #[serde(deserialize_with = "null_default")]
    pub description: String,
    /// The most workloads it runs at a time; 0 means no limit. A float, as in Go.
    #[serde(deserialize_with = "null_default")]
    pub max_workloads: f64,
    /// Its name as a NATS micro service: letters, digits, `-` and `_`.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// Its public curve key; may be empty.
    #[serde(deserialize_with = "null_default")]
    pub public_xkey: String,
    /// The type of workload that it runs.
    #[serde(deserialize_with = "null_default")]
    pub register_type: String,
    /// JSON Schema of its start request, as text.
    #[serde(deserialize_with = "null_default")]
    pub start_request_schema: String,
    /// What it runs.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub supported_lifecycles: Vec<Lifecycle>,
    /// Whether its heartbeats tell of workloads that have ended. A node watches the events of one
    /// that does not. Ours; a Go nexlet does not.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub tells_ends: bool,
    /// Its version: SemVer.
    #[serde(deserialize_with = "null_default")]
    pub version: String,
}

/// A node's answer to a registration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RegisterResponse {
    /// The credentials to work with from now on.
    #[serde(deserialize_with = "null_default")]
    pub connection_data: NatsConnectionData,
    /// Workloads to take up again.
    #[serde(deserialize_with = "null_default")]
    pub existing_state: BTreeMap<WorkloadId, NexletStartWorkloadRequest>,
    /// Empty, or why not.
    #[serde(deserialize_with = "null_default")]
    pub message: String,
    /// The node; empty in a refusal.
    #[serde(deserialize_with = "null_default")]
    pub node_id: String,
    /// Whether it is registered.
    #[serde(deserialize_with = "null_default")]
    pub success: bool,
}

/// A remote nexlet looks for a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RegisterRemoteRequest {}

/// A node's answer to a remote nexlet that looks for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RegisterRemoteResponse {
    /// The id to register under.
    pub assigned_agent_id: NexletId,
    /// Credentials for the registration alone. Always sent: a Go nexlet crashes without them.
    #[serde(default, deserialize_with = "null_default")]
    pub registration_creds: NatsConnectionData,
    /// The node that will take the registration.
    pub respond_to: NodeId,
}

/// What a nexlet is doing. On the wire it is free text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NexletState {
    /// Not ready yet.
    Starting,
    /// Takes work; the only state in which a node bids with it.
    Running,
    /// Drains.
    Lameduck,
    /// Ends.
    Stopping,
    /// Failed.
    Error,
}

impl NexletState {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Lameduck => "lameduck",
            Self::Stopping => "stopping",
            Self::Error => "error",
        }
    }
}

/// Who a nexlet is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NexletSummary {
    /// Its name.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// When it started.
    #[serde(deserialize_with = "null_time")]
    pub start_time: Timestamp,
    /// A word of [`NexletState`] by convention.
    #[serde(deserialize_with = "null_default")]
    pub state: String,
    /// Lifecycles joined by commas.
    #[serde(deserialize_with = "null_default")]
    pub supported_lifecycles: String,
    /// The type of workload that it runs.
    #[serde(rename = "type", deserialize_with = "null_default")]
    pub workload_type: String,
    /// Its version.
    #[serde(deserialize_with = "null_default")]
    pub version: String,
    /// How many workloads it runs.
    #[serde(deserialize_with = "null_default")]
    pub workload_count: u64,
}

impl NexletSummary {
    /// What stands where no heartbeat came yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            name: String::new(),
            start_time: crate::control::zero_time(),
            state: String::new(),
            supported_lifecycles: String::new(),
            workload_type: String::new(),
            version: String::new(),
            workload_count: 0,
        }
    }
}

impl Default for NexletSummary {
    fn default() -> Self {
        Self::unknown()
    }
}

/// A workload that has ended, or could not be taken up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EndedWorkload {
    /// The workload.
    pub id: WorkloadId,
    /// How it failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WorkloadError>,
    /// Whether it did not start when the node handed it back: then it may be tried again.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub refused: bool,
}

/// A nexlet says that it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NexletHeartbeat {
    /// Free text.
    #[serde(deserialize_with = "null_default")]
    pub data: String,
    /// Workloads that have ended for good since the heartbeat before. Ours.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ended: Vec<EndedWorkload>,
    /// Who it is.
    #[serde(deserialize_with = "null_default")]
    pub summary: NexletSummary,
}

/// A node says that it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeHeartbeat {
    /// `<nexlet> [<type>]`, joined by `, `.
    #[serde(deserialize_with = "null_default")]
    pub registrations: String,
}

impl NodeHeartbeat {
    /// Whether that nexlet is registered with the node.
    #[must_use]
    pub fn names(&self, nexlet: &NexletId) -> bool {
        let mut entries = self.registrations.split(", ");
        entries.any(|entry| {
            let id = entry.split_once(' ').map_or(entry, |(id, _type)| id);
            id == nexlet.as_str()
        })
    }
}

/// The environment by which a node starts a local nexlet. All are set, empty where unknown.
pub mod env {
    /// Servers joined by commas.
    pub const SERVERS: &str = "NEX_AGENT_NATS_SERVERS";
    /// Seed of the registration user.
    pub const SEED: &str = "NEX_AGENT_NATS_USER_SEED";
    /// Standard base64 of the registration user's JWT.
    pub const B64_JWT: &str = "NEX_AGENT_NATS_B64_JWT";
    /// User name.
    pub const USER: &str = "NEX_AGENT_NATS_USER";
    /// Password.
    pub const PASSWORD: &str = "NEX_AGENT_NATS_PASSWORD";
    /// Public nkey of the user.
    pub const NKEY: &str = "NEX_AGENT_NATS_USER_NKEY";
    /// The node.
    pub const NODE_ID: &str = "NEX_AGENT_NODE_ID";
    /// The id to register under.
    pub const ASSIGNED_ID: &str = "NEX_AGENT_ASSIGNED_ID";
    /// The file of the servers' private CA. Like the other files for TLS ours, set only where there
    /// is one; the Go SDK does not read it.
    pub const TLS_CA: &str = "NEX_AGENT_NATS_TLS_CA";
    /// The file of the client's certificate.
    pub const TLS_CERT: &str = "NEX_AGENT_NATS_TLS_CERT";
    /// The file of the certificate's key.
    pub const TLS_KEY: &str = "NEX_AGENT_NATS_TLS_KEY";
    /// `true` where the handshake comes before the server's first line.
    pub const TLS_FIRST: &str = "NEX_AGENT_NATS_TLS_FIRST";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_registration_is_read() {
        let body = r#"{"description":"runs things","max_workloads":1e+21,"name":"my_nexlet","public_xkey":"","register_type":"native","start_request_schema":"{}","version":"1.0.0"}"#;
        let read: RegisterRequest = serde_json::from_str(body).unwrap();
        assert!(read.supported_lifecycles.is_empty() && read.max_workloads > 0.0);
    }

    #[test]
    fn a_go_heartbeat_is_read() {
        let body = r#"{"data":"","summary":{"name":"n","start_time":"2026-01-02T03:04:05.123456789-07:00","state":"running","supported_lifecycles":"service,job","type":"native","version":"1.0.0","workload_count":0}}"#;
        let read: NexletHeartbeat = serde_json::from_str(body).unwrap();
        assert_eq!(read.summary.workload_type, "native");
    }

    #[test]
    fn a_heartbeat_names_registered_nexlets() {
        let names = |registrations: &str, nexlet: &str| {
            let registrations = registrations.to_owned();
            NodeHeartbeat { registrations }.names(&NexletId::new(nexlet).unwrap())
        };
        assert!(names("a1 [native], b2 [js]", "a1") && names("a1 [native], b2 [js]", "b2"));
        assert!(!names("a1 [native], b2 [js]", "a") && !names("a1 [native]", "native"));
        assert!(!names("", "a1"));
    }

    #[test]
    fn a_refusal_has_all_that_go_requires() {
        let sent = serde_json::to_value(RegisterResponse {
            connection_data: NatsConnectionData::default(),
            existing_state: BTreeMap::new(),
            message: "no".into(),
            node_id: String::new(),
            success: false,
        })
        .unwrap();
        for key in [
            "connection_data",
            "existing_state",
            "message",
            "node_id",
            "success",
        ] {
            assert!(sent.get(key).is_some(), "{key}");
        }
    }
}
