//! Which of two nodes gets a workload, and what is said about that.

use nex_testkit::{Home, NatsServer, Output};
use serde_json::{Value, json};

use crate::{node::NodeUp, refusals::refused};

/// A nexus of the nodes `one` and `two`.
struct Two {
    // Before the server, so that the nodes end while there is one.
    _nodes: [NodeUp; 2],
    home: Home,
    server: NatsServer,
}

impl Two {
    fn start() -> Self {
        let home = Home::new();
        let server = NatsServer::builder().jetstream(false).start();
        let nodes = ["one", "two"].map(|name| NodeUp::start(&home, name, &["-s", server.url()]));
        Self {
            _nodes: nodes,
            home,
            server,
        }
    }

    fn nex(&self, args: &[&str]) -> Output {
        self.home.nex(&[args, &["-s", self.server.url()]].concat())
    }

    fn start_workload(&self, more: &[&str]) -> Output {
        let request = json!({ "uri": "file:///bin/sleep", "argv": ["1000"] }).to_string();
        let start = [
            "workload",
            "start",
            "--name",
            "w",
            "--start-request",
            &request,
        ];
        self.nex(&[&start, more].concat())
    }
}

#[track_caller]
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The verdict on a node in an explanation.
#[track_caller]
fn verdict<'a>(explanation: &'a Value, name: &str) -> &'a str {
    let nodes = explanation["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["name"] == name);
    let node = node.unwrap_or_else(|| panic!("no {name}: {explanation}"));
    node["verdict"].as_str().unwrap()
}

#[test]
fn a_workload_goes_where_it_is_sent_and_that_is_explained() {
    let nexus = Two::start();

    for name in ["one", "two", "two", "one"] {
        let started = nexus.start_workload(&["--node-id", name, "--explain", "--json"]);

        let started = parsed(&started.ok().stdout);
        let nodes = started["explanation"]["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 1, "{started}");
        assert_eq!(nodes[0]["name"], name);
        assert_eq!(nodes[0]["node_id"], started["node_id"]);
        assert_eq!(nodes[0]["verdict"], "chosen");
    }

    let nobody = nexus.start_workload(&["--node-id", "three"]);
    refused(nobody, 4, &["node not found: `three`"]);
    let told = nexus.start_workload(&["--explain"]).ok();
    assert!(told.stdout.starts_with("Workload w ["), "{told}");
    let table = "Where a `native` workload may run";
    assert!(told.stderr.contains(table), "{told}");
    let id = told.stdout.split(['[', ']']).nth(1).unwrap();
    let cloned = nexus.nex(&["workload", "clone", id, "--node-id", "two", "--json"]);
    let cloned = parsed(&cloned.ok().stdout);
    let nodes = parsed(&nexus.nex(&["node", "list", "--json"]).ok().stdout);
    let mut nodes = nodes.as_array().unwrap().iter();
    let two = nodes
        .find(|node| node["tags"]["nex.node"] == "two")
        .unwrap();
    assert_eq!(cloned["node_id"], two["node_id"]);
}

#[test]
fn a_lame_duck_gets_nothing_until_it_is_called_back() {
    let nexus = Two::start();
    let lameduck = |more: &[&str]| nexus.nex(&[&["node", "lameduck", "two"], more].concat());

    refused(lameduck(&["--cancel"]), 1, &["the node is no lame duck"]);
    lameduck(&["--delay", "1h"]).ok();

    refused(
        nexus.start_workload(&["--node-id", "two"]),
        4,
        &["the node is in state `lameduck`"],
    );
    let started = nexus.start_workload(&["--explain", "--json"]).ok();
    let started = parsed(&started.stdout);
    assert_eq!(verdict(&started["explanation"], "one"), "chosen");
    assert_eq!(verdict(&started["explanation"], "two"), "declined");
    // Also where nobody takes it.
    let nobody = nexus.start_workload(&["--type", "cobol", "--explain", "--json"]);
    let nobody = parsed(&nobody.failed().stderr);
    assert_eq!(verdict(&nobody["explanation"], "one"), "declined");

    let back = lameduck(&["--cancel"]).ok();
    assert!(back.stdout.contains("takes workloads again"), "{back}");
    let started = nexus.start_workload(&["--node-id", "two"]).ok();
    assert!(started.stdout.contains("successfully started"), "{started}");
}
