//! `nex devrun`: from a file to something that answers.

use std::{fs, path::Path, process::Command};

use futures_util::StreamExt as _;
use nex_testkit::{NexUp, bin, seeds, skip, wait_until, workspace_root};
use serde_json::Value;

use crate::{ECHO_JS, LIMIT, devrun, file, find, list, script};

/// The reply that the seeds print for their echo function.
const ECHOED: &str = r#"{"triggered_on":"echo","payload":"hello nex!"}"#;

#[test]
fn the_seeds_echo_function_answers_as_on_their_slides() {
    let Some(seeds) = seeds() else {
        return skip("the folder of the seeds is not here");
    };
    let up = NexUp::start();

    devrun(
        &up,
        &seeds.join("echo.js"),
        &["--trigger_subject=echo", "--type", "v8"],
    );

    let reply = up.nex(&["req", "echo", "hello nex!"]).ok().stdout;
    assert_eq!(reply.trim_end(), ECHOED);
}

#[test]
fn clients_of_other_languages_need_no_credentials() {
    let up = NexUp::start();
    let echo = file(up.home(), "echo.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "echo"]);

    let clients = workspace_root().join("tests/system/clients");
    for (program, client) in [("python3", "request.py"), ("node", "request.mjs")] {
        let mut command = up.home().command(program);
        command
            .arg(clients.join(client))
            .args([up.url(), "echo", "hello nex!"]);
        match command.output() {
            Ok(output) => {
                let printed = String::from_utf8_lossy(&output.stdout);
                assert_eq!(printed.trim_end(), ECHOED, "{program}: {output:?}");
            }
            Err(_) => skip(&format!("`{program}` is not on this machine")),
        }
    }
}

/// Compiles the seeds' Go service; `None`, said loudly, where there is no Go.
fn go_echo(seeds: &Path, folder: &Path) -> Option<std::path::PathBuf> {
    let source = folder.join("go-echo");
    fs::create_dir_all(&source).expect("a home takes folders");
    let interop = workspace_root().join("interop/echo-service");
    for name in ["go.mod", "go.sum"] {
        fs::copy(interop.join(name), source.join(name)).expect("the pinned Go modules are here");
    }
    fs::copy(seeds.join("echo-service/echo.go"), source.join("echo.go")).expect("a seed");
    let built = Command::new("go")
        .args(["build", "-tags", "netgo", "-o", "echo"])
        .env("CGO_ENABLED", "0")
        .current_dir(&source)
        .output();
    let Ok(built) = built else {
        skip("`go` is not on this machine");
        return None;
    };
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    Some(source.join("echo"))
}

#[tokio::test]
async fn the_seeds_go_service_answers_and_is_discovered() {
    let Some(seeds) = seeds() else {
        return skip("the folder of the seeds is not here");
    };
    let up = NexUp::start();
    let Some(echo) = go_echo(&seeds, up.home().path()) else {
        return;
    };

    devrun(&up, &echo, &[]);

    let answered = wait_until("the service answers", LIMIT, || {
        let output = up.nex(&["req", "svc.echo", "hello"]);
        (output.code == 0)
            .then_some(output.stdout)
            .ok_or(output.stderr)
    });
    assert_eq!(answered.unwrap().trim_end(), "hello");
    let client = async_nats::connect(up.url()).await.unwrap();
    let inbox = client.new_inbox();
    let mut found = client.subscribe(inbox.clone()).await.unwrap();
    let ping = client.publish_with_reply("$SRV.PING", inbox, "".into());
    ping.await.unwrap();
    let discovered = async {
        while let Some(reply) = found.next().await {
            let pong: Value = serde_json::from_slice(&reply.payload).unwrap();
            if pong["name"] == "EchoService" {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, discovered).await.unwrap();
}

#[test]
fn our_own_service_runs_on_its_scoped_credentials() {
    let up = NexUp::builder().arg("--no-anonymous").start();

    devrun(&up, &bin("echo-service"), &["--name", "echo"]);

    let answered = wait_until("the service answers", LIMIT, || {
        let output = up.nex(&["req", "svc.echo", "hello"]);
        (output.code == 0)
            .then_some(output.stdout)
            .ok_or(output.stderr)
    });
    assert_eq!(answered.unwrap().trim_end(), "hello");
}

#[tokio::test]
async fn a_second_devrun_leaves_no_moment_without_an_answer() {
    let up = NexUp::start();
    let answer = |version: &str| format!("(subject, payload) => ({version:?});\n");
    let path = file(up.home(), "greet.js", &answer("first"));
    devrun(&up, &path, &["--trigger-subject", "greet"]);
    let client = async_nats::connect(up.url()).await.unwrap();

    fs::write(&path, answer("second")).unwrap();
    let replace = {
        let mut command = up.home().nex_command(&["devrun"]).unwrap();
        command.arg(&path).args(["--trigger-subject", "greet"]);
        tokio::task::spawn_blocking(move || command.output())
    };
    let mut answers = Vec::new();
    while !replace.is_finished() {
        let reply = client.request("greet", "".into()).await;
        answers.push(reply.expect("somebody answers at every moment").payload);
    }
    let replaced = replace.await.unwrap().unwrap();
    assert!(replaced.status.success(), "{replaced:?}");

    assert_eq!(
        answers.first().map(|answer| &answer[..]),
        Some(&b"first"[..])
    );
    let last = client.request("greet", "".into()).await.unwrap();
    assert_eq!(&last.payload[..], b"second");
    assert_eq!(list(&up).len(), 1, "{:?}", list(&up));
}

#[test]
fn follow_shows_the_first_line_and_ends_with_the_job() {
    let up = NexUp::start();
    let job = script(
        up.home(),
        "job.sh",
        "echo first line\necho last line\nexit 3",
    );

    let path = job.to_str().unwrap();
    let followed = up.nex(&["devrun", path, "--lifecycle", "job", "--follow"]);

    assert_eq!(followed.code, 3, "{followed}");
    let first = followed.stdout.find("first line").expect("the first line");
    let last = followed.stdout.find("last line").expect("the last line");
    assert!(first < last, "{followed}");
}

#[test]
fn follow_stops_the_workload_on_an_interrupt() {
    let up = NexUp::start();
    let service = script(up.home(), "service.sh", "echo it runs\nexec sleep 1000");
    let output = up.home().path().join("follow.stdout");
    let mut command = up.home().nex_command(&["devrun"]).unwrap();
    command.arg(&service).arg("--follow");
    command.stdout(fs::File::create(&output).unwrap());
    let mut follow = command.spawn().unwrap();
    wait_until("the first line is shown", LIMIT, || {
        let printed = fs::read_to_string(&output).unwrap();
        printed.contains("it runs").then_some(()).ok_or(printed)
    })
    .unwrap();

    let pid = follow.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());

    let ended = wait_until("`devrun --follow` ends", LIMIT, || {
        follow.try_wait().ok().flatten()
    });
    assert!(ended.unwrap().success());
    assert!(find(&up, "service").is_err(), "{:?}", list(&up));
}

#[test]
fn logs_and_events_were_there_before_anybody_looked() {
    let up = NexUp::start();
    let echo = file(up.home(), "echo.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "echo"]);
    up.nex(&["req", "echo", "x"]).ok();

    wait_until("the line is kept", LIMIT, || {
        let logs = up.nex(&["logs", "echo"]).ok().stdout;
        logs.contains("called on echo").then_some(()).ok_or(logs)
    })
    .unwrap();

    let events = up.nex(&["events"]).ok().stdout;
    for name in ["NODESTARTED", "WORKLOADSTARTED"] {
        assert!(events.contains(name), "{events}");
    }
}

#[test]
fn an_environment_reaches_the_process() {
    let up = NexUp::start();
    let job = script(up.home(), "job.sh", "echo \"greeting is $GREETING\"");

    let path = job.to_str().unwrap();
    let followed = up.nex(&[
        "devrun",
        path,
        "GREETING=hello there",
        "--lifecycle",
        "job",
        "--follow",
    ]);

    assert!(
        followed.stdout.contains("greeting is hello there"),
        "{followed}"
    );
}
