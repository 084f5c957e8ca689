//! What a node is told, and what it refuses to be told.

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use nex_process::Launcher;
use nex_protocol::{InvalidId, NexusName, NodeId, Tags};
use nexlet::{Nexlet, RunError, RunnerConfig};
use nkeys::{KeyPair, KeyPairType, XKey};
use tokio_util::sync::CancellationToken;

use crate::timeouts;

/// The prefix of the tags that a node sets itself.
const RESERVED_PREFIX: &str = "nex.";

/// What a node is told. `Debug` of the keys shows no seed.
#[derive(Debug)]
pub struct Config {
    /// The server nkey whose public part is the node's id.
    pub identity: KeyPair,
    /// The curve key whose public part the node tells to clients.
    pub xkey: XKey,
    /// The name for people.
    pub name: String,
    /// The nexus that the node belongs to.
    pub nexus: NexusName,
    /// The operator's tags; none may begin with `nex.`.
    pub tags: Tags,
    /// The version, as SemVer.
    pub version: String,
    /// Whether nexlets that the node did not start may ask to be registered.
    pub allow_remote: bool,
    /// The nexlets that the node starts.
    pub nexlets: Vec<NexletPlan>,
    /// How long a bid is good.
    pub auction_ttl: Duration,
}

impl Config {
    /// How long a bid is good where the operator says nothing.
    pub const DEFAULT_AUCTION_TTL: Duration = timeouts::AUCTION_TTL;

    /// Checks what the types cannot say and returns the node's id.
    pub(crate) fn check(&self) -> Result<NodeId, ConfigError> {
        if let Some(tag) = self
            .tags
            .keys()
            .find(|tag| tag.starts_with(RESERVED_PREFIX))
        {
            return Err(ConfigError::ReservedTag(tag.clone()));
        }
        if self.identity.key_pair_type() != KeyPairType::Server {
            return Err(ConfigError::NoServerKey);
        }
        NodeId::new(self.identity.public_key()).map_err(ConfigError::Identity)
    }

    /// All tags of the node but `nex.lameduck`, which changes.
    pub(crate) fn all_tags(&self) -> Tags {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let mut tags = self.tags.clone();
        for (name, value) in [
            ("nex.os", go_os(std::env::consts::OS).to_owned()),
            ("nex.arch", go_arch(std::env::consts::ARCH).to_owned()),
            ("nex.cpucount", cpus.to_string()),
            ("nex.nexus", self.nexus.to_string()),
            ("nex.node", self.name.clone()),
        ] {
            tags.insert(name.to_owned(), value);
        }
        tags
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A tag of the operator has the prefix of the node's own.
    #[error("invalid tag `{0}`: the prefix `nex.` is reserved")]
    ReservedTag(String),
    /// The identity is a key of another kind.
    #[error("invalid node seed: want a server nkey, whose seed begins with `SN`")]
    NoServerKey,
    /// The identity's public part is no node id.
    #[error("invalid node identity")]
    Identity(#[source] InvalidId),
}

/// A nexlet that the node starts and keeps running.
#[derive(Clone, Debug)]
pub enum NexletPlan {
    /// A child process that knows how nodes of ours treat theirs.
    Local(LocalNexlet),
    /// A child process of any other make.
    Foreign(ForeignNexlet),
    /// Inside this process, on a thread of its own.
    Embedded(EmbeddedNexlet),
}

impl NexletPlan {
    /// Runs a nexlet of the SDK inside the node's process. `make` is called for each of its lives,
    /// on its thread: one that has ended may remember workloads that died with its runtime.
    pub fn embedded<N: Nexlet>(
        workload_type: impl Into<String>,
        make: impl Fn() -> Arc<N> + Send + Sync + 'static,
    ) -> Self {
        Self::Embedded(EmbeddedNexlet {
            workload_type: workload_type.into(),
            run: Arc::new(move |config, cancel| Box::pin(nexlet::run(make(), config, cancel))),
        })
    }

    /// What people call it: the type of workload that it is meant to run, or, where that is known
    /// only when it registers, its program.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Local(local) => local.workload_type.clone(),
            Self::Foreign(foreign) => {
                let name = foreign.program.file_name();
                name.unwrap_or(foreign.program.as_os_str())
                    .to_string_lossy()
                    .into_owned()
            }
            Self::Embedded(embedded) => embedded.workload_type.clone(),
        }
    }

