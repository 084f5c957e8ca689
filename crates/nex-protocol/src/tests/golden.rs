//! What we write, and what we make of what Go encoders write.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{files, messages::Message, samples};

/// A golden file. `sent` is written by hand, the rest by us.
#[derive(Default, Serialize, Deserialize)]
struct Golden {
    full: Option<Box<RawValue>>,
    least: Option<Box<RawValue>>,
    go: Vec<FromGo>,
}

/// A message as a Go encoder writes it, letter by letter, and as we write it again.
#[derive(Serialize, Deserialize)]
struct FromGo {
    sent: Box<RawValue>,
    #[serde(default)]
    read: Option<Box<RawValue>>,
}

/// What no Go peer sends.
const OURS_ALONE: [&str; 4] = [
    "declined",
    "event-node-lameduck-cleared",
    "trigger",
    "trigger-stream",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn raw(text: String) -> Option<Box<RawValue>> {
    Some(RawValue::from_string(text).unwrap())
}

fn keys(text: &str) -> BTreeSet<String> {
    let Value::Object(object) = serde_json::from_str(text).unwrap() else {
        panic!("a message is an object: {text}");
    };
    object.into_iter().map(|(key, _)| key).collect()
}

/// What a message's file should hold, given what it holds from Go.
fn wanted(message: &Message, mut golden: Golden) -> String {
    for exchange in &mut golden.go {
        let sent = exchange.sent.get();
        let read = (message.read)(sent.as_bytes())
            .unwrap_or_else(|error| panic!("{} from Go: {error}: {sent}", message.name));
        exchange.read = raw(read);
    }
    golden.full = raw(message.full.clone());
    golden.least = raw(message.least.clone());
    serde_json::to_string_pretty(&golden).unwrap() + "\n"
}

#[test]
fn every_message_is_written_and_read_as_its_file_says() {
    for message in samples::all() {
        let path = folder().join(format!("{}.json", message.name));
        let golden: Golden = fs::read(&path).map_or_else(
            |_missing| Golden::default(),
            |text| serde_json::from_slice(&text).unwrap(),
        );
        assert!(
            OURS_ALONE.contains(&message.name) || !golden.go.is_empty(),
            "{}: put what a Go encoder sends under `go`",
            path.display()
        );
        files::check(&path, &wanted(&message, golden));
    }
    let names = samples::all().into_iter().map(|message| message.name);
    let names = names.map(|name| format!("{name}.json"));
    files::check_folder(&folder(), names.chain(["subjects.txt".to_owned()]));
}

#[test]
fn every_key_of_the_reference_is_written() {
    for message in samples::all() {
        let known = [&message.required, &message.optional, &message.extensions];
        let known: BTreeSet<String> = known
            .into_iter()
            .flatten()
            .map(|key| (*key).to_owned())
            .collect();
        assert_eq!(keys(&message.full), known, "{}", message.name);
    }
}

#[test]
fn what_go_requires_is_written_also_when_it_is_empty() {
    for message in samples::all() {
        let required: BTreeSet<String> = message.required.iter().map(ToString::to_string).collect();
        assert_eq!(keys(&message.least), required, "{}", message.name);
    }
}

#[test]
fn what_a_later_peer_adds_is_passed_over() {
    for message in samples::all() {
        let strict = ["nexfile", "trigger", "trigger-stream"].contains(&message.name);
        let added = message
            .full
            .replacen('{', r#"{"of_a_later_peer":[{}],"#, 1)
            .replace(",}", "}");
        assert_eq!((message.read)(added.as_bytes()).is_ok(), !strict, "{added}");
    }
}
