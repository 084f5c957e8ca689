//! The managed nats-server of `nex up`: started once, then restarted for as long as `nex up` runs.
//!
//! ```text
//!   running ──ended──> restarting ──ready──> running
//!                       │     ↑
//!                       └fails┘ after a pause that grows
//! ```
//!
//! A first start that fails is an error, for a person has to mend it. From then on nothing about the
//! server ends `nex up`: workloads, nexlets and node run on without it and reconnect.

use std::{
    convert::Infallible,
    path::Path,
    time::{Duration, Instant},
};

use nex_nats::Connection;
use nex_server::{Announcement, DataDir, FileError, ManagedServer, Phase, Port, ServerBinary};
use tracing::{info, warn};

use super::{disk::Disk, hinted, nexlets};
use crate::{cli::UpArgs, context::Context, error::CommandError};

/// Grace period of nats-server before it is killed.
const SERVER_GRACE: Duration = Duration::from_secs(5);

/// A server that has run for this long is restarted without a pause when it ends.
const SERVER_STABLE: Duration = Duration::from_secs(10);

/// The shortest and the longest pause between two attempts to restart the server.
const RESTART_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The longest pause of a client between two attempts to reconnect.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Limit for the node to reconnect; after it commands are let through all the same.
const NODE_RECONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The pause between two looks at the node's connection.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// The managed nats-server, and how other programs see it.
pub(super) struct Server<'a> {
    pub(super) managed: ManagedServer,
    data_dir: &'a DataDir,
    announcement: Announcement,
    disk: Disk,
}

impl<'a> Server<'a> {
    /// Starts the server for the first time.
    ///
    /// # Errors
    /// Whatever keeps it from running, with what to do.
    pub(super) async fn start(
        args: &UpArgs,
        context: &Context,
        data_dir: &'a DataDir,
    ) -> Result<Self, CommandError> {
        // First, so that no command takes this `nex up` for one that does not run.
        let port = Port::from(args.port);
        let registry = context.env.up_registry_dir()?;
        let announcement = Announcement::starting(data_dir, &registry, port)
            .map_err(|error| hinted(&error, FileError::HINT.to_owned()))?;
        let executable = nexlets::own_executable()?;
        let config = nex_server::Config {
            port,
            anonymous: !args.no_anonymous,
            binary: find_binary(args, context, data_dir, &executable).await?,
            launcher: nexlets::launcher()?,
        };
        let managed = nex_server::start(config, data_dir)
            .await
            .map_err(|error| hinted(&error, error.hint()))?;
        let disk = Disk::new(data_dir.path(), managed.log_path());
        Ok(Self {
            managed,
            data_dir,
            announcement,
            disk,
        })
    }

    /// Shows other programs how to reach the server.
    ///
    /// # Errors
    /// When the data folder cannot be written.
    pub(super) fn announce(&self) -> Result<(), CommandError> {
        self.announcement
            .ready(&self.managed.running())
            .map_err(|error| hinted(&error, FileError::HINT.to_owned()))
    }

    /// Shows other programs that `nex up` ends.
    pub(super) fn announce_stop(&mut self) {
        self.show(&Phase::Stopping);
    }

    fn show(&mut self, phase: &Phase) {
        if let Err(error) = self.announcement.show(phase) {
            warn!(%error, "failed to write the phase of nex up");
        }
    }

    /// Restarts the server whenever it ends, or has streams that were stuck by a full disk, and lets commands through again when the node has
    /// reconnected. Never resolves; dropped, it may leave a server that is not ready yet, which
    /// [`stop`](Self::stop) ends.
    pub(super) async fn keep_running(&mut self, node: Option<&Connection>) -> Infallible {
        let mut pause = Duration::ZERO;
        loop {
            let ready_since = Instant::now();
            let mut reason = self.needs_restart(node).await;
            if ready_since.elapsed() > SERVER_STABLE {
                pause = Duration::ZERO;
            }
            let down_since = Instant::now();
            loop {
                warn!(reason, ?pause, "restarting nats-server");
                self.show(&Phase::Restarting(reason));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).clamp(RESTART_PAUSE.0, RESTART_PAUSE.1);
                match self.managed.restart(self.data_dir, SERVER_GRACE).await {
                    Ok(()) => break,
                    Err(error) => reason = nexlet::Chain(&error).to_string(),
                }
            }
            let down = down_since.elapsed();
            info!(?down, "nats-server runs again");
            if let Some(node) = node {
                tokio::time::timeout(NODE_RECONNECT_LIMIT, reconnected(node, down))
                    .await
                    .ok();
            }
            self.show(&Phase::Ready);
        }
    }

    /// Resolves when the server has to be restarted, with the reason.
    async fn needs_restart(&mut self, node: Option<&Connection>) -> String {
        let (managed, disk) = (&mut self.managed, &mut self.disk);
        let stuck = async {
            match node {
                Some(node) => disk.stuck_streams(node).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            exit = managed.wait() => format!("nats-server ended with {exit}"),
            streams = stuck => format!(
                "the disk was full and has space again, and streams take no messages until a restart: {}",
                streams.join(", ")
            ),
        }
    }

    /// Ends the server, and then its traces for other programs.
    pub(super) async fn stop(self) {
        self.managed.stop(SERVER_GRACE).await;
    }
}

/// Resolves when the node has reconnected and its nexlets should have: clients double their pauses,
/// so none waits longer than the server was away.
async fn reconnected(node: &Connection, down: Duration) {
    tokio::time::sleep(down.min(RECONNECT_PAUSE)).await;
    while node.client().connection_state() != async_nats::connection::State::Connected {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn find_binary(
    args: &UpArgs,
    context: &Context,
    data_dir: &DataDir,
    executable: &Path,
) -> Result<ServerBinary, CommandError> {
    nex_server::find_binary(
        args.nats_server.as_deref(),
        context
            .env
            .path("NEX_NATS_SERVER")
            .as_deref()
            .map(Path::as_os_str),
        data_dir.path(),
        executable,
        context.env.var("PATH"),
    )
    .await
    .map_err(|error| hinted(&error, error.hint()))
}
