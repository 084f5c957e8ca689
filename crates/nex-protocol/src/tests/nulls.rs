//! `null` in the place of an absent value: Go encodes nil slices, maps and pointers so.

use serde_json::Value;

use super::{messages::Message, samples};

/// The maps of the protocol; a Go program sends `null` for each that it has not made.
const MAPS: [&str; 5] = ["existing_state", "filter", "metadata", "tag", "tags"];

/// The pointers of all members of all objects in a document.
fn members(value: &Value, pointer: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                found.push((pointer.to_owned(), key.clone()));
                members(inner, &format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                members(inner, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn is_read(message: &Message, document: &Value) -> bool {
    (message.read)(document.to_string().as_bytes()).is_ok()
}

#[test]
fn null_is_taken_for_every_field_that_may_be_absent() {
    let mut refused = Vec::new();
    for message in samples::all() {
        let full: Value = serde_json::from_str(&message.full).unwrap();
        let mut found = Vec::new();
        members(&full, "", &mut found);
        for (parent, key) in found {
            // No Go map of this protocol has pointers for values.
            if MAPS.iter().any(|map| parent.ends_with(map)) {
                continue;
            }
            let mut without = full.clone();
            let object = without.pointer_mut(&parent).and_then(Value::as_object_mut);
            let value = object.unwrap().remove(&key).unwrap();
            let may_be_null =
                is_read(&message, &without) || value.is_array() || MAPS.contains(&key.as_str());
            let mut with_null = without;
            with_null.pointer_mut(&parent).unwrap()[&key] = Value::Null;
            if may_be_null && !is_read(&message, &with_null) {
                refused.push(format!("{} {parent}/{key}", message.name));
            }
        }
    }
    assert_eq!(refused, Vec::<String>::new());
}
