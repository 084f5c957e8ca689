//! What clients ask of nodes.
#![no_main]

use nex_protocol::control::{
    AuctionReply, AuctionRequest, Bid, CloneWorkloadRequest, CloneWorkloadResponse, Declined,
    LameduckRequest, LameduckResponse, NodeInfoRequest, NodeInfoResponse, NodePingRequest,
    NodePingResponse,
};

nex_fuzz::messages![
    AuctionReply,
    AuctionRequest,
    Bid,
    CloneWorkloadRequest,
    CloneWorkloadResponse,
    Declined,
    LameduckRequest,
    LameduckResponse,
    NodeInfoRequest,
    NodeInfoResponse,
    NodePingRequest,
    NodePingResponse,
];
