//! One thing that is wrong with a document, in words.

use std::fmt;

use jsonschema::{
    JsonType, ValidationError,
    error::{TypeKind, ValidationErrorKind},
};
use serde_json::Value;

use crate::words::{kind_of, nearest, type_name};

/// The longest text, in bytes; one can quote the whole document.
const MAX_TEXT_BYTES: usize = 500;

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Where, as a JSON pointer; empty for the document as a whole.
    pub pointer: String,
    /// The key at that place that nobody knows, where that is what is wrong.
    pub key: Option<String>,
    /// What is wrong.
    pub text: String,
    /// What was probably meant instead.
    pub nearest: Option<String>,
}

impl Complaint {
    /// One without a guess at what was meant.
    #[must_use]
    pub fn new(pointer: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            key: None,
            text: shorten(text.into()),
            nearest: None,
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.pointer.as_str() {
            "" => "/",
            place => place,
        };
        write!(f, "at `{place}`: {}", self.text)
    }
}

/// Leaves out errors of our own keywords where a keyword of JSON Schema tells the same fault: at the same place or
/// below it.
pub(crate) fn plainest<'a>(errors: Vec<ValidationError<'a>>) -> Vec<ValidationError<'a>> {
    let is_own =
        |error: &ValidationError<'_>| matches!(error.kind(), ValidationErrorKind::Custom { .. });
    let places: Vec<String> = errors
        .iter()
        .filter(|error| !is_own(error))
        .map(|error| error.instance_path().to_string())
        .collect();
    let is_told = |error: &ValidationError<'_>| {
        let own = error.instance_path().to_string();
        let below = |place: &String| {
            let rest = place.strip_prefix(&own);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        places.iter().any(below)
    };
    let plain = |error: &ValidationError<'_>| !is_own(error) || !is_told(error);
    errors.into_iter().filter(plain).collect()
}

/// What an error of the validator says, each thing by itself.
pub(crate) fn of(error: &ValidationError<'_>, schema: &Value) -> Vec<Complaint> {
    let pointer = error.instance_path().to_string();
    let found = kind_of(error.instance());
    let text = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known = known_keys(error, schema);
            let complaint = |key: &String| unknown_key(&pointer, key, &known);
            return unexpected.iter().map(complaint).collect();
        }
        ValidationErrorKind::Required { property } => {
            let key = property
                .as_str()
                .map_or_else(|| property.to_string(), str::to_owned);
            missing_key(&key)
        }
        ValidationErrorKind::Type { kind } => format!("want {}, found {found}", wanted(kind)),
        ValidationErrorKind::Enum { options } => {
            let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
            return vec![not_one_of(
                &pointer,
                error.instance(),
                &options.iter().collect::<Vec<_>>(),
            )];
        }
        ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } => {
            return of_none(&pointer, error, context, schema);
        }
        ValidationErrorKind::Pattern { .. } => match examples(error, schema) {
            Some(examples) => {
                let found = shorten(error.instance().to_string());
                format!("want a text such as {examples}, found {found}")
            }
            None => error.to_string(),
        },
        ValidationErrorKind::Custom { message, .. } => message.clone(),
        ValidationErrorKind::PropertyNames { error: inner } => {
            return bad_name(&pointer, inner, error, schema);
        }
        ValidationErrorKind::Not { .. } => match described(error, schema) {
            Some(why) => format!(
                "{} is not allowed: {why}",
                shorten(error.instance().to_string())
            ),
            None => error.to_string(),
        },
        ValidationErrorKind::OneOfMultipleValid { .. } => {
            format!("{found} fits more than one of the alternatives: want exactly one")
        }
        _ => error.to_string(),
    };
    vec![Complaint::new(pointer, text)]
}

/// The beginning of a complaint about a key that is not there.
const MISSING_KEY: &str = "missing key";

fn missing_key(key: &str) -> String {
    format!("{MISSING_KEY} `{key}`")
}

/// Takes out that a key is missing where another is taken for it: it is one slip, not two.
pub(crate) fn forget_what_is_only_misspelt(complaints: &mut Vec<Complaint>) {
    let slips: Vec<(String, String)> = complaints
        .iter()
        .filter(|complaint| complaint.key.is_some())
        .filter_map(|slip| Some((slip.pointer.clone(), slip.nearest.clone()?)))
        .collect();
    complaints.retain(|complaint| {
        !slips.iter().any(|(pointer, key)| {
            *pointer == complaint.pointer
                && complaint.text.starts_with(MISSING_KEY)
                && complaint.text.contains(&format!("`{key}`"))
        })
    });
}

fn wanted(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => type_name(*one).to_owned(),
        TypeKind::Multiple(several) => {
            // That `null` is allowed too helps nobody who wrote something else.
            let types = several.iter().filter(|kind| *kind != JsonType::Null);
            let names: Vec<&str> = types.map(type_name).collect();
            names.join(" or ")
        }
    }
}

