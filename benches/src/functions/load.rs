//! Calls, one at a time or many in flight, from one thread.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use async_nats::Client;
use bytes::Bytes;
use futures_util::future::try_join_all;

/// What is sent, and has to come back.
pub(super) const PAYLOAD: &[u8] = b"sixteen bytes ok";

/// How much of a run goes by before it counts.
const WARM_UP: Duration = Duration::from_millis(300);

/// A runtime with one thread: with two it would take a processor from those that are measured.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Calls once; the payload has to come back.
pub(super) async fn echo(client: &Client, subject: &str) -> anyhow::Result<()> {
    let payload = Bytes::from_static(PAYLOAD);
    let reply = client.request(subject.to_owned(), payload).await?;
    if let Some((code, text)) = nex_nats::read_error(&reply) {
        bail!("`{subject}` answered with an error: {code:?} {text}");
    }
    ensure!(reply.payload == PAYLOAD, "`{subject}` is no echo");
    ensure!(reply.headers.is_some(), "`{subject}` sends no headers");
    Ok(())
}

/// How many calls were answered, and in what time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) calls: f64,
    pub(super) took: Duration,
}

impl Run {
    pub(super) fn per_second(self) -> f64 {
        self.calls / self.took.as_secs_f64()
    }
}

/// Calls with so many in flight for so long; `at_begin` and `at_end` are called around what counts.
pub(super) async fn flood<T>(
    client: &Client,
    subject: &str,
    in_flight: usize,
    long: Duration,
    look: impl Fn() -> anyhow::Result<T>,
) -> anyhow::Result<(Run, T, T)> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + long;
    let calls = Cell::new(0u64);
    let first = Cell::new(None);
    let calling = (0..in_flight).map(|_| async {
        loop {
            echo(client, subject).await?;
            let now = Instant::now();
            if now >= end {
                return anyhow::Ok(());
            }
            if now < begin {
                continue;
            }
            if calls.get() == 0 {
                first.set(Some((now, look()?)));
            }
            calls.set(calls.get() + 1);
        }
    });
    try_join_all(calling).await?;
    let Some((started, before)) = first.take() else {
        bail!("`{subject}` answered nothing in {long:?}");
    };
    let run = Run {
        calls: calls.get() as f64,
        took: started.elapsed(),
    };
    Ok((run, before, look()?))
}

/// Calls one at a time for so long; how long each took.
pub(super) async fn one_by_one(
    client: &Client,
    subject: &str,
    long: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + long;
    let mut times = Vec::new();
    loop {
        let started = Instant::now();
        echo(client, subject).await?;
        if started >= begin {
            times.push(started.elapsed());
        }
        if started >= end {
            return Ok(times);
        }
    }
}
