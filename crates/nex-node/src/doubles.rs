//! Workloads that two nexlets run: a remote one was cut off for so long that another one took them
//! up, and is back. One of the two is to stop each.

use std::time::Instant;

use async_nats::HeaderMap;
use nex_protocol::{
    Namespace, NexletId, ONLY_HEADER, Subject, WorkloadId, workload::StopWorkloadRequest,
};
use nexlet::Chain;
use tracing::{info, warn};

use crate::{
    orphans,
    reconcile::Listings,
    shared::Shared,
    timeouts::STOP_LIMIT,
    workloads::{Standing, Workload},
};

/// Compares who has each workload with who lists it. `known` was taken before the lists: what has
/// changed hands since is left for the next time.
pub(crate) async fn settle(shared: &Shared, known: &[Workload], listed: &Listings) {
    for workload in known {
        let id = &workload.record.id;
        let (Some(holder), Some(listers)) = (&workload.holder, listed.get(id)) else {
            continue;
        };
        if listers.iter().all(|lister| lister.as_ref() == Some(holder)) {
            continue;
        }
        let current = shared.workloads.get(id);
        if current.is_some_and(|current| current.holder == workload.holder) {
            settle_one(shared, workload, holder.clone(), listers).await;
        }
    }
}

async fn settle_one(
    shared: &Shared,
    workload: &Workload,
    mut holder: NexletId,
    listers: &[Option<NexletId>],
) {
    let id = &workload.record.id;
    let namespace = &workload.record.request.namespace;
    let others = listers.iter().flatten().filter(|lister| **lister != holder);
    let others: Vec<NexletId> = others.cloned().collect();
    for lister in others {
        let keeps = shared.registry.is_there(Instant::now(), &holder)
            && shared.registry.tells_ends(&holder)
            && has(workload);
        let pair = (&holder, &lister);
        // Where the holder is gone again, or cannot be told apart, the one that is back keeps it.
        if !keeps && orphans::pass_on(shared, id, pair, Standing::Running).await {
            info!(workload = %id, from = %holder, to = %lister, "a nexlet that is back keeps a workload");
            if shared.registry.is_there(Instant::now(), &holder) {
                stop_at(shared, &holder, namespace, id).await;
            }
            holder = lister;
        } else {
            info!(workload = %id, nexlet = %lister, "a nexlet that is back stops what another one has");
            stop_at(shared, &lister, namespace, id).await;
        }
    }
    let nameless = listers.iter().filter(|lister| lister.is_none()).count();
    if shared.registry.tells_ends(&holder) && nameless > 0 {
        // One of Go, which obeys whoever is meant.
        if let Some(other) = shared.registry.a_nameless(Instant::now()) {
            stop_at(shared, &other, namespace, id).await;
        }
    }
}

/// Whether its holder has it, or may be starting it.
fn has(workload: &Workload) -> bool {
    matches!(
        workload.standing,
        Standing::Running | Standing::HandedOver(_)
    )
}

/// Tells one nexlet to stop what another one has. Nexlets of Go do not see that they are not meant.
async fn stop_at(shared: &Shared, nexlet: &NexletId, namespace: &Namespace, id: &WorkloadId) {
    let stop = StopWorkloadRequest {
        namespace: namespace.clone(),
        wait: None,
        purge: false,
    };
    let Ok(stop) = serde_json::to_vec(&stop) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(ONLY_HEADER, nexlet.as_str());
    let stop = async_nats::Request::new()
        .headers(headers)
        .payload(stop.into())
        .timeout(Some(STOP_LIMIT));
    let subject = Subject::StopWorkload(shared.id.clone(), id.clone()).to_string();
    // The next comparison sees whether it did.
    if let Err(error) = shared.client.send_request(subject, stop).await {
        warn!(workload = %id, %nexlet, error = %Chain(&error), "a second run is not stopped yet");
    }
}
