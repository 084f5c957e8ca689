//! The runner against a real server, with a fake node and a small nexlet.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod support;

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use nex_nats::{Auth, ConnectOptions, read_error};
use nex_protocol::{
    ErrorCode, LogStream, MORE_HEADER, NODE_HEADER, Namespace, NatsConnectionData, NexusName,
    NodeId, ONLY_HEADER, StartWorkloadRequest, Subject, WorkloadId, WorkloadState,
    registration::{NexletHeartbeat, NexletSummary},
    workload::{StartWorkloadResponse, StopWorkloadResponse, parse_list},
};
use nexlet::{End, RemoteError, RunnerConfig};
use serde_json::json;
use support::{Fake, FakeNode, LIMIT, Running, elsewhere, next, order};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

fn id(text: &str) -> WorkloadId {
    WorkloadId::new(text).expect("a valid id")
}

#[tokio::test]
async fn registers_and_beats_until_it_is_cancelled() {
    let node = FakeNode::start().await;
    let mut beats = node
        .subscribe(Subject::NexletHeartbeat(
            node.id.clone(),
            node.nexlet.clone(),
        ))
        .await;
    let running = node.run(Fake::default());

    let registration = node.registration().await;
    assert_eq!(registration.register_type, "fake");
    let beat: NexletHeartbeat = serde_json::from_slice(&next(&mut beats).await.payload).unwrap();
    assert_eq!(beat.summary.state, "running");
    assert_eq!(beat.summary.supported_lifecycles, "service,job");

    // A workload is told at once, long before the next regular heartbeat.
    let started = node.start_workload("w1", json!({})).await;
    assert!(read_error(&started).is_none());
    loop {
        let beat = next(&mut beats).await;
        let beat: NexletHeartbeat = serde_json::from_slice(&beat.payload).unwrap();
        if beat.summary.workload_count == 1 {
            break;
        }
    }

    running.end().await.unwrap();
    loop {
        let beat = next(&mut beats).await;
        let beat: NexletHeartbeat = serde_json::from_slice(&beat.payload).unwrap();
        if beat.summary.state == "stopping" && beat.summary.workload_count == 0 {
            break;
        }
    }
}

#[tokio::test]
async fn credentials_come_to_a_private_inbox() {
    let node = FakeNode::start().await;
    let register = Subject::Register(node.id.clone(), node.nexlet.clone());
    let mut registrations = node.subscribe(register).await;

    let running = node.run(Fake::default());

    let reply = next(&mut registrations).await.reply.unwrap();
    assert!(reply.starts_with("_INBOX.NEX."), "{reply}");
    running.end().await.unwrap();
}

#[tokio::test]
async fn registers_as_soon_as_its_node_is_there() {
    let mut node = FakeNode::start().await;
    node.server.kill();
    let port = ("127.0.0.1", node.server.port());
    let nobody = tokio::net::TcpListener::bind(port).await.unwrap();
    let running = node.run(Fake::default());
    // Its first attempt meets something that is no server.
    drop(nobody.accept().await.unwrap());
    drop(nobody);

    node.server.restart();

    assert_eq!(node.registration().await.name, "fake");
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_refusal_ends_it_with_the_nodes_words() {
    let node = FakeNode::start_refusing("no such type here").await;

    let error = node.run(Fake::default()).ended().await.unwrap_err();

    assert!(
        nexlet::Chain(&error)
            .to_string()
            .contains("no such type here"),
        "{error}"
    );
}

#[tokio::test]
async fn answers_what_a_node_asks() {
    let node = FakeNode::start().await;
    let running = node.run(Fake::default());
    node.registration().await;

    let reply = node.start_workload("w1", json!({})).await;
    let started: StartWorkloadResponse = serde_json::from_slice(&reply.payload).unwrap();
    assert_eq!(started.id, id("w1"));

    let list = node
        .request(
            Subject::QueryWorkloads(node.id.clone()),
            json!({"filter": null, "namespace": "system"}),
        )
        .await;
    let list = parse_list(&list.payload).unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].workload_state, WorkloadState::Running);
    let other = node
        .request(
            Subject::QueryWorkloads(node.id.clone()),
            json!({"filter": null, "namespace": "other"}),
        )
        .await;
    assert_eq!(&other.payload[..], b"[]");

    let known = node
        .request(Subject::GetWorkload(node.id.clone(), id("w1")), json!(null))
        .await;
    let known: StartWorkloadRequest = serde_json::from_slice(&known.payload).unwrap();
    assert_eq!(known.name, started.name);

    let ping = node
        .request(Subject::NexletPingAll(node.id.clone()), json!(null))
        .await;
    let header = ping.headers.unwrap().get("agentId").unwrap().to_string();
    assert_eq!(header, node.nexlet.as_str());
    let summary: NexletSummary = serde_json::from_slice(&ping.payload).unwrap();
    assert_eq!(summary.workload_count, 1);
    running.end().await.unwrap();
}

