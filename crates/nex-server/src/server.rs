//! Starts the server, restarts it, and ends it.
//!
//! ```text
//! start:   end what an earlier run left ─> choose a port ─> write the configuration ─> spawn
//!              ─> the server says its port ─> it greets and has JetStream ─> ManagedServer
//! restart: end what is left ─> renew the configuration ─> spawn ─> it greets on its port
//! ```
//!
//! A first start fails on everything that a person has to mend. A restart depends on as few files as
//! possible: port, credentials and configuration are those of the first start.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use nex_credentials::{MintError, Minter, Permissions, TlsFiles, WorkloadGrant, creds_file};
use nex_process::{Command, EndError, Exit, Identity, Launcher, Output, SpawnError, Tree};
use nex_protocol::NatsConnectionData;

use crate::binary::ServerBinary;
use crate::config::{self, ConfigError, HOST, Layout};
use crate::data_dir::DataDir;
use crate::disk;
use crate::files::{self, FileError};
use crate::log;
use crate::ready::{self, NotReady};
use crate::running::Running;

/// How long a server that an earlier run left may take to close its store before it is killed.
const LEFT_BEHIND_GRACE: Duration = Duration::from_secs(5);

/// How long the server may take to close its store when we die.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

/// How long the server may take to end where its start failed.
const FAILED_START_GRACE: Duration = Duration::from_secs(2);

/// Limit for a supervisor's report of the server's end. One that was suspended reports
/// nothing.
const REPORT_LIMIT: Duration = Duration::from_secs(2);

/// The file with the identity of the server's process.
const SERVER_FILE: &str = "server.json";

/// On which port the server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// This one.
    Fixed(u16),
    /// The one that this data folder had before; the first time any free one.
    Free,
}

impl From<u16> for Port {
    /// 0 is [`Port::Free`].
    fn from(port: u16) -> Self {
        match port {
            0 => Self::Free,
            port => Self::Fixed(port),
        }
    }
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// On which port it listens, on 127.0.0.1.
    pub port: Port,
    /// Whether clients without credentials get in, with the rights of
    /// [`Permissions::anonymous`]. With it, those with bad credentials get in too, with no more.
    pub anonymous: bool,
    /// The program.
    pub binary: ServerBinary,
    /// What starts it.
    pub launcher: Launcher,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something listens on the port that was asked for.
    #[error("port {port} of 127.0.0.1 is in use")]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// Something listens on the port that this data folder had before.
    #[error(
        "port {port} of 127.0.0.1, which this data folder has had since its first start, is now in use by another program"
    )]
    KeptPortInUse {
        /// The port.
        port: u16,
        /// The file in which it is kept.
        file: PathBuf,
    },
    /// The system does not let us listen on the port.
    #[error("failed to listen on port {port} of 127.0.0.1")]
    Port {
        /// The port.
        port: u16,
        /// Why not.
        source: io::Error,
    },
    /// The server of an earlier run does not end, and two must not share a store.
    #[error("failed to end the nats-server that an earlier run left")]
    LeftBehind(#[source] EndError),
    /// Its files could not be written.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It cannot be executed.
    #[error("failed to start nats-server")]
    Spawn(#[source] SpawnError),
    /// It ended, or did not become ready.
    #[error("nats-server did not become ready: {why}{}", log::quote(log))]
    NotReady {
        /// What was seen of it.
        why: NotReady,
        /// The last lines of its log.
        log: String,
    },
}

impl From<MintError> for StartError {
    fn from(error: MintError) -> Self {
        Self::Config(error.into())
    }
}

impl StartError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::PortInUse { port } => format!(
                "if that is a NATS server to use, type: nex node up -s nats://127.0.0.1:{port}; \
                 else take any free port: nex up --port 0"
            ),
            Self::KeptPortInUse { file, .. } => format!(
                "end that program; or choose a port with `--port`; or remove {} for a new one, \
                 and then clients have to be told",
                file.display()
            ),
            Self::Port { .. } => "take any free port: nex up --port 0".to_owned(),
            Self::LeftBehind(EndError::Signal { pid, .. } | EndError::StillAlive { pid, .. }) => {
                format!(
                    "end process {pid}, and start again; or choose another folder with `--data-dir`"
                )
            }
            Self::Config(ConfigError::Sign(_) | ConfigError::Mint(_)) => {
                "choose another folder with `--data-dir`: a new node, with nothing of the old"
                    .to_owned()
            }
            Self::Config(ConfigError::File(_)) | Self::File(_) => FileError::HINT.to_owned(),
            Self::Spawn(_) => {
                "see whether processes and memory are left for this user; or name another \
                 nats-server with `--nats-server FILE`"
                    .to_owned()
            }
            Self::NotReady { why, .. } => why.hint().to_owned(),
        }
    }
}

