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

/// A stream that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FeedsStreamError {
    /// The server or the account has no JetStream.
    #[error("JetStream is off")]
    JetStreamOff,
    /// Asking for it failed.
    #[error("failed to look for stream `{FEEDS_STREAM}`")]
    Get(#[source] GetStreamError),
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

/// Makes the stream of all feeds, or brings an existing one to these limits.
///
/// # Errors
/// [`FeedsStreamError::JetStreamOff`] where there is no JetStream; what the server said otherwise.
pub async fn ensure_feeds_stream(
    client: &async_nats::Client,
    limits: FeedLimits,
) -> Result<(), FeedsStreamError> {
    let context = context(client);
    let wanted = Config {
        name: FEEDS_STREAM.to_owned(),
        description: Some("Logs, metrics and events of Nex".to_owned()),
        subjects: vec![pattern::FEEDS.to_owned()],
        max_bytes: i64::try_from(limits.max_bytes).unwrap_or(i64::MAX),
        max_age: limits.max_age,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: 1,
        ..Config::default()
    };
    let found = match context.get_stream(FEEDS_STREAM).await {
        Ok(stream) => stream.cached_info().config.clone(),
        Err(error) if is_missing(&error) => {
            let created = context.create_stream(wanted).await;
            return match created {
                Ok(_stream) => Ok(()),
                Err(error) if is_unavailable(&error) => Err(FeedsStreamError::JetStreamOff),
                Err(error) => Err(FeedsStreamError::Create(error)),
            };
        }
        Err(error) if is_without_jetstream(&error) => return Err(FeedsStreamError::JetStreamOff),
        Err(error) => return Err(FeedsStreamError::Get(error)),
    };

    let same = found.subjects == wanted.subjects
        && found.max_bytes == wanted.max_bytes
        && found.max_age == wanted.max_age
        && found.discard == wanted.discard;
    if same {
        return Ok(());
    }
    let changed = Config {
        subjects: wanted.subjects,
        max_bytes: wanted.max_bytes,
        max_age: wanted.max_age,
        discard: wanted.discard,
        ..found
    };
    let updated = context.update_stream(changed).await;
    updated.map_err(FeedsStreamError::Update)?;
    info!(stream = FEEDS_STREAM, "changed the limits of the feeds");
    Ok(())
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
