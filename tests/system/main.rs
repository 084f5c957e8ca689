//! The real binary, driven as a user would: each test has a `nex up` of its own, in a home of its
//! own, and whatever process of it is left at the end of the test fails the test.

#![expect(
    clippy::unwrap_used,
    reason = "all of it is tests, also the helpers that clippy takes for more"
)]

mod absence;
mod addresses;
mod agents;
mod chaos;
mod clone;
mod config;
mod dead_letters;
mod devrun;
mod disk;
mod hostile;
mod interop;
mod invoke;
mod jobs;
mod links;
mod lost;
mod names;
mod native;
mod nexfile;
mod nexlets;
mod node;
mod objects;
mod outage;
mod placement;
mod refusals;
mod remembered;
mod remote;
mod replicas;
mod restart;
mod server;
mod services;
mod shapes;
mod startup;
mod streams;
mod survival;
mod up;
mod wasm;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nex_testkit::{Home, NexUp, Output};
use serde_json::Value;

/// How long an outcome may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A function that answers with the subject and the payload as text.
const ECHO_JS: &str = r#"
(subject, payload) => {
  console.log("called on", subject);
  return { triggered_on: subject, payload: String.fromCharCode(...payload) };
};
"#;

/// Writes a file into the home and returns its path.
fn file(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.path().join(name);
    fs::write(&path, text).expect("a home takes files");
    path
}

/// Writes a shell script into the home and returns its path.
fn script(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = file(home, name, &format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("own file");
    path
}

/// Starts a shell command as a native workload and returns what the command line answered.
fn start_shell(up: &NexUp, name: &str, lifecycle: &str, shell: &str, more: &[&str]) -> Output {
    let request = serde_json::json!({ "uri": "file:///bin/sh", "argv": ["-c", shell] }).to_string();
    let mut args = vec![
        "workload",
        "start",
        "--name",
        name,
        "--lifecycle",
        lifecycle,
        "--start-request",
        &request,
    ];
    args.extend(more);
    up.nex(&args)
}

/// Deploys a file by `nex devrun` and checks that it succeeded.
#[track_caller]
fn devrun(up: &NexUp, path: &Path, more: &[&str]) -> Output {
    let path = path.to_str().expect("paths of tests are text");
    let mut args = vec!["devrun", path];
    args.extend(more);
    up.nex(&args).ok()
}

/// Starts a JavaScript function with one trigger and returns the answer of the command line.
fn start_function(up: &NexUp, name: &str, script: &Path, trigger: &Value) -> Output {
    let uri = format!(
        "file://{}",
        script.to_str().expect("paths of tests are text")
    );
    let request = serde_json::json!({ "uri": uri, "triggers": [trigger] }).to_string();
    up.nex(&[
        "workload",
        "start",
        "--type",
        "js",
        "--lifecycle",
        "function",
        "--name",
        name,
        "--start-request",
        &request,
    ])
}

/// All workloads as `nex workload list --json` shows them, the nodes' lists joined.
#[track_caller]
fn list(up: &NexUp) -> Vec<Value> {
    let printed = up.nex(&["workload", "list", "--json"]).ok().stdout;
    let nodes: Vec<Vec<Value>> = serde_json::from_str(&printed).expect("an array of arrays");
    nodes.into_iter().flatten().collect()
}

/// The workload of that name; `Err` with the whole list where it is not there.
fn find(up: &NexUp, name: &str) -> Result<Value, Vec<Value>> {
    let all = list(up);
    all.iter()
        .find(|workload| workload["name"] == name)
        .cloned()
        .ok_or(all)
}