#[tokio::test]
async fn is_silent_about_a_workload_that_it_does_not_have() {
    let node = FakeNode::start().await;
    let running = node.run(Fake::default());
    node.registration().await;
    let inbox = node.client.new_inbox();
    let mut replies = node.client.subscribe(inbox.clone()).await.unwrap();

    let get = Subject::GetWorkload(node.id.clone(), id("unknown")).to_string();
    node.client
        .publish_with_reply(get, inbox.clone(), "".into())
        .await
        .unwrap();
    // Requests run side by side, so the proof of silence is in the order of the replies of one
    // task after another: a known id is answered, and only that.
    node.start_workload("w1", json!({})).await;
    let get = Subject::GetWorkload(node.id.clone(), id("w1")).to_string();
    node.client
        .publish_with_reply(get, inbox, "".into())
        .await
        .unwrap();

    let reply = next(&mut replies).await;
    let request: StartWorkloadRequest = serde_json::from_slice(&reply.payload).unwrap();
    assert_eq!(request.workload_type, "fake");
    running.end().await.unwrap();
    assert!(
        tokio::time::timeout(
            Duration::from_millis(1),
            futures_util::StreamExt::next(&mut replies)
        )
        .await
        .is_err()
    );
}

#[tokio::test]
async fn refuses_with_code_and_text() {
    let node = FakeNode::start().await;
    let running = node.run(Fake::limited(1));
    node.registration().await;

    let refused = node
        .start_workload("w1", json!({"refuse": "no\r\nway"}))
        .await;
    assert_eq!(
        read_error(&refused).unwrap(),
        (ErrorCode::BadRequest, "no  way".to_owned())
    );
    let body: serde_json::Value = serde_json::from_slice(&refused.payload).unwrap();
    assert_eq!(
        (&body["id"], &body["error"]),
        (&json!("w1"), &json!("no\r\nway"))
    );

    assert!(read_error(&node.start_workload("w2", json!({})).await).is_none());
    let again = node.start_workload("w2", json!({})).await;
    assert_eq!(read_error(&again).unwrap().0, ErrorCode::BadRequest);
    let full = node.start_workload("w3", json!({})).await;
    assert_eq!(read_error(&full).unwrap().0, ErrorCode::Busy);
    let function = node.start_as("w4", "function", json!({})).await;
    assert!(
        read_error(&function)
            .unwrap()
            .1
            .contains("lifecycle `function`")
    );
    let mut order = support::order("job", json!({}));
    order["request"]["name"] = json!("a\nb");
    let start = Subject::StartWorkload(node.id.clone(), node.nexlet.clone(), id("w6"));
    let name = node.request(start, order).await;
    assert_eq!(
        read_error(&name).unwrap().1,
        "invalid workload name `a b`: want no control characters"
    );
    let start = Subject::StartWorkload(node.id.clone(), node.nexlet.clone(), id("w7"));
    let unreadable = node.request(start, json!("no order")).await;
    assert_eq!(read_error(&unreadable).unwrap().0, ErrorCode::BadRequest);
    let body: serde_json::Value = serde_json::from_slice(&unreadable.payload).unwrap();
    assert_eq!((&body["id"], &body["name"]), (&json!("w7"), &json!("")));
    let panic = node.start_workload("w5", json!({"panic": true})).await;
    assert!(read_error(&panic).is_some());
    running.end().await.unwrap();
}

#[tokio::test]
async fn stops_are_answered_at_death_or_when_the_caller_waits_no_longer() {
    let node = FakeNode::start().await;
    let fake = Arc::new(Fake::default());
    let running = node.run_shared(Arc::clone(&fake));
    node.registration().await;
    for workload in ["quick", "slow"] {
        node.start_workload(workload, json!({})).await;
    }
    let stop = |workload: &str, body: serde_json::Value| {
        node.request(Subject::StopWorkload(node.id.clone(), id(workload)), body)
    };
    let read = |message: &async_nats::Message| -> StopWorkloadResponse {
        serde_json::from_slice(&message.payload).unwrap()
    };

    let foreign = stop("quick", json!({"namespace": "other"})).await;
    assert_eq!(
        read_error(&foreign).unwrap(),
        (ErrorCode::Nexlet, "workload not found".to_owned())
    );
    assert!(!read(&foreign).stopped);
    let unknown = stop("nobody", json!({"namespace": "default"})).await;
    assert_eq!(read(&unknown).message, "workload not found");

    let quick = read(&stop("quick", json!({"namespace": "default"})).await);
    assert!(quick.stopped && quick.message.is_empty());

    let early = read(&stop("slow", json!({"namespace": "default", "wait": "10ms"})).await);
    assert!(
        !early.stopped && early.message.contains("10ms"),
        "{early:?}"
    );
    let early = read(&stop("slow", json!({"namespace": "default"})).await);
    assert!(early.stopped && early.message == "stopping", "{early:?}");
    fake.let_go();
    let dead = read(&stop("slow", json!({"namespace": "default", "wait": "20s"})).await);
    assert!(
        dead.stopped || dead.message == "workload not found",
        "{dead:?}"
    );
    running.end().await.unwrap();
}

