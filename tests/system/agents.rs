//! Nexlets that a node starts: of any other make, killed again and again, on a NATS with a private CA.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use nex_testkit::{Home, NatsServer, NexUp, bin, skip, terminate, wait_until};
use serde_json::{Value, json};

use crate::{ECHO_JS, LIMIT, devrun, file, find, list, node::NodeUp, script, start_shell};

/// How long a nexlet's process may outlive its node.
const OUTLIVES: Duration = Duration::from_secs(5);

/// How long a stop may take where nexlets ignore every wish: the grace, and the kill.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How often a nexlet is killed in a row.
const KILLS: usize = 10;

/// Nodes say every ten seconds that they live; on a busy machine one may be late.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(20);

/// A nexlet that never registers, ignores every signal that it can, and leaves a child in a session
/// of its own.
const STUBBORN: &str = "trap '' INT TERM HUP
setsid sh -c 'trap \"\" INT TERM HUP; while :; do sleep 1000; done' stray &
while :; do sleep 1000; done";

/// The flag for a nexlet that is this program.
fn agent(program: &Path, argv: &[&str], env: &Value) -> String {
    let uri = format!("file://{}", program.display());
    json!({ "uri": uri, "argv": argv, "env": env }).to_string()
}

/// What a node has logged.
fn log(home: &Home, node: &str) -> String {
    fs::read_to_string(home.path().join(format!("{node}.stderr"))).unwrap_or_default()
}

/// What the only node tells about its nexlets.
fn nexlets(home: &Home, more: &[&str]) -> Vec<Value> {
    let nodes = home.nex(&[&["node", "list", "--json"], more].concat()).ok();
    let nodes: Vec<Value> = serde_json::from_str(&nodes.stdout).unwrap();
    let id = nodes[0]["node_id"].as_str().unwrap();
    let info = home
        .nex(&[&["node", "info", id, "--json"], more].concat())
        .ok();
    let info: Value = serde_json::from_str(&info.stdout).unwrap();
    info["node_agent_summaries"].as_array().unwrap().clone()
}

/// Runs a native job to its end.
fn run_job(home: &Home, more: &[&str]) {
    let request = json!({ "uri": "file:///bin/true" }).to_string();
    let mut args = vec!["workload", "start", "--lifecycle", "job", "--wait"];
    args.extend(["--start-request", &request]);
    args.extend(more);
    home.nex(&args).ok();
}

#[test]
fn an_agent_gets_what_it_was_given_and_nothing_else() {
    let home = Home::new();
    let server = NatsServer::start();
    let env = agent(Path::new("/usr/bin/env"), &[], &json!({ "MINE": "yes" }));
    let args = ["-s", server.url(), "-l", "info", "--agents", &env];
    let limit = ["--agent-restart-limit", "1"];

    let _node = NodeUp::start(&home, "node", &[&args[..], &limit].concat());

    let log = wait_until("it is given up", LIMIT, || {
        let log = log(&home, "node");
        if log.contains("given up") {
            Ok(log)
        } else {
            Err(log)
        }
    })
    .unwrap();
    for (given, times) in [
        ("MINE=yes", 2),
        ("NEX_AGENT_NODE_ID=N", 2),
        ("NEX_AGENT_ASSIGNED_ID=", 2),
        ("NEX_AGENT_NATS_SERVERS=nats://", 2),
        ("NEX_AGENT_NATS_", 12),
        (" PATH=", 0),
        ("HOME=", 0),
    ] {
        assert_eq!(log.matches(given).count(), times, "{given} in\n{log}");
    }
    let told = nexlets(&home, &["-s", server.url()]);
    let gone = told.iter().find(|it| it["agent_health"] == "offline");
    let summary = &gone.expect("it stays in sight")["agent_summary"];
    assert_eq!(summary["name"], "env", "{summary}");
    assert_eq!(summary["state"], "given up", "{summary}");
    run_job(&home, &["-s", server.url()]);
}