fn unknown_key(pointer: &str, key: &str, known: &[&str]) -> Complaint {
    let shown = shorten(key.escape_debug().to_string());
    Complaint {
        key: Some(key.to_owned()),
        nearest: nearest(key, known),
        ..Complaint::new(pointer, format!("unknown key `{shown}`"))
    }
}

fn not_one_of(pointer: &str, found: &Value, options: &[&Value]) -> Complaint {
    let bare = |value: &&Value| {
        let text = value.as_str().map(str::to_owned);
        text.unwrap_or_else(|| value.to_string())
    };
    let options: Vec<String> = options.iter().map(bare).collect();
    let listed: Vec<String> = options.iter().map(|option| format!("`{option}`")).collect();
    let known: Vec<&str> = options.iter().map(String::as_str).collect();
    let found = match found {
        Value::Array(_) | Value::Object(_) => kind_of(found).to_owned(),
        scalar => format!("`{}`", shorten(bare(&scalar))),
    };
    let text = match listed.as_slice() {
        [one] => format!("want {one}, found {found}"),
        several => format!("want one of {}, found {found}", several.join(", ")),
    };
    Complaint {
        nearest: nearest(found.trim_matches('`'), &known),
        ..Complaint::new(pointer, text)
    }
}

/// None of several alternatives fits. Where all are constants, or each wants but another key, they are listed;
/// where but one is of the right type, what is wrong is what is wrong with that one.
fn of_none(
    pointer: &str,
    error: &ValidationError<'_>,
    context: &[Vec<ValidationError<'static>>],
    schema: &Value,
) -> Vec<Complaint> {
    let constants: Option<Vec<&Value>> = context
        .iter()
        .map(|errors| errors.iter().find_map(constant))
        .collect();
    if let Some(constants) = constants.filter(|constants| !constants.is_empty()) {
        return vec![not_one_of(pointer, error.instance(), &constants)];
    }
    let keys: Option<Vec<String>> = context
        .iter()
        .map(|errors| wanted_key(pointer, errors))
        .collect();
    if let Some(keys) = keys.filter(|keys| !keys.is_empty()) {
        let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        let text = format!("{MISSING_KEY} {}", keys.join(" or "));
        return vec![Complaint::new(pointer, text)];
    }
    let right_type = |errors: &&Vec<ValidationError<'static>>| {
        !errors.iter().any(|inner| {
            matches!(inner.kind(), ValidationErrorKind::Type { .. })
                && inner.instance_path().as_str() == pointer
        })
    };
    let mut meant = context.iter().filter(right_type);
    match (meant.next(), meant.next()) {
        (Some(only), None) => only.iter().flat_map(|error| of(error, schema)).collect(),
        _ => vec![Complaint::new(
            pointer,
            format!(
                "{} fits none of the alternatives",
                kind_of(error.instance())
            ),
        )],
    }
}

