//! This program again, as a child that serves: it says when it is ready, answers questions about
//! itself, and ends with its standard input.

use anyhow::{Context as _, bail, ensure};
use std::{
    env,
    io::{BufRead as _, BufReader, Lines},
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use super::{bare, crowd, fleet};
use crate::table::print;

/// The hidden argument with which this program serves.
pub(crate) const SERVE: &str = "serve";

/// What a child says when it takes requests.
const READY: &str = "ready";

/// A child that serves.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// From the start of its process until it was ready.
    pub(crate) started_in: Duration,
}

impl Child {
    /// Starts it, and waits until it is ready.
    pub(crate) fn start(what: &str, args: &[String]) -> anyhow::Result<Self> {
        let started = Instant::now();
        let mut process = Command::new(env::current_exe()?)
            .args([SERVE, what])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start `{what}`"))?;
        let stdout = process.stdout.take().context("it has a standard output")?;
        let mut child = Self {
            stdin: process.stdin.take(),
            lines: BufReader::new(stdout).lines(),
            process,
            started_in: Duration::ZERO,
        };
        let said = child.line()?;
        ensure!(said == READY, "`{what}` said `{said}`");
        child.started_in = started.elapsed();
        Ok(child)
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next line that it says.
    pub(crate) fn line(&mut self) -> anyhow::Result<String> {
        let line = self.lines.next().context("a child ended early")?;
        Ok(line?)
    }

    /// Memory in use, in mebibytes, where the system tells.
    pub(crate) fn memory(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib / 1024.0)
    }

    /// Ends it in an orderly way, and waits until it is gone; what it said last.
    pub(crate) fn stop(mut self) -> anyhow::Result<String> {
        self.stdin = None;
        let mut last = String::new();
        for line in self.lines.by_ref() {
            last = line?;
        }
        let status = self.process.wait()?;
        ensure!(status.success(), "a child ended with {status}");
        Ok(last)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // One that was stopped is gone already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// What a child does: serves until its standard input ends.
pub(crate) fn serve(args: &[&str]) -> anyhow::Result<()> {
    match args {
        ["bare", rest @ ..] => bare::serve(rest),
        ["gather", rest @ ..] => bare::gather_once(rest),
        ["fleet", rest @ ..] => fleet::serve(rest),
        ["crowd", rest @ ..] => crowd::serve(rest),
        ["echo", rest @ ..] => crate::functions::floor::serve(rest),
        _ => bail!("nobody serves `{}`", args.join(" ")),
    }
}

/// Says that requests are taken.
pub(crate) fn ready() {
    print(READY);
}

/// Resolves when the parent wants the end.
pub(crate) async fn told_to_end() {
    // Blocks a thread of its own: reads of standard input cannot be given up.
    let reading = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).ok();
    });
    reading.await.ok();
}
