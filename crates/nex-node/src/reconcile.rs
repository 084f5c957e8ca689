//! Compares what should run with what the nexlets list.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use nex_protocol::{
    Namespace, NexletId, WorkloadId, WorkloadState, workload::ListWorkloadsRequest,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    doubles,
    nexlet::{Heard, gather_lists},
    order,
    orphans::{self, Hearing},
    phase::Phase,
    shared::Shared,
    timeouts::{CONFIRM_LIMIT, LIST_LIMIT, RECONCILE_PERIOD},
    workloads::{Standing, Workload},
};

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
        let wanted = asked_for || known.iter().any(open) || last.elapsed() >= RECONCILE_PERIOD;
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

/// One comparison. `known` was taken before the nexlets are asked: what has started since is none
/// of its business. `suspects` were not listed by a nexlet that does not name itself, so that
/// somebody else may have answered for it: they are forgotten if it is so again.
async fn reconcile(
    shared: &Shared,
    known: Vec<Workload>,
    unwanted: BTreeMap<WorkloadId, Namespace>,
    suspects: &mut HashSet<WorkloadId>,
) {
    let (mut listed, mut over) = (Listings::new(), HashSet::new());
    let mut named = HashSet::new();
    let gathered = gather_lists(
        &shared.client,
        &shared.id,
        everything(),
        shared.registry.list_roll(Instant::now()),
        LIST_LIMIT,
        |nexlet, list| {
            for workload in list {
                let ended = workload.workload_state == WorkloadState::Stopped
                    || workload.metadata.contains_key("ended");
                if ended {
                    over.insert((nexlet.clone(), workload.id));
                } else {
                    let listings = listed.entry(workload.id).or_default();
                    listings.push(nexlet.clone());
                }
            }
            named.extend(nexlet);
            Heard::Answer
        },
    )
    .await;
    for (id, namespace) in unwanted {
        if listed.contains_key(&id) {
            warn!(workload = %id, "a workload runs that is not to, it is stopped");
            order::call_off(shared, namespace, id).await;
        }
    }
    doubles::settle(shared, &known, &listed).await;
    let complete = matches!(gathered, Ok(0));
    let suspected = std::mem::take(suspects);
    let now = Instant::now();
    for workload in known {
        let id = &workload.record.id;
        if let Some(listers) = listed.get(id) {
            if by_holder(shared, &workload, listers) {
                shared.workloads.runs(id);
            }
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
        let over = |lister: Option<NexletId>| over.contains(&(lister, id.clone()));
        if over(Some(nexlet.clone())) || over(None) && !shared.registry.tells_ends(nexlet) {
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

/// Whether it is the nexlet that has a workload that lists it.
fn by_holder(shared: &Shared, workload: &Workload, listers: &[Option<NexletId>]) -> bool {
    let Some(holder) = &workload.holder else {
        return true;
    };
    let nameless = !shared.registry.tells_ends(holder);
    listers.iter().any(|lister| match lister {
        Some(lister) => lister == holder,
        None => nameless,
    })
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
