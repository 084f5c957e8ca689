//! Jobs: the end of each is known, whatever is killed, and one that has ended does not run again.

use std::{fs, path::Path, process::Command, sync::Arc, thread};

use nex_testkit::{Home, NexUp, NexUpBuilder, Output, wait_until};
use serde_json::{Value, json};

use crate::{LIMIT, find, start_shell};

fn signal(signal: &str, pid: u32) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.expect("`kill` is everywhere").success());
}

fn native_nexlet(up: &NexUp) -> u32 {
    let all = up.processes();
    let nexlet = all
        .iter()
        .find(|process| process.command.contains("nexlet run native"));
    nexlet.unwrap_or_else(|| panic!("{all:?}")).pid
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

/// Waits until a job is listed as ended, and returns its metadata.
#[track_caller]
fn ended(up: &NexUp, name: &str) -> Value {
    wait_until("the job is listed as ended", LIMIT, || {
        let job = find(up, name).map_err(|all| format!("{all:?}"))?;
        let metadata = job["metadata"].clone();
        if metadata["ended"].is_string() {
            Ok(metadata)
        } else {
            Err(job.to_string())
        }
    })
    .unwrap()
}

#[test]
fn a_finished_job_is_listed_after_its_nexlet_was_killed() {
    let up = NexUp::start();
    start_shell(&up, "bad", "job", "exit 3", &["--wait"]);
    let before = ended(&up, "bad");

    signal("-9", native_nexlet(&up));

    assert_eq!(ended(&up, "bad"), before);
}

#[test]
fn finished_jobs_are_listed_after_their_node_was_killed() {
    finished_jobs_survive(NexUp::builder);
}

#[test]
fn finished_jobs_are_listed_after_a_node_with_embedded_nexlets_was_killed() {
    finished_jobs_survive(|| NexUp::builder().arg("--embedded"));
}

fn finished_jobs_survive(builder: impl Fn() -> NexUpBuilder) {
    let up = builder().start();
    for (name, shell) in [
        ("good", "exit 0"),
        ("bad", "exit 3"),
        ("killed", "kill -9 $$"),
    ] {
        start_shell(&up, name, "job", shell, &["--wait"]);
    }
    let names = ["good", "bad", "killed"];
    let before = names.map(|name| ended(&up, name));
    assert_eq!(before[1]["exit_code"], "3");

    let up = builder().home(up.kill()).start();

    assert_eq!(names.map(|name| ended(&up, name)), before);
}

/// Starts a job and waits for it, while its node is ended and started again.
#[test]
fn who_waits_for_a_job_sees_its_own_end_and_not_that_of_its_node() {
    let up = NexUp::start();
    let folder = up.home().path().to_owned();
    let (go, marks) = (folder.join("go"), folder.join("marks"));
    let shell = format!(
        "echo began >>{}; while [ ! -e {} ]; do sleep 0.02; done; exit 5",
        marks.display(),
        go.display()
    );
    let home = Arc::clone(up.home());
    let began = |count: usize| {
        wait_until("the job began so often", LIMIT, || {
            let marks = lines(&marks);
            (marks.len() == count).then_some(()).ok_or(marks)
        })
        .unwrap();
    };

    let waited = thread::scope(|scope| {
        let waiting = scope.spawn(|| start_shell_in(&home, "long", &shell));
        began(1);
        assert!(up.stop().unwrap().success());
        let up = NexUp::builder().home(Arc::clone(&home)).start();
        began(2);
        signal("-TERM", native_nexlet(&up));
        began(3);
        fs::write(&go, "").unwrap();
        let waited = waiting.join().unwrap();
        (waited, up)
    });

    assert_eq!(waited.0.code, 5, "{}", waited.0);
}

/// Starts a job in the home of a `nex up` and waits for its end.
fn start_shell_in(home: &Home, name: &str, shell: &str) -> Output {
    let request = json!({ "uri": "file:///bin/sh", "argv": ["-c", shell] }).to_string();
    let start = [
        "workload",
        "start",
        "--lifecycle",
        "job",
        "--wait",
        "--name",
    ];
    home.nex(&[&start[..], &[name, "--start-request", &request]].concat())
}

/// A job ends while its nexlet is suspended, and so before anybody hears of it.
fn ends_unheard(kill: impl FnOnce(NexUp, u32) -> NexUp) {
    let up = NexUp::start();
    let marks = up.home().path().join("marks");
    let (go, marks_shown) = (up.home().path().join("go"), marks.display());
    let shell = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; echo ran >>{marks_shown}; exit 0",
        go.display()
    );
    start_shell(&up, "once", "job", &shell, &[]).ok();
    let job = find(&up, "once").unwrap();
    let nexlet = native_nexlet(&up);
    signal("-STOP", nexlet);

    fs::write(&go, "").unwrap();
    let pid = job["metadata"]["pid"].as_str().unwrap().to_owned();
    wait_until("the job has ended", LIMIT, || {
        !up.processes()
            .iter()
            .any(|process| process.pid.to_string() == pid)
    })
    .unwrap();
    let up = kill(up, nexlet);

    let metadata = ended(&up, "once");
    assert_eq!(metadata["exit_code"], "0", "{metadata}");
    assert_eq!(lines(&marks), ["ran"]);
    let events = up.nex(&["events", "--since", "1h", "--json"]).ok().stdout;
    let events: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told = events
        .iter()
        .filter(|event| event["event"] == "WORKLOADSTOPPED" && event["body"]["id"] == job["id"]);
    assert_eq!(told.count(), 1, "{events:?}");
}

#[test]
fn a_job_that_ended_as_its_nexlet_was_killed_does_not_run_again() {
    ends_unheard(|up, nexlet| {
        signal("-9", nexlet);
        up
    });
}

#[test]
fn a_job_that_ended_as_its_node_was_killed_does_not_run_again() {
    ends_unheard(|up, nexlet| {
        signal("-9", nexlet);
        let home = up.kill();
        NexUp::builder().home(Arc::clone(&home)).start()
    });
}
