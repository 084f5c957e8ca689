//! `WPING`.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use nex_nats::{
    error_headers,
    request_many::{Gather, Step},
};
use nex_protocol::{
    ErrorCode, MORE_HEADER, Namespace, Tags, WorkloadId, WorkloadState, WorkloadSummary,
    workload::parse_list,
};
use nex_testkit::NatsServer;

use crate::support::{Bus, LIMIT, json, named_node, registration};

const SUBJECT: &str = "$NEX.SVC.default.control.WPING";
const REQUEST: &str = r#"{"filter":null,"namespace":"default"}"#;

fn workload(id: &str, namespace: &str) -> WorkloadSummary {
    WorkloadSummary {
        id: WorkloadId::new(id).unwrap(),
        metadata: Tags::new(),
        name: format!("name of {id}"),
        namespace: Some(Namespace::new(namespace).unwrap()),
        runtime: "--".into(),
        start_time: "2026-01-02T03:04:05Z".into(),
        tags: Tags::new(),
        workload_lifecycle: "job".into(),
        workload_state: WorkloadState::Running,
        workload_type: "echo".into(),
    }
}

async fn ids(bus: &Bus) -> Vec<String> {
    let reply = bus.ask(SUBJECT, REQUEST).await;
    assert!(nex_nats::read_error(&reply).is_none(), "{reply:?}");
    let list = parse_list(&reply.payload).unwrap();
    let mut ids: Vec<String> = list.into_iter().map(|w| w.id.into()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn the_lists_of_all_nexlets_are_one_without_doubles_and_strangers() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let first = bus.nexlet(node.id()).await;
    let second = bus.nexlet_as(node.id(), registration("other")).await;
    let third = bus.nexlet_as(node.id(), registration("third")).await;
    let queries = first.queries();
    let list = json(&[workload("a", "default"), workload("foreign", "other")]);
    first
        .says(&queries, std::str::from_utf8(&list).unwrap())
        .await;
    let list = json(&[workload("a", "default"), workload("b", "default")]);
    second
        .says(&queries, std::str::from_utf8(&list).unwrap())
        .await;
    third.says(&queries, "null").await;

    assert_eq!(ids(&bus).await, ["a", "b"]);
}

#[tokio::test]
async fn a_list_is_answered_as_soon_as_all_living_nexlets_have() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    nexlet.says(&nexlet.queries(), "[]").await;

    let asked = Instant::now();
    ids(&bus).await;

    // Who waits for more answers than there are nexlets waits for 1.5 seconds.
    assert!(
        asked.elapsed() < Duration::from_millis(1400),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test]
async fn a_list_in_parts_is_one_answer() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let long = bus.nexlet(node.id()).await;
    let mut own = HeaderMap::new();
    own.insert("agentId", long.id.as_str());
    let parts = ["a", "b", "c"].map(|id| json(&[workload(id, "default")]));
    long.answers(&long.queries(), move |_| {
        let last = parts.len() - 1;
        let parts = parts.iter().enumerate().map(|(index, part)| {
            let mut headers = own.clone();
            if index < last {
                headers.insert(MORE_HEADER, "true");
            }
            (headers, part.clone())
        });
        let parts: Vec<_> = parts.collect();
        async { parts }
    })
    .await;

    assert_eq!(ids(&bus).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn an_error_followed_by_a_list_is_one_answer() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let twice = bus.nexlet(node.id()).await;
    let queries = twice.queries();
    let list = json(&[workload("a", "default")]);
    twice
        .answers(&queries, move |_| {
            let error = error_headers(ErrorCode::Nexlet, "twice");
            let answers = vec![(error, "".into()), (HeaderMap::new(), list.clone())];
            async { answers }
        })
        .await;

    assert_eq!(ids(&bus).await, ["a"]);
}

#[tokio::test]
async fn a_long_list_comes_in_chunks() {
    const PAYLOAD: usize = 16 * 1024;
    let server = NatsServer::builder()
        .config(format!("max_payload: {PAYLOAD}"))
        .start();
    let bus = Bus::on(server).await;
    let node = bus.node().await;
    // Two nexlets, because one message of a nexlet holds half of them at most.
    let names = ["echo", "other"];
    let mut count = 0;
    for name in names {
        let nexlet = bus.nexlet_as(node.id(), registration(name)).await;
        let each = (0..40).map(|n| workload(&format!("{name}{n}"), "default"));
        let list = json(&each.collect::<Vec<_>>());
        assert!(list.len() < PAYLOAD, "{}", list.len());
        count += 40;
        nexlet
            .says(&nexlet.queries(), std::str::from_utf8(&list).unwrap())
            .await;
    }

    let deadline = tokio::time::Instant::now() + LIMIT;
    let mut replies = Gather::request(&bus.client, SUBJECT, REQUEST.into(), None)
        .await
        .unwrap();
    let (mut listed, mut chunks) = (0, 0);
    loop {
        let Step::Reply(reply) = replies.next(deadline).await else {
            panic!("the last chunk is missing");
        };
        assert!(
            reply.payload.len() <= PAYLOAD / 2,
            "{}",
            reply.payload.len()
        );
        assert_eq!(named_node(&reply).as_deref(), Some(node.id().as_str()));
        listed += parse_list(&reply.payload).unwrap().len();
        chunks += 1;
        let headers = reply.headers.unwrap();
        if headers.get(MORE_HEADER).is_none() {
            break;
        }
    }
    assert!(chunks > 1, "{chunks}");
    assert_eq!(listed, count);
}
