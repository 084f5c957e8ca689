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
use serde_json::json;

use crate::{LIMIT, file, list, start_shell};

/// How long a node waits before it looks for workloads that nobody has confirmed, and what a busy
/// machine needs beyond it.
const LOOKED_FOR: Duration = Duration::from_secs(75);

/// How long a nexlet may take to tell an end after an outage: the server and both connections come
/// back, and it tells what nobody has confirmed.
const HEARD: Duration = Duration::from_secs(15);

/// How long so many slow functions take to start, a few at a time.
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

/// The names of the workloads that `nex workload list` shows, and of those that can be called.
fn listed(up: &NexUp) -> (usize, usize) {
    let all = list(up);
    let warm = all.iter().filter(|it| it["workload_state"] == "warm");
    (all.len(), warm.count())
}

/// More than are started within the minute after which a node looks for those that nobody has
/// confirmed. None may be missing from a list meanwhile, and all have to be there in the end.
#[test]
fn functions_that_are_slow_to_start_all_come_back() {
    const FUNCTIONS: usize = 110;
    let up = NexUp::start();
    let path = file(up.home(), "slow.mjs", &module(0));
    start_functions(&up, &format!("file://{}", path.display()), FUNCTIONS);
    assert_eq!(listed(&up), (FUNCTIONS, FUNCTIONS));

    let home = up.kill();
    fs::write(&path, module(4_500)).unwrap();
    let up = NexUp::builder().home(Arc::clone(&home)).start();
    let started = Instant::now();
    while started.elapsed() < LOOKED_FOR {
        let (all, _) = listed(&up);
        assert_eq!(
            all,
            FUNCTIONS,
            "after {:?}\n{}",
            started.elapsed(),
            up.log()
        );
    }
    fs::write(&path, module(0)).unwrap();

    wait_until("all can be called", RESTORED, || {
        let counts = listed(&up);
        (counts == (FUNCTIONS, FUNCTIONS))
            .then_some(())
            .ok_or(counts)
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
