//! Auctions that starts share: many that ask for the same at the same time ask once.
//!
//! One that comes while an auction for the same is under way waits for the next one, together with all
//! others that come meanwhile. One that comes just after an auction is given the bids of that, as long
//! as they are not older than those of a new one would be at its end; unless a bidder of it has
//! refused something since. With many nodes an auction costs far more than a deploy, so that this
//! decides how many starts a connection can do.
//!
//! An auction is a task of its own: none of the starts that wait for it can hold up the others.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, ready},
};
use nex_protocol::{BidId, Namespace};
use tracing::debug;

use crate::{
    auction::{AuctionAnswer, AuctionSpec},
    client::Client,
    error::ClientError,
};

/// For how long at most an auction that is over is good for more starts.
const LATER: Duration = Duration::from_millis(100);

/// How many of the starts that share an auction were given each bid.
pub(crate) type Given = HashMap<BidId, u64>;

/// An auction that is over, for all starts that waited for it.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) answer: AuctionAnswer,
    given: Mutex<Given>,
    /// Whether a bidder has refused something.
    doubtful: AtomicBool,
}

impl Round {
    pub(crate) fn of(answer: AuctionAnswer) -> Arc<Self> {
        Arc::new(Self {
            answer,
            ..Self::default()
        })
    }

    /// A bid of it was refused: things are not as they were, so that nobody else should rely on it.
    pub(crate) fn doubt(&self) {
        self.doubtful.store(true, Ordering::Relaxed);
    }

    fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Relaxed)
    }

    /// Who was given what; one start at a time chooses.
    pub(crate) fn given(&self) -> MutexGuard<'_, Given> {
        open(&self.given)
    }
}

/// What an auction is for, and in whose name.
type Want = (Namespace, AuctionSpec);

/// `None` where the auction could not be held.
type Held = Shared<BoxFuture<'static, Option<Arc<Round>>>>;

/// The auctions of a connection. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(Arc<Mutex<HashMap<Want, Queue>>>);

/// Auctions for the same: one is under way, and at most one waits for its end.
#[derive(Debug, Default)]
struct Queue {
    /// Each auction that is not over has it too.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The one that has not begun.
    next: Option<Held>,
    /// The last one that is over, and until when it is good for more starts.
    last: Option<(Arc<Round>, Instant)>,
}

impl Queue {
    /// The last one, if it is still good.
    fn last(&self, now: Instant) -> Option<&Arc<Round>> {
        let (round, ends) = self.last.as_ref()?;
        (now < *ends && !round.is_doubtful()).then_some(round)
    }

    /// What a start that comes now waits for, if that is there.
    fn known(&self, now: Instant) -> Option<Held> {
        match self.last(now) {
            Some(round) => Some(ready(Some(Arc::clone(round))).boxed().shared()),
            None => self.next.clone(),
        }
    }

    /// An auction begins: whoever comes now waits for the one after it.
    fn begin(&mut self) {
        self.next = None;
        self.last = None;
    }

    /// It is over: others may use it for as long as it has taken, if there is a bid in it.
    fn over(&mut self, round: &Arc<Round>, begun: Instant, now: Instant) {
        if !round.answer.bids.is_empty() {
            self.last = Some((Arc::clone(round), now + (now - begun).min(LATER)));
        }
    }

    /// Whether an auction waits, is under way, or is still good for somebody.
    fn is_wanted(&self, now: Instant) -> bool {
        Arc::strong_count(&self.turn) > 1 || self.last(now).is_some()
    }
}

