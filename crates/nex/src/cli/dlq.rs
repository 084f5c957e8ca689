//! Dead letters.

use clap::{Args, Subcommand};

/// `nex dlq`.
#[derive(Debug, Args)]
pub(crate) struct DlqArgs {
    #[command(subcommand)]
    pub(crate) command: DlqCommand,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List dead letters: messages of streams that a function failed on too often
    #[command(visible_alias = "ls")]
    List,
    /// Print one dead letter: why it is one, and the message
    Show {
        /// Its number in the list
        #[arg(value_name = "NUMBER")]
        number: u64,
    },
    /// Let the function have dead letters again, and remove those on which it succeeds
    Replay(ManyArgs),
    /// Remove dead letters for good
    Drop(ManyArgs),
}

/// Some dead letters.
#[derive(Debug, Args)]
pub(crate) struct ManyArgs {
    /// Their numbers in the list
    #[arg(value_name = "NUMBER", required_unless_present = "all")]
    pub(crate) numbers: Vec<u64>,
    /// All of the namespace
    #[arg(long, conflicts_with = "numbers")]
    pub(crate) all: bool,
}
