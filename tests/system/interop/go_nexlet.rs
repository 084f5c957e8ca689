//! A nexlet in the manner of the Go SDK on our nodes: registration, every request, restore.

use std::{path::Path, sync::Arc, time::Duration};

use nex_testkit::{Home, NatsServer, NexUp, wait_until};
use serde_json::{Value, json};

use super::{Peer, Running, SYSTEM, text};
use crate::{LIMIT, node::NodeUp};

/// The type that it runs: entries of a map.
const GOMEM: &str = "gomem";

/// How long a node may take to give the workloads of a remote nexlet to another one: the half minute
/// in which it may come back, and what is usual after that.
const ADOPTED: Duration = Duration::from_secs(60);

/// A Go nexlet from elsewhere, once it bids.
fn remote(peer: &Peer, name: &str) -> Running {
    let before = peer.healthy(GOMEM);
    let arguments = json!({ "type": GOMEM, "nexus": "nexus" });
    let nexlet = peer.spawn(name, "RemoteNexlet", &arguments);
    peer.wait_healthy(GOMEM, before + 1);
    nexlet
}

#[test]
fn a_go_nexlet_from_elsewhere_starts_lists_clones_and_stops() {
    let Some(peer) = Peer::start() else { return };
    let nexlet = remote(&peer, "remote");

    let bid = peer.bid_of(GOMEM);
    let id = peer.start_of(GOMEM, "web", "service", &json!({}));
    let clone = peer.result(&[], "CloneWorkload", &json!({ "id": id }));

    assert!(text(&bid["xkey"]).starts_with('X'), "{bid}");
    let lifecycles = json!(["job", "service", "function"]);
    assert_eq!(bid["supported_lifecycles"], lifecycles);
    let found = peer.listed(&id).unwrap();
    assert_eq!(found["workload_state"], "running");
    assert_eq!(found["workload_type"], GOMEM);
    assert_eq!(clone["name"], "web");
    let cloned = text(&clone["id"]);
    let mut both = vec![id.clone(), cloned.clone()];
    both.sort();
    assert_eq!(peer.everything(), both);

    // The refusal of a nexlet goes on as it is, with the code that all of them have.
    let mut request = super::start_request("bad", "job", "", "5s");
    request["workload_type"] = json!(GOMEM);
    request["run_request"] = json!(r#"{"fail":"no room\nat all"}"#);
    let arguments = json!({ "bid": bid["bidder_id"], "request": request });
    let error = peer.error(&[], "StartWorkload", &arguments);
    assert_eq!(error["status"], 100, "{error}");
    assert_eq!(error["text"], "no room at all", "{error}");

    for id in [&id, &cloned] {
        let stopped = peer.result(&[], "StopWorkload", &json!({ "id": id }));
        assert_eq!(stopped["stopped"], true, "{stopped}");
        assert_eq!(stopped["workload_type"], GOMEM, "{stopped}");
        nexlet.says(|line| line["nexlet"] == "stopped" && line["id"] == **id);
    }
    assert_eq!(peer.everything(), [""; 0]);
}

#[test]
fn the_trigger_of_a_go_nexlets_function_is_heard_with_the_workloads_credentials() {
    let Some(peer) = Peer::start() else { return };
    let nexlet = remote(&peer, "remote");
    let id = peer.start_of(GOMEM, "greet", "function", &json!({}));

    let call = |data: &str| peer.result(&[], "Trigger", &json!({ "id": id, "data": data }));
    let answer = call("hello");
    let failed = call("fail");
    let stopped = peer.result(&[], "StopWorkload", &json!({ "id": id }));
    nexlet.says(|line| line["nexlet"] == "stopped");

    let headers = json!({
        "data": "greet got hello", "workload_id": id, "namespace": "default", "error": "",
    });
    assert_eq!(answer, headers);
    assert_eq!(failed["error"], "told to");
    assert_eq!(stopped["stopped"], true, "{stopped}");
    // With the workload its trigger is gone.
    wait_until("nobody hears it", LIMIT, || {
        let call = json!({ "id": id, "data": "hello" });
        let line = peer.call(&["-timeout", "2s"], "Trigger", &call);
        let gone = line["error"]["text"] == "nats: no responders available for request";
        gone.then_some(()).ok_or(line)
    })
    .unwrap();
}

#[test]
fn a_go_nexlets_workload_that_takes_three_seconds_to_die_is_stopped_by_both_clients() {
    let Some(peer) = Peer::start() else { return };
    let nexlet = remote(&peer, "remote");
    let slow = json!({ "slow": true });
    let ids = ["one", "two"].map(|name| peer.start_of(GOMEM, name, "service", &slow));

    let line = peer.call(&[], "StopWorkload", &json!({ "id": ids[0] }));
    let dying = peer.listed(&ids[0]).unwrap();
    let ours = peer.nex(&["workload", "stop", "--namespace", "default", &ids[1]]);

    assert_eq!(line["result"]["stopped"], true, "{line}");
    assert!(
        line["took_ms"].as_u64().unwrap() < super::STALL_MS,
        "{line}"
    );
    assert_eq!(dying["workload_state"], "stopping", "{dying}");
    ours.ok();
    for id in &ids {
        nexlet.says(|line| line["nexlet"] == "stopped" && line["id"] == *id.as_str());
        assert!(peer.listed(id).is_err());
    }
}

/// The node of a Go nexlet misses its pings and its heartbeats, and does not wait as long as the client would.
#[test]
fn a_stop_at_a_go_nexlet_that_was_killed_says_so_soon() {
    let Some(peer) = Peer::start() else { return };
    let mut nexlet = remote(&peer, "remote");
    let id = peer.start_of(GOMEM, "web", "service", &json!({}));
    nexlet.kill();

    let stopped = peer.nex(&["workload", "stop", "--namespace", "default", &id]);

    assert_eq!(stopped.code, 5, "{stopped}");
    assert!(stopped.took < Duration::from_secs(22), "{stopped}");
    for word in [
        "not known whether",
        "no answer from nexlet",
        "stop it again",
    ] {
        assert!(stopped.stderr.contains(word), "`{word}`: {stopped}");
    }
    assert!(!stopped.stderr.contains("--wait"), "{stopped}");
}

#[test]
fn a_go_nexlet_gets_its_workloads_back_after_a_restart_of_the_node() {
    let Some(mut peer) = Peer::start() else {
        return;
    };
    let mut nexlet = remote(&peer, "first");
    let kept = ["a", "b"].map(|name| peer.start_of(GOMEM, name, "service", &json!({})));
    let function = peer.start_of(GOMEM, "greet", "function", &json!({}));
    let gone = peer.start_of(GOMEM, "gone", "service", &json!({}));
    peer.result(&[], "StopWorkload", &json!({ "id": gone }));
    let mut wanted = vec![kept[0].clone(), kept[1].clone(), function.clone()];
    wanted.sort();

    nexlet.kill();
    peer.up.take().unwrap().stop().unwrap();
    let up = NexUp::builder().home(Arc::clone(&peer.home)).start();
    peer.url = up.url().to_owned();
    peer.up = Some(up);
    let _nexlet = remote(&peer, "second");

    // It has a new id, so the node first waits for the one that it knew.
    run(&peer, &wanted, ADOPTED);
    let call = json!({ "id": function, "data": "hello" });
    let answer = peer.result(&[], "Trigger", &call);
    assert_eq!(answer["data"], "greet got hello");
}

/// Waits until these workloads run, and no others.
#[track_caller]
fn run(peer: &Peer, wanted: &[String], limit: Duration) {
    wait_until("all run", limit, || {
        let states = wanted.iter().map(|id| match peer.listed(id) {
            Ok(found) => found["workload_state"].clone(),
            Err(all) => all,
        });
        let states: Vec<Value> = states.collect();
        let running = states.iter().all(|state| state == "running");
        running.then_some(()).ok_or(states)
    })
    .unwrap();
    assert_eq!(peer.everything(), wanted);
}

/// What makes `nex up` start a Go nexlet of its own.
fn local(program: &Path) -> Vec<String> {
    let agent = json!({
        "uri": format!("file://{}", program.display()),
        "argv": ["LocalNexlet", json!({ "type": GOMEM }).to_string()],
    });
    let agent = agent.to_string();
    ["--logger.level", "info", "--agents", &agent]
        .map(ToOwned::to_owned)
        .into()
}

/// Waits until the Go nexlet of a `nex up` has said that it was given all of these in the answer to
/// its registration, and they are what runs.
#[track_caller]
fn handed_back(peer: &Peer, wanted: &[String]) {
    wait_until("they are handed back", LIMIT, || {
        let log = peer.up.as_ref().unwrap().log();
        let mut lines = log.lines().filter(|line| line.contains("existing"));
        let given = lines.any(|line| wanted.iter().all(|id| line.contains(id)));
        given.then_some(()).ok_or(log)
    })
    .unwrap();
    peer.wait_healthy(GOMEM, 1);
    run(peer, wanted, LIMIT);
}

#[test]
fn a_go_nexlet_that_our_node_starts_gets_its_workloads_back() {
    let Some(mut peer) = Peer::start_with(local) else {
        return;
    };
    peer.wait_healthy(GOMEM, 1);
    let service = peer.start_of(GOMEM, "web", "service", &json!({}));
    let function = peer.start_of(GOMEM, "greet", "function", &json!({}));
    let gone = peer.start_of(GOMEM, "gone", "service", &json!({}));
    let stopped = peer.result(&[], "StopWorkload", &json!({ "id": gone }));
    let mut wanted = vec![service, function.clone()];
    wanted.sort();

    assert_eq!(stopped["stopped"], true, "{stopped}");
    assert_eq!(peer.everything(), wanted);

    peer.up.take().unwrap().stop().unwrap();
    let args = local(&peer.program);
    let up = NexUp::builder().home(Arc::clone(&peer.home));
    let up = args
        .into_iter()
        .fold(up, nex_testkit::NexUpBuilder::arg)
        .start();
    peer.url = up.url().to_owned();
    peer.up = Some(up);

    handed_back(&peer, &wanted);
    let call = json!({ "id": function, "data": "hello" });
    let answer = peer.result(&[], "Trigger", &call);
    assert_eq!(answer["data"], "greet got hello");
}

/// A Go nexlet registers once. The node asks it from its first list on, and reaches it with stops and
/// starts.
#[test]
fn a_go_nexlet_is_not_forgotten_by_a_node_that_is_started_again() {
    const LISTS: usize = 8;
    let server = NatsServer::builder().jetstream(true).start();
    let Some(peer) = Peer::on(server.url()) else {
        return;
    };
    let flags = ["-s", server.url(), "--allow-remote-agent-registration"];
    let node = NodeUp::start(&peer.home, "n1", &flags);
    let nexlet = remote(&peer, "remote");
    let kept = peer.start_of(GOMEM, "kept", "service", &json!({}));
    let stopped = peer.start_of(GOMEM, "stopped", "service", &json!({}));

    drop(node);
    let _node = NodeUp::start(&peer.home, "n1", &flags);

    for _ in 0..LISTS {
        let found = peer.listed(&kept).unwrap();
        assert_eq!(found["workload_state"], "running", "{found}");
    }
    peer.wait_healthy(GOMEM, 1);
    let stop = peer.result(&[], "StopWorkload", &json!({ "id": stopped }));
    assert_eq!(stop["stopped"], true, "{stop}");
    nexlet.says(|line| line["nexlet"] == "stopped" && line["id"] == *stopped);
    let mut wanted = vec![kept, peer.start_of(GOMEM, "new", "service", &json!({}))];
    wanted.sort();
    assert_eq!(peer.everything(), wanted);
}

#[test]
fn two_nodes_of_ours_and_a_go_nexlet_are_seen_once_each() {
    let server = NatsServer::builder().jetstream(true).start();
    let Some(peer) = Peer::on(server.url()) else {
        return;
    };
    let node = |home: &Home, name: &str| {
        let flags = ["-s", server.url(), "--allow-remote-agent-registration"];
        NodeUp::start(home, name, &flags)
    };
    let _east = node(&peer.home, "east");
    let _west = node(&peer.home, "west");
    let _nexlet = remote(&peer, "remote");

    let nodes = peer.result(SYSTEM, "ListNodes", &json!({}));
    let native = peer.result(&[], "Auction", &json!({ "type": "native" }));
    let mut wanted = vec![peer.start_of(GOMEM, "mem", "service", &json!({}))];
    for bid in native.as_array().unwrap() {
        let request = super::start_request("web", "service", "exec sleep 1007", "5s");
        let arguments = json!({ "bid": bid["bidder_id"], "request": request });
        let started = peer.result(&[], "StartWorkload", &arguments);
        wanted.push(text(&started["id"]));
    }
    wanted.sort();

    let count = |all: &Value| all.as_array().map(Vec::len);
    assert_eq!((count(&nodes), count(&native)), (Some(2), Some(2)));
    let ours = peer.nex(&["node", "list", "--json"]).ok().stdout;
    assert_eq!(count(&serde_json::from_str(&ours).unwrap()), Some(2));
    assert_eq!(peer.everything(), wanted);
    assert_eq!(peer.sleepers("1007").len(), 2);

    // One by each client, and one more by the Go client from the namespace of the operator.
    peer.nex(&["workload", "stop", "--namespace", "default", &wanted[0]])
        .ok();
    for (flags, id) in [(&[][..], &wanted[1]), (SYSTEM, &wanted[2])] {
        let stopped = peer.result(flags, "StopWorkload", &json!({ "id": id }));
        assert_eq!(stopped["stopped"], true, "{stopped}");
    }
    assert_eq!(peer.everything(), [""; 0]);
    assert!(peer.sleepers("1007").is_empty());
}
