//! From flags and a kept identity to a node that can bid.

use std::{path::Path, sync::Arc, time::Duration};

use nex_credentials::Minter;
use nex_nats::Connection;
use nex_node::{Config, DiskStore, KvStore, Node, RunningNode, StateError, StateStore};
use nex_protocol::{NexusName, NodeId, Tags};
use nex_server::NodeIdentity;
use nkeys::{KeyPair, XKey};

use super::{agents, disk, nexlets};
use crate::{
    cli::{AgentArgs, Reach, StateChoice},
    error::{CommandError, Kind},
};

/// Where in the data folder the journal is.
const JOURNAL_FOLDER: &str = "journal";

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
    pub(super) reach: Reach,
    pub(super) agents: AgentArgs,
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
    let types = nexlets::types(&settings.agents);
    let mut nexlets = nexlets::plans(&types, data_dir, settings.embedded, settings.reach)?;
    nexlets.extend(agents::plans(&settings.agents)?);
    Ok(Config {
        identity: KeyPair::from_seed(&identity.seed).map_err(|error| unusable("seed", &error))?,
        xkey: XKey::from_seed(&identity.curve_seed)
            .map_err(|error| unusable("curve seed", &error))?,
        name: settings.name.unwrap_or_else(machine_name),
        nexus: settings.nexus,
        tags: settings.tags,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        allow_remote: settings.allow_remote,
        nexlets,
        auction_ttl: settings.auction_ttl,
    })
}

/// Opens what keeps the workloads that should run.
///
/// # Errors
/// When the file or the bucket cannot be used.
pub(super) async fn store(
    choice: StateChoice,
    config: &Config,
    data_dir: &Path,
    connection: &Connection,
) -> Result<Arc<dyn StateStore>, CommandError> {
    let node = NodeId::new(config.identity.public_key())
        .map_err(|error| CommandError::usage("failed to use the node's seed").because(&error))?;
    let (opened, hint): (Result<Arc<dyn StateStore>, StateError>, _) = match choice {
        StateChoice::Disk => {
            let folder = data_dir.join(JOURNAL_FOLDER);
            let opening = tokio::task::spawn_blocking(move || DiskStore::open(&folder, &node));
            let opened = opening
                .await
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            let hint =
                "if the file is damaged, move it away: the node then starts with no workloads";
            (opened.map(|store| Arc::new(store) as _), hint)
        }
        StateChoice::Kv => {
            let opened = KvStore::open(connection.client(), &node).await;
            let hint = "`--state kv` needs JetStream, and credentials that may use it";
            (opened.map(|store| Arc::new(store) as _), hint)
        }
    };
    opened.map_err(|error| {
        let told = CommandError::from_error(Kind::Failed, &error);
        disk::hinted(told).or_hint(hint)
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
    store: Arc<dyn StateStore>,
) -> Result<RunningNode, CommandError> {
    let node = Node::start(config, connection, minter, store)
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
pub(crate) fn machine_name() -> String {
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
