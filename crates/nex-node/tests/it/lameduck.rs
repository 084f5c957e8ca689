//! `LAMEDUCK`.

use std::time::{Duration, Instant};

use nex_protocol::{
    ErrorCode, Subject, Tags,
    control::{AuctionReply, LameduckResponse, NodePingResponse, NodeState},
};

use crate::support::{Bus, LIMIT, assert_error, body, next, start_request};

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
