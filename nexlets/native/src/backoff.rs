//! When a service is started again. Pure.

use std::time::Duration;

/// The pause after a first failure.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest pause. There is no limit to the number of restarts.
const LONGEST: Duration = Duration::from_secs(30);
/// A run of this length counts as a success: the next pause is the shortest again.
const STABLE: Duration = Duration::from_secs(10);

/// The pauses between the runs of one service: doubled from 100 ms to 30 s.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: SHORTEST }
    }
}

impl Backoff {
    /// The pause after a run of that length.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE {
            self.next = SHORTEST;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..11)
            .map(|_| backoff.after(Duration::ZERO).as_millis())
            .collect();
        assert_eq!(
            pauses,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000
            ]
        );
    }

    #[test]
    fn a_stable_run_begins_anew() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.after(Duration::from_secs(9));
        }
        assert_eq!(backoff.after(Duration::from_secs(10)), SHORTEST);
        assert_eq!(backoff.after(Duration::ZERO), SHORTEST * 2);
    }
}
