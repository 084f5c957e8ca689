//! Against a real nats-server.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod connect;
mod request_many;
mod service;

use std::time::Duration;

use nex_nats::{ConnectOptions, Connection, Reconnect, connect};

/// Long enough for a busy machine; nothing here waits that long when it works.
const LIMIT: Duration = Duration::from_secs(10);

async fn connected(url: &str) -> Connection {
    let options = ConnectOptions {
        reconnect: Reconnect::Never,
        ..ConnectOptions::new([url], "test")
    };
    connect(&options).await.unwrap()
}
