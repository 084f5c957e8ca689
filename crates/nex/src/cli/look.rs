//! Commands that look and ask.

use std::{num::NonZero, path::PathBuf};

use clap::Args;
use nex_protocol::GoDuration;

use super::value::TagList;

/// `nex workload list`.
#[derive(Debug, Args)]
pub(crate) struct WorkloadListArgs {
    /// Only this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) workload_type: Option<String>,
    /// Only workloads with this id or name; repeated or joined by `,`
    #[arg(long, value_name = "ID|NAME", value_delimiter = ',')]
    pub(crate) filter: Vec<String>,
    /// With what nexlets say about them, and with their tags
    #[arg(long)]
    pub(crate) show_metadata: bool,
}

/// `nex workload info`.
#[derive(Debug, Args)]
pub(crate) struct WorkloadInfoArgs {
    /// Its id, the beginning of its id, or its name
    #[arg(value_name = "ID|NAME")]
    pub(crate) workload: String,
}

/// `nex node list`.
#[derive(Debug, Args)]
pub(crate) struct NodeListArgs {
    /// Only nodes with this tag: a=b, repeated or joined by `;`
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<TagList>,
}

/// `nex node info`.
#[derive(Debug, Args)]
pub(crate) struct NodeInfoArgs {
    /// Its id, the beginning of its id, or its name
    #[arg(value_name = "ID|NAME")]
    pub(crate) node: String,
    /// With everything about its nexlets
    #[arg(long)]
    pub(crate) full: bool,
}

/// `nex req`.
#[derive(Debug, Args)]
pub(crate) struct ReqArgs {
    /// Where to send the request
    pub(crate) subject: String,
    /// The payload; `-`, or nothing with a pipe at standard input: what is piped in
    pub(crate) payload: Option<String>,
    /// Print the reply's headers on standard error
    #[arg(long)]
    pub(crate) headers: bool,
    /// Print the reply as it is, without a line break at its end
    #[arg(long)]
    pub(crate) raw: bool,
}

/// `nex invoke`.
#[derive(Debug, Args)]
pub(crate) struct InvokeArgs {
    /// Id or name of a function
    #[arg(value_name = "ID|NAME")]
    pub(crate) function: String,
    /// The payload; `-`, or nothing with a pipe at standard input: what is piped in
    #[arg(conflicts_with = "file")]
    pub(crate) payload: Option<String>,
    /// A file whose bytes are the payload
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    /// Where to call it, if it has several subjects or one with a wildcard
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// Call it so often, one call after the other
    #[arg(long, value_name = "COUNT", default_value_t = NonZero::<u32>::MIN)]
    pub(crate) repeat: NonZero<u32>,
}

/// `nex events`, and what `nex logs` shares with it.
#[derive(Debug, Args)]
pub(crate) struct FeedArgs {
    /// Keep printing what comes
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// Only what is not older than this: 10m, 1h30m, 2d, 1w
    #[arg(long, value_name = "DURATION")]
    pub(crate) since: Option<GoDuration>,
}

/// `nex logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Id, beginning of an id, or name of a workload [default: all workloads]
    #[arg(value_name = "ID|NAME")]
    pub(crate) workload: Option<String>,
    #[command(flatten)]
    pub(crate) feed: FeedArgs,
}
