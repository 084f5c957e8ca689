//! Locks and signals of the scheduler. The model check puts those of a model checker in their place.

pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

pub(crate) use tokio::sync::Notify;
