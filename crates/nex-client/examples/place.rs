//! Places a program as a job on a nexus and prints what it prints.
//!
//! With a `nex up` running: `cargo run -p nex-client --example place -- file:///usr/bin/env`

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::{error::Error, time::Duration};

use nex_client::{Client, LogQuery, StartSpec};
use nex_nats::{ConnectOptions, DEFAULT_SERVER, Reconnect};
use nex_protocol::{Lifecycle, Namespace};
use tokio::time::timeout;

/// How long the job may take until its next line.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().ok_or("want the URI of a program")?;
    let server = arguments
        .next()
        .unwrap_or_else(|| DEFAULT_SERVER.to_owned());

    let options = ConnectOptions {
        reconnect: Reconnect::Never,
        ..ConnectOptions::new([server], "example")
    };
    let connection = nex_nats::connect(&options).await?;
    let client = Client::new(&connection, Namespace::default_tenant());

    let request = serde_json::json!({ "uri": uri });
    let placed = client
        .start(StartSpec::new("native", Lifecycle::Job, &request))
        .await?;
    println!("{} runs as {}", placed.name, placed.id);

    let query = LogQuery {
        id: Some(placed.id),
        follow: true,
        ..LogQuery::default()
    };
    let mut logs = client.logs(&query).await?;
    while let Ok(Some(line)) = timeout(PATIENCE, logs.next()).await.unwrap_or(Ok(None)) {
        println!("{}", line.line);
    }
    connection.close().await;
    Ok(())
}
