//! Members that are `null` and count as absent.

use std::collections::BTreeSet;

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

/// A member of an object: the object's JSON pointer, and the key.
type Member = (String, String);

/// The document without the `null` members that may be absent. A member stays that the schema requires, or
/// whose key it does not know: an error about it is more helpful than one about what is missing. A member also
/// stays where its key is free, as in a map of strings: no peer leaves such a value out, and decoders refuse
/// `null` there.
pub(crate) fn without(document: &Value, validator: &Validator) -> Value {
    let mut nulls = BTreeSet::new();
    find(document, "", &mut nulls);
    for unknown in validator.iter_errors(document).flat_map(unknown) {
        nulls.remove(&unknown);
    }
    for entry in map_entries(document, validator) {
        nulls.remove(&entry);
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

/// The `null` members that the schema refuses as values of a map with free keys, and nowhere as the value of a
/// key that it names.
fn map_entries(document: &Value, validator: &Validator) -> BTreeSet<Member> {
    let (mut named, mut free) = (BTreeSet::new(), BTreeSet::new());
    for error in validator.iter_errors(document) {
        visit(&error, &mut |error| {
            if !error.instance().is_null() {
                return;
            }
            let Some(member) = member(error.instance_path().as_str()) else {
                return;
            };
            if is_free(error.schema_path().as_str()) {
                free.insert(member);
            } else {
                named.insert(member);
            }
        });
    }
    free.retain(|entry| !named.contains(entry));
    free
}

/// The member at a JSON pointer.
fn member(pointer: &str) -> Option<Member> {
    let (object, key) = pointer.rsplit_once('/')?;
    let key = key.replace("~1", "/").replace("~0", "~");
    Some((object.to_owned(), key))
}

/// Returns `true` where the schema at a JSON pointer is for members whose keys are free.
fn is_free(schema_path: &str) -> bool {
    let mut free = false;
    let mut parts = schema_path.split('/').skip(1);
    while let Some(part) = parts.next() {
        match part {
            "additionalProperties" | "unevaluatedProperties" => free = true,
            "patternProperties" => {
                free = true;
                parts.next();
            }
            "properties" => {
                free = false;
                parts.next();
            }
            // A name follows that may look like a keyword.
            "$defs" | "definitions" | "dependentSchemas" => {
                parts.next();
            }
            _ => {}
        }
    }
    free
}

/// The members that an error misses, also within the alternatives of the schema.
fn required(error: ValidationError<'_>) -> Vec<Member> {
    let mut members = Vec::new();
    visit(&error, &mut |error| {
        if let ValidationErrorKind::Required { property } = error.kind()
            && let Some(key) = property.as_str()
        {
            members.push((error.instance_path().to_string(), key.to_owned()));
        }
    });
    members
}

/// Visits an error and those within the alternatives of the schema.
fn visit(error: &ValidationError<'_>, visitor: &mut impl FnMut(&ValidationError<'_>)) {
    visitor(error);
    if let ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } =
        error.kind()
    {
        for error in context.iter().flatten() {
            visit(error, visitor);
        }
    }
}
