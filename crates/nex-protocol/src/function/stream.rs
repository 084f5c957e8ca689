//! Triggers on streams of JetStream.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{InvalidTrigger, MAX_TRIGGER_BYTES, escape, is_subject};
use crate::{
    ARTIFACT_BUCKET, FEEDS_STREAM,
    dead_letter::DEAD_LETTER_STREAM,
    duration::GoDuration,
    ids::{Namespace, NodeId},
};

/// The longest name of a stream, in bytes, that the server takes.
const MAX_STREAM_BYTES: usize = 255;
/// The most attempts, and the most pauses between them.
const MAX_ATTEMPTS: usize = 1000;
/// How long after its nexlet is gone a message is delivered again, at least.
pub const MIN_ACK_WAIT: Duration = Duration::from_secs(1);
/// And at most; the longest pause too.
pub const MAX_TRIGGER_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// How much of a name is readable in that of a consumer, in bytes.
const READABLE_BYTES: usize = 32;

/// Messages of a stream, each until the function has succeeded on it, or has failed too often: then
/// it becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StreamTrigger {
    /// The stream. It has to be there.
    pub stream: StreamName,
    /// Only messages on these subjects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterSubject>,
    /// How often a message is delivered, until it becomes a dead letter.
    pub max_deliver: u32,
    /// The pauses after failures; the last one stands for all that follow.
    pub back_off: Vec<GoDuration>,
    /// How long after its nexlet is gone a message is delivered again. A function may run longer.
    pub ack_wait: GoDuration,
}

impl StreamTrigger {
    /// A trigger on all messages of a stream: five attempts, with pauses of 1 s, 5 s and 30 s.
    #[must_use]
    pub fn new(stream: StreamName) -> Self {
        Self {
            stream,
            filter: None,
            max_deliver: 5,
            back_off: [1, 5, 30].map(Duration::from_secs).map(GoDuration).into(),
            ack_wait: GoDuration(Duration::from_secs(30)),
        }
    }

    pub(super) fn checked(self) -> Result<Self, InvalidTrigger> {
        let wrong = |field, value: String, want| InvalidTrigger::OutOfBounds { field, value, want };
        let attempts = usize::try_from(self.max_deliver).unwrap_or(usize::MAX);
        if !(1..=MAX_ATTEMPTS).contains(&attempts) {
            return Err(wrong("max_deliver", attempts.to_string(), "1 to 1000"));
        }
        let pauses = &self.back_off;
        if pauses.is_empty() || pauses.len() > MAX_ATTEMPTS {
            let value = pauses.len().to_string();
            return Err(wrong("back_off", value, "1 to 1000 pauses"));
        }
        if let Some(pause) = pauses.iter().find(|pause| pause.0 > MAX_TRIGGER_WAIT) {
            return Err(wrong("back_off", pause.to_string(), "at most 24h"));
        }
        if !(MIN_ACK_WAIT..=MAX_TRIGGER_WAIT).contains(&self.ack_wait.0) {
            return Err(wrong("ack_wait", self.ack_wait.to_string(), "1s to 24h"));
        }
        Ok(self)
    }

    /// How long to wait after that many failures; the first is 1.
    #[must_use]
    pub fn pause(&self, failures: u64) -> Duration {
        let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
        let pause = self.back_off.get(index).or(self.back_off.last());
        pause.map_or(Duration::ZERO, |pause| pause.0)
    }

    /// The durable consumer that the replicas of a function share:
    /// `nex-<namespace>-<workload name>-<hash>`, the hash being one of both, of the stream and of
    /// the filter. What else a trigger says can change while the consumer stays.
    #[must_use]
    pub fn consumer(&self, namespace: &Namespace, name: &str) -> String {
        let filter = self.filter.as_ref().map_or("", FilterSubject::as_str);
        let parts = [namespace.as_str(), name, self.stream.as_str(), filter];
        let digest = Sha256::digest(parts.map(escape).join("."));
        let hash = u64::from_be_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|index| digest[index]));
        let readable = |part: &str| -> String {
            let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            part.chars().take(READABLE_BYTES).map(plain).collect()
        };
        format!(
            "nex-{}-{}-{hash:016x}",
            readable(namespace.as_str()),
            readable(name)
        )
    }
}

impl FromStr for StreamTrigger {
    type Err = InvalidTrigger;

    /// Reads `stream` or `stream:filter`, as it is displayed; the rest is as by default.
    fn from_str(text: &str) -> Result<Self, InvalidTrigger> {
        let (stream, filter) = match text.split_once(':') {
            Some((stream, filter)) => (stream, Some(FilterSubject::new(filter)?)),
            None => (text, None),
        };
        Ok(Self {
            filter,
            ..Self::new(StreamName::new(stream)?)
        })
    }
}

impl fmt::Display for StreamTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.stream.as_str())?;
        match &self.filter {
            Some(filter) => write!(f, ":{}", filter.as_str()),
            None => Ok(()),
        }
    }
}

