//! What a restarted node has not forgotten, and what runs after it: each workload once.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use nex_testkit::{Home, NexUp, wait_until};
use serde_json::Value;

use crate::{ECHO_JS, LIMIT, devrun, file, find, list, start_shell};

/// A service whose process shows its name.
fn start_service(up: &NexUp, name: &str) -> Value {
    start_shell(up, name, "service", &service(name), &[]).ok();
    find(up, name).unwrap()
}

fn service(name: &str) -> String {
    // Without a second command the shell would become `sleep`, and the name be gone.
    format!("sleep 1000; : mark-{name}-")
}

/// How many processes show the name of a service.
fn processes_of(up: &NexUp, name: &str) -> usize {
    let mark = format!("mark-{name}-");
    let shown = up.processes().into_iter().filter(|process| {
        let shown = format!("{process:?}");
        shown.contains(&mark) && !shown.contains("supervise")
    });
    shown.count()
}

#[track_caller]
fn runs_once_again(up: &NexUp, before: &Value) {
    let name = before["name"].as_str().unwrap();
    wait_until("it runs again", LIMIT, || {
        let found = find(up, name);
        match &found {
            Ok(now) if now["workload_state"] == "running" => Ok(()),
            _ => Err(format!("{found:?}\n{}", up.log())),
        }
    })
    .unwrap();
    let now = find(up, name).unwrap();
    assert_eq!(now["id"], before["id"]);
    assert_eq!(processes_of(up, name), 1);
}

fn again(home: &Arc<Home>) -> NexUp {
    NexUp::builder().home(Arc::clone(home)).start()
}

