//! Nodes that know each other.

use std::time::Duration;

use nex_protocol::{NodeId, Subject, control::NodePingResponse};
use nex_testkit::eventually;

use crate::support::{Bus, LIMIT, body};

async fn peers_are(bus: &Bus, node: &NodeId, wanted: &[&NodeId]) {
    let mut wanted = wanted.to_vec();
    wanted.sort();
    let subject = Subject::PingNode(node.clone()).to_string();
    eventually("the peers are known", LIMIT, || async {
        let ping: NodePingResponse = body(&bus.ask(&subject, r#"{"filter":null}"#).await);
        let peers = ping.peers.unwrap();
        if peers.iter().eq(wanted.iter().copied()) {
            Ok(())
        } else {
            Err(peers)
        }
    })
    .await;
}

#[tokio::test]
async fn nodes_know_each_other_at_once_and_forget_who_leaves() {
    let bus = Bus::start().await;
    let first = bus.node().await;
    let second = bus.node().await;
    let gone = second.id().clone();

    // Well before the second heartbeat of either.
    for node in [&first, &second] {
        peers_are(&bus, node.id(), &[first.id(), second.id()]).await;
    }
    second.stop(Duration::from_secs(1)).await;

    peers_are(&bus, first.id(), &[first.id()]).await;
    assert_ne!(first.id(), &gone);
}

#[tokio::test]
async fn a_go_node_is_known_by_its_heartbeat() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let go = NodeId::new(nkeys::KeyPair::new_server().public_key()).unwrap();

    bus.client
        .publish(
            Subject::NodeHeartbeat(go.clone()).to_string(),
            r#"{"registrations":""}"#.into(),
        )
        .await
        .unwrap();

    peers_are(&bus, node.id(), &[node.id(), &go]).await;
}

/// A Go node sends its first heartbeat ten seconds after its start. It is known before, from its start
/// event and from the registrations of its nexlets.
#[tokio::test]
async fn a_go_node_is_known_before_its_first_heartbeat() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let [started, registered, dead] =
        [(); 3].map(|()| NodeId::new(nkeys::KeyPair::new_server().public_key()).unwrap());
    let event = format!("$NEX.FEED.{started}.events.NODESTARTED");
    let registration = |node: &NodeId| format!("$NEX.SVC.{node}.agent.REGISTER.n1");
    // It answers when it is asked.
    let pings = Subject::PingNode(registered.clone()).to_string();
    let mut pings = bus.client.subscribe(pings).await.unwrap();
    let client = bus.client.clone();
    let answering = tokio::spawn(async move {
        while let Some(ping) = futures_util::StreamExt::next(&mut pings).await {
            client
                .publish(ping.reply.unwrap(), "{}".into())
                .await
                .unwrap();
        }
    });
    nex_nats::barrier(&bus.client).await.unwrap();

    // A nexlet that has outlived its node proves nothing.
    for subject in [registration(&dead), event, registration(&registered)] {
        bus.client.publish(subject, "{}".into()).await.unwrap();
    }

    peers_are(&bus, node.id(), &[node.id(), &started, &registered]).await;
    answering.abort();
}
