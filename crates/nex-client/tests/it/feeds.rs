use std::time::Duration;

use async_nats::jetstream;
use nex_client::{
    Client, EventQuery, FeedError, FeedLimits, FeedSource, FeedsStreamError, LogLine, LogQuery,
    Logs, ensure_feeds_stream,
};
use nex_protocol::{FEEDS_STREAM, LogStream, Namespace, WorkloadId};
use nex_testkit::NatsServer;
use tokio::time::timeout;

use crate::{LIMIT, client};

async fn keeping(server: &NatsServer) -> Client {
    let client = client(server.url(), "default").await;
    ensure_feeds_stream(client.nats(), FeedLimits::default(), u64::MAX)
        .await
        .unwrap();
    client
}

async fn print(client: &Client, subject: &str, text: &str) {
    let subject = format!("$NEX.FEED.{subject}");
    client
        .nats()
        .publish(subject, text.to_owned().into())
        .await
        .unwrap();
    nex_nats::barrier(client.nats()).await.unwrap();
}

async fn next(logs: &mut Logs) -> Option<LogLine> {
    timeout(LIMIT, logs.next()).await.unwrap().unwrap()
}

async fn rest(mut logs: Logs) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(line) = next(&mut logs).await {
        lines.push(line.line);
    }
    lines
}

#[tokio::test]
async fn what_was_printed_before_is_read_and_put_together() {
    let server = NatsServer::builder().jetstream(true).start();
    let client = keeping(&server).await;
    print(&client, "default.logs.w1.stdout", "one\ntw").await;
    print(&client, "default.logs.w2.stdout", "other\n").await;
    print(&client, "default.logs.w1.stderr", "oops\n").await;
    print(&client, "default.logs.w1.stdout", "o\nend").await;
    print(&client, "tenant.logs.w1.stdout", "foreign\n").await;

    let query = LogQuery {
        id: Some(WorkloadId::new("w1").unwrap()),
        ..LogQuery::default()
    };
    let mut logs = client.logs(&query).await.unwrap();

    assert_eq!(logs.source(), FeedSource::Stored);
    let first = next(&mut logs).await.unwrap();
    assert_eq!(
        (first.id.as_str(), first.namespace.as_str()),
        ("w1", "default")
    );
    assert_eq!(
        (first.stream, first.line.as_str()),
        (LogStream::Stdout, "one")
    );
    let oops = next(&mut logs).await.unwrap();
    assert_eq!(
        (oops.stream, oops.line.as_str()),
        (LogStream::Stderr, "oops")
    );
    assert_eq!(rest(logs).await, ["two", "end"]);
    let all = LogQuery {
        namespace: Some(Namespace::system()),
        ..LogQuery::default()
    };
    let all = rest(client.logs(&all).await.unwrap()).await;
    assert_eq!(all, ["one", "other", "oops", "two", "foreign", "end"]);
}

#[tokio::test]
async fn nothing_kept_ends_at_once() {
    let server = NatsServer::builder().jetstream(true).start();
    let client = keeping(&server).await;

    let logs = client.logs(&LogQuery::default()).await.unwrap();

    assert!(rest(logs).await.is_empty());
}

#[tokio::test]
async fn following_goes_on_where_the_past_ends() {
    let server = NatsServer::builder().jetstream(true).start();
    let client = keeping(&server).await;
    print(&client, "default.logs.w1.stdout", "past\n").await;
    let query = LogQuery {
        follow: true,
        ..LogQuery::default()
    };
    let mut logs = client.logs(&query).await.unwrap();

    print(&client, "default.logs.w1.stdout", "now\nprompt> ").await;

    for wanted in ["past", "now", "prompt> "] {
        assert_eq!(next(&mut logs).await.unwrap().line, wanted);
    }
}

