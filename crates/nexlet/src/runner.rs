//! Runs a [`Nexlet`] against its node.
//!
//! ```text
//!   register ──> connect ──> subscribe ──> serve ──cancel──> shut down ──> close
//!      ^  │                                           │
//!      └──┘ while the node is not there               └─ requests, heartbeats, restored workloads
//! ```

use std::{sync::Arc, time::Duration};

use nex_nats::{ConnectError, ConnectOptions, Connection, service};
use nex_protocol::{NexletId, NodeId, registration::NexletState};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    contract::{Description, Nexlet},
    host::Host,
};

mod config;
mod heart;
mod lameduck;
mod questions;
mod registration;
mod remote;
mod reply;
mod shared;
mod start;
mod stop;

pub use config::InvalidEnvironment;
pub use registration::RegisterError;
pub use remote::RemoteError;

use shared::Shared;

/// How long workloads may take to end when the nexlet ends.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
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

/// Registers a nexlet, then serves it until `cancel`; then shuts it down: its workloads end, a
/// last heartbeat says so, and the connection is drained.
///
/// While the node is not there, registration is tried again and again.
///
/// # Errors
/// [`RunError`] when the node refuses, or its credentials are of no use.
pub async fn run<N: Nexlet>(
    nexlet: Arc<N>,
    config: RunnerConfig,
    cancel: CancellationToken,
) -> Result<(), RunError> {
    let description = nexlet.describe();
    let registering = registration::register(&config, &description);
    let registered = tokio::select! {
        biased;
        () = cancel.cancelled() => return Ok(()),
        registered = registering => registered.map_err(|source| {
            let node = config.node.clone();
            RunError::Register { node, source }
        })?,
    };
    let connecting = registration::connect(&registered.working);
    let connection = tokio::select! {
        biased;
        () = cancel.cancelled() => return Ok(()),
        connection = connecting => connection.map_err(RunError::Connect)?,
    };

    let client = connection.client().clone();
    let host = Host::closing_with(client, config.node, config.id, cancel.clone());
    let shared = Arc::new(Shared::new(nexlet, description, host));
    let requests = subscribe(&shared).await?;
    info!(nexlet = %shared.host.nexlet(), node = %shared.host.node(), "nexlet takes requests");

    let tasks = TaskTracker::new();
    tasks.spawn(heart::beat(Arc::clone(&shared)));
    tasks.spawn(start::restore(Arc::clone(&shared), registered.existing));
    let served = serve(&shared, requests, &tasks, cancel).await;
    shared.ended.cancel();
    finish(&shared, tasks, connection).await;
    served
}

/// [`run`] until `end` resolves, such as at a signal.
///
/// # Errors
/// As [`run`].
pub async fn run_until<N: Nexlet>(
    nexlet: N,
    config: RunnerConfig,
    end: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let cancel = CancellationToken::new();
    let running = run(Arc::new(nexlet), config, cancel.clone());
    tokio::pin!(running);
    tokio::select! {
        ran = &mut running => return ran,
        () = end => cancel.cancel(),
    }
    running.await
}

async fn subscribe<N: Nexlet>(shared: &Shared<N>) -> Result<service::Requests, RunError> {
    let client = shared.host.client();
    let Description {
        name,
        version,
        description,
        ..
    } = &shared.description;
    // Returns when the server knows of all endpoints: only then may the node hear a heartbeat.
    service::Service::builder(client, name, version, description)
        .queue_group(shared.host.nexlet().as_str())
        .start(reply::endpoints(shared.host.node(), shared.host.nexlet()))
        .await
        .map_err(RunError::Serve)
}

/// Hands every request to a task of its own, until the nexlet is shut down. Requests are taken
/// while it shuts down too, so that questions are answered to the end.
async fn serve<N: Nexlet>(
    shared: &Arc<Shared<N>>,
    mut requests: service::Requests,
    tasks: &TaskTracker,
    cancel: CancellationToken,
) -> Result<(), RunError> {
    let shutdown = async {
        cancel.cancelled().await;
        shared.set_state(NexletState::Stopping);
        shared.nexlet.shutdown(SHUTDOWN_GRACE).await;
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
                    // Nobody can reach the workloads any more, so they must not go on unseen.
                    shared.set_state(NexletState::Error);
                    shared.nexlet.shutdown(SHUTDOWN_GRACE).await;
                    return Err(RunError::Disconnected);
                }
            },
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
