//! The nats-server of a `nex up` dies, is slow, or cannot be restarted for a while: `nex up` and its
//! workloads run on, and commands say what is going on.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nex_testkit::{Home, NexUp, Output, Process, wait_until};
use serde_json::Value;

use crate::{ECHO_JS, LIMIT, devrun, file, find, script, start_shell};

/// Number of kills of nats-server in a row; a few were enough to end `nex up`.
const KILLS: usize = 7;

/// A `nex up` with a service and a function, and a nats-server that can be told to fail.
pub(crate) struct Scene {
    pub(crate) up: NexUp,
    service: Value,
    /// The file with the behaviour of the next starts of the server, one line each; without a line it starts.
    plan: PathBuf,
}

impl Scene {
    fn start() -> Self {
        Self::start_in(Home::new())
    }

    pub(crate) fn start_in(home: Home) -> Self {
        let real = nex_testkit::nats_server().unwrap();
        let plan = home.path().join("plan");
        let wrapper = script(
            &home,
            "wrapper",
            &format!(
                r#"PATH=/usr/bin:/bin
                [ "$1" = --version ] || {{
                    next=$(head -n 1 {plan} 2>/dev/null)
                    sed -i 1d {plan} 2>/dev/null
                    eval "$next"
                }}
                exec {real} "$@""#,
                plan = plan.display(),
                real = real.display()
            ),
        );
        let up = NexUp::builder()
            .home(Arc::new(home))
            .arg("--nats-server")
            .arg(wrapper.display().to_string())
            .start();
        start_shell(&up, "kept", "service", "sleep 1000; true", &[]).ok();
        let echo = file(up.home(), "echo.js", ECHO_JS);
        devrun(&up, &echo, &["--trigger-subject", "echo"]);
        let service = find(&up, "kept").unwrap();
        Self { up, service, plan }
    }

    fn plan(&self, starts: &[&str]) {
        fs::write(&self.plan, starts.join("\n") + "\n").unwrap();
    }

    /// The process of nats-server, once it is there.
    fn server(&self) -> Process {
        wait_until("a nats-server runs", LIMIT, || {
            let mut found = self.up.processes();
            found.retain(|process| {
                let shown = format!("{process:?}");
                shown.contains("nats-server.conf") && !shown.contains("wrapper")
            });
            found.pop().ok_or_else(|| self.up.log())
        })
        .unwrap()
    }

    #[track_caller]
    fn answers(&self) {
        wait_until("the function answers", LIMIT, || {
            let output = self.up.nex(&["req", "echo", "x"]);
            (output.code == 0)
                .then_some(())
                .ok_or_else(|| format!("{output}\n{}", self.up.log()))
        })
        .unwrap();
    }

    /// Checks that the service has its process, the function answers, and `nex up` has not ended.
    #[track_caller]
    pub(crate) fn runs_on(&mut self) {
        self.answers();
        wait_until("the service is listed as running", LIMIT, || {
            let now = find(&self.up, "kept").map_err(|all| format!("{all:?}"))?;
            let same = now["metadata"]["pid"] == self.service["metadata"]["pid"];
            (same && now["workload_state"] == "running")
                .then_some(())
                .ok_or(format!("{now}\n{}", self.up.log()))
        })
        .unwrap();
        assert!(self.up.wait(Duration::ZERO).is_err(), "nex up has ended");
    }
}

