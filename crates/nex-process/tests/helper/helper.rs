//! The programs that the tests of `nex-process` start.
#![expect(
    clippy::unwrap_used,
    reason = "a program for tests, which fail when it panics"
)]

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nex_process::{Command, Exit, Launcher, Output, Reaper, Tree};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [nex_process::SUPERVISE_ARG] => nex_process::supervisor::main(),
        ["owner", mark, script] => host(mark, script, Watching::Nothing),
        ["nexlet", mark, script] => host(mark, script, Watching::Lifeline),
        ["node", mark, script] => node(mark, script),
        ["lifeline", file] => lifeline(file),
        ["files"] => files(),
        _ => ExitCode::from(64),
    }
}

enum Watching {
    Nothing,
    Lifeline,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn start(mark: &str, script: &str) -> Tree {
    let launcher = Launcher::of_this_program().unwrap();
    let mut command = Command::new("/bin/sh");
    command.args = vec!["-c".into(), script.into()];
    command.env = vec![
        ("PATH".into(), "/usr/bin:/bin".into()),
        ("MARK".into(), mark.into()),
    ];
    command.orphan_grace = Duration::from_secs(1);
    launcher.spawn(command).await.unwrap()
}

/// Hosts one tree until it is killed, or until its lifeline is cut.
fn host(mark: &str, script: &str, watching: Watching) -> ExitCode {
    let _reaper = Reaper::install().unwrap();
    runtime().block_on(async {
        let _tree = start(mark, script).await;
        match watching {
            Watching::Nothing => std::future::pending().await,
            Watching::Lifeline => nex_process::lifeline().unwrap().await,
        }
    });
    ExitCode::SUCCESS
}

/// Hosts a nexlet, as a node does, until it is killed.
fn node(mark: &str, script: &str) -> ExitCode {
    let _reaper = Reaper::install().unwrap();
    runtime().block_on(async {
        let mut command = Command::new("/proc/self/exe");
        command.args = vec!["nexlet".into(), mark.into(), script.into()];
        command.stderr = Output::Inherit;
        let _nexlet = nex_process::spawn_lifeline(command).await.unwrap();
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

/// Says how many files it may have open, and how many its workload, after it was started with
/// fewer than the system grants.
fn files() -> ExitCode {
    let granted = getrlimit(Resource::Nofile);
    let fewer = Rlimit {
        current: Some(128),
        ..granted
    };
    setrlimit(Resource::Nofile, fewer).unwrap();
    let _reaper = Reaper::install().unwrap();
    let own = getrlimit(Resource::Nofile)
        == Rlimit {
            current: granted.maximum,
            ..granted
        };
    runtime().block_on(async {
        let mut tree = start("", "exit $(ulimit -n)").await;
        match tree.wait().await.exit {
            Exit::Code(128) if own => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    })
}

/// Says in a file that it runs, and ends with its lifeline.
fn lifeline(file: &str) -> ExitCode {
    runtime().block_on(async {
        let lifeline = nex_process::lifeline().unwrap();
        std::fs::write(Path::new(file), "up").unwrap();
        lifeline.await;
    });
    ExitCode::from(7)
}
