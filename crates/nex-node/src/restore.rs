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
    nexlet::{Heard, gather_lists},
    order,
    phase::Phase,
    shared::Shared,
    state::Record,
    timeouts::{CONFIRM_LIMIT, LIST_LIMIT, RECONCILE_PERIOD, REMOTE_GONE_LIMIT},
    workloads::{Standing, Workload},
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
    let refusal = match &answer {
        Ok(reply) => nex_nats::read_error(reply).map(|(_, text)| text),
        // It may run: a list will tell.
        Err(error) if error.is_timeout() => {
            warn!(workload = %id, %nexlet, "nexlet did not say whether it took a workload up again");
            return nexlet;
        }
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
    nexlet
}

/// Compares from time to time what should run with what the nexlets list, until `cancel`: ends
/// that nobody told, starts that nobody confirmed, and what runs and is not to.
pub(crate) async fn reconcile_often(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut looks = tokio::time::interval(CONFIRM_LIMIT);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Instant::now();
    let mut suspects = HashSet::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = looks.tick() => {}
        }
        let known = shared.workloads.all();
        let unwanted = shared.workloads.all_unwanted();
        let open = |workload: &Workload| matches!(workload.standing, Standing::HandedOver(at) if at.elapsed() >= CONFIRM_LIMIT);
        let wanted = known.iter().any(open) || last.elapsed() >= RECONCILE_PERIOD;
        let nothing = known.is_empty() && unwanted.is_empty();
        if nothing || !wanted || shared.phase() == Phase::Stopping {
            continue;
        }
        last = Instant::now();
        tokio::select! {
            () = cancel.cancelled() => return,
            () = reconcile(&shared, known, unwanted, &mut suspects) => {}
        }
    }
}

/// One comparison. `known` was taken before the nexlets are asked: what has started since is none
/// of its business. `suspects` were not listed by a nexlet that does not name itself, so that
/// somebody else may have answered for it: they are forgotten if it is so again.
async fn reconcile(
    shared: &Shared,
    known: Vec<Workload>,
    unwanted: BTreeMap<WorkloadId, Namespace>,
    suspects: &mut HashSet<WorkloadId>,
) {
    let (mut listed, mut over) = (HashSet::new(), HashSet::new());
    let mut named = HashSet::new();
    let gathered = gather_lists(
        &shared.client,
        &shared.id,
        everything(),
        shared.registry.list_roll(Instant::now()),
        LIST_LIMIT,
        |nexlet, list| {
            named.extend(nexlet);
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
    for (id, namespace) in unwanted {
        if listed.contains(&id) {
            warn!(workload = %id, "a workload runs that is not to, it is stopped");
            order::call_off(shared, namespace, id).await;
        }
    }
    let complete = matches!(gathered, Ok(0));
    let suspected = std::mem::take(suspects);
    let now = Instant::now();
    for workload in known {
        let id = &workload.record.id;
        if listed.contains(id) {
            shared.workloads.runs(id);
            continue;
        }
        // Things have gone on since: nothing is to be forgotten that came back meanwhile, nor what a
        // nexlet that ends lists no more.
        let same = shared.workloads.get(id).is_some_and(|current| {
            current.standing == workload.standing && current.holder == workload.holder
        });
        let holder = workload.holder.as_ref().filter(|nexlet| {
            same && shared.phase() != Phase::Stopping && shared.registry.is_healthy(now, nexlet)
        });
        let Some(nexlet) = holder else {
            continue;
        };
        if over.contains(id) {
            shared.forget(id);
            continue;
        }
        if !complete || !named.contains(nexlet) && shared.registry.tells_ends(nexlet) {
            continue;
        }
        match workload.standing {
            Standing::Running if !named.contains(nexlet) && !suspected.contains(id) => {
                suspects.insert(id.clone());
            }
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
    if !shared.registry.is_healthy(now, &heir) {
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
    for (id, gone) in orphans {
        if listed.contains(&id) {
            continue;
        }
        let Some(record) = shared.workloads.adopt(now, &id, &gone, &heir) else {
            continue;
        };
        if let Err(error) = shared.store.put(&record).await {
            warn!(workload = %id, error = %Chain(&error), "failed to keep who has a workload");
        }
        if shared.workloads.get(&id).is_none() {
            // It has ended meanwhile.
            shared.forget_tx.send(record).ok();
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
