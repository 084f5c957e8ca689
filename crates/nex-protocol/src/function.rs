//! Functions: what triggers them, and the headers of their replies.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Namespace, WorkloadId};

/// Header of a function's reply: the workload that answered.
pub const WORKLOAD_HEADER: &str = "workload_id";
/// Header of a function's reply: its namespace.
pub const NAMESPACE_HEADER: &str = "namespace";
/// Header of a failed function's reply: what went wrong, on one line.
pub const FAILURE_HEADER: &str = "error";

/// What makes a function run, as it stands in a start request. Later kinds add variants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "TriggerFields", untagged)]
pub enum Trigger {
    /// Messages on a core NATS subject: `{"subject":"…"}`.
    Subject {
        /// The subject; wildcards are allowed.
        subject: TriggerSubject,
    },
}

/// The fields of all kinds of triggers. The kind is told by which of them are there, so that an
/// error names the field instead of saying that no kind fits.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct TriggerFields {
    subject: Option<TriggerSubject>,
}

impl TryFrom<TriggerFields> for Trigger {
    type Error = &'static str;

    fn try_from(fields: TriggerFields) -> Result<Self, &'static str> {
        let subject = fields.subject.ok_or("a trigger wants a `subject`")?;
        Ok(Self::Subject { subject })
    }
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
    #[error("subject `{0}` is not for functions: it can receive messages of `{1}`")]
    Reserved(String, &'static str),
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
        let tokens: Vec<&str> = text.split('.').collect();
        let last = tokens.len() - 1;
        let valid = tokens.iter().enumerate().all(|(index, token)| {
            !token.is_empty()
                && !token.contains(|c: char| c.is_whitespace() || c.is_control())
                && (!token.contains(['*', '>'])
                    || *token == "*"
                    || (*token == ">" && index == last))
        });
        if !valid {
            return Err(InvalidTrigger::NoSubject(text));
        }
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

/// The queue group in which replicas of a function share a trigger:
/// `<namespace>.<workload name>.<trigger>`, each part escaped.
///
/// A name alone would let a neighbour of the same name steal messages. In each part every byte
/// but letters, digits, `-` and `_` becomes `=XX` (hexadecimal), so that the parts stay apart.
#[must_use]
pub fn queue_group(namespace: &Namespace, name: &str, trigger: &TriggerSubject) -> String {
    let escape = |part: &str| {
        part.bytes().fold(String::new(), |mut text, byte| {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("={byte:02X}"));
            }
            text
        })
    };
    format!(
        "{}.{}.{}",
        escape(namespace.as_str()),
        escape(name),
        escape(trigger.as_str())
    )
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
        let Trigger::Subject { subject } = serde_json::from_str(r#"{"subject":"echo"}"#).unwrap();
        assert_eq!(subject.as_str(), "echo");
        let refused = |text| {
            serde_json::from_str::<Trigger>(text)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(r#"{"subject":"$SYS.x"}"#).contains("not for functions"));
        assert!(refused(r#"{"topic":"x"}"#).contains("unknown field `topic`"));
        assert!(refused("{}").contains("wants a `subject`"));
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
