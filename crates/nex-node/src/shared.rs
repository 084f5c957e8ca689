//! What all requests of a node see. Each piece of state has one owner; this holds the owners.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nex_credentials::Minter;
use nex_nats::Losses;
use nex_protocol::{
    BidId, NexletId, NexusName, NodeId, Tags, WorkloadId, control::Load, event::Event,
};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{info, warn};

use crate::{
    auction::Ledger,
    capacity::Capacity,
    nexlet::Registry,
    peers::Peers,
    phase::{LameduckError, Life, Phase},
    state::{Record, StateStore},
    timeouts::{EVENT_LIMIT, REMOTE_GONE_LIMIT},
    workloads::Workloads,
};

/// A running node, as its requests see it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) nexus: NexusName,
    pub(crate) version: String,
    /// Its public curve key.
    pub(crate) xkey: String,
    pub(crate) allow_remote: bool,
    pub(crate) started: Instant,
    pub(crate) start_time: Timestamp,
    pub(crate) client: async_nats::Client,
    /// Losses of its connection.
    pub(crate) losses: Losses,
    pub(crate) minter: Minter,
    pub(crate) registry: Registry,
    pub(crate) workloads: Arc<Workloads>,
    pub(crate) store: Arc<dyn StateStore>,
    /// What is to be removed from the store.
    pub(crate) forget_tx: mpsc::UnboundedSender<Arc<Record>>,
    /// Somebody is back who may run what was given to another: the lists are to be compared.
    pub(crate) compare: Notify,
    /// Held while an order about lame duck mode is obeyed and kept: both in the same order.
    pub(crate) lameduck_order: tokio::sync::Mutex<()>,
    /// All tags but `nex.lameduck`.
    pub(crate) fixed_tags: Tags,
    pub(crate) bids: Mutex<Ledger>,
    pub(crate) peers: Mutex<Peers>,
    /// What it has left, as it was seen last.
    pub(crate) capacity_tx: watch::Sender<Capacity>,
    pub(crate) life_tx: watch::Sender<Life>,
}

/// The owner of some state, also after a panic elsewhere: each change to it is one step.
fn open<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn phase(&self) -> Phase {
        self.life_tx.borrow().phase()
    }

    /// Changes what has happened to the node, in one step, and answers what that did.
    pub(crate) fn live<T>(&self, change: impl FnOnce(&mut Life) -> T) -> T {
        let mut done = None;
        self.life_tx.send_if_modified(|life| {
            let before = *life;
            done = Some(change(life));
            *life != before
        });
        done.expect("a watch applies a change at once")
    }

    /// The tags as clients see them.
    pub(crate) fn tags(&self) -> Tags {
        let mut tags = self.fixed_tags.clone();
        let lameduck = self.phase() == Phase::Lameduck;
        tags.insert("nex.lameduck".to_owned(), lameduck.to_string());
        tags
    }

    /// The first of the wanted tags that this node has not.
    pub(crate) fn missing_tag<'a>(&self, wanted: &'a Tags) -> Option<(&'a str, &'a str)> {
        if wanted.is_empty() {
            // Most auctions and pings; the tags are copied below.
            return None;
        }
        let tags = self.tags();
        let mut wanted = wanted.iter();
        let missing = wanted.find(|(name, value)| tags.get(*name) != Some(*value))?;
        Some((missing.0, missing.1))
    }

    /// A workload has ended for good: it is not to be handed back to anybody.
    pub(crate) fn forget(&self, id: &WorkloadId) {
        if let Some(record) = self.workloads.ended(id) {
            info!(workload = %id, "workload has ended");
            // An error means that the node has ended; the record is then found at its next start.
            self.forget_tx.send(record).ok();
        }
    }

    /// Whether a remote nexlet is there, and so has answered, or is surely gone: the node runs for
    /// so long that it would have been heard.
    pub(crate) fn surely_gone_or_heard(&self, nexlet: &NexletId) -> bool {
        let living = self.registry.living(Instant::now());
        living.contains(nexlet) || self.started.elapsed() >= REMOTE_GONE_LIMIT
    }

    /// Makes a bid and remembers it.
    pub(crate) fn place_bid(&self, workload_type: &str) -> BidId {
        let id = BidId::mint(&self.id);
        let mut bids = open(&self.bids);
        bids.place(Instant::now(), id.clone(), workload_type.to_owned());
        id
    }

    /// The type that a bid of this node is good for, as long as it is.
    pub(crate) fn bid_type(&self, id: &BidId) -> Option<String> {
        open(&self.bids)
            .find(Instant::now(), id)
            .map(ToOwned::to_owned)
    }

    pub(crate) fn peer_heard(&self, node: NodeId) {
        open(&self.peers).heard(Instant::now(), node);
    }

    /// Returns whether a node is this one, or one that was heard lately.
    pub(crate) fn knows_peer(&self, node: &NodeId) -> bool {
        *node == self.id || open(&self.peers).knows(Instant::now(), node)
    }

    pub(crate) fn peer_stopped(&self, node: &NodeId) {
        open(&self.peers).stopped(node);
    }

    /// The live nodes that this node knows of, itself included; none where only so many are to tell
    /// them and it is not one of those.
    pub(crate) fn peers_told(&self, tellers: Option<u32>) -> Vec<NodeId> {
        let (now, mut peers) = (Instant::now(), open(&self.peers));
        match tellers {
            Some(tellers) if peers.place(now) >= tellers as usize => Vec::new(),
            _ => peers.living(now),
        }
    }

    /// How busy the node is.
    pub(crate) fn load(&self) -> Load {
        self.capacity_tx.borrow().load(self.registry.workloads())
    }

    /// Takes no more work from now on, and ends after `delay`. Answers when that is.
    pub(crate) fn set_lameduck(&self, delay: Duration) -> Result<Timestamp, LameduckError> {
        let now = tokio::time::Instant::now();
        self.live(|life| life.drain(now, now + delay))?;
        Ok(Timestamp::now() + delay)
    }

    /// Whether [`clear_lameduck`](Self::clear_lameduck) would do it at the moment.
    pub(crate) fn may_clear_lameduck(&self) -> Result<(), LameduckError> {
        let mut as_if = *self.life_tx.borrow();
        as_if.resume(tokio::time::Instant::now())
    }

    /// Takes work again, until the time of the lame duck is over.
    pub(crate) fn clear_lameduck(&self) -> Result<(), LameduckError> {
        let now = tokio::time::Instant::now();
        self.live(|life| life.resume(now))
    }

    /// Publishes an event. A failure is logged: nobody who asked for something else can help it.
    pub(crate) async fn publish_event(&self, event: Event) {
        let subject = event.subject().to_string();
        let publishing = self.client.publish(subject, event.body().into());
        match tokio::time::timeout(EVENT_LIMIT, publishing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(event = event.name(), %error, "event is lost"),
            Err(_elapsed) => warn!(
                event = event.name(),
                "event is lost: NATS takes no messages"
            ),
        }
    }
}
