//! JetStream's refusals in words for people: what is full, off or missing, and what to type.
//!
//! The server says only `insufficient resources` or `maximum consumers limit reached`, and async-nats
//! hides the code of some answers in a kind of error, of others in its source.

use std::{error::Error, fmt};

use async_nats::jetstream::{
    self, ErrorCode,
    context::{
        CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, PublishError,
        PublishErrorKind, RequestError, RequestErrorKind,
    },
    stream::{
        ConsumerError, ConsumerErrorKind, DirectGetError, DirectGetErrorKind, PurgeError,
        PurgeErrorKind,
    },
};

use crate::full_disk::tells_full_disk;

/// The subject of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// JetStream is off, for the server or the account.
    Off,
    /// There is no such stream.
    Missing,
    /// The stream, the account or the server has no room left.
    Full,
    /// The message is larger than the stream takes.
    TooLarge,
    /// There are as many consumers or streams as there may be.
    TooMany,
    /// The stream takes no changes.
    Sealed,
    /// The stream, or JetStream, cannot be used at the moment.
    Offline,
    /// No answer came in time.
    Silent,
}

/// A refusal of JetStream. `Display` is the text and the next step, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Subject of the refusal.
    pub reason: Reason,
    /// The cause, with the server's own words where they say more.
    pub text: String,
    /// The next step of a person.
    pub hint: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.text, self.hint)
    }
}

/// Explains the refusal among the causes of an error about a stream. `None` where the error is none
/// of JetStream's, or needs no explanation.
#[must_use]
pub fn explain(error: &(dyn Error + 'static), stream: &str) -> Option<Refusal> {
    let refusal = |reason, text: String, hint: String| Refusal { reason, text, hint };
    let (code, said) = match answer(error) {
        Some(answer) => (answer.error_code(), description(&answer)),
        None => match silence(error)? {
            Reason::Off => (ErrorCode::JETSTREAM_NOT_ENABLED, String::new()),
            Reason::Missing => (ErrorCode::STREAM_NOT_FOUND, String::new()),
            reason => {
                return Some(refusal(
                    reason,
                    "NATS did not answer in time".to_owned(),
                    format!(
                        "try again; where it stays so, the credentials may not allow the stream \
                         `{stream}`, or its disk is full"
                    ),
                ));
            }
        },
    };
    // The server's words have the path of a file of its own.
    if tells_full_disk(&said) {
        return Some(no_space("no space left on device"));
    }
    Some(match code {
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => refusal(
            Reason::Off,
            "JetStream is off on this NATS server, or for this account".to_owned(),
            "switch it on (`jetstream {}` in the server's configuration), or use `nex up`, where \
             it is on"
                .to_owned(),
        ),
        ErrorCode::STREAM_NOT_FOUND => refusal(
            Reason::Missing,
            format!("there is no stream `{stream}`"),
            "`nats stream ls` shows which there are".to_owned(),
        ),
        ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES => no_space(&said),
        ErrorCode::STREAM_CREATE if said.contains("creating store") => no_space(&said),
        ErrorCode::STREAM_STORE_FAILED => refusal(
            Reason::Full,
            format!("the stream `{stream}` is full: {said}"),
            format!(
                "delete what is not needed, or give it more room: `nats stream edit {stream} {}`",
                match said.contains("messages") {
                    true => "--max-msgs=NUMBER",
                    false => "--max-bytes=SIZE",
                }
            ),
        ),
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::NO_LIMITS
        | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED => refusal(
            Reason::Full,
            format!("the account has no room left in JetStream: {said}"),
            "`nats account info` shows its limits: delete what is not needed, or raise them"
                .to_owned(),
        ),
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            refusal(
                Reason::TooLarge,
                format!("the message is larger than the stream `{stream}` takes"),
                format!("`nats stream edit {stream} --max-msg-size=BYTES` lets it take more"),
            )
        }
        ErrorCode::MAXIMUM_CONSUMERS_LIMIT => refusal(
            Reason::TooMany,
            format!("the stream `{stream}`, or the account, has as many consumers as it may"),
            format!(
                "`nats consumer ls {stream}` shows those of the stream, `nats account info` the \
                 limits of the account"
            ),
        ),
        ErrorCode::MAXIMUM_STREAMS_LIMIT => refusal(
            Reason::TooMany,
            "the account has as many streams and buckets as it may".to_owned(),
            "`nats stream ls -a` shows them, `nats account info` the limit: delete what is not \
             needed, or raise it"
                .to_owned(),
        ),
        ErrorCode::STREAM_SEALED => refusal(
            Reason::Sealed,
            format!("the stream `{stream}` is sealed, so that nothing in it can be changed"),
            "use another one: what is sealed stays so".to_owned(),
        ),
        ErrorCode::CLUSTER_NOT_AVAILABLE
        | ErrorCode::STREAM_OFFLINE
        | ErrorCode::STREAM_OFFLINE_REASON
        | ErrorCode::CONSUMER_OFFLINE
        | ErrorCode::CONSUMER_OFFLINE_REASON => refusal(
            Reason::Offline,
            format!("the stream `{stream}` cannot be used at the moment: {said}"),
            "try again; `nats stream report` shows which servers have it".to_owned(),
        ),
        _ => return None,
    })
}

