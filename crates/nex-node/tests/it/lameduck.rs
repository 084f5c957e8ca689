//! `LAMEDUCK`.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use nex_protocol::{
    ErrorCode, GoDuration, Subject, Tags,
    control::{AuctionReply, LameduckRequest, LameduckResponse, NodePingResponse, NodeState},
};

use crate::support::{Bus, LIMIT, assert_error, auction, body, next, start_request};

/// Long enough that no test sees its end.
const HOUR: &str = r#"{"delay":"1h"}"#;

const SUBJECT: &str = "$NEX.SVC.default.control.AUCTION";

const CANCEL: &str = r#"{"delay":"0s","cancel":true}"#;

/// What `nex.lameduck` says, and the node's state.
async fn look(bus: &Bus) -> (String, NodeState) {
    let ping = bus
        .ask("$NEX.SVC.system.control.PING", r#"{"filter":{}}"#)
        .await;
    let pong: NodePingResponse = body(&ping);
    let tags: Tags = body(&bus.ask("$NEX.SVC.system.control.PTAGS", "").await);
    assert_eq!(tags, pong.tags);
    (pong.tags["nex.lameduck"].clone(), pong.state)
}

#[tokio::test]
async fn a_lame_duck_that_is_called_back_takes_work_again() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    bus.nexlet(node.id()).await;
    let running = look(&bus).await.1;
    let mut events = bus.listen("$NEX.FEED.*.events.NODELAMEDUCKCLEARED").await;
    let subject = Subject::Lameduck(node.id().clone()).to_string();

    let set: LameduckResponse = body(&bus.ask(&subject, HOUR).await);
    assert!(set.success);
    assert_eq!(look(&bus).await, ("true".to_owned(), NodeState::Lameduck));
    let told: LameduckResponse = body(&bus.ask(&subject, CANCEL).await);

    assert!(told.success, "{told:?}");
    assert_eq!(look(&bus).await, ("false".to_owned(), running));
    let bid: AuctionReply = body(&bus.ask(SUBJECT, auction("echo")).await);
    assert!(matches!(bid, AuctionReply::Bid(_)), "{bid:?}");
    let event = next(&mut events).await;
    assert!(event.subject.contains(node.id().as_str()), "{event:?}");
    let event: serde_json::Value = body(&event);
    assert_eq!(event, serde_json::json!({ "id": node.id() }));
}

#[tokio::test]
async fn an_order_that_comes_later_replaces_the_time() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let subject = Subject::Lameduck(node.id().clone()).to_string();

    for delay in [HOUR, r#"{"delay":"100ms"}"#] {
        let told: LameduckResponse = body(&bus.ask(&subject, delay).await);
        assert!(told.success, "{told:?}");
    }

    tokio::time::timeout(LIMIT, node.ended()).await.unwrap();
}

#[tokio::test]
async fn nobody_is_called_back_that_is_no_lame_duck_or_at_its_end() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let subject = Subject::Lameduck(node.id().clone()).to_string();

    let never = bus.ask(&subject, CANCEL).await;
    bus.ask(&subject, r#"{"delay":"0s"}"#).await;
    tokio::time::timeout(LIMIT, node.ended()).await.unwrap();

    assert_error(&never, ErrorCode::BadRequest, "the node is no lame duck");
    for late in [CANCEL, HOUR] {
        let late = bus.ask(&subject, late).await;
        assert_error(&late, ErrorCode::Busy, "the node is stopping");
    }
    assert_eq!(look(&bus).await.1, NodeState::Stopping);
}

#[tokio::test]
async fn a_call_back_for_others_is_met_with_silence() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let subject = Subject::Lameduck(node.id().clone()).to_string();
    bus.ask(&subject, HOUR).await;

    let other = r#"{"delay":"0s","cancel":true,"tag":{"region":"other"}}"#;
    bus.silent((&subject, other), (&subject, HOUR)).await;

    assert_eq!(look(&bus).await.1, NodeState::Lameduck);
}

