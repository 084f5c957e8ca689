//! The main job end to end, as a newcomer would do it: nothing is faked and nothing is left behind.

use crate::{
    setup,
    shell::{cargo, complain, run as run_shown, say, show},
    workspace::Workspace,
};
use anyhow::{Context as _, bail, ensure};
use nex_testkit::{Home, NexUp, Output, wait_until};
use std::{path::Path, sync::Arc, time::Duration};

/// How long a service may take from its start to its first answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// How long processes may take to be gone once `nex up` has ended, which ends them first.
const GONE_LIMIT: Duration = Duration::from_secs(2);

/// Runs the demo; `release` chooses the build.
pub(crate) fn run(workspace: &Workspace, release: bool) -> anyhow::Result<()> {
    setup::run(workspace)?;
    let mut build = cargo(workspace);
    build.args(["build", "-p", "nex", "-p", "echo-service"]);
    if release {
        build.arg("--release");
    }
    run_shown(&mut build)?;

    let bin_dir = workspace.bin_dir(release);
    let home = Arc::new(Home::new().with_bin_dir(bin_dir.clone()));
    say(&format!(
        "\n# nex and nats-server, in the temporary folder {}",
        home.path().display()
    ));
    say("$ nex up --port 0 --data-dir data");
    let up = NexUp::builder().home(Arc::clone(&home)).try_start()?;
    say(up.log().trim_end());

    let demo = Demo {
        home: &home,
        root: workspace.root(),
    };
    if let Err(error) = demo.play(&bin_dir.join("echo-service")) {
        complain(&format!(
            "\nwhat `nex up` printed:\n{}",
            up.log().trim_end()
        ));
        complain("\nwhat was running:");
        for process in home.processes() {
            complain(&format!("  {process}"));
        }
        return Err(error);
    }

    say("\n# SIGTERM ends nexlets, node and server");
    let pid = up.pid();
    say(&format!("$ kill {pid}"));
    let status = up.stop()?;
    ensure!(status.success(), "`nex up` ended with {status}");
    wait_until("the end of every process", GONE_LIMIT, || {
        let left = home.processes();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })?;
    say("nothing is left running; the demo worked");
    Ok(())
}

/// The part between start and stop: a user at a prompt.
struct Demo<'a> {
    home: &'a Home,
    root: &'a Path,
}

impl Demo<'_> {
    fn play(&self, echo_service: &Path) -> anyhow::Result<()> {
        say("\n# a JavaScript function, deployed with one command");
        self.nex(&[
            "devrun",
            "examples/functions/greet.js",
            "--trigger-subject",
            "greet",
        ])?;
        let greeting = self.nex(&["req", "greet", "world"])?;
        ensure!(
            greeting.stdout.contains("Hello, world!"),
            "that is no greeting"
        );

        say("\n# a native service, deployed the same way");
        let echo_service = echo_service
            .to_str()
            .context("the path of the build is not UTF-8")?;
        self.nex(&["devrun", echo_service, "--name", "echo"])?;
        let echo = self.answer(&["req", "svc.echo", "hello"])?;
        ensure!(echo.stdout.trim_end() == "hello", "that is no echo");

        say("\n# what runs, and what it said");
        let list = self.nex(&["workload", "list"])?;
        for name in ["greet", "echo"] {
            ensure!(list.stdout.contains(name), "`{name}` is not in the list");
        }
        for (name, line) in [
            ("greet", "greeting world on greet"),
            ("echo", "listening on svc.echo"),
        ] {
            let logs = self.nex(&["logs", name])?;
            ensure!(
                logs.stdout.contains(line),
                "`{line}` is not in the logs of `{name}`"
            );
        }

        say("\n# the end");
        self.nex(&["workload", "stop", "greet"])?;
        self.nex(&["workload", "stop", "echo"])?;
        let list = self.nex(&["workload", "list"])?;
        ensure!(
            !list.stdout.contains("greet"),
            "`greet` is still in the list"
        );
        Ok(())
    }

    /// Runs one command as typed in the checkout, shows what it prints, and fails if it does.
    fn nex(&self, args: &[&str]) -> anyhow::Result<Output> {
        let output = self.run(args)?;
        narrate(args, &output);
        if output.code != 0 {
            bail!("`nex {}` ended with {}", args.join(" "), output.code);
        }
        Ok(output)
    }

    /// Like [`nex`](Self::nex), again and again until it succeeds: a process that has just started
    /// needs a moment until it listens.
    fn answer(&self, args: &[&str]) -> anyhow::Result<Output> {
        let output = wait_until("an answer", ANSWER_LIMIT, || {
            self.run(args)
                .map_err(|error| format!("{error:#}"))
                .and_then(|output| {
                    if output.code == 0 {
                        Ok(output)
                    } else {
                        Err(output.to_string())
                    }
                })
        })?;
        narrate(args, &output);
        Ok(output)
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.home
            .run(self.home.nex_command(args)?.current_dir(self.root))
    }
}

fn narrate(args: &[&str], output: &Output) {
    let mut typed = std::process::Command::new("nex");
    typed.args(args);
    say(&format!("$ {}", show(&typed)));
    for text in [&output.stdout, &output.stderr] {
        if !text.trim().is_empty() {
            say(text.trim_end());
        }
    }
}
