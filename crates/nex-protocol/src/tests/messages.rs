//! Every message, its keys, and how it is read and described: what the golden files and the
//! schemas are made from.

use std::{collections::BTreeSet, fmt::Debug};

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Reads a body and writes it again.
pub(super) type Read = fn(&[u8]) -> Result<String, serde_json::Error>;

/// A message and what the reference says about it.
pub(super) struct Message {
    /// The name of its files.
    pub(super) name: &'static str,
    /// The keys that are always written: without them a Go decoder refuses it.
    pub(super) required: BTreeSet<&'static str>,
    /// The other keys of the reference, left out where they are empty.
    pub(super) optional: BTreeSet<&'static str>,
    /// The keys that only we know.
    pub(super) extensions: BTreeSet<&'static str>,
    /// What we write where every field says something.
    pub(super) full: String,
    /// What we write where every field says as little as it may.
    pub(super) least: String,
    /// Reads one and writes it again.
    pub(super) read: Read,
    /// Its schema: what we write.
    pub(super) schema: fn() -> Schema,
}

impl Message {
    /// Describes a message by one that has all its fields. The keys are separated by spaces.
    pub(super) fn new<T>(
        name: &'static str,
        required: &'static str,
        optional: &'static str,
        extensions: &'static str,
        full: &T,
    ) -> Self
    where
        T: Serialize + DeserializeOwned + JsonSchema + PartialEq + Debug,
    {
        let text = serde_json::to_string(full).unwrap();
        let back: T = serde_json::from_str(&text).unwrap();
        assert_eq!(&back, full, "{name} reads back");
        let required: BTreeSet<_> = required.split_whitespace().collect();
        Self {
            name,
            least: least::<T>(name, &text, &required),
            required,
            optional: optional.split_whitespace().collect(),
            extensions: extensions.split_whitespace().collect(),
            full: text,
            read: read::<T>,
            schema: schema::<T>,
        }
    }
}

fn read<T: Serialize + DeserializeOwned>(body: &[u8]) -> Result<String, serde_json::Error> {
    serde_json::to_string(&serde_json::from_slice::<T>(body)?)
}

/// Leaves out what may be left out, and makes `null` what may be `null`: what a Go decoder takes,
/// ours must take too.
fn least<T>(name: &str, full: &str, required: &BTreeSet<&str>) -> String
where
    T: Serialize + DeserializeOwned,
{
    let mut keys: Map<String, Value> = serde_json::from_str(full).unwrap();
    keys.retain(|key, _| required.contains(key.as_str()));
    let decode = |keys: &Map<_, _>| serde_json::from_value::<T>(Value::Object(keys.clone()));
    decode(&keys).unwrap_or_else(|error| panic!("{name} with required keys only: {error}"));
    for key in required {
        let said = keys.insert((*key).to_owned(), Value::Null).unwrap();
        if decode(&keys).is_err() {
            keys.insert((*key).to_owned(), said);
        }
    }
    serde_json::to_string(&decode(&keys).unwrap()).unwrap()
}

fn schema<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
}
