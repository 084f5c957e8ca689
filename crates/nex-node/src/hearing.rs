//! For how long the node has been able to hear others: silence says nothing before.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use async_nats::connection::State;

use crate::shared::Shared;

/// An unbroken connection of the node to NATS.
#[derive(Debug)]
pub(crate) struct Hearing {
    since: Instant,
    /// The number of the connection.
    connects: u64,
}

impl Hearing {
    pub(crate) fn begin(shared: &Shared) -> Self {
        Self {
            since: Instant::now(),
            connects: connects(shared),
        }
    }

    /// Returns the age of the connection. Call it every few seconds: an interruption between two
    /// calls is noticed, its length is not.
    pub(crate) fn lasts(&mut self, shared: &Shared, now: Instant) -> Duration {
        let connects = connects(shared);
        if shared.client.connection_state() != State::Connected || connects != self.connects {
            *self = Self {
                since: now,
                connects,
            };
        }
        now.saturating_duration_since(self.since)
    }
}

fn connects(shared: &Shared) -> u64 {
    shared.client.statistics().connects.load(Ordering::Relaxed)
}
