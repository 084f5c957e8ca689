//! What `--json` prints, and the lines that scripts read: those of the Go command line.

use nex_testkit::{NexUp, Output};
use serde_json::Value;

use crate::{list, start_shell};

/// What a command printed, as one JSON document on one line.
#[track_caller]
fn json(output: Output) -> Value {
    let printed = output.ok().stdout;
    assert_eq!(printed.lines().count(), 1, "{printed}");
    serde_json::from_str(&printed).expect("JSON")
}

/// Checks that an object has these keys; it may have more.
#[track_caller]
fn has_keys(object: &Value, keys: &str) {
    let object = object.as_object().expect("an object");
    for key in keys.split(' ') {
        assert!(object.contains_key(key), "no `{key}`: {object:?}");
    }
}

#[test]
fn what_is_printed_about_nodes_has_the_keys_of_go() {
    let up = NexUp::start();

    let nodes = json(up.nex(&["node", "ls", "--json"]));
    let none = json(up.nex(&["--json", "node", "list", "--filter", "no=such"]));
    let [node] = nodes.as_array().expect("an array").as_slice() else {
        panic!("{nodes}");
    };
    let id = node["node_id"].as_str().expect("a text");
    let info = json(up.nex(&["node", "info", id, "--json", "--full"]));

    has_keys(
        node,
        "agent_count node_id start_time state tags version xkey",
    );
    assert_eq!(none, Value::Array(Vec::new()));
    has_keys(
        &info,
        "node_agent_summaries node_id tags uptime version xkey",
    );
    let nexlet = &info["node_agent_summaries"][0];
    has_keys(
        nexlet,
        "agent_health agent_health_stoplight agent_id agent_last_heartbeat_time agent_summary",
    );
    has_keys(
        &nexlet["agent_summary"],
        "name start_time state supported_lifecycles type version workload_count",
    );
    let drained = json(up.nex(&["node", "down", id, "--delay", "1h", "--json"]));
    has_keys(&drained, "message success");
}

#[test]
fn what_is_printed_about_workloads_has_the_keys_of_go() {
    let up = NexUp::start();

    let started = json(start_shell(
        &up,
        "web",
        "service",
        "exec sleep 1000",
        &["--json"],
    ));
    let id = started["id"].as_str().expect("a text");
    let cloned = json(up.nex(&["workload", "copy", id, "--json"]));
    let lists = json(up.nex(&["workloads", "ls", "--json"]));
    let others = json(up.nex(&["workload", "list", "--type", "js", "--json"]));
    let stopped = json(up.nex(&["workload", "undeploy", id, "--json"]));

    for object in [&started, &cloned] {
        has_keys(object, "id name node_id");
        assert_eq!(object["name"], "web");
    }
    // An array for each node that has any.
    let lists = lists.as_array().expect("an array");
    assert_eq!(lists.len(), 1);
    for summary in lists[0].as_array().expect("an array of arrays") {
        has_keys(
            summary,
            "id name namespace runtime start_time tags workload_lifecycle workload_state workload_type",
        );
    }
    assert_eq!(lists[0].as_array().map(Vec::len), Some(2));
    assert_eq!(others, Value::Array(Vec::new()));
    has_keys(&stopped, "id message stopped workload_type");
    assert_eq!(
        (&stopped["stopped"], &stopped["id"]),
        (&true.into(), &started["id"])
    );
}

#[test]
fn the_lines_that_scripts_read_are_those_of_go() {
    let up = NexUp::start();

    let started = start_shell(&up, "web", "service", "exec sleep 1000", &[]).ok();
    let id = list(&up)[0]["id"].as_str().expect("a text").to_owned();
    let table = up.nex(&["workload", "list", "--show-metadata"]).ok().stdout;
    let tenant = up
        .nex(&["--namespace", "default", "workload", "ls"])
        .ok()
        .stdout;
    let nodes = up.nex(&["node", "list"]).ok().stdout;
    let stopped = up.nex(&["workload", "stop", &id]).ok();
    let empty = up.nex(&["workload", "list"]).ok();

    assert_eq!(
        started.stdout,
        format!("Workload web [{id}] successfully started\n")
    );
    assert_eq!(
        stopped.stdout,
        format!("Workload {id} successfully stopped\n")
    );
    assert_eq!(empty.stdout, "No workloads found\n");
    assert_eq!(
        columns(&table),
        "Id Name Namespace Start Time Execution Time Type Lifecycle State Metadata Tags"
    );
    assert!(table.contains(" Running Workloads - system "), "{table}");
    assert_eq!(
        columns(&tenant),
        "Id Name Start Time Execution Time Type Lifecycle State"
    );
    assert_eq!(
        columns(&nodes),
        "Nexus ID (* = Lameduck Mode) Name Version Uptime State Running Agents"
    );
}

/// The columns of a table, which stand in its fourth line.
fn columns(table: &str) -> String {
    let line = table.lines().nth(3).unwrap_or_default();
    let cells = line.split('│').map(str::trim);
    let cells: Vec<&str> = cells.filter(|cell| !cell.is_empty()).collect();
    cells.join(" ")
}

#[test]
fn a_command_line_that_cannot_be_used_is_answered_as_every_error() {
    let home = nex_testkit::Home::new();

    let text = home.nex(&["workload", "stop"]);
    let object = home.nex(&["workload", "stop", "--json"]);
    let refused = home.nex(&["node", "list", "--check"]);

    for output in [&text, &refused] {
        assert_eq!(output.code, 2, "{output}");
        assert_eq!(output.stdout, "", "{output}");
        assert!(output.stderr.starts_with("error: "), "{output}");
        assert!(output.stderr.contains("\nhint: "), "{output}");
    }
    let object: Value = serde_json::from_str(&object.stderr).expect("JSON");
    has_keys(&object, "error kind exit_code causes hints");
    assert_eq!(object["kind"], "usage");
}
