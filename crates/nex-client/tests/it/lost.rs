//! The connection is lost and comes back: feeds go on, and requests end at once.

use std::time::{Duration, Instant};

use nex_client::{
    Client, ClientError, FeedLimits, FeedSource, LogQuery, Logs, ensure_feeds_stream,
};
use nex_nats::{ConnectOptions, Reconnect, connect};
use nex_protocol::{BidId, Namespace, StartWorkloadRequest};
use nex_testkit::NatsServer;
use tokio::time::timeout;

use crate::{LIMIT, client};

/// A client that reconnects, as a command does.
pub(crate) async fn enduring(server: &NatsServer) -> Client {
    let options = ConnectOptions {
        reconnect: Reconnect::Command,
        ..ConnectOptions::new([server.url()], "test")
    };
    let connection = connect(&options).await.unwrap();
    Client::new(connection, Namespace::default_tenant())
}

/// Lines of these numbers, and a round trip after them.
async fn write(client: &Client, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let subject = "$NEX.FEED.default.logs.w1.stdout";
        let line = format!("{number}\n");
        client.nats().publish(subject, line.into()).await.unwrap();
    }
    nex_nats::barrier(client.nats()).await.unwrap();
}

async fn read(logs: &mut Logs, count: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let line = timeout(LIMIT, logs.next()).await;
        let line = line.unwrap_or_else(|_| panic!("no more than {numbers:?}"));
        numbers.push(line.unwrap().unwrap().line.parse().unwrap());
    }
    numbers
}

async fn keeping(server: &NatsServer) -> Client {
    let writer = enduring(server).await;
    let limits = FeedLimits::default();
    ensure_feeds_stream(writer.nats(), limits, u64::MAX)
        .await
        .unwrap();
    writer
}

fn follow() -> LogQuery {
    LogQuery {
        follow: true,
        ..LogQuery::default()
    }
}

#[tokio::test]
async fn a_follower_reads_each_line_once_over_several_restarts() {
    let mut server = NatsServer::builder().jetstream(true).start();
    let writer = keeping(&server).await;
    let mut logs = enduring(&server).await.logs(&follow()).await.unwrap();

    for round in 0..3 {
        write(&writer, round * 10..round * 10 + 5).await;
        let before: Vec<u32> = (round * 10..round * 10 + 5).collect();
        assert_eq!(read(&mut logs, 5).await, before);
        server.restart();
        let writer = enduring(&server).await;
        write(&writer, round * 10 + 5..round * 10 + 10).await;
        let after: Vec<u32> = (round * 10 + 5..round * 10 + 10).collect();
        assert_eq!(read(&mut logs, 5).await, after);
    }
}

#[tokio::test]
async fn a_restart_while_a_reader_catches_up_loses_and_repeats_nothing() {
    const LINES: u32 = 5_000;
    let mut server = NatsServer::builder().jetstream(true).start();
    let writer = keeping(&server).await;
    write(&writer, 0..LINES).await;
    for follow in [true, false] {
        let query = LogQuery {
            follow,
            ..LogQuery::default()
        };
        let mut logs = enduring(&server).await.logs(&query).await.unwrap();
        let mut numbers = read(&mut logs, 10).await;

        server.restart();

        numbers.extend(read(&mut logs, LINES as usize - 10).await);
        assert!(numbers.iter().copied().eq(0..LINES), "follow: {follow}");
        if !follow {
            assert!(
                timeout(LIMIT, logs.next())
                    .await
                    .unwrap()
                    .unwrap()
                    .is_none()
            );
        }
    }
}

/// A reader that has read nothing yet begins where it was asked to, not at the beginning.
#[tokio::test]
async fn a_restart_before_the_first_line_brings_no_older_ones() {
    let mut server = NatsServer::builder().jetstream(true).start();
    let writer = keeping(&server).await;
    write(&writer, 0..5).await;
    let mut all = enduring(&server)
        .await
        .logs(&LogQuery::default())
        .await
        .unwrap();
    let mut last = None;
    while let Some(line) = timeout(LIMIT, all.next()).await.unwrap().unwrap() {
        last = Some(line.time);
    }
    let query = LogQuery {
        since: last.map(|last| last + Duration::from_nanos(1)),
        ..follow()
    };
    let mut logs = enduring(&server).await.logs(&query).await.unwrap();
    assert!(
        timeout(Duration::from_millis(50), logs.next())
            .await
            .is_err()
    );

    server.restart();
    write(&enduring(&server).await, 5..7).await;

    assert_eq!(read(&mut logs, 2).await, [5, 6]);
}

