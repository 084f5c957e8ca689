//! One node with many workloads, and its restart.

use anyhow::{bail, ensure};
use nex_protocol::WorkloadState;
use nex_testkit::eventually;
use nkeys::KeyPair;
use std::{
    collections::HashSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    IN_FLIGHT, Size,
    bare::OneFloor,
    child::{Child, ready, told_to_end},
    figure::{Figure, Scale, median},
    fleet::{client, config, fill, memory, start, start_node},
    load::{block_on, in_flight, one_at_a_time},
    noop::Starts,
};
use crate::table::print;

/// How long the node may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How long all workloads may take to run again.
const RESTORE_LIMIT: Duration = Duration::from_secs(300);

/// How long the node's stop may take.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How often is looked whether all run again.
const LOOK_PERIOD: Duration = Duration::from_millis(2);

/// What a child does that is one node: says `ready`, then `restored` when so many have started, and
/// at its end how many starts there were.
pub(super) fn serve(args: &[&str]) -> anyhow::Result<()> {
    let [url, seed, state, expected] = args else {
        bail!("a node wants a url, a seed, a folder and a number");
    };
    let expected: usize = expected.parse()?;
    block_on(async {
        let starts = Arc::new(Starts::default());
        let config = config(KeyPair::from_seed(seed)?, 0, Arc::clone(&starts));
        let node = start_node(url, config, Path::new(state)).await?;
        node.ready(READY_LIMIT).await?;
        ready();
        let all_started = async {
            while starts.count() < expected {
                tokio::time::sleep(LOOK_PERIOD).await;
            }
        };
        tokio::time::timeout(RESTORE_LIMIT, all_started).await?;
        print("restored");
        told_to_end().await;
        node.stop(STOP_GRACE).await;
        print(&starts.count().to_string());
        Ok(())
    })
}

/// Fills a node, lists it, and starts it again.
pub(super) fn measure(url: &str, size: Size, floor: &OneFloor) -> anyhow::Result<Vec<Figure>> {
    let state = tempfile::tempdir()?;
    let seed = KeyPair::new_server().seed()?;
    let life = |expected: usize| {
        let folder = state.path().display().to_string();
        let args = [url.to_owned(), seed.clone(), folder, expected.to_string()];
        Child::start("crowd", &args)
    };
    let plain = |what: String, measured| Figure {
        what,
        measured,
        target: None,
        floor: None,
    };
    let mut figures = Vec::new();

    let mut node = life(0)?;
    node.line()?;
    figures.extend(memory("one node, empty: memory", &node));
    let (starts, lists) = block_on(async {
        let client = client(url).await?;
        let starting = client.clone();
        let work = move || start(starting.clone());
        let starts = in_flight(size.parallel_starts, IN_FLIGHT, work).await?;
        fill(&client, size.workloads).await?;
        let lists = one_at_a_time(size.runs, || complete(&client, size.workloads)).await?;
        Ok((starts, lists))
    })?;
    figures.push(Figure {
        what: format!("one node: starts, {IN_FLIGHT} in flight"),
        measured: Scale::rate(size.parallel_starts, starts),
        target: None,
        floor: Some(floor.starts),
    });
    figures.push(Figure {
        what: format!("one node: list of {} by nex-client", size.workloads),
        measured: Scale::time(median(&lists)),
        target: None,
        floor: Some(floor.list),
    });
    figures.extend(memory("one node, full: memory", &node));
    let stopped = Instant::now();
    node.stop()?;
    figures.push(plain(
        "one node: stop".to_owned(),
        Scale::time(stopped.elapsed()),
    ));

    let restarted = Instant::now();
    let mut node = life(size.workloads)?;
    figures.push(plain(
        "one node: ready after a restart".to_owned(),
        Scale::time(node.started_in),
    ));
    ensure!(node.line()? == "restored", "the node says something else");
    figures.push(plain(
        format!("one node: all {} run again", size.workloads),
        Scale::time(restarted.elapsed()),
    ));
    figures.extend(memory("one node, restored: memory", &node));
    block_on(async {
        let client = client(url).await?;
        // Each twice would be more starts than workloads, which are counted at the end.
        eventually("all are listed", READY_LIMIT, || async {
            complete(&client, size.workloads)
                .await
                .map_err(|e| format!("{e:#}"))
        })
        .await;
        Ok(())
    })?;
    let starts = node.stop()?;
    ensure!(
        starts == size.workloads.to_string(),
        "{starts} starts of {} workloads after the restart",
        size.workloads
    );
    Ok(figures)
}

/// Lists, and checks that all of them run, each once.
async fn complete(client: &nex_client::Client, workloads: usize) -> anyhow::Result<()> {
    let answer = client.list(&[]).await?;
    let ids: HashSet<_> = answer.workloads.iter().map(|(_, it)| &it.id).collect();
    let running = answer.workloads.iter();
    let running = running.filter(|(_, it)| it.workload_state == WorkloadState::Running);
    let (listed, running) = (answer.workloads.len(), running.count());
    ensure!(
        ids.len() == workloads && listed == workloads && running == workloads,
        "{listed} listed, {} different, {running} running of {workloads}",
        ids.len()
    );
    ensure!(
        answer.missing.is_empty() && answer.failed.is_empty(),
        "{answer:?}"
    );
    Ok(())
}
