//! What tests (and `cargo xtask demo` and `bench`) need around the code under test.
//!
//! - [`NatsServer`]: a real nats-server of its own per test, on a free port, in a temporary folder.
//! - [`Home`]: a hermetic user: own HOME and XDG folders, an empty environment, and the promise that
//!   no process is left when it goes.
//! - [`NexUp`]: the real binary's `nex up` in such a home, and the real CLI against it.
//! - [`conformance`]: whether a nexlet, ours or anybody's, does what nodes rely on.
//! - [`eventually`] and [`wait_until`]: poll for an outcome instead of sleeping for it.
//! - [`RawNats`]: a connection for what no client library would send.
//! - [`WebServer`]: an HTTP server whose answers a test decides.
//! - [`skip`], [`seeds`], [`bin`], [`nats_server`]: what a machine may lack, said loudly.
//!
//! Test-only: helpers panic where a test could not go on anyway, with what a person needs to see why.
//! The `try_` forms return the error instead. There is no NATS client in here; tests bring their own.

pub mod conformance;

mod exchanges;
mod home;
mod locate;
mod process;
mod raw;
mod server;
mod skip;
mod up;
mod wait;
mod web;

pub use exchanges::{EXCHANGES_FILE, exchanges};
pub use home::{Home, Output};
pub use locate::{bin, bin_dir, nats_server, seeds, workspace_root};
pub use process::{Process, mentioning, proc_tree, terminate};
pub use raw::{RawMessage, RawNats};
pub use server::{NatsServer, NatsServerBuilder};
pub use skip::{SKIPS_FILE, skip};
pub use up::{NexUp, NexUpBuilder};
pub use wait::{Attempt, eventually, wait_until};
pub use web::{WebRequest, WebServer};
