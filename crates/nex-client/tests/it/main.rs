//! Against a real nats-server, with nodes that answer as told.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod absence;
mod broadcasts;
mod choosing;
mod clone;
mod fake;
mod feeds;
mod lameduck;
mod look;
mod lost;
mod placing;
mod together;

use std::time::Duration;

use nex_client::Client;
use nex_nats::{ConnectOptions, Connection, Reconnect, connect};
use nex_protocol::Namespace;

/// Long enough for a busy machine; nothing here waits that long when it works.
const LIMIT: Duration = Duration::from_secs(10);

async fn connected(url: &str) -> Connection {
    let options = ConnectOptions {
        reconnect: Reconnect::Never,
        ..ConnectOptions::new([url], "test")
    };
    connect(&options).await.unwrap()
}

async fn client(url: &str, namespace: &str) -> Client {
    Client::new(connected(url).await, Namespace::new(namespace).unwrap())
}
