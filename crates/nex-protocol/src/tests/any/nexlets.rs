//! What nexlets and nodes say to each other.

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
};

use super::{
    any_struct, events::workload_error, float, lifecycles, nexlet, node, text, time, workload,
    workloads,
};
use crate::{
    NatsConnectionData,
    registration::{
        EndedWorkload, NexletHeartbeat, NexletSummary, NodeHeartbeat, RegisterRemoteResponse,
        RegisterRequest, RegisterResponse,
    },
};

any_struct!(connection: NatsConnectionData {
    conn_name: text(),
    nats_servers: vec(text(), 0..3),
    nats_user_jwt: text(),
    nats_user_name: text(),
    nats_user_nkey: text(),
    nats_user_password: text(),
    nats_user_seed: text(),
    tls_ca: text(),
    tls_cert: text(),
    tls_first: any::<bool>(),
    tls_key: text(),
});

any_struct!(remote_response: RegisterRemoteResponse {
    assigned_agent_id: nexlet(),
    registration_creds: connection(),
    respond_to: node(),
});

any_struct!(register_request: RegisterRequest {
    description: text(),
    max_workloads: float(),
    name: text(),
    public_xkey: text(),
    register_type: text(),
    start_request_schema: text(),
    supported_lifecycles: lifecycles(),
    tells_ends: any::<bool>(),
    version: text(),
});

any_struct!(register_response: RegisterResponse {
    connection_data: connection(),
    existing_state: btree_map(workload(), workloads::nexlet_start_request(), 0..3),
    message: text(),
    node_id: text(),
    success: any::<bool>(),
});

any_struct!(summary: NexletSummary {
    name: text(),
    start_time: time(),
    state: text(),
    supported_lifecycles: text(),
    workload_type: text(),
    version: text(),
    workload_count: any::<u64>(),
});

any_struct!(ended: EndedWorkload { id: workload(), error: option::of(workload_error()), refused: any::<bool>() });

any_struct!(heartbeat: NexletHeartbeat {
    data: text(),
    ended: vec(ended(), 0..3),
    summary: summary(),
});

any_struct!(node_heartbeat: NodeHeartbeat { registrations: text() });