/// A server that was started. Dropping it ends the server within some seconds.
#[derive(Debug)]
pub struct ManagedServer {
    tree: Tree,
    /// The server's process, where the system described it.
    process: Option<Identity>,
    config: Config,
    options: config::Options,
    url: String,
    port: u16,
    data_dir: PathBuf,
    creds_path: PathBuf,
    node_creds: NatsConnectionData,
    system_creds: NatsConnectionData,
    minter: Minter,
    started: Timestamp,
}

/// Starts the server of a data folder and waits until clients can use it.
///
/// Cancelled, it leaves no process for longer than some seconds.
///
/// # Errors
/// Whatever keeps it from running, with what to do about it in [`StartError::hint`].
pub async fn start(config: Config, data_dir: &DataDir) -> Result<ManagedServer, StartError> {
    let layout = Layout::of(data_dir);
    let now = SystemTime::now();
    end_left_behind(data_dir).await?;
    let wanted = choose_port(config.port, data_dir)?;
    let options = config::Options {
        anonymous: config.anonymous,
        max_file_store: disk::room_for_streams(&layout.jetstream, data_dir.path())?,
    };
    config::write(data_dir, &layout, wanted, &options, now)?;
    ready::clear_ports(&layout.ports)?;

    let log_start = log::end(&layout.log);
    let mut tree = spawn(&config, data_dir, &layout).await?;
    let process = Identity::of(tree.pid()).ok();
    if let Some(process) = &process {
        remember(process, data_dir)?;
    }
    let port = await_ready(&mut tree, &layout, wanted, data_dir, log_start).await?;
    if config.port == Port::Free {
        files::write(&port_file(data_dir), format!("{port}\n").as_bytes())?;
    }
    if wanted != port {
        // A restart without this file's renewal would be on another port.
        config::write(data_dir, &layout, port, &options, now)?;
    }
    tracing::debug!(port, pid = tree.pid(), "nats-server is ready");
    let started = Started {
        tree,
        process,
        config,
        options,
    };
    finish(started, port, data_dir, now)
}

/// Waits until a server that was spawned can be used; one that cannot is ended.
async fn await_ready(
    tree: &mut Tree,
    layout: &Layout,
    port: u16,
    data_dir: &DataDir,
    log_start: u64,
) -> Result<u16, StartError> {
    let expected = ready::Expected {
        ports: &layout.ports,
        port: (port != 0).then_some(port),
        server_name: config::server_name(data_dir),
    };
    match ready::wait(tree, &expected).await {
        Ok(port) => Ok(port),
        Err(why) => {
            tree.stopper().stop(FAILED_START_GRACE);
            tree.wait().await;
            Err(failed(why, port, &log::since(&layout.log, log_start)))
        }
    }
}

/// A server that runs, and how it was started.
struct Started {
    tree: Tree,
    process: Option<Identity>,
    config: Config,
    options: config::Options,
}

/// What is handed out once the server runs.
fn finish(
    started: Started,
    port: u16,
    data_dir: &DataDir,
    now: SystemTime,
) -> Result<ManagedServer, StartError> {
    let identities = data_dir.identities();
    let url = url(port);
    let with_server = |data: NatsConnectionData| NatsConnectionData {
        nats_servers: vec![url.clone()],
        ..data
    };
    let node_creds = config::user(identities, "nex node", &Permissions::full(), false, now)?;
    let system_creds = config::system_user(identities, now)?;
    let cli = config::user(identities, "nex cli", &Permissions::full(), false, now)?;
    let creds_path = creds_path(data_dir);
    let text = creds_file(&cli.nats_user_jwt, &cli.nats_user_seed);
    files::write(&creds_path, text.as_bytes())?;
    let Started {
        tree,
        process,
        config,
        options,
    } = started;
    Ok(ManagedServer {
        tree,
        process,
        options,
        config: Config {
            port: Port::Fixed(port),
            ..config
        },
        port,
        data_dir: data_dir.path().to_owned(),
        creds_path,
        node_creds: with_server(node_creds),
        system_creds: with_server(system_creds),
        minter: Minter::SigningKey {
            signing_key: identities.signing_key.clone(),
            account: identities.account.public_key(),
            servers: vec![url.clone()],
            tls: TlsFiles::default(),
            grant: WorkloadGrant::Open,
        },
        started: Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH),
        url,
    })
}