/// The name of a stream that functions may read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct StreamName(String);

impl StreamName {
    /// Checks a name and takes it.
    ///
    /// # Errors
    /// It is none, or that of a stream of Nex.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidTrigger> {
        let text = text.into();
        let never = |c: char| {
            c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\')
        };
        if text.is_empty() || text.len() > MAX_STREAM_BYTES || text.contains(never) {
            return Err(InvalidTrigger::NoStream(text));
        }
        let artifacts = text.strip_prefix("OBJ_") == Some(ARTIFACT_BUCKET);
        let journal = text.strip_prefix("KV_nex-");
        let system = artifacts
            || journal.is_some_and(|node| NodeId::new(node).is_ok())
            || [FEEDS_STREAM, DEAD_LETTER_STREAM].contains(&text.as_str());
        match system {
            true => Err(InvalidTrigger::SystemStream(text)),
            false => Ok(Self(text)),
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for StreamName {
    type Error = InvalidTrigger;

    fn try_from(text: String) -> Result<Self, InvalidTrigger> {
        Self::new(text)
    }
}

impl From<StreamName> for String {
    fn from(name: StreamName) -> Self {
        name.0
    }
}

/// Which messages of a stream are wanted. Any subject will do: what a stream has is what counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct FilterSubject(String);

impl FilterSubject {
    /// Checks a subject and takes it.
    ///
    /// # Errors
    /// It is none, or too long.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidTrigger> {
        let text = text.into();
        if text.len() > MAX_TRIGGER_BYTES {
            return Err(InvalidTrigger::TooLong(text.len()));
        }
        match is_subject(&text) {
            true => Ok(Self(text)),
            false => Err(InvalidTrigger::NoSubject(text)),
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FilterSubject {
    type Error = InvalidTrigger;

    fn try_from(text: String) -> Result<Self, InvalidTrigger> {
        Self::new(text)
    }
}

impl From<FilterSubject> for String {
    fn from(subject: FilterSubject) -> Self {
        subject.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::Trigger;

    fn trigger(fields: &str) -> Result<StreamTrigger, String> {
        let text = format!(r#"{{"stream":"ORDERS"{fields}}}"#);
        match serde_json::from_str(&text) {
            Ok(Trigger::Stream(trigger)) => Ok(trigger),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (fields, part) in [
            (r#","max_deliver":0"#, "invalid `max_deliver` `0`"),
            (r#","max_deliver":1001"#, "invalid `max_deliver` `1001`"),
            (r#","back_off":[]"#, "want 1 to 1000 pauses"),
            (r#","back_off":["25h"]"#, "invalid `back_off` `25h0m0s`"),
            (r#","ack_wait":"500ms""#, "invalid `ack_wait` `500ms`"),
            (r#","filter":"a..b""#, "invalid subject `a..b`"),
        ] {
            let refused = trigger(fields).unwrap_err();
            assert!(refused.contains(part), "{fields}: {refused}");
        }
    }

    #[test]
    fn streams_of_nex_are_not_for_functions() {
        let journal = format!("KV_nex-N{}", "A".repeat(55));
        for name in ["NEX_FEEDS", "NEX_DLQ", "OBJ_NEXCLIFILES", &journal] {
            let refused = StreamName::new(name).unwrap_err();
            assert_eq!(refused, InvalidTrigger::SystemStream(name.to_owned()));
        }
        for name in ["", "a.b", "a b", "*", ">", "a/b", "a\\b", &"a".repeat(256)] {
            let refused = StreamName::new(name).unwrap_err();
            assert_eq!(refused, InvalidTrigger::NoStream(name.to_owned()));
        }
        for name in ["ORDERS", "KV_nex-data", "KV_b", "OBJ_o"] {
            assert!(StreamName::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn pauses_grow_and_then_stay() {
        let trigger = trigger(r#","back_off":["1s","5s"]"#).unwrap();

        let pauses = [1, 2, 3, 1000].map(|failures| trigger.pause(failures).as_secs());

        assert_eq!(pauses, [1, 5, 5, 5]);
    }

    #[test]
    fn a_consumer_is_one_of_a_namespace_a_name_and_a_trigger() {
        let consumer = |namespace: &str, name: &str, fields: &str| {
            let namespace = Namespace::new(namespace).unwrap();
            trigger(fields).unwrap().consumer(&namespace, name)
        };
        let one = consumer("default", "bill.er", "");

        assert_eq!(one, consumer("default", "bill.er", r#","max_deliver":9"#));
        assert!(one.starts_with("nex-default-bill_er-"), "{one}");
        for other in [
            consumer("other", "bill.er", ""),
            consumer("default", "bill_er", ""),
            consumer("default", "bill.er", r#","filter":"a""#),
        ] {
            assert_ne!(one, other);
        }
        let long = consumer("default", &"ü".repeat(64), "");
        assert!(long.len() < 100 && long.is_ascii(), "{long}");
    }
}