fn signal(signal: &str, pid: u32) {
    let pid = pid.to_string();
    let sent = Command::new("kill").args([signal, &pid]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_server_that_dies_while_it_is_restarted_and_then_is_slow_is_waited_for() {
    let mut scene = Scene::start();
    scene.plan(&["exit 1", "kill -9 $$", "sleep 13"]);

    signal("-9", scene.server().pid);

    let list = || scene.up.nex(&["workload", "list"]);
    let refused = wait_until("a command is told", LIMIT, || {
        let output = list();
        if output.code == 0 {
            Err(output)
        } else {
            Ok(output)
        }
    })
    .unwrap();
    assert_eq!(refused.code, 3, "{refused}\n{}", scene.up.log());
    for word in [
        "is being restarted",
        "waiting for it",
        "hint: ",
        "nats-server.log",
    ] {
        assert!(refused.stderr.contains(word), "`{word}`: {refused}");
    }
    scene.runs_on();
}

#[test]
fn a_command_waits_for_a_server_that_is_restarted() {
    let mut scene = Scene::start();
    scene.plan(&["sleep 2"]);

    signal("-9", scene.server().pid);

    let output = scene.up.nex(&["workload", "list"]).ok();
    // The node has reconnected when commands are let through.
    assert!(output.stdout.contains("kept"), "{output}");
    assert!(output.stderr.contains("is being restarted"), "{output}");
    scene.runs_on();
}

#[test]
fn a_server_that_is_killed_again_and_again_is_restarted_again_and_again() {
    let mut scene = Scene::start();
    let mut last = 0;

    for _ in 0..KILLS {
        let server = wait_until("it is there again", LIMIT, || {
            let server = scene.server();
            (server.pid != last)
                .then_some(server)
                .ok_or_else(|| scene.up.log())
        });
        last = server.unwrap().pid;
        signal("-9", last);
    }

    scene.runs_on();
}

/// Everything in the data folder that a restart might want, and the port, is of no use for a while.
#[test]
fn a_restart_needs_neither_files_nor_a_free_port_at_once() {
    let mut scene = Scene::start();
    let data = scene.up.data_dir();
    let port: u16 = scene.up.url().rsplit(':').next().unwrap().parse().unwrap();
    let kill_while_up_is_stopped = |scene: &Scene, damage: &dyn Fn()| {
        let server = scene.server().pid;
        signal("-STOP", scene.up.pid());
        signal("-9", server);
        wait_until("it is dead", LIMIT, || {
            let alive = scene.up.processes().iter().any(|it| it.pid == server);
            (!alive).then_some(()).ok_or("alive")
        })
        .unwrap();
        damage();
        signal("-CONT", scene.up.pid());
    };

    kill_while_up_is_stopped(&scene, &|| {
        for name in ["port", "ports/x", "server.json", "nats-server.conf"] {
            fs::remove_file(data.join(name)).ok();
        }
        fs::create_dir(data.join("port")).unwrap();
        fs::create_dir(data.join("ports/x")).unwrap();
        fs::create_dir(data.join("server.json")).unwrap();
    });
    scene.runs_on();

    fs::remove_dir(data.join("port")).unwrap();
    fs::write(data.join("port"), "garbage").unwrap();
    fs::remove_dir_all(data.join("ports")).unwrap();
    fs::write(data.join("ports"), "a file").unwrap();
    signal("-9", scene.server().pid);
    scene.runs_on();

    let taken = std::cell::RefCell::new(None);
    kill_while_up_is_stopped(&scene, &|| {
        let free = wait_until("the port is free", LIMIT, || {
            TcpListener::bind(("127.0.0.1", port))
        });
        *taken.borrow_mut() = Some(free.unwrap());
    });
    wait_until("it is said", LIMIT, || {
        let log = scene.up.log();
        log.contains(&format!("port {port} of 127.0.0.1 is in use"))
            .then_some(())
            .ok_or(log)
    })
    .unwrap();
    taken.take();
    scene.runs_on();
}

#[test]
fn the_supervisor_of_the_server_may_die_or_be_suspended() {
    let mut scene = Scene::start();
    let supervisor = |scene: &Scene| {
        let status = format!("/proc/{}/status", scene.server().pid);
        let status = fs::read_to_string(status).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.unwrap().trim().parse::<u32>().unwrap()
    };

    signal("-9", supervisor(&scene));
    scene.runs_on();

    let server = scene.server().pid;
    signal("-STOP", supervisor(&scene));
    signal("-9", server);
    scene.runs_on();
}

/// Runs a command until it succeeds.
fn until_ok(ask: &dyn Fn() -> Output) -> Vec<Output> {
    let mut seen = Vec::new();
    let began = Instant::now();
    while began.elapsed() < LIMIT && seen.last().is_none_or(|it: &Output| it.code != 0) {
        seen.push(ask());
    }
    seen
}

/// Commands that find a `nex up` that is not ready wait for it, also where they have its address;
/// they never go to another server.
#[test]
fn commands_wait_for_a_nex_up_that_restarts() {
    let scene = Scene::start();
    let plan = scene.plan.clone();
    fs::write(&plan, "sleep 2\n").unwrap();
    let url = scene.up.url().to_owned();
    let home = scene.up.kill();
    let list = || home.nex(&["workload", "list"]);
    let by_flag = || home.nex(&["workload", "list", "-s", &url]);
    let by_context = || home.nex(&["workload", "list", "--context", "nex"]);
    let by_variable = || {
        let mut command = home.nex_command(&["workload", "list"]).unwrap();
        home.run(command.env("NATS_URL", &url)).unwrap()
    };

    for killed in [list(), by_flag(), by_variable(), by_context()] {
        assert_eq!(killed.code, 3, "{killed}");
        for word in ["was killed", "nex up --data-dir", "hint: "] {
            assert!(killed.stderr.contains(word), "`{word}`: {killed}");
        }
    }
    thread::scope(|scope| {
        let restarting = scope.spawn(|| {
            let wrapper = home.path().join("wrapper");
            NexUp::builder()
                .home(Arc::clone(&home))
                .arg("--nats-server")
                .arg(wrapper.display().to_string())
                .start()
        });
        let named = scope.spawn(|| until_ok(&by_flag));
        let mut seen = until_ok(&list);
        seen.extend(named.join().unwrap());
        let up = restarting.join().unwrap();
        for output in &seen {
            assert!(!output.stderr.contains("4222\n"), "{output}");
        }
        let waited = seen.iter().filter(|it| it.stderr.contains("is starting"));
        assert!(waited.count() >= 2, "{seen:?}");
        assert!(
            seen.iter().all(|it| !it.stderr.contains("refused")),
            "{seen:?}"
        );
        let last = seen.last().unwrap();
        assert!(last.code == 0 && last.stdout.contains("kept"), "{last}");
        assert!(up.stop().unwrap().success());
    });
}

/// As a service manager does it: an orderly end, and another start at once.
#[test]
fn no_command_misses_a_nex_up_that_is_stopped_and_started() {
    let scene = Scene::start();
    let home = Arc::clone(scene.up.home());
    let over = AtomicBool::new(false);
    let (ask, over) = (|| home.nex(&["node", "list"]), &over);

    thread::scope(|scope| {
        let asking = scope.spawn(move || {
            let mut seen = vec![ask()];
            let began = Instant::now();
            while !over.load(Ordering::Relaxed) && began.elapsed() < 4 * LIMIT {
                seen.push(ask());
            }
            seen
        });
        assert!(scene.up.stop().unwrap().success());
        let stopped = home.nex(&["node", "list"]);
        let told = stopped.stderr.contains("has just been stopped");
        assert!(stopped.code == 3 && told, "{stopped}");
        for _ in 0..2 {
            let up = NexUp::builder().home(Arc::clone(&home)).start();
            assert!(up.stop().unwrap().success());
        }
        let up = NexUp::builder().home(Arc::clone(&home)).start();
        over.store(true, Ordering::Relaxed);
        for output in asking.join().unwrap() {
            assert!(!output.stderr.contains("4222"), "{output}");
            let waited = output.stderr.contains("waiting for it");
            assert!(output.code == 0 || waited, "{output}");
        }
        drop(up);
    });
}
