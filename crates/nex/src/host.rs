//! What runs nodes: `nex up`, `nex node up` and the nexlets that they start. Puts the parts
//! together; each part's rules are in its own crate.

mod agents;
mod context_file;
mod disk;
mod identity;
mod join;
mod nexlets;
mod server;
mod signals;
mod unpack;
mod up;

pub(crate) use identity::machine_name;
pub(crate) use nexlets::run as nexlet;
pub(crate) use signals::Signals;
pub(crate) use unpack::run as unpack;

use crate::{
    cli::{NodeUpArgs, UpArgs},
    context::Context,
    error::{CommandError, CommandResult, Kind},
};

/// `nex up`, until a signal or a lame duck.
///
/// # Errors
/// When a part cannot be started for the first time; each says what to do.
pub(crate) async fn up(args: UpArgs, context: &Context) -> CommandResult {
    up::run(args, context).await.map_err(disk::hinted)
}

/// `nex node up`, until a signal or a lame duck.
///
/// # Errors
/// When NATS is not there, or a part cannot be started.
pub(crate) async fn node_up(args: NodeUpArgs, context: &Context) -> CommandResult {
    join::run(args, context).await.map_err(disk::hinted)
}

/// Gives back the memory that only the start of a node needed, for most nodes idle most of the time.
fn release_start_memory() {
    nex_process::release_memory();
    if let Err(error) = nex_process::release_code() {
        tracing::debug!(%error, "failed to give back the code of the start");
    }
}

/// Makes an error of a part one for people, with the part's own hint.
fn hinted(error: &(dyn std::error::Error + 'static), hint: String) -> CommandError {
    CommandError::from_error(Kind::Failed, error).hint(hint)
}
