//! A node: takes requests from NATS and passes work to nexlets, which register with it.
//!
//! ```text
//!   clients ── $NEX.SVC.<namespace>.control.… ──> control ── asks ──> registry, bids, peers
//!                                                    │
//!   nexlets <── $NEX.SVC.<node>.agent.… ─────────────┘
//!      │  └── REGISTER, HEARTBEAT ──> registry
//!      └── those that the node was told to run: supervised, as processes or threads
//! ```
//!
//! ```text
//!   starting ──all planned nexlets healthy──> running <──> lameduck ──> stopping
//!       └─────────────────────────────────────────┴────────────┴────────────┘
//! ```
//!
//! A node never knows what a workload is: between it and a nexlet is only the wire protocol, also
//! when both live in one process. The nexlets own what runs; the node keeps
//! what it accepted in a [`StateStore`], to hand it back after a restart.
//!
//! # Invariants
//!
//! - A node never reads the environment; what it needs is in its [`Config`].
//! - Other nodes' bids and unknown workloads are met with silence, as the protocol has it; a node
//!   answers for sure only for the ids that it made.
//! - A nexlet is bid with only while its last heartbeat says `running` and is not old.
//! - Nothing waits on somebody else without a limit; the limits are in one table.

mod auction;
mod capacity;
mod cgroup;
mod config;
mod control;
mod cpu;
mod doubles;
mod ends;
mod hearing;
mod heartbeat;
mod lameduck;
mod memory;
mod nexlet;
mod node;
mod order;
mod orphans;
mod peers;
mod phase;
mod reconcile;
mod remote;
mod restore;
mod shared;
mod shutdown;
mod state;
mod timeouts;
mod workloads;

pub use config::{
    Config, ConfigError, EmbeddedNexlet, EmbeddedRun, ForeignNexlet, LocalNexlet, NexletPlan,
};
pub use node::{MissingNexlet, Node, NotReady, RunningNode, StartError};
pub use state::{DiskStore, KvStore, Pending, Record, StateError, StateStore};
