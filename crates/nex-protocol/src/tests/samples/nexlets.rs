//! What nexlets and nodes say to each other.

use std::collections::BTreeMap;

use super::{nexlet, node, time, workload, workloads, xkey};
use crate::{
    Lifecycle, NatsConnectionData,
    event::WorkloadError,
    registration::{
        EndedWorkload, NexletHeartbeat, NexletSummary, NodeHeartbeat, RegisterRemoteRequest,
        RegisterRemoteResponse, RegisterRequest, RegisterResponse,
    },
    tests::messages::Message,
    workload::NexletStartWorkloadRequest,
};

pub(super) fn summary() -> NexletSummary {
    NexletSummary {
        name: "my_nexlet".into(),
        start_time: time(),
        state: "running".into(),
        supported_lifecycles: "service,job".into(),
        workload_type: "native".into(),
        version: "1.0.0".into(),
        workload_count: 2,
    }
}

pub(super) fn connection() -> NatsConnectionData {
    NatsConnectionData {
        conn_name: "web".into(),
        nats_servers: vec!["nats://127.0.0.1:4222".into()],
        nats_user_jwt: "a.jwt".into(),
        nats_user_name: "name".into(),
        nats_user_nkey: "a public nkey".into(),
        nats_user_password: "password".into(),
        nats_user_seed: "a seed".into(),
        tls_ca: "/ca.pem".into(),
        tls_cert: "/cert.pem".into(),
        tls_first: true,
        tls_key: "/key.pem".into(),
    }
}

pub(super) fn all() -> Vec<Message> {
    let mut all = registrations();
    all.extend(heartbeats());
    all
}

fn registrations() -> Vec<Message> {
    vec![
        Message::new(
            "nats-connection-data",
            "conn_name nats_servers nats_user_jwt nats_user_name nats_user_nkey \
             nats_user_password nats_user_seed tls_ca tls_cert tls_first tls_key",
            "",
            "",
            &connection(),
        ),
        Message::new(
            "register-remote-request",
            "",
            "",
            "",
            &RegisterRemoteRequest {},
        ),
        Message::new(
            "register-remote-response",
            // Go's decoder does without the credentials; its nexlets do not.
            "assigned_agent_id registration_creds respond_to",
            "",
            "",
            &RegisterRemoteResponse {
                assigned_agent_id: nexlet(),
                registration_creds: connection(),
                respond_to: node(),
            },
        ),
        Message::new(
            "register-request",
            "description max_workloads name public_xkey register_type start_request_schema version",
            "supported_lifecycles",
            "tells_ends",
            &RegisterRequest {
                description: "runs things".into(),
                max_workloads: 10.0,
                name: "my_nexlet".into(),
                public_xkey: xkey(),
                register_type: "native".into(),
                start_request_schema: r#"{"type":"object"}"#.into(),
                supported_lifecycles: vec![Lifecycle::Service, Lifecycle::Function],
                tells_ends: true,
                version: "1.0.0".into(),
            },
        ),
        Message::new(
            "register-response",
            "connection_data existing_state message node_id success",
            "",
            "",
            &RegisterResponse {
                connection_data: connection(),
                existing_state: BTreeMap::from([(
                    workload(),
                    NexletStartWorkloadRequest {
                        request: workloads::start(),
                        workload_creds: connection(),
                        namespace_creds: None,
                        existing: false,
                    },
                )]),
                message: "welcome".into(),
                node_id: node().to_string(),
                success: true,
            },
        ),
    ]
}

fn heartbeats() -> Vec<Message> {
    vec![
        Message::new(
            "nexlet-summary",
            "name start_time state supported_lifecycles type version workload_count",
            "",
            "",
            &summary(),
        ),
        Message::new(
            "nexlet-heartbeat",
            "data summary",
            "",
            "ended",
            &NexletHeartbeat {
                data: r#"{"namespace_count":1}"#.into(),
                ended: vec![EndedWorkload {
                    id: workload(),
                    error: Some(WorkloadError {
                        code: "3".into(),
                        message: String::new(),
                    }),
                    refused: true,
                }],
                summary: summary(),
            },
        ),
        Message::new(
            "node-heartbeat",
            "registrations",
            "",
            "",
            &NodeHeartbeat {
                registrations: format!("{} [native]", nexlet()),
            },
        ),
    ]
}
