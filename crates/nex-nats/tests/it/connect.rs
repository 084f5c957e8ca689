use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use nex_nats::{Auth, Cause, ConnectError, ConnectOptions, Reconnect, barrier, connect};
use nex_testkit::{NatsServer, eventually};
use nkeys::KeyPair;
use tokio::time::timeout;

use crate::{LIMIT, connected};

fn options(url: &str, auth: Auth) -> ConnectOptions {
    ConnectOptions {
        auth,
        reconnect: Reconnect::Never,
        ..ConnectOptions::new([url], "test")
    }
}

fn cause(error: &ConnectError) -> Cause {
    match error {
        ConnectError::Connect { cause, .. } => *cause,
        other => panic!("{other:?}"),
    }
}

/// A port of loopback on which nobody listens.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn nobody_there_is_said_at_once_and_with_a_hint() {
    let url = format!("nats://user:SECRET@127.0.0.1:{}", free_port());
    let started = Instant::now();

    let error = connect(&options(&url, Auth::None)).await.unwrap_err();

    let text = error.to_string();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert!(
        text.contains("127.0.0.1") && text.ends_with("connection refused"),
        "{text}"
    );
    assert!(!text.contains("SECRET"), "{text}");
    assert!(error.hint().unwrap().contains("nex up"));
}

#[tokio::test]
async fn a_second_server_is_tried() {
    let server = NatsServer::start();
    let dead = format!("nats://127.0.0.1:{}", free_port());
    let options = ConnectOptions {
        reconnect: Reconnect::Never,
        ..ConnectOptions::new([dead.as_str(), server.url()], "test")
    };
    // The order is random, so that one success proves nothing.
    for _ in 0..8 {
        connect(&options).await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());

    let error = connect(&options(&url, Auth::None)).await.unwrap_err();

    assert_eq!(cause(&error), Cause::TimedOut);
}

#[tokio::test]
async fn an_unreadable_url_and_no_url_are_named() {
    let error = connect(&options("http://x", Auth::None)).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::InvalidUrl { .. }),
        "{error:?}"
    );
    let none = ConnectOptions::default();
    assert!(matches!(connect(&none).await, Err(ConnectError::NoServer)));
}

#[tokio::test]
async fn user_and_nkey_are_told_from_strangers() {
    let pair = KeyPair::new_user();
    let config = format!(
        "authorization {{ users: [ {{user: u, password: p}}, {{nkey: {}}} ] }}",
        pair.public_key()
    );
    let server = NatsServer::builder().config(config).start();
    let user = |password: &str| Auth::UserPassword {
        user: "u".into(),
        password: password.into(),
    };
    let nkey = Auth::Nkey {
        seed: pair.seed().unwrap(),
    };

    connect(&options(server.url(), user("p"))).await.unwrap();
    connect(&options(server.url(), nkey)).await.unwrap();
    let error = connect(&options(server.url(), user("wrong")))
        .await
        .unwrap_err();

    assert_eq!(cause(&error), Cause::Authorization);
    assert!(
        error.to_string().ends_with("authorization violation"),
        "{error}"
    );
}

#[tokio::test]
async fn a_missing_credentials_file_is_named() {
    let auth = Auth::CredsFile("/nonexistent/x.creds".into());
    let error = connect(&options("127.0.0.1:1", auth)).await.unwrap_err();
    assert!(
        error.to_string().contains("/nonexistent/x.creds"),
        "{error}"
    );
}

#[tokio::test]
async fn after_a_barrier_the_server_knows_the_subscription() {
    let server = NatsServer::start();
    let (listener, speaker) = (connected(server.url()).await, connected(server.url()).await);
    for _ in 0..50 {
        let mut heard = listener.subscribe("s").await.unwrap();
        barrier(&listener).await.unwrap();

        speaker.publish("s", "x".into()).await.unwrap();

        assert!(timeout(LIMIT, heard.next()).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn closing_gets_everything_out() {
    let server = NatsServer::start();
    let listener = connected(server.url()).await;
    let mut heard = listener.subscribe("s").await.unwrap();
    barrier(&listener).await.unwrap();
    let speaker = connected(server.url()).await;
    for _ in 0..1000 {
        speaker.publish("s", vec![0u8; 8192].into()).await.unwrap();
    }
    let other = speaker.clone();

    speaker.close().await;

    timeout(LIMIT, other.closed()).await.unwrap();
    for n in 0..1000 {
        assert!(timeout(LIMIT, heard.next()).await.unwrap().is_some(), "{n}");
    }
}

#[tokio::test]
async fn a_command_learns_that_the_server_is_gone() {
    let mut server = NatsServer::start();
    let connection = connected(server.url()).await;
    let mut heard = connection.subscribe("s").await.unwrap();

    server.kill();

    timeout(LIMIT, connection.closed()).await.unwrap();
    assert!(timeout(LIMIT, heard.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_node_comes_back_with_its_subscriptions() {
    let mut server = NatsServer::start();
    let connection = connect(&ConnectOptions::new([server.url()], "node"))
        .await
        .unwrap();
    let heard = tokio::sync::Mutex::new(connection.subscribe("s").await.unwrap());

    server.restart();

    let speaker = connected(server.url()).await;
    eventually("the subscription is back", LIMIT, || async {
        speaker.publish("s", "x".into()).await.unwrap();
        timeout(Duration::from_millis(50), heard.lock().await.next()).await
    })
    .await;
}

#[tokio::test]
async fn a_refused_round_trip_is_one() {
    let config =
        r#"authorization { users: [ {user: u, password: p, permissions: {publish: ["ok"]}} ] }"#;
    let server = NatsServer::builder().config(config).start();
    let (_, auth) = nex_nats::split_user("nats://u:p@host");
    let connection = connect(&options(server.url(), auth.unwrap()))
        .await
        .unwrap();

    let denied = connection.denials().of("forbidden");
    connection.publish("forbidden", "".into()).await.unwrap();
    nex_nats::barrier_or_denial(&connection, connection.denials())
        .await
        .unwrap();

    timeout(LIMIT, denied).await.unwrap();
}

#[tokio::test]
async fn refused_subjects_are_counted() {
    let config = r#"authorization { users: [ {user: u, password: p, permissions: {publish: ["ok", "_INBOX.>"]}} ] }"#;
    let server = NatsServer::builder().config(config).start();
    let auth = Auth::UserPassword {
        user: "u".into(),
        password: "p".into(),
    };
    let connection = connect(&options(server.url(), auth)).await.unwrap();

    connection.publish("ok", "".into()).await.unwrap();
    connection.publish("forbidden", "".into()).await.unwrap();

    eventually("one violation", LIMIT, || async {
        match connection.permission_violations() {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
}
