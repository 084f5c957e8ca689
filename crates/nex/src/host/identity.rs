//! From flags and a kept identity to a node that can bid.

use std::{path::Path, time::Duration};

use nex_credentials::Minter;
use nex_nats::Connection;
use nex_node::{Config, Node, RunningNode};
use nex_protocol::{NexusName, Tags};
use nex_server::NodeIdentity;
use nkeys::{KeyPair, XKey};

use super::nexlets;
use crate::error::{CommandError, Kind};

/// How long the built-in nexlets may take until they can bid.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// What the two ways to run a node have in common.
pub(super) struct NodeSettings {
    pub(super) name: Option<String>,
    pub(super) nexus: NexusName,
    pub(super) tags: Tags,
    pub(super) allow_remote: bool,
    pub(super) auction_ttl: Duration,
    pub(super) embedded: bool,
}

/// Puts a node's configuration together.
///
/// # Errors
/// When a seed or a folder cannot be used.
pub(super) fn config(
    identity: &NodeIdentity,
    data_dir: &Path,
    settings: NodeSettings,
) -> Result<Config, CommandError> {
    let unusable = |what: &str, error: &nkeys::error::Error| {
        CommandError::usage(format!("failed to use the node's {what}")).because(error)
    };
    Ok(Config {
        identity: KeyPair::from_seed(&identity.seed).map_err(|error| unusable("seed", &error))?,
        xkey: XKey::from_seed(&identity.curve_seed)
            .map_err(|error| unusable("curve seed", &error))?,
        name: settings.name.unwrap_or_else(machine_name),
        nexus: settings.nexus,
        tags: settings.tags,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        allow_remote: settings.allow_remote,
        nexlets: nexlets::plans(data_dir, settings.embedded)?,
        auction_ttl: settings.auction_ttl,
    })
}

/// Starts a node and waits until each of its nexlets can bid.
///
/// # Errors
/// When it does not start, or a nexlet does not come; what was started is stopped again.
pub(super) async fn start(
    config: Config,
    connection: Connection,
    minter: Minter,
) -> Result<RunningNode, CommandError> {
    let node = Node::start(config, connection, minter)
        .await
        .map_err(|error| CommandError::from_error(Kind::Failed, &error))?;
    if let Err(error) = node.ready(READY_LIMIT).await {
        node.stop(nexlets::STOP_GRACE).await;
        return Err(CommandError::from_error(Kind::Failed, &error)
            .hint("run it again with `-l debug` to see what its nexlets say"));
    }
    Ok(node)
}

/// The name of this machine, for people.
fn machine_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "nex-node".to_owned()
    } else {
        name
    }
}
