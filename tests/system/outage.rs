//! NATS goes away and comes back under a running nexus: everything is there again, once.

use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    process::Child,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nex_testkit::{Home, NatsServer, bin, mentioning, wait_until};
use serde_json::{Value, json};

use crate::{ECHO_JS, LIMIT, file, node::NodeUp};

const SERVICES: usize = 5;

/// Longer than the longest pause between two attempts to reconnect.
const OUTAGE: Duration = Duration::from_secs(3);

/// Passes connections on to a port that can change: the address that clients know stays.
pub(crate) struct Forwarder {
    port: u16,
    target: Arc<AtomicU16>,
    closed: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Forwarder {
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(AtomicU16::new(target));
        let open = Arc::new(Mutex::new(Vec::new()));
        let closed = Arc::new(AtomicBool::new(false));
        let refuses = Arc::clone(&closed);
        let (to, streams) = (Arc::clone(&target), Arc::clone(&open));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if refuses.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", to.load(Ordering::Relaxed)))
                else {
                    continue;
                };
                let pairs = [(&client, &server), (&server, &client)];
                for (from, to) in pairs.map(|(a, b)| (a.try_clone(), b.try_clone())) {
                    let (mut from, mut to) = (from.unwrap(), to.unwrap());
                    thread::spawn(move || {
                        // Whichever side ends, both do.
                        io::copy(&mut from, &mut to).ok();
                        to.shutdown(Shutdown::Both).ok();
                    });
                }
                streams.lock().unwrap().extend([client, server]);
            }
        });
        Self {
            port,
            target,
            closed,
            open,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// From now on it takes nobody new; what is open goes on.
    pub(crate) fn close_to_others(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// From now on to another port; what is open is cut.
    fn turn_to(&self, target: u16) {
        self.target.store(target, Ordering::Relaxed);
        for stream in self.open.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

/// A node behind the forwarder.
struct Nexus<'a> {
    home: &'a Home,
    url: String,
}

impl Nexus<'_> {
    fn start(&self, name: &str) {
        let shell = format!("sleep 1000; : mark-{name}-");
        let request = json!({ "uri": "file:///bin/sh", "argv": ["-c", shell] }).to_string();
        let args = ["workload", "start", "-s", &self.url, "--name", name];
        self.home
            .nex(&[args.as_slice(), &["--start-request", &request]].concat())
            .ok();
    }

    fn list(&self) -> Result<Vec<Value>, String> {
        let output = self
            .home
            .nex(&["workload", "list", "-s", &self.url, "--json"]);
        if output.code != 0 {
            return Err(output.stderr);
        }
        let nodes: Vec<Vec<Value>> = serde_json::from_str(&output.stdout).unwrap();
        Ok(nodes.into_iter().flatten().collect())
    }

    /// Ids and processes of what runs, in order. Fails until it is that many.
    fn running(&self, wanted: usize) -> Result<Vec<(String, String)>, String> {
        let all = self.list()?;
        let mut running: Vec<(String, String)> = all
            .iter()
            .filter(|workload| workload["workload_state"] == "running")
            .map(|workload| {
                (
                    workload["id"].to_string(),
                    workload["metadata"]["pid"].to_string(),
                )
            })
            .collect();
        running.sort();
        if running.len() == wanted && all.len() == wanted {
            Ok(running)
        } else {
            Err(format!("{all:?}"))
        }
    }
}

#[test]
fn everything_is_there_again_when_nats_is() {
    let home = Home::new();
    let mut server = NatsServer::start();
    let forwarder = Forwarder::to(server.port());
    let url = forwarder.url();
    let _node = NodeUp::start(&home, "n1", &["-s", &url]);
    let nexus = Nexus { home: &home, url };
    for number in 0..SERVICES {
        nexus.start(&format!("s{number}"));
    }
    let before = nexus.running(SERVICES).unwrap();

    let again = |what: &str| {
        let returned = Instant::now();
        let after = wait_until("all are listed again", LIMIT, || nexus.running(SERVICES)).unwrap();
        println!(
            "{what}: all are listed again after {:?}",
            returned.elapsed()
        );
        assert_eq!(after, before, "the same processes");
        for number in 0..SERVICES {
            let marked = mentioning(home.path()).into_iter().filter(|process| {
                let shown = format!("{process:?}");
                shown.contains(&format!("mark-s{number}-")) && !shown.contains("supervise")
            });
            assert_eq!(marked.count(), 1, "s{number}");
        }
    };

    server.kill();
    assert!(nexus.list().is_err(), "NATS is gone");
    let gone = Instant::now();
    wait_until("it is gone for a while", LIMIT, || {
        (gone.elapsed() >= OUTAGE).then_some(()).ok_or("not yet")
    })
    .unwrap();
    server.restart();
    again("a server that was started again");

    let other = NatsServer::start();
    assert_ne!(other.port(), server.port());
    server.kill();
    forwarder.turn_to(other.port());
    again("another server on another port");

    nexus.start("late");
    nexus.running(SERVICES + 1).unwrap();
}

/// What a node that keeps its state in NATS has, and what it is asked for while NATS is not there.
#[test]
fn nothing_that_was_acknowledged_is_lost_where_nats_keeps_it() {
    let home = Home::new();
    let mut server = NatsServer::builder().jetstream(true).start();
    let url = server.url().to_owned();
    let more = [
        "-s",
        &url,
        "--state=kv",
        "--allow-remote-agent-registration",
    ];
    let _node = NodeUp::start(&home, "n1", &more);
    let echo = file(&home, "echo.js", ECHO_JS);
    let devrun = [
        "devrun",
        echo.to_str().unwrap(),
        "--trigger-subject",
        "echo",
    ];
    home.nex(&[devrun.as_slice(), &["-s", &url]].concat()).ok();
    let timers = home
        .command(bin("custom-nexlet"))
        .arg("nexus")
        .env("NATS_URL", &url)
        .spawn();
    let mut timers = Ended(timers.unwrap());
    let timer = json!({ "every_ms": 50, "text": "tick" }).to_string();
    let start = [
        "workload", "start", "-s", &url, "--type", "timer", "--name", "egg",
    ];
    wait_until("the remote nexlet takes work", LIMIT, || {
        let started = home.nex(&[start.as_slice(), &["--start-request", &timer]].concat());
        (started.code == 0).then_some(()).ok_or(started)
    })
    .unwrap();
    let nexus = Nexus {
        home: &home,
        url: url.clone(),
    };
    let named = |name: &str| {
        let all = nexus.list()?;
        let mut found = all.iter().filter(|workload| workload["name"] == name);
        let running = |it: &&Value| {
            ["running", "warm"]
                .iter()
                .any(|up| it["workload_state"] == *up)
        };
        match (found.next().filter(running), found.next()) {
            (Some(one), None) => Ok(one.clone()),
            _ => Err(format!("{name}: {all:?}")),
        }
    };
    let before = ["echo", "egg"].map(|name| named(name).unwrap());

    let acknowledged: Mutex<Vec<String>> = Mutex::default();
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let deploy = || {
        while !over.load(Ordering::Relaxed) {
            let name = format!("d{}", next.fetch_add(1, Ordering::Relaxed));
            let shell = format!("sleep 1000; : mark-{name}-");
            let request = json!({ "uri": "file:///bin/sh", "argv": ["-c", shell] }).to_string();
            let args = ["workload", "start", "-s", &url, "--name", &name];
            let started = home.nex(&[args.as_slice(), &["--start-request", &request]].concat());
            if started.code == 0 {
                acknowledged.lock().unwrap().push(name);
            }
        }
    };
    let deployed = |count: usize| {
        wait_until("deploys are under way", LIMIT, || {
            let done = acknowledged.lock().unwrap().len();
            (done >= count).then_some(done).ok_or(done)
        })
        .unwrap()
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(deploy);
        }
        let done = deployed(4);
        server.kill();
        let gone = Instant::now();
        wait_until("it is gone for a while", LIMIT, || {
            (gone.elapsed() >= OUTAGE).then_some(()).ok_or("not yet")
        })
        .unwrap();
        server.restart();
        deployed(done + 4);
        over.store(true, Ordering::Relaxed);
    });

    wait_until("all that was acknowledged runs", LIMIT, || {
        let names = acknowledged.lock().unwrap().clone();
        names.iter().try_for_each(|name| named(name).map(drop))
    })
    .unwrap();
    for name in acknowledged.lock().unwrap().iter() {
        let marked = mentioning(home.path()).into_iter().filter(|process| {
            let shown = format!("{process:?}");
            shown.contains(&format!("mark-{name}-")) && !shown.contains("supervise")
        });
        assert_eq!(marked.count(), 1, "{name}");
    }
    for old in &before {
        let name = old["name"].as_str().unwrap();
        let now = wait_until("it is there again", LIMIT, || named(name)).unwrap();
        assert_eq!(
            (&now["id"], &now["start_time"]),
            (&old["id"], &old["start_time"])
        );
    }
    wait_until("the function answers again", LIMIT, || {
        let output = home.nex(&["req", "echo", "x", "-s", &url]);
        (output.code == 0).then_some(()).ok_or(output)
    })
    .unwrap();
    timers.0.kill().unwrap();
}

/// A process that is ended with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
