//! Auctions that starts share: many that ask for the same at the same time ask once.
//!
//! A start is only ever given bids that were asked for after it was. One that comes while an auction
//! for the same is under way waits for the next one, together with all others that come meanwhile.
//! With many nodes an auction costs far more than a deploy, so that this decides how many starts a
//! connection can do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use nex_protocol::{BidId, Namespace};
use tracing::debug;

use crate::{
    auction::{AuctionAnswer, AuctionSpec},
    client::Client,
    error::ClientError,
};

/// How many of the starts that share an auction were given each bid.
pub(crate) type Given = HashMap<BidId, u64>;

/// An auction that is over, for all starts that waited for it.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) answer: AuctionAnswer,
    given: Mutex<Given>,
}

impl Round {
    pub(crate) fn of(answer: AuctionAnswer) -> Arc<Self> {
        let given = Mutex::default();
        Arc::new(Self { answer, given })
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
}

impl Rounds {
    /// The next auction for that.
    fn next(&self, client: &Client, spec: &AuctionSpec) -> Held {
        let want = (client.namespace.clone(), spec.clone());
        let mut queues = open(&self.0);
        let queue = queues.entry(want.clone()).or_default();
        if let Some(next) = queue.next.as_ref().and_then(WeakShared::upgrade) {
            return next;
        }
        let (client, turn, rounds) = (client.clone(), Arc::clone(&queue.turn), self.clone());
        let held = async move {
            let _turn = turn.lock().await;
            let under_way = UnderWay::begin(rounds, want);
            let (_, spec) = &under_way.want;
            match client.auction_among_known(spec.clone()).await {
                Ok(answer) => Some(Round::of(answer)),
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
}

impl UnderWay {
    fn begin(rounds: Rounds, want: Want) -> Self {
        if let Some(queue) = open(&rounds.0).get_mut(&want) {
            queue.next = None;
        }
        Self { rounds, want }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut queues = open(&self.rounds.0);
        let waits = queues.get(&self.want).and_then(|queue| queue.next.as_ref());
        if waits.and_then(WeakShared::upgrade).is_none() {
            queues.remove(&self.want);
        }
    }
}

fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one step, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// The bids of an auction that begins from now on, shared with other starts that want the same.
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
