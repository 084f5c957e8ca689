//! Auctions that starts share: many that ask for the same at the same time ask once.
//!
//! One that comes while an auction for the same is under way waits for the next one, together with all
//! others that come meanwhile. One that comes just after an auction is given the bids of that, as long
//! as they are not older than those of a new one would be at its end; unless a bidder of it has
//! refused something since. With many nodes an auction costs far more than a deploy, so that this
//! decides how many starts a connection can do.

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
    future::{BoxFuture, Shared, WeakShared, ready},
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
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The one that has not begun; gone when nobody waits for it any more.
    next: Option<WeakShared<BoxFuture<'static, Option<Arc<Round>>>>>,
    /// The last one that is over, and until when it is good for more starts.
    last: Option<(Arc<Round>, Instant)>,
}

impl Queue {
    /// The last one, if it is still good.
    fn last(&self, now: Instant) -> Option<&Arc<Round>> {
        let (round, ends) = self.last.as_ref()?;
        (now < *ends && !round.is_doubtful()).then_some(round)
    }
}

impl Rounds {
    /// The next auction for that.
    fn next(&self, client: &Client, spec: &AuctionSpec) -> Held {
        let want = (client.namespace.clone(), spec.clone());
        let now = Instant::now();
        let mut queues = open(&self.0);
        // What nobody asks for any more is not kept.
        queues.retain(|each, queue| {
            *each == want || queue.last.is_none() || queue.last(now).is_some()
        });
        let queue = queues.entry(want.clone()).or_default();
        if let Some(round) = queue.last(now) {
            return ready(Some(Arc::clone(round))).boxed().shared();
        }
        if let Some(next) = queue.next.as_ref().and_then(WeakShared::upgrade) {
            return next;
        }
        let (client, turn, rounds) = (client.clone(), Arc::clone(&queue.turn), self.clone());
        let held = async move {
            let _turn = turn.lock().await;
            let under_way = UnderWay::begin(rounds, want);
            let (_, spec) = &under_way.want;
            match client.auction_among_known(spec.clone()).await {
                Ok(mut answer) => {
                    // Starts need no names of nodes, and each of them copies the answer.
                    answer.pongs.clear();
                    Some(under_way.over(Round::of(answer)))
                }
                Err(error) => {
                    debug!(%error, "failed to hold an auction that starts share");
                    None
                }
            }
        };
        let held = held.boxed().shared();
        queue.next = held.downgrade();
        held
    }
}

/// An auction that has begun: whoever comes now waits for the next one.
struct UnderWay {
    rounds: Rounds,
    want: Want,
    begun: Instant,
}

impl UnderWay {
    fn begin(rounds: Rounds, want: Want) -> Self {
        if let Some(queue) = open(&rounds.0).get_mut(&want) {
            queue.next = None;
            queue.last = None;
        }
        let begun = Instant::now();
        Self {
            rounds,
            want,
            begun,
        }
    }

    /// It is over: others may use it for as long as it has taken.
    fn over(&self, round: Arc<Round>) -> Arc<Round> {
        let now = Instant::now();
        let later = (now - self.begun).min(LATER);
        if !round.answer.bids.is_empty()
            && let Some(queue) = open(&self.rounds.0).get_mut(&self.want)
        {
            queue.last = Some((Arc::clone(&round), now + later));
        }
        round
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut queues = open(&self.rounds.0);
        let Some(queue) = queues.get(&self.want) else {
            return;
        };
        let next = queue.next.as_ref().and_then(WeakShared::upgrade);
        if next.is_none() && queue.last.is_none() {
            queues.remove(&self.want);
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
    use super::*;

    #[test]
    fn an_auction_is_good_for_others_for_a_while_and_until_somebody_refuses() {
        let (round, now) = (Round::of(AuctionAnswer::default()), Instant::now());
        let ends = now + Duration::from_millis(30);
        let queue = Queue {
            last: Some((Arc::clone(&round), ends)),
            ..Queue::default()
        };

        assert!(queue.last(ends - Duration::from_nanos(1)).is_some());
        assert!(queue.last(ends).is_none());
        round.doubt();
        assert!(queue.last(now).is_none());
        assert!(Queue::default().last(now).is_none());
    }
}
