//! Stops: answered at death, or when the caller waits no longer.

use std::{sync::Arc, time::Duration};

use nex_nats::service::Request;
use nex_protocol::{
    ErrorCode, GoDuration, ONLY_HEADER, WorkloadId,
    error::WORKLOAD_NOT_FOUND,
    workload::{STILL_STOPPING, StopWorkloadRequest, StopWorkloadResponse},
};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{
    reply::{send, send_error, workload_id},
    shared::Shared,
};
use crate::{
    chain::Chain,
    contract::{Nexlet, Stop, StopError},
};

/// When a caller that did not say how long it waits is answered. Go callers give up after 2 s.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Stops a workload. The stop goes on after an early answer.
pub(super) async fn answer<N: Nexlet>(
    shared: Arc<Shared<N>>,
    tasks: TaskTracker,
    request: Request,
) {
    let id = workload_id(&request);
    let only = request.headers().and_then(|all| all.get(ONLY_HEADER));
    let moves = match only {
        // The node asks another one, and wants its answer.
        Some(only) if only.as_str() != shared.host.nexlet().as_str() => return,
        only => only.is_some(),
    };
    let order: StopWorkloadRequest = match serde_json::from_slice(request.payload()) {
        Ok(order) => order,
        Err(error) => {
            let text = format!("failed to read the request: {error}");
            let body = response(&shared, id.as_ref(), false, &text);
            return send_error(&request, ErrorCode::BadRequest, &text, &body).await;
        }
    };
    let patience = order.wait.map_or(PATIENCE, |wait| wait.0);
    let deadline = Instant::now() + patience;
    let Some(stop) = find_started(&shared, id.as_ref(), &order, deadline).await else {
        return refuse_unknown(&shared, &request, id.as_ref()).await;
    };
    if moves {
        shared.host.moves(&stop.id);
    }
    let stopping = Arc::clone(&shared);
    // A task of its own, because it must go on when the caller is answered.
    let mut stopping = tasks.spawn(async move {
        let id = stop.id.clone();
        let stopped = stopping.nexlet.stop(stop).await;
        if matches!(stopped, Err(StopError::NotFound)) {
            stopping.host.moves_no_longer(&id);
        }
        stopped
    });
    let reply = |stopped, message: &str| response(&shared, id.as_ref(), stopped, message);
    match timeout_at(deadline, &mut stopping).await {
        Ok(Ok(Ok(()))) => send(&request, None, &reply(true, "")).await,
        Ok(Ok(Err(StopError::NotFound))) => refuse_unknown(&shared, &request, id.as_ref()).await,
        Ok(Ok(Err(error @ StopError::StillAlive(_)))) => {
            let text = Chain(&error).to_string();
            send_error(&request, ErrorCode::Internal, &text, &reply(false, &text)).await;
        }
        Ok(Err(panic)) => {
            warn!(error = %panic, "a stop has failed");
            let text = "the nexlet failed while stopping it";
            send_error(&request, ErrorCode::Internal, text, &reply(false, text)).await;
        }
        Err(_elapsed) if order.wait.is_none() => {
            send(&request, None, &reply(true, "stopping")).await;
        }
        Err(_elapsed) => {
            let text = format!("{STILL_STOPPING} {}", GoDuration(patience));
            send(&request, None, &reply(false, &text)).await;
        }
    }
}

/// Finds the workload as [`find`] does. One that is being started is waited for until `deadline`: it
/// can be stopped once it runs.
async fn find_started<N: Nexlet>(
    shared: &Shared<N>,
    id: Option<&WorkloadId>,
    order: &StopWorkloadRequest,
    deadline: Instant,
) -> Option<Stop> {
    let id = id?;
    let found = find(shared, id.clone(), order);
    let (None, Some(start)) = (&found, shared.under_way(id)) else {
        return found;
    };
    // A start that fails leaves nothing to be stopped.
    timeout_at(deadline, start.outcome()).await.ok();
    find(shared, id.clone(), order)
}

/// The workload that is meant, where the caller's namespace owns it.
fn find<N: Nexlet>(
    shared: &Shared<N>,
    id: WorkloadId,
    order: &StopWorkloadRequest,
) -> Option<Stop> {
    let owner = shared.nexlet.get(&id)?.namespace;
    let allowed = order.namespace.is_system() || order.namespace == owner;
    allowed.then_some(Stop {
        id,
        namespace: owner,
        purge: order.purge,
    })
}

async fn refuse_unknown<N: Nexlet>(shared: &Shared<N>, request: &Request, id: Option<&WorkloadId>) {
    // The code and the text that Go nodes take for "not mine".
    let body = response(shared, id, false, WORKLOAD_NOT_FOUND);
    send_error(request, ErrorCode::Nexlet, WORKLOAD_NOT_FOUND, &body).await;
}

fn response<N: Nexlet>(
    shared: &Shared<N>,
    id: Option<&WorkloadId>,
    stopped: bool,
    message: &str,
) -> StopWorkloadResponse {
    StopWorkloadResponse {
        id: id.map(ToString::to_string).unwrap_or_default(),
        message: message.to_owned(),
        stopped,
        workload_type: shared.description.workload_type.clone(),
    }
}