#[tokio::test]
async fn takes_up_again_what_ran_before() {
    let node = FakeNode::start_with_existing("old").await;
    let running = node.run(Fake::default());
    node.registration().await;

    nex_testkit::eventually("the old workload", LIMIT, || async {
        let list = node
            .request(
                Subject::QueryWorkloads(node.id.clone()),
                json!({"filter": ["old"], "namespace": "default"}),
            )
            .await;
        parse_list(&list.payload).unwrap().len() == 1
    })
    .await;
    running.end().await.unwrap();
}

#[tokio::test]
async fn lameduck_refuses_work_and_ends_workloads_after_the_delay() {
    let node = FakeNode::start().await;
    let running = node.run(Fake::default());
    node.registration().await;
    node.start_workload("w1", json!({})).await;

    let wrong = node
        .request(
            Subject::NexletLameduck(node.id.clone()),
            json!({"delay": "soon"}),
        )
        .await;
    assert_eq!(read_error(&wrong).unwrap().0, ErrorCode::BadRequest);
    let right = node
        .request(
            Subject::NexletLameduck(node.id.clone()),
            json!({"delay": "1ms"}),
        )
        .await;
    assert_eq!(&right.payload[..], br#"{"message":"","success":true}"#);

    let refused = node.start_workload("w2", json!({})).await;
    assert_eq!(read_error(&refused).unwrap().0, ErrorCode::Busy);
    nex_testkit::eventually("no workloads", LIMIT, || async {
        let ping = node
            .request(
                Subject::NexletPing(node.id.clone(), node.nexlet.clone()),
                json!(null),
            )
            .await;
        let summary: NexletSummary = serde_json::from_slice(&ping.payload).unwrap();
        assert_eq!(summary.state, "lameduck");
        summary.workload_count == 0
    })
    .await;
    running.end().await.unwrap();
}

/// A node with 40 workloads, which are more than one message holds, and what it hears to a query
/// with these headers.
async fn query_much(headers: HeaderMap) -> (FakeNode, Running, Subscriber) {
    let node = FakeNode::start_with_config("max_payload: 4096").await;
    let running = node.run(Fake::default());
    node.registration().await;
    for number in 0..40 {
        node.start_workload(&format!("w{number}"), json!({})).await;
    }
    let inbox = node.client.new_inbox();
    let replies = node
        .client
        .subscribe(inbox.clone())
        .await
        .expect("a subscription");
    let query = Subject::QueryWorkloads(node.id.clone()).to_string();
    let body = json!({"filter": null, "namespace": "default"}).to_string();
    node.client
        .publish_with_reply_and_headers(query, inbox, headers, body.into())
        .await
        .expect("an open connection");
    (node, running, replies)
}

fn has_more(reply: &async_nats::Message) -> bool {
    let headers = reply.headers.as_ref();
    headers.is_some_and(|headers| headers.get(MORE_HEADER).is_some())
}

#[tokio::test]
async fn a_list_larger_than_a_message_comes_in_pieces_to_a_node_of_ours() {
    let mut headers = HeaderMap::new();
    headers.insert(NODE_HEADER, "N");
    let (_node, running, mut replies) = query_much(headers).await;

    let (mut seen, mut pieces) = (0, 0);
    loop {
        let reply = next(&mut replies).await;
        seen += parse_list(&reply.payload).unwrap().len();
        pieces += 1;
        if !has_more(&reply) {
            break;
        }
    }
    assert_eq!(seen, 40);
    assert!(pieces > 1, "{pieces}");
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_node_that_counts_messages_gets_one_with_what_fits() {
    let (node, running, mut replies) = query_much(HeaderMap::new()).await;

    let reply = next(&mut replies).await;
    let listed = parse_list(&reply.payload).unwrap().len();
    assert!(!has_more(&reply) && (10..40).contains(&listed), "{listed}");
    running.end().await.unwrap();
    // What came before the end is here before what the server echoes now.
    nex_nats::barrier(&node.client).await.unwrap();
    assert!(replies.next().now_or_never().is_none());
}

#[tokio::test]
async fn metrics_of_a_workload_go_to_its_feed() {
    let node = FakeNode::start().await;
    let (namespace, workload) = (Namespace::default_tenant(), id("w1"));
    let mut feed = node
        .subscribe(Subject::Metrics(namespace.clone(), workload.clone()))
        .await;
    let host = nexlet::Host::new(node.client.clone(), node.id.clone(), node.nexlet.clone());

    let sent = host.metrics(&namespace, &workload, r#"{"calls":1}"#).await;

    sent.unwrap();
    assert_eq!(next(&mut feed).await.payload, r#"{"calls":1}"#);
}

#[tokio::test]
async fn output_arrives_whole_and_in_order() {
    let node = FakeNode::start_with_config("max_payload: 4096").await;
    let host = nexlet::Host::new(node.client.clone(), node.id.clone(), node.nexlet.clone());
    let namespace = Namespace::default_tenant();
    let subject = Subject::Logs(namespace.clone(), id("w1"), LogStream::Stdout);
    let mut feed = node.subscribe(subject).await;
    let log = host.log(&namespace, &id("w1"));
    let lines: String = (0..2000).map(|number| format!("line {number}\n")).collect();
    let text = format!("{lines}{}\nno end", "x".repeat(10_000));

    log.line(LogStream::Stdout, "first").await;
    log.copy(LogStream::Stdout, text.as_bytes()).await.unwrap();

    assert_eq!(&next(&mut feed).await.payload[..], b"first\n");
    let mut seen = String::new();
    while seen.len() < text.len() {
        let message = next(&mut feed).await;
        assert!(message.payload.len() <= 2048);
        seen.push_str(std::str::from_utf8(&message.payload).unwrap());
    }
    assert_eq!(seen, text);
}

#[tokio::test]
async fn a_prompt_is_seen_before_its_line_ends() {
    let node = FakeNode::start().await;
    let host = nexlet::Host::new(node.client.clone(), node.id.clone(), node.nexlet.clone());
    let namespace = Namespace::default_tenant();
    let mut feed = node
        .subscribe(Subject::Logs(
            namespace.clone(),
            id("w1"),
            LogStream::Stderr,
        ))
        .await;
    let (mut writer, reader) = tokio::io::duplex(64);
    let copying = tokio::spawn(
        host.log(&namespace, &id("w1"))
            .copy(LogStream::Stderr, reader),
    );

    tokio::io::AsyncWriteExt::write_all(&mut writer, b"name? ")
        .await
        .unwrap();

    assert_eq!(&next(&mut feed).await.payload[..], b"name? ");
    drop(writer);
    copying.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_node_that_has_forgotten_it_gets_it_back_with_all_that_runs() {
    let node = FakeNode::start().await;
    let running = node.run(Fake::default());
    node.registration().await;
    node.start_workload("w1", json!({})).await;
    let mut events = node.subscribe(Subject::Event("*".into(), "*".into())).await;
    let heart = Subject::NexletHeartbeat(node.id.clone(), node.nexlet.clone());
    let mut beats = node.subscribe(heart).await;

    // As after a restart: its journal has what runs, and what it was told to run just before.
    node.hand_over("w1");
    node.hand_over("lost");
    node.beat(&format!("other [x], {} [fake]", node.nexlet))
        .await;
    node.beat("other [x]").await;

    assert_eq!(node.registration().await.name, "fake");
    loop {
        let beat = next(&mut beats).await;
        let beat: NexletHeartbeat = serde_json::from_slice(&beat.payload).unwrap();
        if beat.summary.workload_count == 2 {
            break;
        }
    }
    let event = next(&mut events).await;
    assert!(event.subject.ends_with(".WORKLOADSTARTED"), "{event:?}");
    let event: serde_json::Value = serde_json::from_slice(&event.payload).unwrap();
    assert_eq!(event["id"], "lost");
    // Nothing was stopped, and nothing started twice.
    nex_nats::barrier(&node.client).await.unwrap();
    assert!(events.next().now_or_never().is_none());
    // The heartbeat that named it was no reason to register.
    assert!(!node.has_registrations().await);
    running.end().await.unwrap();
}

#[tokio::test]
async fn what_is_handed_back_start_by_start_is_not_started_twice() {
    let node = FakeNode::start().await;
    let running = node.run(Fake::default());
    node.registration().await;
    let started = node.start_workload("w1", json!({})).await;
    let started: StartWorkloadResponse = serde_json::from_slice(&started.payload).unwrap();
    node.start_workload("over", json!({})).await;
    let heart = Subject::NexletHeartbeat(node.id.clone(), node.nexlet.clone());
    let mut beats = node.subscribe(heart).await;
    let mut ends = async || loop {
        let beat = next(&mut beats).await;
        let beat: NexletHeartbeat = serde_json::from_slice(&beat.payload).unwrap();
        if !beat.ended.is_empty() {
            break beat.ended;
        }
    };
    let stop = Subject::StopWorkload(node.id.clone(), id("over"));
    node.request(stop, json!({"namespace": "default"})).await;
    assert_eq!(ends().await[0].id, id("over"));
    let give = async |workload: &str| {
        let mut order = support::order("service", json!({}));
        order["existing"] = json!(true);
        let (node_id, nexlet) = (node.id.clone(), node.nexlet.clone());
        let start = Subject::StartWorkload(node_id, nexlet, id(workload));
        node.request(start, order).await
    };

    let again = give("w1").await;
    let over = give("over").await;
    let lost = give("lost").await;

    assert!(read_error(&again).is_none());
    let again: StartWorkloadResponse = serde_json::from_slice(&again.payload).unwrap();
    assert_eq!(again, started);
    // The node missed that it has ended, and is told once more.
    assert!(read_error(&over).unwrap().1.contains("has ended here"));
    assert_eq!(ends().await[0].id, id("over"));
    assert!(read_error(&lost).is_none());
    let query = Subject::QueryWorkloads(node.id.clone());
    let all = json!({"filter": null, "namespace": "system"});
    let listed = parse_list(&node.request(query, all).await.payload).unwrap();
    let listed: Vec<&str> = listed.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(listed, ["lost", "w1"]);
    running.end().await.unwrap();
}

/// Answers a heartbeat in the name of a node, or of nobody.
async fn confirm(
    node: &FakeNode,
    reply: &async_nats::Subject,
    sender: Option<&NodeId>,
    text: &str,
) {
    let mut headers = HeaderMap::new();
    if let Some(sender) = sender {
        headers.insert(NODE_HEADER, sender.as_str());
    }
    let (reply, text) = (reply.clone(), text.to_owned().into());
    let answered = node.client.publish_with_headers(reply, headers, text);
    answered.await.expect("a live connection");
    let sent = nex_nats::barrier(&node.client).await;
    sent.expect("a live server");
}

/// Time without a subscriber to heartbeats: several of them go out when something has changed.
const UNHEARD: Duration = Duration::from_millis(500);

/// The server says so to whoever sent it, on the subject on which the node would confirm it.
#[tokio::test]
async fn a_heartbeat_that_nobody_hears_confirms_no_end() {
    let node = FakeNode::start().await;
    let beats = Subject::NexletHeartbeat(node.id.clone(), node.nexlet.clone());
    let running = node.run(Fake::default());
    node.registration().await;
    node.start_workload("w1", json!({})).await;
    let stop = Subject::StopWorkload(node.id.clone(), id("w1"));

    node.request(stop, json!({ "namespace": "system" })).await;
    // For longer than it takes until the heartbeat that tells the end has gone out.
    let begun = std::time::Instant::now();
    while begun.elapsed() < UNHEARD {
        asked_and_answered(&node).await;
    }

    let mut beats = node.subscribe(beats).await;
    loop {
        let beat: NexletHeartbeat =
            serde_json::from_slice(&next(&mut beats).await.payload).unwrap();
        if let [ended, ..] = &beat.ended[..] {
            assert_eq!(ended.id, id("w1"));
            break;
        }
    }
    running.end().await.unwrap();
}

/// Two requests for one start are one start, and both get its outcome.
#[tokio::test]
async fn a_start_that_is_under_way_is_answered_with_its_outcome() {
    let node = FakeNode::start().await;
    for (workload, run) in [
        ("good", json!({ "slow": true })),
        ("bad", json!({ "slow": true, "refuse": "no room" })),
    ] {
        node.hand_over_to_run(workload, run);
    }
    let fake = Arc::new(Fake::default());
    let running = node.run_shared(Arc::clone(&fake));
    node.registration().await;
    let again = async |workload: &str| {
        let mut order = support::order("service", json!({}));
        order["existing"] = json!(true);
        let start = Subject::StartWorkload(node.id.clone(), node.nexlet.clone(), id(workload));
        node.request(start, order).await
    };
    let (good, bad) = (again("good"), again("bad"));
    tokio::pin!(good, bad);

    // A question that is asked later is answered, so they wait.
    tokio::select! {
        early = &mut good => panic!("{early:?}"),
        early = &mut bad => panic!("{early:?}"),
        _ = asked_and_answered(&node) => {}
    }
    fake.let_go();

    assert!(read_error(&good.await).is_none());
    assert_eq!(read_error(&bad.await).unwrap().1, "no room");
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_workload_that_is_being_started_is_stopped_when_it_runs() {
    let node = FakeNode::start().await;
    for (workload, run) in [
        ("good", json!({ "slow": true })),
        ("bad", json!({ "slow": true, "refuse": "no room" })),
    ] {
        node.hand_over_to_run(workload, run);
    }
    let fake = Arc::new(Fake::default());
    let running = node.run_shared(Arc::clone(&fake));
    node.registration().await;
    let stop = async |workload: &str, body: serde_json::Value| {
        let subject = Subject::StopWorkload(node.id.clone(), id(workload));
        let reply = node.request(subject, body).await;
        serde_json::from_slice::<StopWorkloadResponse>(&reply.payload).unwrap()
    };
    let patient = json!({"namespace": "default", "wait": "20s"});

    let early = stop("good", json!({"namespace": "default", "wait": "10ms"})).await;
    assert!(!early.stopped, "{early:?}");
    let (good, bad) = (stop("good", patient.clone()), stop("bad", patient));
    tokio::pin!(good, bad);
    tokio::select! {
        early = &mut good => panic!("{early:?}"),
        early = &mut bad => panic!("{early:?}"),
        _ = asked_and_answered(&node) => {}
    }
    fake.let_go();

    assert!(good.await.stopped);
    assert_eq!(bad.await.message, "workload not found");
    running.end().await.unwrap();
}

/// Some questions, one after the other, to a nexlet.
async fn asked_and_answered(node: &FakeNode) {
    for _ in 0..20 {
        let ping = Subject::NexletPing(node.id.clone(), node.nexlet.clone());
        node.request(ping, json!({})).await;
    }
}

/// What is under way when a server ends is lost.
#[tokio::test]
async fn an_end_is_told_until_the_node_has_heard_it() {
    let node = FakeNode::start().await;
    let beats = Subject::NexletHeartbeat(node.id.clone(), node.nexlet.clone());
    let mut beats = node.subscribe(beats).await;
    let running = node.run(Fake::default());
    node.registration().await;
    let mut next_end = async || {
        loop {
            let message = next(&mut beats).await;
            let beat: NexletHeartbeat = serde_json::from_slice(&message.payload).unwrap();
            if let [ended, ..] = &beat.ended[..] {
                assert_eq!(beat.ended.len(), 1, "{beat:?}");
                return (ended.id.clone(), message.reply.unwrap());
            }
        }
    };
    let end = async |workload: &str| {
        node.start_workload(workload, json!({})).await;
        let subject = Subject::StopWorkload(node.id.clone(), id(workload));
        node.request(subject, json!({ "namespace": "system" }))
            .await;
    };

    end("w1").await;
    assert_eq!(next_end().await.0, id("w1"));
    let (again, reply) = next_end().await;
    assert_eq!(again, id("w1"));
    assert!(reply.starts_with("_INBOX.NEX."), "{reply}");
    // Nobody of these is the node: another one, a stream that keeps heartbeats, and whoever.
    let other = NodeId::new(format!("N{}", "B".repeat(55))).unwrap();
    for (sender, text) in [
        (Some(&other), ""),
        (None, r#"{"stream":"S","seq":1}"#),
        (None, ""),
    ] {
        confirm(&node, &reply, sender, text).await;
    }
    assert_eq!(next_end().await.0, id("w1"));
    confirm(&node, &reply, Some(&node.id), "").await;

    end("w2").await;
    for _ in 0..2 {
        assert_eq!(next_end().await.0, id("w2"));
    }
    running.end().await.unwrap();
}

/// Its node stops what another nexlet has in only one of the two.
#[tokio::test]
async fn what_another_one_has_is_stopped_without_an_end() {
    let node = FakeNode::start().await;
    let running = node.run(Fake::default());
    node.registration().await;
    for name in ["w1", "w2"] {
        node.start_workload(name, json!({})).await;
    }
    let mut feeds = node.client.subscribe("$NEX.>").await.unwrap();
    let stop = async |workload: &str, only: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(ONLY_HEADER, only);
        let inbox = node.client.new_inbox();
        let replies = node.client.subscribe(inbox.clone()).await.unwrap();
        let subject = Subject::StopWorkload(node.id.clone(), id(workload)).to_string();
        let body = json!({ "namespace": "system" }).to_string();
        let asked =
            node.client
                .publish_with_reply_and_headers(subject, inbox, headers, body.into());
        asked.await.unwrap();
        replies
    };

    let mut silence = stop("w1", "another").await;
    let mut stops = stop("w1", node.nexlet.as_str()).await;
    let stopped = next(&mut stops).await;
    let stopped: StopWorkloadResponse = serde_json::from_slice(&stopped.payload).unwrap();
    assert!(stopped.stopped, "{stopped:?}");

    // The other one ends by itself, so to say.
    let subject = Subject::StopWorkload(node.id.clone(), id("w2"));
    node.request(subject, json!({ "namespace": "system" }))
        .await;
    let mut told = Vec::new();
    while !told.contains(&id("w2")) {
        let message = next(&mut feeds).await;
        if message.subject.ends_with(".WORKLOADSTOPPED") {
            let event: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            told.push(id(event["id"].as_str().unwrap()));
        } else if let Ok(beat) = serde_json::from_slice::<NexletHeartbeat>(&message.payload) {
            assert!(
                beat.ended.iter().all(|ended| ended.id == id("w2")),
                "{beat:?}"
            );
        }
    }
    assert_eq!(told, [id("w2")]);
    assert!(silence.next().now_or_never().is_none());

    // It has not ended here, so it can come back.
    let mut order = order("service", json!({}));
    order["existing"] = true.into();
    let subject = Subject::StartWorkload(node.id.clone(), node.nexlet.clone(), id("w1"));
    let back = node.request(subject, order).await;
    assert_eq!(read_error(&back), None);
    running.end().await.unwrap();
}

#[tokio::test]
async fn who_may_not_hear_its_node_works_without() {
    let node = FakeNode::start_permitting(
        r#"{ subscribe: { deny: "$NEX.SVC.system.control.HEARTBEAT.*" } }"#,
    )
    .await;
    let running = node.run(Fake::default());
    node.registration().await;

    node.beat("other [x]").await;

    let started = node.start_workload("w1", json!({})).await;
    assert!(read_error(&started).is_none());
    running.end().await.unwrap();
    assert!(!node.has_registrations().await);
}

#[tokio::test]
async fn a_nexlet_that_ends_says_so_before_its_workloads_end() {
    let node = FakeNode::start().await;
    let running = node.run(Fake::default());
    node.registration().await;
    node.start_workload("w1", json!({})).await;
    let mut all = node.client.subscribe("$NEX.>").await.unwrap();
    nex_nats::barrier(&node.client).await.unwrap();

    running.end().await.unwrap();

    let mut states = Vec::new();
    loop {
        let message = next(&mut all).await;
        match Subject::parse(&message.subject) {
            Some(Subject::NexletHeartbeat(..)) => {
                let beat: NexletHeartbeat = serde_json::from_slice(&message.payload).unwrap();
                states.push(beat.summary.state);
            }
            Some(Subject::Event(_, name)) if name == "WORKLOADSTOPPED" => break,
            _ => {}
        }
    }
    assert_eq!(states.last().map(String::as_str), Some("stopping"));
}

fn nexus() -> NexusName {
    NexusName::new("nexus").expect("a valid name")
}

/// Answers requests for a node, one after the other: with a body, or as a refusal with a code.
async fn answer_remote(node: &FakeNode, answers: Vec<Result<serde_json::Value, ErrorCode>>) {
    let subject = Subject::RegisterRemote(nexus());
    let mut requests = node.subscribe(subject).await;
    let client = node.client.clone();
    tokio::spawn(async move {
        for answer in answers {
            // Without a limit: a nexlet asks again when its node was silent for long.
            let request = requests.next().await.expect("a live subscription");
            let reply = request.reply.expect("a request");
            // Workloads may not listen there: the answer holds credentials.
            let private = reply.starts_with("_INBOX.NEX.") && &request.payload[..] == b"{}";
            let sent = match answer {
                Ok(_) if !private => return,
                Ok(body) => client.publish(reply, body.to_string().into()).await,
                Err(code) => {
                    let headers = nex_nats::error_headers(code, "not now");
                    let body = "{}".into();
                    client.publish_with_headers(reply, headers, body).await
                }
            };
            sent.expect("an open connection");
        }
    });
}

fn own(node: &FakeNode) -> ConnectOptions {
    ConnectOptions::new([node.server.url()], "own")
}

async fn remote(node: &FakeNode) -> Result<RunnerConfig, RemoteError> {
    let (own, nexus) = (own(node), nexus());
    let asked = tokio::time::timeout(LIMIT, RunnerConfig::remote(&own, &nexus));
    asked.await.expect("an answer in time")
}

#[tokio::test]
async fn a_remote_nexlet_registers_as_what_a_node_assigned() {
    let node = FakeNode::start().await;
    // What a Go node may leave out: servers and TLS.
    let assigned = json!({
        "assigned_agent_id": node.nexlet, "respond_to": node.id,
        "registration_creds": {"nats_servers": null, "nats_user_name": "me", "nats_user_password": "x"},
    });
    // The first node stops just now; another one may come.
    answer_remote(&node, vec![Err(ErrorCode::Busy), Ok(assigned)]).await;

    let config = remote(&node).await.unwrap();

    assert_eq!((&config.node, &config.id), (&node.id, &node.nexlet));
    assert_eq!(config.registration.servers, own(&node).servers);
    assert!(matches!(&config.registration.auth, Auth::UserPassword { user, .. } if user == "me"));
    let cancel = CancellationToken::new();
    let running = tokio::spawn(nexlet::run(
        Arc::new(Fake::default()),
        config,
        cancel.clone(),
    ));
    assert_eq!(node.registration().await.name, "fake");
    cancel.cancel();
    running.await.unwrap().unwrap();
}

/// A node's own address may lead nowhere on the nexlet's machine, and its files are not there.
#[tokio::test]
async fn a_remote_nexlet_and_its_workloads_keep_their_own_way_to_nats() {
    let node = FakeNode::start_elsewhere().await;
    let assigned = json!({
        "assigned_agent_id": node.nexlet, "respond_to": node.id, "registration_creds": elsewhere(),
    });
    answer_remote(&node, vec![Ok(assigned)]).await;

    let (end, _nodes, running) = run_remote(&node);

    assert_eq!(node.registration().await.name, "fake");
    let mut order = order("service", json!({ "show_credentials": true }));
    order["workload_creds"] = json!(elsewhere());
    order["namespace_creds"] = json!(elsewhere());
    let id = WorkloadId::new("w1").unwrap();
    let subject = Subject::StartWorkload(node.id.clone(), node.nexlet.clone(), id);
    let shown = node.request(subject, order).await;
    let (_, text) = read_error(&shown).unwrap();
    let shown: [NatsConnectionData; 2] = serde_json::from_str(&text).unwrap();
    let own = NatsConnectionData {
        nats_servers: vec![node.server.url().to_owned()],
        nats_user_name: "me".into(),
        nats_user_password: "x".into(),
        ..NatsConnectionData::default()
    };
    assert_eq!(shown, [own.clone(), own]);
    end.order(End::GRACE);
    ended(running).await;
}

#[tokio::test]
async fn a_node_that_takes_no_remote_nexlet_is_quoted() {
    let node = FakeNode::start().await;
    answer_remote(&node, vec![Err(ErrorCode::BadRequest)]).await;

    let error = remote(&node).await.unwrap_err().to_string();

    assert_eq!(error, "nexus `nexus` refuses: not now (code 400)");
}

#[tokio::test]
async fn a_remote_nexlet_that_may_not_ask_is_told() {
    let config = r#"authorization { users: [{
        user: me, password: x, permissions: { publish: { deny: ["$NEX.>"] } }
    }] }"#;
    let server = nex_testkit::NatsServer::builder().config(config).start();
    let own = ConnectOptions {
        auth: Auth::UserPassword {
            user: "me".into(),
            password: "x".into(),
        },
        ..ConnectOptions::new([server.url()], "own")
    };
    let nexus = nexus();

    let asked = tokio::time::timeout(LIMIT, RunnerConfig::remote(&own, &nexus)).await;

    let error = asked.expect("an answer in time").unwrap_err();
    assert!(matches!(error, RemoteError::NotAllowed(_)), "{error}");
}

fn assigned(node: &str, nexlet: &str) -> serde_json::Value {
    json!({
        "assigned_agent_id": nexlet, "respond_to": node,
        "registration_creds": NatsConnectionData::default(),
    })
}

/// Runs a remote nexlet; the nodes that it gets come one after the other.
fn run_remote(node: &FakeNode) -> (End, mpsc::Receiver<NodeId>, JoinHandle<()>) {
    let (end, own) = (End::default(), own(node));
    let (nodes_tx, nodes_rx) = mpsc::channel(4);
    let ends = end.clone();
    let running = tokio::spawn(async move {
        let fake = Arc::new(Fake::default());
        let tell = |config: &RunnerConfig| {
            let told = nodes_tx.try_send(config.node.clone());
            told.expect("a test reads the nodes");
        };
        let ran = nexlet::run_remote(fake, &own, &nexus(), ends, tell).await;
        ran.expect("no reason to end");
    });
    (end, nodes_rx, running)
}

async fn ended(running: JoinHandle<()>) {
    let ended = tokio::time::timeout(LIMIT, running).await;
    ended.expect("it ends in time").expect("no panic");
}

#[tokio::test]
async fn a_node_that_is_gone_before_the_registration_is_replaced() {
    let node = FakeNode::start().await;
    let gone = format!("N{}", "B".repeat(55));
    let answers = vec![
        Ok(assigned(&gone, "first")),
        Ok(assigned(node.id.as_str(), node.nexlet.as_str())),
    ];
    answer_remote(&node, answers).await;

    let (end, mut nodes, running) = run_remote(&node);

    assert_eq!(node.registration().await.name, "fake");
    assert_eq!(nodes.recv().await.unwrap().as_str(), gone);
    assert_eq!(nodes.recv().await.unwrap(), node.id);
    end.order(End::GRACE);
    ended(running).await;
}

#[tokio::test]
async fn a_remote_nexlet_without_work_leaves_a_node_that_is_silent() {
    let node = FakeNode::start().await;
    let here = assigned(node.id.as_str(), node.nexlet.as_str());
    answer_remote(&node, vec![Ok(here.clone()), Ok(here)]).await;
    let (end, mut nodes, running) = run_remote(&node);
    node.registration().await;
    nodes.recv().await.unwrap();

    // After half a minute without a heartbeat of the node.
    let again = tokio::time::timeout(3 * LIMIT, nodes.recv()).await;

    assert_eq!(again.expect("it asks again").as_ref(), Some(&node.id));
    assert_eq!(node.registration().await.name, "fake");
    node.start_workload("w1", json!({})).await;
    end.order(End::GRACE);
    ended(running).await;
}

#[tokio::test]
async fn a_remote_nexlet_that_has_drained_ends_with_its_node() {
    let node = FakeNode::start().await;
    let here = assigned(node.id.as_str(), node.nexlet.as_str());
    answer_remote(&node, vec![Ok(here)]).await;
    let (_end, _nodes, running) = run_remote(&node);
    node.registration().await;
    let drain = Subject::NexletLameduck(node.id.clone());
    node.request(drain, json!({"delay": "1ms"})).await;

    // The node is back.
    node.beat("other [x]").await;

    ended(running).await;
    assert!(!node.has_registrations().await);
}
