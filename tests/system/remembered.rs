//! Acknowledged workloads after kills and outages: each comes back until it has ended, and none that
//! has ended runs again.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nex_testkit::{NexUp, Process, wait_until};
use serde_json::{Value, json};

use crate::{LIMIT, file, start_shell};

/// Time after which a node looks for workloads that nobody has confirmed, and the time that a busy
/// machine needs beyond it.
const LOOKED_FOR: Duration = Duration::from_secs(75);

/// Limit for a nexlet's report of an end after an outage: the server and both connections come
/// back, and it tells what nobody has confirmed.
const HEARD: Duration = Duration::from_secs(15);

/// Limit for a node to notice that a nexlet of its own is hung, and to start another.
const REPLACED: Duration = Duration::from_secs(45);

/// Time in which so many slow functions start, a few at a time.
const RESTORED: Duration = Duration::from_secs(60);

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(sent.unwrap().success(), "{name} {pid}");
}

/// The processes of a home whose command line has all of these words, supervisors left out.
fn processes(up: &NexUp, words: &[&str]) -> Vec<Process> {
    let mut all = up.processes();
    all.retain(|process| {
        let command = &process.command;
        words.iter().all(|word| command.contains(word)) && !command.contains("supervise")
    });
    all
}

/// A module that takes so many milliseconds before it is ready.
fn module(slow_ms: u32) -> String {
    format!(
        "await new Promise((resolve) => setTimeout(resolve, {slow_ms}));\n\
         export default () => 'ready';\n"
    )
}

/// Starts functions of one file, several at a time.
fn start_functions(up: &NexUp, uri: &str, count: usize) {
    let next = AtomicUsize::new(0);
    let start = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let subject = format!("slow.{number}");
            let request = json!({ "uri": uri, "triggers": [{ "subject": subject }] }).to_string();
            let name = format!("f{number}");
            let mut args = vec!["workload", "start", "--type", "js", "--name", &name];
            args.extend(["--lifecycle", "function", "--start-request", &request]);
            up.nex(&args).ok();
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(start);
        }
    });
}

/// Returns the number of workloads that `nex workload list` shows, and of those that can be called. Nothing where a
/// busy node does not answer in time.
fn listed(up: &NexUp) -> Option<(usize, usize)> {
    let output = up.nex(&["workload", "list", "--json"]);
    if output.code != 0 {
        return None;
    }
    let nodes: Vec<Vec<Value>> = serde_json::from_str(&output.stdout).unwrap();
    let all = nodes.concat();
    let warm = all.iter().filter(|it| it["workload_state"] == "warm");
    Some((all.len(), warm.count()))
}

/// More than are started within the minute after which a node looks for those that nobody has
/// confirmed. None may be missing from a list meanwhile, and all have to be there in the end.
#[test]
fn functions_that_are_slow_to_start_all_come_back() {
    const FUNCTIONS: usize = 110;
    let up = NexUp::start();
    let path = file(up.home(), "slow.mjs", &module(0));
    start_functions(&up, &format!("file://{}", path.display()), FUNCTIONS);
    assert_eq!(listed(&up), Some((FUNCTIONS, FUNCTIONS)));

    let home = up.kill();
    fs::write(&path, module(4_500)).unwrap();
    let up = NexUp::builder().home(Arc::clone(&home)).start();
    let started = Instant::now();
    while started.elapsed() < LOOKED_FOR {
        if let Some((all, _)) = listed(&up) {
            let after = started.elapsed();
            assert_eq!(all, FUNCTIONS, "after {after:?}\n{}", up.log());
        }
    }
    fs::write(&path, module(0)).unwrap();

    wait_until("all can be called", RESTORED, || {
        let counts = listed(&up);
        (counts == Some((FUNCTIONS, FUNCTIONS)))
            .then_some(())
            .ok_or(counts)
    })
    .unwrap();
}

/// Whoever dies while functions start again, and wherever the node keeps them.
#[test]
fn a_node_and_a_nexlet_that_are_killed_while_functions_start_again_lose_none() {
    const FUNCTIONS: usize = 24;
    for state in ["--state=disk", "--state=kv"] {
        let start = |home| {
            let up = NexUp::builder().arg(state);
            match home {
                Some(home) => up.home(home).start(),
                None => up.start(),
            }
        };
        let up = start(None);
        let path = file(up.home(), "slow.mjs", &module(300));
        start_functions(&up, &format!("file://{}", path.display()), FUNCTIONS);
        let counts = listed(&up);
        assert_eq!(counts, Some((FUNCTIONS, FUNCTIONS)), "{state}");

        let up = start(Some(up.kill()));
        let up = start(Some(up.kill()));
        signal("-KILL", processes(&up, &["nexlet run js"])[0].pid);

        wait_until("all can be called", RESTORED, || {
            let counts = listed(&up);
            let all = counts == Some((FUNCTIONS, FUNCTIONS));
            all.then_some(()).ok_or(counts)
        })
        .unwrap();
    }
}

