//! Looks at nodes: one ping, the tags of all, the id of a nexlet.

use nex_client::ClientError;
use nex_protocol::Tags;
use nex_testkit::NatsServer;

use crate::{
    client,
    fake::{Fake, node_id},
};

#[tokio::test]
async fn one_node_can_be_pinged() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A']).named("ay").start(server.url()).await;
    let client = client(server.url(), "system").await;

    let pong = client.ping(&node_id('A')).await.unwrap();
    let absent = client.ping(&node_id('B')).await.unwrap_err();

    assert_eq!(pong.tags["nex.node"], "ay");
    assert!(
        matches!(absent, ClientError::NodeNotFound(ref node) if *node == node_id('B')),
        "{absent:?}"
    );
}

#[tokio::test]
async fn the_tags_of_all_nodes_are_put_together() {
    let server = NatsServer::start();
    let client = client(server.url(), "system").await;
    assert_eq!(client.placement_tags().await.unwrap(), Tags::new());
    let tagged = |fake: Fake, key: &str, value: &str| Fake {
        tags: Tags::from([(key.to_owned(), value.to_owned())]),
        ..fake
    };
    let peers = ['A', 'B', 'G'];
    let (a, b) = (Fake::new('A', &peers), Fake::new('B', &peers));
    let mut running = Vec::new();
    for fake in [
        tagged(a, "region", "lab"),
        tagged(b, "disk", "ssd"),
        tagged(Fake::go('G'), "gpu", "no"),
    ] {
        running.push(fake.start(server.url()).await);
    }

    let tags = client.placement_tags().await.unwrap();

    let all = [("region", "lab"), ("disk", "ssd"), ("gpu", "no")];
    let all = all.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(tags, Tags::from(all));
}

#[tokio::test]
async fn a_nexlet_is_found_by_its_name() {
    let server = NatsServer::start();
    let node = Fake::new('A', &['A']).runs("native");
    let _a = node.start(server.url()).await;
    let client = client(server.url(), "system").await;

    let found = client.nexlet_id(&node_id('A'), "native").await.unwrap();
    let unknown = client.nexlet_id(&node_id('A'), "wasm").await.unwrap();
    let absent = client.nexlet_id(&node_id('B'), "native").await;

    assert_eq!(found.unwrap().as_str(), "native");
    assert_eq!(unknown, None);
    let absent = absent.unwrap_err();
    assert!(matches!(absent, ClientError::NodeNotFound(_)), "{absent:?}");
}
