//! Starts of one client at the same time.

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{join_all, ready},
};
use nex_client::{Client, Placed, StartError, StartSpec};
use nex_protocol::{Lifecycle, Subject};
use nex_testkit::NatsServer;

use crate::{LIMIT, client, connected, fake::Fake};

async fn start(client: &Client) -> Result<Placed, StartError> {
    let request = serde_json::json!({ "uri": "x" });
    let spec = StartSpec::new("native", Lifecycle::Service, &request);
    client.start(spec).await
}

/// What nobody answers, and a listener to all requests of the namespace hears.
const LAST: &str = "$NEX.SVC.default.control.LAST";

/// The auctions that were held, of the requests that a connection of its own heard.
async fn auctions(heard: &mut async_nats::Subscriber, client: &Client) -> usize {
    // What was published before it is heard before it.
    client.nats().publish(LAST, "".into()).await.unwrap();
    let auction = Subject::Auction(client.namespace().clone()).to_string();
    let before = heard.take_while(|message| ready(message.subject.as_str() != LAST));
    let auctions = before.filter(|message| ready(*message.subject == auction));
    tokio::time::timeout(LIMIT, auctions.count()).await.unwrap()
}

/// A client, and a connection that hears the requests of its namespace.
async fn heard(server: &NatsServer) -> (Client, async_nats::Subscriber) {
    let listener = connected(server.url()).await;
    let heard = listener.subscribe("$NEX.SVC.default.control.>").await;
    nex_nats::barrier(&listener).await.unwrap();
    (client(server.url(), "default").await, heard.unwrap())
}

#[tokio::test]
async fn those_that_come_during_an_auction_share_the_next_one() {
    let server = NatsServer::start();
    let nodes = ['A', 'B', 'C'].map(|fill| Fake::new(fill, &['A', 'B', 'C', 'D']).runs("native"));
    // Known and silent, so that an auction is not over at once.
    let stuck = Fake::stuck('D');
    let _running = join_all(
        nodes
            .iter()
            .chain([&stuck])
            .map(|node| node.start(server.url())),
    )
    .await;
    let (client, mut heard) = heard(&server).await;

    let first = tokio::spawn({
        let client = client.clone();
        async move { start(&client).await }
    });
    let begun = tokio::time::timeout(LIMIT, heard.next()).await.unwrap();
    assert!(begun.unwrap().subject.ends_with(".AUCTION"));
    let mut placed = join_all((0..9).map(|_| start(&client))).await;
    placed.push(first.await.unwrap());

    assert!(placed.iter().all(Result::is_ok), "{placed:?}");
    assert_eq!(auctions(&mut heard, &client).await, 1, "one more");
    let counts = nodes
        .each_ref()
        .map(|node| node.deployed.lock().unwrap().len());
    assert_eq!(counts.iter().sum::<usize>(), 10);
    // The first one anywhere, and of the nine that share an auction three each.
    assert!(
        counts.iter().all(|count| (3..=4).contains(count)),
        "{counts:?}"
    );
}

#[tokio::test]
async fn after_a_refusal_nobody_relies_on_the_same_bids() {
    let server = NatsServer::start();
    let full = Fake {
        busy: true,
        ..Fake::new('A', &['A', 'B', 'D']).runs("native")
    };
    let other = Fake {
        load: 9,
        ..Fake::new('B', &['A', 'B', 'D']).runs("native")
    };
    // Auctions that take long are good for others for long.
    let stuck = Fake::stuck('D');
    let nodes = [&full, &other, &stuck];
    let _running = join_all(nodes.map(|node| node.start(server.url()))).await;
    let (client, mut heard) = heard(&server).await;

    for _ in 0..3 {
        assert!(start(&client).await.is_ok());
    }

    assert_eq!(auctions(&mut heard, &client).await, 3);
}

#[tokio::test]
async fn one_that_nobody_polls_holds_up_no_other() {
    let server = NatsServer::start();
    let node = Fake::new('A', &['A']).runs("native");
    let _running = node.start(server.url()).await;
    let client = client(server.url(), "default").await;

    let mut idle = Box::pin(start(&client));
    assert!((&mut idle).now_or_never().is_none());
    let other = tokio::time::timeout(LIMIT, start(&client)).await.unwrap();

    assert!(other.is_ok(), "{other:?}");
    assert!(idle.await.is_ok());
}

#[tokio::test]
async fn one_that_is_given_up_takes_nothing_from_the_others() {
    let server = NatsServer::start();
    let node = Fake::new('A', &['A']).runs("native");
    let _running = node.start(server.url()).await;
    let client = client(server.url(), "default").await;

    // All three wait for one auction.
    let (mut first, mut second) = (Box::pin(start(&client)), Box::pin(start(&client)));
    let mut third = Box::pin(start(&client));
    for each in [&mut first, &mut second, &mut third] {
        assert!(each.now_or_never().is_none());
    }
    drop(first);
    drop(second);

    let third = tokio::time::timeout(LIMIT, third).await.unwrap();
    assert!(third.is_ok(), "{third:?}");
    assert!(start(&client).await.is_ok());
}
