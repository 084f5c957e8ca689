//! Real processes: started, stopped, killed, lost.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test's own functions may panic as the test may"
)]

mod adoption;
mod failures;
mod identity;
mod lifeline;
mod support;
mod trees;
