//! `AUCTION`.

use nex_protocol::{
    Lifecycle,
    control::{AuctionReply, Bid},
};
use nex_testkit::eventually;

use crate::support::{Bus, LIMIT, auction, body, named_node, registration};

const SUBJECT: &str = "$NEX.SVC.default.control.AUCTION";

/// Why the node declines a request with `explain`.
async fn declined(bus: &Bus, request: &str) -> (u16, String) {
    let request = request.replace('}', r#","explain":true}"#);
    let reply = bus.ask(SUBJECT, request).await;
    match body(&reply) {
        AuctionReply::Declined(declined) => (declined.declined.code, declined.declined.text),
        AuctionReply::Bid(bid) => panic!("{bid:?}"),
    }
}

#[tokio::test]
async fn a_bid_is_what_its_nexlet_registered() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    nexlet.beat("running", 3, "healthy").await;

    let reply = bus.ask(SUBJECT, auction("echo")).await;

    let bid: Bid = body(&reply);
    assert!(bid.bidder_id.minted_by(node.id()), "{:?}", bid.bidder_id);
    assert_eq!(
        bid.start_request_schema,
        registration("echo").start_request_schema
    );
    assert_eq!(
        bid.supported_lifecycles,
        [Lifecycle::Job, Lifecycle::Service]
    );
    assert_eq!(bid.xkey, "XKEY");
    assert_eq!(bid.load.unwrap().workloads, 3);
    assert_eq!(named_node(&reply).as_deref(), Some(node.id().as_str()));
}

#[tokio::test]
async fn a_bid_says_what_the_node_has_left() {
    if !std::path::Path::new("/proc/stat").exists() {
        return nex_testkit::skip("the kernel tells nothing about its CPUs");
    }
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;

    let known = || async {
        let load = bus.bid("echo").await.load.unwrap();
        let left = load.cpu_millis_free.zip(load.memory_bytes_free);
        left.map(|left| (left, load.score)).ok_or("not looked yet")
    };
    let ((cpu_millis, memory_bytes), score) = eventually("it is known", LIMIT, known).await;

    let cpus = std::thread::available_parallelism().unwrap().get();
    assert!(cpu_millis <= cpus as u64 * 1000, "{cpu_millis}");
    assert!(memory_bytes > 0);
    assert!((0.0..=1.0).contains(&score.unwrap()), "{score:?}");
    nexlet.beat("running", 1_000_000, "healthy").await;
    let crowded = bus.bid("echo").await.load.unwrap();
    assert!(crowded.score.unwrap() < 0.001, "{crowded:?}");
}

#[tokio::test]
async fn who_asks_for_reasons_gets_them() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    bus.nexlet(node.id()).await;
    let sick = bus.nexlet_as(node.id(), registration("sick")).await;
    sick.beat("stopping", 0, "shutting down").await;
    let mut full = registration("full");
    full.max_workloads = 2.0;
    let full = bus.nexlet_as(node.id(), full).await;
    full.beat("running", 2, "healthy").await;

    let (code, text) = declined(&bus, &auction("unknown")).await;
    assert_eq!(code, 404);
    assert_eq!(
        text,
        "no nexlet on the node runs type `unknown`: it runs echo, full, sick"
    );
    let (code, text) = declined(&bus, &auction("sick")).await;
    assert_eq!((code, text.contains("healthy")), (503, true), "{text}");
    let (code, text) = declined(&bus, &auction("full")).await;
    assert_eq!((code, text.contains("full")), (503, true), "{text}");
    let tags = r#"{"agent_type":"echo","auction_id":"a","lifecycle":"job","tags":null}"#
        .replace("null", r#"{"region":"x"}"#);
    let tags = format!("{}{}", &tags[..tags.len() - 1], r#","explain":true}"#);
    let AuctionReply::Declined(reply) = body(&bus.ask(SUBJECT, tags).await) else {
        panic!("a bid for other tags");
    };
    assert!(reply.declined.text.contains("region=x"), "{reply:?}");
    let function = r#"{"agent_type":"echo","auction_id":"a","tags":null,"lifecycle":"function"}"#;
    let (code, text) = declined(&bus, function).await;
    assert_eq!((code, text.contains("`function`")), (400, true), "{text}");
}

#[tokio::test]
async fn a_bid_answers_who_asks_for_reasons_too() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    bus.nexlet(node.id()).await;

    let request = r#"{"agent_type":"echo","auction_id":"a","tags":null,"explain":true}"#;
    let reply: AuctionReply = body(&bus.ask(SUBJECT, request).await);

    assert!(matches!(reply, AuctionReply::Bid(_)), "{reply:?}");
}
