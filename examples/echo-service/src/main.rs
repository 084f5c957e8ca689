//! A native service: answers every request on `svc.echo` with the request's own payload.
//!
//! It is an ordinary NATS micro service and knows nothing of Nex. What it needs is in the environment
//! that Nex gives to every native workload: `NATS_URL`, and in `NATS_CREDS` the file with credentials
//! of its own.
//!
//! ```text
//! nex devrun target/debug/echo-service --name echo
//! nex req svc.echo hello
//! ```

use anyhow::{Context as _, ensure};
use async_nats::{ConnectOptions, Event, service::ServiceExt as _};
use futures_util::StreamExt as _;
use std::{env, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::timeout,
};

const SUBJECT: &str = "svc.echo";

/// How long the answers under way may take once the service was told to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let (closed_tx, mut closed_rx) = mpsc::channel(1);
    let client = options()
        .await?
        .name("echo-service")
        .event_callback(move |event| {
            let closed_tx = closed_tx.clone();
            async move {
                if event == Event::Closed {
                    // A full channel already says so.
                    closed_tx.try_send(()).ok();
                }
            }
        })
        .connect(&url)
        .await
        .with_context(|| format!("failed to connect to {url}"))?;

    let service = client
        .service_builder()
        .description("answers with what it is sent")
        .start("echo", "1.0.0")
        .await
        .map_err(anyhow::Error::from_boxed)?;
    let mut requests = service
        .endpoint_builder()
        .name("echo")
        .add(SUBJECT)
        .await
        .map_err(anyhow::Error::from_boxed)?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    // A round trip on the same connection: an answer means that the server knows the endpoint too.
    client
        .request("$SRV.PING.echo", "".into())
        .await
        .context("the service does not answer a ping")?;
    say(&format!("echo service listening on {SUBJECT}"));

    loop {
        tokio::select! {
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
            request = requests.next() => {
                let Some(request) = request else { break };
                let payload = request.message.payload.clone();
                request.respond(Ok(payload)).await?;
            }
        }
    }

    // Draining ends the subscriptions, sends what is still unsent and then closes the connection.
    client.drain().await?;
    let closed = timeout(DRAIN_LIMIT, closed_rx.recv()).await;
    ensure!(
        closed.is_ok(),
        "the connection did not drain within {DRAIN_LIMIT:?}"
    );
    say("echo service stopped");
    Ok(())
}

/// Connection options with the credentials that Nex gave to this workload, if it did.
async fn options() -> anyhow::Result<ConnectOptions> {
    let options = ConnectOptions::new();
    if let Ok(path) = env::var("NATS_CREDS") {
        return options
            .credentials_file(&path)
            .await
            .with_context(|| format!("failed to read the credentials in {path}"));
    }
    Ok(options)
}

#[expect(clippy::print_stdout, reason = "standard output is the workload's log")]
fn say(line: &str) {
    println!("{line}");
}
