//! Starts: of a node's request, and of what ran before.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use nex_nats::service::Request;
use nex_protocol::{
    ErrorCode, WorkloadId,
    event::WorkloadError,
    workload::{NexletStartWorkloadRequest, StartWorkloadResponse},
};
use serde::Serialize;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{
    reply::{send, send_refusal, workload_id},
    shared::{Claim, ClaimError, Shared},
};
use crate::contract::{Nexlet, Refusal, Start, Started, Stop};

/// When a start is called too slow. The node itself waits 60 s.
const START_LIMIT: Duration = Duration::from_secs(55);
/// How many workloads are taken up again at a time.
const RESTORES_AT_A_TIME: usize = 8;

/// Body of a refused start: what Go decoders require, and the whole text, which the header may
/// have to cut.
#[derive(Serialize)]
struct Refused<'a> {
    id: &'a str,
    name: &'a str,
    error: &'a str,
}

/// Starts a workload and answers when it runs.
pub(super) async fn answer<N: Nexlet>(
    shared: Arc<Shared<N>>,
    tasks: TaskTracker,
    request: Request,
) {
    let (id, order) = match read(&request) {
        Ok(read) => read,
        Err(refusal) => {
            let id = workload_id(&request);
            let id = id.as_ref().map(WorkloadId::as_str).unwrap_or_default();
            return refuse(&request, id, "", &refusal).await;
        }
    };
    let name = order.request.name.clone();
    let namespace = order.request.namespace.clone();
    // A task of its own, so that a panic in it is an answer as well.
    let existing = order.existing;
    let starting = Arc::clone(&shared);
    let starting_id = id.clone();
    let mut starting = tasks.spawn(async move {
        if existing {
            ensure_started(starting, starting_id, order).await
        } else {
            begin(starting, starting_id, order, false).await
        }
    });
    let outcome = match tokio::time::timeout(START_LIMIT, &mut starting).await {
        Ok(Ok(outcome)) => outcome.map_err(Refusal::from),
        Ok(Err(error)) => Err(Refusal::internal(&error)),
        Err(_elapsed) => {
            let text = format!(
                "the workload did not start within {}s",
                START_LIMIT.as_secs()
            );
            let refusal = Refusal::new(ErrorCode::Timeout, text);
            refuse(&request, id.as_str(), &name, &refusal).await;
            // The caller was told that it does not run, so it must not. What is handed back is to
            // run, and a list tells the node that it does.
            if let Ok(Ok(_)) = starting.await
                && !existing
            {
                let stopped = shared
                    .nexlet
                    .stop(Stop {
                        id: id.clone(),
                        namespace,
                        purge: false,
                    })
                    .await;
                if let Err(error) = stopped {
                    warn!(workload = %id, %error, "a start that came too late is not undone");
                }
            }
            return;
        }
    };
    match outcome {
        Ok(Started { name }) => send(&request, None, &StartWorkloadResponse { id, name }).await,
        Err(refusal) => refuse(&request, id.as_str(), &name, &refusal).await,
    }
}

fn read(request: &Request) -> Result<(WorkloadId, NexletStartWorkloadRequest), Refusal> {
    let id = workload_id(request)
        .ok_or_else(|| Refusal::bad_request("the subject names no workload"))?;
    let order = serde_json::from_slice(request.payload())
        .map_err(|error| Refusal::bad_request(format!("failed to read the request: {error}")))?;
    Ok((id, order))
}

async fn refuse(request: &Request, id: &str, name: &str, refusal: &Refusal) {
    let body = Refused {
        id,
        name,
        error: &refusal.text,
    };
    let hint = refusal.hint.as_deref();
    send_refusal(request, refusal.code, &refusal.text, hint, &body).await;
}

/// Starts a workload that ran before, unless it runs here already. A start that is under way is
/// not repeated: its outcome is the answer.
async fn ensure_started<N: Nexlet>(
    shared: Arc<Shared<N>>,
    id: WorkloadId,
    order: NexletStartWorkloadRequest,
) -> Result<Started, ClaimError> {
    let name = order.request.name.clone();
    match begin(Arc::clone(&shared), id, order, true).await {
        Err(ClaimError::Known(id)) => {
            let running = shared.nexlet.get(&id);
            let name = running.map_or(name, |running| running.name);
            Ok(Started { name })
        }
        Err(ClaimError::UnderWay(start)) => Ok(start.outcome().await?),
        begun => begun,
    }
}

async fn begin<N: Nexlet>(
    shared: Arc<Shared<N>>,
    id: WorkloadId,
    order: NexletStartWorkloadRequest,
    existing: bool,
) -> Result<Started, ClaimError> {
    order
        .request
        .check_name()
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    if existing && shared.host.has_ended(&id) {
        return Err(ClaimError::Over(id));
    }
    let claim: Claim<N> = shared.claim(&id, order.request.workload_lifecycle)?;
    shared.host.starts(&id);
    let outcome = start_claimed(&shared, id, order, existing).await;
    claim.finish(outcome.clone());
    Ok(outcome?)
}

async fn start_claimed<N: Nexlet>(
    shared: &Shared<N>,
    id: WorkloadId,
    mut order: NexletStartWorkloadRequest,
    existing: bool,
) -> Result<Started, Refusal> {
    let permit = shared.start_permits.acquire().await;
    let _permit = permit.map_err(|_closed| Refusal::busy("this nexlet ends"))?;
    // It may have begun to drain while this start waited.
    shared.check_running()?;
    if let Some(route) = &shared.route {
        route.replace_in(&mut order.workload_creds);
        if let Some(data) = &mut order.namespace_creds {
            route.replace_in(data);
        }
    }
    let start = Start {
        id,
        request: order.request,
        credentials: order.workload_creds,
        namespace_credentials: order.namespace_creds,
        existing,
        host: shared.host.clone(),
    };
    shared.nexlet.start(start).await
}

/// Starts again what ran before the node or the nexlet was restarted. What runs here, or has ended
/// here, is left alone.
pub(super) async fn restore<N: Nexlet>(
    shared: Arc<Shared<N>>,
    existing: BTreeMap<WorkloadId, NexletStartWorkloadRequest>,
) {
    futures_util::stream::iter(existing)
        .for_each_concurrent(RESTORES_AT_A_TIME, |(id, order)| {
            restore_one(&shared, id, order)
        })
        .await;
}

async fn restore_one<N: Nexlet>(
    shared: &Arc<Shared<N>>,
    id: WorkloadId,
    order: NexletStartWorkloadRequest,
) {
    if shared.check_running().is_err() {
        // Not a failure of the workload: the node has it in its books.
        return;
    }
    let request = order.request.clone();
    let begun = begin(Arc::clone(shared), id.clone(), order, true).await;
    if let Err(ClaimError::Refused(refusal)) = begun {
        warn!(workload = %id, %refusal, "a workload is not taken up again");
        let error = WorkloadError {
            code: refusal.code.to_string(),
            message: refusal.text,
        };
        shared.host.workload_refused(&id, &request, error).await;
    }
}