impl Rounds {
    /// The next auction for that, or the last one where it is still good.
    fn next(&self, client: &Client, spec: &AuctionSpec) -> Held {
        let want = (client.namespace.clone(), spec.clone());
        let now = Instant::now();
        let mut queues = open(&self.0);
        queues.retain(|_, queue| queue.is_wanted(now));
        let queue = queues.entry(want.clone()).or_default();
        if let Some(known) = queue.known(now) {
            return known;
        }
        let (client, turn, rounds) = (client.clone(), Arc::clone(&queue.turn), self.clone());
        let task = tokio::spawn(async move {
            let _turn = turn.lock().await;
            rounds.change(&want, Queue::begin);
            let begun = Instant::now();
            match client.auction_among_known(want.1.clone()).await {
                Ok(mut answer) => {
                    // Starts need no names of nodes, and each of them copies them.
                    answer.pongs.clear();
                    let round = Round::of(answer);
                    rounds.change(&want, |queue| queue.over(&round, begun, Instant::now()));
                    Some(round)
                }
                Err(error) => {
                    debug!(%error, "failed to hold an auction that starts share");
                    None
                }
            }
        });
        let held = task.map(|ended| ended.ok().flatten()).boxed().shared();
        queue.next = Some(held.clone());
        held
    }

    fn change(&self, want: &Want, change: impl FnOnce(&mut Queue)) {
        // An auction has its queue for as long as it has the turn.
        if let Some(queue) = open(&self.0).get_mut(want) {
            change(queue);
        }
    }
}

fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one step, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// The bids of an auction that begins from now on, or was over just now, shared with other starts
    /// that want the same.
    pub(crate) async fn shared_auction(
        &self,
        spec: AuctionSpec,
    ) -> Result<Arc<Round>, ClientError> {
        match self.rounds.next(self, &spec).await {
            Some(round) => Ok(round),
            // The error is no start's own; each finds out for itself.
            None => self.auction_among_known(spec).await.map(Round::of),
        }
    }
}

#[cfg(test)]
mod tests {
    use nex_protocol::control::Bid;

    use super::*;

    fn round(bids: usize) -> Arc<Round> {
        let bid = Bid {
            bidder_id: BidId::new("a").unwrap(),
            start_request_schema: "{}".into(),
            supported_lifecycles: Vec::new(),
            xkey: String::new(),
            load: None,
            node_id: None,
        };
        Round::of(AuctionAnswer {
            bids: vec![(None, Arc::new(bid)); bids],
            ..AuctionAnswer::default()
        })
    }

    fn is_for(held: Option<Held>, round: &Arc<Round>) -> bool {
        let held = held.and_then(|held| held.now_or_never().flatten());
        held.is_some_and(|held| Arc::ptr_eq(&held, round))
    }

    #[test]
    fn who_comes_before_an_auction_begins_shares_it_and_who_comes_during_it_does_not() {
        let (mut queue, now, waiting) = (Queue::default(), Instant::now(), round(1));
        assert!(queue.known(now).is_none());
        queue.next = Some(ready(Some(Arc::clone(&waiting))).boxed().shared());

        assert!(is_for(queue.known(now), &waiting));
        queue.begin();

        assert!(queue.known(now).is_none());
    }

    #[test]
    fn an_auction_is_good_for_others_for_a_while_and_until_somebody_refuses() {
        let (mut queue, begun, round) = (Queue::default(), Instant::now(), round(1));
        let now = begun + Duration::from_millis(30);
        queue.over(&round, begun, now);

        let ends = now + Duration::from_millis(30);
        assert!(is_for(queue.known(ends - Duration::from_nanos(1)), &round));
        assert!(queue.known(ends).is_none());
        assert!(queue.is_wanted(now) && !queue.is_wanted(ends));
        queue.over(&round, begun, begun + Duration::from_secs(5));
        assert!(
            queue
                .known(begun + Duration::from_secs(5) + LATER)
                .is_none()
        );
        queue.over(&round, begun, now);
        round.doubt();
        assert!(queue.known(now).is_none() && !queue.is_wanted(now));
    }

    #[test]
    fn an_auction_without_a_bid_is_good_for_nobody_else() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.over(&round(0), now, now + LATER);
        assert!(queue.known(now + LATER).is_none());
    }

    #[test]
    fn what_somebody_waits_for_is_kept() {
        let (queue, now) = (Queue::default(), Instant::now());
        assert!(!queue.is_wanted(now));
        let turn = Arc::clone(&queue.turn);
        assert!(queue.is_wanted(now), "an auction has the turn");
        drop(turn);
        assert!(!queue.is_wanted(now));
    }
}
