//! Compares what should run with what the nexlets list.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use futures_util::StreamExt as _;
use nex_nats::{
    RETURN_PERIOD,
    request_many::{Gather, Step},
};
use nex_protocol::{
    Lifecycle, Namespace, NexletId, StartWorkloadRequest, Subject, WorkloadId, WorkloadState,
    WorkloadSummary, workload::ListWorkloadsRequest,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    doubles,
    hearing::Hearing,
    nexlet::{Heard, gather_lists},
    order, orphans,
    phase::Phase,
    shared::Shared,
    timeouts::{CONFIRM_LIMIT, LIST_LIMIT, RECONCILE_PERIOD},
    workloads::{Standing, Workload},
};

/// Upper bound of Go nexlets that are asked at a time whether they have a workload.
const GETS_AT_A_TIME: usize = 64;

/// Who lists each workload: nexlets of Go do not name themselves.
pub(crate) type Listings = HashMap<WorkloadId, Vec<Option<NexletId>>>;

/// Compares from time to time what should run with what the nexlets list, until `cancel`: ends
/// that nobody told, starts that nobody confirmed, what runs and is not to, and what a remote
/// nexlet left.
pub(crate) async fn reconcile_often(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut looks = tokio::time::interval(CONFIRM_LIMIT);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Instant::now();
    let mut suspects = HashSet::new();
    let mut hearing = Hearing::begin(&shared);
    loop {
        let asked_for = tokio::select! {
            () = cancel.cancelled() => return,
            _ = looks.tick() => false,
            () = shared.compare.notified() => true,
        };
        if shared.phase() == Phase::Stopping {
            continue;
        }
        let looking = orphans::look(&shared, &mut hearing);
        if cancel.run_until_cancelled(looking).await.is_none() {
            return;
        }
        let known = shared.workloads.all();
        let unwanted = shared.workloads.all_unwanted();
        let open = |workload: &Workload| matches!(workload.standing, Standing::HandedOver(at) if at.elapsed() >= CONFIRM_LIMIT);
        // What was called off in vain may appear when its nexlet goes on.
        let called_off = shared.workloads.unwanted_within(RECONCILE_PERIOD);
        let wanted =
            asked_for || called_off || known.iter().any(open) || last.elapsed() >= RECONCILE_PERIOD;
        let nothing = known.is_empty() && unwanted.is_empty();
        if nothing || !wanted {
            continue;
        }
        last = Instant::now();
        tokio::select! {
            () = cancel.cancelled() => return,
            () = reconcile(&shared, known, unwanted, &mut suspects) => {}
        }
    }
}

/// The lists of the nexlets, joined.
#[derive(Default)]
struct Lists {
    /// The nexlets that list each workload as one that has not ended.
    listed: Listings,
    /// The workloads that run: they are listed, and not only as being started.
    running: HashSet<WorkloadId>,
    /// The workloads that are listed as ended, with their nexlets.
    ended: HashSet<(Option<NexletId>, WorkloadId)>,
    /// The nexlets that named themselves.
    named: HashSet<NexletId>,
}

impl Lists {
    fn add(&mut self, nexlet: Option<NexletId>, list: Vec<WorkloadSummary>) {
        for workload in list {
            let ended = workload.workload_state == WorkloadState::Stopped
                || workload.metadata.contains_key("ended");
            if ended {
                self.ended.insert((nexlet.clone(), workload.id));
                continue;
            }
            if workload.workload_state != WorkloadState::Starting {
                self.running.insert(workload.id.clone());
            }
            let listings = self.listed.entry(workload.id).or_default();
            listings.push(nexlet.clone());
        }
        self.named.extend(nexlet);
    }

    /// Returns whether a workload is listed as ended by its nexlet, which is `nameless` where it does not
    /// name itself.
    fn is_ended(&self, id: &WorkloadId, nexlet: &NexletId, nameless: bool) -> bool {
        let by = |lister: Option<NexletId>| self.ended.contains(&(lister, id.clone()));
        by(Some(nexlet.clone())) || nameless && by(None)
    }
}

/// One comparison. `known` was taken before the nexlets are asked: what has started since is none
/// of its business. `suspects` were not listed by a nexlet that does not name itself, so that
/// somebody else may have answered for it: they are missing if it is so again.
async fn reconcile(
    shared: &Shared,
    known: Vec<Workload>,
    unwanted: BTreeMap<WorkloadId, Namespace>,
    suspects: &mut HashSet<WorkloadId>,
) {
    let mut lists = Lists::default();
    let gathered = gather_lists(
        &shared.client,
        &shared.id,
        everything(),
        shared.registry.list_roll(Instant::now()),
        LIST_LIMIT,
        |nexlet, list| {
            lists.add(nexlet, list);
            Heard::Answer
        },
    )
    .await;
    for (id, namespace) in unwanted {
        if lists.listed.contains_key(&id) {
            warn!(workload = %id, "a workload runs that is not to, it is stopped");
            order::call_off(shared, namespace, id).await;
        }
    }
    doubles::settle(shared, &known, &lists.listed).await;
    let complete = matches!(gathered, Ok(0));
    let suspected = std::mem::take(suspects);
    let (now, mut missing) = (Instant::now(), Vec::new());
    for workload in known {
        let id = &workload.record.id;
        let seen = Seen {
            lists: &lists,
            complete,
            healthy: healthy_holder(shared, &workload).is_some(),
            nameless: workload
                .holder
                .as_ref()
                .is_some_and(|nexlet| !shared.registry.tells_ends(nexlet)),
            suspected: suspected.contains(id),
        };
        match seen.verdict(&workload, now) {
            Verdict::Runs => shared.workloads.runs(id),
            Verdict::Ended => shared.forget(id),
            Verdict::Suspect => drop(suspects.insert(id.clone())),
            Verdict::Missing => missing.push(workload),
            Verdict::Open => {}
        }
    }
    futures_util::stream::iter(missing)
        .for_each_concurrent(GETS_AT_A_TIME, |workload| start_again(shared, workload))
        .await;
}

