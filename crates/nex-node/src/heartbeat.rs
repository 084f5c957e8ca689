//! Who lives: this node says so, and listens to its nexlets and to other nodes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{HeaderMap, Message, Subscriber, connection::State};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use nex_nats::request_many::{Gather, Step};
use nex_protocol::{
    NODE_HEADER, NexletId, NodeId, Subject,
    control::{NodePingRequest, NodePingResponse},
    event::{Event, NexletStarted, NexletStopped},
    registration::{NexletHeartbeat, NodeHeartbeat},
    subject::pattern,
};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    ends,
    nexlet::Health,
    phase::Phase,
    remote,
    shared::Shared,
    timeouts::{HEARTBEAT_PERIOD, STRANGERS_SPACING},
};

/// The name of the event of a node that begins.
const NODE_STARTED: &str = "NODESTARTED";

/// The name of the event by which a node says goodbye.
const NODE_STOPPED: &str = "NODESTOPPED";

/// How long nodes may take to answer the question at the start. Late ones are heard by their
/// heartbeats.
const DISCOVERY_LIMIT: Duration = Duration::from_secs(2);

/// Limit for a node's answer to a ping that checks whether it lives.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// Upper bound of unknown nodes that are pinged at a time. Others are learned from their heartbeats.
const MAX_PROBES: usize = 16;

/// What a node listens to beside its requests.
#[derive(Debug)]
pub(crate) struct Ears {
    nexlets: Subscriber,
    nodes: Subscriber,
    /// Starts of nodes. A Go node sends its first heartbeat ten seconds later.
    starts: Subscriber,
    goodbyes: Subscriber,
    /// Registrations with other nodes, which show nodes that are not known yet.
    registrations: Subscriber,
    /// Questions to unknown nodes whether they live.
    probes: FuturesUnordered<BoxFuture<'static, Option<NodeId>>>,
    /// When a stranger was last told that it is one.
    told_stranger: Option<Instant>,
}

impl Ears {
    /// Subscribes; a round trip afterwards is the caller's.
    ///
    /// All nexlets share one subscription, so that the heartbeat of a nexlet that has just
    /// registered cannot come before it.
    pub(crate) async fn open(shared: &Shared) -> Result<Self, async_nats::SubscribeError> {
        let client = &shared.client;
        let event = |name: &str| Subject::Event("*".to_owned(), name.to_owned()).to_string();
        Ok(Self {
            nexlets: client
                .subscribe(pattern::nexlet_heartbeats(&shared.id))
                .await?,
            nodes: client.subscribe(pattern::NODE_HEARTBEATS).await?,
            starts: client.subscribe(event(NODE_STARTED)).await?,
            goodbyes: client.subscribe(event(NODE_STOPPED)).await?,
            registrations: client.subscribe(pattern::REGISTRATIONS).await?,
            probes: FuturesUnordered::new(),
            told_stranger: None,
        })
    }

    /// Listens until `cancel`.
    pub(crate) async fn listen(mut self, shared: Arc<Shared>, cancel: CancellationToken) {
        loop {
            tokio::select! {
                // A goodbye comes last: a heartbeat sent before it must not bring its node back.
                biased;

                () = cancel.cancelled() => break,
                Some(message) = self.nexlets.next() => {
                    if nexlet_heard(&shared, &message).await == Who::Stranger {
                        self.tell_stranger(&shared).await;
                    }
                }
                Some(message) = self.nodes.next() => node_heard(&shared, &message),
                Some(message) = self.starts.next() => {
                    if let Some(node) = event_of(&message) {
                        shared.peer_heard(node);
                    }
                }
                Some(message) = self.registrations.next() => self.probe(&shared, &message),
                Some(found) = self.probes.next() => {
                    if let Some(node) = found {
                        shared.peer_heard(node);
                    }
                }
                Some(message) = self.goodbyes.next() => node_stopped(&shared, &message),
                else => break,
            }
        }
    }
}

impl Ears {
    /// Asks a node that is not known whether it lives, when a nexlet registers with it. The registration
    /// alone proves nothing: the nexlet may have outlived its node.
    fn probe(&mut self, shared: &Shared, message: &Message) {
        let Some(Subject::Register(node, _)) = Subject::parse(&message.subject) else {
            return;
        };
        if self.probes.len() < MAX_PROBES && !shared.knows_peer(&node) {
            let client = shared.client.clone();
            self.probes.push(probe(client, node).boxed());
        }
    }

    /// Says at once which nexlets are registered, for one that beats and is not: it has outlived
    /// our predecessor, and registers again when it sees that.
    async fn tell_stranger(&mut self, shared: &Shared) {
        let recent = |told: Instant| told.elapsed() < STRANGERS_SPACING;
        if shared.phase() != Phase::Stopping && !self.told_stranger.is_some_and(recent) {
            say(shared).await;
            self.told_stranger = Some(Instant::now());
        }
    }
}

/// Whose heartbeat came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// A nexlet's that is registered, or nobody's.
    Known,
    /// A nexlet's that is not.
    Stranger,
}

