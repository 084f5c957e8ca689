//! Functions: what triggers them, and the headers of their replies.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    duration::GoDuration,
    ids::{Namespace, WorkloadId},
};

mod stream;
pub use stream::{FilterSubject, MAX_TRIGGER_WAIT, MIN_ACK_WAIT, StreamName, StreamTrigger};

/// Header of a function's reply: the workload that answered.
pub const WORKLOAD_HEADER: &str = "workload_id";
/// Header of a function's reply: its namespace.
pub const NAMESPACE_HEADER: &str = "namespace";
/// Header of a failed function's reply: what went wrong, on one line.
pub const FAILURE_HEADER: &str = "error";

/// Header of a request: names its invocation, so that the caller can tell its lines of the log. They
/// have it too, and so has a message without a line after the last of them, with
/// [`INVOCATION_END_HEADER`]. Letters, digits, `-` and `_`, 64 at most; anything else is ignored.
pub const INVOCATION_HEADER: &str = "Nex-Invocation-Id";
/// Header of the message on a function's log that says that no more lines of an invocation come.
pub const INVOCATION_END_HEADER: &str = "Nex-Invocation-End";

/// The id that a caller gave an invocation by [`INVOCATION_HEADER`], if it is one.
#[must_use]
pub fn invocation_id(value: &str) -> Option<&str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    ((1..=64).contains(&value.len()) && value.bytes().all(fits)).then_some(value)
}

/// What makes a function run, as it stands in a start request. Later kinds add variants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "TriggerFields", untagged)]
pub enum Trigger {
    /// Messages on a core NATS subject: `{"subject":"…"}`.
    Subject(SubjectTrigger),
    /// Messages of a JetStream stream: `{"stream":"…"}`.
    Stream(StreamTrigger),
}

/// Messages on a core NATS subject. Each goes to one of the replicas, or to all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SubjectTrigger {
    /// The subject; wildcards are allowed.
    pub subject: TriggerSubject,
    /// Whether each message runs every replica.
    #[serde(skip_serializing_if = "is_false")]
    pub broadcast: bool,
}

impl From<TriggerSubject> for Trigger {
    /// The replicas share the messages.
    fn from(subject: TriggerSubject) -> Self {
        Self::Subject(SubjectTrigger {
            subject,
            broadcast: false,
        })
    }
}

/// The fields of all kinds of triggers. The kind is told by which of them are there, so that an
/// error names the field instead of saying that no kind fits.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct TriggerFields {
    subject: Option<TriggerSubject>,
    #[serde(default)]
    broadcast: Option<bool>,
    stream: Option<StreamName>,
    filter: Option<FilterSubject>,
    max_deliver: Option<u32>,
    back_off: Option<Vec<GoDuration>>,
    ack_wait: Option<GoDuration>,
}

impl TryFrom<TriggerFields> for Trigger {
    type Error = InvalidTrigger;

    fn try_from(fields: TriggerFields) -> Result<Self, InvalidTrigger> {
        match (fields.subject, fields.stream) {
            (Some(subject), None) => {
                let streams_own = [
                    ("filter", fields.filter.is_some()),
                    ("max_deliver", fields.max_deliver.is_some()),
                    ("back_off", fields.back_off.is_some()),
                    ("ack_wait", fields.ack_wait.is_some()),
                ];
                if let Some((field, _)) = streams_own.iter().find(|(_, given)| *given) {
                    return Err(InvalidTrigger::OnlyStreams(field));
                }
                Ok(Self::Subject(SubjectTrigger {
                    subject,
                    broadcast: fields.broadcast.unwrap_or(false),
                }))
            }
            (None, Some(_)) if fields.broadcast.is_some() => Err(InvalidTrigger::OnlySubjects),
            (None, Some(stream)) => {
                let defaults = StreamTrigger::new(stream);
                let trigger = StreamTrigger {
                    filter: fields.filter,
                    max_deliver: fields.max_deliver.unwrap_or(defaults.max_deliver),
                    back_off: fields.back_off.unwrap_or(defaults.back_off),
                    ack_wait: fields.ack_wait.unwrap_or(defaults.ack_wait),
                    stream: defaults.stream,
                };
                trigger.checked().map(Self::Stream)
            }
            (Some(_), Some(_)) => Err(InvalidTrigger::Both),
            (None, None) => Err(InvalidTrigger::Neither),
        }
    }
}

impl Trigger {
    /// Returns `true` where both get the same messages, whatever else they say.
    fn is_on_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Subject(one), Self::Subject(other)) => one.subject == other.subject,
            (Self::Stream(one), Self::Stream(other)) => {
                (&one.stream, &one.filter) == (&other.stream, &other.filter)
            }
            _ => false,
        }
    }

    fn source(&self) -> String {
        match self {
            Self::Subject(trigger) => format!("subject `{}`", trigger.subject),
            Self::Stream(trigger) => format!("stream `{trigger}`"),
        }
    }
}

