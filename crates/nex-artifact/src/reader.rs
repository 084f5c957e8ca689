//! The content of an object, read chunk by chunk and checked against the object's metadata.
//!
//! ```text
//!   first next() ──> number of stored chunks ──> chunks ──> size and digest ──> None
//!                              │                   │                │
//!                              └───────────────────┴────────────────┴──> ContentError
//! ```
//!
//! Metadata and chunks are separate messages: a writer may have made metadata that its chunks
//! contradict, and chunks may be deleted during a read. The server sends nothing for a chunk that is
//! not stored, so a reader that hears nothing for [`SILENCE`] counts the stored chunks.

use std::{error::Error, time::Duration};

use async_nats::jetstream::{
    consumer::push::{Ordered, OrderedConfig},
    context::Context,
    object_store::ObjectInfo,
    stream::{ConsumerErrorKind, Stream},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    digest::Digest,
    error::server_answer,
    object::{chunks_subject, count, is_token, stream_name},
};

/// Time without a chunk after which the stored chunks are counted.
const SILENCE: Duration = Duration::from_millis(500);
/// Limit for the next chunk of an object whose chunks are all stored.
const STALL_LIMIT: Duration = Duration::from_secs(20);
/// Pause before a failed read is tried again, within that limit.
const BROKEN_PAUSE: Duration = Duration::from_millis(250);

/// Content that cannot be read, or that its metadata contradicts.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// Fewer chunks or bytes are stored than the metadata names.
    #[error("the object is incomplete: {stored} of its {named} {unit} are stored")]
    Incomplete {
        /// `chunks` or `bytes`.
        unit: &'static str,
        /// The stored number.
        stored: u64,
        /// The number in the metadata.
        named: u64,
    },
    /// More chunks or bytes are stored than the metadata names.
    #[error("the object contradicts its metadata: more than {named} {unit} are stored")]
    Excess {
        /// `chunks` or `bytes`.
        unit: &'static str,
        /// The number in the metadata.
        named: u64,
    },
    /// The content has another digest than the metadata.
    #[error("the object contradicts its metadata: its content has another digest")]
    Digest,
    /// The metadata has no digest, or one that is no SHA-256, where one is needed.
    #[error("the object's metadata has no SHA-256 digest")]
    NoDigest,
    /// The metadata does not say where the chunks are.
    #[error("the object's metadata has an invalid `nuid`: want one token of a subject")]
    Nuid,
    /// Nothing arrived, although all chunks are stored.
    #[error("nothing arrived for {0:?}")]
    Stalled(Duration),
    /// The server refuses the chunks, or the connection fails.
    #[error("failed to read the object's chunks")]
    Read(#[source] Box<dyn Error + Send + Sync>),
}

impl ContentError {
    fn read(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Read(error.into())
    }

    /// Returns whether metadata and chunks contradict each other: reading again gives the same,
    /// unless the object was replaced.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Stalled(_) | Self::Read(_))
    }
}

/// Reads the content of one object.
pub struct ObjectReader {
    info: ObjectInfo,
    chunks: Chunks,
    /// The consumer, from the first chunk to the last.
    messages: Option<Ordered>,
    hash: Sha256,
    chunks_read: u64,
    bytes_read: u64,
}

/// The place of an object's chunks, and their number in the metadata.
struct Chunks {
    context: Context,
    /// The stream of the bucket.
    stream: String,
    nuid: String,
    subject: String,
    named: u64,
}

impl ObjectReader {
    /// A reader of an object whose metadata was read from the bucket `info.bucket`. It asks the server
    /// for nothing until the first [`next`](Self::next).
    #[must_use]
    pub fn new(context: &Context, info: ObjectInfo) -> Self {
        Self {
            chunks: Chunks {
                context: context.clone(),
                stream: stream_name(&info.bucket),
                nuid: info.nuid.clone(),
                subject: chunks_subject(&info.bucket, &info.nuid),
                named: info.chunks as u64,
            },
            info,
            messages: None,
            hash: Sha256::new(),
            chunks_read: 0,
            bytes_read: 0,
        }
    }

