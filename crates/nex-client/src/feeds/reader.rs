//! Messages of a feed, from the past on or from now on.

use std::error::Error;

use async_nats::{
    Subscriber, datetime,
    jetstream::consumer::{DeliverPolicy, push},
};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use jiff::Timestamp;
use nex_protocol::FEEDS_STREAM;
use tracing::debug;

use super::stream::context;
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
    /// The connection was closed while following.
    #[error("the feed broke off: the connection to NATS is closed")]
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
    /// How many messages are left to read, where the reader does not follow.
    Stored(Box<push::Ordered>, Option<u64>),
    /// Also why nothing will come.
    Live(Subscriber, BoxFuture<'static, ClientError>),
    Ended,
}

pub(super) struct FeedReader {
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
        let context = context(&client.nats);
        let getting = client.unless_denied(FEEDS_STREAM, context.get_stream(FEEDS_STREAM));
        let stream = match getting.await {
            Ok(Ok(stream)) => stream,
            // What is live may be allowed.
            Err(_denied) if follow => return Self::live(client, filter, follow).await,
            Err(denied) => return Err(FeedError::open(denied)),
            Ok(Err(error)) => {
                debug!(%error, "no stored feeds");
                return Self::live(client, filter, follow).await;
            }
        };
        let deliver_policy = match since {
            None => DeliverPolicy::All,
            Some(time) => DeliverPolicy::ByStartTime {
                start_time: datetime::from_nanos(time.as_nanosecond()).map_err(FeedError::Open)?,
            },
        };
        let config = push::OrderedConfig {
            deliver_subject: client.nats.new_inbox(),
            filter_subject: filter,
            deliver_policy,
            ..push::OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await;
        let consumer = consumer.map_err(FeedError::open)?;
        let pending = consumer.cached_info().num_pending;
        let messages = consumer.messages().await.map_err(FeedError::open)?;
        let left = (!follow).then_some(pending);
        Ok(Self {
            source: Source::Stored(Box::new(messages), left),
            kind: FeedSource::Stored,
        })
    }

    async fn live(client: &Client, filter: String, follow: bool) -> Result<Self, FeedError> {
        let source = if follow {
            let denied = client.denials.of(&filter);
            let subscribed = client.nats.subscribe(filter.clone()).await;
            let subscriber = subscribed.map_err(FeedError::open)?;
            let barrier = nex_nats::barrier_or_denial(&client.nats, &client.denials).await;
            barrier.map_err(FeedError::open)?;
            let denied = denied.map(|()| ClientError::Unheard { subject: filter });
            Source::Live(subscriber, denied.boxed())
        } else {
            Source::Ended
        };
        Ok(Self {
            source,
            kind: FeedSource::Live,
        })
    }

    pub(super) fn kind(&self) -> FeedSource {
        self.kind
    }

    /// The next message; `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<FeedMessage>, FeedError> {
        let next = match &mut self.source {
            Source::Stored(_, Some(0)) | Source::Ended => return Ok(None),
            Source::Stored(messages, left) => match messages.next().await {
                Some(Ok(message)) => stored(&message, left),
                Some(Err(error)) => {
                    debug!(%error, "the feed broke off");
                    None
                }
                None => None,
            },
            Source::Live(subscriber, denied) => tokio::select! {
                biased;
                denied = denied => {
                    self.source = Source::Ended;
                    return Err(FeedError::open(denied));
                }
                message = subscriber.next() => message.map(live),
            },
        };
        if next.is_none() {
            self.source = Source::Ended;
            return Err(FeedError::Closed);
        }
        Ok(next)
    }
}

fn live(message: async_nats::Message) -> FeedMessage {
    FeedMessage {
        subject: message.subject.to_string(),
        time: Timestamp::now(),
        payload: message.payload,
    }
}

fn stored(message: &async_nats::jetstream::Message, left: &mut Option<u64>) -> Option<FeedMessage> {
    let info = message.info().ok()?;
    if let Some(left) = left {
        // Old messages may be discarded while we read, so that fewer come than were promised.
        *left = left.saturating_sub(1).min(info.pending);
    }
    let nanos = info.published.unix_timestamp_nanos();
    Some(FeedMessage {
        subject: message.subject.to_string(),
        time: Timestamp::from_nanosecond(nanos).ok()?,
        payload: message.payload.clone(),
    })
}
