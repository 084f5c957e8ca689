//! A lame duck over restarts of the node: one that is killed comes back as one, with what is left of
//! its time.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use nexlet::Chain;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    phase::Life,
    shared::Shared,
    state::{Record, StateError, StateStore},
};

/// How many workloads are forgotten at a time; a journal writes them together.
const REMOVALS_AT_A_TIME: usize = 256;

/// What a node was when it ended.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    pub(crate) life: Life,
    /// What it ran, and is to run nowhere: a remote nexlet may still have it.
    pub(crate) drained: Vec<Record>,
}

/// What the node was when it ended, by what is kept. Where the time of a lame duck is over, its end is
/// made up for: what it ran is forgotten, and the node begins anew, as after an end in order.
pub(crate) async fn restored(store: &dyn StateStore) -> Result<Restored, StateError> {
    let mut restored = Restored::default();
    let Some(ends) = store.load_lameduck().await? else {
        return Ok(restored);
    };
    match Duration::try_from(ends.duration_since(Timestamp::now())) {
        Ok(left) if !left.is_zero() => {
            info!(%ends, "node is still a lame duck");
            let now = Instant::now();
            // Refused only where it is one already.
            restored.life.drain(now, now + left).ok();
        }
        _ => {
            let workloads = store.load().await?;
            info!(%ends, workloads = workloads.len(), "node was drained, its workloads are forgotten");
            let records = futures_util::stream::iter(workloads.iter().map(Ok));
            let removing = records.try_for_each_concurrent(REMOVALS_AT_A_TIME, async |record| {
                let workload_type = &record.request.workload_type;
                store.remove(&record.id, workload_type).await
            });
            removing.await?;
            store.put_lameduck(None).await?;
            restored.drained = workloads;
        }
    }
    Ok(restored)
}

/// Keeps when the node ends, or that it does not.
pub(crate) async fn keep(shared: &Shared, ends: Option<Timestamp>) -> Result<(), StateError> {
    let kept = shared.store.put_lameduck(ends).await;
    if let Err(error) = &kept {
        warn!(error = %Chain(error), "failed to keep whether the node is a lame duck");
    }
    kept
}