/// The key that an alternative wants, where nothing else is wrong with it: absent, or `null`.
fn wanted_key(pointer: &str, errors: &[ValidationError<'static>]) -> Option<String> {
    let [error] = errors else { return None };
    let place = error.instance_path().as_str();
    match error.kind() {
        ValidationErrorKind::Required { property } if place == pointer => {
            property.as_str().map(str::to_owned)
        }
        ValidationErrorKind::Type { .. } if error.instance().is_null() => {
            let key = place.strip_prefix(pointer)?.strip_prefix('/')?;
            (!key.contains('/')).then(|| key.replace("~1", "/").replace("~0", "~"))
        }
        _ => None,
    }
}

fn constant<'a>(error: &'a ValidationError<'static>) -> Option<&'a Value> {
    match error.kind() {
        ValidationErrorKind::Constant { expected_value } => Some(&**expected_value),
        _ => None,
    }
}

/// The examples that the schema has of a value at the place of an error, each in backticks.
fn examples(error: &ValidationError<'_>, schema: &Value) -> Option<String> {
    let path = error.schema_path().as_str();
    let (parent, _) = path.rsplit_once('/')?;
    let examples = schema.pointer(parent)?["examples"].as_array()?;
    let examples = examples.iter().filter_map(Value::as_str);
    let examples: Vec<String> = examples.map(|example| format!("`{example}`")).collect();
    (!examples.is_empty()).then(|| examples.join(" or "))
}

/// The description of a schema that a value must not fit.
fn described<'a>(error: &ValidationError<'_>, schema: &'a Value) -> Option<&'a str> {
    let not = schema.pointer(error.schema_path().as_str())?;
    not["description"].as_str()
}

/// A key that may not be one, told at its place.
fn bad_name(
    pointer: &str,
    inner: &ValidationError<'_>,
    error: &ValidationError<'_>,
    schema: &Value,
) -> Vec<Complaint> {
    let key = error_key(inner);
    let of_inner = of(inner, schema).into_iter();
    let text = of_inner.map(|complaint| complaint.text).next();
    let text = text.unwrap_or_else(|| error.to_string());
    vec![Complaint {
        key,
        ..Complaint::new(pointer, format!("the key cannot be used: {text}"))
    }]
}

fn error_key(inner: &ValidationError<'_>) -> Option<String> {
    inner.instance().as_str().map(str::to_owned)
}

/// The keys that the schema names at the place of an error about another.
fn known_keys<'a>(error: &ValidationError<'_>, schema: &'a Value) -> Vec<&'a str> {
    let path = error.schema_path().as_str();
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let properties = schema.pointer(&format!("{parent}/properties"));
    let properties = properties.and_then(Value::as_object);
    properties
        .map(|properties| properties.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Complaints, Schema};

    fn complaints(schema: serde_json::Value, document: serde_json::Value) -> Complaints {
        let schema = Schema::compile(&schema.to_string()).unwrap();
        schema.check(&document).unwrap_err()
    }

    /// A list of mappings with one of two keys.
    fn triggers() -> serde_json::Value {
        let alternative =
            |key: &str| json!({"required": [key], "properties": {key: {"type": "string"}}});
        json!({"items": {
            "properties": {"subject": {"type": ["string", "null"]}, "stream": {"type": ["string", "null"]}},
            "additionalProperties": false,
            "oneOf": [alternative("subject"), alternative("stream")],
        }})
    }

    fn one(schema: serde_json::Value, document: serde_json::Value) -> String {
        complaints(schema, document).to_string()
    }

    #[test]
    fn each_thing_is_said_in_plain_words() {
        for (schema, document, text) in [
            (
                json!({"required": ["uri"]}),
                json!({}),
                "at `/`: missing key `uri`",
            ),
            (
                json!({"type": ["string", "null"]}),
                json!([]),
                "at `/`: want a string, found a list",
            ),
            (
                json!({"properties": {"a": {"enum": ["x", "y", 1]}}}),
                json!({"a": "z"}),
                "at `/a`: want one of `x`, `y`, `1`, found `z`",
            ),
            (
                json!({"enum": ["x"]}),
                json!({}),
                "at `/`: want `x`, found a mapping",
            ),
            (
                json!({"oneOf": [{"const": "service", "type": "string"}, {"const": "job"}]}),
                json!("daemon"),
                "at `/`: want one of `service`, `job`, found `daemon`",
            ),
            (
                json!({"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "string"}}]}),
                json!(["a", 1]),
                "at `/1`: want a string, found a number",
            ),
            (
                json!({"anyOf": [{"type": "null"}, {"type": "string"}]}),
                json!(1),
                "at `/`: a number fits none of the alternatives",
            ),
            (
                json!({"properties": {"wait": {"pattern": "^[0-9]+s$", "examples": ["5s"]}}}),
                json!({"wait": "5"}),
                "at `/wait`: want a text such as `5s`, found \"5\"",
            ),
            (
                triggers(),
                json!([{}]),
                "at `/0`: missing key `subject` or `stream`",
            ),
            (
                triggers(),
                json!([{"subject": null}]),
                "at `/0`: missing key `subject` or `stream`",
            ),
            (
                triggers(),
                json!([{"subject": "a", "stream": "b"}]),
                "at `/0`: a mapping fits more than one of the alternatives: want exactly one",
            ),
            (
                triggers(),
                json!([{"subjct": "a"}]),
                "at `/0`: unknown key `subjct`",
            ),
            (
                json!({"items": {"minimum": 3}}),
                json!([5, 1]),
                "at `/1`: 1 is less than the minimum of 3",
            ),
        ] {
            assert_eq!(one(schema, document), text);
        }
    }

    #[test]
    fn a_slip_of_the_pen_has_what_was_meant() {
        let schema = json!({
            "properties": {"limits": {"$ref": "#/$defs/Limits"}},
            "$defs": {"Limits": {"properties": {"memory": {}, "cpu": {}}, "additionalProperties": false}},
        });

        let complaints = complaints(schema, json!({"limits": {"memroy": 1, "x": 2}}));

        let [slip, other] = complaints.as_slice() else {
            panic!("{complaints}");
        };
        assert_eq!(slip.to_string(), "at `/limits`: unknown key `memroy`");
        assert_eq!(slip.key.as_deref(), Some("memroy"));
        assert_eq!(slip.nearest.as_deref(), Some("memory"));
        assert_eq!(other.nearest, None);
    }

    #[test]
    fn a_key_that_is_only_misspelt_is_not_missing_too() {
        let schema = json!({
            "properties": {"uri": {}, "argv": {}},
            "required": ["argv", "uri"],
            "additionalProperties": false,
        });
        assert_eq!(
            one(schema, json!({"agrv": []})),
            "at `/`: missing key `uri`; at `/`: unknown key `agrv`"
        );
    }

    #[test]
    fn a_value_near_to_one_that_is_allowed_is_taken_for_that() {
        let complaints = complaints(json!({"enum": ["service", "job"]}), json!("servce"));
        assert_eq!(complaints.as_slice()[0].nearest.as_deref(), Some("service"));
    }
}