#[tokio::test]
async fn since_leaves_out_what_is_older() {
    let server = NatsServer::builder().jetstream(true).start();
    let client = keeping(&server).await;
    print(&client, "default.logs.w1.stdout", "old\n").await;
    let mut old = client.logs(&LogQuery::default()).await.unwrap();
    let old = next(&mut old).await.unwrap();
    print(&client, "default.logs.w1.stdout", "new\n").await;

    let query = LogQuery {
        since: Some(old.time + Duration::from_nanos(1)),
        ..LogQuery::default()
    };
    let logs = client.logs(&query).await.unwrap();

    assert_eq!(rest(logs).await, ["new"]);
}

#[tokio::test]
async fn without_a_stream_only_the_present_is_seen() {
    let server = NatsServer::start();
    let client = client(server.url(), "default").await;
    print(&client, "default.logs.w1.stdout", "lost\n").await;

    let past = client.logs(&LogQuery::default()).await.unwrap();
    assert_eq!(past.source(), FeedSource::Live);
    assert!(rest(past).await.is_empty());

    let query = LogQuery {
        follow: true,
        ..LogQuery::default()
    };
    let mut logs = client.logs(&query).await.unwrap();
    print(&client, "default.logs.w1.stdout", "seen\n").await;
    assert_eq!(next(&mut logs).await.unwrap().line, "seen");
}

#[tokio::test]
async fn a_lost_server_ends_following_with_an_error() {
    for jetstream in [true, false] {
        let mut server = NatsServer::builder().jetstream(jetstream).start();
        let client = client(server.url(), "default").await;
        if jetstream {
            ensure_feeds_stream(client.nats(), FeedLimits::default(), u64::MAX)
                .await
                .unwrap();
        }
        let query = LogQuery {
            follow: true,
            ..LogQuery::default()
        };
        let mut logs = client.logs(&query).await.unwrap();

        server.kill();

        let end = timeout(LIMIT, logs.next()).await.unwrap();
        assert!(matches!(end, Err(FeedError::Closed)), "{end:?}");
        assert!(next(&mut logs).await.is_none());
    }
}

#[tokio::test]
async fn events_are_read() {
    let server = NatsServer::builder().jetstream(true).start();
    let client = keeping(&server).await;
    print(&client, "default.events.WORKLOADSTARTED", r#"{"id":"w1"}"#).await;
    print(&client, "tenant.events.WORKLOADSTOPPED", "no json").await;

    let mut own = client.events(&EventQuery::default()).await.unwrap();
    let first = timeout(LIMIT, own.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(
        (first.from.as_str(), first.name.as_str()),
        ("default", "WORKLOADSTARTED")
    );
    assert_eq!(first.body["id"], "w1");
    assert!(timeout(LIMIT, own.next()).await.unwrap().unwrap().is_none());

    let system = client.in_namespace(Namespace::system());
    let mut all = system.events(&EventQuery::default()).await.unwrap();
    timeout(LIMIT, all.next()).await.unwrap().unwrap().unwrap();
    let second = timeout(LIMIT, all.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(second.body, "no json");
}

#[tokio::test]
async fn the_stream_is_made_once_and_its_limits_changed() {
    let server = NatsServer::builder().jetstream(true).start();
    let client = keeping(&server).await;
    print(&client, "default.logs.w1.stdout", "kept\n").await;
    let smaller = FeedLimits {
        max_bytes: 1024 * 1024,
        max_age: Duration::from_secs(3600),
    };

    ensure_feeds_stream(client.nats(), smaller, u64::MAX)
        .await
        .unwrap();
    ensure_feeds_stream(client.nats(), smaller, u64::MAX)
        .await
        .unwrap();

    let context = jetstream::new(client.nats().clone());
    let stream = context.get_stream(FEEDS_STREAM).await.unwrap();
    let info = stream.cached_info();
    assert_eq!(info.config.max_bytes, 1024 * 1024);
    assert_eq!(info.config.max_age, Duration::from_secs(3600));
    assert_eq!(info.state.messages, 1);
}

#[tokio::test]
async fn without_jetstream_there_is_no_stream() {
    let server = NatsServer::start();
    let client = client(server.url(), "default").await;

    let made = ensure_feeds_stream(client.nats(), FeedLimits::default(), u64::MAX).await;

    assert!(
        matches!(made, Err(FeedsStreamError::JetStreamOff)),
        "{made:?}"
    );
}
