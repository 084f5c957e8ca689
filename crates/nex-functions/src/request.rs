//! The start request of a function: the document inside `run_request`.

use std::{collections::BTreeMap, num::NonZeroU16, time::Duration};

use nex_artifact::{URI_EXAMPLES, URI_PATTERN};
use nex_protocol::{
    DURATION_PATTERN, GoDuration,
    function::{
        InvalidTrigger, MAX_TRIGGER_WAIT, MIN_ACK_WAIT, StreamTrigger, SubjectTrigger, Trigger,
        distinct,
    },
};
use serde::Deserialize;

use crate::{
    limits::{DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT, MAX_CONCURRENCY, MAX_TIMEOUT},
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
    /// Variables that its code can read.
    pub environment: BTreeMap<String, String>,
    /// What is left of one invocation for the next.
    pub isolation: Isolation,
    /// Which host services it wants; all of them where it does not say.
    pub services: Option<Asked>,
    /// The most invocations in flight in one instance; `None` where the request does not say.
    pub concurrency: Option<NonZeroU16>,
}

/// What is left of one invocation for the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// What code keeps in memory may still be there, or not. WebAssembly keeps nothing.
    #[default]
    Shared,
    /// Nothing: each has an instance of its own.
    Fresh,
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
    /// Two of its triggers cannot be beside each other.
    #[error(transparent)]
    Triggers(#[from] InvalidTrigger),
    /// It asks for too much or no time.
    #[error("invalid timeout `{0}`: want more than 0s and at most {max}", max = GoDuration(MAX_TIMEOUT))]
    Timeout(GoDuration),
    /// Too many invocations in flight, or none.
    #[error("invalid concurrency `{0}`: want a number from 1 to {MAX_CONCURRENCY}")]
    Concurrency(i64),
}

#[derive(Deserialize)]
struct Fields {
    uri: String,
    triggers: Option<Vec<Trigger>>,
    timeout: Option<GoDuration>,
    environment: Option<BTreeMap<String, String>>,
    isolation: Option<Isolation>,
    services: Option<Asked>,
    concurrency: Option<i64>,
}

impl FunctionRequest {
    /// Reads a `run_request`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidRequest> {
        let fields: Fields = serde_json::from_str(text).map_err(InvalidRequest::Unreadable)?;
        let triggers = distinct(fields.triggers.unwrap_or_default())?;
        if triggers.is_empty() {
            return Err(InvalidRequest::NoTriggers);
        }
        let timeout = fields.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0);
        if timeout.is_zero() || timeout > MAX_TIMEOUT {
            return Err(InvalidRequest::Timeout(GoDuration(timeout)));
        }
        let concurrency = fields.concurrency.map(concurrency).transpose()?;
        Ok(Self {
            uri: fields.uri,
            triggers,
            timeout,
            environment: fields.environment.unwrap_or_default(),
            isolation: fields.isolation.unwrap_or_default(),
            services: fields.services,
            concurrency,
        })
    }

    /// The JSON Schema of a start request. `code` says what the `uri` leads to; `is_concurrent`, whether
    /// the engine takes several invocations at a time. An optional field may be `null`: Go programs encode
    /// slices and maps that they never made so.
    #[must_use]
    pub fn schema(code: &str, is_concurrent: bool) -> serde_json::Value {
        let mut schema = Self::full_schema(code);
        if !is_concurrent && let Some(properties) = schema["properties"].as_object_mut() {
            properties.remove("concurrency");
        }
        schema
    }

    fn full_schema(code: &str) -> serde_json::Value {
        serde_json::json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["uri", "triggers"],
            "properties": {
                "uri": {
                    "type": "string",
                    "pattern": URI_PATTERN,
                    "examples": URI_EXAMPLES,
                    "description": format!(
                        "{code}: file:///path, or nats://BUCKET/NAME:TAG in an object store"
                    ),
                },
                "triggers": {
                    "type": "array",
                    "minItems": 1,
                    "x-nex-trigger": true,
                    "items": {
                        "type": "object",
                        "x-nex-trigger": true,
                        "description": "a `subject`, or a `stream` and what belongs to it",
                        "properties": {
                            "subject": {
                                "type": ["string", "null"],
                                "description": "the core NATS subject to listen on; replicas share it",
                            },
                            "broadcast": {
                                "type": ["boolean", "null"],
                                "description": "with `subject`: every replica gets every message",
                            },
                            "stream": {
                                "type": ["string", "null"],
                                "description": "the stream whose messages to process; replicas share them",
                            },
                            "filter": {
                                "type": ["string", "null"],
                                "description": "with `stream`: only messages on these subjects",
                            },
                            "max_deliver": {
                                "type": ["integer", "null"],
                                "minimum": 1,
                                "maximum": 1000,
                                "description": "with `stream`: how often a message is tried before it becomes a dead letter, 5 by default",
                            },
                            "back_off": {
                                "type": ["array", "null"],
                                "minItems": 1,
                                "maxItems": 1000,
                                "items": {
                                    "type": "string",
                                    "pattern": DURATION_PATTERN,
                                    "examples": ["5s"],
                                    "x-nex-duration": { "at_most": GoDuration(MAX_TRIGGER_WAIT) },
                                },
                                "description": "with `stream`: the pauses between attempts, like [\"1s\", \"5s\", \"30s\"], which is the default",
                            },
                            "ack_wait": {
                                "type": ["string", "null"],
                                "pattern": DURATION_PATTERN,
                                "examples": ["30s"],
                                "x-nex-duration": {
                                    "at_least": GoDuration(MIN_ACK_WAIT),
                                    "at_most": GoDuration(MAX_TRIGGER_WAIT),
                                },
                                "description": "with `stream`: after this long without its nexlet a message is delivered again, and after 10s at the latest",
                            },
                        },
                        "additionalProperties": false,
                        "oneOf": [
                            { "required": ["subject"], "properties": { "subject": { "type": "string" } } },
                            { "required": ["stream"], "properties": { "stream": { "type": "string" } } },
                        ],
                    },
                },
                "environment": {
                    "type": ["object", "null"],
                    "additionalProperties": { "type": "string" },
                    "description": "variables that the code can read",
                },
                "isolation": {
                    "enum": ["shared", "fresh", null],
                    "description": "`fresh` for an instance of its own for each invocation",
                },
                "timeout": {
                    "type": ["string", "null"],
                    "pattern": DURATION_PATTERN,
                    "examples": ["5s"],
                    "x-nex-duration": { "more_than": "0s", "at_most": GoDuration(MAX_TIMEOUT) },
                    "description": format!(
                        "how long an invocation may take, as a Go duration; {} by default, {} at most",
                        GoDuration(DEFAULT_TIMEOUT),
                        GoDuration(MAX_TIMEOUT),
                    ),
                },
                "concurrency": {
                    "type": ["integer", "null"],
                    "minimum": 1,
                    "maximum": MAX_CONCURRENCY,
                    "description": format!(
                        "for JavaScript: the most calls in flight in one runtime, each of which may wait while others go on; {DEFAULT_CONCURRENCY} by default"
                    ),
                },
                "services": Asked::schema(),
            },
        })
    }

    /// The core subjects that make it run.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &SubjectTrigger> {
        self.triggers.iter().filter_map(|trigger| match trigger {
            Trigger::Subject(subject) => Some(subject),
            Trigger::Stream(_) => None,
        })
    }

    /// The streams whose messages make it run.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &StreamTrigger> {
        self.triggers.iter().filter_map(|trigger| match trigger {
            Trigger::Stream(stream) => Some(stream),
            Trigger::Subject(_) => None,
        })
    }
}

