//! Peers that are killed or hang while somebody waits for their answer.

use std::{process::Command, thread, time::Duration};

use futures_util::StreamExt as _;
use nex_testkit::{Home, NatsServer, NexUp, Output, wait_until};
use serde_json::json;

use crate::{node::NodeUp, start_shell};

/// Upper bound for an answer about a peer that does not answer itself, on a busy machine. Deploys are
/// awaited for a minute, stops for half of one.
const SOON: Duration = Duration::from_secs(25);

/// The exit code where somebody did not answer.
const INCOMPLETE: i32 = 5;

/// Limit for a suspended nexlet to be replaced.
const REPLACED: Duration = Duration::from_secs(60);

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(sent.unwrap().success(), "{name} {pid}");
}

fn nexlet(home: &Home) -> u32 {
    let mut all = home.processes();
    all.retain(|process| process.command.contains("nexlet run native"));
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].pid
}

/// Checks an answer of which nobody knows whether what was asked has been done.
#[track_caller]
fn unknown(output: &Output, words: &[&str]) {
    assert_eq!(output.code, INCOMPLETE, "{output}");
    assert!(output.took < SOON, "{output}");
    assert!(output.stderr.contains("not known whether"), "{output}");
    for word in words.iter().chain(&["nex workload list"]) {
        assert!(output.stderr.contains(word), "`{word}`: {output}");
    }
    assert!(!output.stderr.contains("--wait"), "{output}");
}

#[test]
fn a_start_and_a_stop_at_a_suspended_nexlet_are_answered_soon() {
    let up = NexUp::start();
    start_shell(&up, "kept", "service", "sleep 1000; true", &[]).ok();
    let native = nexlet(up.home());

    signal("-STOP", native);
    let (started, stopped) = thread::scope(|scope| {
        let start = scope.spawn(|| start_shell(&up, "new", "service", "sleep 1000; true", &[]));
        let stop = scope.spawn(|| up.nex(&["workload", "stop", "kept"]));
        (start.join().unwrap(), stop.join().unwrap())
    });

    unknown(&started, &["may run"]);
    unknown(&stopped, &["no answer from nexlet", "may still run"]);
    signal("-CONT", native);
    // The start was called off, the stop arrived.
    wait_until("neither runs", REPLACED, || {
        let listed = crate::list(&up);
        let sleepers = up.processes().into_iter();
        let sleepers = sleepers.filter(|process| process.command.contains("sleep 1000"));
        match (listed.is_empty(), sleepers.count()) {
            (true, 0) => Ok(()),
            (_, sleepers) => Err((sleepers, listed)),
        }
    })
    .unwrap();
}

#[test]
fn a_start_and_a_stop_end_soon_after_their_node_was_killed_or_suspended() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for name in ["-KILL", "-STOP"] {
        let home = Home::new();
        let server = NatsServer::builder().jetstream(false).start();
        let url = server.url();
        let node = NodeUp::start(&home, "node", &["-s", url]);
        let request = json!({ "uri": "file:///bin/sleep", "argv": ["1000"] }).to_string();
        let start = |name: &str| {
            let args = ["workload", "start", "-s", url, "--lifecycle", "service"];
            let more = ["--name", name, "--start-request", &request];
            home.nex(&[args.as_slice(), &more].concat())
        };
        start("kept").ok();
        let mut orders = runtime.block_on(async {
            let client = async_nats::connect(url).await.unwrap();
            let starts = client.subscribe("$NEX.SVC.*.agent.*.STARTWORKLOAD.>");
            let stops = client.subscribe("$NEX.SVC.*.agent.STOPWORKLOAD.>");
            let orders = (starts.await.unwrap(), stops.await.unwrap());
            client.flush().await.unwrap();
            orders
        });
        // It cannot answer, so that both wait for the node.
        let native = nexlet(&home);
        signal("-STOP", native);

        let (started, stopped) = thread::scope(|scope| {
            let start = scope.spawn(|| start("new"));
            let stop =
                scope.spawn(|| home.nex(&["workload", "stop", "-s", url, "--wait", "60s", "kept"]));
            runtime.block_on(async {
                orders.0.next().await.unwrap();
                orders.1.next().await.unwrap();
            });
            signal(name, node.pid());
            (start.join().unwrap(), stop.join().unwrap())
        });

        unknown(&started, &["stopped answering", "may run"]);
        unknown(&stopped, &["does not answer any more"]);
        if name == "-STOP" {
            signal("-CONT", node.pid());
        }
        // A node that goes on may have ended it by now.
        Command::new("kill")
            .args(["-CONT", &native.to_string()])
            .status()
            .unwrap();
    }
}
