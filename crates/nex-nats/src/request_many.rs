//! One request, many replies.

use async_nats::{
    Client, HeaderMap, Message, PublishError, StatusCode, SubscribeError, Subscriber,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

/// A request whose replies come in. Dropped, it unsubscribes.
#[derive(Debug)]
pub struct Gather {
    subscriber: Subscriber,
}

/// What came next.
#[derive(Debug)]
pub enum Step {
    /// A reply.
    Reply(Box<Message>),
    /// Nobody listens to the request; nothing will come.
    NoResponders,
    /// The deadline passed, or the connection was closed.
    TimedOut,
}

/// A request that could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The inbox.
    #[error("failed to subscribe to an inbox")]
    Subscribe(#[source] SubscribeError),
    /// The request itself: too large, or an invalid subject.
    #[error("failed to send the request")]
    Publish(#[source] PublishError),
}

impl Gather {
    /// Sends the request, with an inbox of its own for the replies.
    ///
    /// # Errors
    /// When the connection is closed, or the request is larger than the server takes.
    pub async fn request(
        client: &Client,
        subject: impl Into<String>,
        payload: Bytes,
        headers: Option<HeaderMap>,
    ) -> Result<Self, GatherError> {
        let inbox = client.new_inbox();
        let subscribed = client.subscribe(inbox.clone()).await;
        let subscriber = subscribed.map_err(GatherError::Subscribe)?;
        let subject = subject.into();
        let published = match headers {
            Some(headers) => {
                client
                    .publish_with_reply_and_headers(subject, inbox, headers, payload)
                    .await
            }
            None => client.publish_with_reply(subject, inbox, payload).await,
        };
        published.map_err(GatherError::Publish)?;
        Ok(Self { subscriber })
    }

    /// The next reply, by `deadline` at the latest. Cancel safe.
    pub async fn next(&mut self, deadline: Instant) -> Step {
        match timeout_at(deadline, self.subscriber.next()).await {
            Ok(Some(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                Step::NoResponders
            }
            Ok(Some(message)) => Step::Reply(Box::new(message)),
            Ok(None) | Err(_) => Step::TimedOut,
        }
    }
}
