//! What nexlets and nodes say to each other.
#![no_main]

use nex_protocol::{
    NatsConnectionData,
    registration::{
        NexletHeartbeat, NodeHeartbeat, RegisterRemoteRequest, RegisterRemoteResponse,
        RegisterRequest, RegisterResponse,
    },
};

nex_fuzz::messages![
    NatsConnectionData,
    NexletHeartbeat,
    NodeHeartbeat,
    RegisterRemoteRequest,
    RegisterRemoteResponse,
    RegisterRequest,
    RegisterResponse,
];
