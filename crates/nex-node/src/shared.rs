//! What all requests of a node see. Each piece of state has one owner; this holds the owners.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use nex_credentials::Minter;
use nex_protocol::{BidId, NexusName, NodeId, Tags, control::Load, event::Event};
use tokio::sync::watch;
use tracing::warn;

use crate::{
    auction::Ledger, capacity::Capacity, nexlet::Registry, peers::Peers, phase::Phase,
    timeouts::EVENT_LIMIT,
};

/// The most that a lame duck may be told to wait: a year.
const MAX_LAMEDUCK: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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
    pub(crate) minter: Minter,
    pub(crate) registry: Registry,
    /// All tags but `nex.lameduck`.
    pub(crate) fixed_tags: Tags,
    pub(crate) bids: Mutex<Ledger>,
    pub(crate) peers: Mutex<Peers>,
    /// What it has left, as it was seen last.
    pub(crate) capacity_tx: watch::Sender<Capacity>,
    pub(crate) phase_tx: watch::Sender<Phase>,
    /// When a lame duck ends.
    pub(crate) ends_tx: watch::Sender<Option<tokio::time::Instant>>,
}

/// The owner of some state, also after a panic elsewhere: each change to it is one step.
fn open<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn phase(&self) -> Phase {
        *self.phase_tx.borrow()
    }

    /// Goes on to a phase, unless the node is further already.
    pub(crate) fn advance(&self, to: Phase) {
        self.phase_tx
            .send_modify(|phase| *phase = phase.advance(to));
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
        let tags = self.tags();
        let mut wanted = wanted.iter();
        let missing = wanted.find(|(name, value)| tags.get(*name) != Some(*value))?;
        Some((missing.0, missing.1))
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

    pub(crate) fn peer_stopped(&self, node: &NodeId) {
        open(&self.peers).stopped(node);
    }

    /// The live nodes that this node knows of, itself included.
    pub(crate) fn peers(&self) -> Vec<NodeId> {
        open(&self.peers).living(Instant::now())
    }

    /// How busy the node is.
    pub(crate) fn load(&self) -> Load {
        self.capacity_tx.borrow().load(self.registry.workloads())
    }

    /// Takes no more work from now on, and ends after `delay`. Answers when that is; `None` for a
    /// delay that no clock can hold.
    pub(crate) fn set_lameduck(&self, delay: Duration) -> Option<Timestamp> {
        if delay > MAX_LAMEDUCK {
            return None;
        }
        let time = Timestamp::now()
            .checked_add(SignedDuration::try_from(delay).ok()?)
            .ok()?;
        self.advance(Phase::Lameduck);
        let ends = tokio::time::Instant::now() + delay;
        self.ends_tx.send_replace(Some(ends));
        Some(time)
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