fn concurrency(asked: i64) -> Result<NonZeroU16, InvalidRequest> {
    let count = u16::try_from(asked).ok().and_then(NonZeroU16::new);
    let count = count.filter(|count| *count <= MAX_CONCURRENCY);
    count.ok_or(InvalidRequest::Concurrency(asked))
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
        assert_eq!(request.concurrency, None);
    }

    #[test]
    fn the_number_of_calls_in_flight_is_read() {
        for count in [1, 100, 1000] {
            let text =
                format!(r#"{{"uri":"u","triggers":[{{"subject":"a"}}],"concurrency":{count}}}"#);
            let request = FunctionRequest::parse(&text).unwrap();
            assert_eq!(request.concurrency.map(u16::from), Some(count));
        }
    }

    #[test]
    fn null_is_taken_for_every_optional_field() {
        for text in [
            r#"{"uri":"u","triggers":[{"subject":"a"}],"environment":null,"isolation":null,"timeout":null,"services":null,"concurrency":null}"#,
            r#"{"uri":"u","triggers":[{"subject":"a","stream":null,"broadcast":null,"filter":null,"max_deliver":null,"back_off":null,"ack_wait":null}]}"#,
            r#"{"uri":"u","triggers":[{"subject":null,"stream":"S","broadcast":null}]}"#,
            r#"{"uri":"u","triggers":[{"subject":"a"}],"services":{"kv":null,"http":null,"messaging":null,"objectStore":null}}"#,
        ] {
            assert!(FunctionRequest::parse(text).is_ok(), "{text}");
        }
        let text = r#"{"uri":"u","triggers":null}"#;
        assert!(refused(text).contains("no triggers"), "{}", refused(text));
    }

    /// The optional properties for which a schema does not take `null`.
    fn strict(schema: &serde_json::Value, found: &mut Vec<String>) {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let takes = |list: &str| {
                let list = property[list].as_array();
                list.is_some_and(|list| list.iter().any(|it| it.is_null() || it == "null"))
            };
            if !required.iter().any(|it| it == key) && !takes("type") && !takes("enum") {
                found.push(key.clone());
            }
            strict(property, found);
            strict(&property["items"], found);
        }
    }

    /// Go nodes check with it too, and take it literally.
    #[test]
    fn the_schema_takes_null_for_every_optional_field() {
        let mut found = Vec::new();
        strict(&FunctionRequest::schema("code", true), &mut found);
        assert_eq!(found, Vec::<String>::new());
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
                r#"{"uri":"u","triggers":[{"subject":"a"},{"subject":"a","broadcast":true}]}"#,
                "two triggers differ but are on the same subject `a`",
            ),
            (
                r#"{"uri":"u","triggers":[{"stream":"S","filter":"a"},{"stream":"S","filter":"a","max_deliver":1}]}"#,
                "on the same stream `S:a`",
            ),
            (
                r#"{"uri":"u","triggers":[{"subject":"a"}],"timeout":"5"}"#,
                "invalid duration",
            ),
            (
                r#"{"uri":"u","triggers":[{"subject":"a"}],"timeout":"1d"}"#,
                "invalid timeout `24h0m0s`: want more than 0s and at most 1m0s",
            ),
            (
                r#"{"uri":"u","triggers":[{"subject":"a"}],"concurrency":0}"#,
                "invalid concurrency `0`: want a number from 1 to 1000",
            ),
            (
                r#"{"uri":"u","triggers":[{"subject":"a"}],"concurrency":1001}"#,
                "invalid concurrency `1001`: want a number from 1 to 1000",
            ),
            (
                r#"{"uri":"u","triggers":[{"subject":"a"}],"concurrency":-1}"#,
                "invalid concurrency `-1`: want a number from 1 to 1000",
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
