//! `ADEPLOY`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::HeaderMap;
use nex_protocol::{
    BidId, ErrorCode, WorkloadId,
    error::{ERROR_CODE_HEADER, ERROR_HEADER},
    workload::NexletStartWorkloadRequest,
};
use serde_json::json;

use crate::support::{
    Bus, assert_error, auction, body, error, named_node, next, registration, start_request,
};

const RUN_REQUEST: &str = r#"{"uri":"file:///bin/true"}"#;

fn subject(bid: &BidId) -> String {
    format!("$NEX.SVC.default.control.ADEPLOY.{bid}")
}

fn start(workload_type: &str, run_request: &str) -> String {
    start_request(workload_type, run_request).to_string()
}

#[tokio::test]
async fn a_deploy_reaches_the_nexlet_with_credentials_and_its_answer_the_client() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    let mut orders = bus.listen(&nexlet.starts()).await;
    nexlet
        .says(&nexlet.starts(), r#"{"id":"w","name":"web"}"#)
        .await;
    let bid = bus.bid("echo").await.bidder_id;

    let reply = bus.ask(&subject(&bid), start("echo", RUN_REQUEST)).await;

    assert_eq!(reply.payload, r#"{"id":"w","name":"web"}"#);
    assert_eq!(named_node(&reply).as_deref(), Some(node.id().as_str()));
    let order = next(&mut orders).await;
    let id = order.subject.rsplit('.').next().unwrap();
    assert!(WorkloadId::new(id).unwrap().minted_by(node.id()), "{id}");
    let order: NexletStartWorkloadRequest = body(&order);
    assert_eq!(order.request.run_request, RUN_REQUEST);
    assert_eq!(order.workload_creds.nats_servers, [bus.server.url()]);
    assert!(order.namespace_creds.is_some());
}

#[tokio::test]
async fn a_bid_can_be_used_twice() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    nexlet
        .says(&nexlet.starts(), r#"{"id":"w","name":"web"}"#)
        .await;
    let bid = bus.bid("echo").await.bidder_id;

    for _ in 0..2 {
        let reply = bus.ask(&subject(&bid), start("echo", RUN_REQUEST)).await;
        assert!(nex_nats::read_error(&reply).is_none(), "{reply:?}");
    }
}

#[tokio::test]
async fn another_nodes_bid_is_met_with_silence_and_an_expired_one_with_404() {
    let bus = Bus::start().await;
    let mut config = Bus::config();
    config.auction_ttl = Duration::ZERO;
    let node = bus.node_with(config).await;
    bus.nexlet(node.id()).await;
    let expired = bus.bid("echo").await.bidder_id;

    // Garbage as a body: bids are looked at first.
    let reply = bus.ask(&subject(&expired), "garbage").await;

    assert_error(&reply, ErrorCode::NotFound, "bid expired");
    for foreign in ["0uiY97LTUBRG6sb4yR1thf", "x", "größe"] {
        let foreign = format!("$NEX.SVC.default.control.ADEPLOY.{foreign}");
        let large = "x".repeat(300_000);
        for text in ["garbage", large.as_str()] {
            bus.silent((&foreign, text), (&subject(&expired), "")).await;
        }
    }
}

#[tokio::test]
async fn what_cannot_be_deployed_is_refused_with_the_reason() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    bus.nexlet(node.id()).await;
    bus.nexlet_as(node.id(), registration("other")).await;
    let bid = subject(&bus.bid("echo").await.bidder_id);

    let unreadable = bus.ask(&bid, "{}").await;
    assert_error(
        &unreadable,
        ErrorCode::BadRequest,
        "failed to unmarshal auction deploy workload request",
    );

    let elsewhere = bid.replace(".default.", ".other.");
    let reply = bus.ask(&elsewhere, start("echo", RUN_REQUEST)).await;
    let (code, header, text) = error(&reply);
    assert_eq!(code, ErrorCode::Forbidden);
    assert_eq!(header, "namespace mismatch: other != default");
    assert_eq!(text, "namespace mismatch");

    let unknown = bus.ask(&bid, start("unknown", RUN_REQUEST)).await;
    assert_error(&unknown, ErrorCode::NotFound, "workload type not found");

    let other_type = bus.ask(&bid, start("other", RUN_REQUEST)).await;
    assert_error(
        &other_type,
        ErrorCode::BadRequest,
        "the bid is for type `echo`, not `other`",
    );

    let no_json = bus.ask(&bid, start("echo", "{")).await;
    assert_error(
        &no_json,
        ErrorCode::BadRequest,
        "failed to unmarshal start request",
    );

    let no_uri = bus.ask(&bid, start("echo", "{}")).await;
    let (code, header, text) = error(&no_uri);
    assert_eq!(
        (code, header.as_str()),
        (ErrorCode::BadRequest, "failed to validate run request")
    );
    assert!(text.contains("uri"), "{text}");

    let mut long = start_request("echo", RUN_REQUEST);
    long["name"] = json!("n".repeat(10_000));
    let long = bus.ask(&bid, long.to_string()).await;
    assert_error(
        &long,
        ErrorCode::BadRequest,
        "invalid workload name of 10000 bytes: want at most 128",
    );

    let mut function = start_request("echo", RUN_REQUEST);
    function["workload_lifecycle"] = json!("function");
    let function = bus.ask(&bid, function.to_string()).await;
    assert_error(
        &function,
        ErrorCode::BadRequest,
        "nexlets of type `echo` do not run lifecycle `function`",
    );
}

