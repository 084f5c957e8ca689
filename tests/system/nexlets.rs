//! Nexlets that a node did not start: somebody else's program, and the built-in ones elsewhere.

use std::{
    fs,
    process::{Child, Command},
    time::Duration,
};

use futures_util::StreamExt as _;
use nex_testkit::{Home, NatsServer, NexUp, Output, bin, terminate, wait_until};
use serde_json::{Value, json};

use crate::{LIMIT, find, list, node::NodeUp};

/// A node calls a nexlet unusable that has missed heartbeats for 20 s.
const NOTICED: Duration = Duration::from_secs(40);

/// A node takes a nexlet for gone that was not heard of for 31 s.
const ADOPTED: Duration = Duration::from_secs(80);

/// A nexlet that a person started.
struct Remote {
    child: Child,
}

impl Remote {
    /// The example, with what it needs in its environment.
    fn example(up: &NexUp) -> Self {
        let command = up
            .home()
            .command(bin("custom-nexlet"))
            .arg("nexus")
            .env("NATS_URL", up.url())
            .env("NATS_CREDS", up.data_dir().join("cli.creds"))
            .spawn();
        Self {
            child: command.unwrap(),
        }
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How many nexlets of that type the node may use, as `nex node info` tells.
fn nexlets(up: &NexUp, workload_type: &str) -> usize {
    let nodes = up.nex(&["node", "list", "--json"]).ok().stdout;
    let nodes: Vec<Value> = serde_json::from_str(&nodes).unwrap();
    let id = nodes[0]["node_id"].as_str().unwrap().to_owned();
    let info = up.nex(&["node", "info", &id, "--json"]).ok().stdout;
    let info: Value = serde_json::from_str(&info).unwrap();
    let nexlets = info["node_agent_summaries"].as_array().unwrap();
    let usable = |nexlet: &&Value| {
        nexlet["agent_health"] == "healthy" && nexlet["agent_summary"]["type"] == workload_type
    };
    nexlets.iter().filter(usable).count()
}

fn start(up: &NexUp, name: &str, request: &Value) -> Output {
    let request = request.to_string();
    let args = ["workload", "start", "--type", "timer", "--name", name];
    up.nex(&[args.as_slice(), &["--start-request", &request]].concat())
}

#[test]
fn a_nexlet_of_ones_own_runs_workloads_that_everybody_sees() {
    let up = NexUp::start();
    let mut timers = Remote::example(&up);
    wait_until("the nexlet is registered", LIMIT, || {
        (nexlets(&up, "timer") == 1).then_some(()).ok_or("not yet")
    })
    .unwrap();

    let timer = json!({ "every_ms": 20, "text": "tick of a timer" });
    start(&up, "egg", &timer).ok();

    let egg = find(&up, "egg").unwrap();
    assert_eq!(egg["workload_type"], "timer", "{egg}");
    assert_eq!(egg["workload_state"], "running", "{egg}");
    wait_until("its line is in the log", LIMIT, || {
        let printed = up.nex(&["logs", "egg"]).stdout;
        printed
            .contains("tick of a timer")
            .then_some(())
            .ok_or(printed)
    })
    .unwrap();

    let refused = start(&up, "wrong", &json!({})).failed();
    assert!(refused.stderr.contains("every_ms"), "{refused}");

    up.nex(&["workload", "stop", "egg"]).ok();
    assert!(find(&up, "egg").is_err(), "{:?}", list(&up));

    start(&up, "killed", &timer).ok();
    timers.end();
    let killed = find(&up, "killed").unwrap();
    assert_eq!(killed["metadata"]["nex.state"], "unknown", "{killed}");
    assert!(start(&up, "late", &timer).code != 0, "nobody runs it");
    wait_until("the node has noticed", NOTICED, || {
        (nexlets(&up, "timer") == 0).then_some(()).ok_or("not yet")
    })
    .unwrap();
    let refused = start(&up, "late", &timer);
    assert_eq!(refused.code, 4, "{refused}");
    assert!(refused.stderr.contains("timer"), "{refused}");
}

#[test]
fn a_node_that_was_killed_gets_its_nexlet_back_with_all_that_runs() {
    let up = NexUp::start();
    let timers = Remote::example(&up);
    wait_until("the nexlet is registered", LIMIT, || {
        (nexlets(&up, "timer") == 1).then_some(()).ok_or("not yet")
    })
    .unwrap();
    start(&up, "egg", &json!({ "every_ms": 50, "text": "tick" })).ok();
    let egg = find(&up, "egg").unwrap();

    let home = up.kill();
    let up = NexUp::builder().home(home).start();

    let again = wait_until("the node has it again", LIMIT, || {
        let found = find(&up, "egg")?;
        let runs = found["workload_state"] == "running" && nexlets(&up, "timer") == 1;
        runs.then_some(found.clone()).ok_or(vec![found])
    })
    .unwrap();
    assert_eq!(
        (&again["id"], &again["start_time"]),
        (&egg["id"], &egg["start_time"])
    );
    let events = up.nex(&["events", "--json"]).ok().stdout;
    let id = egg["id"].as_str().unwrap();
    let of_egg = |name: &str| {
        let told = |line: &&str| line.contains(name) && line.contains(id);
        events.lines().filter(told).count()
    };
    assert_eq!(
        (of_egg("WORKLOADSTARTED"), of_egg("WORKLOADSTOPPED")),
        (1, 0),
        "{events}"
    );
    up.nex(&["workload", "stop", "egg"]).ok();
    // Before the home, which wants nothing left.
    drop(timers);
}

/// How many workloads each nexlet of the example says it has.
fn workloads_of_timers(up: &NexUp) -> Vec<u64> {
    let nodes = up.nex(&["node", "list", "--json"]).ok().stdout;
    let nodes: Vec<Value> = serde_json::from_str(&nodes).unwrap();
    let id = nodes[0]["node_id"].as_str().unwrap().to_owned();
    let info = up.nex(&["node", "info", &id, "--json"]).ok().stdout;
    let info: Value = serde_json::from_str(&info).unwrap();
    let nexlets = info["node_agent_summaries"].as_array().unwrap().iter();
    let timers = nexlets.filter(|nexlet| nexlet["agent_summary"]["type"] == "timer");
    let count = |nexlet: &Value| nexlet["agent_summary"]["workload_count"].as_u64().unwrap();
    let mut counts: Vec<u64> = timers.map(count).collect();
    counts.sort_unstable();
    counts
}

fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// It was not dead, only cut off: when it is back, one of the two goes on.
#[test]
fn a_nexlet_that_was_cut_off_for_long_does_not_run_beside_its_heir() {
    let up = NexUp::start();
    let first = Remote::example(&up);
    wait_until("the first one is registered", LIMIT, || {
        (nexlets(&up, "timer") == 1).then_some(()).ok_or("not yet")
    })
    .unwrap();
    start(&up, "egg", &json!({ "every_ms": 50, "text": "tick" })).ok();
    let egg = find(&up, "egg").unwrap();
    // There before the first one vanishes.
    let second = Remote::example(&up);
    wait_until("both are registered", LIMIT, || {
        (nexlets(&up, "timer") == 2).then_some(()).ok_or("not yet")
    })
    .unwrap();

    signal(&first.child, "-STOP");
    wait_until("the second one has it", ADOPTED, || {
        let found = find(&up, "egg")?;
        let runs = found["workload_state"] == "running" && found["id"] == egg["id"];
        runs.then_some(()).ok_or(vec![found])
    })
    .unwrap();
    signal(&first.child, "-CONT");

    wait_until("both are there, and one has it", NOTICED, || {
        let counts = workloads_of_timers(&up);
        (nexlets(&up, "timer") == 2 && counts == [0, 1])
            .then_some(())
            .ok_or(counts)
    })
    .unwrap();
    assert_eq!(find(&up, "egg").unwrap()["id"], egg["id"]);
    assert_eq!(list(&up).len(), 1);
    let events = up.nex(&["events", "--json"]).ok().stdout;
    assert_eq!(events.matches("WORKLOADSTOPPED").count(), 0, "{events}");
    up.nex(&["workload", "stop", "egg"]).ok();
    drop((first, second));
}

/// So that a node that is started anew knows that the workload is to run again.
#[tokio::test]
async fn a_nexlet_whose_node_was_killed_says_that_it_stops_before_its_workloads_end() {
    let home = Home::new();
    let server = NatsServer::builder().jetstream(true).start();
    let _node = NodeUp::start(&home, "lost", &["-s", server.url()]);
    let request = json!({ "uri": "file:///bin/sleep", "argv": ["1000"] }).to_string();
    let args = ["workload", "start", "--name", "sleep", "--start-request"];
    home.nex(&[args.as_slice(), &[&request, "-s", server.url()]].concat())
        .ok();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut said = client.subscribe("$NEX.>").await.unwrap();
    client.publish("$NEX.mark", "".into()).await.unwrap();
    said.next().await.unwrap();

    let processes = home.processes();
    let is_node = |command: &str| command.contains("node up");
    let node = processes.iter().find(|it| is_node(&it.command)).unwrap();
    let killed = Command::new("kill")
        .args(["-9", &node.pid.to_string()])
        .status();
    assert!(killed.unwrap().success());

    let mut states = Vec::new();
    loop {
        let message = tokio::time::timeout(LIMIT, said.next()).await;
        let message = message.expect("its workload ends").unwrap();
        let body: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        if body["summary"]["type"] == "native" {
            states.push(body["summary"]["state"].clone());
        }
        if message.subject.ends_with(".WORKLOADSTOPPED") {
            break;
        }
    }
    assert_eq!(states.last(), Some(&json!("stopping")), "{states:?}");
}

#[test]
fn a_built_in_nexlet_runs_elsewhere_and_ends_in_order() {
    let up = NexUp::start();
    let creds = up.data_dir().join("cli.creds");
    let stderr = up.home().path().join("remote.stderr");
    let mut command = up
        .home()
        .nex_command(&["nexlet", "run", "js", "--remote", "--nexus", "nexus", "-s"])
        .unwrap();
    let command = command
        .arg(up.url())
        .arg("--creds")
        .arg(creds)
        .stderr(fs::File::create(&stderr).unwrap());
    let mut remote = Remote {
        child: command.spawn().unwrap(),
    };
    wait_until("both nexlets are there", LIMIT, || {
        let told = fs::read_to_string(&stderr).unwrap();
        (nexlets(&up, "js") == 2).then_some(()).ok_or(told)
    })
    .unwrap();

    terminate(remote.child.id()).unwrap();

    let ended = wait_until("it ends", LIMIT, || remote.child.try_wait().unwrap()).unwrap();
    assert_eq!(ended.code(), Some(0));
    let told = fs::read_to_string(&stderr).unwrap();
    assert!(told.contains("belongs to node N"), "{told}");
}

#[test]
fn a_remote_nexlet_that_its_node_drains_says_so() {
    let home = Home::new();
    let server = NatsServer::start();
    let url = server.url();
    let stderr = home.path().join("remote.stderr");
    let allow = [
        "-s",
        url,
        "--allow-remote-agent-registration",
        "--disable-js-start",
    ];
    let mut node = NodeUp::start(&home, "drained", &allow);
    let command = [
        "nexlet", "run", "js", "--remote", "--nexus", "nexus", "-s", url,
    ];
    let mut command = home.nex_command(&command).unwrap();
    command.stderr(fs::File::create(&stderr).unwrap());
    let mut remote = Remote {
        child: command.spawn().unwrap(),
    };
    wait_until("it belongs to the node", LIMIT, || {
        let info = home.nex(&["node", "info", "drained", "-s", url]).stdout;
        info.contains(" js ").then_some(()).ok_or(info)
    })
    .unwrap();

    home.nex(&["node", "lameduck", "drained", "-s", url, "--delay", "1s"])
        .ok();

    wait_until("the node ends", LIMIT, || node.ended()).unwrap();
    // Started anew, it has no use for the nexlet that it has drained.
    let _again = NodeUp::start(&home, "drained", &allow);

    let ended = wait_until("it ends", LIMIT, || remote.child.try_wait().unwrap()).unwrap();
    assert_eq!(ended.code(), Some(0));
    let told = fs::read_to_string(&stderr).unwrap();
    assert!(told.contains("drained this nexlet"), "{told}");
}

#[test]
fn a_node_may_be_without_each_built_in_nexlet() {
    for (flag, others) in [
        ("--disable-js-start", ["native", "wasm"]),
        ("--disable-native-start", ["js", "wasm"]),
        ("--disable-wasm-start", ["js", "native"]),
    ] {
        let up = NexUp::builder().arg(flag).start();
        let node = up.nex(&["node", "list", "--json"]).ok().stdout;
        let node: Vec<Value> = serde_json::from_str(&node).unwrap();
        let info = up.nex(&[
            "node",
            "info",
            node[0]["node_id"].as_str().unwrap(),
            "--json",
        ]);
        let info: Value = serde_json::from_str(&info.ok().stdout).unwrap();
        let nexlets = info["node_agent_summaries"].as_array().unwrap().iter();
        let types = nexlets.map(|nexlet| nexlet["agent_summary"]["type"].as_str().unwrap());
        let mut types: Vec<&str> = types.collect();
        types.sort_unstable();
        assert_eq!(types, others, "{flag}");
    }
}
