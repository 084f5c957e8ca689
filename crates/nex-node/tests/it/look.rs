//! `PING` and `INFO`, and what holds for every request.

use std::time::Duration;

use async_nats::Request;
use nex_protocol::{
    Subject,
    control::{NodePingResponse, NodeState},
};
use nex_testkit::eventually;

use crate::support::{Bus, LIMIT, body, named_node, registration};

#[tokio::test]
async fn a_ping_tells_who_the_node_is() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    bus.nexlet(node.id()).await;

    let broadcast = "$NEX.SVC.system.control.PING".to_owned();
    let direct = Subject::PingNode(node.id().clone()).to_string();
    for subject in [broadcast, direct] {
        for request in [
            r#"{"filter":null}"#,
            r#"{"filter":{"region":"lab"}}"#,
            "null",
        ] {
            let reply = bus.ask(&subject, request).await;
            let ping: NodePingResponse = body(&reply);

            assert_eq!(&ping.node_id, node.id());
            assert_eq!((ping.agent_count, ping.state), (1, NodeState::Running));
            assert_eq!(ping.peers.as_deref(), Some(&[node.id().clone()][..]));
            assert!(ping.xkey.starts_with('X'), "{}", ping.xkey);
            assert_eq!(named_node(&reply).as_deref(), Some(node.id().as_str()));
        }
    }
}

#[tokio::test]
async fn info_tells_the_nexlets_whatever_the_body() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    let subject = Subject::NodeInfo(node.id().clone()).to_string();

    let info: nex_protocol::control::NodeInfoResponse = body(&bus.ask(&subject, "garbage").await);

    let [summary] = info.node_agent_summaries.as_slice() else {
        panic!("{info:?}");
    };
    assert_eq!(summary.agent_id, nexlet.id.as_str());
    assert_eq!(summary.agent_health, "healthy");
    assert_eq!(summary.agent_health_stoplight, "🟢");
    assert_eq!(summary.agent_summary.workload_type, "echo");
    assert!(info.uptime.ends_with('s'), "{}", info.uptime);
}

#[tokio::test]
async fn other_namespaces_cannot_ask_what_only_system_may() {
    let bus = Bus::start().await;
    let _node = bus.node().await;

    let asked = bus
        .client
        .request("$NEX.SVC.default.control.PING", r#"{"filter":null}"#.into())
        .await;

    let error = asked.unwrap_err();
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn a_node_says_that_it_lives_at_once() {
    let bus = Bus::start().await;
    let mut events = bus.listen("$NEX.FEED.*.events.NODESTARTED").await;
    let mut heartbeats = bus.listen("$NEX.SVC.system.control.HEARTBEAT.*").await;
    let node = bus.node().await;

    let event: serde_json::Value = body(&crate::support::next(&mut events).await);
    let heartbeat = crate::support::next(&mut heartbeats).await;

    assert_eq!(event["id"], node.id().as_str());
    assert_eq!(event["type"], "io.synadia.nex.event.nexnode_started");
    let subject = Subject::NodeHeartbeat(node.id().clone()).to_string();
    assert_eq!(heartbeat.subject.as_str(), subject);
    assert_eq!(heartbeat.payload, r#"{"registrations":""}"#);
}

#[tokio::test]
async fn a_node_survives_a_restart_of_the_server() {
    let mut bus = Bus::start().await;
    let node = bus.node().await;
    bus.nexlet_as(node.id(), registration("echo")).await;

    bus.server.restart();

    // A request that was under way when the server went is lost.
    let lost = Duration::from_millis(200);
    eventually("the node answers again", LIMIT, || async {
        let request = Request::new()
            .payload(r#"{"filter":null}"#.into())
            .timeout(Some(lost));
        let asked = bus
            .client
            .send_request("$NEX.SVC.system.control.PING", request);
        asked.await.map(|reply| body::<NodePingResponse>(&reply))
    })
    .await;
}