/// Explains the silence of a stream that acknowledges nothing: one whose disk is full says so only to a
/// purge. That of `unused`, a subject of the stream without messages, changes nothing.
pub async fn explain_silence(
    context: &jetstream::Context,
    stream: &str,
    unused: &str,
) -> Option<Refusal> {
    let handle = context.get_stream_no_info(stream).await.ok()?;
    let refused = handle.purge().filter(unused).await.err()?;
    explain(&refused, stream).filter(|refusal| refusal.reason == Reason::Full)
}

fn no_space(said: &str) -> Refusal {
    Refusal {
        reason: Reason::Full,
        text: format!("the NATS server has no space left for JetStream: {said}"),
        hint: "free space on its disk, or raise `max_file_store` in its configuration".to_owned(),
    }
}

/// Returns JetStream's answer among the causes of an error.
#[must_use]
pub fn answer(error: &(dyn Error + 'static)) -> Option<jetstream::Error> {
    causes(error).find_map(|cause| {
        if let Some(answer) = cause.downcast_ref::<jetstream::Error>() {
            return Some(answer.clone());
        }
        if let Some(error) = cause.downcast_ref::<GetStreamError>()
            && let GetStreamErrorKind::JetStream(answer) = error.kind()
        {
            return Some(answer);
        }
        if let Some(error) = cause.downcast_ref::<CreateStreamError>()
            && let CreateStreamErrorKind::JetStream(answer) = error.kind()
        {
            return Some(answer);
        }
        if let Some(error) = cause.downcast_ref::<ConsumerError>()
            && let ConsumerErrorKind::JetStream(answer) = error.kind()
        {
            return Some(answer);
        }
        if let Some(error) = cause.downcast_ref::<PurgeError>()
            && let PurgeErrorKind::JetStream(answer) = error.kind()
        {
            return Some(answer);
        }
        None
    })
}

/// Returns what the lack of an answer means.
fn silence(error: &(dyn Error + 'static)) -> Option<Reason> {
    causes(error).find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<RequestError>() {
            return match error.kind() {
                RequestErrorKind::NoResponders => Some(Reason::Off),
                RequestErrorKind::TimedOut => Some(Reason::Silent),
                _ => None,
            };
        }
        if let Some(error) = cause.downcast_ref::<PublishError>() {
            return match error.kind() {
                PublishErrorKind::StreamNotFound => Some(Reason::Missing),
                PublishErrorKind::TimedOut => Some(Reason::Silent),
                _ => None,
            };
        }
        if let Some(error) = cause.downcast_ref::<DirectGetError>() {
            let is_silent = error.kind() == DirectGetErrorKind::TimedOut;
            return is_silent.then_some(Reason::Silent);
        }
        let is_off = cause
            .downcast_ref::<CreateStreamError>()
            .is_some_and(|error| error.kind() == CreateStreamErrorKind::JetStreamUnavailable);
        is_off.then_some(Reason::Off)
    })
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        (*error).source()
    })
}