#[tokio::test]
async fn system_deploys_for_others() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    nexlet
        .says(&nexlet.starts(), r#"{"id":"w","name":"web"}"#)
        .await;
    let bid = subject(&bus.bid("echo").await.bidder_id).replace(".default.", ".system.");

    let reply = bus.ask(&bid, start("echo", RUN_REQUEST)).await;

    assert!(nex_nats::read_error(&reply).is_none(), "{reply:?}");
}

#[tokio::test]
async fn a_nexlets_error_is_passed_on_as_it_is() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    nexlet
        .answers(&nexlet.starts(), |_| async {
            let mut headers = HeaderMap::new();
            headers.insert(ERROR_CODE_HEADER, "100");
            headers.insert(ERROR_HEADER, "no such file: /x");
            headers.insert("extra", "kept");
            vec![(headers, r#"{"id":"w","name":""}"#.into())]
        })
        .await;
    let bid = bus.bid("echo").await.bidder_id;

    let reply = bus.ask(&subject(&bid), start("echo", RUN_REQUEST)).await;

    let (code, text) = nex_nats::read_error(&reply).unwrap();
    assert_eq!(
        (code, text.as_str()),
        (ErrorCode::Nexlet, "no such file: /x")
    );
    assert_eq!(reply.payload, r#"{"id":"w","name":""}"#);
    let headers = reply.headers.as_ref().unwrap();
    assert_eq!(headers.get("extra").unwrap().as_str(), "kept");
    assert_eq!(named_node(&reply).as_deref(), Some(node.id().as_str()));
}

#[tokio::test]
async fn a_full_nexlet_gets_no_more() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let mut one = registration("echo");
    one.max_workloads = 1.0;
    let nexlet = bus.nexlet_as(node.id(), one).await;
    nexlet
        .says(&nexlet.starts(), r#"{"id":"w","name":"web"}"#)
        .await;
    let bid = bus.bid("echo").await.bidder_id;

    let first = bus.ask(&subject(&bid), start("echo", RUN_REQUEST)).await;
    let second = bus.ask(&subject(&bid), start("echo", RUN_REQUEST)).await;

    assert!(nex_nats::read_error(&first).is_none(), "{first:?}");
    assert_error(&second, ErrorCode::Busy, "nexlets of type `echo` are full");
}

#[tokio::test]
async fn a_slow_start_does_not_hold_up_others() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    // The first start is answered only when the second has been.
    let (second_tx, second_rx) = tokio::sync::watch::channel(false);
    let starts = Arc::new(AtomicUsize::new(0));
    let mut orders = bus.listen(&nexlet.starts()).await;
    let client = bus.client.clone();
    tokio::spawn(async move {
        loop {
            let order = next(&mut orders).await;
            let mut second_rx = second_rx.clone();
            let (client, first) = (client.clone(), starts.fetch_add(1, Ordering::SeqCst) == 0);
            tokio::spawn(async move {
                if first {
                    second_rx.wait_for(|answered| *answered).await.unwrap();
                }
                let reply = order.reply.unwrap();
                client
                    .publish(reply, r#"{"id":"w","name":"web"}"#.into())
                    .await
                    .unwrap();
            });
        }
    });
    let bid = subject(&bus.bid("echo").await.bidder_id);

    let slow = bus.ask(&bid, start("echo", RUN_REQUEST));
    let fast = async {
        bus.ask(&bid, start("echo", RUN_REQUEST)).await;
        bus.ask("$NEX.SVC.default.control.AUCTION", auction("echo"))
            .await;
        second_tx.send_replace(true);
    };
    let both = async { tokio::join!(slow, fast) };

    tokio::time::timeout(crate::support::LIMIT, both)
        .await
        .unwrap();
}
