use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use nex_client::{AuctionSpec, Client, ClientError, Placed, StartError, StartSpec, limits};
use nex_protocol::{ErrorCode, Lifecycle, Subject, Tags};
use nex_testkit::NatsServer;

use crate::{
    client,
    fake::{Fake, node_id},
};

/// Under the limit of an auction, and far over what answers take, for machines that are busy.
const REFUSAL: Duration = Duration::from_secs(1);

async fn start(client: &Client, workload_type: &str) -> Result<Placed, StartError> {
    let request = serde_json::json!({ "uri": "x" });
    let spec = StartSpec::new(workload_type, Lifecycle::Service, &request);
    client.start(spec).await
}

#[tokio::test]
async fn the_least_loaded_node_gets_it() {
    let server = NatsServer::start();
    let busy = Fake {
        load: 5,
        ..Fake::new('A', &['A', 'B']).runs("native")
    };
    let idle = Fake {
        load: 1,
        ..Fake::new('B', &['A', 'B']).runs("native")
    };
    let (_a, _b) = (
        busy.start(server.url()).await,
        idle.start(server.url()).await,
    );
    let client = client(server.url(), "default").await;

    for _ in 0..5 {
        let placed = start(&client, "native").await.unwrap();

        assert_eq!(placed.node, Some(node_id('B')));
        assert_eq!(placed.name, "native-on-B");
        assert!(placed.id.minted_by(&node_id('B')));
    }
}

#[tokio::test]
async fn a_busy_node_is_passed_over() {
    let server = NatsServer::start();
    let busy = Fake {
        busy: true,
        ..Fake::new('A', &['A', 'B']).runs("native")
    };
    let other = Fake {
        load: 9,
        ..Fake::new('B', &['A', 'B']).runs("native")
    };
    let (_a, _b) = (
        busy.start(server.url()).await,
        other.start(server.url()).await,
    );
    let client = client(server.url(), "default").await;

    assert_eq!(
        start(&client, "native").await.unwrap().node,
        Some(node_id('B'))
    );
}

#[tokio::test]
async fn a_type_that_nobody_runs_is_refused_at_once_with_the_reason() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A', 'B'])
        .runs("native")
        .start(server.url())
        .await;
    let _b = Fake::new('B', &['A', 'B']).start(server.url()).await;
    let client = client(server.url(), "default").await;
    let started = Instant::now();

    let error = start(&client, "cobol").await.unwrap_err();

    assert!(started.elapsed() < REFUSAL, "{:?}", started.elapsed());
    assert_eq!(
        error.to_string(),
        "no node runs `cobol` workloads: no nexlet runs `cobol`"
    );
}

#[tokio::test]
async fn no_node_at_all_is_said() {
    let server = NatsServer::start();
    let client = client(server.url(), "default").await;
    let started = Instant::now();

    let error = start(&client, "native").await.unwrap_err();

    assert!(matches!(error, StartError::NoNodes), "{error:?}");
    assert!(started.elapsed() < REFUSAL, "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_alias_is_used_where_nobody_runs_the_type_itself() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A']).runs("js").start(server.url()).await;
    let client = client(server.url(), "default").await;

    for alias in ["v8", "javascript", "js"] {
        let placed = start(&client, alias).await.unwrap();

        assert_eq!(placed.workload_type, "js");
        assert_eq!(placed.name, "js-on-A");
    }
}

#[tokio::test]
async fn an_alias_is_not_used_where_somebody_runs_the_type_itself() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A', 'B'])
        .runs("js")
        .start(server.url())
        .await;
    let _b = Fake::new('B', &['A', 'B'])
        .runs("v8")
        .start(server.url())
        .await;
    let client = client(server.url(), "default").await;

    let placed = start(&client, "v8").await.unwrap();

    assert_eq!(placed.workload_type, "v8");
    assert_eq!(placed.node, Some(node_id('B')));
}

