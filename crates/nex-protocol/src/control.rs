//! What clients ask of nodes, beside the workload messages of [`crate::workload`].

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Tags,
    ids::{BidId, Namespace, NodeId},
    lenient::{null_default, null_time},
    registration::NexletSummary,
    workload::{Lifecycle, StartWorkloadRequest},
};

/// Asks all nodes whether they would run a type of workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AuctionRequest {
    /// The type.
    #[serde(deserialize_with = "null_default")]
    pub agent_type: String,
    /// For logs.
    #[serde(deserialize_with = "null_default")]
    pub auction_id: String,
    /// Each must equal a tag of the node.
    #[serde(deserialize_with = "null_default")]
    pub tags: Tags,
    /// Extension: a node that does not bid says why. Never sent unless it is true, because a Go
    /// client takes any reply for a bid.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub explain: bool,
    /// Extension: the lifecycle that will be deployed, so that only nodes bid that can run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
}

/// A node's bid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bid {
    /// The token for the deploy.
    pub bidder_id: BidId,
    /// JSON Schema of the nexlet's start request, as text.
    #[serde(deserialize_with = "null_default")]
    pub start_request_schema: String,
    /// What the nexlet runs; empty where it did not say.
    #[serde(deserialize_with = "null_default")]
    pub supported_lifecycles: Vec<Lifecycle>,
    /// The nexlet's public curve key; may be empty.
    #[serde(deserialize_with = "null_default")]
    pub xkey: String,
    /// Extension: how busy the bidder is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// Extension: the bidder, which hears deploys at `…control.ADEPLOY.<bid>.<node>` too. No other
    /// node hears them there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
}

/// How busy a bidder is. What its system does not tell is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Load {
    /// Workloads on the node, those that are being started included.
    #[serde(default, deserialize_with = "null_default")]
    pub workloads: u64,
    /// Free CPU in thousandths of a core, lately: what was idle of the CPUs that the node may use,
    /// and at most what its control group has left of its quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis_free: Option<u64>,
    /// Free memory in bytes: what the machine can give without swapping, and at most what the
    /// node's control group may still take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes_free: Option<u64>,
    /// Whether the artifact is already there. Our nodes leave it out: an auction does not name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
    /// How well the bidder suits, by its own measure, from 0 for a full node to 1 for an idle one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// Why a node does not bid; sent only to who asked with `explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Declined {
    /// The reason.
    pub declined: Reason,
}

/// A code and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reason {
    /// A number of [`crate::ErrorCode`].
    pub code: u16,
    /// One sentence.
    pub text: String,
}

/// Any reply to an auction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum AuctionReply {
    /// The node bids.
    Bid(Bid),
    /// The node says why it does not.
    Declined(Declined),
}

/// Asks nodes who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodePingRequest {
    /// Only nodes with all these tags answer.
    #[serde(deserialize_with = "null_default")]
    pub filter: Tags,
    /// Extension: how many nodes need to tell their peers: those whose ids come first among the
    /// living. The others send an empty list. Without it all tell them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tellers: Option<u32>,
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Its nexlets are not all there.
    Starting,
    /// It takes work.
    Running,
    /// It drains: takes no more work, ends soon.
    Lameduck,
    /// It ends.
    Stopping,
    /// It failed.
    Error,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Lameduck => "lameduck",
            Self::Stopping => "stopping",
            Self::Error => "error",
        })
    }
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodePingResponse {
    /// Registered nexlets.
    #[serde(deserialize_with = "null_default")]
    pub agent_count: u64,
    /// The node.
    pub node_id: NodeId,
    /// When it started.
    #[serde(deserialize_with = "null_time")]
    pub start_time: Timestamp,
    /// What it is doing.
    pub state: NodeState,
    /// All its tags, `nex.*` included.
    #[serde(deserialize_with = "null_default")]
    pub tags: Tags,
    /// Its version.
    #[serde(deserialize_with = "null_default")]
    pub version: String,
    /// Its public curve key.
    #[serde(deserialize_with = "null_default")]
    pub xkey: String,
    /// Extension: the live nodes that it knows of, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<NodeId>>,
}

/// Asks a node about itself and its nexlets. Nodes read nothing in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeInfoRequest {}

