//! How many messages of a stream are here at a time: what is done with in a second.
//!
//! A function that is quick, or far from its server, would wait for messages if there were few. Those
//! of a slow one would wait here though another replica has nothing to do.

use std::time::Duration;

use tokio::time::Instant;

/// The fewest: more than run at a time.
const LEAST: usize = 64;
/// What is begun with.
const FIRST: usize = 256;
/// The most. The server leaves no more than a thousand of one consumer unacknowledged, unless told to.
pub(super) const MOST: usize = 1024;
/// How much work is to be here.
const AHEAD: Duration = Duration::from_secs(1);
/// How often the room is measured anew.
const PERIOD: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Room {
    size: usize,
    settled: usize,
    since: Instant,
}

impl Room {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            size: FIRST,
            settled: 0,
            since: now,
        }
    }

    /// How many messages may be here.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// So many more are done with.
    pub(super) fn count(&mut self, settled: usize, now: Instant) {
        self.settled += settled;
        let passed = now.saturating_duration_since(self.since);
        if passed < PERIOD {
            return;
        }
        let ahead = self.settled as f64 * AHEAD.div_duration_f64(passed);
        self.size = (ahead as usize).clamp(LEAST, MOST);
        self.settled = 0;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The room after so many were done with in each of some tenths of a second.
    fn after(tenths: &[usize]) -> usize {
        let mut now = Instant::now();
        let mut room = Room::new(now);
        for settled in tenths {
            now += PERIOD;
            room.count(*settled, now);
        }
        room.size()
    }

    #[test]
    fn there_is_room_for_the_work_of_a_second() {
        assert_eq!(after(&[]), FIRST);
        assert_eq!(after(&[0]), LEAST);
        assert_eq!(after(&[1]), LEAST);
        assert_eq!(after(&[50]), 500);
        assert_eq!(after(&[9000]), MOST);
        assert_eq!(after(&[9000, 70]), 700);
    }

    #[test]
    fn a_quick_function_far_away_gets_more_and_more() {
        // As many as there is room for come in each round trip of a third of a second.
        let mut now = Instant::now();
        let mut room = Room::new(now);
        for _ in 0..5 {
            now += Duration::from_millis(333);
            room.count(room.size(), now);
        }
        assert_eq!(room.size(), MOST);
    }

    #[test]
    fn what_is_done_within_a_tenth_of_a_second_is_added_up() {
        let begin = Instant::now();
        let mut room = Room::new(begin);
        room.count(10, begin + PERIOD / 2);
        assert_eq!(room.size(), FIRST);
        room.count(10, begin + PERIOD);
        assert_eq!(room.size(), 200);
    }
}
