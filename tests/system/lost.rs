//! Commands that lose their connection to NATS: those that follow go on, all others end with exit
//! code 3 and plain words, wherever the connection breaks.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nex_testkit::{Home, NexUp, Output, wait_until};

use crate::{ECHO_JS, LIMIT, devrun, file, script, start_shell};

/// A command that runs beside the test, with its output in files.
struct Running {
    child: Child,
    home: Arc<Home>,
    name: &'static str,
}

impl Running {
    fn start(up: &NexUp, name: &'static str, args: &[&str]) -> Self {
        let home = Arc::clone(up.home());
        let file = |end| fs::File::create(home.path().join(format!("{name}.{end}"))).unwrap();
        let mut command = home.nex_command(args).unwrap();
        let child = command.stdout(file("out")).stderr(file("err")).spawn();
        let child = child.unwrap();
        Self { child, home, name }
    }

    fn printed(&self, end: &str) -> String {
        let path = self.home.path().join(format!("{}.{end}", self.name));
        fs::read_to_string(path).unwrap()
    }

    fn shows(&self, text: &str) {
        wait_until(text, LIMIT, || {
            let printed = self.printed("out");
            printed.contains(text).then_some(()).ok_or(printed)
        })
        .unwrap();
    }

    /// Returns the number of times that a text was printed.
    fn count(&self, text: &str) -> usize {
        self.printed("out").matches(text).count()
    }