/// A node and its nexlets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeInfoResponse {
    /// Its nexlets.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub node_agent_summaries: Vec<NodeNexletSummary>,
    /// The node.
    pub node_id: NodeId,
    /// All its tags.
    #[serde(deserialize_with = "null_default")]
    pub tags: Tags,
    /// How long it runs, as a Go duration.
    #[serde(deserialize_with = "null_default")]
    pub uptime: String,
    /// Its version.
    #[serde(deserialize_with = "null_default")]
    pub version: String,
    /// Its public curve key.
    #[serde(deserialize_with = "null_default")]
    pub xkey: String,
}

/// How a node sees one of its nexlets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NodeNexletSummary {
    /// `healthy`, `shutting down`, `degraded`, `offline` or `unknown`.
    #[serde(deserialize_with = "null_default")]
    pub agent_health: String,
    /// The same as a coloured dot.
    #[serde(deserialize_with = "null_default")]
    pub agent_health_stoplight: String,
    /// The nexlet.
    #[serde(deserialize_with = "null_default")]
    pub agent_id: String,
    /// Its last heartbeat; year 1 where there was none.
    #[serde(deserialize_with = "null_time")]
    pub agent_last_heartbeat_time: Timestamp,
    /// What the last heartbeat said.
    #[serde(deserialize_with = "null_default")]
    pub agent_summary: NexletSummary,
}

/// Tells a node, or a node's nexlets, to drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LameduckRequest {
    /// How long until the end: a Go duration, parsed by the receiver so that it can say 400.
    #[serde(deserialize_with = "null_default")]
    pub delay: String,
    /// Only nodes with all these tags obey.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Tags::is_empty"
    )]
    pub tag: Tags,
    /// Extension: the node is to take work again, and its end is called off; `delay` is not read.
    /// A Go node would take the order for a first one: never to be sent to one.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub cancel: bool,
}

/// How the order to drain went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LameduckResponse {
    /// For people.
    #[serde(deserialize_with = "null_default")]
    pub message: String,
    /// Whether it drains.
    #[serde(deserialize_with = "null_default")]
    pub success: bool,
}

/// Asks for a workload's start request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CloneWorkloadRequest {
    /// The caller's namespace.
    pub namespace: Namespace,
    /// A public curve key of the caller.
    #[serde(deserialize_with = "null_default")]
    pub new_target_xkey: String,
}

/// The answer to a clone by name. Go Nex defines and never sends it: what is sent is the bare
/// [`StartWorkloadRequest`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CloneWorkloadResponse {
    /// What would start the workload once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_workload_request: Option<StartWorkloadRequest>,
}

/// Reads the zero time of Go, year 1.
#[must_use]
pub fn zero_time() -> Timestamp {
    Timestamp::from_str("0001-01-01T00:00:00Z").expect("year 1 is a valid time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_auction_says_explain_only_when_asked() {
        let mut request = AuctionRequest {
            agent_type: "js".into(),
            auction_id: "a".into(),
            tags: Tags::new(),
            explain: false,
            lifecycle: None,
        };
        assert!(!serde_json::to_string(&request).unwrap().contains("explain"));
        request.explain = true;
        assert!(
            serde_json::to_string(&request)
                .unwrap()
                .contains("\"explain\":true")
        );
    }

    #[test]
    fn a_go_bid_and_a_refusal_are_told_apart() {
        let bid = r#"{"bidder_id":"b","start_request_schema":"{}","supported_lifecycles":null,"xkey":""}"#;
        let declined = r#"{"declined":{"code":404,"text":"no nexlet"}}"#;
        assert!(matches!(
            serde_json::from_str(bid).unwrap(),
            AuctionReply::Bid(_)
        ));
        assert!(matches!(
            serde_json::from_str(declined).unwrap(),
            AuctionReply::Declined(_)
        ));
        assert!(serde_json::from_str::<AuctionReply>("null").is_err());
    }

    #[test]
    fn a_go_ping_reply_is_read() {
        let node = format!("N{}", "A".repeat(55));
        let body = format!(
            r#"{{"agent_count":1,"node_id":"{node}","start_time":"2026-01-02T03:04:05.6+02:00","state":"running","tags":{{"nex.os":"linux"}},"version":"0.4.1","xkey":"X"}}"#
        );
        let read: NodePingResponse = serde_json::from_str(&body).unwrap();
        assert_eq!(read.state, NodeState::Running);
        assert_eq!(read.peers, None);
        assert_eq!(read.start_time.to_string(), "2026-01-02T01:04:05.6Z");
    }

    #[test]
    fn the_zero_time_is_written_as_go_does() {
        assert_eq!(zero_time().to_string(), "0001-01-01T00:00:00Z");
    }
}
