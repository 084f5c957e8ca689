//! `UNDEPLOY`.

use async_nats::HeaderMap;
use nex_nats::error_headers;
use nex_protocol::{
    ErrorCode, WorkloadId,
    error::WORKLOAD_NOT_FOUND,
    workload::{StopWorkloadRequest, StopWorkloadResponse},
};

use crate::support::{Bus, assert_error, body, named_node, next, registration};

const REQUEST: &str = r#"{"namespace":"default"}"#;
const STOPPED: &str = r#"{"id":"w","message":"","stopped":true,"workload_type":"echo"}"#;
const NOT_MINE: &str =
    r#"{"id":"w","message":"workload not found","stopped":false,"workload_type":"echo"}"#;

fn subject(id: &str) -> String {
    format!("$NEX.SVC.default.control.UNDEPLOY.{id}")
}

#[tokio::test]
async fn the_owners_answer_wins_over_the_others() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let owner = bus.nexlet(node.id()).await;
    let other = bus.nexlet_as(node.id(), registration("other")).await;
    other
        .answers(&other.stops(), |_| async {
            let headers = error_headers(ErrorCode::Nexlet, WORKLOAD_NOT_FOUND);
            vec![(headers, NOT_MINE.into())]
        })
        .await;
    let mut orders = bus.listen(&owner.stops()).await;
    owner.says(&owner.stops(), STOPPED).await;
    let request = r#"{"namespace":"default","wait":"3s"}"#;

    let reply = bus.ask(&subject("w"), request).await;

    let response: StopWorkloadResponse = body(&reply);
    assert!(response.stopped, "{response:?}");
    assert_eq!(
        (response.id.as_str(), response.workload_type.as_str()),
        ("w", "echo")
    );
    assert_eq!(named_node(&reply).as_deref(), Some(node.id().as_str()));
    // The nexlet reads how long the caller waits.
    let order: StopWorkloadRequest = body(&next(&mut orders).await);
    assert_eq!(order.wait.unwrap().to_string(), "3s");
}

/// A stream that keeps what is sent to nexlets confirms that first.
#[tokio::test]
async fn an_answer_that_is_no_answer_to_a_stop_is_not_the_nexlets() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let owner = bus.nexlet(node.id()).await;
    owner
        .answers(&owner.stops(), |_| async {
            let stored = r#"{"stream":"ALL","seq":7}"#;
            [stored, STOPPED]
                .map(|text| (HeaderMap::new(), text.into()))
                .into()
        })
        .await;

    let response: StopWorkloadResponse = body(&bus.ask(&subject("w"), REQUEST).await);

    assert!(response.stopped, "{response:?}");
}

#[tokio::test]
async fn a_stop_that_is_not_over_says_why() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    let alive = r#"{"id":"w","message":"still alive","stopped":false,"workload_type":"echo"}"#;
    nexlet.says(&nexlet.stops(), alive).await;

    let request = r#"{"namespace":"default","wait":"10ms"}"#;
    let response: StopWorkloadResponse = body(&bus.ask(&subject("w"), request).await);

    assert_eq!(
        (response.stopped, response.message.as_str()),
        (false, "still alive")
    );
}

#[tokio::test]
async fn the_owner_does_not_deny_a_workload_that_a_silent_nexlet_may_have() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let _silent = bus.nexlet(node.id()).await;
    let own = WorkloadId::mint(node.id());

    let request = r#"{"namespace":"default","wait":"0s"}"#;
    let response: StopWorkloadResponse = body(&bus.ask(&subject(own.as_str()), request).await);

    assert!(!response.stopped);
    assert_eq!(
        response.message,
        "1 of the node's nexlets did not answer in time"
    );
}

#[tokio::test]
async fn a_stranger_of_an_earlier_node_does_not_use_up_the_owners_place() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let owner = bus.nexlet(node.id()).await;
    let stops = owner.stops();
    let order = [("stranger", NOT_MINE), (owner.id.as_str(), STOPPED)];
    let order = order.map(|(name, text)| (name.to_owned(), text));
    // One responder for both, so that the stranger is surely heard first.
    owner
        .answers(&stops, move |_| {
            let answers = order.clone().map(|(name, text)| {
                let mut headers = HeaderMap::new();
                headers.insert("agentId", name);
                (headers, text.into())
            });
            async move { answers.to_vec() }
        })
        .await;

    let response: StopWorkloadResponse = body(&bus.ask(&subject("w"), REQUEST).await);

    assert!(response.stopped, "{response:?}");
}

/// As many as it works on at a time; the next one is told so at once, and other requests go on.
#[tokio::test]
async fn a_node_with_too_much_to_do_says_so() {
    const MOST: usize = 512;
    let bus = Bus::start().await;
    let node = bus.node().await;
    // It answers no stop, so each takes as long as its caller waits.
    let silent = bus.nexlet(node.id()).await;
    let _stops = bus.listen(&silent.stops()).await;
    let stop = r#"{"namespace":"default","wait":"60s"}"#;
    let id = WorkloadId::mint(node.id());
    let subject = subject(id.as_str());
    for _ in 0..MOST {
        let inbox = bus.client.new_inbox();
        let asked = bus
            .client
            .publish_with_reply(subject.clone(), inbox, stop.into());
        asked.await.unwrap();
    }

    let refused = bus.ask(&subject, stop).await;

    assert_error(
        &refused,
        ErrorCode::Busy,
        "the node works on too many requests",
    );
    assert_eq!(bus.bid("echo").await.bidder_id.as_str().len(), 22);
}
