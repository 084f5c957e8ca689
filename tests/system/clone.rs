//! Workloads that move: clones, and a node that is to end.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use async_nats::RequestErrorKind;
use nex_testkit::{Home, NatsServer, NexUp, bin, wait_until};
use serde_json::{Value, json};

use crate::{ECHO_JS, LIMIT, devrun, file, list, node::NodeUp, refusals::refused, start_shell};

/// Long enough for a busy machine to ask and be refused before the node ends.
const DELAY: Duration = Duration::from_secs(6);

/// The ids of all workloads of that name.
#[track_caller]
fn ids(up: &NexUp, name: &str) -> Vec<String> {
    let named = list(up).into_iter().filter(|each| each["name"] == name);
    named
        .map(|each| each["id"].as_str().expect("an id is text").to_owned())
        .collect()
}

#[test]
fn a_clone_of_a_function_answers_beside_it() {
    let up = NexUp::start();
    let echo = file(up.home(), "who.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "who"]);

    let cloned = up.nex(&["workload", "clone", "who", "--json"]).ok();

    let cloned: Value = serde_json::from_str(&cloned.stdout).unwrap();
    let both = ids(&up, "who");
    assert_eq!(both.len(), 2, "{both:?}");
    assert_eq!(cloned["name"], "who");
    assert!(both.iter().any(|id| cloned["id"] == *id), "{cloned}");
    // One of a queue group gets each call, and its reply says which: both, sooner or later.
    let mut called = BTreeSet::new();
    wait_until("both answer", LIMIT, || {
        let headers = up.nex(&["req", "who", "x", "--headers"]).ok().stderr;
        let who: Vec<&String> = both.iter().filter(|id| headers.contains(*id)).collect();
        assert_eq!(who.len(), 1, "{headers}");
        called.insert(who[0]);
        (called.len() == 2).then_some(()).ok_or(called.clone())
    })
    .unwrap();
    up.nex(&["workload", "stop", &both[0]]).ok();
    up.nex(&["req", "who", "x"]).ok();
    assert_eq!(ids(&up, "who"), both[1..]);
}

#[test]
fn a_clone_takes_the_place_of_a_service() {
    let up = NexUp::start();
    start_shell(&up, "web", "service", "sleep 1000", &[]).ok();
    let before = ids(&up, "web");

    let cloned = up.nex(&["workload", "cp", "web", "--stop"]).ok();

    let after = ids(&up, "web");
    assert_eq!((before.len(), after.len()), (1, 1), "{after:?}");
    assert_ne!(before, after);
    let lines: Vec<&str> = cloned.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            format!("Workload web [{}] successfully started", after[0]),
            format!("Original workload [{}] stopped", before[0]),
        ]
    );
}

#[tokio::test]
async fn a_function_answers_at_every_moment_while_a_clone_takes_its_place() {
    let up = NexUp::start();
    let echo = file(up.home(), "who.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "who"]);
    let before = ids(&up, "who");
    let client = async_nats::connect(up.url()).await.unwrap();

    let args = ["workload", "clone", "who", "--stop"];
    let mut command = up.home().nex_command(&args).unwrap();
    let clone = tokio::task::spawn_blocking(move || command.output());
    let mut answered = BTreeSet::new();
    while !clone.is_finished() {
        let reply = client.request("who", "x".into()).await;
        let reply = reply.expect("somebody answers at every moment");
        let headers = reply.headers.expect("a reply says whose it is");
        answered.insert(headers.get("workload_id").unwrap().to_string());
    }
    let cloned = clone.await.unwrap().unwrap();

    assert!(cloned.status.success(), "{cloned:?}");
    let after = ids(&up, "who");
    assert_eq!(after.len(), 1, "{after:?}");
    assert!(answered.contains(&before[0]), "{answered:?}");
    let last = client.request("who", "x".into()).await.unwrap();
    let headers = last.headers.unwrap();
    assert_eq!(headers.get("workload_id").unwrap().as_str(), after[0]);
    assert_ne!(after, before);
}

#[test]
fn a_clone_that_cannot_live_leaves_the_original() {
    let up = NexUp::start();
    // Only the first one finds no folder.
    let lock = up.home().path().join("lock");
    let shell = format!("mkdir {} && exec sleep 1000", lock.display());
    start_shell(&up, "single", "service", &shell, &[]).ok();
    wait_until("the first one has the lock", LIMIT, || {
        lock.exists().then_some(()).ok_or(())
    })
    .unwrap();
    let before = ids(&up, "single");

    let output = up.nex(&["workload", "clone", "single", "--stop"]);

    refused(output, 1, &["did not stay up", "was not touched"]);
    assert_eq!(ids(&up, "single"), before);
}

/// A script that is the echo service when it runs first, and what `later` says when it runs again.
fn echo_once(up: &NexUp, later: &str) -> String {
    let (echo, ran) = (bin("echo-service"), up.home().path().join("ran"));
    let (echo, ran) = (echo.display(), ran.display());
    format!("mkdir {ran} && exec {echo}\n{later}").replace("ECHO", &echo.to_string())
}

fn answers(up: &NexUp) -> Result<(), String> {
    let output = up.nex(&["req", "svc.echo", "x"]);
    (output.code == 0).then_some(()).ok_or(output.stderr)
}

#[tokio::test]
async fn a_service_answers_at_every_moment_while_a_slow_clone_takes_its_place() {
    let up = NexUp::start();
    let script = echo_once(&up, "sleep 6; exec ECHO");
    start_shell(&up, "slow", "service", &script, &[]).ok();
    wait_until("it answers", LIMIT, || answers(&up)).unwrap();
    let before = ids(&up, "slow");
    let client = async_nats::connect(up.url()).await.unwrap();

    let args = ["workload", "clone", "slow", "--stop"];
    let mut command = up.home().nex_command(&args).unwrap();
    let clone = tokio::task::spawn_blocking(move || command.output());
    let mut lost = 0;
    while !clone.is_finished() {
        match client.request("svc.echo", "x".into()).await {
            Ok(_reply) => {}
            Err(error) if error.kind() == RequestErrorKind::TimedOut => lost += 1,
            Err(error) => panic!("nobody is there at some moment: {error}"),
        }
    }
    // The service is an ordinary one: what it has not read when it is told to stop, it drops.
    assert!(lost <= 1, "{lost} requests were delivered and not answered");
    let cloned = clone.await.unwrap().unwrap();

    assert!(cloned.status.success(), "{cloned:?}");
    let told = String::from_utf8_lossy(&cloned.stderr).into_owned();
    assert!(told.contains("a new instance of `echo`"), "{told}");
    let after = ids(&up, "slow");
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!(after, before);
    answers(&up).unwrap();
}

#[test]
fn a_clone_that_is_never_ready_leaves_the_original() {
    let up = NexUp::start();
    let script = echo_once(&up, "exec sleep 1000");
    start_shell(&up, "never", "service", &script, &[]).ok();
    wait_until("it answers", LIMIT, || answers(&up)).unwrap();
    let before = ids(&up, "never");

    let output = up.nex(&["workload", "clone", "never", "--stop"]);

    assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output}");
    for said in ["was not ready", "was not touched", "`echo`", "hint: "] {
        assert!(output.stderr.contains(said), "{output}");
    }
    assert_eq!(ids(&up, "never"), before);
    answers(&up).unwrap();
}

