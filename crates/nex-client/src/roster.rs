//! What the requests of a connection share: who was there a moment ago, so that not every start has
//! to ask again, and turns for auctions.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nex_protocol::NodeId;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// How long it is not asked again who is there.
const FRESH: Duration = Duration::from_secs(1);

/// How long one who asks again may take, while the others go on with what was known.
const REFRESH: Duration = Duration::from_millis(500);

/// How many auctions are under way at a time. Each is answered by all nodes: more of them only take
/// longer each, until bids come after the window for them.
const AUCTIONS_AT_A_TIME: usize = 16;

/// The nodes that there are, each with whether it is a Go node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) nodes: Vec<(NodeId, bool)>,
}

/// What the clients of a connection know of the nodes. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    kept: Arc<Mutex<Option<Kept>>>,
    turns: Arc<Semaphore>,
}

impl Default for Roster {
    fn default() -> Self {
        Self {
            kept: Arc::default(),
            turns: Arc::new(Semaphore::new(AUCTIONS_AT_A_TIME)),
        }
    }
}

#[derive(Debug)]
struct Kept {
    known: Arc<Known>,
    /// When the next one asks again.
    asked_again: Instant,
    /// When nobody relies on it any more.
    ends: Instant,
}

impl Roster {
    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        // Each change is one step, so a panic elsewhere leaves nothing half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of an auction; the next one's is when this is dropped.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// Who is there; `None` for who is to ask.
    pub(crate) fn known(&self, now: Instant) -> Option<Arc<Known>> {
        let mut kept = self.kept();
        let entry = kept.as_mut()?;
        if now >= entry.ends {
            *kept = None;
            return None;
        }
        if now >= entry.asked_again {
            entry.asked_again = entry.ends;
            return None;
        }
        Some(Arc::clone(&entry.known))
    }

    /// Takes what somebody has heard who asked.
    pub(crate) fn keep(&self, now: Instant, known: Known) {
        *self.kept() = Some(Kept {
            known: Arc::new(known),
            asked_again: now + FRESH,
            ends: now + FRESH + REFRESH,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asks_again_while_the_others_go_on() {
        let (roster, start) = (Roster::default(), Instant::now());
        assert_eq!(roster.known(start), None);

        roster.keep(start, Known::default());

        let almost = Duration::from_nanos(1);
        assert!(roster.known(start + FRESH - almost).is_some());
        assert!(roster.known(start + FRESH).is_none());
        assert!(roster.known(start + FRESH).is_some());
        assert!(roster.known(start + FRESH + REFRESH - almost).is_some());
        assert!(roster.known(start + FRESH + REFRESH).is_none());
        assert!(roster.known(start + FRESH).is_none());
    }
}