/// The result of one comparison for a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The nexlet lists the workload.
    Runs,
    /// The nexlet ran the workload, and lists it as ended.
    Ended,
    /// The workload is not listed; it is missing if the next comparison says so too.
    Suspect,
    /// The nexlet does not have the workload.
    Missing,
    /// Nothing is sure.
    Open,
}

/// The answers of the nexlets about one workload.
struct Seen<'a> {
    lists: &'a Lists,
    /// `true` where all nexlets have answered.
    complete: bool,
    /// `true` where the nexlet is healthy and the workload's phase is the one from before the question.
    healthy: bool,
    /// `true` for a Go nexlet, which does not name itself in lists.
    nameless: bool,
    /// `true` for a workload that was a suspect in the comparison before.
    suspected: bool,
}

impl Seen<'_> {
    fn verdict(&self, workload: &Workload, now: Instant) -> Verdict {
        let (id, lists) = (&workload.record.id, self.lists);
        let running = workload.standing == Standing::Running;
        if let Some(listers) = lists.listed.get(id) {
            let holder = workload.holder.as_ref();
            let by_holder = listers.iter().any(|lister| match (lister, holder) {
                (Some(lister), Some(holder)) => lister == holder,
                (None, Some(_)) => self.nameless,
                (_, None) => true,
            });
            let runs = by_holder && lists.running.contains(id);
            return if runs { Verdict::Runs } else { Verdict::Open };
        }
        let Some(nexlet) = workload.holder.as_ref().filter(|_| self.healthy) else {
            return Verdict::Open;
        };
        if lists.is_ended(id, nexlet, self.nameless) {
            // One that is being started again may be listed from before.
            return if running {
                Verdict::Ended
            } else {
                Verdict::Open
            };
        }
        if !self.complete || !self.nameless && !lists.named.contains(nexlet) {
            return Verdict::Open;
        }
        match workload.standing {
            Standing::Running if self.nameless && !self.suspected => Verdict::Suspect,
            Standing::Running => Verdict::Missing,
            Standing::HandedOver(at) if now.saturating_duration_since(at) >= RECONCILE_PERIOD => {
                Verdict::Missing
            }
            Standing::HandedOver(_) | Standing::Due(_) | Standing::Waiting => Verdict::Open,
        }
    }
}

/// The nexlet of a workload, where it is healthy and the workload still stands as it did before the
/// nexlets were asked: a workload may have come back since, and a nexlet that ends lists nothing.
fn healthy_holder<'a>(shared: &Shared, workload: &'a Workload) -> Option<&'a NexletId> {
    let current = shared.workloads.get(&workload.record.id)?;
    let same = current.standing == workload.standing && current.holder == workload.holder;
    let healthy = |nexlet: &&NexletId| shared.registry.is_healthy(Instant::now(), nexlet);
    let holder = workload.holder.as_ref().filter(healthy);
    holder.filter(|_| same && shared.phase() != Phase::Stopping)
}

/// Gives a workload that its nexlet does not list to it once more. That it is not listed is no end: a
/// nexlet of ours reports each end until the node confirms it, and refuses to start an ended workload.
///
/// A nexlet of Go reports ends by events alone, which can be lost. A job that it ran in this life, and
/// has no more, has ended. What else it ran is to run, unless it has it after all.
async fn start_again(shared: &Shared, workload: Workload) {
    let record = &workload.record;
    let (id, holder) = (&record.id, workload.holder.as_ref());
    let nameless = holder.is_some_and(|nexlet| !shared.registry.tells_ends(nexlet));
    if nameless {
        if has(shared, id).await {
            return;
        }
        let job = record.request.workload_lifecycle == Lifecycle::Job;
        if job && workload.standing == Standing::Running {
            info!(workload = %id, "a job has ended, and its event is lost");
            return shared.forget(id);
        }
    }
    if shared.workloads.start_again(Instant::now(), &workload) {
        info!(workload = %id, "a workload is not listed, it is started again");
    }
}

/// Returns whether a nexlet has a workload, or may have it. Only its owner answers.
async fn has(shared: &Shared, id: &WorkloadId) -> bool {
    let subject = Subject::GetWorkload(shared.id.clone(), id.clone()).to_string();
    let deadline = tokio::time::Instant::now() + LIST_LIMIT;
    let asked = Gather::request(&shared.client, subject, "{}".into(), None).await;
    let Ok(mut replies) = asked else {
        // Nobody could be asked, so nothing is sure.
        return true;
    };
    loop {
        let reply = match replies.next(deadline).await {
            Step::Reply(reply) => reply,
            // No nexlet is connected. After a restart of NATS it may not be back yet.
            Step::NoResponders => return shared.losses.was_lost_within(RETURN_PERIOD),
            Step::TimedOut => return false,
        };
        let read = serde_json::from_slice::<StartWorkloadRequest>(&reply.payload);
        if nex_nats::read_error(&reply).is_none() && read.is_ok() {
            return true;
        }
    }
}

/// The question for all workloads of all namespaces.
pub(crate) fn everything() -> bytes::Bytes {
    let query = ListWorkloadsRequest {
        filter: Vec::new(),
        namespace: Namespace::system(),
    };
    serde_json::to_vec(&query)
        .expect("a question is made of texts")
        .into()
}

#[cfg(test)]
mod tests;
