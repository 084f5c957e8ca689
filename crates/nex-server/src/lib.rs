//! The nats-server of `nex up`: its keys, its configuration, its process, and the data folder in
//! which all of that is.
//!
//! ```text
//! find_binary ──> ServerBinary ─┐
//! DataDir::open ──> DataDir ────┴─> start ──> ManagedServer ──> Announcement ──> UpStatus::find
//!      (lock, keys)                 (child, ready, restart)      (phases)      (by other programs)
//! ```
//!
//! # Invariants
//!
//! - One process uses a data folder, by the lock in it; a server that an earlier one left is ended
//!   before the store is opened.
//! - The server listens on 127.0.0.1 only.
//! - The server's accounts live in its resolver's folder. They are seeded where they are missing
//!   and never written again, so that an update through the system account stays.
//! - Keys are made once, and a damaged file of keys is an error, never a reason for new ones.
//!
//! Not here: the environment and the terminal, which the caller reads, and connections to NATS.

mod binary;
mod config;
mod data_dir;
mod disk;
pub mod embedded;
mod files;
mod identities;
mod log;
mod ready;
mod running;
mod server;

pub use binary::{FindError, MIN_VERSION, Refusal, ServerBinary, Source, Version, find_binary};
pub use config::ConfigError;
pub use data_dir::{Account, DataDir, DataDirError, NodeIdentity};
pub use disk::free_bytes;
pub use files::FileError;
pub use identities::IdentitiesError;
pub use ready::NotReady;
pub use running::{Announcement, Phase, Running, UpStatus};
pub use server::{Config, ManagedServer, Port, StartError, server_runs, start};

/// The nats-server inside a release binary.
pub use embedded::UNPACK_ARG;
