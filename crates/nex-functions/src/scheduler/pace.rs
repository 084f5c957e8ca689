//! An estimate of how long the turns of a function take.

use std::time::Duration;

/// Turns shorter than this are not worth waking a second thread for their backlog,
const SHORT: Duration = Duration::from_micros(100);
/// unless the backlog adds up to this.
const LONG_BACKLOG: Duration = Duration::from_millis(4);

/// Lower bound of the estimate.
const SHORTEST: Duration = Duration::from_micros(1);
/// Bound on how many times longer than the estimate a turn counts, unless it is not the only long one of
/// late: a turn that had to share its processor seems longer than it is.
const OUTLIER_FACTOR: u32 = 3;
/// Turns from this length on are long ones in that.
const LONG: Duration = Duration::from_millis(1);
/// The last turn has one such share in the estimate.
const SHARE: u32 = 4;

/// A moving average of the lengths of turns.
#[derive(Debug)]
pub(super) struct Pace {
    /// The longest duration until the first turn has ended.
    average: Duration,
    /// A bit for each of the last eight turns, set where it was long.
    long_turns: u8,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            average: Duration::MAX,
            long_turns: 0,
        }
    }
}

impl Pace {
    /// Returns whether turns are expected to be short.
    pub(super) fn is_short(&self) -> bool {
        self.average < SHORT
    }

    /// Returns whether a thread that runs such turns comes to the end of a backlog before long.
    pub(super) fn clears_soon(&self, backlog: usize) -> bool {
        let backlog = u32::try_from(backlog).unwrap_or(u32::MAX);
        self.is_short() && self.average.saturating_mul(backlog) < LONG_BACKLOG
    }

    /// Counts a turn.
    pub(super) fn note(&mut self, took: Duration) {
        let is_first = self.average == Duration::MAX;
        self.long_turns = self.long_turns << 1 | u8::from(took >= LONG);
        let is_outlier = self.long_turns.count_ones() < 2;
        let average = match (is_first, is_outlier) {
            (true, _) => took,
            (false, true) => self.mix(took.min(self.average.saturating_mul(OUTLIER_FACTOR))),
            (false, false) => self.mix(took),
        };
        self.average = average.max(SHORTEST);
    }

    fn mix(&self, took: Duration) -> Duration {
        self.average.saturating_mul(SHARE - 1).saturating_add(took) / SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(turns: &[Duration]) -> Pace {
        let mut pace = Pace::default();
        for took in turns {
            pace.note(*took);
        }
        pace
    }

    #[test]
    fn unknown_turns_are_not_short() {
        assert!(!Pace::default().is_short());
    }

    #[test]
    fn one_long_turn_among_short_ones_counts_little() {
        let short = Duration::from_micros(10);
        let mut pace = pace(&[short, short]);

        pace.note(Duration::from_secs(1));

        assert!(pace.is_short());
    }

    #[test]
    fn two_long_turns_of_late_count() {
        let short = Duration::from_micros(10);
        let mut pace = pace(&[short, short]);

        pace.note(Duration::from_millis(2));
        pace.note(Duration::from_millis(2));

        assert!(!pace.is_short());
    }

    #[test]
    fn a_long_backlog_of_short_turns_is_long() {
        let pace = pace(&[Duration::from_micros(50)]);

        assert!(pace.clears_soon(79));
        assert!(!pace.clears_soon(80));
    }
}