#[tokio::test]
async fn an_auction_tells_who_declined_and_who_was_silent() {
    let server = NatsServer::start();
    let peers = ['A', 'B', 'C'];
    let _a = Fake::new('A', &peers)
        .runs("native")
        .start(server.url())
        .await;
    let _b = Fake::new('B', &peers).start(server.url()).await;
    let client = client(server.url(), "default").await;
    let started = Instant::now();

    let answer = client
        .auction(AuctionSpec {
            workload_type: "native".into(),
            tags: Tags::new(),
            lifecycle: None,
            explain: true,
        })
        .await
        .unwrap();

    // The silent one is waited for a moment, not for the whole limit, since there is a bid.
    assert!(
        started.elapsed() < Duration::from_millis(1200),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(answer.bids.len(), 1);
    assert_eq!(answer.declined[0].0, Some(node_id('B')));
    assert_eq!(answer.missing, [node_id('C')]);
}

#[tokio::test]
async fn go_nodes_bid_and_decline_by_silence() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A', 'G', 'H']).start(server.url()).await;
    let _g = Fake::go('G').runs("native").start(server.url()).await;
    let _h = Fake::go('H').start(server.url()).await;
    let client = client(server.url(), "default").await;
    let started = Instant::now();

    let placed = start(&client, "native").await.unwrap();
    let refused = start(&client, "cobol").await.unwrap_err();

    assert_eq!((placed.name.as_str(), placed.node), ("native-on-G", None));
    assert!(matches!(refused, StartError::NoBids { ref missing, .. } if missing.is_empty()));
    assert!(
        started.elapsed() < limits::AUCTION,
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn what_the_node_answered_is_told() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A'])
        .runs("native")
        .start(server.url())
        .await;
    let client = client(server.url(), "default").await;
    let spec = StartSpec::new("native", Lifecycle::Service, &"broken");

    let error = client.start(spec).await.unwrap_err();

    let StartError::Client(ClientError::Refused(refused)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(
        (refused.code, refused.text.as_str()),
        (ErrorCode::Internal, "it broke")
    );
    assert_eq!((refused.error_id.as_str(), refused.detail), ("E2", None));
}

#[tokio::test]
async fn what_is_wrong_with_a_start_request_is_told() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A'])
        .runs("native")
        .start(server.url())
        .await;
    let client = client(server.url(), "default").await;
    let spec = StartSpec::new("native", Lifecycle::Service, &"unfit");

    let error = client.start(spec).await.unwrap_err();

    let StartError::Client(ClientError::Refused(refused)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(refused.text, "failed to validate");
    let detail = refused.detail.unwrap();
    assert!(detail.contains("required property"), "{detail}");
}

#[tokio::test]
async fn a_start_request_that_nobody_takes_is_not_sent() {
    let server = NatsServer::start();
    let fake = Fake {
        schema: r#"{"properties":{"uri":{"type":"string"}}}"#,
        ..Fake::new('A', &['A']).runs("native")
    };
    let deployed = fake.deployed.clone();
    let _a = fake.start(server.url()).await;
    let client = client(server.url(), "default").await;
    let spec = |uri: serde_json::Value| {
        let request = serde_json::json!({ "uri": uri });
        StartSpec::new("native", Lifecycle::Service, &request)
    };

    let error = client.start(spec(1.into())).await.unwrap_err();

    let StartError::Unfit { complaints, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(complaints.as_slice()[0].pointer, "/uri");
    assert!(client.check_start(&spec(1.into())).await.is_err());
    let fits = client.check_start(&spec("x".into())).await;
    assert_eq!(fits.unwrap(), "native");
    assert!(deployed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_silent_peer_might_run_what_the_others_do_not() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A', 'B'])
        .runs("native")
        .start(server.url())
        .await;
    let client = client(server.url(), "default").await;

    let error = start(&client, "cobol").await.unwrap_err();

    assert!(
        error
            .to_string()
            .starts_with("no node that answered runs `cobol` workloads: "),
        "{error}"
    );
    assert!(
        matches!(error, StartError::NoBids { ref missing, .. } if *missing == [node_id('B')]),
        "{error:?}"
    );
}

#[tokio::test]
async fn whether_somebody_would_run_it_is_known_before_the_start() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A']).runs("js").start(server.url()).await;
    let client = client(server.url(), "default").await;
    let spec = |workload_type| StartSpec::new(workload_type, Lifecycle::Function, &"");

    assert_eq!(client.would_start(&spec("v8")).await.unwrap(), "js");
    let refused = client.would_start(&spec("wasm")).await.unwrap_err();
    assert!(matches!(refused, StartError::NoBids { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_node_that_lives_and_does_not_answer_is_named_and_nothing_is_said_of_types() {
    let server = NatsServer::start();
    let busy = Fake {
        silent_at: &["auction"],
        ..Fake::new('A', &['A']).runs("native")
    };
    let _a = busy.start(server.url()).await;
    let client = client(server.url(), "default").await;

    let error = start(&client, "native").await.unwrap_err();

    let StartError::Client(ClientError::NoAnswer { after, missing }) = error else {
        panic!("{error:?}");
    };
    assert_eq!((after, missing), (limits::SILENCE, vec![node_id('A')]));
}

#[tokio::test]
async fn starts_in_a_row_do_not_each_ask_who_is_there() {
    const STARTS: usize = 20;
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A'])
        .runs("native")
        .start(server.url())
        .await;
    let listener = crate::connected(server.url()).await;
    let mut pings = listener.subscribe(Subject::Ping.to_string()).await.unwrap();
    nex_nats::barrier(&listener).await.unwrap();
    let client = client(server.url(), "default").await;

    for _ in 0..STARTS {
        start(&client, "native").await.unwrap();
    }

    listener
        .publish(Subject::Ping.to_string(), "own".into())
        .await
        .unwrap();
    let mut heard = 0;
    while pings.next().await.unwrap().payload != "own" {
        heard += 1;
    }
    assert!((1..STARTS).contains(&heard), "{heard}");
}

#[tokio::test]
async fn who_is_new_or_gone_since_it_was_asked_is_noticed() {
    let server = NatsServer::start();
    let a = Fake::new('A', &['A', 'B'])
        .runs("native")
        .start(server.url())
        .await;
    let _b = Fake::new('B', &['A', 'B'])
        .runs("native")
        .start(server.url())
        .await;
    let client = client(server.url(), "default").await;
    start(&client, "native").await.unwrap();

    let _new = Fake::new('C', &['A', 'B', 'C'])
        .runs("new")
        .start(server.url())
        .await;
    let placed = start(&client, "new").await.unwrap();
    assert_eq!(placed.node, Some(node_id('C')));

    drop(a);
    let placed = start(&client, "native").await.unwrap();
    assert_eq!(placed.node, Some(node_id('B')));
}
