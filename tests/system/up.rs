//! `nex up` itself: what it writes, what it refuses, how it ends.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, sync::Arc, time::Duration};

use nex_testkit::{Home, NexUp};
use serde_json::Value;

use crate::{ECHO_JS, devrun, file, start_shell};

#[test]
fn it_says_what_it_started_and_what_to_type_next() {
    let up = NexUp::start();

    let printed = up.log();

    for word in ["ready", up.url(), "native", "js", "nex devrun"] {
        assert!(printed.contains(word), "`{word}` is missing: {printed}");
    }
}

#[test]
fn it_ends_all_it_started() {
    let up = NexUp::start();
    start_shell(
        &up,
        "sleeper",
        "service",
        "setsid sleep 1000 & sleep 1000",
        &[],
    )
    .ok();
    let home = Arc::clone(up.home());

    let status = up.stop().unwrap();

    assert!(status.success(), "{status}");
    let left = home.processes();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn it_restarts_as_the_same_node_on_the_same_port() {
    let up = NexUp::start();
    let (url, node) = (
        up.url().to_owned(),
        up.nex(&["node", "list", "--json"]).ok().stdout,
    );
    let home = Arc::clone(up.home());
    up.stop().unwrap();

    let up = NexUp::builder().home(home).start();

    let again = up.nex(&["node", "list", "--json"]).ok().stdout;
    let id = |text: &str| serde_json::from_str::<Value>(text).unwrap()[0]["node_id"].clone();
    assert_eq!(up.url(), url);
    assert_eq!(id(&again), id(&node));
}

#[test]
fn a_second_one_on_the_folder_is_refused() {
    let up = NexUp::start();
    let data = up.data_dir();

    let second = up.nex(&["up", "--port", "0", "--data-dir", data.to_str().unwrap()]);

    assert_eq!(second.code, 1, "{second}");
    assert!(second.stderr.contains(&up.pid().to_string()), "{second}");
    assert!(second.stderr.contains("hint: "), "{second}");
}

#[test]
fn a_port_in_use_is_refused_with_two_ways_on() {
    let up = NexUp::start();
    let port = up.url().rsplit(':').next().unwrap().to_owned();
    let other = up.home().path().join("other");

    let second = up.nex(&["up", "--port", &port, "--data-dir", other.to_str().unwrap()]);

    assert_eq!(second.code, 1, "{second}");
    for word in [port.as_str(), "nex node up -s", "--port 0"] {
        assert!(
            second.stderr.contains(word),
            "`{word}` is missing: {second}"
        );
    }
}

#[test]
fn a_folder_that_others_can_read_is_refused() {
    let home = Home::new();
    let open = home.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();

    let output = home.nex(&["up", "--port", "0", "--data-dir", open.to_str().unwrap()]);

    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr.contains("chmod 700"), "{output}");
}

#[test]
fn a_nats_server_that_is_missing_or_too_old_is_refused_with_the_reason() {
    let home = Home::new();
    let up = |binary: &str| {
        home.nex(&[
            "up",
            "--port",
            "0",
            "--data-dir",
            "data",
            "--nats-server",
            binary,
        ])
    };

    let missing = up("/no/such/nats-server");
    assert_eq!(missing.code, 1, "{missing}");
    assert!(missing.stderr.contains("/no/such/nats-server"), "{missing}");

    let old = crate::script(&home, "old", "echo 'nats-server: v2.9.10'");
    let old = up(old.to_str().unwrap());
    assert_eq!(old.code, 1, "{old}");
    for word in ["2.9.10", "2.11.2", "hint: "] {
        assert!(old.stderr.contains(word), "`{word}` is missing: {old}");
    }
}

#[test]
fn it_writes_a_context_and_leaves_a_foreign_one_alone() {
    let up = NexUp::start();
    let contexts = up.home().path().join(".config/nats/context");
    let written = fs::read_to_string(contexts.join("nex.json")).unwrap();
    assert!(written.contains(up.url()), "{written}");
    assert!(!up.home().path().join(".config/nats/context.txt").exists());

    let home = Home::new();
    let contexts = home.path().join(".config/nats/context");
    fs::create_dir_all(&contexts).unwrap();
    let foreign = r#"{"description":"mine","url":"nats://example:4222"}"#;
    fs::write(contexts.join("nex.json"), foreign).unwrap();
    let _up = NexUp::builder().home(Arc::new(home)).start();
    assert_eq!(
        fs::read_to_string(contexts.join("nex.json")).unwrap(),
        foreign
    );
}