/// The server's words, without the numbers that async-nats adds.
fn description(answer: &jetstream::Error) -> String {
    let text = answer.to_string();
    let words = text.split(" (code ").next();
    words.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(code: u64, description: &str) -> jetstream::Error {
        let answer = json!({ "code": 503, "err_code": code, "description": description });
        serde_json::from_value(answer).unwrap()
    }

    #[test]
    fn every_refusal_says_what_is_wrong_and_what_to_type() {
        let full = "maximum bytes exceeded";
        for (code, said, reason, part) in [
            (
                10076,
                "jetstream not enabled",
                Reason::Off,
                "`jetstream {}`",
            ),
            (10039, "not enabled for account", Reason::Off, "`nex up`"),
            (
                10059,
                "stream not found",
                Reason::Missing,
                "`nats stream ls`",
            ),
            (10077, full, Reason::Full, "edit KV_b --max-bytes"),
            (
                10077,
                "maximum messages exceeded",
                Reason::Full,
                "--max-msgs",
            ),
            (
                10077,
                "write: no space left on device",
                Reason::Full,
                "disk",
            ),
            (
                10047,
                "insufficient storage",
                Reason::Full,
                "`max_file_store`",
            ),
            (10023, "insufficient resources", Reason::Full, "disk"),
            (10028, "insufficient memory", Reason::Full, "disk"),
            (
                10002,
                "limits exceeded",
                Reason::Full,
                "`nats account info`",
            ),
            (
                10120,
                "no default limit",
                Reason::Full,
                "`nats account info`",
            ),
            (10122, "exceeds account limit", Reason::Full, "account"),
            (
                10054,
                "message size exceeds",
                Reason::TooLarge,
                "--max-msg-size",
            ),
            (
                10026,
                "maximum consumers",
                Reason::TooMany,
                "consumer ls KV_b",
            ),
            (
                10027,
                "maximum streams",
                Reason::TooMany,
                "`nats stream ls -a`",
            ),
            (10109, "sealed stream", Reason::Sealed, "use another one"),
            (10008, "no leader", Reason::Offline, "`nats stream report`"),
            (10118, "stream is offline", Reason::Offline, "try again"),
        ] {
            let kinds: [Box<dyn Error>; 3] = [
                Box::new(answer(code, said)),
                Box::new(GetStreamError::new(GetStreamErrorKind::JetStream(answer(
                    code, said,
                )))),
                Box::new(PublishError::with_source(
                    PublishErrorKind::Other,
                    answer(code, said),
                )),
            ];
            for error in kinds {
                let explained = explain(&*error, "KV_b").unwrap();
                assert_eq!(explained.reason, reason, "{code}");
                assert!(explained.to_string().contains(part), "{explained}");
                assert!(!explained.to_string().contains("error code"), "{explained}");
            }
        }
        let silent = RequestError::new(RequestErrorKind::TimedOut);
        let explained = explain(&silent, "KV_b").unwrap();
        assert_eq!(explained.reason, Reason::Silent);
        assert!(explained.hint.contains("credentials"), "{explained}");
        let off = RequestError::new(RequestErrorKind::NoResponders);
        assert_eq!(explain(&off, "KV_b").unwrap().reason, Reason::Off);
    }

    #[test]
    fn what_is_no_refusal_of_jetstream_stays_as_it_is() {
        assert_eq!(explain(&std::io::Error::other("x"), "KV_b"), None);
        assert_eq!(explain(&answer(10071, "wrong last sequence"), "KV_b"), None);
    }
}
