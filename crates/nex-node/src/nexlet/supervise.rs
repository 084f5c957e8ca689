//! Keeps a planned nexlet running: start, wait, start again.
//!
//! ```text
//!   starting ──> running ──ended──> waiting (back-off) ──> starting …
//!      └────────────┴─────stop(grace)────┴──────────────> stopped
//! ```
//!
//! One task owns each planned nexlet. Its end, however it comes, takes the nexlet out of the
//! registry, so that the node no longer bids with it, and is published as `AGENTSTOPPED`. One whose
//! process hangs is killed, which is an end like any other. One with a
//! limit of restarts may be given up; that is published too, and stays in the node's `INFO`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nex_protocol::{
    NexletId,
    event::{Event, NexletStopped},
};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{
    backoff::{Backoff, Run},
    embedded,
    hung::{self, Arrival},
    local,
};
use crate::{config::NexletPlan, shared::Shared, shutdown::Shutdown};

/// A planned nexlet, as the node sees it.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) id: NexletId,
    /// What people call it.
    pub(crate) label: String,
    /// Whether the node is not ready without it.
    pub(crate) required: bool,
    /// How long it may take to stop, once it is told to.
    stop_tx: watch::Sender<Option<Duration>>,
    status_rx: watch::Receiver<Status>,
}

/// What a planned nexlet was last seen to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// How many times in a row it ended before it was stable.
    pub(crate) failures: u32,
    /// Why it ended last.
    pub(crate) last_end: Option<String>,
    /// Whether it will not be started again.
    stopped: bool,
}

/// How one life of a nexlet ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was told to.
    Stopped,
    /// By itself, or it could not be started; the reason is for people.
    Failed(String),
}

/// A stop that may be asked for at any time.
pub(super) type StopSignal = watch::Receiver<Option<Duration>>;

/// Resolves when the nexlet is to stop, with the time it may take. Cancel safe.
pub(super) async fn stop_asked(stop_rx: &mut StopSignal) -> Duration {
    match stop_rx.wait_for(Option::is_some).await {
        Ok(grace) => grace.unwrap_or_default(),
        // The node itself is gone.
        Err(_) => Duration::ZERO,
    }
}

impl Supervised {
    /// Starts to keep a nexlet running.
    pub(crate) fn start(shared: &Arc<Shared>, plan: NexletPlan, shutdown: &Shutdown) -> Self {
        let id = NexletId::mint();
        shared.registry.plan(id.clone());
        let (label, required) = (plan.label(), plan.is_required());
        let (stop_tx, stop_rx) = watch::channel(None);
        let (status_tx, status_rx) = watch::channel(Status::default());
        // At the level of errors, so that it names the nexlet also where only these are logged.
        let span = tracing::error_span!("nexlet", %id, label);
        let supervisor = Supervisor {
            shared: Arc::clone(shared),
            id: id.clone(),
            label: label.clone(),
            plan,
            stop_rx,
            status_tx,
        };
        // It has its own signal, which comes with a time to stop in.
        shutdown.spawn(span, |_| supervisor.run());
        Self {
            id,
            label,
            required,
            stop_tx,
            status_rx,
        }
    }

    pub(crate) fn status(&self) -> Status {
        self.status_rx.borrow().clone()
    }

    /// Stops it; resolves when it is gone, a little after `grace` at the latest.
    pub(crate) async fn stop(mut self, grace: Duration) {
        self.stop_tx.send_replace(Some(grace));
        // An error means that its task is gone, and the nexlet with it.
        self.status_rx.wait_for(|status| status.stopped).await.ok();
    }
}

struct Supervisor {
    shared: Arc<Shared>,
    id: NexletId,
    label: String,
    plan: NexletPlan,
    stop_rx: StopSignal,
    status_tx: watch::Sender<Status>,
}

impl Supervisor {
    async fn run(mut self) {
        let mut backoff = Backoff::new(self.plan.restart_limit());
        loop {
            let started = Instant::now();
            let reason = match self.live().await {
                End::Stopped => {
                    self.ended("stopped").await;
                    break;
                }
                End::Failed(reason) => reason,
            };
            let next = backoff.ended(Run {
                took: started.elapsed(),
                registered: self.is_registered(),
            });
            self.status_tx.send_modify(|status| {
                status.failures = backoff.failures();
                status.last_end = Some(reason.clone());
            });
            let Some(wait) = next else {
                self.give_up(&reason, backoff.failures()).await;
                break;
            };
            warn!(reason, ?wait, "nexlet ended, it is started again");
            self.ended(&reason).await;
            let pause = tokio::time::timeout(wait, stop_asked(&mut self.stop_rx)).await;
            if pause.is_ok() {
                break;
            }
        }
        self.status_tx.send_modify(|status| status.stopped = true);
    }

    /// Whether it registered in this life: its end takes it out again.
    fn is_registered(&self) -> bool {
        let registry = &self.shared.registry;
        registry.health(Instant::now(), &self.id).is_some()
    }

    /// Says, wherever people look, that it will not come back by itself.
    async fn give_up(&self, reason: &str, failures: u32) {
        error!(
            reason,
            failures, "nexlet is given up, a restart of the node tries it again"
        );
        let reason = format!("given up after {failures} ends in a row, the last: {reason}");
        let registered = self.is_registered();
        self.shared.registry.give_up(self.id.clone(), &self.label);
        self.ended(&reason).await;
        if !registered {
            self.publish_stopped(self.label.clone(), &reason).await;
        }
    }

    /// One life, from start to end.
    async fn live(&mut self) -> End {
        let minted = self.shared.minter.registration(&self.shared.id, &self.id);
        let registration = match minted {
            Ok(registration) => registration,
            Err(error) => return End::Failed(nexlet::Chain(&error).to_string()),
        };
        match &self.plan {
            NexletPlan::Local(plan) => {
                let env = local::environment(&self.shared.id, &self.id, &registration);
                let hung = hung::hung(&self.shared, &self.id, Arrival::Prompt);
                local::live(plan, env, hung, &mut self.stop_rx).await
            }
            NexletPlan::Foreign(plan) => {
                let env = local::environment(&self.shared.id, &self.id, &registration);
                let hung = hung::hung(&self.shared, &self.id, Arrival::Unhurried);
                local::foreign::live(plan, env, hung, &mut self.stop_rx).await
            }
            NexletPlan::Embedded(plan) => {
                let config = embedded::config(&self.shared.id, &self.id, &registration);
                embedded::live(plan, config, &mut self.stop_rx).await
            }
        }
    }

    async fn ended(&self, reason: &str) {
        self.shared.workloads.nexlet_ended(&self.id);
        let Some(registration) = self.shared.registry.remove(&self.id) else {
            return;
        };
        info!(reason, "nexlet is gone");
        self.publish_stopped(registration.request.name.clone(), reason)
            .await;
    }

    async fn publish_stopped(&self, name: String, reason: &str) {
        let event = NexletStopped {
            id: self.id.clone(),
            name,
            reason: reason.to_owned(),
            timestamp: Timestamp::now(),
        };
        let event = Event::NexletStopped(self.shared.id.clone(), event);
        self.shared.publish_event(event).await;
    }
}
