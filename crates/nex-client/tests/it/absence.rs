//! A node that stops answering while it is waited for, and nodes that are not back yet.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use nex_client::{Client, ClientError, PlaceOptions, StartError, StartSpec};
use nex_protocol::{Lifecycle, Subject, Tags, WorkloadId};
use nex_testkit::NatsServer;

use crate::{
    client,
    fake::{Fake, Running, node_id},
    lost::enduring,
};

/// Upper bound for noticing that a node is gone, on a busy machine. The time-outs of the requests are
/// longer.
const SOON: Duration = Duration::from_secs(20);

/// A node that takes deploys, stops and orders to drain, and answers none of them.
fn slow() -> Fake {
    Fake {
        silent_at: &["deploy", "stop", "lameduck"],
        ..Fake::new('A', &['A'])
    }
    .runs("native")
}

fn spec() -> StartSpec {
    StartSpec {
        name: "web".to_owned(),
        ..StartSpec::new("native", Lifecycle::Service, &serde_json::json!({}))
    }
}

/// Ends a node once it has answered its first ping to it alone: a request has taken a second by then.
async fn end_when_pinged(client: &Client, node: Running) {
    let subject = Subject::PingNode(node_id('A')).to_string();
    let mut pings = client.nats().subscribe(subject).await.unwrap();
    pings.next().await;
    drop(node);
}

#[tokio::test]
async fn a_deploy_a_stop_and_a_drain_end_soon_after_their_node() {
    for request in ["deploy", "stop", "drain"] {
        let server = NatsServer::start();
        let node = slow().start(server.url()).await;
        let client = client(server.url(), "default").await;
        let begun = Instant::now();
        let asking = async {
            match request {
                "deploy" => client
                    .start(spec())
                    .await
                    .map(drop)
                    .map_err(absent_at_start),
                "stop" => {
                    let id = WorkloadId::mint(&node_id('A'));
                    client
                        .stop(&id, Some(Duration::from_secs(60)))
                        .await
                        .map(drop)
                }
                _ => {
                    let delay = Duration::from_secs(60);
                    let drained = client.lameduck(&node_id('A'), delay, Tags::new()).await;
                    drained.map(drop)
                }
            }
        };

        let (error, ()) = tokio::join!(asking, end_when_pinged(&client, node));

        let error = error.unwrap_err();
        assert!(
            matches!(&error, ClientError::NodeAbsent { node, .. } if *node == node_id('A')),
            "{request}: {error:?}"
        );
        assert!(begun.elapsed() < SOON, "{request}: {:?}", begun.elapsed());
    }
}

/// The error of a deploy whose node is gone, as that of other requests.
fn absent_at_start(error: StartError) -> ClientError {
    match error {
        StartError::NodeAbsent { node, after, .. } => ClientError::NodeAbsent { node, after },
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_that_hangs_is_as_good_as_gone() {
    let server = NatsServer::start();
    let stuck = Fake {
        silent_at: &["deploy", "ping-one", "list"],
        ..slow()
    };
    let _node = stuck.start(server.url()).await;
    let client = client(server.url(), "default").await;

    let begun = Instant::now();
    let error = client.start(spec()).await.unwrap_err();

    assert!(matches!(error, StartError::NodeAbsent { .. }), "{error:?}");
    assert!(error.to_string().contains("may run"), "{error}");
    // Asking afterwards for what runs there takes its time too.
    assert!(begun.elapsed() < SOON + Duration::from_secs(10));
}

#[tokio::test]
async fn a_node_that_was_started_again_does_not_answer_what_its_predecessor_was_asked() {
    let server = NatsServer::start();
    let node = slow().start(server.url()).await;
    let client = client(server.url(), "default").await;
    let restart = async {
        end_when_pinged(&client, node).await;
        let later = Fake {
            start_time: jiff::Timestamp::now(),
            ..slow()
        };
        later.start(server.url()).await
    };

    let begun = Instant::now();
    let (started, _node) = tokio::join!(client.start(spec()), restart);

    let error = started.unwrap_err();
    assert!(matches!(error, StartError::NodeAbsent { .. }), "{error:?}");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_node_that_takes_long_and_answers_pings_is_waited_for() {
    let server = NatsServer::start();
    let _node = slow().start(server.url()).await;
    let client = client(server.url(), "default").await;
    let options = PlaceOptions {
        limit: Some(Duration::from_secs(12)),
        ..PlaceOptions::default()
    };

    let placed = client.place(spec(), &options).await;

    let error = placed.outcome.unwrap_err();
    assert!(
        matches!(error, StartError::Unanswered { after, .. } if after > Duration::from_secs(11)),
        "{error:?}"
    );
}

/// After a restart of the server a client may be the first to be back.
#[tokio::test]
async fn a_node_that_is_not_back_yet_is_not_one_that_does_not_exist() {
    let mut server = NatsServer::start();
    let node = Fake::new('A', &['A']).runs("native").with("web", "default");
    let id = node.workloads[0].id.clone();
    let client = enduring(&server).await;
    let lost = client.losses().next();
    server.restart();
    lost.await;
    assert!(client.losses().up().await);

    let arrives = async {
        // The first attempts of all requests find nobody.
        tokio::time::sleep(Duration::from_millis(300)).await;
        node.start(server.url()).await
    };
    let a = node_id('A');
    let filter = Tags::new();
    let (listed, nodes, pong, found, started, stopped, _node) = tokio::join!(
        client.list(&[]),
        client.nodes(&filter, None),
        client.ping(&a),
        client.find("web"),
        client.start(spec()),
        client.stop(&id, None),
        arrives,
    );

    assert_eq!(listed.unwrap().workloads.len(), 1);
    assert_eq!(nodes.unwrap().nodes.len(), 1);
    assert_eq!(pong.unwrap().node_id, a);
    assert_eq!(found.unwrap().id, id);
    assert_eq!(started.unwrap().node, Some(a));
    assert!(stopped.unwrap().stopped);
}

#[tokio::test]
async fn that_nobody_is_back_is_said_in_a_few_seconds() {
    let mut server = NatsServer::start();
    let client = enduring(&server).await;
    let lost = client.losses().next();
    server.restart();
    lost.await;
    assert!(client.losses().up().await);

    let begun = Instant::now();
    let listed = client.list(&[]).await.unwrap();

    assert!(listed.nobody);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}
