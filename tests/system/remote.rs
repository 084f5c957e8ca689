//! Nexlets on other machines than their node: what the node reaches, they may not.

use std::{
    fs,
    process::{Child, Command},
};

use nex_testkit::{Home, NatsServer, terminate, wait_until};
use serde_json::json;

use crate::{ECHO_JS, LIMIT, file, node::NodeUp, outage::Forwarder};

/// A remote nexlet, ended with the test.
struct Remote(Child);

impl Remote {
    fn start(home: &Home, workload_type: &str, url: &str) -> Self {
        let args = [
            "nexlet",
            "run",
            workload_type,
            "--remote",
            "--nexus",
            "nexus",
        ];
        let stderr = home.path().join(format!("{workload_type}.stderr"));
        let child = home
            .nex_command(&[args.as_slice(), &["-s", url]].concat())
            .unwrap()
            .stderr(fs::File::create(stderr).unwrap())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        terminate(self.0.id()).ok();
        self.0.wait().ok();
    }
}

/// The node's address takes only those who are there already: for nexlets elsewhere it is dead, as a
/// node's `127.0.0.1` is.
#[test]
fn a_remote_nexlet_and_its_workloads_use_its_own_address() {
    let home = Home::new();
    let server = NatsServer::builder().jetstream(true).start();
    let (node_way, own_way) = (Forwarder::to(server.port()), Forwarder::to(server.port()));
    let more = [
        "-s",
        &node_way.url(),
        "--allow-remote-agent-registration",
        "--disable-native-start",
    ];
    let _node = NodeUp::start(&home, "n1", &more);
    node_way.close_to_others();
    let local = home.processes().into_iter().find(|process| {
        let shown = format!("{process:?}");
        shown.contains("nexlet") && shown.contains("js") && shown.contains("--data-dir")
    });
    // It does not come back, so functions go to the remote nexlet.
    let local = local.expect("the node's own nexlet").pid.to_string();
    let killed = Command::new("kill").args(["-9", &local]).status();
    assert!(killed.unwrap().success());

    let url = own_way.url();
    let _native = Remote::start(&home, "native", &url);
    let _js = Remote::start(&home, "js", &url);

    let told = || {
        ["native", "js"].map(|name| {
            fs::read_to_string(home.path().join(format!("{name}.stderr"))).unwrap_or_default()
        })
    };
    let seen = home.path().join("seen");
    let shell = format!(
        r#"echo "$NATS_URL $NEX_WORKLOAD_NATS_SERVERS" >{}; exit 7"#,
        seen.display()
    );
    let request = json!({ "uri": "file:///bin/sh", "argv": ["-c", shell] }).to_string();
    let job = [
        "workload",
        "start",
        "-s",
        &url,
        "--lifecycle",
        "job",
        "--wait",
    ];
    wait_until("a program runs there", LIMIT, || {
        let output = home.nex(&[job.as_slice(), &["--start-request", &request]].concat());
        (output.code == 7).then_some(()).ok_or((output, told()))
    })
    .unwrap();
    assert_eq!(fs::read_to_string(seen).unwrap(), format!("{url} {url}\n"));
    let echo = file(&home, "echo.js", ECHO_JS);
    let devrun = [
        "devrun",
        echo.to_str().unwrap(),
        "--trigger-subject",
        "echo",
        "-s",
        &url,
    ];
    wait_until("a function runs there", LIMIT, || {
        let output = home.nex(&devrun);
        (output.code == 0).then_some(()).ok_or((output, told()))
    })
    .unwrap();
    let reply = home.nex(&["req", "echo", "x", "-s", &url]).ok();
    assert!(reply.stdout.contains(r#""payload":"x""#), "{reply}");
}
