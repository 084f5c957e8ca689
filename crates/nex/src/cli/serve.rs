//! Commands that run nodes.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand, ValueEnum};
use nex_protocol::{GoDuration, NexusName};

use super::{agents::AgentArgs, go::GoNodeArgs, value::TagList};

/// What functions reach through host services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reach {
    /// Private addresses too, and buckets are made when they are first used
    Local,
    /// Public addresses, and buckets that are there
    #[default]
    Public,
}

/// What keeps the workloads of a node over its restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateChoice {
    /// A file in the data folder.
    Disk,
    /// A bucket in JetStream.
    Kv,
}

impl FromStr for StateChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            // Go's default, which keeps nothing; nobody misses that.
            "disk" | "" => Ok(Self::Disk),
            "kv" => Ok(Self::Kv),
            _ => Err("want `disk` or `kv`".to_owned()),
        }
    }
}

/// `nex up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Where keys and data are kept [default: `nex/up` in the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The port of the NATS server on 127.0.0.1; 0 picks a free one and keeps it
    #[arg(long, value_name = "PORT", default_value_t = 4222)]
    pub(crate) port: u16,
    /// Refuse clients without credentials
    #[arg(long)]
    pub(crate) no_anonymous: bool,
    /// Run the nexlets in the node's own process
    #[arg(long)]
    pub(crate) embedded: bool,
    /// Where the node keeps which workloads should run, for its next start: in its data folder, or
    /// in a key-value bucket, as Go nodes do
    #[arg(long, value_name = "disk|kv", default_value = "disk")]
    pub(crate) state: StateChoice,
    /// The nats-server to run [env: NEX_NATS_SERVER]
    #[arg(long, value_name = "FILE")]
    pub(crate) nats_server: Option<PathBuf>,
    /// The name of the node [default: the machine's]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// The nexus that the node belongs to
    #[arg(long, value_name = "NAME", default_value = "nexus")]
    pub(crate) nexus: NexusName,
    /// Tags of the node: a=b, repeated or joined by `;`
    #[arg(long = "tags", value_name = "KEY=VALUE")]
    pub(crate) tags: Vec<TagList>,
    #[command(flatten)]
    pub(crate) agents: AgentArgs,
}

/// `nex node up`.
#[derive(Debug, Args)]
pub(crate) struct NodeUpArgs {
    /// Where the node's identity and its nexlets' files are kept [default: `nex/node` in the
    /// user's data folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The nexus that the node belongs to
    #[arg(long, value_name = "NAME", default_value = "nexus")]
    pub(crate) nexus: NexusName,
    /// The name of the node [default: the machine's]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// The seed of the node's identity, SN… [default: the one kept in the data folder]
    #[arg(long, value_name = "SEED")]
    pub(crate) node_seed: Option<String>,
    /// The seed of the node's curve key, SX… [default: the one kept in the data folder]
    #[arg(long, value_name = "SEED")]
    pub(crate) node_xkey_seed: Option<String>,
    /// Tags of the node: a=b, repeated or joined by `;`
    #[arg(long = "tags", value_name = "KEY=VALUE")]
    pub(crate) tags: Vec<TagList>,
    /// Take nexlets that register from elsewhere
    #[arg(long)]
    pub(crate) allow_remote_agent_registration: bool,
    /// Run the nexlets in the node's own process
    #[arg(long)]
    pub(crate) embedded: bool,
    /// Where the node keeps which workloads should run, for its next start: in its data folder, or
    /// in a key-value bucket, as Go nodes do
    #[arg(long, value_name = "disk|kv", default_value = "disk")]
    pub(crate) state: StateChoice,
    /// How long a bid stays valid
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) auction_ttl: GoDuration,
    #[command(flatten)]
    pub(crate) agents: AgentArgs,
    #[command(flatten)]
    pub(crate) issuer: IssuerArgs,
    #[command(flatten)]
    pub(crate) go: GoNodeArgs,
}

/// Who signs the credentials of nexlets and workloads.
#[derive(Debug, Args)]
#[command(next_help_heading = "Credential Issuer Nexlet/Workload Auth")]
pub(crate) struct IssuerArgs {
    /// The seed of an account's signing key
    #[arg(
        id = "issuer_signing_key",
        long = "issuer-signing-key",
        value_name = "SEED",
        requires = "issuer_signing_key_root_account"
    )]
    pub(crate) signing_key: Option<String>,
    /// The account of the signing key
    #[arg(
        id = "issuer_signing_key_root_account",
        long = "issuer-signing-key-root-account",
        value_name = "KEY",
        requires = "issuer_signing_key"
    )]
    pub(crate) signing_key_root_account: Option<String>,
    /// An nkey for every nexlet and workload
    // Ids of their own: `nkey` is a flag of every command, which this one would shadow.
    #[arg(
        id = "issuer_nkey",
        long = "issuer-nkey",
        value_name = "KEY",
        requires = "issuer_nkey_seed"
    )]
    pub(crate) nkey: Option<String>,
    /// The seed of that nkey
    #[arg(
        id = "issuer_nkey_seed",
        long = "issuer-nkey-seed",
        value_name = "SEED",
        requires = "issuer_nkey"
    )]
    pub(crate) nkey_seed: Option<String>,
}

/// `nex nexlet`.
#[derive(Debug, Args)]
pub(crate) struct NexletArgs {
    #[command(subcommand)]
    pub(crate) command: NexletCommand,
}

/// What to do with nexlets.
#[derive(Debug, Subcommand)]
pub(crate) enum NexletCommand {
    /// Run a built-in nexlet: for the node that started this process, or for a node elsewhere
    Run(NexletRunArgs),
}

/// `nex nexlet run`.
#[derive(Debug, Args)]
pub(crate) struct NexletRunArgs {
    /// The type of workload
    pub(crate) workload_type: String,
    /// Look for a node that takes nexlets from elsewhere
    #[arg(long, requires = "nexus")]
    pub(crate) remote: bool,
    /// The nexus of that node
    #[arg(long, value_name = "NAME", requires = "remote")]
    pub(crate) nexus: Option<NexusName>,
    /// Where the nexlet keeps its files [default, with `--remote`: `nex/nexlets/TYPE` in the user's
    /// data folder]
    #[arg(long, value_name = "DIR", required_unless_present = "remote")]
    pub(crate) data_dir: Option<PathBuf>,
    /// What functions reach through host services
    #[arg(long, value_enum, default_value_t)]
    pub(crate) reach: Reach,
}

/// `nex node lameduck`.
#[derive(Debug, Args)]
pub(crate) struct LameduckArgs {
    /// Its id, the beginning of its id, or its name
    #[arg(value_name = "ID|NAME")]
    pub(crate) node: String,
    /// How long its workloads run on
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub(crate) delay: GoDuration,
    /// Only if the node has this tag: a=b, repeated or joined by `;`
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(crate) tags: Vec<TagList>,
    /// Call it back: it takes work again, and does not end
    #[arg(long, conflicts_with = "delay")]
    pub(crate) cancel: bool,
}