/// The start is tried for ever, and the reason of its failure is shown.
#[test]
fn a_function_whose_file_is_away_for_a_while_comes_back() {
    let up = NexUp::start();
    let path = file(up.home(), "slow.mjs", &module(0));
    let away = path.with_extension("away");
    start_functions(&up, &format!("file://{}", path.display()), 1);

    let home = up.kill();
    fs::rename(&path, &away).unwrap();
    let up = NexUp::builder().home(home).start();
    wait_until("the reason is shown", LIMIT, || {
        let printed = up.nex(&["workload", "list", "--json"]).stdout;
        let shown = printed.contains("slow.mjs") && printed.contains("nex.reason");
        shown.then_some(()).ok_or(printed)
    })
    .unwrap();
    fs::rename(&away, &path).unwrap();

    wait_until("it can be called", RESTORED, || {
        let counts = listed(&up);
        (counts == Some((1, 1))).then_some(()).ok_or(counts)
    })
    .unwrap();
}

/// The nexlets are back on NATS before their node is, and nobody hears what they tell.
#[test]
fn a_job_that_ended_while_nats_and_its_node_were_away_does_not_run_again() {
    let up = NexUp::builder().arg("--logger.level=info").start();
    let (runs, go) = (up.home().path().join("runs"), up.home().path().join("go"));
    let job = format!(
        "echo ran >> {}; while [ ! -e {} ]; do sleep 0.05; done",
        runs.display(),
        go.display()
    );
    start_shell(&up, "once", "job", &job, &[]).ok();
    let server = processes(&up, &["nats-server"])[0].pid;

    signal("-STOP", up.pid());
    signal("-KILL", server);
    fs::write(&go, "").unwrap();
    wait_until("the job has ended", LIMIT, || {
        let left = processes(&up, &["runs"]);
        left.is_empty().then_some(()).ok_or(left)
    })
    .unwrap();
    signal("-CONT", up.pid());
    // Where the node does not learn of it, the test goes on all the same, and shows what comes of it.
    wait_until("the node knows the end", HEARD, || {
        up.log().contains("workload has ended")
    })
    .ok();

    let home = up.kill();
    let up = NexUp::builder().home(Arc::clone(&home)).start();
    start_shell(&up, "after", "job", "true", &["--wait"]).ok();
    assert_eq!(fs::read_to_string(&runs).unwrap(), "ran\n");
}

/// The process of the nexlet is there and does nothing. Its workloads must not run beside those of its successor.
#[test]
fn a_suspended_nexlet_is_replaced_and_what_it_ran_runs_once() {
    let up = NexUp::start();
    let beats = up.home().path().join("beats");
    let shell = format!(
        "while true; do echo $$ >> {}; sleep 0.05; done",
        beats.display()
    );
    start_shell(&up, "kept", "service", &shell, &[]).ok();
    let pids = || -> Vec<String> {
        let text = fs::read_to_string(&beats).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    };
    wait_until("it beats", LIMIT, || {
        (pids().len() > 3).then_some(()).ok_or(pids())
    })
    .unwrap();
    let old = pids()[0].clone();
    let native = processes(&up, &["nexlet run native"])[0].pid;
    let js = processes(&up, &["nexlet run js"])[0].pid;

    signal("-STOP", native);

    wait_until("a new one beats", REPLACED, || {
        let new = pids().iter().filter(|pid| **pid != old).count();
        (new > 20).then_some(()).ok_or_else(|| up.log())
    })
    .unwrap();
    let all = pids();
    let first_new = all.iter().position(|pid| *pid != old).unwrap();
    assert!(!all[first_new..].contains(&old), "both beat: {all:?}");
    let now = processes(&up, &["nexlet run native"]);
    assert!(now.len() == 1 && now[0].pid != native, "{now:?}");
    assert_eq!(processes(&up, &["nexlet run js"])[0].pid, js);
    assert!(up.log().contains("hung"), "{}", up.log());
    up.nex(&["workload", "stop", "kept"]).ok();
}