async fn nexlet_heard(shared: &Shared, message: &Message) -> Who {
    let Some(Subject::NexletHeartbeat(_, id)) = Subject::parse(&message.subject) else {
        return Who::Known;
    };
    let heartbeat: NexletHeartbeat = match serde_json::from_slice(&message.payload) {
        Ok(heartbeat) => heartbeat,
        Err(error) => {
            warn!(nexlet = %id, %error, "ignored a heartbeat that cannot be read");
            return Who::Known;
        }
    };
    let mut settled = !heartbeat.ended.is_empty();
    for ended in &heartbeat.ended {
        settled &= ends::record(shared, &id, ended);
    }
    if !shared.registry.knows(&id) {
        return Who::Stranger;
    }
    if settled && let Some(reply) = nex_nats::reply_subject(message) {
        let mut headers = HeaderMap::new();
        headers.insert(NODE_HEADER, shared.id.as_str());
        let confirming = shared
            .client
            .publish_with_headers(reply, headers, Bytes::new());
        if let Err(error) = confirming.await {
            debug!(nexlet = %id, %error, "failed to confirm ends");
        }
    }
    take(shared, id, heartbeat).await;
    Who::Known
}

/// Takes the heartbeat of a registered nexlet.
pub(crate) async fn take(shared: &Shared, id: NexletId, heartbeat: NexletHeartbeat) {
    let (now, time) = (Instant::now(), Timestamp::now());
    let was_gone = shared.registry.health(now, &id) == Some(Health::Offline);
    let registration = shared.registry.beat(now, time, &id, heartbeat);
    let comes_from_elsewhere = registration.is_some() && !shared.registry.is_planned(&id);
    if was_gone || comes_from_elsewhere {
        shared.compare.notify_one();
    }
    let Some(registration) = registration else {
        return;
    };
    let workload_type = &registration.request.register_type;
    info!(nexlet = %id, workload_type, "nexlet takes work");
    let event = NexletStarted {
        id,
        name: registration.request.name.clone(),
        register_type: workload_type.clone(),
    };
    let event = Event::NexletStarted(shared.id.clone(), event);
    shared.publish_event(event).await;
}

fn node_heard(shared: &Shared, message: &Message) {
    if let Some(Subject::NodeHeartbeat(node)) = Subject::parse(&message.subject) {
        shared.peer_heard(node);
    }
}

fn node_stopped(shared: &Shared, message: &Message) {
    if let Some(node) = event_of(message) {
        shared.peer_stopped(&node);
    }
}

/// The node that an event is about.
fn event_of(message: &Message) -> Option<NodeId> {
    match Subject::parse(&message.subject)? {
        Subject::Event(from, _) => NodeId::new(from).ok(),
        _ => None,
    }
}

/// Asks a node whether it lives; returns it if it answers.
async fn probe(client: async_nats::Client, node: NodeId) -> Option<NodeId> {
    let body = serde_json::to_vec(&NodePingRequest::default()).ok()?;
    let request = async_nats::Request::new()
        .payload(body.into())
        .timeout(Some(PROBE_LIMIT));
    let subject = Subject::PingNode(node.clone()).to_string();
    client.send_request(subject, request).await.ok()?;
    Some(node)
}

/// Says at once, and then every period, that this node lives, until `cancel`.
pub(crate) async fn beat(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(HEARTBEAT_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            _ = ticks.tick() => {
                say(&shared).await;
                forget_offline(&shared).await;
            }
        }
    }
}

async fn say(shared: &Shared) {
    let heartbeat = NodeHeartbeat {
        registrations: shared.registry.registrations(),
    };
    let Ok(heartbeat) = serde_json::to_vec(&heartbeat) else {
        return;
    };
    let subject = Subject::NodeHeartbeat(shared.id.clone()).to_string();
    if let Err(error) = shared.client.publish(subject, heartbeat.into()).await {
        warn!(%error, "failed to send a heartbeat");
    }
}

async fn forget_offline(shared: &Shared) {
    // Without a connection nobody can be heard, and nobody must be forgotten for it.
    if shared.client.connection_state() != State::Connected {
        return;
    }
    for registration in shared.registry.forget_offline(Instant::now()) {
        warn!(nexlet = %registration.id, "nexlet is offline for long, it is forgotten");
        remote::forget(shared, &registration.id, &registration.request).await;
        let event = NexletStopped {
            id: registration.id.clone(),
            name: registration.request.name.clone(),
            reason: "no heartbeat".to_owned(),
            timestamp: Timestamp::now(),
        };
        let event = Event::NexletStopped(shared.id.clone(), event);
        shared.publish_event(event).await;
    }
}

/// Asks who is there, so that a new node knows the others before their next heartbeats. Asks again, and
/// says that it lives, after each loss of the connection: nodes that start, and heartbeats, were missed
/// meanwhile.
pub(crate) async fn discover(shared: Arc<Shared>, cancel: CancellationToken) {
    let discovering = async {
        loop {
            let lost = shared.losses.next();
            ask_all(&shared).await;
            lost.await;
            if !shared.losses.up().await {
                return;
            }
            say(&shared).await;
        }
    };
    cancel.run_until_cancelled(discovering).await;
}

async fn ask_all(shared: &Shared) {
    let question = NodePingRequest {
        // Each names itself, which is enough.
        tellers: Some(0),
        ..NodePingRequest::default()
    };
    let Ok(request) = serde_json::to_vec(&question) else {
        return;
    };
    let deadline = tokio::time::Instant::now() + DISCOVERY_LIMIT;
    let subject = Subject::Ping.to_string();
    let gathering = Gather::request(&shared.client, subject, request.into(), None).await;
    let mut replies = match gathering {
        Ok(replies) => replies,
        Err(error) => {
            warn!(%error, "failed to ask for other nodes");
            return;
        }
    };
    while let Step::Reply(reply) = replies.next(deadline).await {
        match serde_json::from_slice::<NodePingResponse>(&reply.payload) {
            Ok(peer) => shared.peer_heard(peer.node_id),
            Err(error) => debug!(%error, "ignored an answer to a ping that cannot be read"),
        }
    }
}