fn failed(why: NotReady, port: u16, log: &str) -> StartError {
    // Somebody took the port between our look at it and the server's start.
    if port != 0 && log.contains("address already in use") {
        return StartError::PortInUse { port };
    }
    let why = if log.contains("JetStream")
        && matches!(why, NotReady::Ended(_))
        && log.contains("[FTL]")
    {
        NotReady::NoJetStream
    } else {
        why
    };
    StartError::NotReady {
        why,
        log: log::last_lines(log),
    }
}

fn server_file(data_dir: &DataDir) -> PathBuf {
    data_dir.file(SERVER_FILE)
}

fn port_file(data_dir: &DataDir) -> PathBuf {
    data_dir.file("port")
}

/// The file with the credentials of the command line.
pub(crate) fn creds_path(data_dir: &DataDir) -> PathBuf {
    data_dir.file("cli.creds")
}

/// URL for clients of the server on this port.
pub(crate) fn url(port: u16) -> String {
    format!("nats://{HOST}:{port}")
}

/// The port that a server of this folder would have; none where it is to choose a new one.
pub(crate) fn expected_port(port: Port, data_dir: &DataDir) -> Result<Option<u16>, FileError> {
    let port = match port {
        Port::Fixed(port) => Some(port),
        Port::Free => files::read(&port_file(data_dir))?.and_then(|text| text.trim().parse().ok()),
    };
    Ok(port.filter(|port| *port != 0))
}

/// Returns whether the nats-server of a data folder runs. After the end of its `nex up` it may take a moment
/// to end too.
#[must_use]
pub fn server_runs(data_dir: &Path) -> bool {
    let Ok(Some(text)) = files::read(&data_dir.join(SERVER_FILE)) else {
        return false;
    };
    serde_json::from_str::<Identity>(&text).is_ok_and(|server| server.is_alive())
}

/// Ends the server that an earlier run of this folder left: two on one store start without a
/// complaint, and tear it.
async fn end_left_behind(data_dir: &DataDir) -> Result<(), StartError> {
    let Some(text) = files::read(&server_file(data_dir))? else {
        return Ok(());
    };
    // A file of another version tells nothing; then the orphan's grace is all that protects.
    let Ok(server) = serde_json::from_str::<Identity>(&text) else {
        return Ok(());
    };
    if server.is_alive() {
        tracing::info!(
            pid = server.pid(),
            "ending the nats-server of an earlier run"
        );
    }
    server
        .end(LEFT_BEHIND_GRACE)
        .await
        .map_err(StartError::LeftBehind)
}

/// Writes down which process has the store open.
fn remember(process: &Identity, data_dir: &DataDir) -> Result<(), FileError> {
    let text = serde_json::to_vec(process).expect("an identity is plain data");
    files::write(&server_file(data_dir), &text)
}

/// The port to listen on; 0 where the server is to choose.
fn choose_port(port: Port, data_dir: &DataDir) -> Result<u16, StartError> {
    let kept_in = (port == Port::Free).then(|| port_file(data_dir));
    let Some(port) = expected_port(port, data_dir)? else {
        return Ok(0);
    };
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(port),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(match kept_in {
            Some(file) => StartError::KeptPortInUse { port, file },
            None => StartError::PortInUse { port },
        }),
        Err(source) => Err(StartError::Port { port, source }),
    }
}

async fn spawn(config: &Config, data_dir: &DataDir, layout: &Layout) -> Result<Tree, StartError> {
    let mut command = Command::new(&config.binary.path);
    command.args = vec!["--config".into(), layout.config.clone().into()];
    command.cwd = data_dir.path().to_owned();
    // What it says before it has read its configuration, and its panics, go into its own log.
    command.stdout = Output::File(log::open(&layout.log)?);
    command.stderr = Output::File(log::open(&layout.log)?);
    command.orphan_grace = ORPHAN_GRACE;
    config
        .launcher
        .spawn(command)
        .await
        .map_err(StartError::Spawn)
}

