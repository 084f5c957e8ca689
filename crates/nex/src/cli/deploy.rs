//! Commands that deploy and stop.

use std::path::PathBuf;

use clap::Args;
use nex_protocol::{
    GoDuration, Lifecycle,
    function::{StreamTrigger, TriggerSubject},
};

use super::{
    placement::PlacementArgs,
    value::{Pair, TagList, variable},
};

/// `nex workload start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// The file that says what to start; `-` is standard input [default: `Nexfile` in this folder,
    /// where there is no `--start-request`]
    #[arg(
        short = 'f',
        long,
        value_name = "FILE",
        conflicts_with = "start_request"
    )]
    pub(crate) nexfile: Option<PathBuf>,
    /// The nexlet's own start request, as JSON, instead of a file
    #[arg(long, value_name = "JSON")]
    pub(crate) start_request: Option<String>,
    /// The type of workload, and so the nexlet [default: the file's, else native]
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) workload_type: Option<String>,
    /// Its name [default: the file's, else made up by the nexlet]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How long it is meant to live: service, job or function [default: the file's, else function
    /// for the types js and wasm, else service]
    #[arg(long, value_name = "LIFECYCLE")]
    pub(crate) lifecycle: Option<Lifecycle>,
    /// Tags that a node must have, instead of the file's: a=b, repeated or joined by `;`
    #[arg(long = "tags", value_name = "KEY=VALUE")]
    pub(crate) tags: Vec<TagList>,
    /// For people [default: the file's]
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Wait until a job has ended, and exit with its exit code; or until a service has stayed up for
    /// a second
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
}

/// `nex workload validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The file; `-` is standard input
    #[arg(value_name = "FILE", default_value = "Nexfile")]
    pub(crate) nexfile: PathBuf,
    /// Check the form alone, and ask no node
    #[arg(long)]
    pub(crate) offline: bool,
    /// Print the JSON Schema of Nexfiles, for editors, and check nothing
    #[arg(long, conflicts_with = "offline")]
    pub(crate) schema: bool,
}

/// `nex workload stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Its id, the beginning of its id, or its name
    #[arg(value_name = "ID|NAME")]
    pub(crate) workload: String,
    /// How long to wait for its end
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub(crate) wait: GoDuration,
    /// Remove its place in streams too, unless other replicas use it: started again, the function
    /// gets all messages of the stream again
    #[arg(long)]
    pub(crate) purge: bool,
}

/// `nex workload clone`.
#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    /// Its id, the beginning of its id, or its name
    #[arg(value_name = "ID|NAME")]
    pub(crate) workload: String,
    /// Tags that the node of the clone must have: a=b, repeated or joined by `;` [default: none,
    /// whatever the original asked for]
    #[arg(long = "tags", value_name = "KEY=VALUE")]
    pub(crate) tags: Vec<TagList>,
    /// Stop the original when the clone is ready
    #[arg(long)]
    pub(crate) stop: bool,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
}

/// `nex devrun`.
#[derive(Debug, Args)]
pub(crate) struct DevrunArgs {
    /// The file to deploy, or a folder of JavaScript
    pub(crate) file: PathBuf,
    /// Variables for the environment of a program or a function
    #[arg(value_name = "KEY=VALUE", value_parser = variable)]
    pub(crate) variables: Vec<Pair>,
    /// Arguments of a native program
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) argv: Vec<String>,
    /// The type of workload [default: told by the file]
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) workload_type: Option<String>,
    /// A subject that triggers the function; repeat it for more
    #[arg(
        long = "trigger-subject",
        alias = "trigger_subject",
        value_name = "SUBJECT",
        value_parser = |text: &str| TriggerSubject::new(text)
    )]
    pub(crate) trigger_subjects: Vec<TriggerSubject>,
    /// A JetStream stream whose messages the function processes, all or those on the subjects of a
    /// filter; repeat it for more
    #[arg(long = "trigger-stream", value_name = "STREAM[:FILTER]")]
    pub(crate) trigger_streams: Vec<StreamTrigger>,
    /// Its name [default: the file's, without its extension]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How long it is meant to live: service, job or function [default: function for the types
    /// js and wasm, else service]
    #[arg(long, value_name = "LIFECYCLE")]
    pub(crate) lifecycle: Option<Lifecycle>,
    /// Tags that a node must have: a=b, repeated or joined by `;`
    #[arg(long = "tags", value_name = "KEY=VALUE")]
    pub(crate) tags: Vec<TagList>,
    /// For people
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) description: String,
    /// Print what it writes, and stop it on Ctrl-C
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
}