#[tokio::test]
async fn nexlets_from_elsewhere_hear_of_it_at_the_end_and_have_little_time() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    let subject = Subject::Lameduck(node.id().clone()).to_string();
    let told = Subject::NexletLameduck(node.id().clone()).to_string();
    let mut told_rx = bus.listen(&told).await;
    nexlet.says(&told, r#"{"message":"","success":true}"#).await;

    bus.ask(&subject, HOUR).await;
    bus.ask(&subject, CANCEL).await;
    bus.ask(&subject, r#"{"delay":"200ms"}"#).await;
    tokio::time::timeout(LIMIT, node.ended()).await.unwrap();
    let grace = Duration::from_secs(9);
    tokio::time::timeout(LIMIT, node.stop(grace)).await.unwrap();

    // The first that they hear is the end: of the orders before they were told nothing.
    let order: LameduckRequest = body(&next(&mut told_rx).await);
    let delay: GoDuration = order.delay.parse().unwrap();
    assert!(delay.0 < grace, "{order:?}");
    nex_nats::barrier(&bus.client).await.unwrap();
    let second = tokio::time::timeout(Duration::ZERO, told_rx.next()).await;
    assert!(second.is_err(), "{second:?}");
}

#[tokio::test]
async fn a_lame_duck_takes_no_work_and_ends_after_its_delay() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    nexlet.says(&nexlet.queries(), "[]").await;
    let mut events = bus.listen("$NEX.FEED.*.events.NODELAMEDUCKSET").await;
    let bid = bus.bid("echo").await.bidder_id;
    let subject = Subject::Lameduck(node.id().clone()).to_string();

    let told = Instant::now();
    let reply = bus.ask(&subject, r#"{"delay":"300ms"}"#).await;

    let response: LameduckResponse = body(&reply);
    assert!(response.success, "{response:?}");
    assert!(response.message.starts_with("node entering lameduck mode"));
    let event: serde_json::Value = body(&next(&mut events).await);
    assert_eq!(event["id"], node.id().as_str());

    let tags: Tags = body(&bus.ask("$NEX.SVC.system.control.PTAGS", "").await);
    assert_eq!(tags["nex.lameduck"], "true");
    let ping = bus
        .ask("$NEX.SVC.system.control.PING", r#"{"filter":{}}"#)
        .await;
    assert_eq!(body::<NodePingResponse>(&ping).state, NodeState::Lameduck);
    let auction = r#"{"agent_type":"echo","auction_id":"a","tags":{},"explain":true}"#;
    let AuctionReply::Declined(declined) =
        body(&bus.ask("$NEX.SVC.default.control.AUCTION", auction).await)
    else {
        panic!("a lame duck bids");
    };
    assert_eq!(declined.declined.code, 503);
    let deploy = format!("$NEX.SVC.default.control.ADEPLOY.{bid}");
    let request = start_request("echo", r#"{"uri":"x"}"#).to_string();
    let refused = bus.ask(&deploy, request).await;
    assert_error(&refused, ErrorCode::Busy, "the node is in state `lameduck`");
    // What runs is still looked after.
    let list = r#"{"filter":null,"namespace":"default"}"#;
    let list = bus.ask("$NEX.SVC.default.control.WPING", list).await;
    assert_eq!(list.payload, "[]");

    tokio::time::timeout(LIMIT, node.ended()).await.unwrap();
    assert!(told.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_bad_order_is_refused_and_one_for_others_met_with_silence() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let subject = Subject::Lameduck(node.id().clone()).to_string();

    let unreadable = bus.ask(&subject, "{}").await;
    assert_error(
        &unreadable,
        ErrorCode::BadRequest,
        "failed to unmarshal lameduck request",
    );
    for delay in ["", "1d", "soon", "100000h"] {
        let bad = bus.ask(&subject, format!(r#"{{"delay":"{delay}"}}"#)).await;
        assert_error(
            &bad,
            ErrorCode::BadRequest,
            "failed to parse lameduck delay",
        );
    }
    bus.silent(
        (&subject, r#"{"delay":"1s","tag":{"region":"other"}}"#),
        (&subject, "{}"),
    )
    .await;

    let tags: Tags = body(&bus.ask("$NEX.SVC.system.control.PTAGS", "").await);
    assert_eq!(tags["nex.lameduck"], "false");
}