impl ManagedServer {
    /// URL for clients: `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of the server's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.tree.pid()
    }

    /// For the node itself: everything in the account but `$SYS`.
    #[must_use]
    pub fn node_creds(&self) -> NatsConnectionData {
        self.node_creds.clone()
    }

    /// For who administers accounts: everything in the system account.
    #[must_use]
    pub fn system_creds(&self) -> NatsConnectionData {
        self.system_creds.clone()
    }

    /// A `.creds` file for the command line, with the rights of [`Self::node_creds`].
    #[must_use]
    pub fn creds_path(&self) -> &Path {
        &self.creds_path
    }

    /// Makes the credentials of nexlets and workloads.
    #[must_use]
    pub fn minter(&self) -> Minter {
        self.minter.clone()
    }

    /// How others find it, once the caller says that all is ready.
    #[must_use]
    pub fn running(&self) -> Running {
        Running {
            url: self.url.clone(),
            creds: self.creds_path.clone(),
            pid: std::process::id(),
            data_dir: self.data_dir.clone(),
            started: self.started,
        }
    }

    /// Returns the path of the server's log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.data_dir.join("nats-server.log")
    }

    /// Resolves when the server has ended on its own, also where its supervisor does not report it.
    /// Cancel safe.
    pub async fn wait(&mut self) -> Exit {
        let process = self.process.clone();
        let unreported = async {
            let Some(process) = process else {
                return std::future::pending().await;
            };
            if process.ended().await.is_err() {
                return std::future::pending().await;
            }
            tokio::time::sleep(REPORT_LIMIT).await;
        };
        tokio::select! {
            ended = self.tree.wait() => return ended.exit,
            () = unreported => {}
        }
        // It also wakes a supervisor that was suspended.
        self.tree.stopper().kill();
        self.tree.wait().await.exit
    }

    /// Starts the server again on its port, after it has ended or to replace it: one that runs has
    /// `grace` to close its store. Credentials and URL stay the same.
    ///
    /// It needs no free space on disk. Cancelled, it may leave a server that is not ready;
    /// [`stop`](Self::stop) ends that too.
    ///
    /// # Errors
    /// Whatever keeps it from running now. It can be called again.
    pub async fn restart(&mut self, data_dir: &DataDir, grace: Duration) -> Result<(), StartError> {
        let layout = Layout::of(data_dir);
        self.tree.stopper().stop(grace);
        self.tree.wait().await;
        if let Some(process) = self.process.take() {
            // Where its supervisor was lost, it may be there still.
            process
                .end(LEFT_BEHIND_GRACE)
                .await
                .map_err(StartError::LeftBehind)?;
        }
        choose_port(self.config.port, data_dir)?;
        self.renew_files(data_dir, &layout)?;

        let log_start = log::end(&layout.log);
        self.tree = spawn(&self.config, data_dir, &layout).await?;
        self.process = Identity::of(self.tree.pid()).ok();
        if let Some(process) = &self.process
            && let Err(error) = remember(process, data_dir)
        {
            tracing::warn!(%error, "failed to write down the process of nats-server");
        }
        await_ready(&mut self.tree, &layout, self.port, data_dir, log_start).await?;
        tracing::debug!(
            port = self.port,
            pid = self.tree.pid(),
            "nats-server is ready again"
        );
        Ok(())
    }

    /// Writes the configuration anew, for files in the folder may have been removed. The one that is
    /// there will do where that fails, as on a full disk.
    fn renew_files(&self, data_dir: &DataDir, layout: &Layout) -> Result<(), StartError> {
        let now = SystemTime::now();
        if let Err(error) = config::write(data_dir, layout, self.port, &self.options, now) {
            if !layout.config.is_file() {
                return Err(error.into());
            }
            tracing::warn!(%error, "failed to renew the configuration of nats-server");
        }
        if let Err(error) = ready::clear_ports(&layout.ports) {
            // The server is found on its port without them.
            tracing::debug!(%error, "failed to clear the folder of ports");
        }
        Ok(())
    }

    /// Ends the server and waits until it is gone. It closes its store at once, and has `grace` for
    /// that before it is killed.
    pub async fn stop(mut self, grace: Duration) -> Exit {
        self.tree.stopper().stop(grace);
        self.wait().await
    }
}
