//! The schema of a nexlet's start requests, compiled once.

use jsonschema::Validator;
use serde_json::Value;

/// How many complaints about one start request are told.
const MAX_COMPLAINTS: usize = 5;

/// The longest complaint, in bytes; one can quote the whole start request.
const MAX_COMPLAINT_BYTES: usize = 500;

/// Checks start requests of one nexlet.
#[derive(Debug)]
pub(crate) struct Schema {
    validator: Validator,
}

/// Why a schema is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    /// The text is no JSON.
    #[error("failed to unmarshal start request schema")]
    NoJson(#[source] serde_json::Error),
    /// The JSON is no schema, or it refers to another document.
    #[error("failed to compile schema")]
    NoSchema(#[source] Box<jsonschema::ValidationError<'static>>),
}

impl Schema {
    /// Compiles the text of a schema; without `$schema` it is one of draft 2020-12.
    ///
    /// Nothing is read for it: a schema that refers to a file or a URL is refused.
    pub(crate) fn compile(text: &str) -> Result<Self, SchemaError> {
        let schema: Value = serde_json::from_str(text).map_err(SchemaError::NoJson)?;
        let validator = jsonschema::options()
            .offline()
            .build(&schema)
            .map_err(|error| SchemaError::NoSchema(Box::new(error)))?;
        Ok(Self { validator })
    }

    /// Checks a start request; the error is text for the person who made it.
    pub(crate) fn check(&self, request: &Value) -> Result<(), String> {
        let complaints: Vec<String> = self
            .validator
            .iter_errors(request)
            .take(MAX_COMPLAINTS)
            .map(|error| {
                let place = error.instance_path().to_string();
                let place = if place.is_empty() { "/" } else { &place };
                shorten(format!("at `{place}`: {error}"))
            })
            .collect();
        if complaints.is_empty() {
            Ok(())
        } else {
            Err(complaints.join("; "))
        }
    }
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_COMPLAINT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_COMPLAINT_BYTES));
        text.push('…');
    }
    text
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
        let complaint = schema.check(&json!({"uri": 1})).unwrap_err();
        assert!(complaint.starts_with("at `/uri`: "), "{complaint}");
    }

    #[test]
    fn complaints_are_bounded() {
        let schema = Schema::compile(SCHEMA).unwrap();

        let complaint = schema.check(&json!("x".repeat(100_000))).unwrap_err();

        assert!(
            complaint.len() < 2 * MAX_COMPLAINT_BYTES,
            "{}",
            complaint.len()
        );
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
