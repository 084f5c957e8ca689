//! `kill -9` of any part: nothing outlives its owner, nothing accepted by JetStream is lost.

use std::{
    fs,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use nex_testkit::{NexUp, Process, wait_until};
use serde_json::Value;

use crate::{ECHO_JS, LIMIT, devrun, file, find, list, start_shell};

/// How long a workload's process may outlive its owner.
const OUTLIVES: Duration = Duration::from_secs(5);

/// A service with one child in its session and one in another.
const FAMILY: &str = "setsid sleep 1000 & sleep 1000 & wait";

fn kill(pid: u32) {
    signal("-9", pid);
}

fn signal(signal: &str, pid: u32) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.expect("`kill` is everywhere").success());
}

fn with(up: &NexUp, words: &[&str]) -> Vec<Process> {
    let mut found = up.processes();
    found.retain(|process| {
        let shown = format!("{process:?}");
        words.iter().all(|word| shown.contains(word))
    });
    found
}

/// Starts a family and waits until all of it runs.
fn start_family(up: &NexUp) {
    start_shell(up, "family", "service", FAMILY, &[]).ok();
    wait_until("the family runs", LIMIT, || {
        let found = with(up, &["sleep"]);
        (found.len() >= 2).then_some(()).ok_or(found)
    })
    .expect("its processes are seen");
}

/// The pids of a family's processes, so that those of a restarted one are told apart.
fn family(up: &NexUp) -> Vec<u32> {
    with(up, &["sleep"])
        .iter()
        .map(|process| process.pid)
        .collect()
}

fn gone(up: &NexUp, pids: &[u32]) -> Result<(), Vec<u32>> {
    let left: Vec<u32> = up
        .processes()
        .iter()
        .map(|process| process.pid)
        .filter(|pid| pids.contains(pid))
        .collect();
    if left.is_empty() { Ok(()) } else { Err(left) }
}

#[test]
fn a_killed_nexlet_takes_its_workloads_along_and_comes_back() {
    let up = NexUp::start();
    start_family(&up);
    let old = family(&up);
    let nexlet = with(&up, &["nexlet", "native"]);
    assert_eq!(nexlet.len(), 1, "{nexlet:?}");

    kill(nexlet[0].pid);

    wait_until("the family is gone", OUTLIVES, || gone(&up, &old)).unwrap();
    wait_until("the nexlet takes work again", LIMIT, || {
        let started = start_shell(&up, "again", "job", "true", &["--wait"]);
        (started.code == 0).then_some(()).ok_or(started.stderr)
    })
    .unwrap();
}

