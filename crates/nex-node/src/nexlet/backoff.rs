//! How long to wait before a nexlet is started again, and when it is given up. Pure.

use std::time::Duration;

/// The wait after the first failure.
const FIRST: Duration = Duration::from_millis(250);

/// The longest wait.
const LAST: Duration = Duration::from_secs(30);

/// The longest wait for one that had taken work, at first: somebody kills it, or it breaks now and
/// then, and it is wanted back soon.
const BRISK: Duration = Duration::from_secs(2);

/// How often in a row that is believed.
const BRISK_FAILURES: u32 = 12;

/// A nexlet that ran this long is stable: what was before is forgotten.
const STABLE: Duration = Duration::from_secs(60);

/// Doubles the wait with each failure in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    /// The most restarts in a row; `None` is without end.
    limit: Option<u32>,
}

/// How one life of a nexlet went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// How long it was.
    pub(crate) took: Duration,
    /// Whether the nexlet came so far as to register.
    pub(crate) registered: bool,
}

impl Backoff {
    /// One that gives up after so many restarts in a row.
    pub(crate) fn new(limit: Option<u32>) -> Self {
        Self { failures: 0, limit }
    }

    /// The nexlet ended after a run: how long to wait, or `None` to give it up.
    pub(crate) fn ended(&mut self, run: Run) -> Option<Duration> {
        if run.took >= STABLE {
            self.failures = 0;
        }
        let before = self.failures;
        self.failures = before.saturating_add(1);
        if self.limit.is_some_and(|limit| before >= limit) {
            return None;
        }
        let longest = if run.registered && before < BRISK_FAILURES {
            BRISK
        } else {
            LAST
        };
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(before));
        Some(wait.min(longest))
    }

    /// How many times in a row it ended without having been stable.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that ended at once, before it registered.
    const NOTHING: Run = Run {
        took: Duration::ZERO,
        registered: false,
    };

    /// A short run of a nexlet that took work.
    const KILLED: Run = Run {
        took: Duration::from_secs(1),
        registered: true,
    };

    fn waits(backoff: &mut Backoff, run: Run, count: usize) -> Vec<u128> {
        (0..count)
            .map(|_| backoff.ended(run).unwrap().as_millis())
            .collect()
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let waits = waits(&mut Backoff::default(), NOTHING, 10);

        assert_eq!(
            waits,
            [
                250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000
            ]
        );
    }

    #[test]
    fn who_had_taken_work_is_back_soon_but_not_for_ever() {
        let mut backoff = Backoff::default();
        let first = waits(&mut backoff, KILLED, 12);

        assert_eq!(first[..4], [250, 500, 1000, 2000]);
        assert!(first[4..].iter().all(|wait| *wait == 2000), "{first:?}");
        assert_eq!(backoff.ended(KILLED), Some(LAST));
    }

    #[test]
    fn the_wait_never_overflows() {
        let mut backoff = Backoff {
            failures: u32::MAX,
            limit: None,
        };

        assert_eq!(backoff.ended(NOTHING), Some(LAST));
    }

    #[test]
    fn a_stable_run_heals_the_budget() {
        let almost = Run {
            took: STABLE - Duration::from_nanos(1),
            ..NOTHING
        };
        let stable = Run {
            took: STABLE,
            ..NOTHING
        };
        let mut backoff = Backoff::new(Some(5));
        for _ in 0..5 {
            assert!(backoff.ended(almost).is_some());
        }

        assert_eq!(backoff.ended(stable), Some(FIRST));
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn after_so_many_restarts_it_is_given_up() {
        for (limit, restarts) in [(0, 0), (3, 3)] {
            let mut backoff = Backoff::new(Some(limit));
            let waits = waits(&mut backoff, NOTHING, restarts);
            assert_eq!(waits.len(), restarts);
            assert_eq!(backoff.ended(KILLED), None, "{limit}");
        }
    }
}