    /// Whether the node is not ready without it.
    pub(crate) fn is_required(&self) -> bool {
        !matches!(self, Self::Foreign(_))
    }

    /// How often in a row it may be started again; `None` is without end.
    pub(crate) fn restart_limit(&self) -> Option<u32> {
        match self {
            Self::Foreign(foreign) => foreign.restart_limit,
            Self::Local(_) | Self::Embedded(_) => None,
        }
    }
}

/// A nexlet that is a program of ours: it ends on SIGTERM and with its lifeline, and ends what it
/// has started itself.
#[derive(Clone, Debug)]
pub struct LocalNexlet {
    /// The type of workload that it is meant to run.
    pub workload_type: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment beside the `NEX_AGENT_*` variables; it gets nothing else.
    pub env: Vec<(String, String)>,
    /// Its working folder.
    pub cwd: PathBuf,
}

/// A nexlet that is a program of which nothing is known but how to start it, as nodes of the Go Nex
/// start theirs. The type of workload that it runs is told when it registers.
///
/// Whatever it starts is its own: when it ends, is stopped, or its node dies, all of it is killed.
#[derive(Clone, Debug)]
pub struct ForeignNexlet {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment beside the `NEX_AGENT_*` variables; it gets nothing else.
    pub env: Vec<(String, String)>,
    /// Its working folder.
    pub cwd: PathBuf,
    /// How often in a row it is started again before it is given up; `None` is without end. A run of
    /// a minute heals the budget.
    pub restart_limit: Option<u32>,
    /// Starts it below a supervisor.
    pub launcher: Launcher,
}

/// Runs a nexlet until it is cancelled or fails.
pub type EmbeddedRun = dyn Fn(RunnerConfig, CancellationToken) -> Pin<Box<dyn Future<Output = Result<(), RunError>>>>
    + Send
    + Sync;

/// A nexlet that is code of this program.
#[derive(Clone)]
pub struct EmbeddedNexlet {
    /// The type of workload that it is meant to run.
    pub workload_type: String,
    /// Runs it; called again for each restart, each time on a new thread.
    pub run: Arc<EmbeddedRun>,
}

impl std::fmt::Debug for EmbeddedNexlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedNexlet")
            .field("workload_type", &self.workload_type)
            .finish_non_exhaustive()
    }
}

/// The name that Go has for an operating system.
fn go_os(os: &str) -> &str {
    match os {
        "macos" => "darwin",
        other => other,
    }
}

/// The name that Go has for a processor.
fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            identity: KeyPair::new_server(),
            xkey: XKey::new(),
            name: "n1".into(),
            nexus: NexusName::new("nexus").unwrap(),
            tags: Tags::from([("region".into(), "lab".into())]),
            version: "0.5.0".into(),
            allow_remote: false,
            nexlets: Vec::new(),
            auction_ttl: Config::DEFAULT_AUCTION_TTL,
        }
    }

    #[test]
    fn a_reserved_tag_is_refused_by_name() {
        let mut config = config();
        config.tags.insert("nex.os".into(), "plan9".into());

        let error = config.check().unwrap_err();

        assert_eq!(
            error.to_string(),
            "invalid tag `nex.os`: the prefix `nex.` is reserved"
        );
    }

    #[test]
    fn a_user_key_is_no_identity() {
        let config = Config {
            identity: KeyPair::new_user(),
            ..config()
        };

        assert!(matches!(config.check(), Err(ConfigError::NoServerKey)));
    }

    #[test]
    fn a_node_has_its_own_tags_beside_the_operators() {
        let tags = config().all_tags();

        assert_eq!(tags["region"], "lab");
        assert_eq!(tags["nex.nexus"], "nexus");
        assert_eq!(tags["nex.node"], "n1");
        assert!(tags["nex.cpucount"].parse::<u32>().unwrap() >= 1);
    }

    #[test]
    fn systems_have_their_go_names() {
        assert_eq!(go_os("macos"), "darwin");
        assert_eq!(go_os("linux"), "linux");
        assert_eq!(go_arch("x86_64"), "amd64");
        assert_eq!(go_arch("aarch64"), "arm64");
    }
}
