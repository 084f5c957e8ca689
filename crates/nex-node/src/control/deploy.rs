//! `ADEPLOY`: turns a bid into a workload.

use std::{sync::Arc, time::Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use jiff::Timestamp;
use nex_nats::tells_full_disk;
use nex_protocol::{
    BidId, Namespace, NexletId, StartWorkloadRequest, Subject, WorkloadId, header_value,
    workload::{MAY_RUN, StartWorkloadResponse},
};
use nexlet::Chain;
use serde_json::Value;
use tracing::{info, warn};

use super::answer::{Answer, Refusal, check_namespace, decode};
use crate::{
    nexlet::{PickError, Picked},
    order::{self, NotStarted, OrderError},
    shared::Shared,
    state::{Record, StateError},
    workloads::Starting,
};

/// Reason for the refusal of a start whose record does not fit on the disk.
const NO_SPACE: &str = "no space left on device, where its node keeps records";

/// Whether a deploy on that subject is this node's to answer.
pub(super) fn is_ours(shared: &Shared, subject: &str) -> bool {
    match Subject::parse(subject) {
        Some(Subject::Deploy(_, bid)) => {
            bid.minted_by(&shared.id) || shared.bid_type(&bid).is_some()
        }
        Some(Subject::DeployTo(..)) => true,
        _ => false,
    }
}

pub(super) async fn start(
    shared: &Arc<Shared>,
    namespace: Namespace,
    bid: BidId,
    body: &Bytes,
) -> Result<Answer, Refusal> {
    let Some(bid_type) = shared.bid_type(&bid) else {
        return Err(Refusal::not_found("bid expired"));
    };
    let request: StartWorkloadRequest = decode(body, "auction deploy workload request")?;
    check_namespace(&namespace, &request.namespace)?;
    request
        .check_name()
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    if !shared.phase().takes_work() {
        let state = shared.phase().state();
        return Err(Refusal::busy(format!("the node is in state `{state}`")));
    }
    let mut picked = pick(shared, &request, &bid_type)?;
    check_run_request(&picked, &request)?;
    let id = WorkloadId::mint(&shared.id);
    let starting = shared.workloads.starting(&id);
    let nexlet = &picked.registration.id;
    let reply = order::give(shared, nexlet, &id, request.clone(), false)
        .await
        .map_err(not_given)?;
    match order::started(&reply) {
        Ok(response) => {
            keep(shared, &starting, &id, request, nexlet, response).await?;
            info!(workload = %id, %nexlet, "workload started");
            picked.started();
        }
        // The nexlet's own words, with its code.
        Err(NotStarted::Refused(_)) => {}
        // Nobody can tell by it whether the workload runs, so it is to run nowhere.
        Err(error @ NotStarted::Unreadable(_)) => {
            warn!(workload = %id, %nexlet, error = %Chain(&error), "a start is not acknowledged");
            order::call_off(shared, request.namespace, id).await;
        }
    }
    Ok(Answer::Forwarded(sanitized(reply.headers), reply.payload))
}

fn not_given(error: OrderError) -> Refusal {
    let text = match &error {
        OrderError::Mint(_) => "failed to mint workload nats connection",
        OrderError::Encode(_) => "failed to encode the start",
        OrderError::Ask { off: true, .. } => "failed to publish start workload request",
        OrderError::Ended { .. } => "the nexlet ended during the start",
        OrderError::Ask { off: false, .. } | OrderError::Absent { .. } => MAY_RUN,
    };
    Refusal::internal(text, &error)
}

/// Writes down what has started. What cannot be kept must not run: it would be forgotten.
async fn keep(
    shared: &Shared,
    starting: &Starting,
    id: &WorkloadId,
    mut request: StartWorkloadRequest,
    nexlet: &NexletId,
    response: StartWorkloadResponse,
) -> Result<(), Refusal> {
    // Its final name, so that it keeps it.
    request.name = response.name;
    let namespace = request.namespace.clone();
    let record = Arc::new(Record {
        id: id.clone(),
        request,
        remote_nexlet: (!shared.registry.is_planned(nexlet)).then(|| nexlet.clone()),
        started: Some(Timestamp::now()),
    });
    starting.started(Arc::clone(&record), nexlet);
    if let Err(error) = shared.store.put(&record).await {
        shared.workloads.ended(id);
        let off = order::call_off(shared, namespace, id.clone()).await;
        // The error may be that of the acknowledgement alone.
        shared.forget_tx.send(record).ok();
        return Err(match &error {
            _ if !off => Refusal::internal(MAY_RUN, &error),
            StateError::TooLarge { .. } => Refusal::bad_request(error.to_string()),
            _ => {
                let refusal = Refusal::internal("failed to keep the workload", &error);
                match tells_full_disk(&Chain(&error).to_string()) {
                    true => refusal.reason(NO_SPACE),
                    false => refusal,
                }
            }
        });
    }
    if starting.has_ended() {
        // Its end was heard before it was kept.
        shared.forget_tx.send(record).ok();
    }
    Ok(())
}

fn pick(
    shared: &Shared,
    request: &StartWorkloadRequest,
    bid_type: &str,
) -> Result<Picked, Refusal> {
    let (wanted, lifecycle) = (&request.workload_type, request.workload_lifecycle);
    let picked = shared.registry.claim(Instant::now(), wanted, lifecycle);
    let picked = picked.map_err(|error| match error {
        PickError::NoType | PickError::Unhealthy => Refusal::not_found("workload type not found"),
        PickError::Lifecycle => Refusal::bad_request(format!(
            "nexlets of type `{wanted}` do not run lifecycle `{lifecycle}`"
        )),
        PickError::Full => Refusal::busy(format!("nexlets of type `{wanted}` are full")),
    })?;
    if wanted != bid_type {
        return Err(Refusal::bad_request(format!(
            "the bid is for type `{bid_type}`, not `{wanted}`"
        )));
    }
    Ok(picked)
}

fn check_run_request(picked: &Picked, request: &StartWorkloadRequest) -> Result<(), Refusal> {
    let run_request: Value = decode(request.run_request.as_bytes(), "start request")?;
    picked
        .registration
        .schema
        .check(&run_request)
        .map_err(|complaints| {
            Refusal::bad_request("failed to validate run request").detail(complaints.to_string())
        })
}

/// A nexlet's headers, made safe: a line break in one would break the client library.
fn sanitized(headers: Option<HeaderMap>) -> HeaderMap {
    let mut safe = HeaderMap::new();
    for (name, values) in headers.unwrap_or_default().iter() {
        for value in values {
            safe.append(name.clone(), header_value(value.as_str()));
        }
    }
    safe
}
