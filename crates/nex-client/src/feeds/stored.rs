//! Messages of the stream of the feeds, across losses of the connection.
//!
//! ```text
//!   reading ── connection lost, or the consumer fails ──► reopening ──► reading
//!                                                            └──► FeedError
//! ```
//!
//! The reader keeps the sequence number of its last message and opens each further consumer behind
//! it. The ordered consumer of async-nats resumes too, but from the first message of the stream where
//! it has read none yet; messages up to the last sequence number are therefore left out.

use std::error::Error;

use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, push},
    stream::Stream,
};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use jiff::Timestamp;
use nex_protocol::FEEDS_STREAM;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::{
    reader::{FeedError, FeedMessage},
    stream::context,
};
use crate::{client::Client, error::ClientError, limits};

type BoxError = Box<dyn Error + Send + Sync>;

/// Reads the stream. Owns its consumer.
pub(super) struct Stored {
    client: Client,
    filter: String,
    messages: Option<push::Ordered>,
    /// Resolves when the connection under `messages` is lost.
    lost: BoxFuture<'static, ()>,
    /// A consumer that is being opened after a loss. Kept here so that `next` is cancel safe.
    reopening: Option<BoxFuture<'static, Result<Reopened, FeedError>>>,
    /// Sequence number in the stream of the last message that was read, or of the one before the
    /// first.
    last: u64,
    /// `true` for a reader that goes on at the end of the stream.
    follow: bool,
    /// Number of messages to read, where the reader does not follow and knows it.
    left: Option<u64>,
}

/// A consumer that was opened after a loss.
struct Reopened {
    messages: push::Ordered,
    lost: BoxFuture<'static, ()>,
    /// Number of messages that it has to deliver.
    pending: u64,
    /// `true` where the stream begins anew: it is another one than before the loss.
    anew: bool,
}

/// A new consumer.
struct Opened {
    messages: push::Ordered,
    /// Number of messages that it has to deliver.
    pending: u64,
    /// Sequence number before the first of them.
    before: u64,
}

impl Stored {
    /// Opens a consumer on the stream.
    ///
    /// # Errors
    /// When the server refuses the consumer or the connection is lost.
    pub(super) async fn open(
        client: &Client,
        stream: Stream,
        filter: String,
        deliver_policy: DeliverPolicy,
        follow: bool,
    ) -> Result<Self, BoxError> {
        let lost = client.losses.next().boxed();
        let opened = open(client, &stream, filter.clone(), deliver_policy).await?;
        Ok(Self {
            client: client.clone(),
            filter,
            messages: Some(opened.messages),
            lost,
            reopening: None,
            last: opened.before,
            follow,
            left: (!follow).then_some(opened.pending),
        })
    }

    /// Ends the reader at the present end of the stream.
    pub(super) fn finish(&mut self) {
        self.follow = false;
        // A new consumer says how many messages there are.
        self.messages = None;
        self.reopening = None;
    }

    /// The next message; `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<FeedMessage>, FeedError> {
        loop {
            if self.left == Some(0) {
                return Ok(None);
            }
            let Some(messages) = &mut self.messages else {
                self.resume().await?;
                continue;
            };
            let message = tokio::select! {
                // The buffered messages come first: they need not be delivered again.
                biased;
                message = messages.next() => message,
                () = &mut self.lost => None,
            };
            match message {
                Some(Ok(message)) => {
                    if let Some(message) = self.take(&message) {
                        return Ok(Some(message));
                    }
                }
                Some(Err(error)) => {
                    debug!(%error, "the consumer failed");
                    self.messages = None;
                }
                None => self.messages = None,
            }
        }
    }

    /// Takes a message, unless it was read before.
    fn take(&mut self, message: &jetstream::Message) -> Option<FeedMessage> {
        let info = message.info().ok()?;
        if info.stream_sequence <= self.last {
            return None;
        }
        self.last = info.stream_sequence;
        if let Some(left) = &mut self.left {
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

    /// Opens a consumer behind the last message.
    async fn resume(&mut self) -> Result<(), FeedError> {
        let (client, filter, last) = (self.client.clone(), self.filter.clone(), self.last);
        let follow = self.follow;
        let reopening = self
            .reopening
            .get_or_insert_with(|| reopen(client, filter, last, follow).boxed());
        let reopened = reopening.await;
        self.reopening = None;
        let reopened = reopened?;
        if reopened.anew {
            self.last = 0;
        }
        if !self.follow {
            self.left.get_or_insert(reopened.pending);
        }
        self.messages = Some(reopened.messages);
        self.lost = reopened.lost;
        Ok(())
    }
}

/// Waits for the connection and opens a consumer behind `last`, as often as it takes.
///
/// A reader that follows waits for the connection without limit.
async fn reopen(
    client: Client,
    filter: String,
    last: u64,
    follow: bool,
) -> Result<Reopened, FeedError> {
    let mut give_up = Instant::now() + limits::RESUME;
    loop {
        if client.losses.is_down() {
            let up = match follow {
                true => client.losses.up().await,
                false => timeout_at(give_up, client.losses.up())
                    .await
                    .unwrap_or(false),
            };
            if !up {
                return Err(FeedError::Closed);
            }
            if follow {
                give_up = Instant::now() + limits::RESUME;
            }
        }
        let error = match try_reopen(&client, filter.clone(), last).await {
            Ok(reopened) => return Ok(reopened),
            Err(error) => error,
        };
        debug!(%error, "failed to resume the feed");
        if Instant::now() >= give_up {
            let lost = matches!(error.downcast_ref(), Some(ClientError::ConnectionLost));
            return Err(match lost {
                true => FeedError::Closed,
                false => FeedError::Resume(error),
            });
        }
        sleep(limits::RESUME_PAUSE).await;
    }
}

async fn try_reopen(client: &Client, filter: String, last: u64) -> Result<Reopened, BoxError> {
    let lost = client.losses.next().boxed();
    let context = context(&client.nats);
    let getting = client.unless_denied(FEEDS_STREAM, context.get_stream(FEEDS_STREAM));
    let stream = getting.await??;
    // Numbers only grow in a stream, so that one with smaller numbers is another stream.
    let anew = stream.cached_info().state.last_sequence < last;
    let deliver_policy = match if anew { 0 } else { last } {
        0 => DeliverPolicy::All,
        last => DeliverPolicy::ByStartSequence {
            start_sequence: last + 1,
        },
    };
    let opened = open(client, &stream, filter, deliver_policy).await?;
    Ok(Reopened {
        messages: opened.messages,
        lost,
        pending: opened.pending,
        anew,
    })
}

async fn open(
    client: &Client,
    stream: &Stream,
    filter: String,
    deliver_policy: DeliverPolicy,
) -> Result<Opened, BoxError> {
    let config = push::OrderedConfig {
        deliver_subject: client.nats.new_inbox(),
        filter_subject: filter,
        deliver_policy,
        ..push::OrderedConfig::default()
    };
    let opening = async {
        let consumer = stream.create_consumer(config).await?;
        let info = consumer.cached_info();
        let (pending, before) = (info.num_pending, info.delivered.stream_sequence);
        Ok::<_, BoxError>(Opened {
            messages: consumer.messages().await?,
            pending,
            before,
        })
    };
    client.unless_denied(FEEDS_STREAM, opening).await?
}