    /// The metadata of the object.
    #[must_use]
    pub fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// The next chunk; `None` behind the last one, after the check of size and digest. Until then
    /// nothing is known about the content that was returned.
    ///
    /// # Errors
    /// [`ContentError`]: within a second or so where chunks are missing, after 20 s where the server
    /// is silent otherwise.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        if self.chunks_read == self.chunks.named {
            self.messages = None;
            return self.check_end().map(|()| None);
        }
        let give_up = Instant::now() + STALL_LIMIT;
        if self.messages.is_none() {
            self.messages = Some(self.chunks.begin(give_up).await?);
        }
        let mut failed = None;
        while Instant::now() < give_up {
            let messages = self.messages.as_mut().expect("it was made above");
            match timeout(SILENCE, messages.next()).await {
                Ok(Some(Ok(message))) => return self.take(message.message.payload).map(Some),
                // The consumer resumes behind the last chunk.
                Ok(Some(Err(error))) => {
                    failed = Some(ContentError::read(error));
                    sleep(BROKEN_PAUSE).await;
                }
                Ok(None) => return Err(ContentError::read("the connection was closed")),
                Err(_elapsed) => self.chunks.check_stored().await?,
            }
        }
        Err(failed.unwrap_or(ContentError::Stalled(STALL_LIMIT)))
    }

    fn take(&mut self, chunk: Bytes) -> Result<Bytes, ContentError> {
        self.chunks_read += 1;
        self.bytes_read += chunk.len() as u64;
        if self.bytes_read > self.info.size as u64 {
            return Err(ContentError::Excess {
                unit: "bytes",
                named: self.info.size as u64,
            });
        }
        self.hash.update(&chunk);
        Ok(chunk)
    }

    fn check_end(&mut self) -> Result<(), ContentError> {
        if self.bytes_read < self.info.size as u64 {
            return Err(ContentError::Incomplete {
                unit: "bytes",
                stored: self.bytes_read,
                named: self.info.size as u64,
            });
        }
        let Some(named) = &self.info.digest else {
            return Ok(());
        };
        match Digest::parse(named) == Some(Digest::of(self.hash.clone())) {
            true => Ok(()),
            false => Err(ContentError::Digest),
        }
    }
}

impl Chunks {
    /// Makes the consumer, where need be after a restart of the server.
    async fn begin(&self, give_up: Instant) -> Result<Ordered, ContentError> {
        if !is_token(&self.nuid) {
            return Err(ContentError::Nuid);
        }
        let stream = self.stream().await?;
        let consumer = loop {
            let config = OrderedConfig {
                description: Some("reader of an object".to_owned()),
                deliver_subject: self.context.client().new_inbox(),
                filter_subject: self.subject.clone(),
                ..OrderedConfig::default()
            };
            match stream.create_consumer(config).await {
                Ok(consumer) => break consumer,
                Err(error) => {
                    let refused = matches!(error.kind(), ConsumerErrorKind::JetStream(_));
                    if refused || Instant::now() >= give_up {
                        return Err(ContentError::read(error));
                    }
                    sleep(BROKEN_PAUSE).await;
                }
            }
        };
        let stored = consumer.cached_info().num_pending;
        let messages = consumer.messages().await.map_err(ContentError::read)?;
        self.check_count(stored)?;
        Ok(messages)
    }

    /// Checks that the chunks are still stored. A server that does not answer says nothing about them.
    async fn check_stored(&self) -> Result<(), ContentError> {
        let stream = self.stream().await?;
        match timeout(SILENCE, count(&stream, &self.subject)).await {
            Ok(Ok(stored)) => self.check_count(stored),
            // The bucket is gone.
            Ok(Err(error)) if server_answer(&error).is_some() => Err(ContentError::read(error)),
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    fn check_count(&self, stored: u64) -> Result<(), ContentError> {
        let (unit, named) = ("chunks", self.named);
        match stored.cmp(&named) {
            std::cmp::Ordering::Less => Err(ContentError::Incomplete {
                unit,
                stored,
                named,
            }),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(ContentError::Excess { unit, named }),
        }
    }

    async fn stream(&self) -> Result<Stream<()>, ContentError> {
        let stream = self.context.get_stream_no_info(&self.stream).await;
        stream.map_err(ContentError::read)
    }
}
