//! Runs a [`Nexlet`] against its node.
//!
//! ```text
//!   register ──> connect ──> subscribe ──> serve ──end──> say `stopping` ──> shut down ──> close
//!      ^  │                                 │  ^
//!      └──┘ while the node is not there     └──┘ registers again with a node that was restarted
//! ```

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use nex_nats::{ConnectError, ConnectOptions, Connection, service};
use nex_protocol::{NexletId, NodeId, Subject, registration::NexletState};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::{
    contract::{Description, Nexlet},
    ends::Memory,
    host::Host,
};

mod config;
mod end;
mod follow;
mod heart;
mod lameduck;
mod questions;
mod registration;
mod remote;
mod reply;
mod route;
mod shared;
mod start;
mod stop;

pub use config::InvalidEnvironment;
pub use end::End;
pub use registration::RegisterError;
pub use remote::{RemoteError, RunRemoteError, run_remote};
pub use route::Route;

use follow::Follow;
use registration::{Existing, Registered};
use shared::Shared;

/// How long replies that are under way may take when the nexlet ends.
const LAST_REPLIES: Duration = Duration::from_secs(2);

/// Where a nexlet belongs, and how it gets in.
#[derive(Clone, Debug)]
pub struct RunnerConfig {
    /// The node to register with.
    pub node: NodeId,
    /// The id to register under.
    pub id: NexletId,
    /// The connection on which to register; the node answers with the one to work on.
    pub registration: ConnectOptions,
    /// Way to NATS that replaces the one that the node names, for the nexlet and its workloads; none
    /// where the node has started the nexlet.
    pub route: Option<Route>,
}

/// Why a nexlet cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It was not registered.
    #[error("failed to register with node {node}")]
    Register {
        /// The node.
        node: NodeId,
        /// Why.
        #[source]
        source: RegisterError,
    },
    /// The credentials from the node do not connect.
    #[error("failed to connect with the credentials from the node")]
    Connect(#[source] ConnectError),
    /// The endpoints were not taken.
    #[error("failed to serve requests")]
    Serve(#[source] service::ServiceError),
    /// The server ended the subscriptions, or the connection is closed for good.
    #[error("the connection to NATS has ended")]
    Disconnected,
}

/// Registers a nexlet, then serves it until `end`; then shuts it down: a heartbeat says so, its
/// workloads end, a last heartbeat follows, and the connection is drained.
///
/// While the node is not there, registration is tried again and again. When the node has forgotten
/// the nexlet, because it was started anew, the nexlet registers again and its workloads run on.
///
/// # Errors
/// [`RunError`] when the node refuses, or its credentials are of no use.
pub async fn run<N: Nexlet>(
    nexlet: Arc<N>,
    config: RunnerConfig,
    end: impl Into<End>,
) -> Result<(), RunError> {
    // Without leave to go it stays to its end.
    let ends = Memory::default();
    stay(&nexlet, config, &end.into(), &ends, None)
        .await
        .map(drop)
}

/// How a stay with a node came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    /// The nexlet was told to end, or has drained and its node is gone.
    Ended,
    /// The node is gone, and nothing runs here.
    NodeGone,
}

/// One stay with one node. With `arrival_limit` the nexlet does not depend on this node: it gives
/// up one that does not take it in within that time, and leaves one that is gone.
async fn stay<N: Nexlet>(
    nexlet: &Arc<N>,
    config: RunnerConfig,
    end: &End,
    ends: &Memory,
    arrival_limit: Option<Duration>,
) -> Result<Stay, RunError> {
    let description = nexlet.describe();
    let arriving = arrive(&config, &description, arrival_limit);
    let arrived = tokio::select! {
        biased;
        () = end.ordered() => return Ok(Stay::Ended),
        arrived = arriving => arrived?,
    };
    let Some(Arrived {
        connection,
        existing,
        confirms_ends,
    }) = arrived
    else {
        return Ok(Stay::NodeGone);
    };

    let client = connection.client().clone();
    let (node, id) = (config.node.clone(), config.id.clone());
    let closing = end.token().child_token();
    let host = Host::remembering(client, node, id, closing, Arc::clone(ends));
    if confirms_ends {
        host.node_confirms_ends();
    }
    let route = config.route.clone();
    let shared = Arc::new(Shared::new(Arc::clone(nexlet), description, host, route));
    let subscribing = subscribe(&shared);
    let (heartbeats, requests) = tokio::select! {
        biased;
        () = end.ordered() => return Ok(Stay::Ended),
        subscribed = subscribing => subscribed.map_err(RunError::Serve)?,
    };
    info!(nexlet = %shared.host.nexlet(), node = %shared.host.node(), "nexlet takes requests");

    let tasks = TaskTracker::new();
    tasks.spawn(heart::beat(Arc::clone(&shared)));
    tasks.spawn(start::restore(Arc::clone(&shared), existing));
    let following = Follow {
        shared: &shared,
        config: &config,
        connection: &connection,
        tasks: &tasks,
        end,
        may_leave: arrival_limit.is_some(),
    };
    let served = tokio::select! {
        left = following.run(heartbeats) => Ok(left),
        served = serve(&shared, requests, &tasks, end) => served.map(|()| Stay::Ended),
    };
    shared.ended.cancel();
    finish(&shared, tasks, connection).await;
    served
}

