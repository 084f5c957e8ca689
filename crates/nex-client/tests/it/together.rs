//! Starts of one client at the same time.

use futures_util::{FutureExt as _, StreamExt as _, future::join_all};
use nex_client::{Client, Placed, StartError, StartSpec};
use nex_protocol::{Lifecycle, Subject};
use nex_testkit::NatsServer;

use crate::{LIMIT, client, connected, fake::Fake};

async fn start(client: &Client) -> Result<Placed, StartError> {
    let request = serde_json::json!({ "uri": "x" });
    let spec = StartSpec::new("native", Lifecycle::Service, &request);
    client.start(spec).await
}

/// The auctions that were held, of those that a connection of its own heard.
async fn auctions(heard: &mut async_nats::Subscriber, client: &Client) -> usize {
    // What was published before it is heard before it.
    let last = Subject::Auction(client.namespace().clone()).to_string();
    client.nats().publish(last, "last".into()).await.unwrap();
    let before = heard.take_while(|message| {
        let is_last = message.payload == "last";
        async move { !is_last }
    });
    tokio::time::timeout(LIMIT, before.count()).await.unwrap()
}

#[tokio::test]
async fn those_that_come_during_an_auction_share_the_next_one() {
    let server = NatsServer::start();
    let nodes = ['A', 'B', 'C'].map(|fill| Fake::new(fill, &['A', 'B', 'C']).runs("native"));
    let _running = join_all(nodes.iter().map(|node| node.start(server.url()))).await;
    let client = client(server.url(), "default").await;
    let listener = connected(server.url()).await;
    let subject = Subject::Auction(client.namespace().clone()).to_string();
    let mut heard = listener.subscribe(subject).await.unwrap();
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
    // The first one anywhere, and of the nine that share an auction three each.
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
