//! A nexlet inside the node's process: a thread, a runtime and a connection of its own.

use std::{io, sync::Arc, time::Duration};

use nex_nats::ConnectOptions;
use nex_protocol::{NatsConnectionData, NexletId, NodeId};
use nexlet::{RunError, RunnerConfig};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::supervise::{End, StopSignal, stop_asked};
use crate::config::EmbeddedNexlet;

/// How long a nexlet's left-over blocking work may hold its thread.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(1);

pub(super) fn config(
    node: &NodeId,
    id: &NexletId,
    registration: &NatsConnectionData,
) -> RunnerConfig {
    RunnerConfig {
        node: node.clone(),
        id: id.clone(),
        registration: ConnectOptions::from_data(registration, &format!("nexlet {id}")),
        route: None,
    }
}

/// One life of an embedded nexlet.
pub(super) async fn live(
    plan: &EmbeddedNexlet,
    config: RunnerConfig,
    stop_rx: &mut StopSignal,
) -> End {
    let cancel = CancellationToken::new();
    // Whoever drops this future wants the nexlet to end too.
    let _guard = cancel.clone().drop_guard();
    let mut ended_rx = match start(plan, config, cancel.clone()) {
        Ok(ended_rx) => ended_rx,
        Err(error) => return End::Failed(format!("failed to start its thread: {error}")),
    };
    tokio::select! {
        ended = &mut ended_rx => End::Failed(reason(ended)),

        grace = stop_asked(stop_rx) => {
            cancel.cancel();
            if tokio::time::timeout(grace, ended_rx).await.is_err() {
                warn!(?grace, "embedded nexlet did not stop in time, and is left behind");
            }
            End::Stopped
        }
    }
}

type Ended = oneshot::Receiver<Result<(), RunError>>;

fn start(
    plan: &EmbeddedNexlet,
    config: RunnerConfig,
    cancel: CancellationToken,
) -> io::Result<Ended> {
    let (ended_tx, ended_rx) = oneshot::channel();
    let run = Arc::clone(&plan.run);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let span = tracing::Span::current();
    std::thread::Builder::new()
        .name(format!("nexlet-{}", plan.workload_type))
        .spawn(move || {
            let _entered = span.enter();
            // Inside of the runtime: a nexlet may start tasks when it is made.
            let ended = runtime.block_on(async { run(config, cancel).await });
            runtime.shutdown_timeout(LEFTOVER_LIMIT);
            // The node stopped waiting: it has nothing to learn.
            ended_tx.send(ended).ok();
        })?;
    Ok(ended_rx)
}

fn reason(ended: Result<Result<(), RunError>, oneshot::error::RecvError>) -> String {
    match ended {
        Ok(Ok(())) => "ended by itself".to_owned(),
        Ok(Err(error)) => nexlet::Chain(&error).to_string(),
        Err(_) => "panicked".to_owned(),
    }
}