#[test]
fn a_suspended_nexlet_does_not_keep_workloads_of_a_killed_up() {
    let up = NexUp::start();
    start_family(&up);
    let old = family(&up);
    let nexlet = with(&up, &["nexlet", "native"]);
    signal("-STOP", nexlet[0].pid);

    let home = up.kill();

    wait_until("the family is gone", OUTLIVES, || {
        let mut left = home.processes();
        left.retain(|process| old.contains(&process.pid));
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .unwrap();
}

#[test]
fn a_killed_supervisor_takes_its_workload_along() {
    let up = NexUp::start();
    start_family(&up);
    let old = family(&up);
    let pid = find(&up, "family").unwrap()["metadata"]["pid"].clone();
    let main: u32 = pid
        .as_str()
        .and_then(|pid| pid.parse().ok())
        .expect("a pid");
    let status = fs::read_to_string(format!("/proc/{main}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let supervisor: u32 = parent.unwrap().trim().parse().unwrap();

    kill(supervisor);

    wait_until("the family is gone", OUTLIVES, || gone(&up, &old)).unwrap();
    wait_until("the service is started again", LIMIT, || {
        let found = find(&up, "family").expect("it stays listed");
        let state = found["workload_state"].clone();
        (state == "running" && found["metadata"]["pid"] != pid)
            .then_some(())
            .ok_or(found)
    })
    .unwrap();
    up.nex(&["workload", "stop", "family"]).ok();
}

#[test]
fn a_killed_up_leaves_nothing_and_starts_again_as_the_same_node() {
    let up = NexUp::start();
    start_family(&up);
    let echo = file(up.home(), "echo.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "echo"]);
    let (url, id) = (up.url().to_owned(), node_id(&up));
    let supervised: Vec<u32> = up.processes().iter().map(|process| process.pid).collect();

    let home = up.kill();

    wait_until("nothing is left", OUTLIVES, || {
        let mut left = home.processes();
        left.retain(|process| supervised.contains(&process.pid));
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .unwrap();
    let up = NexUp::builder().home(Arc::clone(&home)).start();
    assert_eq!(up.url(), url);
    assert_eq!(node_id(&up), id);
    let events = up.nex(&["events"]).ok().stdout;
    assert!(events.matches("NODESTARTED").count() >= 2, "{events}");
}

#[tokio::test]
async fn credentials_of_a_nexlet_that_registers_again_are_not_overheard() {
    let up = NexUp::start();
    let client = async_nats::connect(up.url()).await.unwrap();
    let mut overheard = client.subscribe(">").await.unwrap();
    client.publish("mark.before", "".into()).await.unwrap();
    let nexlet = with(&up, &["nexlet", "native"]);

    kill(nexlet[0].pid);
    wait_until("the nexlet takes work again", LIMIT, || {
        let started = start_shell(&up, "again", "job", "true", &["--wait"]);
        (started.code == 0).then_some(()).ok_or(started.stderr)
    })
    .unwrap();
    client.publish("mark.after", "".into()).await.unwrap();

    let mut subjects = Vec::new();
    while subjects
        .last()
        .is_none_or(|subject| subject != "mark.after")
    {
        let next = tokio::time::timeout(LIMIT, overheard.next()).await;
        let message = next.unwrap().expect("the connection lasts");
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        assert!(
            !text.contains("nats_user_seed"),
            "{}: {text}",
            message.subject
        );
        subjects.push(message.subject.to_string());
    }
    assert_eq!(subjects[0], "mark.before", "it hears what it may hear");
}

#[test]
fn a_killed_nats_server_comes_back_on_its_port() {
    let up = NexUp::start();
    let server = with(&up, &["nats-server", "-c"]);
    let echo = file(up.home(), "echo.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "echo"]);
    let server = server
        .iter()
        .find(|process| !format!("{process:?}").contains("supervise"))
        .expect("a nats-server");

    kill(server.pid);

    wait_until("the function answers again", LIMIT, || {
        let output = up.nex(&["req", "echo", "x"]);
        (output.code == 0).then_some(()).ok_or(output.stderr)
    })
    .unwrap();
}

fn node_id(up: &NexUp) -> String {
    let printed = up.nex(&["node", "list", "--json"]).ok().stdout;
    let nodes: Vec<Value> = serde_json::from_str(&printed).expect("an array of nodes");
    assert_eq!(nodes.len(), 1, "{printed}");
    nodes[0]["node_id"].as_str().expect("an id").to_owned()
}

/// The nexlet is stopped, so that the start reaches it and is not answered, and then killed.
#[test]
fn a_start_is_answered_when_its_nexlet_is_killed() {
    /// Long enough for the start to reach the nexlet.
    const ASKED: Duration = Duration::from_secs(2);
    let up = NexUp::start();
    let nexlet = with(&up, &["nexlet run native"])[0].pid;
    signal("-STOP", nexlet);

    let started = thread::scope(|scope| {
        let starting = scope.spawn(|| start_shell(&up, "lost", "service", "sleep 1000", &[]));
        let stopped = Instant::now();
        wait_until("the start reaches the nexlet", LIMIT, || {
            stopped.elapsed() >= ASKED
        })
        .unwrap();
        kill(nexlet);
        starting.join().unwrap()
    });

    assert_ne!(started.code, 0, "{started}");
    assert!(
        started.stderr.contains("ended during the start"),
        "{started}"
    );
    assert!(started.took < LIMIT, "{started}");
    assert!(list(&up).is_empty(), "it does not run");
}
