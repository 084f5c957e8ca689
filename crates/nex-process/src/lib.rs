//! Process trees: started in sessions of their own, ended as a whole.
//!
//! ```text
//!   nex up / nex node up      Reaper::install(): orphans of the tree come here
//!    │
//!    ├── supervisor ── nats-server                    Launcher::spawn -> Tree
//!    │
//!    └── nexlet (same binary)                 spawn_lifeline -> LifelineChild
//!         │   Reaper::install(); stdin is the lifeline: end-of-file = owner died
//!         │
//!         ├── supervisor ── workload ── its children, daemons, setsid …
//!         └── supervisor ── workload …                Launcher::spawn -> Tree
//! ```
//!
//! A supervisor is this same binary, started as `nex supervise`: one thread,
//! no runtime, one workload. It is the child subreaper of its workload, so
//! whatever the workload starts, also what calls `setsid` and forks twice,
//! stays below it and is found through `/proc`. Its descriptor 0 is a socket
//! to its owner: orders come in, reports go out, and end-of-file says that the
//! owner is dead.
//!
//! # Invariants
//!
//! - Every child is the leader of its own session: the terminal's signals
//!   reach only the process that the person started.
//! - A child starts with default signal handling, an empty signal mask, exactly
//!   the environment that it was given, and no descriptor above 2.
//! - [`Tree::wait`] resolves when nothing of the tree is alive, never before.
//! - When the main process of a tree ends, the rest of the tree is killed.
//! - An owner that dies closes the channel; the supervisor then stops its tree
//!   within [`Command::orphan_grace`]. The death of an owner wakes a child that
//!   is suspended, so that it sees it. A supervisor that dies takes the main
//!   process with it (parent-death signal), and its owner, a subreaper too,
//!   kills what it inherits. If both die, the next owner up does that after
//!   [`ADOPTED_GRACE`].
//! - All children that live in sessions of their own are started through this
//!   crate. A child that some library starts in our own session is foreign and
//!   is neither reaped nor killed here.
//!
//! Not here: limits on memory and processor time, users, namespaces, and what
//! a workload asks another daemon of the machine to start for it.
//!
//! Without Linux there is no subreaper and no `/proc`: a tree is then the
//! process group of its main process, and a daemon that leaves it gets away.

mod capture;
mod child;
mod command;
mod identity;
mod isolate;
mod lifeline;
mod limits;
mod os;
mod own;
mod protocol;
mod reaper;
pub mod supervisor;
mod tree;

pub use capture::{CaptureError, Captured, output};
pub use command::{Command, Exit, Output};
pub use identity::{EndError, Identity};
pub use lifeline::{LifelineChild, lifeline, spawn_lifeline};
pub use own::{OwnThread, release_code, release_memory};
pub use reaper::{ADOPTED_GRACE, Reaper};
pub use tree::{Ended, Launcher, SpawnError, Stopper, Tree};

/// The first argument with which the binary is started as a supervisor.
///
/// The binary looks for it before anything else, and then calls
/// [`supervisor::main`] without starting a runtime or parsing arguments.
pub const SUPERVISE_ARG: &str = "supervise";