/// A registered nexlet, before it serves.
struct Arrived {
    /// The connection to work on.
    connection: Connection,
    /// Workloads to take up again.
    existing: Existing,
    /// `true` for a node that confirms ends.
    confirms_ends: bool,
}

/// From the credentials for registering to a connection to work on, and workloads to take up.
/// `None` where the node was not there until the limit.
async fn arrive(
    config: &RunnerConfig,
    description: &Description,
    limit: Option<Duration>,
) -> Result<Option<Arrived>, RunError> {
    let registered = registration::register(config, description, limit).await;
    let registered = registered.map_err(|source| {
        let node = config.node.clone();
        RunError::Register { node, source }
    })?;
    let Some(Registered {
        working,
        existing,
        confirms_ends,
    }) = registered
    else {
        return Ok(None);
    };
    let connection = registration::connect(&working).await;
    Ok(Some(Arrived {
        connection: connection.map_err(RunError::Connect)?,
        existing,
        confirms_ends,
    }))
}

/// Listens to the node's heartbeats, and for requests. The server knows of all endpoints when this
/// returns: only then may the node hear a heartbeat of ours.
async fn subscribe<N: Nexlet>(
    shared: &Shared<N>,
) -> Result<(async_nats::Subscriber, service::Requests), service::ServiceError> {
    let client = shared.host.client();
    let node = shared.host.node();
    // A Go node does not allow it to its nexlets. Then nothing is heard, and the log has a line.
    let subject = Subject::NodeHeartbeat(node.clone()).to_string();
    let heartbeats = match client.subscribe(subject.clone()).await {
        Ok(heartbeats) => heartbeats,
        Err(source) => return Err(service::ServiceError::Subscribe { subject, source }),
    };
    let Description {
        name,
        version,
        description,
        ..
    } = &shared.description;
    let requests = service::Service::builder(client, name, version, description)
        .queue_group(shared.host.nexlet().as_str())
        .start(reply::endpoints(node, shared.host.nexlet()))
        .await?;
    Ok((heartbeats, requests))
}

/// Hands every request to a task of its own, until the nexlet is shut down. Requests are taken
/// while it shuts down too, so that questions are answered to the end.
async fn serve<N: Nexlet>(
    shared: &Arc<Shared<N>>,
    mut requests: service::Requests,
    tasks: &TaskTracker,
    end: &End,
) -> Result<(), RunError> {
    let shutdown = async {
        end.ordered().await;
        // First: an end that a node hears of after it is the nexlet's and not the workload's own.
        heart::stopping(shared).await;
        shut_down(shared.nexlet.as_ref(), end.grace()).await;
        end.tell_workloads_ended();
    };
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            request = requests.next() => match request {
                Some(request) => {
                    tasks.spawn(reply::answer(Arc::clone(shared), tasks.clone(), request));
                }
                None => {
                    // Nobody can reach the workloads any more, so they must not go on unseen. They end
                    // with this nexlet: the next one is to start them again.
                    shared.host.close();
                    shared.set_state(NexletState::Error);
                    shut_down(shared.nexlet.as_ref(), end.grace()).await;
                    end.tell_workloads_ended();
                    return Err(RunError::Disconnected);
                }
            },
        }
    }
}

/// Ends all workloads; a grace that gets shorter meanwhile counts for those that are left.
async fn shut_down<N: Nexlet>(nexlet: &N, mut grace_rx: watch::Receiver<Duration>) {
    let grace = *grace_rx.borrow_and_update();
    let mut ending = FuturesUnordered::new();
    ending.push(nexlet.shutdown(grace));
    while !ending.is_empty() {
        tokio::select! {
            _ = ending.next() => {}
            Ok(()) = grace_rx.changed() => {
                let grace = *grace_rx.borrow_and_update();
                ending.push(nexlet.shutdown(grace));
            }
        }
    }
}

async fn finish<N: Nexlet>(shared: &Shared<N>, tasks: TaskTracker, connection: Connection) {
    tasks.close();
    if tokio::time::timeout(LAST_REPLIES, tasks.wait())
        .await
        .is_err()
    {
        warn!("requests were under way when the nexlet ended");
    }
    heart::once(shared).await;
    connection.close().await;
}
