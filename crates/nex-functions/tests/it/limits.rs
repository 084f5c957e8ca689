use std::time::{Duration, Instant};

use nex_functions::Limits;
use nex_protocol::ErrorCode;
use nex_testkit::{NatsServer, eventually};

use crate::fake::{Bench, LIMIT};

fn narrow() -> Limits {
    Limits {
        threads: 2,
        running: 1,
        in_flight: 2,
        ..Limits::default()
    }
}

#[tokio::test]
async fn an_invocation_past_its_timeout_is_answered_with_the_limit() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    bench.start_with("count", "a", r#""500ms""#).await.unwrap();
    assert_eq!(bench.call("a", "").await.payload, "1");

    let (code, text) = bench.error("a", "loop").await;

    assert_eq!(code, ErrorCode::Timeout);
    assert_eq!(text, "timed out after 500ms: interrupted");
    assert_eq!(
        bench.call("a", "").await.payload,
        "1",
        "a new instance counts anew"
    );
}

#[tokio::test]
async fn a_function_with_the_shortest_timeout_answers() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    bench.start_with("count", "a", r#""1ns""#).await.unwrap();

    for _ in 0..3 {
        let (code, text) = bench.error("a", "").await;
        assert_eq!(code, ErrorCode::Timeout, "{text}");
    }
}

#[tokio::test]
async fn a_full_function_refuses_at_once() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, narrow()).await;
    let id = bench.start("gate", "a").await;
    let held = async { tokio::join!(bench.call("a", "1"), bench.call("a", "2")) };
    let third = async {
        eventually("a call at the gate", LIMIT, || async {
            bench.gate.arrived() == 1
        })
        .await;
        let asked = Instant::now();
        let (code, text) = bench.error("a", "3").await;
        let took = asked.elapsed();
        bench.gate.open();
        (code, text, took)
    };

    let ((first, second), (code, text, took)) = tokio::join!(held, third);

    assert_eq!(code, ErrorCode::Busy, "{text}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!((first.payload, second.payload), ("1".into(), "2".into()));
    assert_eq!(
        (bench.count(&id, "calls"), bench.count(&id, "errors")),
        (3, 1)
    );
}

#[tokio::test]
async fn what_waits_for_a_thread_too_long_is_answered_at_its_deadline() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, narrow()).await;
    bench.start_with("gate", "a", r#""1s""#).await.unwrap();
    let held = bench.call("a", "held");
    let waiting = async {
        eventually("a call at the gate", LIMIT, || async {
            bench.gate.arrived() == 1
        })
        .await;
        let error = bench.error("a", "waits").await;
        bench.gate.open();
        error
    };

    let (_, (code, text)) = tokio::join!(held, waiting);

    assert_eq!(code, ErrorCode::Timeout);
    assert!(text.starts_with("timed out after 1s: it waited"), "{text}");
    assert_eq!(
        bench.gate.arrived(),
        1,
        "it must not run after its deadline"
    );
}

#[tokio::test]
async fn a_function_that_hangs_leaves_a_thread_for_its_neighbours() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, narrow()).await;
    bench.start("gate", "a").await;
    bench.start("echo", "b").await;
    let held = async { tokio::join!(bench.call("a", "1"), bench.call("a", "2")) };
    let neighbour = async {
        eventually("a call at the gate", LIMIT, || async {
            bench.gate.arrived() == 1
        })
        .await;
        let reply = bench.call("b", "hello").await;
        bench.gate.open();
        reply
    };

    let (_, reply) = tokio::join!(held, neighbour);

    assert_eq!(reply.payload, "hello");
}
