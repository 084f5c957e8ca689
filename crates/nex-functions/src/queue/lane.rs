//! The lane of one function: its jobs that wait, and how long they take.

use std::{collections::VecDeque, time::Duration};

/// Runs that are shorter than this are not worth waking a second thread for what waits behind them,
pub(super) const QUICK: Duration = Duration::from_micros(100);
/// unless they add up to this.
pub(super) const LONG: Duration = Duration::from_millis(4);

/// No run is taken for shorter than this,
const SHORTEST: Duration = Duration::from_micros(1);
/// nor for so many times longer than those before it, unless it is not the only long one of late: one that
/// had to share its processor seems longer than it is.
const LONGER_AT_MOST: u32 = 3;
/// What is a long one in that.
const NOT_QUICK: Duration = Duration::from_millis(1);
/// The share that the last run has in how long runs take.
const SHARE: u32 = 4;

/// A function, as the queue and the engine threads know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LaneId(pub(super) u64);

#[cfg(test)]
impl LaneId {
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number)
    }
}

/// What there is to run of one function.
#[derive(Debug)]
pub(super) struct Lane<J> {
    pub(super) jobs: VecDeque<J>,
    pub(super) running: usize,
    /// How many of those that run are not short, whatever was expected.
    pub(super) stuck: usize,
    pub(super) in_turn: bool,
    /// How many jobs threads had taken when this lane's last one was.
    pub(super) taken_at: u64,
    /// How long a run takes, the last ones above all; the longest there is until one is known.
    pub(super) ran: Duration,
    /// Which of the last eight runs took [`NOT_QUICK`], a bit each.
    pub(super) long_ones: u8,
}

impl<J> Default for Lane<J> {
    fn default() -> Self {
        Self {
            jobs: VecDeque::new(),
            running: 0,
            stuck: 0,
            in_turn: false,
            taken_at: 0,
            ran: Duration::MAX,
            long_ones: 0,
        }
    }
}

impl<J> Lane<J> {
    /// Whether the thread that runs one of its jobs comes to all that wait before long.
    pub(super) fn waits_soon(&self) -> bool {
        let waiting = u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
        self.ran < QUICK && self.ran.saturating_mul(waiting) < LONG
    }

    /// Whether what waits is left to a thread that runs one of its jobs.
    pub(super) fn is_left(&self) -> bool {
        self.running > self.stuck && self.waits_soon()
    }

    /// Notes that a run is over, and how long it took if that says something about the next one.
    pub(super) fn ended(&mut self, took: Option<Duration>) {
        self.running -= 1;
        self.stuck = self.stuck.min(self.running);
        if let Some(took) = took {
            self.take_note(took);
        }
    }

    /// Notes how long a run took.
    pub(super) fn take_note(&mut self, took: Duration) {
        let is_first = self.ran == Duration::MAX;
        self.long_ones = self.long_ones << 1 | u8::from(took >= NOT_QUICK);
        let stands_out = self.long_ones.count_ones() < 2;
        let took = match stands_out && !is_first {
            true => took.min(self.ran.saturating_mul(LONGER_AT_MOST)),
            false => took,
        };
        let ran = match is_first {
            true => took,
            false => (self.ran.saturating_mul(SHARE - 1)).saturating_add(took) / SHARE,
        };
        self.ran = ran.max(SHORTEST);
    }

    /// Lines up for a turn where there is something to run and room to run it.
    pub(super) fn take_turn(
        &mut self,
        id: LaneId,
        turns: &mut VecDeque<LaneId>,
        max_running: usize,
    ) -> bool {
        let wants = !self.in_turn && !self.jobs.is_empty() && self.running < max_running;
        if wants {
            self.in_turn = true;
            turns.push_back(id);
        }
        wants
    }
}
