//! A nexlet of any other make as a child process, below a supervisor.
//!
//! Nothing is known of it but that it registers. It does not watch a lifeline, may ignore signals, and
//! may leave processes behind: its supervisor ends it, with all that it has started, when the node
//! asks or dies.

use std::time::Duration;

use nex_process::{Command, Output, Tree};
use tracing::{error, info, warn};

use super::{
    super::supervise::{End, StopSignal, stop_asked},
    KILL_LIMIT,
    output::{self, relay},
};
use crate::config::ForeignNexlet;

/// One life of a foreign nexlet.
pub(in crate::nexlet) async fn live(
    plan: &ForeignNexlet,
    environment: Vec<(String, String)>,
    hung: impl Future<Output = String>,
    stop_rx: &mut StopSignal,
) -> End {
    let mut command = Command::new(&plan.program);
    command.args = plan.args.iter().map(Into::into).collect();
    // The node's variables come last: they win.
    command.env = plan.env.iter().cloned().chain(environment).collect();
    command.cwd.clone_from(&plan.cwd);
    command.stdout = Output::Pipe;
    command.stderr = Output::Pipe;
    let spawned = tokio::select! {
        spawned = plan.launcher.spawn(command) => spawned,
        _ = stop_asked(stop_rx) => return End::Stopped,
    };
    let mut tree = match spawned {
        Ok(tree) => tree,
        Err(error) => return End::Failed(nexlet::Chain(&error).to_string()),
    };
    info!(pid = tree.pid(), "nexlet process started");

    let (stdout, stderr) = (tree.take_stdout(), tree.take_stderr());
    let output = async {
        tokio::join!(
            relay(stdout, |line| info!(stream = "stdout", "{line}")),
            relay(stderr, |line| error!(stream = "stderr", "{line}")),
        );
    };
    output::until(until_end(&mut tree, hung, stop_rx), output).await
}

/// Ends with the whole tree: what a nexlet has left behind would run beside its successor.
async fn until_end(
    tree: &mut Tree,
    hung: impl Future<Output = String>,
    stop_rx: &mut StopSignal,
) -> End {
    tokio::select! {
        ended = tree.wait() => End::Failed(ended.exit.to_string()),

        grace = stop_asked(stop_rx) => {
            stop(tree, grace).await;
            End::Stopped
        }

        reason = hung => {
            stop(tree, Duration::ZERO).await;
            End::Failed(format!("killed, for it is hung: {reason}"))
        }
    }
}

/// SIGINT at once, as nodes of the Go Nex send it; SIGTERM after half of the grace; then SIGKILL for
/// all of the tree.
async fn stop(tree: &mut Tree, grace: Duration) {
    tree.stopper().stop(grace);
    let gone = tokio::time::timeout(grace.saturating_add(KILL_LIMIT), tree.wait());
    if gone.await.is_err() {
        warn!("nexlet's processes do not die");
    }
}
