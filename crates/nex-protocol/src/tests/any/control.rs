//! What clients ask of nodes.

use proptest::{collection::vec, prelude::*};

use super::{
    any_struct, bid_id, float, lifecycle, lifecycles, maybe, namespace, nexlets, node, tags, text,
    time, workloads,
};
use crate::control::{
    AuctionRequest, Bid, CloneWorkloadRequest, CloneWorkloadResponse, Declined, LameduckRequest,
    LameduckResponse, Load, NodeInfoResponse, NodeNexletSummary, NodePingRequest, NodePingResponse,
    NodeState, Reason,
};

any_struct!(auction_request: AuctionRequest {
    agent_type: text(),
    auction_id: text(),
    tags: tags(),
    explain: any::<bool>(),
    lifecycle: maybe(lifecycle()),
});

any_struct!(bid: Bid {
    bidder_id: bid_id(),
    start_request_schema: text(),
    supported_lifecycles: lifecycles(),
    xkey: text(),
    load: maybe(load()),
    node_id: maybe(node()),
});

any_struct!(load: Load {
    workloads: any::<u64>(),
    cpu_millis_free: any::<Option<u64>>(),
    memory_bytes_free: any::<Option<u64>>(),
    cached: any::<Option<bool>>(),
    score: maybe(float()),
});

any_struct!(reason: Reason { code: any::<u16>(), text: text() });

any_struct!(declined: Declined { declined: reason() });

any_struct!(clone_request: CloneWorkloadRequest {
    namespace: namespace(),
    new_target_xkey: text(),
});

any_struct!(clone_response: CloneWorkloadResponse {
    start_workload_request: maybe(workloads::start_request()),
});

any_struct!(ping_request: NodePingRequest { filter: tags(), tellers: maybe(any::<u32>()) });

fn state() -> impl Strategy<Value = NodeState> {
    prop_oneof![
        Just(NodeState::Starting),
        Just(NodeState::Running),
        Just(NodeState::Lameduck),
        Just(NodeState::Stopping),
        Just(NodeState::Error),
    ]
}

any_struct!(ping_response: NodePingResponse {
    agent_count: any::<u64>(),
    node_id: node(),
    start_time: time(),
    state: state(),
    tags: tags(),
    version: text(),
    xkey: text(),
    peers: maybe(vec(node(), 0..3)),
});

any_struct!(info_response: NodeInfoResponse {
    node_agent_summaries: vec(node_nexlet(), 0..3),
    node_id: node(),
    tags: tags(),
    uptime: text(),
    version: text(),
    xkey: text(),
});

any_struct!(node_nexlet: NodeNexletSummary {
    agent_health: text(),
    agent_health_stoplight: text(),
    agent_id: text(),
    agent_last_heartbeat_time: time(),
    agent_summary: nexlets::summary(),
});

any_struct!(lameduck_request: LameduckRequest {
    delay: text(),
    tag: tags(),
    cancel: any::<bool>(),
});

any_struct!(lameduck_response: LameduckResponse { message: text(), success: any::<bool>() });
