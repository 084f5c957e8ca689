//! JSON Schemas of start requests and of Nexfiles: what does not fit, where, and what was probably
//! meant. Nodes, clients and the command line check with this, so they say the same about the same
//! request.
//!
//! Nothing is read for a check: a schema that refers to a file or a URL is refused.

mod complaint;
mod keywords;
mod nulls;
mod words;

use std::fmt;

use jsonschema::Validator;
use serde_json::Value;

pub use complaint::Complaint;

/// How many complaints about one document are told.
const MAX_COMPLAINTS: usize = 5;
/// Bound on the errors of the validator that are searched for them.
const MAX_ERRORS: usize = 100;

/// A compiled schema.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    /// Its text as a document: which keys there are is looked up in it.
    document: Value,
}

/// Why a schema is refused.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The text is no JSON.
    #[error("failed to unmarshal start request schema")]
    NoJson(#[source] serde_json::Error),
    /// The JSON is no schema, or it refers to another document.
    #[error("failed to compile schema")]
    NoSchema(#[source] Box<jsonschema::ValidationError<'static>>),
}

/// What is wrong with a document; at least one thing, at most five.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Complaints(Vec<Complaint>);

impl Schema {
    /// Compiles the text of a schema; without `$schema` it is one of draft 2020-12.
    ///
    /// # Errors
    /// When the text is no JSON, is no schema, or refers to another document.
    pub fn compile(text: &str) -> Result<Self, SchemaError> {
        let document: Value = serde_json::from_str(text).map_err(SchemaError::NoJson)?;
        let validator = jsonschema::options()
            .offline()
            .with_keyword(keywords::DURATION, keywords::duration)
            .with_keyword(keywords::TRIGGER, keywords::trigger)
            .build(&document)
            .map_err(|error| SchemaError::NoSchema(Box::new(error)))?;
        Ok(Self {
            validator,
            document,
        })
    }

    /// Checks a document. A member that is `null` and not required counts as absent, since Go programs
    /// encode slices and maps that they never made as `null`. The values of a map do not.
    ///
    /// # Errors
    /// Says what does not fit, for the person who wrote the document.
    pub fn check(&self, document: &Value) -> Result<(), Complaints> {
        if self.validator.is_valid(document) {
            return Ok(());
        }
        let document = &nulls::without(document, &self.validator);
        let errors = self.validator.iter_errors(document);
        let errors = complaint::plainest(errors.take(MAX_ERRORS).collect());
        let complaints = errors
            .iter()
            .flat_map(|error| complaint::of(error, &self.document));
        let mut complaints: Vec<Complaint> = complaints.take(MAX_COMPLAINTS).collect();
        complaint::forget_what_is_only_misspelt(&mut complaints);
        if complaints.is_empty() {
            Ok(())
        } else {
            Err(Complaints(complaints))
        }
    }
}

impl Complaints {
    /// One by one.
    #[must_use]
    pub fn as_slice(&self) -> &[Complaint] {
        &self.0
    }
}

impl From<Complaint> for Complaints {
    fn from(complaint: Complaint) -> Self {
        Self(vec![complaint])
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, complaint) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{complaint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SCHEMA: &str = r#"{"type":"object","required":["uri"],"properties":{"uri":{"type":"string"}},"additionalProperties":false}"#;

    #[test]
    fn a_complaint_names_the_place() {
        let schema = Schema::compile(SCHEMA).unwrap();

        assert_eq!(schema.check(&json!({"uri": "file:///x"})), Ok(()));
        let complaints = schema.check(&json!({"uri": 1})).unwrap_err();
        assert_eq!(
            complaints.to_string(),
            "at `/uri`: want a string, found a number"
        );
    }

    #[test]
    fn a_null_is_as_good_as_nothing_where_nothing_is_allowed() {
        let schema = json!({
            "required": ["uri"],
            "properties": {
                "uri": {"type": "string"},
                "argv": {"type": "array", "items": {"type": "string"}},
                "environment": {"type": "object"},
                "isolation": {"enum": ["shared", "fresh"]},
                "limits": {
                    "required": ["cpu"],
                    "properties": {"cpu": {"type": "integer"}, "memory": {"type": "integer"}},
                    "additionalProperties": false,
                },
                "triggers": {"items": {"anyOf": [
                    {"required": ["subject"], "properties": {"queue": {"type": "string"}}},
                    {"required": ["stream"]},
                ]}},
                "nothing": {"type": "null"},
            },
        });
        let schema = Schema::compile(&schema.to_string()).unwrap();
        let check = |document| schema.check(&document).map_err(|error| error.to_string());

        for good in [
            json!({"uri": "u", "argv": null, "environment": null, "isolation": null}),
            json!({"uri": "u", "limits": {"cpu": 1, "memory": null}}),
            json!({"uri": "u", "triggers": [{"subject": "a", "queue": null}]}),
            json!({"uri": "u", "nothing": null, "argv": null, "limits": null}),
        ] {
            assert_eq!(check(good.clone()), Ok(()), "{good}");
        }
        for (bad, text) in [
            (json!({"uri": null}), "at `/uri`: want a string, found null"),
            (
                json!({"uri": "u", "limits": {"cpu": null, "memory": null}}),
                "at `/limits/cpu`: want a whole number, found null",
            ),
            (
                json!({"uri": "u", "limits": {"cpu": 1, "memroy": null}}),
                "at `/limits`: unknown key `memroy`",
            ),
            (
                json!({"uri": "u", "argv": [null], "environment": null}),
                "at `/argv/0`: want a string, found null",
            ),
        ] {
            assert_eq!(check(bad.clone()), Err(text.to_owned()), "{bad}");
        }
    }

    #[test]
    fn a_null_in_a_map_of_strings_is_refused() {
        let strings =
            json!({"type": ["object", "null"], "additionalProperties": {"type": "string"}});
        let schema = json!({
            "properties": {
                "environment": strings,
                "labels": {"$ref": "#/$defs/properties"},
                "matched": {"patternProperties": {"^x": {"type": "string"}}},
                "either": {"anyOf": [{"type": "array"}, strings]},
                "any": {"type": "object", "additionalProperties": true},
                "additionalProperties": {"type": "string"},
                "mixed": {"properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}},
            },
            "$defs": {"properties": strings},
        });
        let schema = Schema::compile(&schema.to_string()).unwrap();
        let check = |document| schema.check(&document).map_err(|error| error.to_string());

        for (bad, place) in [
            (
                json!({"environment": {"DEBUG": null}}),
                "/environment/DEBUG",
            ),
            (json!({"environment": {"a/b": null}}), "/environment/a~1b"),
            (json!({"labels": {"a": null}}), "/labels/a"),
            (json!({"matched": {"xa": null}}), "/matched/xa"),
            (json!({"either": {"a": null}}), "/either/a"),
            (json!({"mixed": {"a": null, "b": null}}), "/mixed/b"),
        ] {
            let text = format!("at `{place}`: want a string, found null");
            assert_eq!(check(bad.clone()), Err(text), "{bad}");
        }
        for good in [
            json!({"environment": null, "labels": null, "additionalProperties": null}),
            json!({"any": {"a": null}, "matched": {"other": null}}),
            json!({"mixed": {"a": null}}),
        ] {
            assert_eq!(check(good.clone()), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_duration_has_bounds() {
        let schema = json!({"properties": {
            "wait": {"pattern": "^[0-9.]+[a-z]+$", "x-nex-duration": {"more_than": "0s", "at_most": "1m"}},
            "each": {"items": {"x-nex-duration": {"at_least": "1s", "at_most": "24h"}}},
            "any": {"type": ["string", "null"], "x-nex-duration": {}},
        }});
        let schema = Schema::compile(&schema.to_string()).unwrap();
        let check = |document| schema.check(&document).map_err(|error| error.to_string());

        for good in [
            json!({"wait": "60s", "each": ["1s", "1d"], "any": "9w"}),
            json!({"wait": "1ns", "each": [], "any": null}),
            json!({"wait": null, "each": [null]}),
        ] {
            assert_eq!(check(good.clone()), Ok(()), "{good}");
        }
        for (bad, text) in [
            (
                json!({"wait": "61s"}),
                "at `/wait`: want a duration of more than 0s and at most 1m0s, found `1m1s`",
            ),
            (
                json!({"wait": "0s"}),
                "at `/wait`: want a duration of more than 0s and at most 1m0s, found `0s`",
            ),
            (
                json!({"each": ["5s", "1ms"]}),
                "at `/each/1`: want a duration of at least 1s and at most 24h0m0s, found `1ms`",
            ),
            (
                json!({"any": "99999999999999h"}),
                "at `/any`: invalid duration `99999999999999h`: want a Go duration such as `90s`, `1m30s` or `500ms`, or days and weeks: `2d`, `1w`",
            ),
        ] {
            assert_eq!(check(bad.clone()), Err(text.to_owned()), "{bad}");
        }
        // One fault is told once.
        let text = check(json!({"wait": "soon"})).unwrap_err();
        assert!(!text.contains("; "), "{text}");
        let broken = Schema::compile(r#"{"x-nex-duration":{"at_most":"long"}}"#);
        assert!(matches!(broken, Err(SchemaError::NoSchema(_))));
    }

    #[test]
    fn a_trigger_is_checked_as_at_the_start() {
        let schema = json!({"x-nex-trigger": true, "items": {
            "x-nex-trigger": true,
            "properties": {"max_deliver": {"maximum": 1000}},
        }});
        let schema = Schema::compile(&schema.to_string()).unwrap();
        let check = |document| schema.check(&document).map_err(|error| error.to_string());

        assert_eq!(
            check(json!([{"subject": "a"}, {"subject": "a"}, {"stream": "S"}])),
            Ok(())
        );
        for (bad, text) in [
            (
                json!([{"subject": "a"}, {"subject": "$SYS.a"}]),
                "at `/1`: subject `$SYS.a` is not for functions",
            ),
            (
                json!([{"subject": "a b"}]),
                "at `/0`: invalid subject `a b`",
            ),
            (
                json!([{"subject": "a", "filter": "b"}]),
                "at `/0`: `filter` is for triggers with a `stream`",
            ),
            (
                json!([{"stream": "S", "max_deliver": 1001}]),
                "at `/0/max_deliver`: 1001 is greater",
            ),
            (
                json!([{"stream": "S", "ack_wait": "1ms"}]),
                "at `/0`: invalid `ack_wait` `1ms`",
            ),
            (
                json!([{"subject": "a"}, {"subject": "a", "broadcast": true}]),
                "at `/`: two triggers differ but are on the same subject `a`",
            ),
        ] {
            let found = check(bad.clone()).unwrap_err();
            assert!(found.starts_with(text), "{bad}: {found}");
            assert_eq!(found.matches("at `/").count(), 1, "{bad}: {found}");
        }
    }

    #[test]
    fn complaints_are_bounded() {
        let schema = Schema::compile(SCHEMA).unwrap();
        let many = (0..100).map(|n| (format!("key{n}"), json!("x".repeat(10_000))));
        let many = Value::Object(many.collect());

        let complaints = schema.check(&many).unwrap_err();

        assert_eq!(complaints.as_slice().len(), MAX_COMPLAINTS);
        assert!(complaints.to_string().len() < 1_000, "{complaints}");
    }

    #[test]
    fn a_schema_with_the_id_of_older_go_nexlets_compiles() {
        assert!(Schema::compile(r#"{"$id":"gen","type":"object"}"#).is_ok());
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        assert!(matches!(Schema::compile("{"), Err(SchemaError::NoJson(_))));
        assert!(matches!(
            Schema::compile(r#"{"type":"nonsense"}"#),
            Err(SchemaError::NoSchema(_))
        ));
    }

    #[test]
    fn a_schema_cannot_read_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}").unwrap();
        let text = format!(r#"{{"$ref":"file://{}"}}"#, file.path().display());

        assert!(matches!(
            Schema::compile(&text),
            Err(SchemaError::NoSchema(_))
        ));
    }
}
