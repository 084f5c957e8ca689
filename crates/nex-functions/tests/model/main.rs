//! A model check of the scheduler: all its files, compiled with the locks of shuttle, which tries the orders
//! in which a few threads can take them.
//!
//! The model has engine threads, the keeper of the I/O runtime, and a watchdog. A reactor stands for the
//! I/O runtime: only the thread that drives it delivers what has come, new jobs and the answers that jobs
//! wait for. No wait ends by its time-out. shuttle ends a run in which no thread can go on, so a lost
//! wake-up, and a deadlock, fail the check, also one that a time-out would mend.

#![allow(dead_code, reason = "the model uses a part of the scheduler")]

#[cfg(test)]
mod cases;
#[path = "../../src"]
mod src {
    pub(crate) mod scheduler;
}
#[cfg(test)]
mod sync;