/// Runs a service, a function, a job that ends and a service that is stopped; then lets `end` end
/// the node, and sees what is there after its next start.
fn survives(arg: Option<&str>, end: impl FnOnce(NexUp) -> Arc<Home>) {
    let builder = arg.map_or_else(NexUp::builder, |arg| NexUp::builder().arg(arg));
    let up = builder.start();
    let service = start_service(&up, "kept");
    start_service(&up, "stopped");
    let echo = file(up.home(), "echo.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "echo"]);
    let function = find(&up, "echo").unwrap();
    let once = up.home().path().join("once");
    let job = format!("echo ran >> {}", once.display());
    start_shell(&up, "job", "job", &job, &["--wait"]).ok();
    up.nex(&["workload", "stop", "stopped"]).ok();

    let home = end(up);
    let builder = NexUp::builder().home(Arc::clone(&home));
    let up = match arg {
        Some(arg) => builder.arg(arg).start(),
        None => builder.start(),
    };

    runs_once_again(&up, &service);
    wait_until("the function answers again", LIMIT, || {
        let output = up.nex(&["req", "echo", "x"]);
        (output.code == 0).then_some(()).ok_or(output.stderr)
    })
    .unwrap();
    // The job is still listed, as one that has ended.
    let names: BTreeSet<String> = list(&up)
        .iter()
        .filter(|workload| workload["metadata"]["ended"].is_null())
        .map(|workload| workload["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["echo", "kept"].map(Into::into).into());
    assert_eq!(find(&up, "echo").unwrap()["id"], function["id"]);
    assert_eq!(std::fs::read_to_string(&once).unwrap(), "ran\n");
    assert_eq!(processes_of(&up, "stopped"), 0);
}

#[test]
fn what_ran_when_the_node_was_stopped_runs_again() {
    survives(None, |up| {
        let home = Arc::clone(up.home());
        assert!(up.stop().unwrap().success());
        home
    });
}

#[test]
fn what_ran_when_the_node_was_killed_runs_again() {
    survives(None, NexUp::kill);
}

#[test]
fn a_node_with_its_state_in_a_bucket_has_not_forgotten_either() {
    survives(Some("--state=kv"), NexUp::kill);
}

#[test]
fn what_ran_in_a_killed_nexlet_runs_again_and_others_notice_nothing() {
    let up = NexUp::start();
    let before = start_service(&up, "kept");
    let echo = file(up.home(), "echo.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "echo"]);
    let nexlets = up.processes().into_iter().filter(|process| {
        let shown = format!("{process:?}");
        shown.contains("nexlet") && shown.contains("native") && !shown.contains("supervise")
    });
    let pids: Vec<u32> = nexlets.map(|process| process.pid).collect();
    assert_eq!(pids.len(), 1);

    let killed = Command::new("kill")
        .args(["-9", &pids[0].to_string()])
        .status();
    assert!(killed.unwrap().success());
    wait_until("the old process is gone", LIMIT, || {
        let now = find(&up, "kept").map_err(|all| format!("{all:?}"))?;
        if now["metadata"]["pid"] == before["metadata"]["pid"] {
            return Err(now.to_string());
        }
        Ok(())
    })
    .unwrap();

    runs_once_again(&up, &before);
    assert_eq!(up.nex(&["req", "echo", "x"]).code, 0);
}

/// A stubborn service lives on for a moment when its nexlet is killed: the one that takes its place
/// waits for that.
#[test]
fn a_service_that_comes_back_does_not_meet_itself() {
    let up = NexUp::start();
    let beats = up.home().path().join("beats");
    // Ignores what asks it to end, and says which process it is.
    let shell = format!(
        r#"trap "" INT TERM; while true; do echo $$ >> {}; sleep 0.05; done"#,
        beats.display()
    );
    start_shell(&up, "stubborn", "service", &shell, &[]).ok();
    let pids = || -> Vec<String> {
        let text = std::fs::read_to_string(&beats).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    };
    wait_until("it beats", LIMIT, || {
        (pids().len() > 3).then_some(()).ok_or(pids())
    })
    .unwrap();
    let nexlets = up.processes().into_iter().filter(|process| {
        let shown = format!("{process:?}");
        shown.contains("nexlet") && shown.contains("native") && !shown.contains("supervise")
    });
    let nexlet = nexlets.map(|process| process.pid).next().unwrap();

    let killed = Command::new("kill")
        .args(["-9", &nexlet.to_string()])
        .status();
    assert!(killed.unwrap().success());

    let old = pids()[0].clone();
    wait_until("the new one beats", LIMIT, || {
        let new = pids().iter().filter(|pid| **pid != old).count();
        (new > 20).then_some(()).ok_or(new)
    })
    .unwrap();
    let all = pids();
    let first_new = all.iter().position(|pid| *pid != old).unwrap();
    assert!(
        !all[first_new..].contains(&old),
        "both beat at the same time: {all:?}"
    );
    up.nex(&["workload", "stop", "stubborn"]).ok();
}

/// Deploys from several threads while the node is killed: what was acknowledged runs once.
#[test]
fn every_acknowledged_deploy_of_a_killed_node_runs_once() {
    const DEPLOYS: usize = 200;
    const AT_A_TIME: usize = 8;
    const KILLED_AFTER: usize = 60;
    let up = NexUp::start();
    let acknowledged: Mutex<Vec<String>> = Mutex::default();
    let (next, pid) = (AtomicUsize::new(0), up.pid());
    let deploy = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= DEPLOYS {
                return;
            }
            let name = format!("w{number}");
            let started = start_shell(&up, &name, "service", &service(&name), &[]);
            if started.stderr.contains("was killed") {
                // Each further one would wait for its restart.
                return;
            }
            if started.code == 0 {
                let mut acknowledged = acknowledged.lock().unwrap();
                acknowledged.push(name);
                if acknowledged.len() == KILLED_AFTER {
                    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
                    assert!(killed.unwrap().success());
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(deploy);
        }
    });
    let home = up.kill();
    let up = again(&home);
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(
        (KILLED_AFTER..DEPLOYS).contains(&acknowledged.len()),
        "{}",
        acknowledged.len()
    );

    wait_until("all run again", LIMIT, || {
        let all = list(&up);
        let running = |name: &&String| {
            all.iter()
                .filter(|w| w["name"] == name.as_str() && w["workload_state"] == "running")
                .count()
                == 1
        };
        let missing: Vec<&String> = acknowledged.iter().filter(|name| !running(name)).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{missing:?}\n{all:?}"))
        }
    })
    .unwrap();

    let ids: BTreeSet<String> = list(&up).iter().map(|w| w["id"].to_string()).collect();
    assert_eq!(ids.len(), list(&up).len(), "each is listed once");
    for name in &acknowledged {
        assert_eq!(processes_of(&up, name), 1, "{name}");
    }
}
