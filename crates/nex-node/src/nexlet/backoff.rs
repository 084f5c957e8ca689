//! How long to wait before a nexlet is started again. Pure.

use std::time::Duration;

/// The wait after the first failure.
const FIRST: Duration = Duration::from_millis(250);

/// The longest wait.
const LAST: Duration = Duration::from_secs(30);

/// A nexlet that ran this long is stable: what was before is forgotten.
const STABLE: Duration = Duration::from_secs(60);

/// Doubles the wait with each failure in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The nexlet ended after it ran for `ran`: how long to wait.
    pub(crate) fn ended(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE {
            self.failures = 0;
        }
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        wait.min(LAST)
    }

    /// How many times in a row it ended without having been stable.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10)
            .map(|_| backoff.ended(Duration::ZERO).as_millis())
            .collect();

        assert_eq!(
            waits,
            [
                250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000
            ]
        );
    }

    #[test]
    fn the_wait_never_overflows() {
        let mut backoff = Backoff { failures: u32::MAX };

        assert_eq!(backoff.ended(Duration::ZERO), LAST);
    }

    #[test]
    fn a_stable_run_heals_the_budget() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.ended(STABLE - Duration::from_nanos(1));
        }

        assert_eq!(backoff.ended(STABLE), FIRST);
        assert_eq!(backoff.failures(), 1);
    }
}
