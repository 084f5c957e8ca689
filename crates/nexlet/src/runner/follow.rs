//! Stays with the node: registers again where the node does not know us any more, and notices
//! when it is gone.
//!
//! ```text
//!   heartbeat without us ──> register again ──> beat, take up what is not here
//!   no heartbeat for long, nothing runs here, may leave ──> leave
//! ```

use std::{sync::Arc, time::Duration};

use async_nats::{Message, Subscriber, connection::State};
use futures_util::StreamExt as _;
use nex_nats::Connection;
use nex_protocol::registration::NodeHeartbeat;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::{End, RunnerConfig, Stay, heart, registration, shared::Shared, start};
use crate::{chain::Chain, contract::Nexlet};

/// How long a node may be silent before it is gone: three of its heartbeats.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// How often the silence is measured.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For how long a node that has forgotten us is tried, before its next heartbeat is waited for.
const REGISTER_LIMIT: Duration = Duration::from_secs(8);

/// What following a node needs.
pub(super) struct Follow<'a, N: Nexlet> {
    pub(super) shared: &'a Arc<Shared<N>>,
    pub(super) config: &'a RunnerConfig,
    pub(super) connection: &'a Connection,
    pub(super) tasks: &'a TaskTracker,
    pub(super) end: &'a End,
    /// Whether another node will do as well.
    pub(super) may_leave: bool,
}

impl<N: Nexlet> Follow<'_, N> {
    /// Follows the node by its heartbeats. Resolves when the nexlet has left it: nothing runs and
    /// nothing is started any more. Where it may not hear them nothing happens, ever.
    pub(super) async fn run(self, mut heartbeats: Subscriber) -> Stay {
        let mut silence = Silence::begin(Instant::now());
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;

                // Who ends does not register any more, and leaves in its own way.
                () = self.end.ordered() => std::future::pending().await,
                Some(heartbeat) = heartbeats.next() => {
                    silence.heard(Instant::now());
                    if self.is_forgotten(&heartbeat) {
                        // Started anew, the node has no use for a nexlet that it has drained.
                        if self.may_leave && self.shared.drains()
                            && let Some(stay) = self.shared.leave()
                        {
                            return stay;
                        }
                        self.register_again().await;
                    }
                }
                _ = looks.tick(), if self.may_leave => {
                    if self.connection.connection_state() != State::Connected {
                        silence.interrupted(Instant::now());
                    }
                    let deaf = self.connection.permission_violations() > 0;
                    if silence.is_long(Instant::now(), deaf)
                        && let Some(stay) = self.shared.leave()
                    {
                        return stay;
                    }
                }
                // The connection is closed, which is somebody else's to handle.
                else => std::future::pending().await,
            }
        }
    }

    fn is_forgotten(&self, heartbeat: &Message) -> bool {
        match serde_json::from_slice::<NodeHeartbeat>(&heartbeat.payload) {
            Ok(heartbeat) => !heartbeat.names(&self.config.id),
            Err(error) => {
                debug!(%error, "ignored a heartbeat of the node that cannot be read");
                false
            }
        }
    }

    async fn register_again(&self) {
        let Shared {
            description, host, ..
        } = &**self.shared;
        let registering = registration::register(self.config, description, Some(REGISTER_LIMIT));
        let existing = match registering.await {
            // What we work on goes on: workloads hold it.
            Ok(Some(registered)) => {
                if registered.confirms_ends {
                    host.node_confirms_ends();
                }
                registered.existing
            }
            // Its next heartbeat is the next try.
            Ok(None) => return,
            Err(error) => {
                let (node, error) = (host.node(), Chain(&error));
                return warn!(%node, %error, "the node does not take us back");
            }
        };
        info!(nexlet = %host.nexlet(), node = %host.node(), "registered again");
        heart::once(self.shared).await;
        let restoring = start::restore(Arc::clone(self.shared), existing);
        self.tasks.spawn(restoring);
    }
}

/// For how long a node was not heard.
struct Silence {
    since: Instant,
    /// Whether it was ever heard.
    ever: bool,
}

impl Silence {
    fn begin(now: Instant) -> Self {
        Self {
            since: now,
            ever: false,
        }
    }

    fn heard(&mut self, now: Instant) {
        self.since = now;
        self.ever = true;
    }

    /// Nothing can be heard at the moment.
    fn interrupted(&mut self, now: Instant) {
        self.since = now;
    }

    /// Whether the node is gone. Who was never heard, while the server refused us a subject, may
    /// just be inaudible: `deaf`.
    fn is_long(&self, now: Instant, deaf: bool) -> bool {
        now.duration_since(self.since) > GONE_AFTER && (self.ever || !deaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_gone_after_three_heartbeats() {
        let start = Instant::now();
        let (early, late) = (start + GONE_AFTER, start + 2 * GONE_AFTER);
        let mut silence = Silence::begin(start);
        assert!(!silence.is_long(early, false));
        assert!(silence.is_long(late, false));

        // As long as there is no connection nobody can be heard.
        silence.interrupted(late);
        assert!(!silence.is_long(late, false));
    }

    #[test]
    fn who_may_not_be_heard_is_not_gone() {
        let start = Instant::now();
        let late = start + 2 * GONE_AFTER;
        let mut silence = Silence::begin(start);
        assert!(!silence.is_long(late, true));

        // Heard once, so it was something else that the server refused.
        silence.heard(start);
        assert!(silence.is_long(late, true));
    }
}
