//! Ends of workloads: what has ended for good is forgotten, so that it does not run again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::Message;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use nex_protocol::{Lifecycle, NexletId, Subject, event::Event, registration::EndedWorkload};
use nexlet::Chain;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    phase::Phase,
    shared::Shared,
    state::{Record, StateStore},
    timeouts::FORGET_LIMIT,
    workloads::{Standing, Workload},
};

/// The name of the event of an end.
const WORKLOAD_STOPPED: &str = "WORKLOADSTOPPED";

/// How many records are removed at a time.
const REMOVALS_AT_A_TIME: usize = 256;

/// How long to wait after a removal that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Records that a nexlet reports an end, or a refusal to start a workload again. Answers whether the
/// report is settled: one that cannot be believed yet is to come again.
pub(crate) fn record(shared: &Shared, nexlet: &NexletId, ended: &EndedWorkload) -> bool {
    let id = &ended.id;
    let Some(workload) = shared.workloads.get(id) else {
        if !ended.refused {
            // It may be one whose start is not acknowledged yet.
            shared.forget(id);
        }
        return true;
    };
    let is_holder = workload.holder.as_ref() == Some(nexlet);
    if ended.refused {
        if is_holder {
            let reason = ended.error.as_ref().map_or("", |error| &error.message);
            shared.workloads.refused(Instant::now(), id, reason);
        }
        return true;
    }
    if !is_holder {
        if !had(shared, nexlet, &workload) {
            return false;
        }
        // Another nexlet may be starting it at this moment.
        let namespace = &workload.record.request.namespace;
        shared.workloads.unwanted(id, namespace);
    }
    shared.forget(id);
    true
}

/// Returns whether a nexlet may have had a workload of which it is not the holder, and no other nexlet runs it:
/// a remote one that left this node and came back under another id.
fn had(shared: &Shared, nexlet: &NexletId, workload: &Workload) -> bool {
    let is_there = |holder| shared.registry.is_there(Instant::now(), holder);
    let runs =
        workload.standing == Standing::Running && workload.holder.as_ref().is_some_and(is_there);
    let its_type = &workload.record.request.workload_type;
    workload.record.remote_nexlet.is_some() && !runs && shared.registry.runs(nexlet, its_type)
}

/// Removes records from the store, until `cancel`; what was asked for by then is still removed.
pub(crate) async fn forget_for_good(
    store: Arc<dyn StateStore>,
    mut records_rx: mpsc::UnboundedReceiver<Arc<Record>>,
    cancel: CancellationToken,
) {
    let mut removals = FuturesUnordered::new();
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            record = records_rx.recv(), if open && removals.len() < REMOVALS_AT_A_TIME => {
                match record {
                    Some(record) => removals.push(remove(&*store, record, &cancel)),
                    None => open = false,
                }
            }
            Some(()) = removals.next() => {}
            () = cancel.cancelled(), if !records_rx.is_closed() => records_rx.close(),
            else => return,
        }
    }
}

/// Removes everything from the store. Resolves when that is done, or takes too long.
pub(crate) async fn forget_all(shared: &Shared) {
    let records = futures_util::stream::iter(shared.workloads.all_ended());
    let removing = records.for_each_concurrent(REMOVALS_AT_A_TIME, |record| async move {
        let removed = shared
            .store
            .remove(&record.id, &record.request.workload_type)
            .await;
        if let Err(error) = removed {
            let error = Chain(&error);
            warn!(workload = %record.id, %error, "a drained workload will come back");
        }
    });
    if tokio::time::timeout(FORGET_LIMIT, removing).await.is_err() {
        warn!("some drained workloads will come back: the store takes too long to forget them");
    }
}

/// Tries until it is done; once more only, when the node ends.
async fn remove(store: &dyn StateStore, record: Arc<Record>, cancel: &CancellationToken) {
    let workload_type = &record.request.workload_type;
    while let Err(error) = store.remove(&record.id, workload_type).await {
        warn!(workload = %record.id, error = %Chain(&error), "failed to forget an ended workload");
        if cancel.is_cancelled() {
            return;
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Listens to the events of workloads, from when a nexlet registers that does not tell of ends
/// itself: as Go nexlets do. Until `cancel`.
pub(crate) async fn follow_events(shared: Arc<Shared>, cancel: CancellationToken) {
    cancel.run_until_cancelled(follow(&shared)).await;
}

async fn follow(shared: &Shared) {
    let mut changes = shared.registry.watch();
    while !shared.registry.some_tell_no_ends() {
        if changes.changed().await.is_err() {
            return;
        }
    }
    let subject = Subject::Event("*".to_owned(), WORKLOAD_STOPPED.to_owned());
    let mut events = match shared.client.subscribe(subject.to_string()).await {
        Ok(events) => events,
        Err(error) => {
            warn!(%error, "failed to subscribe to the ends of workloads");
            return;
        }
    };
    while let Some(message) = events.next().await {
        heard(shared, &message);
    }
}

fn heard(shared: &Shared, message: &Message) {
    let Some(Subject::Event(from, name)) = Subject::parse(&message.subject) else {
        return;
    };
    let Ok(Event::WorkloadStopped(event)) = Event::parse(&from, &name, &message.payload) else {
        return;
    };
    let Some(workload) = shared.workloads.get(&event.id) else {
        // It may be one whose start is not acknowledged yet.
        shared.forget(&event.id);
        return;
    };
    let Some(nexlet) = &workload.holder else {
        return;
    };
    // One that ends stops its workloads first, and a node that ends makes its nexlets end: all that
    // is to come back. Our nexlets do not tell of such ends.
    let ending = shared.registry.is_ending(nexlet) || shared.phase() == Phase::Stopping;
    if shared.registry.tells_ends(nexlet) || ending {
        return;
    }
    let handed_over = matches!(workload.standing, Standing::HandedOver(_));
    let job = workload.record.request.workload_lifecycle == Lifecycle::Job;
    let ended = EndedWorkload {
        id: event.id,
        refused: handed_over && !job && event.error.is_some(),
        error: event.error,
    };
    record(shared, nexlet, &ended);
}
