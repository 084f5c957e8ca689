//! The stream that keeps the feeds.

use std::time::Duration;

use async_nats::jetstream::{
    self, ErrorCode,
    context::{CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind},
    stream::{Config, DiscardPolicy, StorageType},
};
use nex_protocol::{FEEDS_STREAM, subject::pattern};
use tracing::info;

use crate::limits;

/// How much of the feeds is kept. The oldest go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedLimits {
    /// In bytes.
    pub max_bytes: u64,
    /// How old they may become.
    pub max_age: Duration,
}

impl Default for FeedLimits {
    /// 256 MiB and seven days.
    fn default() -> Self {
        Self {
            max_bytes: 256 * 1024 * 1024,
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// The least that the stream of the feeds is made for, in bytes.
const LEAST_BYTES: u64 = 4 * 1024 * 1024;

/// A stream that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FeedsStreamError {
    /// The server or the account has no JetStream.
    #[error("JetStream is off")]
    JetStreamOff,
    /// Asking for it failed.
    #[error("failed to look for stream `{FEEDS_STREAM}`")]
    Get(#[source] GetStreamError),
    /// The server has no room for it, however small.
    #[error("the NATS server has no space for stream `{FEEDS_STREAM}`")]
    NoSpace(#[source] CreateStreamError),
    /// The server refused it.
    #[error("failed to create stream `{FEEDS_STREAM}`")]
    Create(#[source] CreateStreamError),
    /// The server refused the new limits.
    #[error("failed to change the limits of stream `{FEEDS_STREAM}`")]
    Update(#[source] CreateStreamError),
}

fn is_off(code: ErrorCode) -> bool {
    [
        ErrorCode::JETSTREAM_NOT_ENABLED,
        ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT,
    ]
    .contains(&code)
}

/// Makes the stream of all feeds, or brings an existing one to these limits. It is given no more than
/// `room` bytes, unless it has them already. Where the server has no room for that, a new one gets
/// half of it, or half of that, and an existing one keeps what it has. Returns the bytes that it may take.
///
/// # Errors
/// [`FeedsStreamError::JetStreamOff`] where there is no JetStream; what the server said otherwise.
pub async fn ensure_feeds_stream(
    client: &async_nats::Client,
    limits: FeedLimits,
    room: u64,
) -> Result<u64, FeedsStreamError> {
    let context = context(client);
    let room = room.max(LEAST_BYTES);
    let mut wanted = Config {
        name: FEEDS_STREAM.to_owned(),
        description: Some("Logs, metrics and events of Nex".to_owned()),
        subjects: vec![pattern::FEEDS.to_owned()],
        max_age: limits.max_age,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: 1,
        ..Config::default()
    };
    let found = match context.get_stream(FEEDS_STREAM).await {
        Ok(stream) => stream.cached_info().config.clone(),
        Err(error) if is_missing(&error) => {
            return create(&context, wanted, limits.max_bytes.min(room)).await;
        }
        Err(error) if is_without_jetstream(&error) => return Err(FeedsStreamError::JetStreamOff),
        Err(error) => return Err(FeedsStreamError::Get(error)),
    };

    let kept = u64::try_from(found.max_bytes).unwrap_or(u64::MAX);
    let max_bytes = limits.max_bytes.min(room.max(kept));
    wanted.max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
    let same = found.subjects == wanted.subjects
        && found.max_bytes == wanted.max_bytes
        && found.max_age == wanted.max_age
        && found.discard == wanted.discard;
    if same {
        return Ok(kept);
    }
    let changed = Config {
        subjects: wanted.subjects,
        max_bytes: wanted.max_bytes,
        max_age: wanted.max_age,
        discard: wanted.discard,
        ..found
    };
    match context.update_stream(changed).await {
        Ok(_info) => {
            info!(stream = FEEDS_STREAM, "changed the limits of the feeds");
            Ok(max_bytes)
        }
        Err(error) if is_full(&error) => Ok(kept),
        Err(error) => Err(FeedsStreamError::Update(error)),
    }
}

/// Makes the stream with at most `max_bytes`, and with less while the server has no room for that.
async fn create(
    context: &jetstream::Context,
    mut config: Config,
    mut max_bytes: u64,
) -> Result<u64, FeedsStreamError> {
    loop {
        config.max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        let error = match context.create_stream(config.clone()).await {
            Ok(_stream) => return Ok(max_bytes),
            Err(error) => error,
        };
        match error {
            error if is_unavailable(&error) => return Err(FeedsStreamError::JetStreamOff),
            error if is_full(&error) && max_bytes / 2 >= LEAST_BYTES => max_bytes /= 2,
            error if is_full(&error) => return Err(FeedsStreamError::NoSpace(error)),
            error => return Err(FeedsStreamError::Create(error)),
        }
    }
}

/// Returns whether the server, or its disk, has no room for the stream.
fn is_full(error: &CreateStreamError) -> bool {
    const FULL: [ErrorCode; 3] = [
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ];
    matches!(error.kind(), CreateStreamErrorKind::JetStream(answer)
        if FULL.contains(&answer.error_code()) || answer.to_string().contains("no space left"))
}

/// JetStream with our limit on its answers.
pub(crate) fn context(client: &async_nats::Client) -> jetstream::Context {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(limits::JETSTREAM);
    context
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether there is no JetStream to ask: it says so itself, or nobody listens.
fn is_without_jetstream(error: &GetStreamError) -> bool {
    match error.kind() {
        GetStreamErrorKind::JetStream(error) => is_off(error.error_code()),
        GetStreamErrorKind::Request => says_no_responders(error),
        _ => false,
    }
}

fn is_unavailable(error: &CreateStreamError) -> bool {
    match error.kind() {
        CreateStreamErrorKind::JetStreamUnavailable => true,
        CreateStreamErrorKind::JetStream(error) => is_off(error.error_code()),
        _ => false,
    }
}

fn says_no_responders(error: &(dyn std::error::Error + 'static)) -> bool {
    use async_nats::jetstream::context::{RequestError, RequestErrorKind};
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(request) = error.downcast_ref::<RequestError>() {
            return request.kind() == RequestErrorKind::NoResponders;
        }
        next = error.source();
    }
    false
}
