//! The real `nex up`, in a hermetic home.

use crate::{Home, Output, process, process::Process, wait_until};
use anyhow::{Context as _, bail};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    sync::Arc,
    time::Duration,
};

/// How long `nex up` may take until it is ready: two seconds are promised; machines are busy.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long an orderly end may take: the longest grace of a workload and then some.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A running `nex up --port 0`. Dropped, it is killed with `kill -9`; what that leaves behind is the
/// business of its [`Home`], whose drop waits and tells.
#[derive(Debug)]
pub struct NexUp {
    child: Child,
    url: String,
    logs: Logs,
    home: Arc<Home>,
}

/// Options of a [`NexUp`].
#[derive(Debug, Default)]
pub struct NexUpBuilder {
    home: Option<Arc<Home>>,
    args: Vec<String>,
}

/// The files that take what `nex up` prints. Files, not pipes: a killed parent leaves no reader stuck.
#[derive(Clone, Debug)]
struct Logs {
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Logs {
    fn read(path: &Path) -> String {
        fs::read(path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn all(&self) -> String {
        format!("{}{}", Self::read(&self.stdout), Self::read(&self.stderr))
    }
}

impl NexUpBuilder {
    /// In this home, perhaps one in which a `nex up` ran before.
    #[must_use]
    pub fn home(mut self, home: Arc<Home>) -> Self {
        self.home = Some(home);
        self
    }

    /// With one more command-line argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts it; it is ready when this returns.
    ///
    /// # Panics
    ///
    /// When it does not get ready, with what it printed.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> NexUp {
        self.try_start().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// [`start`](Self::start), with the error returned.
    ///
    /// # Errors
    ///
    /// When it does not get ready, with what it printed.
    pub fn try_start(self) -> anyhow::Result<NexUp> {
        let home = self.home.unwrap_or_default();
        let logs = Logs {
            stdout: home.path().join("up.stdout"),
            stderr: home.path().join("up.stderr"),
        };
        let mut command = home.nex_command(&["up", "--port", "0", "--data-dir"])?;
        let child = command
            .arg(home.path().join("data"))
            .args(self.args)
            .stdout(fs::File::create(&logs.stdout)?)
            .stderr(fs::File::create(&logs.stderr)?)
            .spawn()
            .with_context(|| format!("failed to start {command:?}"))?;
        let mut up = NexUp {
            child,
            url: String::new(),
            logs,
            home,
        };
        let ready = up.wait_ready();
        up.url = ready.with_context(|| format!("it printed:\n{}", up.logs.all()))?;
        Ok(up)
    }
}

impl NexUp {
    /// Starts `nex up` in a home of its own.
    ///
    /// # Panics
    ///
    /// When it does not get ready, with what it printed.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Options for a `nex up`.
    #[must_use]
    pub fn builder() -> NexUpBuilder {
        NexUpBuilder::default()
    }

    fn wait_ready(&mut self) -> anyhow::Result<String> {
        let child = &mut self.child;
        let logs = &self.logs;
        wait_until("`nex up` is ready", READY_LIMIT, || {
            if let Ok(Some(status)) = child.try_wait() {
                return Ok(Err(anyhow::anyhow!("`nex up` ended with {status}")));
            }
            let printed = Logs::read(&logs.stdout);
            let ready = printed.lines().any(|line| line.contains("ready"));
            match url_in(&printed) {
                Some(url) if ready => Ok(Ok(url)),
                _ => Err("no line with `ready`, or none with the server's URL"),
            }
        })?
    }

    /// Where its nats-server listens: `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process id of `nex up`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The home in which it runs.
    #[must_use]
    pub fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// The data folder given to it.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Everything that it has printed so far, standard output first.
    #[must_use]
    pub fn log(&self) -> String {
        self.logs.all()
    }

    /// Runs the real CLI in the same home to its end.
    ///
    /// # Panics
    ///
    /// When it cannot be run, or does not end within a minute.
    #[track_caller]
    pub fn nex<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        self.home.nex(args)
    }

    /// The live processes of this home: `nex up`, nats-server, nexlets, supervisors, workloads.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        self.home.processes()
    }

    /// Ends it in an orderly way (SIGTERM) and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it does not end within half a minute; then it is killed.
    pub fn stop(mut self) -> anyhow::Result<ExitStatus> {
        process::terminate(self.pid())?;
        let child = &mut self.child;
        wait_until("the end of `nex up` after SIGTERM", STOP_LIMIT, || {
            child.try_wait().ok().flatten()
        })
        .with_context(|| format!("it printed:\n{}", self.logs.all()))
    }

    /// Kills it with `kill -9` and returns the home, with whatever is still alive in it.
    #[must_use]
    pub fn kill(mut self) -> Arc<Home> {
        self.end();
        Arc::clone(&self.home)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    ///
    /// When it has not ended after `limit`.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let child = &mut self.child;
        let ended = wait_until("the end of `nex up`", limit, || {
            child.try_wait().ok().flatten()
        });
        match ended {
            Ok(status) => Ok(status),
            Err(error) => bail!("{error:#}; it printed:\n{}", self.logs.all()),
        }
    }

    fn end(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for NexUp {
    fn drop(&mut self) {
        self.end();
    }
}

/// The first `nats://127.0.0.1:<port>` in a text.
fn url_in(text: &str) -> Option<String> {
    const PREFIX: &str = "nats://127.0.0.1:";
    let rest = &text[text.find(PREFIX)? + PREFIX.len()..];
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let port: u16 = rest[..digits].parse().ok()?;
    Some(format!("{PREFIX}{port}"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    /// A home whose `nex` is this shell script.
    fn home_with(script: &str) -> Arc<Home> {
        let home = Home::new();
        let bin_dir = home.path().to_owned();
        let nex = bin_dir.join("nex");
        // Written by a child: our own handle could be inherited by a process that another test starts,
        // and a file that is open for writing cannot be started.
        let written = Command::new("sh")
            .args([
                "-c",
                r#"printf '#!/bin/sh\n%s\n' "$1" >"$2" && chmod +x "$2""#,
                "sh",
                script,
            ])
            .arg(&nex)
            .status();
        assert!(written.is_ok_and(|status| status.success()));
        Arc::new(home.with_bin_dir(bin_dir))
    }

    #[test]
    fn is_ready_when_it_says_so_and_ends_on_sigterm() {
        let up = NexUp::builder().home(home_with(
            "trap 'kill $!; exit 7' TERM; sleep 1000 &\n\
             echo \"NATS on nats://127.0.0.1:4299, $*\"; echo 'nex is ready'; wait",
        ));

        let up = up.arg("--no-anonymous").start();
        let (url, log, home) = (up.url().to_owned(), up.log(), Arc::clone(up.home()));
        let running = up.processes().len();
        let status = up.stop().unwrap();

        assert_eq!(url, "nats://127.0.0.1:4299");
        assert!(
            log.contains("up --port 0 --data-dir") && log.contains("--no-anonymous"),
            "{log}"
        );
        assert!(
            running >= 1,
            "the shell itself, and sleep once it is started"
        );
        assert_eq!(status.code(), Some(7));
        assert!(home.path().join("up.stdout").is_file());
    }

    #[test]
    fn an_end_before_it_is_ready_shows_what_it_printed() {
        let home = home_with("echo 'error: port 4222 is in use' >&2; exit 3");

        let error = NexUp::builder().home(home).try_start().unwrap_err();

        let text = format!("{error:#}");
        assert!(
            text.contains("port 4222 is in use") && text.contains('3'),
            "{text}"
        );
    }

    #[test]
    fn commands_run_in_the_same_home() {
        let home = home_with("echo \"$HOME $*\"; exit 4");

        let output = home.nex(&["workload", "list"]).failed();

        assert_eq!(output.code, 4);
        assert_eq!(
            output.stdout,
            format!("{} workload list\n", home.path().display())
        );
    }

    #[test]
    fn the_url_is_found_within_a_sentence() {
        let cases = [
            (
                "NATS on nats://127.0.0.1:4222, JetStream on",
                Some("nats://127.0.0.1:4222"),
            ),
            ("url=nats://127.0.0.1:65535", Some("nats://127.0.0.1:65535")),
            ("nats://127.0.0.1:99999", None),
            ("nats://example.com:4222", None),
        ];
        for (text, url) in cases {
            assert_eq!(url_in(text).as_deref(), url, "{text}");
        }
    }
}
