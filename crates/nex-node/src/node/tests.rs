//! What takes a look inside: a node whose minter fails for a workload, though its nexlet, which
//! needs credentials too, is there.

use std::time::Duration;

use jiff::Timestamp;
use nex_credentials::{TlsFiles, WorkloadGrant};
use nex_nats::ConnectOptions;
use nex_protocol::{
    BidId, NexusName,
    registration::{NexletHeartbeat, RegisterRequest},
};
use nex_testkit::NatsServer;
use nkeys::{KeyPair, XKey};
use serde_json::{Value, json};

use super::*;
use crate::{nexlet::Registration, state::DiskStore};

fn config() -> Config {
    Config {
        identity: KeyPair::new_server(),
        xkey: XKey::new(),
        name: "n1".into(),
        nexus: NexusName::new("nexus").unwrap(),
        tags: nex_protocol::Tags::new(),
        version: "0.5.0".into(),
        allow_remote: false,
        nexlets: Vec::new(),
        auction_ttl: Config::DEFAULT_AUCTION_TTL,
    }
}

/// Its key cannot sign.
fn broken_minter() -> Minter {
    let account = KeyPair::new_account().public_key();
    Minter::SigningKey {
        signing_key: KeyPair::from_public_key(&account).unwrap(),
        account,
        servers: Vec::new(),
        tls: TlsFiles::default(),
        grant: WorkloadGrant::Narrow,
    }
}

fn register(node: &RunningNode) {
    let id = NexletId::mint();
    let request: RegisterRequest = serde_json::from_value(json!({
        "description": "",
        "max_workloads": 0,
        "name": "echo",
        "public_xkey": "",
        "register_type": "echo",
        "start_request_schema": "{}",
        "version": "1.0.0",
    }))
    .unwrap();
    let heartbeat: NexletHeartbeat = serde_json::from_value(json!({
        "data": "",
        "summary": {
            "name": "echo",
            "start_time": "2026-01-02T03:04:05Z",
            "state": "running",
            "supported_lifecycles": "job",
            "type": "echo",
            "version": "1.0.0",
            "workload_count": 0,
        },
    }))
    .unwrap();
    let registration = Registration {
        id: id.clone(),
        schema: nex_schema::Schema::compile(&request.start_request_schema).unwrap(),
        request,
    };
    let (registry, now) = (&node.shared.registry, Instant::now());
    registry.register(now, registration);
    registry.beat(now, Timestamp::now(), &id, heartbeat);
}

#[tokio::test]
async fn a_deploy_for_which_minting_fails_is_a_fault_of_the_node() {
    let server = NatsServer::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    let options = ConnectOptions::new([server.url()], "test");
    let connection = nex_nats::connect(&options).await.unwrap();
    let (config, folder) = (config(), tempfile::tempdir().unwrap());
    let id = NodeId::new(config.identity.public_key()).unwrap();
    let store = Arc::new(DiskStore::open(folder.path(), &id).unwrap());
    let node = Node::start(config, connection, broken_minter(), store)
        .await
        .unwrap();
    register(&node);
    let bid: BidId = node.shared.place_bid("echo");

    let request = json!({
        "description": "",
        "name": "web",
        "namespace": "default",
        "run_request": "{}",
        "tags": null,
        "workload_lifecycle": "job",
        "workload_type": "echo",
    });
    let subject = format!("$NEX.SVC.default.control.ADEPLOY.{bid}");
    let reply = client.request(subject, request.to_string().into()).await;

    let reply = reply.unwrap();
    let headers = reply.headers.unwrap();
    let header = |name: &str| headers.get(name).unwrap().as_str();
    assert_eq!(header("Nats-Service-Error-Code"), "500");
    assert_eq!(
        header("Nats-Service-Error"),
        "failed to mint workload nats connection"
    );
    let envelope: Value = serde_json::from_slice(&reply.payload).unwrap();
    assert_eq!(envelope["error"], "internal server error");
    node.stop(Duration::ZERO).await;
}
