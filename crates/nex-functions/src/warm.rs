//! What a thread keeps from call to call, and when it lets go of it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{memory::Budget, queue::LaneId};

/// How long an instance is kept that nobody calls.
const IDLE_AFTER: Duration = Duration::from_secs(30);
/// How often is looked for such instances.
pub(crate) const TIDY_PERIOD: Duration = Duration::from_secs(5);
/// After how many new instances memory is looked at.
const NEW_ONES: usize = 64;
/// After how many dropped ones their memory is given back to the system: the allocator keeps it by
/// itself, for it looks at the ends of its heaps alone.
const GONE_ONES: usize = 64;

/// The instances of one thread.
///
/// An instance goes when nobody has called it for [`IDLE_AFTER`]. Where the process has more memory
/// than its [`Budget`], the half that was not called for the longest time goes. The next call makes
/// a new one.
pub(crate) struct Warm<I> {
    instances: HashMap<LaneId, Kept<I>>,
    budget: Budget,
    tidied: Instant,
    /// How many were added since memory was looked at.
    new: usize,
    /// How many were dropped since memory was given back.
    gone: usize,
}

struct Kept<I> {
    instance: I,
    used: Instant,
}

impl<I> Warm<I> {
    pub(crate) fn new(budget: Budget, now: Instant) -> Self {
        Self {
            instances: HashMap::new(),
            budget,
            tidied: now,
            new: 0,
            gone: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// The instance of a lane, which is used now.
    pub(crate) fn get(&mut self, lane: LaneId, now: Instant) -> Option<&mut I> {
        let kept = self.instances.get_mut(&lane)?;
        kept.used = now;
        Some(&mut kept.instance)
    }

    /// Keeps a new one.
    pub(crate) fn keep(&mut self, lane: LaneId, instance: I, now: Instant) {
        let kept = Kept {
            instance,
            used: now,
        };
        self.instances.insert(lane, kept);
        self.new += 1;
        if self.new >= NEW_ONES {
            self.make_room();
        }
    }

    pub(crate) fn forget(&mut self, lane: LaneId) {
        self.gone += usize::from(self.instances.remove(&lane).is_some());
    }

    /// Whether [`Warm::tidy`] would look for what is idle: that was not done just before.
    pub(crate) fn wants_tidying(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.tidied) >= TIDY_PERIOD
    }

    /// Drops what is idle, unless that was looked for just before.
    pub(crate) fn tidy(&mut self, now: Instant) {
        if !self.wants_tidying(now) {
            return;
        }
        self.tidied = now;
        self.retain(|used| now.saturating_duration_since(used) < IDLE_AFTER);
        self.make_room();
        if self.gone >= GONE_ONES || (self.gone > 0 && self.is_empty()) {
            self.release();
        }
    }

    fn make_room(&mut self) {
        self.new = 0;
        if self.instances.is_empty() || !self.budget.is_exceeded() {
            return;
        }
        let mut used: Vec<Instant> = self.instances.values().map(|kept| kept.used).collect();
        let middle = used.len() / 2;
        let (_, middle, _) = used.select_nth_unstable(middle);
        let middle = *middle;
        self.retain(|used| used > middle);
        // What is resident decides what goes next.
        self.release();
    }

    fn retain(&mut self, keep: impl Fn(Instant) -> bool) {
        let before = self.instances.len();
        self.instances.retain(|_, kept| keep(kept.used));
        self.gone += before - self.instances.len();
    }

    fn release(&mut self) {
        self.gone = 0;
        self.instances.shrink_to_fit();
        nex_process::release_memory();
    }
}

impl<I> Drop for Warm<I> {
    fn drop(&mut self) {
        self.gone += self.instances.len();
        self.instances.clear();
        if self.gone > 0 {
            self.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warm(budget: Budget, count: u64) -> (Warm<u64>, Instant) {
        let now = Instant::now();
        let mut warm = Warm::new(budget, now);
        for number in 0..count {
            let used = now + Duration::from_millis(number);
            warm.keep(LaneId::numbered(number), number, used);
        }
        (warm, now)
    }

    #[test]
    fn what_nobody_calls_goes_and_the_rest_stays() {
        let (mut warm, now) = warm(Budget::unlimited(), 2);
        let called = now + IDLE_AFTER / 2;
        assert_eq!(warm.get(LaneId::numbered(1), called), Some(&mut 1));

        let later = now + IDLE_AFTER + TIDY_PERIOD;
        warm.tidy(later);

        assert_eq!(warm.get(LaneId::numbered(0), later), None);
        assert_eq!(warm.get(LaneId::numbered(1), later), Some(&mut 1));
    }

    #[test]
    fn beyond_the_budget_what_was_used_last_stays() {
        let (mut warm, now) = warm(Budget::of(0), 10);

        warm.tidy(now + TIDY_PERIOD);

        let mut kept: Vec<u64> = warm.instances.values().map(|kept| kept.instance).collect();
        kept.sort_unstable();
        assert_eq!(kept, [6, 7, 8, 9]);
    }

    #[test]
    fn many_new_ones_do_not_wait_for_the_next_look_at_memory() {
        let (warm, _) = warm(Budget::of(0), 10 * NEW_ONES as u64);

        assert!(
            warm.instances.len() <= 2 * NEW_ONES,
            "{}",
            warm.instances.len()
        );
    }
}
