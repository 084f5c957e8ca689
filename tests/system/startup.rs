//! Workloads that start and fail a moment later: the command waits, shows their last lines and fails.

use nex_testkit::{Home, NatsServer, NexUp};
use serde_json::Value;

use crate::{file, list, node::NodeUp, refusals::refused, script, start_shell};

/// A service that ends with an error 200 ms after its start.
const FAILS: &str = "echo reading config; sleep 0.2; echo 'no database at db:5432' >&2; exit 1";

#[test]
fn devrun_of_a_service_that_fails_at_once_fails_with_its_last_lines() {
    let up = NexUp::start();
    let path = script(up.home(), "web.sh", FAILS);
    let path = path.to_str().unwrap();

    for more in [&[][..], &["--follow"]] {
        let args = [&["devrun", path], more].concat();
        let output = up.nex(&args);

        assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output}");
        for said in [
            "error: `web` did not stay up",
            "stdout | reading config",
            "stderr | no database at db:5432",
            "it is stopped",
            "hint: ",
        ] {
            assert!(output.stderr.contains(said), "{said}: {output}");
        }
        assert!(list(&up).is_empty(), "{:?}", list(&up));
    }

    let output = up.nex(&["devrun", path, "--json"]);
    let error: Value = serde_json::from_str(&output.stderr).unwrap();
    let lines = error["logs"].as_array().unwrap();
    let last = serde_json::json!({"stream": "stderr", "line": "no database at db:5432"});
    assert!(lines.contains(&last), "{error}");
}

#[test]
fn devrun_that_replaces_shows_the_last_lines_too() {
    let up = NexUp::start();
    let path = script(up.home(), "web.sh", "exec sleep 1000");
    let path = path.to_str().unwrap();
    up.nex(&["devrun", path]).ok();
    let before = list(&up);

    script(up.home(), "web.sh", FAILS);
    let output = up.nex(&["devrun", path]);

    let said = ["did not stay up", "stderr | no database", "was not touched"];
    refused(output, 1, &said);
    let after = list(&up);
    assert_eq!((after.len(), &after[0]["id"]), (1, &before[0]["id"]));
}

#[test]
fn a_service_that_ends_well_at_once_is_said_to_be_a_job() {
    let up = NexUp::start();
    let path = script(up.home(), "once.sh", "echo done");

    let output = up.nex(&["devrun", path.to_str().unwrap()]);

    refused(output, 1, &["did not stay up", "`--lifecycle job`"]);
    assert!(list(&up).is_empty(), "{:?}", list(&up));
}

#[test]
fn workload_start_waits_where_it_is_told_to() {
    let up = NexUp::start();

    let failed = start_shell(&up, "web", "service", FAILS, &["--wait"]);
    refused(
        failed,
        1,
        &["`web` did not stay up", "stderr | no database"],
    );
    assert!(list(&up).is_empty(), "{:?}", list(&up));

    let started = start_shell(&up, "web", "service", "exec sleep 1000", &["--wait"]).ok();
    assert!(started.stdout.contains("successfully started"), "{started}");

    let nexfile = r#"{"name":"db","type":"native","lifecycle":"service",
        "start_request":{"uri":"file:///bin/sh","argv":["-c","echo no disk; exit 4"]}}"#;
    let path = file(up.home(), "db.json", nexfile);
    let failed = up.nex(&["workload", "start", "--wait", "-f", path.to_str().unwrap()]);
    refused(failed, 1, &["`db` did not stay up", "stdout | no disk"]);
}

#[test]
fn a_job_that_is_waited_for_and_fails_shows_its_last_lines() {
    let up = NexUp::start();

    let failed = start_shell(&up, "job", "job", "seq 1 100; exit 3", &["--wait"]);

    assert_eq!(failed.code, 3, "{failed}");
    assert!(failed.stderr.contains("stdout | 100"), "{failed}");
    assert!(!failed.stderr.contains("stdout | 1\n"), "{failed}");
    let ended = start_shell(&up, "job", "job", "echo fine", &["--wait"]).ok();
    assert!(!ended.stderr.contains("fine"), "{ended}");
}

#[test]
fn a_clone_that_does_not_stay_up_is_no_success() {
    let up = NexUp::start();
    // Only the first one finds no folder.
    let lock = up.home().path().join("lock");
    let shell = format!("mkdir {} && exec sleep 1000", lock.display());
    start_shell(&up, "single", "service", &shell, &["--wait"]).ok();
    let before = list(&up);

    let output = up.nex(&["workload", "clone", "single"]);

    refused(output, 1, &["`single` did not stay up", "stderr | mkdir:"]);
    let after = list(&up);
    assert_eq!((after.len(), &after[0]["id"]), (1, &before[0]["id"]));
}

#[test]
fn the_last_lines_are_shown_where_no_stream_keeps_them() {
    let home = Home::new();
    let server = NatsServer::start();
    let _node = NodeUp::start(&home, "plain", &["-s", server.url()]);
    let request = serde_json::json!({ "uri": "file:///bin/sh", "argv": ["-c", FAILS] }).to_string();

    let start = ["workload", "start", "--wait", "-s", server.url()];
    let output = home.nex(&[&start[..], &["--name", "web", "--start-request", &request]].concat());

    refused(
        output,
        1,
        &["`web` did not stay up", "stderr | no database"],
    );
}
