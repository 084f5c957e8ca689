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

#[tokio::test]
async fn those_that_come_during_an_auction_share_the_next_one() {
    let server = NatsServer::start();
    let nodes = ['A', 'B', 'C'].map(|fill| Fake::new(fill, &['A', 'B', 'C']).runs("native"));
    let _running = join_all(nodes.iter().map(|node| node.start(server.url()))).await;
    let client = client(server.url(), "default").await;
    let listener = connected(server.url()).await;
    let mut heard = listener
        .subscribe("$NEX.SVC.default.control.>")
        .await
        .unwrap();
    nex_nats::barrier(&listener).await.unwrap();

    let placed = join_all((0..10).map(|_| start(&client))).await;

    assert!(placed.iter().all(Result::is_ok), "{placed:?}");
    // Those that came just after the first auction may have been given its bids.
    let held = auctions(&mut heard, &client).await;
    assert!((1..=2).contains(&held), "{held}");
    let counts = nodes
        .each_ref()
        .map(|node| node.deployed.lock().unwrap().len());
    assert_eq!(counts.iter().sum::<usize>(), 10);
    // Ten that share an auction, or one and nine: nobody gets more than one more than another.
    assert!(
        counts.iter().all(|count| (3..=4).contains(count)),
        "{counts:?}"
    );
}

#[tokio::test]
async fn one_that_is_given_up_takes_nothing_from_the_others() {
    let server = NatsServer::start();
    let node = Fake::new('A', &['A']).runs("native");
    let _running = node.start(server.url()).await;
    let client = client(server.url(), "default").await;

    // The first holds the auction, the second waits for the next one with the third.
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
