//! Members that are `null` and count as absent.

use std::collections::BTreeSet;

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

/// A member of an object: the object's JSON pointer, and the key.
type Member = (String, String);

/// The document without the `null` members that may be absent. A member stays that the schema requires, or
/// whose key it does not know: an error about it is more helpful than one about what is missing.
pub(crate) fn without(document: &Value, validator: &Validator) -> Value {
    let mut nulls = BTreeSet::new();
    find(document, "", &mut nulls);
    for unknown in validator.iter_errors(document).flat_map(unknown) {
        nulls.remove(&unknown);
    }
    loop {
        let bare = removed(document, &nulls);
        let required = validator.iter_errors(&bare).flat_map(required);
        let missed: Vec<Member> = required.filter(|it| nulls.contains(it)).collect();
        if missed.is_empty() {
            return bare;
        }
        for member in missed {
            nulls.remove(&member);
        }
    }
}

fn find(value: &Value, pointer: &str, nulls: &mut BTreeSet<Member>) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                if inner.is_null() {
                    nulls.insert((pointer.to_owned(), key.clone()));
                }
                find(inner, &format!("{pointer}/{}", escaped(key)), nulls);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                find(inner, &format!("{pointer}/{index}"), nulls);
            }
        }
        _ => {}
    }
}

/// A key as a part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn removed(document: &Value, members: &BTreeSet<Member>) -> Value {
    let mut document = document.clone();
    for (pointer, key) in members {
        let object = document.pointer_mut(pointer);
        if let Some(object) = object.and_then(Value::as_object_mut) {
            object.remove(key);
        }
    }
    document
}

fn unknown(error: ValidationError<'_>) -> Vec<Member> {
    let pointer = error.instance_path().to_string();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let keys = unexpected.iter().cloned();
            keys.map(|key| (pointer.clone(), key)).collect()
        }
        _ => Vec::new(),
    }
}

/// The members that an error misses, also within the alternatives of the schema.
fn required(error: ValidationError<'_>) -> Vec<Member> {
    fn collect(error: &ValidationError<'_>, members: &mut Vec<Member>) {
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                if let Some(key) = property.as_str() {
                    members.push((error.instance_path().to_string(), key.to_owned()));
                }
            }
            ValidationErrorKind::OneOfNotValid { context }
            | ValidationErrorKind::AnyOf { context } => {
                for error in context.iter().flatten() {
                    collect(error, members);
                }
            }
            _ => {}
        }
    }
    let mut members = Vec::new();
    collect(&error, &mut members);
    members
}
