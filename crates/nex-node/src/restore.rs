//! Hands back to nexlets what should run: after a restart of the node, of a nexlet, and after a
//! refusal.
//!
//! A registering nexlet gets what fits into the answer, as in Go. The rest, and what was refused,
//! is given to it start by start, so that each has an answer of its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use nex_credentials::MintError;
use nex_nats::request_many::{Gather, Step};
use nex_protocol::{
    Namespace, NexletId, Subject, WorkloadId, WorkloadState,
    workload::{ListWorkloadsRequest, NexletStartWorkloadRequest, parse_list},
};
use nexlet::Chain;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    nexlet::{Heard, Roll, gather_lists},
    order,
    phase::Phase,
    shared::Shared,
    state::Record,
    timeouts::{CONFIRM_LIMIT, LIST_LIMIT, RECONCILE_PERIOD, REMOTE_GONE_LIMIT},
    workloads::{Standing, Workload},
};

/// How many workloads are handed back at a time; a nexlet starts 64 at a time.
const MAX_PUSHES: usize = 32;

/// How many are taken at a time from all that should run, which is looked through for them.
const MAX_QUEUE: usize = 512;

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

/// Hands back what is due, until `cancel`.
pub(crate) async fn push_due(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut pushes = FuturesUnordered::new();
    let mut queue: VecDeque<Workload> = VecDeque::new();
    loop {
        let mut next = None;
        while pushes.len() < MAX_PUSHES {
            if queue.is_empty() {
                let (due, later) = shared.workloads.take_due(Instant::now(), MAX_QUEUE);
                queue.extend(due);
                next = later;
            }
            match queue.pop_front() {
                Some(workload) => pushes.push(push(Arc::clone(&shared), workload)),
                None => break,
            }
        }
        let next_due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            Some(()) = pushes.next() => {}
            () = next_due => {}
            () = shared.workloads.wait_due() => {}
        }
    }
}

async fn push(shared: Arc<Shared>, workload: Workload) {
    let record = &workload.record;
    let id = &record.id;
    let Some(nexlet) = &workload.holder else {
        return;
    };
    if !shared.registry.is_healthy(Instant::now(), nexlet) {
        shared.workloads.due(Instant::now() + NOT_YET, [id.clone()]);
        return;
    }
    let request = record.request.clone();
    let namespace = request.namespace.clone();
    let answer = order::give(&shared, nexlet, id, request, true).await;
    let refusal = match &answer {
        Ok(reply) => nex_nats::read_error(reply).map(|(_, text)| text),
        Err(error) => Some(Chain(error).to_string()),
    };
    if let Some(reason) = refusal {
        warn!(workload = %id, %nexlet, reason, "a workload was not taken up again");
        shared.workloads.refused(Instant::now(), id, &reason);
    } else if shared.workloads.get(id).is_some() {
        debug!(workload = %id, %nexlet, "a workload was taken up again");
        shared.workloads.runs(id);
    } else {
        // It was stopped while the nexlet started it.
        order::call_off(&shared, namespace, id.clone()).await;
    }
}

/// Compares from time to time what should run with what the nexlets list, until `cancel`: ends
/// that nobody told, and starts that nobody confirmed.
pub(crate) async fn reconcile_often(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut looks = tokio::time::interval(CONFIRM_LIMIT);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = looks.tick() => {}
        }
        let known = shared.workloads.all();
        let open = |workload: &Workload| matches!(workload.standing, Standing::HandedOver(at) if at.elapsed() >= CONFIRM_LIMIT);
        let wanted = known.iter().any(open) || last.elapsed() >= RECONCILE_PERIOD;
        if known.is_empty() || !wanted || shared.phase() == Phase::Stopping {
            continue;
        }
        last = Instant::now();
        tokio::select! {
            () = cancel.cancelled() => return,
            () = reconcile(&shared, known) => {}
        }
    }
}

