//! `PTAGS`, `PING`, `INFO`, `AGENTID`, discovery, and what holds for every request.

use std::time::Duration;

use async_nats::Request;
use nex_protocol::{
    ErrorCode, MAX_CONTROL_REQUEST_BYTES, Subject, Tags,
    control::{NodePingResponse, NodeState},
};
use nex_testkit::eventually;

use crate::support::{Bus, LIMIT, assert_error, body, error, named_node, registration};

#[tokio::test]
async fn discovery_lists_the_endpoints_in_the_order_of_go() {
    let bus = Bus::start().await;
    let mut config = Bus::config();
    config.allow_remote = true;
    let node = bus.node_with(config).await;

    let info: serde_json::Value = body(&bus.ask("$SRV.INFO.nexnode", "").await);

    let endpoints: Vec<(&str, &str, &str)> = info["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|endpoint| {
            let field = |name: &str| endpoint[name].as_str().unwrap();
            (field("name"), field("subject"), field("queue_group"))
        })
        .collect();
    let id = node.id().as_str();
    let own = |text: &str| text.replace("{N}", id);
    let wanted = [
        ("PingPlacementTags", "$NEX.SVC.system.control.PTAGS"),
        ("PingNexus", "$NEX.SVC.system.control.PING"),
        ("PingNode", "$NEX.SVC.system.control.PING.{N}"),
        ("GetNodeInfo", "$NEX.SVC.system.control.INFO.{N}"),
        ("SetLameduck", "$NEX.SVC.system.control.LAMEDUCK.{N}"),
        ("GetAgentIdByName", "$NEX.SVC.system.control.AGENTID.{N}"),
        ("RegisterRemoteAgent", "$NEX.SVC.nexus.agent.RREGISTER"),
        ("RegisterAgent", "$NEX.SVC.{N}.agent.REGISTER.*"),
        ("AuctionRequest", "$NEX.SVC.*.control.AUCTION"),
        ("StopWorkload", "$NEX.SVC.*.control.UNDEPLOY.*"),
        ("AuctionDeployWorkload", "$NEX.SVC.*.control.ADEPLOY.*"),
        ("CloneWorkload", "$NEX.SVC.*.control.CLONE.*"),
        ("NamespacePingRequest", "$NEX.SVC.*.control.WPING"),
    ];
    let wanted = wanted.map(|(name, subject)| (name, own(subject)));
    let group = |name| {
        if name == "RegisterRemoteAgent" {
            "nexus"
        } else {
            id
        }
    };
    let wanted: Vec<(&str, &str, &str)> = wanted
        .iter()
        .map(|(name, subject)| (*name, subject.as_str(), group(*name)))
        .collect();
    assert_eq!(endpoints, wanted);
    assert_eq!(info["version"], "0.5.0");
}

#[tokio::test]
async fn tags_are_told_whatever_the_body() {
    let bus = Bus::start().await;
    let node = bus.node().await;

    let reply = bus.ask("$NEX.SVC.system.control.PTAGS", "\0garbage").await;

    let tags: Tags = body(&reply);
    assert_eq!(tags["region"], "lab");
    assert_eq!(tags["nex.node"], "n1");
    assert_eq!(tags["nex.lameduck"], "false");
    assert_eq!(named_node(&reply).as_deref(), Some(node.id().as_str()));
}

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
async fn a_ping_that_cannot_be_read_is_refused() {
    let bus = Bus::start().await;
    let node = bus.node().await;

    for request in ["", "{}", "garbage", r#"{"filter":{"a":1}}"#] {
        let reply = bus.ask("$NEX.SVC.system.control.PING", request).await;

        assert_error(
            &reply,
            ErrorCode::BadRequest,
            "failed to unmarshal ping request",
        );
        assert_eq!(named_node(&reply).as_deref(), Some(node.id().as_str()));
    }
}

#[tokio::test]
async fn a_ping_for_other_tags_is_met_with_silence() {
    let bus = Bus::start().await;
    let _node = bus.node().await;

    for filter in [r#"{"region":"other"}"#, r#"{"colour":"lab"}"#] {
        let request = format!(r#"{{"filter":{filter}}}"#);
        bus.silent(
            ("$NEX.SVC.system.control.PING", &request),
            ("$NEX.SVC.system.control.PING", r#"{"filter":null}"#),
        )
        .await;
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
async fn a_nexlet_is_found_by_its_name() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    let subject = Subject::NexletIdByName(node.id().clone()).to_string();

    let found = bus.ask(&subject, "echo_nexlet").await;
    assert_eq!(found.payload, nexlet.id.as_str());

    let empty = bus.ask(&subject, "").await;
    assert_error(&empty, ErrorCode::BadRequest, "agent name is required");

    bus.silent((&subject, "stranger"), (&subject, "echo_nexlet"))
        .await;
}

#[tokio::test]
async fn a_request_larger_than_the_limit_is_refused() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let large = "x".repeat(MAX_CONTROL_REQUEST_BYTES + 1);
    let info = Subject::NodeInfo(node.id().clone()).to_string();

    for subject in ["$NEX.SVC.default.control.AUCTION", &info] {
        let reply = bus.ask(subject, large.clone()).await;

        let (code, text, _) = error(&reply);
        assert_eq!(code, ErrorCode::BadRequest);
        assert!(text.contains("262144"), "{text}");
    }
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
