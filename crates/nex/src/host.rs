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
pub(crate) use join::run as node_up;
pub(crate) use nexlets::run as nexlet;
pub(crate) use signals::Signals;
pub(crate) use unpack::run as unpack;
pub(crate) use up::run as up;

use crate::error::{CommandError, Kind};

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