/// Each trigger of a list once.
///
/// # Errors
/// [`InvalidTrigger::Twice`] where two that differ get the same messages.
pub fn distinct(
    triggers: impl IntoIterator<Item = Trigger>,
) -> Result<Vec<Trigger>, InvalidTrigger> {
    let mut distinct: Vec<Trigger> = Vec::new();
    for trigger in triggers {
        if distinct.contains(&trigger) {
            continue;
        }
        if distinct.iter().any(|other| other.is_on_same(&trigger)) {
            return Err(InvalidTrigger::Twice(trigger.source()));
        }
        distinct.push(trigger);
    }
    Ok(distinct)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A subject that a function may listen on: a valid one outside of the system's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct TriggerSubject(String);

/// Why a subject is refused as a trigger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTrigger {
    /// It is no subject at all.
    #[error(
        "invalid subject `{0}`: want tokens joined by `.`, without spaces; `*` and `>` only as whole tokens, `>` only at the end"
    )]
    NoSubject(String),
    /// The server would end the connection of whoever subscribes to it.
    #[error("invalid subject of {0} bytes: want at most {MAX_TRIGGER_BYTES}")]
    TooLong(usize),
    /// It may receive what belongs to the system.
    #[error(
        "subject `{0}` is not for functions: it can receive messages of `{1}`; want another first token"
    )]
    Reserved(String, &'static str),
    /// It is no name of a stream.
    #[error("invalid stream `{0}`: want a name without spaces, `.`, `*`, `>`, `/` and `\\`")]
    NoStream(String),
    /// The stream belongs to the system.
    #[error("stream `{0}` is not for functions: it is the system's own; want a stream of yours")]
    SystemStream(String),
    /// A number or a time makes no sense.
    #[error("invalid `{field}` `{value}`: want {want}")]
    OutOfBounds {
        /// The field.
        field: &'static str,
        /// What it has.
        value: String,
        /// What it may have.
        want: &'static str,
    },
    /// The field is for triggers on streams.
    #[error("`{0}` is for triggers with a `stream`, not for those with a `subject`")]
    OnlyStreams(&'static str),
    /// The field is for triggers on subjects.
    #[error(
        "`broadcast` is for triggers with a `subject`: the replicas share the messages of a `stream`"
    )]
    OnlySubjects,
    /// It is of two kinds.
    #[error("a trigger wants a `subject` or a `stream`, not both")]
    Both,
    /// It is of no kind.
    #[error("a trigger wants a `subject` or a `stream`")]
    Neither,
    /// On the source of another trigger, from which it differs: it is not known which of the two counts.
    #[error("two triggers differ but are on the same {0}: want one of them")]
    Twice(String),
}

/// The longest subject that triggers a function, in bytes. With its [`queue_group`] it must fit
/// into one line of the NATS protocol, which has at most 4,096.
pub const MAX_TRIGGER_BYTES: usize = 512;

/// First tokens that belong to the server, to JetStream and to Nex.
const RESERVED: [&str; 3] = ["$SYS", "$JS", "$NEX"];

impl TriggerSubject {
    /// Checks a subject and takes it.
    ///
    /// # Errors
    /// [`InvalidTrigger`] says why not. A wildcard as first token is refused too: it would
    /// receive the system's own traffic.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidTrigger> {
        let text = text.into();
        if text.len() > MAX_TRIGGER_BYTES {
            return Err(InvalidTrigger::TooLong(text.len()));
        }
        if !is_subject(&text) {
            return Err(InvalidTrigger::NoSubject(text));
        }
        let tokens: Vec<&str> = text.split('.').collect();
        let last = tokens.len() - 1;
        let reserved = RESERVED.iter().find(|reserved| match tokens[0] {
            ">" => true,
            "*" => last > 0,
            first => first == **reserved,
        });
        match reserved {
            Some(reserved) => Err(InvalidTrigger::Reserved(text, reserved)),
            None => Ok(Self(text)),
        }
    }

    /// The subject as it is subscribed to.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TriggerSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TriggerSubject {
    type Error = InvalidTrigger;

    fn try_from(text: String) -> Result<Self, InvalidTrigger> {
        Self::new(text)
    }
}

impl From<TriggerSubject> for String {
    fn from(subject: TriggerSubject) -> Self {
        subject.0
    }
}

/// Whether it is a subject, with or without wildcards.
pub(crate) fn is_subject(text: &str) -> bool {
    let last = text.split('.').count() - 1;
    text.split('.').enumerate().all(|(index, token)| {
        !token.is_empty()
            && !token.contains(|c: char| c.is_whitespace() || c.is_control())
            && (!token.contains(['*', '>']) || token == "*" || (token == ">" && index == last))
    })
}