#[test]
fn what_cannot_be_cloned_says_why() {
    let up = NexUp::start();
    start_shell(&up, "web", "service", "sleep 1000", &[]).ok();

    let unknown = up.nex(&["workload", "clone", "nothing"]);
    let nowhere = up.nex(&[
        "workload",
        "clone",
        "web",
        "--tags",
        "region=moon",
        "--stop",
    ]);

    refused(unknown, 4, &["workload not found: `nothing`"]);
    refused(nowhere, 4, &["region"]);
    assert_eq!(ids(&up, "web").len(), 1);
}

#[test]
fn a_node_in_lameduck_takes_nothing_and_ends_when_the_delay_is_over() {
    let home = Home::new();
    let server = NatsServer::builder().jetstream(false).start();
    let url = server.url();
    let mut node = NodeUp::start(&home, "old", &["-s", url]);
    let request = json!({ "uri": "file:///bin/sleep", "argv": ["1000"] }).to_string();
    let start = |name: &str| {
        let mut args = vec!["workload", "start", "-s", url, "--name", name];
        args.extend(["--start-request", &request]);
        home.nex(&args)
    };
    start("first").ok();
    let lameduck = |more: &[&str]| {
        let mut args = vec!["node", "lameduck", "-s", url, "old"];
        args.extend(more);
        home.nex(&args)
    };
    let delay = format!("{}s", DELAY.as_secs());

    refused(
        lameduck(&["--tag", "region=moon"]),
        1,
        &["Node failed to enter lame duck mode", "region=moon"],
    );
    let ordered = Instant::now();
    let told = lameduck(&["--delay", &delay]).ok();

    let wanted = "Node successfully commanded into lame duck mode";
    assert!(told.stdout.starts_with(wanted), "{told}");
    refused(start("second"), 4, &["no node runs `native`"]);
    let listed = home.nex(&["workload", "list", "-s", url, "--json"]).ok();
    let listed: Vec<Vec<Value>> = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed[0][0]["name"], "first");
    assert_eq!(listed[0][0]["workload_state"], "running");
    assert!(ordered.elapsed() < DELAY, "{:?}", ordered.elapsed());

    let ended = wait_until("the node ends", DELAY + LIMIT, || node.ended());

    assert!(ordered.elapsed() >= DELAY, "{:?}", ordered.elapsed());
    assert_eq!(ended.unwrap().code(), Some(0));
    let left = home.processes();
    assert!(left.is_empty(), "{left:?}");
    refused(lameduck(&[]), 4, &[]);
}

#[test]
fn a_lame_duck_that_is_killed_comes_back_as_one() {
    let up = NexUp::start();
    start_shell(&up, "kept", "service", "sleep 1000", &[]).ok();
    let before = ids(&up, "kept");
    let node = up.nex(&["node", "list", "--json"]).ok().stdout;
    let node: Vec<Value> = serde_json::from_str(&node).unwrap();
    let node = node[0]["node_id"].as_str().unwrap();
    up.nex(&["node", "lameduck", node, "--delay", "1h"]).ok();

    let up = NexUp::builder().home(up.kill()).start();

    let late = start_shell(&up, "late", "service", "sleep 1000", &[]);
    refused(late, 4, &["no node runs `native`"]);
    wait_until("what it ran runs on", LIMIT, || {
        let found = crate::find(&up, "kept")?;
        let runs = found["workload_state"] == "running";
        runs.then_some(()).ok_or(vec![found])
    })
    .unwrap();
    assert_eq!(ids(&up, "kept"), before);

    up.nex(&["node", "lameduck", node, "--cancel"]).ok();
    let up = NexUp::builder().home(up.kill()).start();

    start_shell(&up, "late", "service", "sleep 1000", &[]).ok();
}
