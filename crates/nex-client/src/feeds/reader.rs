//! Messages of a feed, from the past on or from now on.

use std::error::Error;

use async_nats::{Subscriber, datetime, jetstream::consumer::DeliverPolicy};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use jiff::Timestamp;
use nex_protocol::FEEDS_STREAM;
use tokio::task::unconstrained;
use tracing::debug;

use super::{stored::Stored, stream::context};
use crate::{client::Client, error::ClientError};

/// Where a feed is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedSource {
    /// From the stream that keeps it.
    Stored,
    /// There is no such stream that we may read: only what is published from now on is seen.
    Live,
}

/// A feed that cannot be read, or broke off.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Reading could not begin.
    #[error("failed to read the feed")]
    Open(#[source] Box<dyn Error + Send + Sync>),
    /// The stream could not be read any further after the connection was lost.
    #[error("the feed broke off")]
    Resume(#[source] Box<dyn Error + Send + Sync>),
    /// The connection was lost, and did not come back in time.
    #[error("the feed broke off: lost the connection to NATS")]
    Closed,
}

impl FeedError {
    fn open(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Open(Box::new(error))
    }
}

/// One message of a feed.
pub(super) struct FeedMessage {
    pub(super) subject: String,
    pub(super) time: Timestamp,
    pub(super) payload: Bytes,
}

enum Source {
    Stored(Box<Stored>),
    /// Also why nothing will come.
    Live(Subscriber, BoxFuture<'static, ClientError>),
    /// The messages that have arrived.
    Arrived(Subscriber),
    Ended,
}

pub(super) struct FeedReader {
    client: Client,
    source: Source,
    kind: FeedSource,
}

impl FeedReader {
    pub(super) async fn open(
        client: &Client,
        filter: String,
        since: Option<Timestamp>,
        follow: bool,
    ) -> Result<Self, FeedError> {
        let deliver_policy = match since {
            None => DeliverPolicy::All,
            Some(time) => DeliverPolicy::ByStartTime {
                start_time: datetime::from_nanos(time.as_nanosecond()).map_err(FeedError::Open)?,
            },
        };
        let context = context(&client.nats);
        let getting = client.unless_denied(FEEDS_STREAM, context.get_stream(FEEDS_STREAM));
        let stream = match getting.await {
            Ok(Ok(stream)) => stream,
            Err(lost @ ClientError::ConnectionLost) => return Err(FeedError::open(lost)),
            // What is live may be allowed.
            Err(_denied) if follow => return Self::live(client, filter, follow).await,
            Err(denied) => return Err(FeedError::open(denied)),
            Ok(Err(_)) if client.losses.is_down() => {
                return Err(FeedError::open(ClientError::ConnectionLost));
            }
            Ok(Err(error)) => {
                debug!(%error, "no stored feeds");
                return Self::live(client, filter, follow).await;
            }
        };
        let stored = Stored::open(client, stream, filter, deliver_policy, follow).await;
        Ok(Self {
            client: client.clone(),
            source: Source::Stored(Box::new(stored.map_err(FeedError::Open)?)),
            kind: FeedSource::Stored,
        })
    }

    async fn live(client: &Client, filter: String, follow: bool) -> Result<Self, FeedError> {
        let source = if follow {
            let denied = client.denials.of(&filter);
            let subscribed = client.nats.subscribe(filter.clone()).await;
            let subscriber = subscribed.map_err(FeedError::open)?;
            tokio::select! {
                barrier = nex_nats::barrier_or_denial(&client.nats, &client.denials) => {
                    barrier.map_err(FeedError::open)?;
                }
                () = client.losses.next() => {
                    return Err(FeedError::open(ClientError::ConnectionLost));
                }
            }
            let denied = denied.map(|()| ClientError::Unheard { subject: filter });
            Source::Live(subscriber, denied.boxed())
        } else {
            Source::Ended
        };
        Ok(Self {
            client: client.clone(),
            source,
            kind: FeedSource::Live,
        })
    }

    pub(super) fn kind(&self) -> FeedSource {
        self.kind
    }

    /// Ends the reader behind everything that is published by now.
    pub(super) async fn finish(&mut self) {
        match std::mem::replace(&mut self.source, Source::Ended) {
            Source::Stored(mut stored) => {
                stored.finish();
                self.source = Source::Stored(stored);
            }
            Source::Live(subscriber, _denied) => {
                // What the server sent before its answer has arrived by then. A barrier that fails
                // changes nothing: what has arrived is all that can be had.
                let (nats, denials) = (&self.client.nats, &self.client.denials);
                nex_nats::barrier_or_denial(nats, denials).await.ok();
                self.source = Source::Arrived(subscriber);
            }
            other @ (Source::Arrived(_) | Source::Ended) => self.source = other,
        }
    }

    /// The next message; `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<FeedMessage>, FeedError> {
        let next = match &mut self.source {
            Source::Ended => return Ok(None),
            Source::Stored(stored) => stored.next().await,
            // Unconstrained: a task that has used up its budget sees no message that is there.
            Source::Arrived(subscriber) => {
                let arrived = unconstrained(subscriber.next()).now_or_never();
                Ok(arrived.flatten().map(live))
            }
            // After a reconnect async-nats subscribes again.
            Source::Live(subscriber, denied) => tokio::select! {
                biased;
                denied = denied => Err(FeedError::open(denied)),
                message = subscriber.next() => match message {
                    Some(message) => Ok(Some(live(message))),
                    None => Err(FeedError::Closed),
                },
            },
        };
        if !matches!(next, Ok(Some(_))) {
            self.source = Source::Ended;
        }
        next
    }
}

fn live(message: async_nats::Message) -> FeedMessage {
    FeedMessage {
        subject: message.subject.to_string(),
        time: Timestamp::now(),
        payload: message.payload,
    }
}
