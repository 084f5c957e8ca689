use futures_util::StreamExt as _;
use nex_functions::Limits;
use nex_protocol::ErrorCode;
use nex_testkit::NatsServer;
use serde_json::Value;

use crate::fake::{Bench, LIMIT};

/// The next report of a function that counts so many calls.
async fn report(reports: &mut async_nats::Subscriber, calls: u64) -> Value {
    let found = async {
        loop {
            let message = reports.next().await.unwrap();
            let report: Value = serde_json::from_slice(&message.payload).unwrap();
            if report["calls"] == calls {
                return report;
            }
        }
    };
    tokio::time::timeout(LIMIT, found).await.expect("no report")
}

#[tokio::test]
async fn what_calls_came_to_is_reported_and_shown() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let (id, _) = bench.start_with("grow", "a", r#""500ms""#).await.unwrap();
    let subject = format!("$NEX.FEED.tenant.metrics.{id}");
    let mut reports = bench.client.subscribe(subject).await.unwrap();

    assert_eq!(bench.call("a", "20").await.payload.len(), 20);
    assert_eq!(bench.error("a", "fail").await.0, ErrorCode::Internal);
    assert_eq!(bench.error("a", "loop").await.0, ErrorCode::Timeout);
    let told = report(&mut reports, 3).await;

    for (key, value) in [
        ("bytes_in", 10),
        ("bytes_out", 20),
        ("in_flight", 0),
        ("calls", 3),
    ] {
        assert_eq!(told[key], value, "{key}: {told}");
    }
    for (outcome, count) in [("ok", 1), ("failed", 1), ("timed_out", 1), ("busy", 0)] {
        assert_eq!(told["outcomes"][outcome], count, "{outcome}: {told}");
    }
    // The one that ran into its timeout was among the last.
    assert!(
        told["latency_ms"]["max"].as_f64().unwrap() >= 400.0,
        "{told}"
    );
    let list = bench.host.list();
    let shown = &list
        .iter()
        .find(|summary| summary.id == id)
        .unwrap()
        .metadata;
    assert_eq!(
        (shown["calls"].as_str(), shown["errors"].as_str()),
        ("3", "2")
    );
    assert_eq!(shown["errors.timed_out"], "1");
    assert!(shown["latency.p50"].ends_with("ms"), "{shown:?}");
}

#[tokio::test]
async fn a_function_that_stops_leaves_no_call_unreported() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let id = bench.start("echo", "a").await;
    let subject = format!("$NEX.FEED.tenant.metrics.{id}");
    let mut reports = bench.client.subscribe(subject).await.unwrap();

    for _ in 0..3 {
        bench.call("a", "x").await;
    }
    bench.stop(&id).await;

    assert_eq!(report(&mut reports, 3).await["outcomes"]["ok"], 3);
}
