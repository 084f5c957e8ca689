//! Ends that nobody asked for: what they must not keep the node from.

use std::time::Duration;

use crate::support::{Bus, LIMIT};
use nex_credentials::Minter;
use nex_node::Node;

/// What a publish takes that finds room.
const AT_ONCE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_node_stops_though_nats_is_gone_and_its_queue_is_full() {
    let mut bus = Bus::start().await;
    let connection = nex_nats::connect(&bus.options()).await.unwrap();
    let client = connection.client().clone();
    let minter = Minter::PassThrough(bus.options().to_data().unwrap());
    let config = Bus::config();
    let store = bus.store(&config);
    let node = Node::start(config, connection, minter, store)
        .await
        .unwrap();

    bus.server.kill();
    let full = async {
        while tokio::time::timeout(AT_ONCE, client.publish("filler", "x".into()))
            .await
            .is_ok()
        {}
    };
    tokio::time::timeout(LIMIT, full).await.unwrap();

    let stopping = node.stop(Duration::from_secs(1));
    tokio::time::timeout(LIMIT, stopping).await.unwrap();
}
