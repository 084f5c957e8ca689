//! A real nats-server per test.

use crate::{nats_server, process, wait_until};
use anyhow::{Context as _, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// How long a nats-server may take until it tells its port; some twenty milliseconds are usual.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A nats-server of a test's own: on a free port of 127.0.0.1, in a temporary folder, killed on drop.
#[derive(Debug)]
pub struct NatsServer {
    child: Child,
    url: String,
    port: u16,
    options: NatsServerBuilder,
    dir: TempDir,
}

/// Options of a [`NatsServer`].
#[derive(Clone, Debug, Default)]
pub struct NatsServerBuilder {
    jetstream: bool,
    config: Option<String>,
    args: Vec<String>,
}

impl NatsServerBuilder {
    /// With JetStream, its store in the temporary folder.
    #[must_use]
    pub fn jetstream(mut self, on: bool) -> Self {
        self.jetstream = on;
        self
    }

    /// With this text as configuration file. It says nothing of address, port or store folder.
    #[must_use]
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    /// With one more command-line argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts the server; it takes connections when this returns.
    ///
    /// # Panics
    ///
    /// When it cannot be started, with its log.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> NatsServer {
        self.try_start().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// [`start`](Self::start), with the error returned.
    ///
    /// # Errors
    ///
    /// When there is no nats-server, or it does not come up.
    pub fn try_start(self) -> anyhow::Result<NatsServer> {
        let dir = tempfile::Builder::new().prefix("nex-nats-").tempdir()?;
        let (child, url, port) = self.spawn(dir.path(), None)?;
        Ok(NatsServer {
            child,
            url,
            port,
            options: self,
            dir,
        })
    }

    fn spawn(&self, dir: &Path, port: Option<u16>) -> anyhow::Result<(Child, String, u16)> {
        let program = nats_server()?;
        let log = fs::File::create(log_path(dir))?;
        let mut command = Command::new(&program);
        command.args(["--addr", "127.0.0.1", "--port"]);
        command.arg(port.map_or("-1".to_owned(), |port| port.to_string()));
        command.arg("--ports_file_dir").arg(dir);
        if self.jetstream {
            command
                .arg("--jetstream")
                .arg("--store_dir")
                .arg(dir.join("jetstream"));
        }
        if let Some(text) = &self.config {
            let path = dir.join("server.conf");
            fs::write(&path, text)?;
            command.arg("--config").arg(path);
        }
        command.args(&self.args);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;

        match ready(&mut child, &program, dir) {
            Ok((url, port)) => Ok((child, url, port)),
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                let log = fs::read_to_string(log_path(dir)).unwrap_or_default();
                Err(error.context(format!("nats-server did not come up; its log:\n{log}")))
            }
        }
    }
}

/// Waits for the file in which nats-server tells its port, which it writes once it listens.
fn ready(child: &mut Child, program: &Path, dir: &Path) -> anyhow::Result<(String, u16)> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let ports = dir.join(format!("{name}_{}.ports", child.id()));
    let found = wait_until("the ports file of nats-server", START_LIMIT, || {
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(Err(anyhow::anyhow!("it ended with {status}")));
        }
        let text = fs::read_to_string(&ports).map_err(|error| error.to_string())?;
        // Written in place, so a look can meet half a file.
        let told = serde_json::from_str::<serde_json::Value>(&text).map_err(|e| e.to_string())?;
        Ok::<_, String>(Ok(told))
    })??;
    let url = found["nats"][0]
        .as_str()
        .with_context(|| format!("no address in {found}"))?;
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    let Some(port) = port else {
        bail!("no port in `{url}`")
    };
    // With TLS the scheme differs; clients of a test choose their own.
    Ok((url.to_owned(), port))
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("server.log")
}

impl NatsServer {
    /// A plain server: no JetStream, no accounts.
    ///
    /// # Panics
    ///
    /// When it cannot be started, with its log.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Options for a server.
    #[must_use]
    pub fn builder() -> NatsServerBuilder {
        NatsServerBuilder::default()
    }

    /// Where it listens: `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port on which it listens; a [`restart`](Self::restart) keeps it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its temporary folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(log_path(self.dir.path())).unwrap_or_default()
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Starts it again on the same port and store; a running one is killed first.
    ///
    /// # Panics
    ///
    /// When it does not come up, with its log.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        let started = self.options.spawn(self.dir.path(), Some(self.port));
        let (child, url, port) = started.unwrap_or_else(|error| panic!("{error:#}"));
        (self.child, self.url, self.port) = (child, url, port);
    }

    /// Ends it in an orderly way (SIGTERM) and waits until it is gone.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    #[track_caller]
    pub fn stop(&mut self) {
        process::terminate(self.pid()).ok();
        let ended = wait_until("the end of nats-server", START_LIMIT, || {
            self.child.try_wait().ok().flatten()
        });
        ended.unwrap_or_else(|error| panic!("{error:#}"));
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead as _, BufReader},
        net::TcpStream,
    };

    fn info(server: &NatsServer) -> String {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn two_servers_run_beside_each_other() {
        let plain = NatsServer::start();
        let streams = NatsServer::builder().jetstream(true).start();

        assert_ne!(plain.port(), streams.port());
        assert!(
            !info(&plain).contains(r#""jetstream":true"#),
            "{}",
            info(&plain)
        );
        assert!(
            info(&streams).contains(r#""jetstream":true"#),
            "{}",
            info(&streams)
        );
    }

    #[test]
    fn a_restart_keeps_the_port() {
        let mut server = NatsServer::start();
        let (port, pid) = (server.port(), server.pid());

        server.restart();

        assert_eq!(server.port(), port);
        assert_ne!(server.pid(), pid);
        assert!(info(&server).starts_with("INFO "));
    }

    #[test]
    fn a_wrong_configuration_shows_the_servers_own_words() {
        let error = NatsServer::builder()
            .config("nonsense {")
            .try_start()
            .unwrap_err();

        assert!(format!("{error:#}").contains("Parse error"), "{error:#}");
    }
}