#[tokio::test]
async fn a_follower_without_a_stream_goes_on() {
    let mut server = NatsServer::start();
    let reader = enduring(&server).await;
    let mut logs = reader.logs(&follow()).await.unwrap();
    assert_eq!(logs.source(), FeedSource::Live);
    let next = tokio::spawn(async move { read(&mut logs, 1).await });

    let lost = reader.losses().next();
    server.restart();
    timeout(LIMIT, lost).await.unwrap();
    assert!(reader.losses().up().await);
    // The subscription is made anew before whatever this connection sends.
    write(&reader, 7..8).await;

    assert_eq!(next.await.unwrap(), [7]);
    assert_eq!(reader.losses().count(), 1);
}

#[tokio::test]
async fn a_reader_that_does_not_follow_gives_up_where_the_server_stays_away() {
    let mut server = NatsServer::builder().jetstream(true).start();
    let writer = keeping(&server).await;
    write(&writer, 0..5_000).await;
    let mut logs = client(server.url(), "default")
        .await
        .logs(&LogQuery::default())
        .await
        .unwrap();
    read(&mut logs, 1).await;

    server.kill();

    let reading = async {
        while let Ok(Some(_)) = logs.next().await {}
        logs.next().await
    };
    let end = timeout(LIMIT, reading).await.unwrap();
    assert!(matches!(end, Ok(None)), "{end:?}");
}

/// Each kind of request: to one node, to all, a deploy, and to a function.
#[tokio::test]
async fn a_pending_request_ends_with_its_connection() {
    for request in ["node", "list", "nodes", "auction", "deploy", "start"] {
        let mut server = NatsServer::start();
        let own = client(server.url(), "default").await;
        // Somebody listens and never answers.
        let mut silent = own.nats().subscribe("$NEX.>").await.unwrap();
        nex_nats::barrier(own.nats()).await.unwrap();
        let asking = enduring(&server).await;
        let asked = tokio::spawn(async move { ask(&asking, request).await });
        timeout(LIMIT, futures_util::StreamExt::next(&mut silent))
            .await
            .unwrap()
            .unwrap();

        server.kill();

        let begun = Instant::now();
        let error = timeout(LIMIT, asked).await.unwrap().unwrap();
        assert_eq!(error, "lost the connection to NATS", "{request}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{request}");
    }
}

async fn ask(client: &Client, request: &str) -> String {
    let node = format!("N{}", "A".repeat(55)).parse().unwrap();
    let text = |error: ClientError| error.to_string();
    match request {
        "node" => client.node_info(&node).await.map(drop).map_err(text),
        "list" => client.list(&[]).await.map(drop).map_err(text),
        "nodes" => client
            .nodes(&Default::default(), None)
            .await
            .map(drop)
            .map_err(text),
        "auction" => {
            let spec = nex_client::AuctionSpec {
                workload_type: "t".into(),
                tags: Default::default(),
                lifecycle: None,
                explain: true,
            };
            client.auction(spec).await.map(drop).map_err(text)
        }
        "deploy" => {
            let start: StartWorkloadRequest = serde_json::from_value(serde_json::json!({
                "description": "", "workload_lifecycle": "job", "name": "n", "namespace": "default",
                "run_request": "{}", "workload_type": "t", "tags": {}, "metadata": {},
            }))
            .unwrap();
            let bid = BidId::new("b1").unwrap();
            client.deploy(&bid, &start).await.map(drop).map_err(text)
        }
        _ => {
            let spec = nex_client::StartSpec::new("t", nex_protocol::Lifecycle::Job, &());
            client
                .start(spec)
                .await
                .map(drop)
                .map_err(|it| it.to_string())
        }
    }
    .unwrap_err()
}
