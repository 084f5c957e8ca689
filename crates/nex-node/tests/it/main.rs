//! A node in this process, a real nats-server, and nexlets made of raw NATS messages, so that the
//! wire is what is tested.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod auction;
mod clone;
mod deploy;
mod lameduck;
mod list;
mod look;
mod nexlets;
mod peers;
mod register;
mod remote;
mod restore;
mod rows;
mod stop;
mod support;
mod undeploy;