#[test]
fn an_agent_of_a_file_runs_workloads_like_a_built_in_one() {
    let home = Home::new();
    let data = home.path().join("agent");
    fs::create_dir(&data).unwrap();
    let uri = format!("file://{}", bin("nex").display());
    let agent = json!({
        "uri": uri, "argv": ["nexlet", "run", "native", "--data-dir", data]
    });
    let config = json!({ "disable_native_start": true, "agents": [agent] });
    fs::create_dir_all(home.path().join(".config/nex")).unwrap();
    fs::write(
        home.path().join(".config/nex/config.json"),
        config.to_string(),
    )
    .unwrap();

    let up = NexUp::builder().home(Arc::new(home)).start();

    assert!(!up.log().contains("native"), "{}", up.log());
    wait_until("the agent takes work", LIMIT, || {
        let started = start_shell(&up, "job", "job", "true", &["--wait"]);
        (started.code == 0).then_some(()).ok_or(started)
    })
    .unwrap();
    let types: Vec<Value> = nexlets(up.home(), &[])
        .into_iter()
        .map(|nexlet| nexlet["agent_summary"]["type"].clone())
        .collect();
    assert_eq!(types.len(), 3, "{types:?}");
    start_shell(&up, "sleeper", "service", "sleep 1000", &[]).ok();
    assert!(up.stop().unwrap().success());
}

