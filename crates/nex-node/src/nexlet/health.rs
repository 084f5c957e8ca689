//! How a nexlet is, by what it said last and how long ago. Pure: time comes in as an argument.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use nex_protocol::registration::{NexletState, NexletSummary};

/// A heartbeat older than this makes a nexlet degraded: two periods of a Go nexlet, so that one
/// late beat changes nothing.
pub(crate) const DEGRADE_LIMIT: Duration = Duration::from_secs(20);

/// A heartbeat older than this makes a nexlet offline.
pub(crate) const OFFLINE_LIMIT: Duration = Duration::from_secs(30);

/// How a nexlet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It takes work.
    Healthy,
    /// It drains or ends.
    ShuttingDown,
    /// It is not ready, failed, or late.
    Degraded,
    /// Nothing was heard of it for long.
    Offline,
    /// It has not said yet, or said something else.
    Unknown,
}

impl Health {
    /// The words on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::ShuttingDown => "shutting down",
            Self::Degraded => "degraded",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }

    /// The same as a coloured dot.
    pub(crate) fn stoplight(self) -> &'static str {
        match self {
            Self::Healthy => "🟢",
            Self::ShuttingDown => "🟠",
            Self::Degraded => "🟡",
            Self::Offline => "🔴",
            Self::Unknown => "⚪️",
        }
    }
}

/// What was heard of a nexlet since its registration.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    registered: Instant,
    last: Option<Beat>,
    /// Whether nobody took a request since.
    lost: bool,
}

/// One heartbeat.
#[derive(Clone, Debug)]
pub(crate) struct Beat {
    /// When it came.
    pub(crate) at: Instant,
    /// The same for people.
    pub(crate) time: Timestamp,
    /// What it said.
    pub(crate) summary: NexletSummary,
}

impl Pulse {
    pub(crate) fn new(registered: Instant) -> Self {
        Self {
            registered,
            last: None,
            lost: false,
        }
    }

    pub(crate) fn beat(&mut self, beat: Beat) {
        self.last = Some(beat);
        self.lost = false;
    }

    /// Nobody is there to take its requests.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    pub(crate) fn last(&self) -> Option<&Beat> {
        self.last.as_ref()
    }

    /// Returns the time since the nexlet's last heartbeat, or since its registration.
    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        let heard = self.last.as_ref().map_or(self.registered, |beat| beat.at);
        now.saturating_duration_since(heard)
    }

    pub(crate) fn health(&self, now: Instant) -> Health {
        let silent = self.silent_for(now);
        if self.lost || silent > OFFLINE_LIMIT {
            return Health::Offline;
        }
        let Some(beat) = &self.last else {
            return Health::Unknown;
        };
        if silent > DEGRADE_LIMIT {
            return Health::Degraded;
        }
        let said = |state: NexletState| beat.summary.state == state.as_str();
        if said(NexletState::Running) {
            Health::Healthy
        } else if said(NexletState::Starting) || said(NexletState::Error) {
            Health::Degraded
        } else if said(NexletState::Lameduck) || said(NexletState::Stopping) {
            Health::ShuttingDown
        } else {
            Health::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(start: Instant, state: &str) -> Pulse {
        let mut pulse = Pulse::new(start);
        pulse.beat(Beat {
            at: start,
            time: Timestamp::UNIX_EPOCH,
            summary: NexletSummary {
                state: state.into(),
                ..NexletSummary::unknown()
            },
        });
        pulse
    }

    #[test]
    fn health_is_what_the_nexlet_says() {
        let now = Instant::now();
        for (state, health) in [
            ("running", Health::Healthy),
            ("starting", Health::Degraded),
            ("error", Health::Degraded),
            ("lameduck", Health::ShuttingDown),
            ("stopping", Health::ShuttingDown),
            ("Running", Health::Unknown),
            ("", Health::Unknown),
        ] {
            assert_eq!(pulse(now, state).health(now), health, "{state}");
        }
    }

    #[test]
    fn a_silent_nexlet_degrades_and_then_is_offline() {
        let start = Instant::now();
        let pulse = pulse(start, "running");
        let one = Duration::from_nanos(1);

        assert_eq!(pulse.health(start + DEGRADE_LIMIT), Health::Healthy);
        assert_eq!(pulse.health(start + DEGRADE_LIMIT + one), Health::Degraded);
        assert_eq!(pulse.health(start + OFFLINE_LIMIT), Health::Degraded);
        assert_eq!(pulse.health(start + OFFLINE_LIMIT + one), Health::Offline);
    }

    #[test]
    fn a_nexlet_that_never_beat_is_unknown_and_then_offline() {
        let start = Instant::now();
        let pulse = Pulse::new(start);

        assert_eq!(pulse.health(start), Health::Unknown);
        assert_eq!(
            pulse.health(start + OFFLINE_LIMIT + Duration::from_nanos(1)),
            Health::Offline
        );
    }
}
