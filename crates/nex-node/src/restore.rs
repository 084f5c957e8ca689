//! Hands back to nexlets what should run: after a restart of the node, of a nexlet, and after a
//! refusal.
//!
//! A registering nexlet gets what fits into the answer, as in Go. The rest, and what was refused,
//! is given to it start by start, so that each has an answer of its own.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use nex_credentials::MintError;
use nex_protocol::{NexletId, WorkloadId, workload::NexletStartWorkloadRequest};
use nexlet::Chain;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    order::{self, OrderError},
    orphans,
    shared::Shared,
    state::Record,
    workloads::Workload,
};

/// How many workloads are handed back to one nexlet at a time; it starts 64 at a time.
const MAX_PUSHES: usize = 32;

/// How soon a nexlet is looked at again that cannot take anything yet.
const NOT_YET: Duration = Duration::from_millis(250);

/// What goes into the answer to a registration.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) existing: BTreeMap<WorkloadId, NexletStartWorkloadRequest>,
    /// What does not fit.
    pub(crate) rest: Vec<WorkloadId>,
}

/// Makes a page of at most half of what the server takes: the credentials of the nexlet have to
/// fit in too.
pub(crate) fn page(shared: &Shared, records: Vec<Arc<Record>>) -> Result<Page, MintError> {
    let mut room = shared.client.max_payload() / 2;
    let mut page = Page::default();
    for record in records {
        if room == 0 {
            page.rest.push(record.id.clone());
            continue;
        }
        let order = order::make(shared, &record.id, record.request.clone(), true)?;
        let bytes = serde_json::to_vec(&order).map_or(usize::MAX, |json| json.len());
        if bytes > room {
            room = 0;
            page.rest.push(record.id.clone());
        } else {
            room -= bytes;
            page.existing.insert(record.id.clone(), order);
        }
    }
    Ok(page)
}

/// What is to be given to one nexlet.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Workload>,
    pushes: usize,
}

/// Hands back what is due, until `cancel`; a nexlet that takes long holds up nobody else's.
pub(crate) async fn push_due(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut pushes = FuturesUnordered::new();
    let mut queues: BTreeMap<NexletId, Queue> = BTreeMap::new();
    let mut next = Some(Instant::now());
    loop {
        if next.is_some_and(|next| next <= Instant::now()) {
            let (due, later) = shared.workloads.take_due(Instant::now());
            next = later;
            for workload in due {
                if let Some(nexlet) = workload.holder.clone() {
                    queues
                        .entry(nexlet)
                        .or_default()
                        .waiting
                        .push_back(workload);
                }
            }
        }
        for (nexlet, queue) in &mut queues {
            while queue.pushes < MAX_PUSHES
                && let Some(workload) = queue.waiting.pop_front()
            {
                queue.pushes += 1;
                pushes.push(push(Arc::clone(&shared), workload, nexlet.clone()));
            }
        }
        queues.retain(|_, queue| queue.pushes > 0);
        let next_due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            Some(nexlet) = pushes.next() => {
                if let Some(queue) = queues.get_mut(&nexlet) {
                    queue.pushes -= 1;
                }
            }
            () = next_due => {}
            () = shared.workloads.wait_due() => next = Some(Instant::now()),
        }
    }
}

/// Gives one workload back, and answers to whom.
async fn push(shared: Arc<Shared>, workload: Workload, nexlet: NexletId) -> NexletId {
    let record = &workload.record;
    let id = &record.id;
    if !shared.registry.is_healthy(Instant::now(), &nexlet) {
        shared.workloads.due(Instant::now() + NOT_YET, [id.clone()]);
        return nexlet;
    }
    let request = record.request.clone();
    let namespace = request.namespace.clone();
    let answer = order::give(&shared, &nexlet, id, request, true).await;
    let failure = match &answer {
        Ok(reply) => order::started(reply)
            .err()
            .map(|error| Chain(&error).to_string()),
        // It may run: a list will tell.
        Err(error) if error.is_unanswered() => {
            warn!(workload = %id, %nexlet, "nexlet did not say whether it started a workload again");
            return nexlet;
        }
        // Its next life, or another nexlet, is given the workload when it registers.
        Err(OrderError::Ended { .. }) => return nexlet,
        Err(error) => Some(Chain(error).to_string()),
    };
    if let Some(reason) = failure {
        warn!(workload = %id, %nexlet, reason, "a workload did not start again");
        shared
            .workloads
            .not_started(Instant::now(), &workload, &reason);
    } else if shared.workloads.get(id).is_some() {
        debug!(workload = %id, %nexlet, "a workload was started again");
        shared.workloads.started(&workload);
        if record.remote_nexlet.is_some() {
            orphans::keep_holder(&shared, Arc::clone(record)).await;
        }
    } else {
        // It was stopped while the nexlet started it.
        order::call_off(&shared, namespace, id.clone()).await;
    }
    nexlet
}
