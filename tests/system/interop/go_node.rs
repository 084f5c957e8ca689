//! Our nexlets, and our command line, on a node in the manner of Go Nex.

use std::{
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use nex_testkit::{NatsServer, terminate, wait_until};
use serde_json::{Value, json};

use super::{Peer, Running, SYSTEM, text};
use crate::{ECHO_JS, LIMIT, node::NodeUp};

/// One of our nexlets, as a person starts it for a node elsewhere.
struct Nexlet {
    child: Child,
}

impl Nexlet {
    fn start(peer: &Peer, workload_type: &str) -> Self {
        let args = ["nexlet", "run", workload_type, "--remote", "--nexus", "go"];
        let mut command = peer.home.nex_command(&args).unwrap();
        let folder = peer.home.path().join(format!("{workload_type}-nexlet"));
        let child = command
            .args(["-s", &peer.url, "--data-dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn();
        Self {
            child: child.unwrap(),
        }
    }

    fn end(&mut self) {
        terminate(self.child.id()).ok();
        self.child.wait().ok();
    }
}

impl Drop for Nexlet {
    fn drop(&mut self) {
        self.end();
    }
}

/// The Go node. Whoever restarts it gives it the same seed.
fn go_node(peer: &Peer, name: &str, seed: &Value) -> Running {
    let state = peer.home.path().join("go-node.state");
    let arguments = json!({ "nexus": "go", "seed": seed, "state": state });
    let node = peer.spawn(name, "Node", &arguments);
    node.says(|line| line["node"].is_string());
    node
}

fn shell(seconds: &str) -> Value {
    json!({ "uri": "file:///bin/sh", "argv": ["-c", format!("exec sleep {seconds}")] })
}

#[test]
fn our_nexlets_work_for_a_go_node() {
    let server = NatsServer::builder().jetstream(true).start();
    let Some(peer) = Peer::on(server.url()) else {
        return;
    };
    let seed = peer.result(&[], "CreateServerSeed", &json!({}));
    let _node = go_node(&peer, "node", &seed);
    let _native = Nexlet::start(&peer, "native");
    let _js = Nexlet::start(&peer, "js");
    peer.wait_healthy("native", 1);
    peer.wait_healthy("js", 1);
    let nothing = peer.everything();

    let service = peer.start_of("native", "web", "service", &shell("1008"));
    let clone = peer.result(&[], "CloneWorkload", &json!({ "id": service }));
    let cloned = text(&clone["id"]);

    assert_eq!(nothing, [""; 0]);
    let listed = peer.listed(&service).unwrap();
    assert_eq!(listed["workload_state"], "running");
    assert_eq!(listed["namespace"], "default");
    let mut both = vec![service.clone(), cloned.clone()];
    both.sort();
    assert_eq!(peer.everything(), both);
    let nodes = peer.result(SYSTEM, "ListNodes", &json!({}));
    assert_eq!(nodes[0]["agent_count"], 2, "{nodes}");
    let mut request = super::start_request("bad", "job", "", "5s");
    request["run_request"] = json!(r#"{"uri":"file:///no/such/program"}"#);
    let arguments = json!({ "bid": peer.bid()["bidder_id"], "request": request });
    let error = peer.error(&[], "StartWorkload", &arguments);
    assert!(text(&error["text"]).contains("/no/such/program"), "{error}");

    for id in [service, cloned] {
        let stopped = peer.result(&[], "StopWorkload", &json!({ "id": id }));
        assert_eq!(stopped["stopped"], true, "{stopped}");
    }
    assert!(peer.sleepers("1008").is_empty());
    assert_eq!(peer.everything(), [""; 0]);
}

#[test]
fn our_command_line_works_with_a_go_node() {
    let server = NatsServer::builder().jetstream(true).start();
    let Some(peer) = Peer::on(server.url()) else {
        return;
    };
    let seed = peer.result(&[], "CreateServerSeed", &json!({}));
    let _node = go_node(&peer, "node", &seed);
    let _native = Nexlet::start(&peer, "native");
    let mut js = Nexlet::start(&peer, "js");
    peer.wait_healthy("native", 1);
    peer.wait_healthy("js", 1);

    let nodes = peer.nex(&["node", "list", "--json"]).ok().stdout;
    let nodes: Vec<Value> = serde_json::from_str(&nodes).unwrap();
    let start = shell("1009").to_string();
    let start = [
        "workload",
        "start",
        "--name",
        "web",
        "--start-request",
        &start,
    ];
    peer.nex(&start).ok();
    let found = peer.result(&[], "ListWorkloads", &json!({}));
    let id = text(&found[0]["id"]);
    let function = crate::file(&peer.home, "echo.js", ECHO_JS);
    let function = function.to_str().unwrap();
    peer.nex(&["devrun", function, "--trigger-subject", "greet"])
        .ok();
    let clone = peer.nex(&["workload", "clone", &id]).ok();

    assert_eq!((nodes.len(), &nodes[0]["version"]), (1, &json!("0.4.1")));
    assert_eq!(peer.everything().len(), 3, "{clone}");
    assert_eq!(peer.sleepers("1009").len(), 2);
    for id in peer.everything() {
        peer.nex(&["workload", "stop", "--namespace", "default", &id])
            .ok();
    }
    assert_eq!(peer.everything(), [""; 0]);

    // A Go node waits 2 s for a nexlet that is gone, and keeps it in its books for ever.
    js.end();
    assert_eq!(peer.everything(), [""; 0]);
}

#[test]
fn our_nexlet_gets_its_workloads_back_from_a_go_node() {
    let server = NatsServer::builder().jetstream(true).start();
    let Some(peer) = Peer::on(server.url()) else {
        return;
    };
    let seed = peer.result(&[], "CreateServerSeed", &json!({}));
    let mut node = go_node(&peer, "first", &seed);
    let mut native = Nexlet::start(&peer, "native");
    peer.wait_healthy("native", 1);
    let mut wanted = ["1010", "1011"]
        .map(|seconds| peer.start_of("native", seconds, "service", &shell(seconds)));
    wanted.sort();
    let gone = peer.start_of("native", "gone", "service", &shell("1012"));
    peer.result(&[], "StopWorkload", &json!({ "id": gone }));

    native.end();
    node.kill();
    let _node = go_node(&peer, "second", &seed);
    let _native = Nexlet::start(&peer, "native");
    peer.wait_healthy("native", 1);

    wait_until("all run again", LIMIT, || {
        let found = peer.everything();
        (found == wanted).then_some(()).ok_or(found)
    })
    .unwrap();
    let running = ["1010", "1011", "1012"].map(|seconds| peer.sleepers(seconds).len());
    assert_eq!(running, [1, 1, 0]);
}

#[test]
fn a_go_node_without_nexlets_does_not_hide_what_others_run() {
    let server = NatsServer::builder().jetstream(true).start();
    let Some(peer) = Peer::on(server.url()) else {
        return;
    };
    let seed = peer.result(&[], "CreateServerSeed", &json!({}));
    let _go = go_node(&peer, "node", &seed);
    let _ours = NodeUp::start(&peer.home, "ours", &["-s", server.url()]);
    let start = shell("1013").to_string();
    let start = [
        "workload",
        "start",
        "--name",
        "web",
        "--start-request",
        &start,
    ];
    peer.nex(&start).ok();

    let listed = peer.nex(&["workload", "list", "--json"]);
    let stopped = peer.nex(&["workload", "stop", "web"]);

    let lists: Vec<Vec<Value>> = serde_json::from_str(&listed.stdout).unwrap();
    let all = lists.concat();
    assert_eq!((all.len(), &all[0]["name"]), (1, &json!("web")), "{listed}");
    stopped.ok();
    assert!(peer.sleepers("1013").is_empty());
}

/// No node of ours knows it until its first heartbeat, ten seconds after its start.
#[test]
fn a_go_node_that_no_other_node_has_heard_of_is_listed() {
    let server = NatsServer::builder().jetstream(true).start();
    let Some(peer) = Peer::on(server.url()) else {
        return;
    };
    let _ours = NodeUp::start(&peer.home, "ours", &["-s", server.url()]);
    let seed = peer.result(&[], "CreateServerSeed", &json!({}));
    let state = peer.home.path().join("go-node.state");
    let arguments = json!({ "nexus": "go", "seed": seed, "state": state, "unheard": true });
    let go = peer.spawn("node", "Node", &arguments);
    go.says(|line| line["node"].is_string());
    let begun = Instant::now();

    let mut counts = Vec::new();
    while counts.len() < 30 && begun.elapsed() < Duration::from_secs(9) {
        let printed = peer.nex(&["node", "list", "--json"]).ok().stdout;
        let nodes: Vec<Value> = serde_json::from_str(&printed).unwrap();
        counts.push(nodes.len());
    }

    // Where the machine is busy a stranger can be too late.
    let missed = counts.iter().filter(|count| **count != 2).count();
    assert!(missed * 10 <= counts.len(), "{counts:?}");
}

/// A Go node beats for the first time after ten seconds. Nobody misses it until then, and nobody gives it
/// work once it drains.
#[test]
fn a_go_node_is_seen_from_its_start_and_spared_in_lame_duck() {
    let server = NatsServer::builder().jetstream(true).start();
    let Some(peer) = Peer::on(server.url()) else {
        return;
    };
    let _ours = NodeUp::start(&peer.home, "ours", &["-s", server.url()]);
    let seed = peer.result(&[], "CreateServerSeed", &json!({}));
    let node = go_node(&peer, "node", &seed);
    let go = text(&node.says(|line| line["node"].is_string())["node"]);
    let nodes = || {
        let printed = peer.nex(&["node", "list", "--json"]).ok().stdout;
        serde_json::from_str::<Vec<Value>>(&printed).unwrap().len()
    };
    let counts: Vec<usize> = (0..10).map(|_| nodes()).collect();
    assert_eq!(counts, [2; 10], "each poll sees both");

    let _native = Nexlet::start(&peer, "native");
    // One of each node.
    peer.wait_healthy("native", 2);
    let request = shell("1009").to_string();
    let start = |more: &[&str]| {
        let args = ["workload", "start", "--start-request", &request];
        peer.nex(&[args.as_slice(), more].concat())
    };
    let on_go = ["--tags", "nex.nexus=go", "--name", "first"];
    start(&on_go).ok();
    let listed = peer.nex(&["workload", "list", "--json"]).ok().stdout;
    assert!(listed.contains("first"), "{listed}");

    peer.nex(&["node", "lameduck", &go]).ok();
    for refused in [&on_go[..2], &["--node-id", &go]] {
        let output = start(refused).failed();
        assert!(output.stderr.contains("state `lameduck`"), "{output}");
    }
    for number in 0..6 {
        let name = format!("n{number}");
        start(&["--name", &name]).ok();
        let listed = peer.nex(&["workload", "info", &name, "--json"]).ok().stdout;
        assert!(!listed.contains(&go), "{listed}");
    }
    peer.nex(&["workload", "clone", "first"]).ok();
    let listed = peer.result(&[], "ListWorkloads", &json!({}));
    let on_go = peer.sleepers("1009").len();
    assert!(on_go >= 8, "all of them run: {listed}");
}
