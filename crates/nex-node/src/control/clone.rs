//! `CLONE`: the start request of a workload, from the nexlet that runs it.

use std::time::Instant;

use bytes::Bytes;
use nex_nats::request_many::{Gather, Step};
use nex_protocol::{
    Namespace, StartWorkloadRequest, Subject, WorkloadId, control::CloneWorkloadRequest,
    error::WORKLOAD_NOT_FOUND, workload::ListWorkloadsRequest,
};

use super::answer::{Answer, Refusal, check_namespace, decode};
use crate::{
    nexlet::{Heard, gather_lists},
    shared::Shared,
    timeouts::CLONE_LIMIT,
};

/// What a nexlet's answer that cannot be used is reported as.
const UNREADABLE: &str = "failed to unmarshal workload definition from agent";

/// Silent where no nexlet of the node has the workload, unless the node made the id.
pub(super) async fn start_request(
    shared: &Shared,
    namespace: Namespace,
    id: WorkloadId,
    body: &Bytes,
) -> Result<Answer, Refusal> {
    let request: CloneWorkloadRequest = decode(body, "clone workload request")?;
    check_namespace(&namespace, &request.namespace)?;

    // What is to run and has no nexlet just now can be cloned too.
    let found = match ask(shared, &id, body.clone()).await? {
        Some(found) => Some(found),
        None => shared
            .workloads
            .get(&id)
            .map(|workload| workload.record.request.clone()),
    };
    let visible =
        |found: &StartWorkloadRequest| namespace.is_system() || found.namespace == namespace;
    match found.filter(visible) {
        Some(found) => Answer::json(&found),
        None if id.minted_by(&shared.id) => Err(Refusal::not_found(WORKLOAD_NOT_FOUND)),
        None => Ok(Answer::Silence),
    }
}

async fn ask(
    shared: &Shared,
    id: &WorkloadId,
    body: Bytes,
) -> Result<Option<StartWorkloadRequest>, Refusal> {
    if shared.registry.count() == 0 {
        return Ok(None);
    }
    if !id.minted_by(&shared.id) {
        return get(shared, id, body).await;
    }
    // A nexlet that does not have it says nothing, and the caller should not wait for that: who
    // made the id asks for lists too, which all answer.
    let get = get(shared, id, body);
    let absent = absent(shared, id);
    tokio::pin!(get, absent);
    tokio::select! {
        found = &mut get => found,
        absent = &mut absent => if absent { Ok(None) } else { get.await },
    }
}

/// The first start request that comes.
async fn get(
    shared: &Shared,
    id: &WorkloadId,
    body: Bytes,
) -> Result<Option<StartWorkloadRequest>, Refusal> {
    let subject = Subject::GetWorkload(shared.id.clone(), id.clone());
    let deadline = tokio::time::Instant::now() + CLONE_LIMIT;
    let gathering = Gather::request(&shared.client, subject.to_string(), body, None).await;
    let mut replies =
        gathering.map_err(|error| Refusal::internal("failed to ask the nexlets", &error))?;
    while let Step::Reply(reply) = replies.next(deadline).await {
        match nex_nats::read_error(&reply) {
            Some((_, text)) if text == WORKLOAD_NOT_FOUND => {}
            Some((_, text)) => {
                return Err(Refusal::internal(UNREADABLE, &std::io::Error::other(text)));
            }
            None => {
                let found = serde_json::from_slice(&reply.payload);
                return found
                    .map(Some)
                    .map_err(|error| Refusal::internal(UNREADABLE, &error));
            }
        }
    }
    Ok(None)
}

/// Whether all nexlets say that they do not have the workload.
async fn absent(shared: &Shared, id: &WorkloadId) -> bool {
    let query = ListWorkloadsRequest {
        filter: vec![id.to_string()],
        namespace: Namespace::system(),
    };
    let Ok(query) = serde_json::to_vec(&query) else {
        return false;
    };
    let mut seen = false;
    let missing = gather_lists(
        &shared.client,
        &shared.id,
        query.into(),
        shared.registry.list_roll(Instant::now()),
        CLONE_LIMIT,
        |_, list| {
            if list.iter().any(|workload| workload.id == *id) {
                seen = true;
                return Heard::Enough;
            }
            Heard::Answer
        },
    )
    .await;
    matches!(missing, Ok(0)) && !seen
}
