//! The SDK for nexlets: programs that run one type of workload for a node.
//!
//! An author implements [`Nexlet`] and hands it to [`run`] or [`run_remote`], which registers it with
//! its node, beats its heart, takes requests and answers them. Output goes to the feeds through
//! [`LogWriter`], events through [`Host`].
//!
//! ```text
//!   node ── STARTWORKLOAD, STOPWORKLOAD, … ──> runner ── start(), stop(), … ──> Nexlet
//!        <── replies, heartbeats ───────────── runner                             │
//!   feeds <── logs, events ─────────────────── Host, LogWriter <──────────────────┘
//! ```
//!
//! # Invariants
//!
//! - A request gets exactly one reply; a question for a workload that is not here gets none.
//! - All endpoints are known to the server before the first heartbeat makes the node bid.
//! - An id is started at most once at a time, also when a node hands it over twice.
//! - A nexlet that is told to end says `stopping` in a heartbeat before it ends its workloads, on the
//!   same connection. So a node knows that a workload whose end it hears of afterwards is to be
//!   taken up again, and did not end by itself.

mod chain;
mod contract;
mod creds;
mod ends;
mod host;
mod log;
mod names;
mod runner;

pub use chain::Chain;
pub use contract::{Description, Nexlet, Refusal, Start, Started, Stop, StopError};
pub use creds::creds_file;
pub use host::Host;
pub use log::LogWriter;
pub use names::made_up_name;
pub use runner::{
    End, InvalidEnvironment, RegisterError, RemoteError, Route, RunError, RunRemoteError,
    RunnerConfig, run, run_remote,
};