    fn exit_code(&mut self) -> Option<i32> {
        let ended = wait_until("the command ends", LIMIT, || {
            self.child.try_wait().ok().flatten()
        });
        ended.unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Kills the nats-server of a `nex up` and waits until the node answers again.
fn kill_server(up: &NexUp) {
    let is_server = |command: &str| command.contains("nats-server") && command.contains("--config");
    let processes = up.processes();
    let mut servers = processes
        .iter()
        .filter(|process| is_server(&process.command) && !process.command.contains("supervise"));
    let server = servers.next().expect("a nats-server");
    let sent = Command::new("kill")
        .args(["-9", &server.pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
    wait_until("the node answers again", LIMIT, || {
        let nodes = up.nex(&["node", "list", "--json"]);
        (nodes.code == 0).then_some(()).ok_or(nodes.stderr)
    })
    .unwrap();
}

#[test]
fn what_follows_goes_on_over_restarts_of_nats_server() {
    let up = NexUp::start();
    let gate = up.home().path().join("gate");
    // Prints a line for each number that the test writes, and ends with the last one.
    let job = format!(
        "echo line-0; for n in 1 2 3; do until test -e {gate}-$n; do sleep 0.02; done; \
         echo line-$n; done; printf tail; exit 7",
        gate = gate.display()
    );
    let open = |number: u32| fs::write(format!("{}-{number}", gate.display()), "").unwrap();
    let mut logs = Running::start(&up, "logs", &["logs", "-f"]);
    let mut events = Running::start(&up, "events", &["events", "-f"]);
    let path = script(up.home(), "job.sh", &job);
    let path = path.to_str().unwrap();
    let mut follow = Running::start(
        &up,
        "follow",
        &["devrun", path, "--lifecycle", "job", "--follow"],
    );
    follow.shows("line-0");
    let waited = format!(
        "until test -e {}-3; do sleep 0.02; done; exit 9",
        gate.display()
    );
    let request =
        serde_json::json!({ "uri": "file:///bin/sh", "argv": ["-c", waited] }).to_string();
    let start = [
        "workload",
        "start",
        "--name",
        "waited",
        "--lifecycle",
        "job",
        "--wait",
    ];
    let start = [start.as_slice(), &["--start-request", &request]].concat();
    let mut wait = Running::start(&up, "wait", &start);
    wait.shows("successfully started");
    logs.shows("line-0");

    for number in [1, 2] {
        kill_server(&up);
        open(number);
        logs.shows(&format!("line-{number}"));
        follow.shows(&format!("line-{number}"));
    }
    // The end itself comes while there is no server, or just after.
    kill_server(&up);
    open(3);

    assert_eq!(follow.exit_code(), Some(7), "{}", follow.printed("err"));
    assert_eq!(wait.exit_code(), Some(9), "{}", wait.printed("err"));
    logs.shows("tail");
    for line in ["line-0", "line-1", "line-2", "line-3", "tail"] {
        assert_eq!(follow.count(line), 1, "{line}: {}", follow.printed("out"));
        assert_eq!(logs.count(line), 1, "{line}: {}", logs.printed("out"));
    }
    wait_until("both ends are among the events", LIMIT, || {
        let ends = events.count("WORKLOADSTOPPED");
        (ends == 2).then_some(()).ok_or(events.printed("out"))
    })
    .unwrap();
    for running in [&mut logs, &mut events] {
        let ended = running.child.try_wait().unwrap();
        assert_eq!(ended, None, "{}", running.printed("err"));
        let said = running.printed("err");
        assert!(said.contains("lost the connection to NATS"), "{said}");
    }
}

/// Passes one connection on, and cuts it when the client has published often enough.
struct Cutter {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Cutter {
    /// `after`: with which publication of the client the connection is cut.
    fn new(target: u16, after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::clone(&cut);
        thread::spawn(move || {
            let Ok((client, _)) = listener.accept() else {
                return;
            };
            // Nobody comes back after the cut.
            drop(listener);
            let server = TcpStream::connect(("127.0.0.1", target)).unwrap();
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                std::io::copy(&mut from, &mut to).ok();
                to.shutdown(Shutdown::Both).ok();
            });
            if pass(&client, &server, after) {
                is_cut.store(true, Ordering::Relaxed);
            }
            client.shutdown(Shutdown::Both).ok();
            server.shutdown(Shutdown::Both).ok();
        });
        Self { port, cut }
    }
}

/// Passes on what the client sends, up to its publication of that number; returns whether that came.
fn pass(client: &TcpStream, mut server: &TcpStream, after: usize) -> bool {
    let mut lines = BufReader::new(client);
    let mut published = 0;
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return false;
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        let is_publication = text.starts_with("PUB ") || text.starts_with("HPUB ");
        published += usize::from(is_publication);
        if is_publication && published == after {
            return true;
        }
        let mut body = Vec::new();
        if is_publication {
            let bytes: usize = text.split_whitespace().last().unwrap().parse().unwrap();
            body.resize(bytes + 2, 0);
            if lines.read_exact(&mut body).is_err() {
                return false;
            }
        }
        if server
            .write_all(&line)
            .and_then(|()| server.write_all(&body))
            .is_err()
        {
            return false;
        }
    }
}

/// Upper bound of the publications of a command that are tried; only an upload has more.
const MOST_CUTS: usize = 8;

/// Commands that publish something when they have their result.
const FAREWELLS: [&str; 3] = ["logs", "events", "dlq"];

/// Each of these publishes several times: the connection is cut at each of them in turn.
#[test]
fn a_lost_connection_is_said_in_plain_words_with_exit_code_3() {
    let up = NexUp::start();
    let echo = file(up.home(), "echo.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "echo"]);
    start_shell(&up, "service", "service", "sleep 1000", &[]).ok();
    let fresh = file(up.home(), "fresh.js", "(s, p) => 'fresh'");
    let request = r#"{"uri":"file:///bin/true"}"#;
    let (fresh, echo) = (fresh.to_str().unwrap(), echo.to_str().unwrap());
    let commands: [&[&str]; 14] = [
        &[
            "workload",
            "start",
            "--lifecycle",
            "job",
            "--start-request",
            request,
        ],
        &["devrun", fresh, "--trigger-subject", "fresh"],
        // Replaces the one that runs.
        &["devrun", echo, "--trigger-subject", "echo"],
        &["workload", "clone", "service"],
        &["workload", "list"],
        &["workload", "info", "service"],
        &["workload", "stop", "no-such-workload-id-00"],
        &["node", "list"],
        &["node", "info", "nex"],
        &["logs", "echo"],
        &["events"],
        &["invoke", "echo", "x"],
        &["req", "echo", "x"],
        &["dlq", "list"],
    ];
    for command in commands {
        let mut number = 1;
        loop {
            // New each time: the upload of a file waits for an earlier one of it that broke off.
            file(up.home(), "fresh.js", &format!("(s, p) => {number}"));
            let (cut, output) = interrupted(&up, command, number);
            if !cut || number == MOST_CUTS {
                assert!(number > 1, "{command:?} publishes nothing");
                break;
            }
            if output.code == 0 && FAREWELLS.contains(&command[0]) {
                // The cut came behind the result, when the command deleted its consumer.
                let whole = up.nex(command).ok().stdout;
                assert!(
                    whole.starts_with(&output.stdout),
                    "{command:?} at {number}: {output}"
                );
                number += 1;
                continue;
            }
            let told = &output.stderr;
            assert_eq!(output.code, 3, "{command:?} at {number}: {output}");
            assert!(
                told.contains("lost the connection to NATS"),
                "{command:?} at {number}: {output}"
            );
            for internal in ["channel closed", "pipe", "EOF", "no more"] {
                assert!(
                    !told.contains(internal),
                    "{command:?} at {number}: {output}"
                );
            }
            number += 1;
        }
    }
}

fn interrupted(up: &NexUp, command: &[&str], number: usize) -> (bool, Output) {
    let port = up.url().rsplit(':').next().unwrap().parse().unwrap();
    let cutter = Cutter::new(port, number);
    let url = format!("nats://127.0.0.1:{}", cutter.port);
    let creds = up.data_dir().join("cli.creds");
    let mut args = command.to_vec();
    args.extend(["-s", &url]);
    if creds.exists() {
        args.extend(["--creds", creds.to_str().unwrap()]);
    }
    let output = up.nex(&args);
    (cutter.cut.load(Ordering::Relaxed), output)
}

/// The last output of a workload has no line feed and comes just before its end, or while it is
/// stopped.
#[test]
fn follow_shows_what_comes_last() {
    let up = NexUp::start();
    let server = nex_testkit::NatsServer::builder().jetstream(true).start();
    // A node on a NATS that keeps no feeds: lines are only live.
    let home = Home::new();
    let node = ["-s", server.url()];
    let _node = crate::node::NodeUp::start(&home, "n1", &node);
    for (name, shell) in [
        ("plain", "printf tail"),
        ("after-lines", "seq 1 2000; printf tail"),
        ("stderr", "echo one; printf tail >&2"),
        ("late", "echo one; sleep 0.3; printf ta; printf il"),
        ("both", "printf tail; printf other >&2; exit 0"),
    ] {
        let job = script(up.home(), &format!("{name}.sh"), shell);
        let args = [
            "devrun",
            job.to_str().unwrap(),
            "--lifecycle",
            "job",
            "--follow",
        ];
        let stored = up.nex(&args).ok();
        let live = home.nex(&[args.as_slice(), &node].concat()).ok();
        for (source, output) in [("stored", stored), ("live", live)] {
            assert_eq!(
                output.stdout.matches("| tail").count(),
                1,
                "{name}, {source}: {output}"
            );
        }
    }

    // A service that says something while it ends: stopped by somebody else, and by Ctrl-C.
    let service = "trap 'printf bye; exit 0' INT TERM; echo it runs; while :; do sleep 0.05; done";
    let service = script(up.home(), "service.sh", service);
    let args = ["devrun", service.to_str().unwrap(), "--follow"];
    for by_signal in [false, true] {
        let mut follow = Running::start(&up, "service", &args);
        follow.shows("it runs");
        if by_signal {
            let pid = follow.child.id().to_string();
            Command::new("kill").args(["-INT", &pid]).status().unwrap();
        } else {
            up.nex(&["workload", "stop", "service"]).ok();
        }
        assert_eq!(follow.exit_code(), Some(0), "{}", follow.printed("err"));
        assert_eq!(follow.count("| bye"), 1, "by a signal: {by_signal}");
    }
}
