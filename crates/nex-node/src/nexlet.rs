//! The nexlets of a node: who they are, how they are, and those that the node keeps running.

mod absence;
mod backoff;
mod embedded;
mod gather;
mod health;
mod hung;
mod local;
mod registry;
mod supervise;

pub(crate) use absence::absence;
pub(crate) use gather::{Heard, Roll, gather, gather_lists};
pub(crate) use health::Health;
pub(crate) use registry::{Heir, PickError, Picked, Registration, Registry};
pub(crate) use supervise::Supervised;
