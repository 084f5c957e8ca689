//! Asks again and again, one at a time or several.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

/// Does it `count` times, one after the other; how long each took.
pub(super) async fn one_at_a_time<F>(
    count: usize,
    mut work: impl FnMut() -> F,
) -> anyhow::Result<Vec<Duration>>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        work().await?;
        times.push(started.elapsed());
    }
    Ok(times)
}

/// Does it `count` times, `at_a_time` of them at a time; how long all took.
pub(super) async fn in_flight<F>(
    count: usize,
    at_a_time: usize,
    work: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> anyhow::Result<Duration>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let started = Instant::now();
    let begun = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..at_a_time {
        let (work, begun) = (work.clone(), Arc::clone(&begun));
        workers.spawn(async move {
            while begun.fetch_add(1, Ordering::Relaxed) < count {
                work().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(started.elapsed())
}

/// The runtime of a client.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()?.block_on(work)
}
