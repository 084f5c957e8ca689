//! The bids that this node has out. Pure: time comes in as an argument.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use nex_protocol::BidId;

/// The most bids that are remembered; the oldest is forgotten for one more.
///
/// At ten seconds each this is more than 6,000 auctions a second, in a few megabytes.
const MAX_BIDS: usize = 65_536;

/// Bids by id, each good for one type of workload until its time is over.
///
/// A bid may be used more than once, as Go programs do.
#[derive(Debug)]
pub(crate) struct Ledger {
    ttl: Duration,
    bids: HashMap<BidId, Entry>,
    /// The same bids by age: all live equally long, so the front expires first.
    by_age: VecDeque<(Instant, BidId)>,
}

#[derive(Debug)]
struct Entry {
    workload_type: String,
    expires: Instant,
}

impl Ledger {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            bids: HashMap::new(),
            by_age: VecDeque::new(),
        }
    }

    /// Writes down a new bid.
    pub(crate) fn place(&mut self, now: Instant, id: BidId, workload_type: String) {
        self.forget_expired(now);
        if self.bids.len() >= MAX_BIDS
            && let Some((_, oldest)) = self.by_age.pop_front()
        {
            self.bids.remove(&oldest);
        }
        let expires = now + self.ttl;
        self.by_age.push_back((expires, id.clone()));
        self.bids.insert(
            id,
            Entry {
                workload_type,
                expires,
            },
        );
    }

    /// The type that a bid is for; `None` when it was never made or its time is over.
    pub(crate) fn find(&self, now: Instant, id: &BidId) -> Option<&str> {
        let entry = self.bids.get(id)?;
        (now < entry.expires).then_some(entry.workload_type.as_str())
    }

    fn forget_expired(&mut self, now: Instant) {
        while let Some((expires, _)) = self.by_age.front()
            && *expires <= now
            && let Some((_, id)) = self.by_age.pop_front()
        {
            self.bids.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn bid(name: &str) -> BidId {
        BidId::new(name).unwrap()
    }

    #[test]
    fn a_bid_is_good_for_its_type_until_exactly_its_end() {
        let start = Instant::now();
        let mut ledger = Ledger::new(TTL);
        ledger.place(start, bid("a"), "js".into());

        let last = start + TTL - Duration::from_nanos(1);
        assert_eq!(ledger.find(last, &bid("a")), Some("js"));
        assert_eq!(ledger.find(start + TTL, &bid("a")), None);
    }

    #[test]
    fn a_bid_that_was_never_made_is_unknown() {
        let ledger = Ledger::new(TTL);

        assert_eq!(ledger.find(Instant::now(), &bid("a")), None);
    }

    #[test]
    fn a_bid_can_be_used_again() {
        let now = Instant::now();
        let mut ledger = Ledger::new(TTL);
        ledger.place(now, bid("a"), "js".into());

        assert!(ledger.find(now, &bid("a")).is_some());
        assert!(ledger.find(now, &bid("a")).is_some());
    }

    #[test]
    fn expired_bids_take_no_memory() {
        let start = Instant::now();
        let mut ledger = Ledger::new(TTL);
        for n in 0..100 {
            ledger.place(start, bid(&format!("old{n}")), "js".into());
        }

        ledger.place(start + TTL, bid("new"), "js".into());

        assert_eq!((ledger.bids.len(), ledger.by_age.len()), (1, 1));
    }

    #[test]
    fn the_oldest_bid_gives_way_when_there_are_too_many() {
        let now = Instant::now();
        let mut ledger = Ledger::new(TTL);
        for n in 0..=MAX_BIDS {
            ledger.place(now, bid(&format!("b{n}")), "js".into());
        }

        assert_eq!(ledger.bids.len(), MAX_BIDS);
        assert_eq!(ledger.find(now, &bid("b0")), None);
        assert!(ledger.find(now, &bid("b1")).is_some());
    }
}
