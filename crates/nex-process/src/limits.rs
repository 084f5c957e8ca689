//! How many descriptors a process may have open.
//!
//! An owner has four for each tree, and the usual limit of 1,024 is far below what the system
//! grants to whoever asks. Programs are not asked: some break with descriptors above 1,023.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit with which this process was started, once it was raised.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// Lets this process have as many as the system grants. Its children keep the usual limit.
pub(crate) fn raise() {
    let inherited = *INHERITED.get_or_init(|| getrlimit(Resource::Nofile));
    let raised = Rlimit {
        current: inherited.maximum,
        ..inherited
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// What a child is to get back, where this process has more.
pub(crate) fn inherited() -> Option<Rlimit> {
    INHERITED.get().copied()
}

/// Gives a child its limit back. Async-signal-safe.
pub(crate) fn restore(inherited: Option<Rlimit>) -> io::Result<()> {
    match inherited {
        Some(limit) => Ok(setrlimit(Resource::Nofile, limit)?),
        None => Ok(()),
    }
}
