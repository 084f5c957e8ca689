//! The life of a node, from its start to its end.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use jiff::Timestamp;
use nex_credentials::Minter;
use nex_nats::{BarrierError, Connection, service::ServiceError};
use nex_protocol::{
    GoDuration, NexletId, NodeId, Subject,
    control::{LameduckRequest, LameduckResponse},
    event::{Event, NodeStarted},
};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{Instrument as _, info, warn};

use crate::{
    auction::Ledger,
    capacity::{self, Capacity},
    config::{Config, ConfigError},
    control, ends,
    heartbeat::{self, Ears},
    lameduck,
    nexlet::{Heard, Registry, Roll, Supervised, gather},
    peers::Peers,
    phase::Life,
    reconcile, remote, restore,
    shared::Shared,
    shutdown::Shutdown,
    state::{Record, StateError, StateStore},
    timeouts::{LAST_REQUESTS_LIMIT, REMOTE_STOP_DELAY},
    workloads::Workloads,
};

/// The id of the `NODESTARTED` event's schema, as in Go.
const NODE_STARTED_SCHEMA: &str = "io.synadia.nex.event.nexnode_started";

/// How often in a row a nexlet may end before [`RunningNode::ready`] gives it up.
const HOPELESS_FAILURES: u32 = 3;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration is refused.
    #[error("failed to configure the node")]
    Config(#[source] ConfigError),
    /// What it has kept cannot be read.
    #[error("failed to read what should run")]
    State(#[source] StateError),
    /// NATS does not take its subscriptions.
    #[error("failed to subscribe to heartbeats")]
    Subscribe(#[source] async_nats::SubscribeError),
    /// NATS does not take its requests.
    #[error("failed to subscribe to requests")]
    Serve(#[source] ServiceError),
    /// NATS does not confirm its subscriptions.
    #[error("failed to confirm the node's subscriptions")]
    Barrier(#[source] BarrierError),
}

/// Starts nodes.
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Starts a node; it answers requests when this returns. Its nexlets come later, see
    /// [`RunningNode::ready`].
    ///
    /// Must be called within a runtime, on which the node then lives.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(
        config: Config,
        connection: Connection,
        minter: Minter,
        store: Arc<dyn StateStore>,
    ) -> Result<RunningNode, StartError> {
        let id = config.check().map_err(StartError::Config)?;
        let span = tracing::info_span!("node", %id);
        Self::start_checked(id, config, connection, minter, store)
            .instrument(span)
            .await
    }

    async fn start_checked(
        id: NodeId,
        config: Config,
        connection: Connection,
        minter: Minter,
        store: Arc<dyn StateStore>,
    ) -> Result<RunningNode, StartError> {
        let lameduck::Restored { life, drained } = lameduck::restored(&*store)
            .await
            .map_err(StartError::State)?;
        let kept = store.load().await.map_err(StartError::State)?;
        if !kept.is_empty() {
            info!(workloads = kept.len(), "workloads are to be taken up again");
        }
        let workloads = Workloads::restored(kept);
        for record in drained {
            workloads.unwanted(&record.id, &record.request.namespace);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "it never holds more than the workloads that were known"
        )]
        let (forget_tx, forget_rx) = mpsc::unbounded_channel();
        let parts = Parts {
            minter,
            store: Arc::clone(&store),
            workloads,
            life,
            forget_tx,
        };
        let shared = Arc::new(share(id, &config, &connection, parts));
        let remembered = remote::restore(&shared).await.map_err(StartError::State)?;
        let ears = Ears::open(&shared).await.map_err(StartError::Subscribe)?;
        let requests = control::subscribe(&shared)
            .await
            .map_err(StartError::Serve)?;
        // After this the server knows of all of it.
        nex_nats::barrier(&shared.client)
            .await
            .map_err(StartError::Barrier)?;

        let shutdown = Shutdown::default();
        let span = tracing::Span::current();
        let (here, tasks) = (&shared, &shutdown);
        shutdown.spawn(span.clone(), |cancel| ears.listen(Arc::clone(here), cancel));
        shutdown.spawn(span.clone(), |cancel| {
            ends::forget_for_good(store, forget_rx, cancel)
        });
        shutdown.spawn(span.clone(), |cancel| {
            ends::follow_events(Arc::clone(here), cancel)
        });
        shutdown.spawn(span.clone(), |cancel| {
            restore::push_due(Arc::clone(here), cancel)
        });
        shutdown.spawn(span.clone(), |cancel| {
            reconcile::reconcile_often(Arc::clone(here), cancel)
        });
        shutdown.spawn(span.clone(), |cancel| {
            control::serve(Arc::clone(here), requests, tasks.clone(), cancel)
        });
        shared.publish_event(started(&shared)).await;
        shutdown.spawn(span.clone(), |cancel| {
            heartbeat::beat(Arc::clone(here), cancel)
        });
        shutdown.spawn(span.clone(), |cancel| {
            heartbeat::discover(Arc::clone(here), cancel)
        });
        shutdown.spawn(span.clone(), |cancel| {
            remote::greet(Arc::clone(here), remembered, cancel)
        });
        shutdown.spawn(span.clone(), |cancel| {
            capacity::watch(Arc::clone(here), cancel)
        });

        let plans = config.nexlets.into_iter();
        let nexlets: Vec<Supervised> = plans
            .map(|plan| Supervised::start(&shared, plan, &shutdown))
            .collect();
        let required = nexlets.iter().filter(|nexlet| nexlet.required);
        let planned = required.map(|nexlet| nexlet.id.clone()).collect();
        shutdown.spawn(span.clone(), |cancel| {
            let running = run_when_ready(Arc::clone(here), planned);
            async move {
                cancel
                    .run_until_cancelled(running)
                    .await
                    .unwrap_or_default()
            }
        });
        info!(name = shared.name, nexus = %shared.nexus, "node takes requests");
        Ok(RunningNode {
            shared,
            connection,
            nexlets,
            shutdown,
            span,
        })
    }
}

/// What a node is made of, beside its configuration.
struct Parts {
    minter: Minter,
    store: Arc<dyn StateStore>,
    workloads: Workloads,
    life: Life,
    forget_tx: mpsc::UnboundedSender<Arc<Record>>,
}

fn share(id: NodeId, config: &Config, connection: &Connection, parts: Parts) -> Shared {
    Shared {
        name: config.name.clone(),
        nexus: config.nexus.clone(),
        version: config.version.clone(),
        xkey: config.xkey.public_key(),
        allow_remote: config.allow_remote,
        started: Instant::now(),
        start_time: Timestamp::now(),
        client: connection.client().clone(),
        losses: connection.losses().clone(),
        minter: parts.minter,
        registry: Registry::new(),
        workloads: Arc::new(parts.workloads),
        store: parts.store,
        forget_tx: parts.forget_tx,
        compare: Notify::new(),
        lameduck_order: tokio::sync::Mutex::default(),
        fixed_tags: config.all_tags(),
        bids: Mutex::new(Ledger::new(config.auction_ttl)),
        peers: Mutex::new(Peers::new(id.clone())),
        capacity_tx: watch::Sender::new(Capacity::default()),
        life_tx: watch::Sender::new(parts.life),
        id,
    }
}

fn started(shared: &Shared) -> Event {
    Event::NodeStarted(NodeStarted {
        id: shared.id.clone(),
        name: shared.name.clone(),
        nexus: shared.nexus.to_string(),
        tags: shared.tags(),
        schema: NODE_STARTED_SCHEMA.to_owned(),
    })
}

async fn run_when_ready(shared: Arc<Shared>, planned: Vec<NexletId>) {
    let mut changes = shared.registry.watch();
    loop {
        let now = Instant::now();
        if planned.iter().all(|id| shared.registry.is_healthy(now, id)) {
            shared.live(Life::make_ready);
            return;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// A planned nexlet that the node needs, and that cannot bid yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingNexlet {
    /// What people call it: the type of workload that it is meant to run.
    pub label: String,
    /// Why, as far as the node knows.
    pub reason: String,
}

/// Not all planned nexlets can bid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nexlets are not ready: {}", list(.missing))]
pub struct NotReady {
    /// Those that cannot.
    pub missing: Vec<MissingNexlet>,
}

fn list(missing: &[MissingNexlet]) -> String {
    let each = missing
        .iter()
        .map(|nexlet| format!("`{}` ({})", nexlet.label, nexlet.reason));
    each.collect::<Vec<_>>().join(", ")
}

/// A node that runs. End it with [`stop`](Self::stop): where it is only dropped, its nexlets are
/// killed, and its requests are served for as long as the runtime lives.
#[derive(Debug)]
pub struct RunningNode {
    shared: Arc<Shared>,
    connection: Connection,
    nexlets: Vec<Supervised>,
    shutdown: Shutdown,
    span: tracing::Span,
}

impl RunningNode {
    /// The node's id.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.shared.id
    }

    /// Resolves when every planned nexlet can bid but for foreign ones, which may take their time.
    /// Cancel safe.
    ///
    /// # Errors
    /// When `limit` is over, or a nexlet ends again and again: which are missing, and why.
    pub async fn ready(&self, limit: Duration) -> Result<(), NotReady> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut changes = self.shared.registry.watch();
        loop {
            let missing = self.missing();
            if missing.is_empty() {
                return Ok(());
            }
            if self.hopeless() || tokio::time::Instant::now() >= deadline {
                return Err(NotReady { missing });
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    fn missing(&self) -> Vec<MissingNexlet> {
        let now = Instant::now();
        let required = self.nexlets.iter().filter(|nexlet| nexlet.required);
        let missing = required.filter_map(|nexlet| {
            let health = self.shared.registry.health(now, &nexlet.id);
            if self.shared.registry.is_healthy(now, &nexlet.id) {
                return None;
            }
            let reason = match (nexlet.status().last_end, health) {
                (Some(end), None) => end,
                (None, None) => "it has not registered".to_owned(),
                (_, Some(health)) => format!("it is registered, and {}", health.as_str()),
            };
            Some(MissingNexlet {
                label: nexlet.label.clone(),
                reason,
            })
        });
        missing.collect()
    }

    fn hopeless(&self) -> bool {
        let now = Instant::now();
        let mut required = self.nexlets.iter().filter(|nexlet| nexlet.required);
        required.any(|nexlet| {
            nexlet.status().failures >= HOPELESS_FAILURES
                && !self.shared.registry.is_healthy(now, &nexlet.id)
        })
    }

    /// Resolves when the time of a lame duck is over; the owner then calls [`stop`](Self::stop), for
    /// from then on nobody can call the node back. Cancel safe.
    pub async fn ended(&self) {
        let mut life_rx = self.shared.life_tx.subscribe();
        loop {
            let ends = life_rx.borrow_and_update().ends();
            let over = async {
                match ends {
                    Some(ends) => tokio::time::sleep_until(ends).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => {
                    // An order that came just before may have changed the time.
                    if self.shared.live(|life| life.end(tokio::time::Instant::now())) {
                        return;
                    }
                }
                _ = life_rx.changed() => {}
            }
        }
    }

    /// Ends the node: no more bids, then its nexlets end, which end their workloads within
    /// `grace`, then the node says goodbye and leaves NATS.
    pub async fn stop(self, grace: Duration) {
        let span = self.span.clone();
        self.stop_in_order(grace).instrument(span).await;
    }

    async fn stop_in_order(self, grace: Duration) {
        let Self {
            shared,
            connection,
            nexlets,
            shutdown,
            ..
        } = self;
        let was_lameduck = shared.live(|life| {
            life.stop();
            life.ends().is_some()
        });
        info!(?grace, "node is stopping");

        let planned: Vec<NexletId> = nexlets.iter().map(|nexlet| nexlet.id.clone()).collect();
        let remote = async {
            // What a person drained is to be empty. A node that merely ends leaves remote nexlets
            // their workloads.
            if was_lameduck {
                stop_remote(&shared, &planned, grace).await;
            }
        };
        let own = join_all(nexlets.into_iter().map(|nexlet| nexlet.stop(grace)));
        tokio::join!(remote, own);
        if was_lameduck {
            // What was drained has ended: whoever drains a node has it elsewhere by now.
            ends::forget_all(&shared).await;
            lameduck::keep(&shared, None).await.ok();
        }

        if !shutdown.finish(LAST_REQUESTS_LIMIT).await {
            warn!("requests in work did not end in time");
        }
        let goodbye = Event::NodeStopped(shared.id.clone());
        shared.publish_event(goodbye).await;
        connection.close().await;
        info!("node has stopped");
    }
}

/// Tells nexlets that the node did not start to stop their workloads, and waits for them.
async fn stop_remote(shared: &Shared, planned: &[NexletId], grace: Duration) {
    let living = shared.registry.living(Instant::now());
    let remote: Vec<NexletId> = living
        .into_iter()
        .filter(|id| !planned.contains(id))
        .collect();
    if remote.is_empty() {
        return;
    }
    let request = LameduckRequest {
        delay: GoDuration(grace.min(REMOTE_STOP_DELAY)).to_string(),
        tag: nex_protocol::Tags::new(),
        cancel: false,
    };
    let Ok(request) = serde_json::to_vec(&request) else {
        return;
    };
    let subject = Subject::NexletLameduck(shared.id.clone());
    let told = gather(
        &shared.client,
        subject,
        request.into(),
        Roll::new(remote),
        grace,
        |message| match serde_json::from_slice::<LameduckResponse>(&message.payload) {
            Ok(_) => Heard::Answer,
            Err(_) => Heard::Aside,
        },
    );
    match told.await {
        Ok(0) => {}
        Ok(missing) => warn!(missing, "remote nexlets did not stop in time"),
        Err(error) => warn!(%error, "failed to tell remote nexlets to stop"),
    }
}

#[cfg(test)]
mod tests;
