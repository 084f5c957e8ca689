//! JSON Schemas of all messages, for people who write peers and for editors.

use std::path::{Path, PathBuf};

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{files, samples};
use crate::Nexfile;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

/// The schemas: of what we write, and of the Nexfile what we read, because people write it.
fn schemas() -> Vec<(&'static str, Value)> {
    let nexfile = || {
        let settings = SchemaSettings::draft2020_12().for_deserialize();
        settings.into_generator().into_root_schema_for::<Nexfile>()
    };
    let of = |message: &super::messages::Message| match message.name {
        "nexfile" => nexfile(),
        _ => (message.schema)(),
    };
    let messages = samples::all();
    let named = messages
        .iter()
        .map(|message| (message.name, of(message).into()));
    named.collect()
}

#[test]
fn the_published_schemas_are_those_of_the_code() {
    for (name, schema) in schemas() {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        files::check(&folder().join(format!("{name}.json")), &text);
    }
    let names = schemas()
        .into_iter()
        .map(|(name, _)| format!("{name}.json"));
    files::check_folder(&folder(), names);
}

#[test]
fn what_we_write_is_valid() {
    for (message, (name, schema)) in samples::all().iter().zip(schemas()) {
        let validator = jsonschema::validator_for(&schema).unwrap();
        for text in [&message.full, &message.least] {
            let value: Value = serde_json::from_str(text).unwrap();
            if let Err(error) = validator.validate(&value) {
                panic!("{name}: {error}: {text}");
            }
        }
    }
}

#[test]
fn what_go_requires_is_required() {
    for (message, (name, schema)) in samples::all().iter().zip(schemas()) {
        let validator = jsonschema::validator_for(&schema).unwrap();
        for key in &message.required {
            let mut value: Value = serde_json::from_str(&message.full).unwrap();
            value.as_object_mut().unwrap().remove(*key);
            assert!(!validator.is_valid(&value), "{name} without {key}");
        }
    }
}
