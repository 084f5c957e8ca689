use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all};
use nex_functions::Limits;
use nex_protocol::WorkloadState;
use nex_testkit::{NatsServer, eventually};
use nexlet::StopError;

use crate::fake::{Bench, LIMIT};

#[tokio::test]
async fn replicas_share_the_work() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let replicas = [
        bench.start("echo", "a").await,
        bench.start("echo", "a").await,
    ];

    join_all((0..500).map(|_| bench.call("a", "x"))).await;

    let calls = replicas.map(|id| bench.count(&id, "calls"));
    assert_eq!(calls.iter().sum::<u64>(), 500, "{calls:?}");
    assert!(calls.iter().all(|calls| *calls > 50), "{calls:?}");
}

#[tokio::test]
async fn replacing_a_function_under_load_loses_nothing() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let mut current = bench.start("echo", "a").await;
    let (stop_tx, stop_rx) = tokio::sync::watch::channel(false);
    let caller = || async {
        let mut answered = 0;
        while !*stop_rx.borrow() {
            let reply = bench.call("a", "x").await;
            assert!(nex_nats::read_error(&reply).is_none(), "{reply:?}");
            answered += 1;
        }
        answered
    };
    let replacing = async {
        for _ in 0..10 {
            let next = bench.start("echo", "a").await;
            bench.stop(&current).await;
            current = next;
        }
        stop_tx.send(true).unwrap();
    };

    let (answered, ()) = tokio::join!(join_all((0..32).map(|_| caller())), replacing);

    assert!(answered.iter().sum::<u32>() > 500, "{answered:?}");
    assert_eq!(bench.host.list().len(), 1);
}

#[tokio::test]
async fn a_stop_answers_what_was_delivered_and_then_nothing() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let id = bench.start("gate", "a").await;
    let mut events = bench
        .client
        .subscribe("$NEX.FEED.tenant.events.*")
        .await
        .unwrap();
    let stopping = async {
        eventually("a call at the gate", LIMIT, || async {
            bench.gate.arrived() == 1
        })
        .await;
        let opening = async {
            let listed =
                || async { bench.host.list()[0].workload_state == WorkloadState::Stopping };
            eventually("the state `stopping`", LIMIT, listed).await;
            bench.gate.open();
        };
        tokio::join!(bench.stop(&id), opening);
    };

    let (reply, ()) = tokio::join!(bench.call("a", "held"), stopping);

    assert_eq!(reply.payload, "held");
    assert!(bench.host.list().is_empty());
    assert!(bench.host.get(&id).is_none());
    let after = bench.client.request("a", "late".into()).await;
    assert!(after.is_err(), "{after:?}");
    let event = tokio::time::timeout(LIMIT, events.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        event.subject.as_str(),
        "$NEX.FEED.tenant.events.WORKLOADSTOPPED"
    );
}

#[tokio::test]
async fn what_is_not_there_cannot_be_stopped() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let id = bench.start("echo", "a").await;
    bench.stop(&id).await;

    let stop = nexlet::Stop {
        id,
        namespace: nex_protocol::Namespace::new("tenant").unwrap(),
        purge: false,
    };
    assert_eq!(bench.host.stop(&stop).await, Err(StopError::NotFound));
}

#[tokio::test]
async fn a_shutdown_stops_every_function() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    for number in 0..20 {
        bench.start("echo", &format!("a.{number}")).await;
    }

    bench.host.shutdown(Duration::from_secs(10)).await;

    assert!(bench.host.list().is_empty());
    assert!(bench.client.request("a.7", "late".into()).await.is_err());
}
