//! What remote nexlets left that are gone: another one of the type takes it up.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Instant,
};

use async_nats::HeaderMap;
use nex_nats::request_many::{Gather, Step};
use nex_protocol::{NODE_HEADER, NexletId, Subject, WorkloadId, workload::read_list};
use nexlet::Chain;
use tracing::{info, warn};

use crate::{
    hearing::Hearing,
    nexlet::Heir,
    reconcile::everything,
    shared::Shared,
    state::Record,
    timeouts::{LIST_LIMIT, REMOTE_GONE_LIMIT},
    workloads::{Orphan, Standing},
};

impl Orphan {
    /// Whether that nexlet would take it.
    fn suits(&self, heir: &Heir) -> bool {
        heir.takes(&self.workload_type, self.lifecycle)
    }
}

/// Gives to remote nexlets what others of their type left that are gone, each to the one that has
/// the least. Waits until those are surely gone, and leaves out what anybody still lists.
pub(crate) async fn look(shared: &Shared, hearing: &mut Hearing) {
    let now = Instant::now();
    if hearing.lasts(shared, now) < REMOTE_GONE_LIMIT {
        return;
    }
    let living: BTreeSet<NexletId> = shared.registry.not_offline(now);
    let orphans = shared.workloads.orphans(&living);
    let mut heirs = shared.registry.heirs(now);
    let wanted = |orphan: &Orphan| heirs.iter().any(|heir| orphan.suits(heir));
    if !orphans.iter().any(wanted) {
        return;
    }
    let Some(listed) = listed_by_anybody(shared).await else {
        return;
    };
    // Who has registered while the nexlets were asked has its workloads back.
    let living = shared.registry.not_offline(Instant::now());
    let mut adopted: BTreeMap<NexletId, Vec<WorkloadId>> = BTreeMap::new();
    for orphan in orphans {
        let (id, gone) = (&orphan.id, &orphan.nexlet);
        if listed.contains(id) || living.contains(gone) {
            continue;
        }
        let suitable = heirs.iter_mut().filter(|heir| orphan.suits(heir));
        let Some(heir) = suitable.min_by_key(|heir| heir.workloads) else {
            continue;
        };
        let to = heir.registration.id.clone();
        let standing = Standing::HandedOver(Instant::now());
        if pass_on(shared, id, (gone, &to), standing).await {
            heir.workloads += 1;
            adopted.entry(to).or_default().push(orphan.id);
        }
    }
    for (heir, ids) in adopted {
        info!(nexlet = %heir, workloads = ids.len(), "nexlet takes up what another one left");
        shared.workloads.due(Instant::now(), ids);
        // The first one may be back meanwhile.
        shared.compare.notify_one();
    }
}

/// Gives a workload of one remote nexlet to another, if it is still that of the first. Keeps that where
/// the other one runs it; a start is kept when it has succeeded, for a node that is started again takes
/// what is kept for what runs. Answers whether it gave it.
pub(crate) async fn pass_on(
    shared: &Shared,
    id: &WorkloadId,
    (from, to): (&NexletId, &NexletId),
    standing: Standing,
) -> bool {
    let Some(record) = shared.workloads.pass_on(id, from, to, standing) else {
        return false;
    };
    if standing == Standing::Running {
        keep_holder(shared, record).await;
    }
    true
}

/// Keeps which remote nexlet has a workload.
pub(crate) async fn keep_holder(shared: &Shared, record: Arc<Record>) {
    if let Err(error) = shared.store.put(&record).await {
        warn!(workload = %record.id, error = %Chain(&error), "failed to keep who has a workload");
    }
    if shared.workloads.get(&record.id).is_none() {
        // It has ended meanwhile.
        shared.forget_tx.send(record).ok();
    }
}

/// What is listed, also by nexlets that are not registered.
async fn listed_by_anybody(shared: &Shared) -> Option<HashSet<WorkloadId>> {
    let subject = Subject::QueryWorkloads(shared.id.clone()).to_string();
    let deadline = tokio::time::Instant::now() + LIST_LIMIT;
    // Else a nexlet tells only what one message holds.
    let mut headers = HeaderMap::new();
    headers.insert(NODE_HEADER, shared.id.as_str());
    let asked = Gather::request(&shared.client, subject, everything(), Some(headers)).await;
    let mut replies = asked
        .inspect_err(|error| warn!(%error, "failed to ask the nexlets"))
        .ok()?;
    let mut listed = HashSet::new();
    while let Step::Reply(reply) = replies.next(deadline).await {
        let list = read_list(&reply.payload).unwrap_or_default();
        listed.extend(list.workloads.into_iter().map(|workload| workload.id));
    }
    Some(listed)
}