/// One comparison. `known` was taken before the nexlets are asked: what has started since is none
/// of its business.
async fn reconcile(shared: &Shared, known: Vec<Workload>) {
    let (mut listed, mut over) = (HashSet::new(), HashSet::new());
    let living: BTreeSet<NexletId> = shared.registry.living(Instant::now()).into_iter().collect();
    let gathered = gather_lists(
        &shared.client,
        &shared.id,
        everything(),
        Roll::new(living.clone()),
        LIST_LIMIT,
        |list| {
            for workload in list {
                let ended = workload.workload_state == WorkloadState::Stopped
                    || workload.metadata.contains_key("ended");
                let to = if ended { &mut over } else { &mut listed };
                to.insert(workload.id);
            }
            Heard::Answer
        },
    )
    .await;
    let complete = matches!(gathered, Ok(0));
    for workload in known {
        let id = &workload.record.id;
        if listed.contains(id) {
            shared.workloads.runs(id);
            continue;
        }
        if over.contains(id) {
            shared.forget(id);
            continue;
        }
        let with_living = workload
            .holder
            .is_some_and(|nexlet| living.contains(&nexlet));
        if !complete || !with_living {
            continue;
        }
        match workload.standing {
            Standing::Running => {
                info!(workload = %id, "a workload has ended unheard, it is forgotten");
                shared.forget(id);
            }
            Standing::HandedOver(at) if at.elapsed() >= RECONCILE_PERIOD => {
                info!(workload = %id, "a workload was not taken up, it is handed over again");
                shared.workloads.due(Instant::now(), [id.clone()]);
            }
            _ => {}
        }
    }
}

/// The question for all workloads of all namespaces.
fn everything() -> bytes::Bytes {
    let query = ListWorkloadsRequest {
        filter: Vec::new(),
        namespace: Namespace::system(),
    };
    serde_json::to_vec(&query)
        .expect("a question is made of texts")
        .into()
}

/// Gives a remote nexlet what other remote nexlets of its type left that are gone: it may be one of
/// them that was started again, which has a new id then. Waits until they are surely gone, and
/// leaves out what anybody still lists.
pub(crate) async fn adopt_orphans(shared: Arc<Shared>, heir: NexletId, workload_type: String) {
    tokio::time::sleep(REMOTE_GONE_LIMIT).await;
    let now = Instant::now();
    let living: BTreeSet<NexletId> = shared.registry.living(now).into_iter().collect();
    if !living.contains(&heir) {
        return;
    }
    let orphans = shared.workloads.orphans(&workload_type, &living);
    if orphans.is_empty() {
        return;
    }
    let Some(listed) = listed_by_anybody(&shared).await else {
        return;
    };
    let mut adopted = Vec::new();
    for id in orphans.into_iter().filter(|id| !listed.contains(id)) {
        let Some(record) = shared.workloads.adopt(now, &id, &heir) else {
            continue;
        };
        if let Err(error) = shared.store.put(&record).await {
            warn!(workload = %id, error = %Chain(&error), "failed to keep who has a workload");
        }
        adopted.push(id);
    }
    info!(nexlet = %heir, workloads = adopted.len(), "nexlet takes up what another one left");
    shared.workloads.due(Instant::now(), adopted);
}

/// What is listed, also by nexlets that are not registered.
async fn listed_by_anybody(shared: &Shared) -> Option<HashSet<WorkloadId>> {
    let subject = Subject::QueryWorkloads(shared.id.clone()).to_string();
    let deadline = tokio::time::Instant::now() + LIST_LIMIT;
    let asked = Gather::request(&shared.client, subject, everything(), None).await;
    let mut replies = asked
        .inspect_err(|error| warn!(%error, "failed to ask the nexlets"))
        .ok()?;
    let mut listed = HashSet::new();
    while let Step::Reply(reply) = replies.next(deadline).await {
        let list = parse_list(&reply.payload).unwrap_or_default();
        listed.extend(list.into_iter().map(|workload| workload.id));
    }
    Some(listed)
}
