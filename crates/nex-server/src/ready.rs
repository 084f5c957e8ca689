//! When a server that was started can be used.

use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use nex_process::{Exit, Tree};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval_at, sleep, timeout};

use crate::files::FileError;

/// Limit for the server's start. A tenth of a second is usual; a store of many gigabytes takes
/// minutes to open, and a server that is killed meanwhile begins anew.
const READY_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Period at which a slow start is logged.
const SLOW_START_PERIOD: Duration = Duration::from_secs(10);

/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// How long the server may take to greet a client.
const GREETING_LIMIT: Duration = Duration::from_secs(2);

/// The longest greeting that is read, in bytes; some hundred are usual.
const MAX_GREETING_BYTES: u64 = 64 * 1024;

/// What a server did instead of becoming ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It ended.
    #[error("it ended with {0}")]
    Ended(Exit),
    /// It runs and cannot be reached.
    #[error("it was not ready within {0:?}")]
    TooSlow(Duration),
    /// It has no JetStream.
    #[error("JetStream does not start")]
    NoJetStream,
}

impl NotReady {
    /// The next step for the person who sees the error.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Ended(_) => {
                "mend the cause if its log names one; else name another nats-server with \
                 `--nats-server FILE`, or another folder with `--data-dir`"
            }
            Self::TooSlow(_) => {
                "look into `nats-server.log` in the data folder, and start again; or choose another \
                 folder with `--data-dir`"
            }
            Self::NoJetStream => "see whether the disk of the data folder is full or read-only",
        }
    }
}

/// What the server writes once it listens.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

/// The part of the server's greeting that we look at.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    jetstream: bool,
    #[serde(default)]
    server_name: String,
}

/// The marks by which a started server is recognized.
pub(crate) struct Expected<'a> {
    /// The folder in which the server says on which port it listens.
    pub(crate) ports: &'a Path,
    /// The port that it was given, if it was not to choose one.
    pub(crate) port: Option<u16>,
    /// The name by which it greets.
    pub(crate) server_name: String,
}

/// Removes what servers wrote before that were killed.
pub(crate) fn clear_ports(folder: &Path) -> Result<(), FileError> {
    let clear = || {
        for entry in fs::read_dir(folder)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    };
    clear().map_err(FileError::new("clear", folder))
}

/// Waits until the server listens and greets, and returns its port.
///
/// The port comes from the server's own file. Where there is none, because the disk is full, the
/// port that it was given counts if it greets there by its name: another program could answer.
pub(crate) async fn wait(tree: &mut Tree, expected: &Expected<'_>) -> Result<u16, NotReady> {
    let suffix = format!("_{}.ports", tree.pid());
    let listening = timeout(READY_LIMIT, async {
        loop {
            let said = read_port(expected.ports, &suffix);
            if let Some(port) = said.or(expected.port)
                && let Some(info) = greeting(port).await
                && (said.is_some() || info.server_name == expected.server_name)
            {
                break (port, info);
            }
            sleep(LOOK_PAUSE).await;
        }
    });
    tokio::select! {
        biased;
        // First, so that one that has ended is not waited for.
        ended = tree.wait() => Err(NotReady::Ended(ended.exit)),
        found = listening => match found {
            Ok((port, Info { jetstream: true, .. })) => Ok(port),
            Ok(_) => Err(NotReady::NoJetStream),
            Err(_) => Err(NotReady::TooSlow(READY_LIMIT)),
        },
        never = log_slow_start() => match never {},
    }
}

/// Logs every now and then that the start takes long. Never resolves.
async fn log_slow_start() -> Infallible {
    let began = Instant::now();
    let mut period = interval_at(began + SLOW_START_PERIOD, SLOW_START_PERIOD);
    loop {
        let seconds = (period.tick().await - began).as_secs();
        tracing::warn!(
            seconds,
            "nats-server is not ready yet, waiting for it: a large store takes long to open"
        );
    }
}

/// The port in the file that ends so; none while there is none, or half of one.
fn read_port(folder: &Path, suffix: &str) -> Option<u16> {
    let mut entries = fs::read_dir(folder).ok()?.flatten();
    let file = entries.find(|entry| entry.file_name().to_string_lossy().ends_with(suffix))?;
    let ports: Ports = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
    ports.nats.first()?.rsplit(':').next()?.parse().ok()
}

async fn greeting(port: u16) -> Option<Info> {
    let greet = async {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let mut line = String::new();
        let mut reader = BufReader::new(stream).take(MAX_GREETING_BYTES);
        reader.read_line(&mut line).await?;
        std::io::Result::Ok(line)
    };
    let line = timeout(GREETING_LIMIT, greet).await.ok()?.ok()?;
    serde_json::from_str(line.strip_prefix("INFO ")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("nats-server_1.ports", r#"{"nats":["nats://127.0.0.1:1"]}"#);
        assert_eq!(read_port(folder.path(), "_17.ports"), None);

        write("nats-server_17.ports", r#"{"nats":["nats://127.0.0"#);
        assert_eq!(read_port(folder.path(), "_17.ports"), None);
        write(
            "nats-server_17.ports",
            r#"{"nats":["nats://127.0.0.1:4333"]}"#,
        );
        assert_eq!(read_port(folder.path(), "_17.ports"), Some(4333));

        clear_ports(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