#[test]
fn an_agent_is_asked_to_end_by_sigint_and_its_last_words_are_logged() {
    let home = Home::new();
    let server = NatsServer::start();
    let polite = "trap 'echo last words >&2; exit 0' INT\necho ready >&2\n\
                  while :; do sleep 1000; done";
    let program = script(&home, "polite", polite);
    let path = std::env::var("PATH").unwrap();
    let agent = agent(&program, &[], &json!({ "PATH": path }));
    let node = NodeUp::start(&home, "node", &["-s", server.url(), "--agents", &agent]);
    wait_until("the agent runs", LIMIT, || {
        let log = log(&home, "node");
        if log.contains("ready") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .unwrap();

    drop(node);

    let log = log(&home, "node");
    let words = log.lines().find(|line| line.contains("last words"));
    let words = words.unwrap_or_else(|| panic!("{log}"));
    assert!(
        words.contains("ERROR") && words.contains("polite"),
        "{words}"
    );
}

/// A node with the stubborn nexlet, in a process of the test's own.
struct Stubborn {
    home: Home,
    node: Child,
    _server: NatsServer,
}

impl Stubborn {
    fn start() -> Self {
        let home = Home::new();
        let server = NatsServer::start();
        let program = script(&home, "stubborn", STUBBORN);
        let path = std::env::var("PATH").unwrap();
        let agent = agent(&program, &[], &json!({ "PATH": path }));
        let mut command = home
            .nex_command(&["node", "up", "--data-dir", "data", "-s", server.url()])
            .unwrap();
        let stdout = home.path().join("stdout");
        let node = command
            .args(["--disable-native-start", "--agents", &agent])
            .stdout(fs::File::create(&stdout).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stubborn = Self {
            home,
            node,
            _server: server,
        };
        wait_until("node, nexlet and its stray child run", LIMIT, || {
            let sleeps = stubborn.count("sleep 1000");
            let ready = fs::read_to_string(&stdout).unwrap().contains("ready");
            (sleeps == 2 && ready)
                .then_some(())
                .ok_or(stubborn.home.processes())
        })
        .unwrap();
        stubborn
    }

    fn count(&self, command: &str) -> usize {
        let processes = self.home.processes();
        let found = processes
            .iter()
            .filter(|process| process.command == command);
        found.count()
    }

    #[track_caller]
    fn gone(&self, limit: Duration) {
        wait_until("nothing is left", limit, || {
            let left = self.home.processes();
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .unwrap();
    }
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        self.node.kill().ok();
        self.node.wait().ok();
    }
}

#[test]
fn an_agent_that_ignores_every_wish_ends_with_all_that_it_started() {
    let mut stubborn = Stubborn::start();

    terminate(stubborn.node.id()).unwrap();

    let ended = wait_until("the node ends", STOP_LIMIT, || {
        stubborn.node.try_wait().unwrap()
    });
    assert_eq!(ended.unwrap().code(), Some(0));
    stubborn.gone(OUTLIVES);
}

#[test]
fn an_agent_that_ignores_every_wish_does_not_outlive_its_node() {
    let mut stubborn = Stubborn::start();

    stubborn.node.kill().unwrap();
    stubborn.node.wait().unwrap();

    stubborn.gone(OUTLIVES);
}

/// The process of the built-in nexlet of that type.
pub(crate) fn nexlet_pid(up: &NexUp, workload_type: &str) -> Option<u32> {
    let wanted = format!("nexlet run {workload_type} ");
    let processes = up.processes();
    let found = processes.iter().find(|it| it.command.contains(&wanted));
    found.map(|process| process.pid)
}

/// The longest time between two heartbeats of the node, from the start of listening to its end.
async fn longest_silence(
    mut heartbeats: async_nats::Subscriber,
    mut stop: tokio::sync::oneshot::Receiver<()>,
) -> (usize, Duration) {
    let (mut count, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
    loop {
        let heard = tokio::select! {
            _ = &mut stop => false,
            message = heartbeats.next() => message.is_some(),
        };
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if !heard {
            return (count, longest);
        }
        count += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nexlet_that_is_killed_ten_times_is_back_each_time_and_nobody_notices() {
    let up = NexUp::start();
    start_shell(&up, "bystander", "service", "sleep 1000", &[]).ok();
    let before = find(&up, "bystander").unwrap();
    // One of its own, which is handed back each time.
    let echo = file(up.home(), "echo.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "echo"]);
    let function = find(&up, "echo").unwrap();
    let options = async_nats::ConnectOptions::new();
    let creds = up.data_dir().join("cli.creds");
    let options = options.credentials_file(creds).await.unwrap();
    let client = options.connect(up.url()).await.unwrap();
    let subject = "$NEX.SVC.system.control.HEARTBEAT.*";
    let heartbeats = client.subscribe(subject).await.unwrap();
    let (stop_tx, stop_rx) = tokio::sync::oneshot::channel();
    let listening = tokio::spawn(longest_silence(heartbeats, stop_rx));

    let up = tokio::task::spawn_blocking(move || {
        for kill in 0..KILLS {
            let old = nexlet_pid(&up, "js").expect("it runs");
            let killed = Command::new("kill").args(["-9", &old.to_string()]).status();
            assert!(killed.unwrap().success());
            wait_until("it is back", LIMIT, || {
                let pid = nexlet_pid(&up, "js").filter(|pid| *pid != old);
                let told = nexlets(up.home(), &[]);
                let healthy = told.iter().any(|nexlet| {
                    nexlet["agent_summary"]["type"] == "js" && nexlet["agent_health"] == "healthy"
                });
                if pid.is_some() && healthy {
                    Ok(())
                } else {
                    Err((kill, told))
                }
            })
            .unwrap();
            wait_until("its function answers again", LIMIT, || {
                let output = up.nex(&["req", "echo", "x"]);
                (output.code == 0).then_some(()).ok_or((kill, output))
            })
            .unwrap();
        }
        up
    })
    .await
    .unwrap();

    stop_tx.send(()).unwrap();
    let (heard, longest) = listening.await.unwrap();
    assert!(
        heard >= 1 && longest < HEARTBEAT_LIMIT,
        "{heard}, {longest:?}"
    );
    let after = find(&up, "bystander").unwrap();
    assert_eq!(
        after["metadata"]["pid"], before["metadata"]["pid"],
        "{after}"
    );
    assert_eq!(after["start_time"], before["start_time"], "{after}");
    assert_eq!(after["workload_state"], "running", "{after}");
    let all = list(&up);
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(find(&up, "echo").unwrap()["id"], function["id"]);
    for name in ["bystander", "echo"] {
        up.nex(&["workload", "stop", name]).ok();
    }
}

/// Makes a CA and a certificate for 127.0.0.1 that it has signed; says whether `openssl` is there.
pub(crate) fn make_certificates(folder: &Path) -> bool {
    let openssl = |args: &str| {
        let run = Command::new("openssl")
            .args(args.split_whitespace())
            .current_dir(folder)
            .output()?;
        assert!(run.status.success(), "{run:?}");
        std::io::Result::Ok(())
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    if openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=private"
    ))
    .is_err()
    {
        return false;
    }
    fs::write(folder.join("extensions"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(&format!(
        "req {key} -keyout server.key -out server.csr -subj /CN=nats"
    ))
    .unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
         -extfile extensions -out server.pem",
    )
    .unwrap();
    true
}

#[test]
fn nexlets_of_a_node_on_a_nats_with_a_private_ca_take_work() {
    let home = Home::new();
    if !make_certificates(home.path()) {
        return skip("`openssl` is not on this machine");
    }
    let file = |name: &str| home.path().join(name).display().to_string();
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}",
        file("server.pem"),
        file("server.key")
    );
    let server = NatsServer::builder().config(tls).start();
    let url = format!("nats://127.0.0.1:{}", server.port());
    // Relative, as a person types it; the nexlets run in folders of their own.
    let flags = ["-s", &url, "--nats.tlsca", "ca.pem"];

    let _node = NodeUp::start(&home, "node", &flags);

    run_job(&home, &flags);
    let unknown = home.nex(&["node", "list", "-s", &url]).failed();
    assert_eq!(unknown.code, 3, "{unknown}");
}
