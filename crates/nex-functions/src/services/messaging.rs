//! Messages: publishing and asking.

use std::time::Duration;

use async_nats::{HeaderMap, Message, StatusCode, client::PublishErrorKind};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::{
    Reach,
    error::{ServiceCode, ServiceError},
};

/// The most answers that one request gathers.
const MAX_ANSWERS: usize = 1000;
/// The most bytes of such answers.
const MAX_ANSWERS_BYTES: usize = 16 * 1024 * 1024;

/// When a request to many has gathered enough: at whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// So many answers; at most 1,000.
    pub max: usize,
    /// All this time.
    pub timeout: Duration,
    /// So long without another answer, after the first.
    pub stall: Duration,
}

impl Default for Gather {
    fn default() -> Self {
        Self {
            max: MAX_ANSWERS,
            timeout: Duration::from_secs(1),
            stall: Duration::from_millis(300),
        }
    }
}

pub(super) async fn publish(
    reach: &Reach,
    subject: String,
    payload: Bytes,
    trace: Option<HeaderMap>,
) -> Result<(), ServiceError> {
    reach.grants.subject(&subject)?;
    fits(reach, &payload)?;
    let published = match trace {
        Some(headers) => {
            reach
                .client
                .publish_with_headers(subject, headers, payload)
                .await
        }
        None => reach.client.publish(subject, payload).await,
    };
    published.map_err(|error| match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => too_large(reach),
        _ => ServiceError::unavailable("failed to publish", &error),
    })
}

pub(super) async fn request(
    reach: &Reach,
    subject: String,
    payload: Bytes,
    trace: Option<HeaderMap>,
) -> Result<Bytes, ServiceError> {
    let one = Gather {
        max: 1,
        // The deadline of the invocation ends the wait.
        timeout: Duration::MAX,
        stall: Duration::MAX,
    };
    let shown = subject.clone();
    let answer = gather(reach, subject, payload, trace, one).await?.pop();
    let Some(answer) = answer else {
        let text = format!("the wait for an answer on `{shown}` was ended");
        return Err(ServiceError::new(ServiceCode::Unavailable, text));
    };
    match nex_nats::read_error(&answer) {
        Some((code, text)) => {
            let text = format!("`{shown}` answered with error {}: {text}", code.number());
            Err(ServiceError::new(ServiceCode::RemoteError, text))
        }
        None => Ok(answer.payload),
    }
}

pub(super) async fn request_many(
    reach: &Reach,
    subject: String,
    payload: Bytes,
    trace: Option<HeaderMap>,
    limits: Gather,
) -> Result<Vec<Bytes>, ServiceError> {
    let answers = gather(reach, subject, payload, trace, limits).await?;
    Ok(answers.into_iter().map(|answer| answer.payload).collect())
}

async fn gather(
    reach: &Reach,
    subject: String,
    payload: Bytes,
    trace: Option<HeaderMap>,
    limits: Gather,
) -> Result<Vec<Message>, ServiceError> {
    reach.grants.subject(&subject)?;
    fits(reach, &payload)?;
    let max = limits.max.min(MAX_ANSWERS);
    let started = Instant::now();
    let end = started.checked_add(limits.timeout);
    let shown = subject.clone();
    let inbox = reach.client.new_inbox();
    let unreachable = |error: &(dyn std::error::Error + 'static)| {
        ServiceError::unavailable(&format!("failed to ask on `{shown}`"), error)
    };
    let mut inbox_rx = reach
        .client
        .subscribe(inbox.clone())
        .await
        .map_err(|error| unreachable(&error))?;
    let asked = match trace {
        Some(headers) => {
            let with_headers = reach
                .client
                .publish_with_reply_and_headers(subject, inbox, headers, payload);
            with_headers.await
        }
        None => {
            reach
                .client
                .publish_with_reply(subject, inbox, payload)
                .await
        }
    };
    asked.map_err(|error| unreachable(&error))?;

    let mut answers = Vec::new();
    let mut bytes = 0;
    while answers.len() < max {
        let stalled = match answers.is_empty() {
            true => None,
            false => Instant::now().checked_add(limits.stall),
        };
        let until = [end, stalled].into_iter().flatten().min();
        let next = match until {
            Some(until) => timeout_at(until, inbox_rx.next()).await.unwrap_or(None),
            None => inbox_rx.next().await,
        };
        let Some(answer) = next else { break };
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            let text = format!("nobody listens on `{shown}`");
            return Err(ServiceError::new(ServiceCode::NoResponders, text));
        }
        bytes += answer.payload.len();
        if bytes > MAX_ANSWERS_BYTES {
            let text = format!("the answers on `{shown}` have more than {MAX_ANSWERS_BYTES} bytes");
            return Err(ServiceError::new(ServiceCode::TooLarge, text));
        }
        answers.push(answer);
    }
    Ok(answers)
}

/// Whether the server takes a payload of that size.
pub(super) fn fits(reach: &Reach, payload: &Bytes) -> Result<(), ServiceError> {
    if payload.len() > reach.client.max_payload() {
        return Err(too_large(reach));
    }
    Ok(())
}

fn too_large(reach: &Reach) -> ServiceError {
    let max = reach.client.max_payload();
    let text = format!("the payload is too large: the server takes {max} bytes");
    ServiceError::new(ServiceCode::TooLarge, text)
}
