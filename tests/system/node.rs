//! `nex node up`: the same node on a NATS that somebody else runs.

use std::{
    fs,
    path::Path,
    process::{Child, ExitStatus},
    sync::Arc,
};

use nex_testkit::{Home, NatsServer, Process, terminate, wait_until};
use serde_json::{Value, json};

use crate::{ECHO_JS, LIMIT, file, refusals::refused, script};

/// A `nex node up` in a home, ended when it is dropped.
pub(crate) struct NodeUp {
    child: Child,
}

impl NodeUp {
    #[track_caller]
    pub(crate) fn start(home: &Home, name: &str, more: &[&str]) -> Self {
        let stdout = home.path().join(format!("{name}.stdout"));
        let mut command = home
            .nex_command(&["node", "up", "--node-name", name])
            .unwrap();
        command
            .arg("--data-dir")
            .arg(home.path().join(name))
            .args(more)
            .stdout(fs::File::create(&stdout).unwrap())
            .stderr(fs::File::create(home.path().join(format!("{name}.stderr"))).unwrap());
        let mut child = command.spawn().unwrap();
        wait_until("the node is ready", LIMIT, || {
            let printed = read(&stdout);
            let ended = child.try_wait().unwrap();
            if printed.contains("ready") {
                Ok(())
            } else {
                Err((printed, ended, read(&stdout.with_extension("stderr"))))
            }
        })
        .unwrap();
        Self { child }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended by itself, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for NodeUp {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        terminate(self.child.id()).ok();
        let child = &mut self.child;
        let ended = wait_until("the node ends", LIMIT, || child.try_wait().ok().flatten());
        if ended.is_err() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn two_nodes_share_a_nexus_and_a_tag_chooses_one() {
    let home = Home::new();
    let server = NatsServer::builder().jetstream(true).start();
    let url = server.url();
    let _east = NodeUp::start(&home, "east", &["-s", url, "--tags", "region=east"]);
    let _west = NodeUp::start(&home, "west", &["-s", url, "--tags", "region=west"]);
    let request = json!({ "uri": "file:///bin/sleep", "argv": ["1000"] }).to_string();

    for number in 0..4 {
        let name = format!("sleep-{number}");
        let mut args = vec!["workload", "start", "-s", url, "--name", &name];
        args.extend(["--tags", "region=west", "--start-request", &request]);
        home.nex(&args).ok();
    }

    let nodes = home.nex(&["node", "list", "-s", url, "--json"]).ok().stdout;
    let nodes: Vec<Value> = serde_json::from_str(&nodes).unwrap();
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    let lists = home
        .nex(&["workload", "list", "-s", url, "--json"])
        .ok()
        .stdout;
    let lists: Vec<Vec<Value>> = serde_json::from_str(&lists).unwrap();
    let filled: Vec<usize> = lists
        .iter()
        .map(Vec::len)
        .filter(|count| *count > 0)
        .collect();
    assert_eq!(filled, [4], "all four are on one node");
    let nowhere = [
        "workload",
        "start",
        "-s",
        url,
        "--tags",
        "region=north",
        "--start-request",
        &request,
    ];
    let refused = home.nex(&nowhere).failed();
    assert!(refused.stderr.contains("region"), "{refused}");
    for number in 0..4 {
        let name = format!("sleep-{number}");
        home.nex(&["workload", "stop", "-s", url, &name]).ok();
    }
}

#[test]
fn a_node_keeps_its_identity() {
    let home = Home::new();
    let server = NatsServer::builder().jetstream(false).start();
    let id = || {
        let nodes = home
            .nex(&["node", "list", "-s", server.url(), "--json"])
            .ok();
        let nodes: Vec<Value> = serde_json::from_str(&nodes.stdout).unwrap();
        assert_eq!(nodes.len(), 1, "{nodes:?}");
        nodes[0]["node_id"].clone()
    };

    let first = {
        let _node = NodeUp::start(&home, "node", &["-s", server.url()]);
        id()
    };
    let second = {
        let _node = NodeUp::start(&home, "node", &["-s", server.url()]);
        id()
    };

    assert_eq!(first, second);
}

#[test]
fn a_node_that_ends_leaves_no_process() {
    let home = Home::new();
    let server = NatsServer::builder().jetstream(false).start();
    let node = NodeUp::start(&home, "node", &["-s", server.url()]);
    let request = json!({ "uri": "file:///bin/sh", "argv": ["-c", "setsid sleep 1000 & wait"] });
    let request = request.to_string();
    let start = [
        "workload",
        "start",
        "-s",
        server.url(),
        "--start-request",
        &request,
    ];
    home.nex(&start).ok();

    drop(node);

    let left: Vec<Process> = home.processes();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_node_on_nothing_says_so() {
    let home = Arc::new(Home::new());

    let output = home.nex(&["node", "up", "-s", "nats://127.0.0.1:1"]);

    assert_eq!(output.code, 3, "{output}");
    assert!(output.stderr.contains("nats://127.0.0.1:1"), "{output}");
}

#[test]
fn without_jetstream_an_upload_says_what_is_missing() {
    let home = Home::new();
    let server = NatsServer::builder().jetstream(false).start();
    let _node = NodeUp::start(&home, "node", &["-s", server.url()]);
    let job = script(&home, "job.sh", "true");

    let output = home.nex(&["devrun", job.to_str().unwrap(), "-s", server.url()]);

    refused(output, 1, &["JetStream", "hint: "]);
}

#[test]
fn functions_run_on_somebody_elses_nats_too() {
    let home = Home::new();
    let server = NatsServer::builder()
        .jetstream(true)
        .config("authorization { user: ann, password: secret }")
        .start();
    let access = [
        "-s",
        server.url(),
        "--nats.user",
        "ann",
        "--nats.password",
        "secret",
    ];
    let _node = NodeUp::start(&home, "node", &access);
    let echo = file(&home, "echo.js", ECHO_JS);

    let mut deploy = vec![
        "devrun",
        echo.to_str().unwrap(),
        "--trigger-subject",
        "echo",
    ];
    deploy.extend(access);
    home.nex(&deploy).ok();

    let mut request = vec!["req", "echo", "x"];
    request.extend(access);
    let reply = home.nex(&request).ok().stdout;
    assert!(reply.contains(r#""payload":"x""#), "{reply}");
}

#[test]
fn what_nats_does_not_let_us_do_is_said() {
    let home = Home::new();
    let server = NatsServer::builder()
        .jetstream(true)
        .config(
            r#"authorization { users: [
                {user: ann, password: "s:3"},
                {user: bob, password: x, permissions: {publish: ["ok"], subscribe: ["_INBOX.>"]}},
                {user: dan, password: x, permissions: {subscribe: ["nothing"]}},
                {user: eve, password: x, permissions: {publish: {deny: ["*.*.*.*.OBJ_NEXCLIFILES"]}}}
            ] }"#,
        )
        .start();
    let host = server.url().trim_start_matches("nats://");
    let [ann, bob, dan, eve] =
        ["ann:s%3A3", "bob:x", "dan:x", "eve:x"].map(|user| format!("nats://{user}@{host}"));
    let _node = NodeUp::start(&home, "node", &["-s", &ann]);
    let echo = file(&home, "echo.js", ECHO_JS);
    let devrun = [
        "devrun",
        echo.to_str().unwrap(),
        "--trigger-subject",
        "echo",
    ];

    let listed = home.nex(&["node", "list", "-s", &ann]).ok();
    assert!(listed.stdout.contains("node"), "{listed}");
    let not_allowed = "NATS does not let you";
    for command in [
        &["node", "list"][..],
        &["workload", "list"],
        &["workload", "stop", "x"],
        &["invoke", "x"],
        &["req", "echo", "x"],
        &["logs"],
        &["events", "--follow"],
        &["dlq", "list"],
        &devrun,
    ] {
        let output = home.nex(&[command, &["-s", &bob]].concat());
        refused(output, 1, &[not_allowed, "hint: "]);
    }
    for command in [
        &["node", "list"][..],
        &["workload", "info", "x"],
        &["req", "echo", "x"],
    ] {
        let output = home.nex(&[command, &["-s", &dan]].concat());
        refused(output, 1, &[not_allowed, "listen on `_INBOX.", "hint: "]);
    }
    let output = home.nex(&[&devrun[..], &["-s", &eve]].concat());
    refused(output, 1, &[not_allowed, "OBJ_NEXCLIFILES", "hint: "]);
}

#[test]
fn a_node_shows_what_its_own_workloads_write() {
    let home = Home::new();
    let server = NatsServer::builder().jetstream(false).start();
    let url = server.url();
    let _node = NodeUp::start(&home, "shows", &["-s", url, "--show-workload-logs"]);
    let _other = NodeUp::start(&home, "other", &["-s", url]);
    let nodes = home.nex(&["node", "list", "-s", url, "--json"]).ok().stdout;
    let nodes: Vec<Value> = serde_json::from_str(&nodes).unwrap();
    let id = |name: &str| {
        let mut named = nodes.iter().filter(|it| it["tags"]["nex.node"] == name);
        let node = named.next().unwrap_or_else(|| panic!("{nodes:?}"));
        node["node_id"].as_str().unwrap().to_owned()
    };
    let start = |node: &str, name: &str| {
        let shell = format!("while :; do echo from {name}; sleep 0.2; done");
        let request = json!({ "uri": "file:///bin/sh", "argv": ["-c", shell] }).to_string();
        let mut args = vec!["workload", "start", "-s", url, "--name", name];
        let node = id(node);
        args.extend(["--node-id", &node, "--start-request", &request]);
        home.nex(&args).ok();
    };
    start("other", "theirs");
    start("shows", "ours");

    let shown = home.path().join("shows.stdout");
    let told = wait_until("its line is shown", LIMIT, || {
        let told = read(&shown);
        let lines = told.matches("from ours").count();
        if lines > 2 { Ok(told) } else { Err(told) }
    })
    .unwrap();
    assert!(told.contains("ours stdout | from ours"), "{told}");
    assert!(!told.contains("theirs"), "{told}");
    for name in ["ours", "theirs"] {
        home.nex(&["workload", "stop", "-s", url, name]).ok();
    }
}
