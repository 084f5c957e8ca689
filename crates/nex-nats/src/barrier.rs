//! A round trip through the server.

use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::denials::Denials;

/// How long the round trip may take; a healthy server needs a millisecond.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(5);

/// A round trip that did not come back.
#[derive(Debug, thiserror::Error)]
pub enum BarrierError {
    /// The client is closed.
    #[error("the connection to NATS is closed")]
    Closed,
    /// The server did not answer, or does not let us use an inbox.
    #[error("NATS did not complete a round trip within {BARRIER_TIMEOUT:?}")]
    TimedOut,
}

/// Waits until the server has handled everything that `client` sent before.
///
/// `Client::flush` only writes to the socket. After this, every subscription made before is known
/// to the server. Needs the right to publish and subscribe to an own inbox.
///
/// # Errors
/// When the connection is closed, or nothing comes back within five seconds.
pub async fn barrier(client: &Client) -> Result<(), BarrierError> {
    match timeout(BARRIER_TIMEOUT, round_trip(client)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(BarrierError::TimedOut),
    }
}

/// [`barrier`] on a connection whose refusals are known: that of the round trip is an answer, too.
///
/// # Errors
/// As [`barrier`].
pub async fn barrier_or_denial(client: &Client, denials: &Denials) -> Result<(), BarrierError> {
    let inbox = client.new_inbox();
    let denied = denials.of(&inbox);
    let answer = async {
        tokio::select! {
            result = there_and_back(client, inbox) => result,
            () = denied => Ok(()),
        }
    };
    match timeout(BARRIER_TIMEOUT, answer).await {
        Ok(result) => result,
        Err(_elapsed) => Err(BarrierError::TimedOut),
    }
}

/// [`barrier`] without the limit.
pub(crate) async fn round_trip(client: &Client) -> Result<(), BarrierError> {
    there_and_back(client, client.new_inbox()).await
}

async fn there_and_back(client: &Client, inbox: String) -> Result<(), BarrierError> {
    let subscribed = client.subscribe(inbox.clone()).await;
    let mut subscriber = subscribed.map_err(|_closed| BarrierError::Closed)?;
    let published = client.publish(inbox, Bytes::new()).await;
    published.map_err(|_closed| BarrierError::Closed)?;
    match subscriber.next().await {
        Some(_own) => Ok(()),
        None => Err(BarrierError::Closed),
    }
}