/// The queue group in which replicas of a function share a trigger:
/// `<namespace>.<workload name>.<trigger>`, each part escaped.
///
/// A name alone would let a neighbour of the same name steal messages. In each part every byte
/// but letters, digits, `-` and `_` becomes `=XX` (hexadecimal), so that the parts stay apart.
#[must_use]
pub fn queue_group(namespace: &Namespace, name: &str, trigger: &TriggerSubject) -> String {
    format!(
        "{}.{}.{}",
        escape(namespace.as_str()),
        escape(name),
        escape(trigger.as_str())
    )
}

/// A part of a name in which every byte but letters, digits, `-` and `_` became `=XX`.
pub(crate) fn escape(part: &str) -> String {
    part.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("={byte:02X}"));
        }
        text
    })
}

/// The headers that every reply of a function carries.
#[must_use]
pub fn reply_headers<'a>(
    id: &'a WorkloadId,
    namespace: &'a Namespace,
) -> [(&'static str, &'a str); 2] {
    [
        (WORKLOAD_HEADER, id.as_str()),
        (NAMESPACE_HEADER, namespace.as_str()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_of_the_system_are_refused() {
        for text in [
            "$SYS.REQ.x",
            "$JS.API.>",
            "$NEX.SVC.default.control.AUCTION",
            "$NEX.>",
            "$SYS",
            ">",
            "*.>",
            "*.SVC.default.control.AUCTION",
        ] {
            let refused = TriggerSubject::new(text);
            assert!(
                matches!(refused, Err(InvalidTrigger::Reserved(..))),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_subject_is_refused() {
        for text in ["", ".", "a.", "a b", "a..b", "a*", "a.>.b", "a\n"] {
            let refused = TriggerSubject::new(text);
            assert!(
                matches!(refused, Err(InvalidTrigger::NoSubject(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_subscription_fits_into_a_line_of_the_protocol() {
        let longest = |bytes| TriggerSubject::new("ü".repeat(bytes / 2));
        let group = queue_group(
            &Namespace::new("ü".repeat(64)).unwrap(),
            &"ü".repeat(crate::workload::MAX_NAME_BYTES / 2),
            &longest(MAX_TRIGGER_BYTES).unwrap(),
        );

        assert!(group.len() + MAX_TRIGGER_BYTES < 4000, "{}", group.len());
        assert_eq!(
            longest(MAX_TRIGGER_BYTES + 2),
            Err(InvalidTrigger::TooLong(514))
        );
    }

    #[test]
    fn subjects_of_people_are_taken() {
        for text in [
            "echo",
            "a.b.c",
            "a.*.c",
            "a.>",
            "$KV.bucket.>",
            "*",
            "$SYSTEM.x",
        ] {
            assert!(TriggerSubject::new(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_trigger_is_read_by_its_shape() {
        let read = |text| serde_json::from_str::<Trigger>(text).unwrap();
        let Trigger::Subject(echo) = read(r#"{"subject":"echo"}"#) else {
            panic!("a subject makes a trigger on a stream");
        };
        assert_eq!((echo.subject.as_str(), echo.broadcast), ("echo", false));
        for text in [
            r#"{"subject":"echo"}"#,
            r#"{"subject":"echo","broadcast":true}"#,
            r#"{"stream":"ORDERS","filter":"orders.>","max_deliver":2,"back_off":["1s"],"ack_wait":"10s"}"#,
        ] {
            assert_eq!(serde_json::to_string(&read(text)).unwrap(), text);
        }
        let refused = |text| {
            serde_json::from_str::<Trigger>(text)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(r#"{"subject":"$SYS.x"}"#).contains("not for functions"));
        assert!(refused(r#"{"topic":"x"}"#).contains("unknown field `topic`"));
        for (text, part) in [
            ("{}", "wants a `subject` or a `stream`"),
            (r#"{"subject":"a","stream":"S"}"#, "not both"),
            (r#"{"subject":"a","filter":"b"}"#, "`filter` is for"),
            (r#"{"stream":"S","broadcast":false}"#, "`broadcast` is for"),
        ] {
            assert!(refused(text).contains(part), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn queue_groups_keep_their_parts_apart() {
        let group = |namespace: &str, name: &str, subject: &str| {
            queue_group(
                &Namespace::new(namespace).unwrap(),
                name,
                &TriggerSubject::new(subject).unwrap(),
            )
        };
        assert_eq!(group("default", "web", "a.>"), "default.web.a=2E=3E");
        assert_ne!(group("a", "b.c", "d"), group("a", "b", "c.d"));
        assert!(!group("a", "ü x", "b").contains([' ', '*', '>']));
    }
}
