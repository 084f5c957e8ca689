//! What clients ask of nodes.

use super::{namespace, nexlet, node, tags, time, workloads, xkey};
use crate::{
    BidId, Lifecycle,
    control::{
        AuctionRequest, Bid, CloneWorkloadRequest, CloneWorkloadResponse, Declined,
        LameduckRequest, LameduckResponse, Load, NodeInfoRequest, NodeInfoResponse,
        NodeNexletSummary, NodePingRequest, NodePingResponse, NodeState, Reason,
    },
    tests::{messages::Message, samples::nexlets},
};

pub(super) fn all() -> Vec<Message> {
    let mut all = auction();
    all.extend(nodes());
    all
}

fn auction() -> Vec<Message> {
    vec![
        Message::new(
            "auction-request",
            "agent_type auction_id tags",
            "",
            "explain lifecycle",
            &AuctionRequest {
                agent_type: "native".into(),
                auction_id: "fT4k0Y2mQ8bZ1cV6nH3pLw".into(),
                tags: tags(),
                explain: true,
                lifecycle: Some(Lifecycle::Service),
            },
        ),
        Message::new(
            "bid",
            "bidder_id start_request_schema supported_lifecycles xkey",
            "",
            "load node_id",
            &Bid {
                bidder_id: BidId::new("q1W2e3R4t5Y6u7I8o9P0aS").unwrap(),
                start_request_schema: r#"{"type":"object"}"#.into(),
                supported_lifecycles: vec![Lifecycle::Job, Lifecycle::Service],
                xkey: xkey(),
                load: Some(load()),
                node_id: Some(node()),
            },
        ),
        Message::new(
            "declined",
            "declined",
            "",
            "",
            &Declined {
                declined: Reason {
                    code: 404,
                    text: "no nexlet runs `native` workloads".into(),
                },
            },
        ),
    ]
}

fn load() -> Load {
    Load {
        workloads: 3,
        cpu_millis_free: Some(1500),
        memory_bytes_free: Some(1 << 30),
        cached: Some(true),
        score: Some(0.5),
    }
}

fn nodes() -> Vec<Message> {
    vec![
        Message::new(
            "clone-workload-request",
            "namespace new_target_xkey",
            "",
            "",
            &CloneWorkloadRequest {
                namespace: namespace(),
                new_target_xkey: xkey(),
            },
        ),
        Message::new(
            "clone-workload-response",
            "",
            "start_workload_request",
            "",
            &CloneWorkloadResponse {
                start_workload_request: Some(workloads::start()),
            },
        ),
        Message::new(
            "node-ping-request",
            "filter",
            "",
            "tellers",
            &NodePingRequest {
                filter: tags(),
                tellers: Some(3),
            },
        ),
        Message::new(
            "node-ping-response",
            "agent_count node_id start_time state tags version xkey",
            "",
            "peers",
            &NodePingResponse {
                agent_count: 1,
                node_id: node(),
                start_time: time(),
                state: NodeState::Running,
                tags: tags(),
                version: "0.5.0".into(),
                xkey: xkey(),
                peers: Some(vec![node()]),
            },
        ),
        Message::new("node-info-request", "", "", "", &NodeInfoRequest {}),
        Message::new(
            "node-info-response",
            "node_id tags uptime version xkey",
            "node_agent_summaries",
            "",
            &NodeInfoResponse {
                node_agent_summaries: vec![seen()],
                node_id: node(),
                tags: tags(),
                uptime: "2m24.301575422s".into(),
                version: "0.5.0".into(),
                xkey: xkey(),
            },
        ),
        Message::new(
            "node-nexlet-summary",
            "agent_health agent_health_stoplight agent_id agent_last_heartbeat_time agent_summary",
            "",
            "",
            &seen(),
        ),
        Message::new(
            "lameduck-request",
            "delay",
            "tag",
            "cancel",
            &LameduckRequest {
                delay: "1m0s".into(),
                tag: tags(),
                cancel: true,
            },
        ),
        Message::new(
            "lameduck-response",
            "message success",
            "",
            "",
            &LameduckResponse {
                message: "node entering lameduck mode".into(),
                success: true,
            },
        ),
    ]
}

fn seen() -> NodeNexletSummary {
    NodeNexletSummary {
        agent_health: "healthy".into(),
        agent_health_stoplight: "🟢".into(),
        agent_id: nexlet().to_string(),
        agent_last_heartbeat_time: time(),
        agent_summary: nexlets::summary(),
    }
}
