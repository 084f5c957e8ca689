//! `ADEPLOY`: turns a bid into a workload.

use std::time::Instant;

use async_nats::{HeaderMap, Message, Request, RequestError, RequestErrorKind};
use bytes::Bytes;
use nex_protocol::{
    BidId, Namespace, StartWorkloadRequest, Subject, WorkloadId, header_value,
    workload::{NexletStartWorkloadRequest, StopWorkloadRequest},
};
use serde_json::Value;
use tracing::{info, warn};

use super::answer::{Answer, Refusal, check_namespace, decode};
use crate::{
    nexlet::{PickError, Picked},
    shared::Shared,
    timeouts::START_LIMIT,
};

/// Whether a deploy on that subject is this node's to answer.
pub(super) fn is_ours(shared: &Shared, subject: &str) -> bool {
    match Subject::parse(subject) {
        Some(Subject::Deploy(_, bid)) => {
            bid.minted_by(&shared.id) || shared.bid_type(&bid).is_some()
        }
        _ => false,
    }
}

/// Silent on other nodes' bids, which are looked at before anything else.
pub(super) async fn start(
    shared: &Shared,
    namespace: Namespace,
    bid: BidId,
    body: &Bytes,
) -> Result<Answer, Refusal> {
    let Some(bid_type) = shared.bid_type(&bid) else {
        // All nodes hear this; the one that made the bid says that its time is over.
        return if bid.minted_by(&shared.id) {
            Err(Refusal::not_found("bid expired"))
        } else {
            Ok(Answer::Silence)
        };
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
    let reply = hand_over(shared, &picked, request).await?;
    if nex_nats::read_error(&reply).is_none() {
        picked.started();
    }
    Ok(Answer::Forwarded(sanitized(reply.headers), reply.payload))
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

async fn hand_over(
    shared: &Shared,
    picked: &Picked,
    request: StartWorkloadRequest,
) -> Result<Message, Refusal> {
    let id = WorkloadId::mint(&shared.id);
    let mint_failed = |error: nex_credentials::MintError| {
        Refusal::internal("failed to mint workload nats connection", &error)
    };
    let namespace = request.namespace.clone();
    let workload_creds = shared
        .minter
        .workload(&namespace, &id)
        .map_err(mint_failed)?;
    let namespace_creds = shared.minter.namespace(&namespace).map_err(mint_failed)?;
    let order = NexletStartWorkloadRequest {
        request,
        workload_creds,
        namespace_creds: Some(namespace_creds),
        existing: false,
    };
    let order = serde_json::to_vec(&order)
        .map_err(|error| Refusal::internal("failed to encode the start", &error))?;

    let nexlet = picked.registration.id.clone();
    let subject = Subject::StartWorkload(shared.id.clone(), nexlet.clone(), id.clone());
    let order = Request::new()
        .payload(order.into())
        .timeout(Some(START_LIMIT));
    match shared.client.send_request(subject.to_string(), order).await {
        Ok(reply) => {
            info!(workload = %id, %namespace, nexlet = %nexlet, "nexlet answered a start");
            Ok(reply)
        }
        Err(error) => {
            if error.kind() == RequestErrorKind::TimedOut {
                // The client is told that it failed, so it must not run after all.
                call_off(shared, namespace, id).await;
            }
            Err(failed(&error))
        }
    }
}

fn failed(error: &RequestError) -> Refusal {
    Refusal::internal("failed to publish start workload request", error)
}

async fn call_off(shared: &Shared, namespace: Namespace, id: WorkloadId) {
    let subject = Subject::StopWorkload(shared.id.clone(), id);
    let stop = StopWorkloadRequest {
        namespace,
        wait: None,
    };
    let Ok(stop) = serde_json::to_vec(&stop) else {
        return;
    };
    if let Err(error) = shared
        .client
        .publish(subject.to_string(), stop.into())
        .await
    {
        warn!(%error, "failed to call off a start that was not answered");
    }
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
