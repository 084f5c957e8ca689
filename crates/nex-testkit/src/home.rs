//! A hermetic user: everything that a program may read or leave behind is in one temporary folder.

use crate::{bin_dir, locate::bin_in, process, process::Process, wait_until};
use anyhow::{Context as _, bail};
use std::{
    env,
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long one command may take before it is killed and counts as hung.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// How long the streams of a killed command may take to end.
const AFTER_KILL_LIMIT: Duration = Duration::from_secs(1);

/// How long processes may outlive the last owner of their home: the 5 s promised for a `kill -9`
/// of any part, and as much again for a busy machine.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(10);

/// A user's home in a temporary folder, and the environment of the programs run there.
///
/// When it is dropped, every process that mentions the folder must be gone or going.
///
/// # Panics
///
/// On drop, when processes are left after ten seconds; they are killed and named.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
    bin_dir: PathBuf,
}

/// What a command that ended left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; -1 for the end by a signal.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Wall time from the start of the process to its end.
    pub took: Duration,
}

impl Output {
    fn new(output: &std::process::Output, took: Duration) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            took,
        }
    }

    /// Itself, when the command succeeded.
    ///
    /// # Panics
    ///
    /// When the exit code is not 0, with both streams.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// Itself, when the command failed.
    ///
    /// # Panics
    ///
    /// When the exit code is 0, with both streams.
    #[track_caller]
    pub fn failed(self) -> Self {
        assert_ne!(self.code, 0, "{self}");
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
            took,
        } = self;
        write!(
            f,
            "exit code {code} after {took:?}\n-- stdout\n{stdout}\n-- stderr\n{stderr}"
        )
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// An empty home; `nex` is the one of this build.
    ///
    /// # Panics
    ///
    /// When no temporary folder can be made.
    #[must_use]
    pub fn new() -> Self {
        // Short: paths of sockets below it have to fit in 108 bytes.
        let dir = tempfile::Builder::new().prefix("nex-").tempdir();
        let dir = dir.expect("a temporary folder can be made");
        fs::create_dir(dir.path().join("tmp")).expect("a new folder takes a folder");
        let bin_dir = bin_dir();
        Self { dir, bin_dir }
    }

    /// The same home, in which `nex` is the one in `bin_dir`.
    #[must_use]
    pub fn with_bin_dir(mut self, bin_dir: PathBuf) -> Self {
        self.bin_dir = bin_dir;
        self
    }

    /// The folder: HOME of its programs, and their working folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A command that sees this home and nothing of ours but PATH and the choice of nats-server.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let dir = self.path();
        let mut command = Command::new(program);
        command.env_clear().current_dir(dir).stdin(Stdio::null());
        for kept in ["PATH", "NEX_NATS_SERVER"] {
            if let Some(value) = env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
            .env("HOME", dir)
            .env("TMPDIR", dir.join("tmp"))
            .env("XDG_CACHE_HOME", dir.join(".cache"))
            .env("XDG_CONFIG_HOME", dir.join(".config"))
            .env("XDG_DATA_HOME", dir.join(".local/share"))
            .env("XDG_STATE_HOME", dir.join(".local/state"));
        command
    }

    /// [`command`](Self::command) of `nex` with `args`.
    ///
    /// # Errors
    ///
    /// When `nex` is not built.
    pub fn nex_command<S: AsRef<OsStr>>(&self, args: &[S]) -> anyhow::Result<Command> {
        let mut command = self.command(bin_in(&self.bin_dir, "nex")?);
        command.args(args);
        Ok(command)
    }

    /// Runs the real CLI to its end.
    ///
    /// # Panics
    ///
    /// When it cannot be run, or does not end within a minute.
    #[track_caller]
    pub fn nex<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        self.try_nex(args)
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// [`nex`](Self::nex), with the error returned.
    ///
    /// # Errors
    ///
    /// When it cannot be run, or does not end within a minute.
    pub fn try_nex<S: AsRef<OsStr>>(&self, args: &[S]) -> anyhow::Result<Output> {
        self.run(&mut self.nex_command(args)?)
    }

    /// Runs a command to its end and collects what it prints.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or does not end within a minute; then it is killed.
    pub fn run(&self, command: &mut Command) -> anyhow::Result<Output> {
        let shown = format!("{command:?}");
        let started = Instant::now();
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {shown}"))?;
        let pid = child.id();
        let (ended_tx, ended_rx) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let output = child.wait_with_output();
            // After a timeout nobody listens any more.
            ended_tx.send((output, started.elapsed())).ok();
        });
        match ended_rx.recv_timeout(COMMAND_LIMIT) {
            Ok((output, took)) => Ok(Output::new(&output?, took)),
            Err(_timeout) => {
                process::kill(pid).ok();
                let partial = ended_rx.recv_timeout(AFTER_KILL_LIMIT).ok();
                let partial =
                    partial.and_then(|(output, took)| Some(Output::new(&output.ok()?, took)));
                let partial =
                    partial.map_or("its streams stayed open".to_owned(), |p| p.to_string());
                bail!("{shown} did not end within {COMMAND_LIMIT:?} and was killed: {partial}")
            }
        }
    }

    /// The live processes that belong to this home.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        process::mentioning(self.path())
    }

    /// Waits until no process belongs to this home; kills and returns those that do after `limit`.
    fn sweep(&self, limit: Duration) -> Vec<Process> {
        let gone = wait_until("the end of every process", limit, || {
            let left = self.processes();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        let left = if gone.is_ok() {
            Vec::new()
        } else {
            self.processes()
        };
        for process in &left {
            process::kill(process.pid).ok();
        }
        left
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let left = self.sweep(LEFTOVER_LIMIT);
        if !left.is_empty() && !thread::panicking() {
            let left: Vec<_> = left.iter().map(ToString::to_string).collect();
            panic!(
                "processes outlived their owner by {LEFTOVER_LIMIT:?}:\n{}",
                left.join("\n")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_sees_the_home_and_little_else() {
        let home = Home::new();

        let output = home.run(&mut home.command("env")).unwrap().ok();

        let lines: Vec<_> = output.stdout.lines().collect();
        assert!(
            lines.contains(&format!("HOME={}", home.path().display()).as_str()),
            "{lines:?}"
        );
        assert!(
            !lines.iter().any(|line| line.starts_with("CARGO")),
            "{lines:?}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_is_left_is_killed_and_named() {
        let home = Home::new();
        let mut child = home.command("sleep").arg("1000").spawn().unwrap();

        let left = home.sweep(Duration::from_millis(50));

        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(
            (left[0].pid, left[0].command.as_str()),
            (child.id(), "sleep 1000")
        );
        assert!(!child.wait().unwrap().success());
    }
}
