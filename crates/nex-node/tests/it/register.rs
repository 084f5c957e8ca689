//! `REGISTER`, `RREGISTER`, heartbeats, health.

use std::time::Duration;

use nex_protocol::{
    ErrorCode, NexletId, Subject,
    registration::{NodeHeartbeat, RegisterRemoteResponse, RegisterResponse},
};

use crate::support::{
    Bus, RawNexlet, assert_error, auction, body, error, json, named_node, next, registration,
};

const AUCTION: &str = "$NEX.SVC.default.control.AUCTION";

#[tokio::test]
async fn a_registered_nexlet_gets_credentials_and_is_announced_with_its_first_heartbeat() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let mut events = bus.listen("$NEX.FEED.*.events.AGENTSTARTED").await;
    let id = NexletId::mint();
    let subject = Subject::Register(node.id().clone(), id.clone()).to_string();

    let reply = bus.ask(&subject, json(&registration("echo"))).await;

    let response: RegisterResponse = body(&reply);
    assert!(response.success, "{response:?}");
    assert_eq!(response.node_id, node.id().as_str());
    assert_eq!(response.connection_data.nats_servers, [bus.server.url()]);
    assert!(response.existing_state.is_empty());
    assert_eq!(named_node(&reply).as_deref(), Some(node.id().as_str()));

    let info = bus.info(node.id()).await;
    assert_eq!(info.node_agent_summaries[0].agent_health, "unknown");
    bus.client
        .publish(
            Subject::NexletHeartbeat(node.id().clone(), id.clone()).to_string(),
            r#"{"data":"","summary":{"name":"n","start_time":"2026-01-02T03:04:05Z","state":"running","supported_lifecycles":"job","type":"echo","version":"1.0.0","workload_count":0}}"#.into(),
        )
        .await
        .unwrap();
    let event: serde_json::Value = body(&next(&mut events).await);
    assert_eq!(event["id"], id.as_str());
    assert_eq!(event["register_type"], "echo");
    assert_eq!(bus.bid("echo").await.xkey, "XKEY");
}

#[tokio::test]
async fn a_nexlet_that_beats_unregistered_is_told_at_once() {
    /// Well below the period of the heartbeats that come anyway.
    const SOON: Duration = Duration::from_secs(5);
    let bus = Bus::start().await;
    let node = bus.node().await;
    let subject = Subject::NodeHeartbeat(node.id().clone()).to_string();
    let mut beats = bus.listen(&subject).await;
    let known = bus.nexlet(node.id()).await;
    let outlived = bus.raw_nexlet(node.id(), NexletId::mint(), &registration("echo"));

    outlived.send_beat("running", 0, Vec::new()).await;

    // The one that every node sends at its start may be there too.
    let told = async {
        loop {
            let beat: NodeHeartbeat = body(&next(&mut beats).await);
            if beat.names(&known.id) {
                break beat;
            }
        }
    };
    let told = tokio::time::timeout(SOON, told).await.unwrap();
    assert!(!told.names(&outlived.id), "{told:?}");
}

#[tokio::test]
async fn a_bad_registration_is_refused_in_a_way_that_go_nexlets_read() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let subject = Subject::Register(node.id().clone(), NexletId::mint()).to_string();
    let mut nameless = registration("echo");
    nameless.register_type = String::new();
    let mut no_json = registration("echo");
    no_json.start_request_schema = "{".into();
    let mut no_schema = registration("echo");
    no_schema.start_request_schema = r#"{"type":"nonsense"}"#.into();
    let mut reads_files = registration("echo");
    reads_files.start_request_schema = r#"{"$ref":"file:///etc/passwd"}"#.into();

    for (request, code, text) in [
        (
            "garbage".into(),
            ErrorCode::BadRequest,
            "failed to unmarshal register local agent request",
        ),
        (
            json(&nameless),
            ErrorCode::BadRequest,
            "register_type is required",
        ),
        (
            json(&no_json),
            ErrorCode::BadRequest,
            "failed to unmarshal start request schema",
        ),
        (
            json(&no_schema),
            ErrorCode::Internal,
            "failed to compile schema",
        ),
        (
            json(&reads_files),
            ErrorCode::Internal,
            "failed to compile schema",
        ),
    ] {
        let reply = bus.ask(&subject, request).await;

        assert_error(&reply, code, text);
        let response: RegisterResponse = body(&reply);
        assert_eq!(
            (response.success, response.message),
            (false, error(&reply).2)
        );
    }
    assert!(bus.info(node.id()).await.node_agent_summaries.is_empty());
}

#[tokio::test]
async fn a_known_id_registers_again() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;

    let reply = nexlet.register(&registration("other")).await;

    let response: RegisterResponse = body(&reply);
    assert!(response.success, "{response:?}");
    let info = bus.info(node.id()).await;
    assert_eq!(info.node_agent_summaries.len(), 1);
    // It has to say again that it lives.
    assert_eq!(info.node_agent_summaries[0].agent_health, "unknown");
    nexlet.beat("running", 0, "healthy").await;
    bus.bid("other").await;
    bus.silent((AUCTION, &auction("echo")), (AUCTION, &auction("other")))
        .await;
}

#[tokio::test]
async fn health_follows_what_the_nexlet_says() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet: RawNexlet<'_> = bus.nexlet(node.id()).await;

    nexlet.beat("lameduck", 0, "shutting down").await;
    nexlet.beat("error", 0, "degraded").await;
    nexlet.beat("sleepy", 0, "unknown").await;
    nexlet.beat("running", 0, "healthy").await;
}

#[tokio::test]
async fn a_heartbeat_that_cannot_be_read_changes_nothing() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    let subject = Subject::NexletHeartbeat(node.id().clone(), nexlet.id.clone());

    bus.client
        .publish(subject.to_string(), "garbage".into())
        .await
        .unwrap();
    nexlet.beat("running", 7, "healthy").await;
}

#[tokio::test]
async fn a_remote_nexlet_gets_an_id_where_that_is_allowed() {
    let bus = Bus::start().await;
    let mut config = Bus::config();
    config.allow_remote = true;
    let node = bus.node_with(config).await;
    let subject = "$NEX.SVC.nexus.agent.RREGISTER";

    let reply = bus.ask(subject, "{}").await;
    let response: RegisterRemoteResponse = body(&reply);
    assert_eq!(&response.respond_to, node.id());
    assert_eq!(response.registration_creds.nats_servers, [bus.server.url()]);

    let register = Subject::Register(response.respond_to, response.assigned_agent_id);
    let registered = bus
        .ask(&register.to_string(), json(&registration("echo")))
        .await;
    assert!(body::<RegisterResponse>(&registered).success);

    let empty = bus.ask(subject, "").await;
    assert_error(
        &empty,
        ErrorCode::BadRequest,
        "failed to unmarshal register remote agent request",
    );
}

#[tokio::test]
async fn nobody_takes_a_remote_nexlet_where_it_is_not_allowed() {
    let bus = Bus::start().await;
    let _node = bus.node().await;

    let asked = bus
        .client
        .request("$NEX.SVC.nexus.agent.RREGISTER", "{}".into())
        .await;

    let error = asked.unwrap_err();
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
}
