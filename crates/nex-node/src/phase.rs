//! The phases of a node. Pure: time comes in as an argument.
//!
//! ```text
//!   starting ──ready──> running ──drain──> lameduck ──its time is over──> stopping
//!       │                  ↑                 │   ↑                            ↑
//!       │                  └─────resume──────┘   │                            │
//!       └──────────────────drain─────────────────┘──stop, from every phase────┘
//! ```
//!
//! A lame duck that is called back is what it was before, and a node that is ready stays ready.
//! Nothing leads out of `stopping`.

use nex_protocol::control::NodeState;
use tokio::time::Instant;

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Its planned nexlets are not all there; those that are take work.
    Starting,
    /// All planned nexlets were there once.
    Running,
    /// It takes no more work; what runs goes on.
    Lameduck,
    /// Its nexlets end, and with them their workloads.
    Stopping,
}

impl Phase {
    /// Whether the node bids and deploys.
    pub(crate) fn takes_work(self) -> bool {
        matches!(self, Self::Starting | Self::Running)
    }

    /// The word on the wire.
    pub(crate) fn state(self) -> NodeState {
        match self {
            Self::Starting => NodeState::Starting,
            Self::Running => NodeState::Running,
            Self::Lameduck => NodeState::Lameduck,
            Self::Stopping => NodeState::Stopping,
        }
    }
}

/// What has happened to a node, from which its [`Phase`] follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Life {
    ready: bool,
    /// When the lame duck ends, of one that is or was one.
    ends: Option<Instant>,
    stopping: bool,
}

/// Why an order about lame duck mode is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LameduckError {
    /// Its time is over, or it was told to stop.
    #[error("the node is stopping")]
    Stopping,
    /// There is nothing to call back.
    #[error("the node is no lame duck")]
    NoLameduck,
}

impl Life {
    pub(crate) fn phase(self) -> Phase {
        if self.stopping {
            Phase::Stopping
        } else if self.ends.is_some() {
            Phase::Lameduck
        } else if self.ready {
            Phase::Running
        } else {
            Phase::Starting
        }
    }

    /// When the lame duck ends, of one that is or was one when it stopped.
    pub(crate) fn ends(self) -> Option<Instant> {
        self.ends
    }

    /// All planned nexlets are there.
    pub(crate) fn make_ready(&mut self) {
        self.ready = true;
    }

    /// Takes no more work, and ends then. A later order replaces the time of an earlier one.
    pub(crate) fn drain(&mut self, now: Instant, ends: Instant) -> Result<(), LameduckError> {
        if self.over(now) {
            return Err(LameduckError::Stopping);
        }
        self.ends = Some(ends);
        Ok(())
    }

    /// Takes work again, as before [`drain`](Self::drain).
    pub(crate) fn resume(&mut self, now: Instant) -> Result<(), LameduckError> {
        if self.over(now) {
            return Err(LameduckError::Stopping);
        }
        match self.ends.take() {
            Some(_) => Ok(()),
            None => Err(LameduckError::NoLameduck),
        }
    }

    /// Stops where the time of a lame duck is over, and says whether it is: from then on nobody can
    /// call it back.
    pub(crate) fn end(&mut self, now: Instant) -> bool {
        let over = self.ends.is_some_and(|ends| now >= ends);
        self.stopping |= over;
        over
    }

    /// Stops, whatever the node was doing.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    fn over(self, now: Instant) -> bool {
        self.stopping || self.ends.is_some_and(|ends| now >= ends)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const DELAY: Duration = Duration::from_secs(60);

    #[test]
    fn a_lame_duck_takes_no_work() {
        let all = [
            Phase::Starting,
            Phase::Running,
            Phase::Lameduck,
            Phase::Stopping,
        ];
        assert_eq!(all.map(Phase::takes_work), [true, true, false, false]);
    }

    #[test]
    fn a_lame_duck_that_is_called_back_is_what_it_was() {
        let now = Instant::now();
        for ready in [false, true] {
            let before = Life {
                ready,
                ..Life::default()
            };
            let mut life = before;

            life.drain(now, now + DELAY).unwrap();
            assert_eq!(life.phase(), Phase::Lameduck);
            life.resume(now).unwrap();

            assert_eq!(life, before);
            assert!(!life.end(now + DELAY), "its time no longer counts");
        }
    }

    #[test]
    fn nexlets_that_come_meanwhile_are_not_forgotten() {
        let now = Instant::now();
        let mut life = Life::default();

        life.drain(now, now + DELAY).unwrap();
        life.make_ready();
        assert_eq!(life.phase(), Phase::Lameduck);
        life.resume(now).unwrap();

        assert_eq!(life.phase(), Phase::Running);
    }

    #[test]
    fn a_second_order_replaces_the_time() {
        let now = Instant::now();
        let mut life = Life::default();

        life.drain(now, now + DELAY).unwrap();
        life.drain(now, now + 2 * DELAY).unwrap();

        assert!(!life.end(now + DELAY));
        assert!(life.end(now + 2 * DELAY));
        assert_eq!(life.phase(), Phase::Stopping);
    }

    #[test]
    fn nobody_calls_back_what_is_over_or_never_was() {
        let now = Instant::now();
        let mut life = Life::default();
        assert_eq!(life.resume(now), Err(LameduckError::NoLameduck));

        life.drain(now, now + DELAY).unwrap();
        // Also where nobody has looked at the time yet.
        assert_eq!(life.resume(now + DELAY), Err(LameduckError::Stopping));
        let later = now + 2 * DELAY;
        assert_eq!(life.drain(now + DELAY, later), Err(LameduckError::Stopping));
        assert_eq!(life.phase(), Phase::Lameduck);
        assert!(life.end(now + DELAY));
    }

    #[derive(Clone, Copy, Debug)]
    enum Happens {
        Ready,
        Drain(u64),
        Resume,
        Look,
        Stop,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            Just(Happens::Ready),
            (0..100_u64).prop_map(Happens::Drain),
            Just(Happens::Resume),
            Just(Happens::Look),
            Just(Happens::Stop),
        ]
    }

    proptest! {
        #[test]
        fn only_a_call_leads_back_and_nothing_leads_out_of_stopping(
            story in prop::collection::vec((happens(), 0..50_u64), 0..50),
        ) {
            let (mut life, mut now) = (Life::default(), Instant::now());
            for (event, passed) in story {
                now += Duration::from_secs(passed);
                let before = life;
                let obeyed = match event {
                    Happens::Ready => { life.make_ready(); true }
                    Happens::Drain(delay) =>
                        life.drain(now, now + Duration::from_secs(delay)).is_ok(),
                    Happens::Resume => life.resume(now).is_ok(),
                    Happens::Look => life.end(now),
                    Happens::Stop => { life.stop(); true }
                };
                let (from, to) = (before.phase(), life.phase());
                match event {
                    Happens::Resume if obeyed => {
                        prop_assert_eq!(from, Phase::Lameduck);
                        prop_assert!(to.takes_work());
                        prop_assert_eq!(life.ends(), None);
                    }
                    _ => prop_assert!(from <= to, "{:?}: {:?} -> {:?}", event, from, to),
                }
                if !obeyed {
                    prop_assert_eq!(before, life);
                }
            }
        }
    }
}
