//! The start request of a function: the document inside `run_request`.

use std::time::Duration;

use nex_protocol::{
    GoDuration,
    function::{Trigger, TriggerSubject},
};
use serde::Deserialize;

use crate::{
    limits::{DEFAULT_TIMEOUT, MAX_TIMEOUT},
    services::Asked,
};

/// What to run, when, and for how long at most. Fields that are not known are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionRequest {
    /// Where the code is.
    pub uri: String,
    /// What makes it run; at least one, none twice.
    pub triggers: Vec<Trigger>,
    /// How long an invocation may take, its wait for a thread included.
    pub timeout: Duration,
    /// Which host services it wants; all of them where it does not say.
    pub services: Option<Asked>,
}

/// Why a start request is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRequest {
    /// It is not what the schema says.
    #[error("the start request cannot be read: {0}")]
    Unreadable(#[source] serde_json::Error),
    /// Nothing would ever make it run.
    #[error("the start request has no triggers: want `\"triggers\":[{{\"subject\":\"…\"}}]`")]
    NoTriggers,
    /// It asks for too much or no time.
    #[error("invalid timeout `{0}`: want more than 0s and at most {max}", max = GoDuration(MAX_TIMEOUT))]
    Timeout(GoDuration),
}

#[derive(Deserialize)]
struct Fields {
    uri: String,
    #[serde(default)]
    triggers: Vec<Trigger>,
    timeout: Option<GoDuration>,
    services: Option<Asked>,
}

impl FunctionRequest {
    /// Reads a `run_request`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidRequest> {
        let fields: Fields = serde_json::from_str(text).map_err(InvalidRequest::Unreadable)?;
        let mut triggers: Vec<Trigger> = Vec::new();
        for trigger in fields.triggers {
            if !triggers.contains(&trigger) {
                triggers.push(trigger);
            }
        }
        if triggers.is_empty() {
            return Err(InvalidRequest::NoTriggers);
        }
        let timeout = fields.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0);
        if timeout.is_zero() || timeout > MAX_TIMEOUT {
            return Err(InvalidRequest::Timeout(GoDuration(timeout)));
        }
        Ok(Self {
            uri: fields.uri,
            triggers,
            timeout,
            services: fields.services,
        })
    }

    /// The JSON Schema of a start request. `code` says what the `uri` leads to.
    #[must_use]
    pub fn schema(code: &str) -> serde_json::Value {
        serde_json::json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["uri", "triggers"],
            "properties": {
                "uri": {
                    "type": "string",
                    "description": format!(
                        "{code}: file:///path, or nats://BUCKET/NAME:TAG in an object store"
                    ),
                },
                "triggers": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["subject"],
                        "properties": {
                            "subject": {
                                "type": "string",
                                "description": "the core NATS subject to listen on; replicas share it",
                            },
                        },
                        "additionalProperties": false,
                    },
                },
                "timeout": {
                    "type": "string",
                    "description": format!(
                        "how long an invocation may take, as a Go duration; {} by default, {} at most",
                        GoDuration(DEFAULT_TIMEOUT),
                        GoDuration(MAX_TIMEOUT),
                    ),
                },
                "services": Asked::schema(),
            },
        })
    }

    /// The subjects of all triggers.
    pub fn subjects(&self) -> impl Iterator<Item = &TriggerSubject> {
        self.triggers.iter().map(|trigger| match trigger {
            Trigger::Subject { subject } => subject,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        FunctionRequest::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_request_needs_only_code_and_a_trigger() {
        let text =
            r#"{"uri":"file:///f.js","triggers":[{"subject":"a"},{"subject":"a"}],"more":1}"#;

        let request = FunctionRequest::parse(text).unwrap();

        assert_eq!(request.subjects().count(), 1);
        assert_eq!(request.timeout, DEFAULT_TIMEOUT);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "cannot be read"),
            (r#"{"triggers":[]}"#, "missing field `uri`"),
            (r#"{"uri":"file:///f"}"#, "no triggers"),
            (
                r#"{"uri":"u","triggers":[{"subject":"$SYS.a"}]}"#,
                "not for functions",
            ),
            (
                r#"{"uri":"u","triggers":[{"subject":"a"}],"timeout":"5"}"#,
                "invalid duration",
            ),
            (
                r#"{"uri":"u","triggers":[{"subject":"a"}],"timeout":"61s"}"#,
                "invalid timeout `1m1s`: want more than 0s and at most 1m0s",
            ),
        ] {
            assert!(refused(text).contains(part), "{text}: {}", refused(text));
        }
    }
}
