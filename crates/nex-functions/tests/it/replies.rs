use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use nex_functions::Limits;
use nex_protocol::{ErrorCode, NatsConnectionData};
use nex_testkit::{NatsServer, eventually};

use crate::fake::{Bench, LIMIT};

#[tokio::test]
async fn a_result_comes_with_the_workload_in_its_headers() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let id = bench.start("echo", "a.*").await;

    let reply = bench.call("a.b", "hello").await;

    assert_eq!(reply.payload, "hello");
    let headers = reply.headers.unwrap();
    assert_eq!(headers.get("workload_id").unwrap().as_str(), id.as_str());
    assert_eq!(headers.get("namespace").unwrap().as_str(), "tenant");
    assert!(headers.get("error").is_none());
}

#[tokio::test]
async fn a_failure_is_told_to_the_caller_and_to_the_log() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let id = bench.start("echo", "a").await;
    let stderr = format!("$NEX.FEED.tenant.logs.{id}.stderr");
    let mut log = bench.client.subscribe(stderr).await.unwrap();

    let reply = bench.call("a", "fail").await;

    let (code, text) = nex_nats::read_error(&reply).unwrap();
    assert_eq!(
        (code, text.as_str()),
        (ErrorCode::Internal, "Error: a  b at f:1:2")
    );
    assert_eq!(reply.payload, r#"{"error":"Error: a\r\nb at f:1:2"}"#);
    let headers = reply.headers.unwrap();
    assert_eq!(
        headers.get("error").unwrap().as_str(),
        "Error: a  b at f:1:2"
    );
    assert_eq!(headers.get("workload_id").unwrap().as_str(), id.as_str());
    let line = tokio::time::timeout(LIMIT, log.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(line.payload, "failed on a: Error: a\\r\\nb at f:1:2\n");
    assert_eq!(
        (bench.count(&id, "calls"), bench.count(&id, "errors")),
        (1, 1)
    );
}

#[tokio::test]
async fn a_panic_of_the_engine_is_one_failed_call() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    bench.start("echo", "a").await;

    let (code, text) = bench.error("a", "panic").await;

    assert_eq!(code, ErrorCode::Internal, "{text}");
    assert_eq!(bench.call("a", "still here").await.payload, "still here");
}

#[tokio::test]
async fn a_message_without_a_reply_subject_runs_too() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let id = bench.start("echo", "a").await;

    bench.client.publish("a", "one way".into()).await.unwrap();

    eventually("the call", LIMIT, || async {
        bench.count(&id, "calls") == 1
    })
    .await;
}

#[tokio::test]
async fn a_result_that_is_too_large_is_an_error_at_once() {
    let server = NatsServer::builder().config("max_payload: 65536").start();
    let bench = Bench::new(&server, Limits::default()).await;
    bench.start("grow", "a").await;

    let (code, text) = bench.error("a", "65536").await;

    assert_eq!(code, ErrorCode::TooLarge);
    assert!(
        text.contains("65536 bytes: the server takes 65536"),
        "{text}"
    );
    assert_eq!(bench.call("a", "65000").await.payload.len(), 65000);
}

#[tokio::test]
async fn code_that_is_wrong_is_refused_at_the_start() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;

    let refusal = bench
        .start_with("broken", "a", r#""1s""#)
        .await
        .unwrap_err();

    assert_eq!(refusal.code, ErrorCode::BadRequest);
    assert_eq!(refusal.text, "no such word at 1:1");
    assert!(bench.host.list().is_empty());
}

#[tokio::test]
async fn a_subject_that_the_credentials_deny_is_refused_at_the_start() {
    let server = NatsServer::builder()
        .config(
            r#"
            authorization { users: [
                { user: free, password: p }
                { user: bound, password: p, permissions: { subscribe: { deny: ["secret.>"] } } }
            ] }
            no_auth_user: free
            "#,
        )
        .start();
    let bench = Bench::new(&server, Limits::default()).await;
    let bound = NatsConnectionData {
        nats_servers: vec![server.url().to_owned()],
        nats_user_name: "bound".into(),
        nats_user_password: "p".into(),
        ..NatsConnectionData::default()
    };

    let refused = bench
        .start_as("echo", "secret.a", r#""1s""#, bound.clone())
        .await;
    let started = bench.start_as("echo", "open.a", r#""1s""#, bound).await;

    assert_eq!(refused.unwrap_err().code, ErrorCode::Forbidden);
    assert!(started.is_ok());
    assert_eq!(bench.call("open.a", "hi").await.payload, "hi");
}

#[tokio::test]
async fn lines_that_are_too_many_are_counted_in_the_log() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let id = bench.start("chatter", "a").await;
    let logs = format!("$NEX.FEED.tenant.logs.{id}.*");
    let mut log = bench.client.subscribe(logs).await.unwrap();

    bench.call("a", "").await;

    let (mut lines, mut dropped) = (0, 0);
    while lines + dropped < 5000 {
        let message = tokio::time::timeout(LIMIT, log.next())
            .await
            .unwrap()
            .unwrap();
        let text = std::str::from_utf8(&message.payload).unwrap();
        match text
            .strip_prefix("… ")
            .and_then(|text| text.strip_suffix(" lines dropped\n"))
        {
            Some(count) => dropped += count.parse::<u32>().unwrap(),
            None => lines += 1,
        }
    }
    assert_eq!(lines + dropped, 5000);
}

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn traced(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", value);
    headers.insert("x-color", "blue");
    headers
}

#[tokio::test]
async fn a_trace_goes_on_in_replies_errors_and_messages() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    bench.start("relay", "a").await;
    let mut relayed = bench.client.subscribe("relayed").await.unwrap();
    let trace = |message: &async_nats::Message| {
        let headers = message.headers.as_ref()?;
        Some(headers.get("traceparent")?.to_string())
    };

    for (sent, payload, carried) in [
        (TRACEPARENT, "x", Some(TRACEPARENT.to_owned())),
        (TRACEPARENT, "fail", Some(TRACEPARENT.to_owned())),
        ("nonsense", "x", None),
    ] {
        let asked = bench
            .client
            .request_with_headers("a", traced(sent), payload.into());
        let reply = tokio::time::timeout(LIMIT, asked).await.unwrap().unwrap();
        assert_eq!(trace(&reply), carried, "{sent} {payload}");
        if payload != "fail" {
            let message = tokio::time::timeout(LIMIT, relayed.next()).await;
            assert_eq!(trace(&message.unwrap().unwrap()), carried, "{sent}");
        }
    }
}

#[tokio::test]
async fn code_sees_headers_and_each_run_has_an_id() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    bench.start("show", "a").await;
    let mut ids = Vec::new();

    for _ in 0..2 {
        let asked = bench
            .client
            .request_with_headers("a", traced(""), "".into());
        let reply = tokio::time::timeout(LIMIT, asked).await.unwrap().unwrap();
        let text = String::from_utf8(reply.payload.to_vec()).unwrap();
        let (id, rest) = text.split_once(' ').unwrap();
        assert_eq!(rest, "1 blue");
        ids.push(id.to_owned());
    }

    assert_ne!(ids[0], ids[1]);
}