#[test]
fn embedded_nexlets_are_the_same_in_one_process() {
    let up = NexUp::builder().arg("--embedded").start();
    let echo = file(up.home(), "echo.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "echo"]);

    let reply = up.nex(&["req", "echo", "x"]).ok().stdout;
    let job = start_shell(&up, "job", "job", "exit 5", &["--wait"]);

    assert!(reply.contains(r#""payload":"x""#), "{reply}");
    assert_eq!(job.code, 5, "{job}");
    let nexlets = up.processes();
    let nexlets = nexlets
        .iter()
        .filter(|process| format!("{process:?}").contains("nexlet"));
    assert_eq!(nexlets.count(), 0);
}

#[test]
fn a_second_signal_kills() {
    let mut up = NexUp::start();
    let stubborn = r#"trap "" INT TERM; sleep 1000 & wait; sleep 1000"#;
    start_shell(&up, "stubborn", "service", stubborn, &[]).ok();
    let pid = up.pid().to_string();
    let signal = || Command::new("kill").args(["-TERM", &pid]).status().unwrap();

    signal();
    nex_testkit::wait_until("it stops", Duration::from_secs(10), || {
        let log = up.log();
        log.contains("stopping").then_some(()).ok_or(log)
    })
    .unwrap();
    signal();

    let status = up.wait(Duration::from_secs(4)).unwrap();
    assert!(!status.success(), "{status}");
}

/// A node that does nothing keeps no memory for its start.
#[test]
fn what_only_its_start_needed_is_given_back() {
    let up = NexUp::start();
    let kilobytes = |name: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", up.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.unwrap().trim().trim_end_matches("kB").trim();
        value.parse::<u64>().unwrap()
    };

    nex_testkit::wait_until(
        "it has less than at its start",
        Duration::from_secs(10),
        || {
            let (peak, now) = (kilobytes("VmHWM:"), kilobytes("VmRSS:"));
            (now + 4096 < peak).then_some(()).ok_or((now, peak))
        },
    )
    .unwrap();
}

/// However its address is written, the person who runs `nex up` is its owner there.
#[test]
fn its_owner_is_known_at_its_address() {
    let up = NexUp::start();
    let url = up.url().to_owned();
    let port = url.rsplit(':').next().unwrap();
    let echo = file(up.home(), "echo.js", ECHO_JS);
    let config = file(
        up.home(),
        "at.json",
        &serde_json::json!({ "nats": { "servers": [url] } }).to_string(),
    );
    let deploy = [
        "devrun",
        echo.to_str().unwrap(),
        "--trigger-subject",
        "echo",
    ];

    for more in [
        ["-s", &url],
        ["-s", &format!("localhost:{port}")],
        ["-s", &format!("nats://[::1]:{port}")],
        ["-s", &format!("nats://127.0.0.1:1,127.0.0.1:{port}")],
        ["--config", config.to_str().unwrap()],
    ] {
        up.nex(&[&deploy[..], &more].concat()).ok();
    }
    let deploy = up
        .home()
        .nex_command(&deploy)
        .unwrap()
        .env("NATS_URL", &url)
        .output();
    assert!(deploy.as_ref().unwrap().status.success(), "{deploy:?}");

    let other = nex_testkit::NatsServer::builder()
        .config("authorization { user: ann, password: secret }")
        .start();
    let refused = up.nex(&["workload", "list", "-s", other.url()]).failed();
    assert!(refused.stderr.contains("authorization"), "{refused}");
}

#[tokio::test]
async fn the_anonymous_user_cannot_reach_nexlets_or_the_system() {
    use futures_util::StreamExt as _;
    let up = NexUp::start();
    let (denied_tx, mut denied_rx) = tokio::sync::mpsc::channel(16);
    let client = async_nats::ConnectOptions::new()
        .event_callback(move |event| {
            let denied_tx = denied_tx.clone();
            async move {
                denied_tx.send(event.to_string()).await.ok();
            }
        })
        .connect(up.url())
        .await
        .unwrap();

    for subject in ["$NEX.SVC.x.agent.REGISTER.y", "$SYS.REQ.SERVER.PING"] {
        client.publish(subject, "".into()).await.unwrap();
        client.flush().await.unwrap();
        let denied = async {
            while let Some(event) = denied_rx.recv().await {
                if event.to_lowercase().contains("permissions violation") && event.contains(subject)
                {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), denied)
            .await
            .unwrap_or_else(|_| panic!("`{subject}` was not denied"));
    }
    // What people do is allowed.
    let mut mine = client.subscribe("mine").await.unwrap();
    client.publish("mine", "x".into()).await.unwrap();
    assert!(mine.next().await.is_some());
}
