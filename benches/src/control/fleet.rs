//! Many nodes in one process, and what is measured with them.

use anyhow::{Context as _, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _};
use nex_client::{AuctionSpec, Client, StartSpec};
use nex_credentials::Minter;
use nex_nats::{
    ConnectOptions,
    request_many::{Gather, Step},
};
use nex_node::{Config, DiskStore, NexletPlan, Node, RunningNode};
use nex_protocol::{
    Lifecycle, Namespace, NexusName, NodeId, StartWorkloadRequest, Subject, Tags,
    control::NodePingResponse,
};
use nex_testkit::{Home, Output, eventually};
use nkeys::{KeyPair, XKey};
use serde_json::{Map, Value, json};
use std::{cell::Cell, path::Path, sync::Arc, time::Duration};
use tokio::time::Instant;

use super::{
    IN_FLIGHT, Size, at_least,
    bare::Floor,
    below_ms,
    child::{Child, ready, told_to_end},
    figure::{Figure, Scale, median, percentile},
    load::{block_on, in_flight, one_at_a_time},
    noop::{self, Noop, Starts},
};

/// How long the nexlets of a fleet may take to be there.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How long the answers to one ping may take.
const PONG_LIMIT: Duration = Duration::from_secs(5);

/// How many nodes are started at a time.
const NODES_AT_A_TIME: usize = 16;

pub(super) fn args(url: &str, nodes: usize, state: &Path) -> Vec<String> {
    vec![
        url.to_owned(),
        nodes.to_string(),
        state.display().to_string(),
    ]
}

/// What a child does that is a fleet.
pub(super) fn serve(args: &[&str]) -> anyhow::Result<()> {
    let [url, nodes, state] = args else {
        bail!("a fleet wants a url, a number and a folder");
    };
    let nodes: usize = nodes.parse()?;
    block_on(async {
        let starting = (0..nodes).map(|number| {
            let config = config(KeyPair::new_server(), number, Arc::default());
            start_node(url, config, Path::new(state))
        });
        let fleet: Vec<RunningNode> = futures_util::stream::iter(starting)
            .buffer_unordered(NODES_AT_A_TIME)
            .try_collect()
            .await?;
        for node in &fleet {
            node.ready(READY_LIMIT).await?;
        }
        ready();
        told_to_end().await;
        Ok(())
    })
}

/// A node with a no-op nexlet.
pub(super) fn config(identity: KeyPair, number: usize, starts: Arc<Starts>) -> Config {
    let make = move || Arc::new(Noop::new(Arc::clone(&starts)));
    Config {
        identity,
        xkey: XKey::new(),
        name: format!("bench-{number}"),
        nexus: NexusName::new("bench").expect("letters are a name"),
        tags: Tags::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        allow_remote: false,
        nexlets: vec![NexletPlan::embedded(noop::TYPE, make)],
        auction_ttl: Config::DEFAULT_AUCTION_TTL,
    }
}

/// Starts a node with a connection and a journal of its own.
pub(super) async fn start_node(
    url: &str,
    config: Config,
    state: &Path,
) -> anyhow::Result<RunningNode> {
    let options = ConnectOptions::new([url], &config.name);
    let connection = nex_nats::connect(&options).await?;
    let minter = Minter::PassThrough(options.to_data()?);
    let id = NodeId::new(config.identity.public_key())?;
    let folder = state.to_owned();
    let opening = tokio::task::spawn_blocking(move || DiskStore::open(&folder, &id));
    let store = opening.await??;
    Ok(Node::start(config, connection, minter, Arc::new(store)).await?)
}

/// A client of its own, in the namespace in which all is deployed.
pub(super) async fn client(url: &str) -> anyhow::Result<Client> {
    let connection = nex_nats::connect(&ConnectOptions::new([url], "bench")).await?;
    Ok(Client::new(&connection, Namespace::default_tenant()))
}

/// What is started.
pub(super) fn spec() -> StartSpec {
    let request = json!({ "uri": "file:///bin/true", "argv": ["one", "two"] });
    let mut spec = StartSpec::new(noop::TYPE, Lifecycle::Service, &request);
    spec.name = "noop".to_owned();
    spec
}

/// Measures a fleet that takes requests.
pub(super) fn measure(
    url: &str,
    fleet: &Child,
    size: Size,
    floor: &Floor,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = vec![Figure {
        what: format!("start of {} nodes", size.nodes),
        measured: Scale::time(fleet.started_in),
        target: None,
        floor: None,
    }];
    let figures_of_client = block_on(async {
        let client = client(url).await?;
        all_know_all(&client, size.nodes).await;
        let figures = measure_client(&client, size, floor).await?;
        fill(&client, size.workloads).await?;
        Ok(figures)
    })?;
    figures.extend(measure_commands(url, size, floor)?);
    figures.extend(figures_of_client);
    figures.extend(memory("memory of all nodes", fleet));
    Ok(figures)
}

/// The memory of a child as a figure, where the system tells.
pub(super) fn memory(what: &str, child: &Child) -> Option<Figure> {
    Some(Figure {
        what: what.to_owned(),
        measured: Scale::Mebibytes(child.memory()?),
        target: None,
        floor: None,
    })
}

/// Waits until each node knows every other one: nothing is complete before.
async fn all_know_all(client: &Client, nodes: usize) {
    eventually("every node knows every other", READY_LIMIT, || async {
        let subject = Subject::Ping.to_string();
        let asked = Gather::request(client.nats(), subject, "{\"filter\":{}}".into(), None);
        let mut pongs = asked.await.map_err(|e| e.to_string())?;
        let deadline = Instant::now() + PONG_LIMIT;
        let mut knowing = 0;
        while knowing < nodes
            && let Step::Reply(pong) = pongs.next(deadline).await
        {
            let pong: NodePingResponse =
                serde_json::from_slice(&pong.payload).map_err(|e| e.to_string())?;
            knowing += usize::from(pong.peers.is_some_and(|peers| peers.len() == nodes));
        }
        if knowing == nodes {
            Ok(())
        } else {
            Err(format!("{knowing} of {nodes} do"))
        }
    })
    .await;
}

async fn measure_client(client: &Client, size: Size, floor: &Floor) -> anyhow::Result<Vec<Figure>> {
    let least = Cell::new(size.nodes);
    let auction = || async {
        let bids = client.auction(auction_spec()).await?.bids.len();
        ensure!(bids > 0, "nobody bids");
        least.set(least.get().min(bids));
        Ok(())
    };
    one_at_a_time(size.auctions / 10, auction).await?;
    let auctions = one_at_a_time(size.auctions, auction).await?;
    let singles = one_at_a_time(size.single_starts, || start(client.clone())).await?;
    let starting = client.clone();
    let parallel = in_flight(size.parallel_starts, IN_FLIGHT, move || {
        start(starting.clone())
    })
    .await?;
    let figure = |what: &str, measured, target, floor| Figure {
        what: what.to_owned(),
        measured,
        target,
        floor: Some(floor),
    };
    Ok(vec![
        figure(
            "auction, median",
            Scale::time(median(&auctions)),
            None,
            floor.auction_p50,
        ),
        figure(
            &format!("auction, 99th percentile, at least {} bids", least.get()),
            Scale::time(percentile(&auctions, 99)),
            below_ms(100.0),
            floor.auction_p99,
        ),
        figure(
            "starts, one at a time",
            Scale::rate(singles.len(), singles.iter().sum()),
            None,
            floor.single_starts,
        ),
        figure(
            &format!("starts, {IN_FLIGHT} in flight"),
            Scale::rate(size.parallel_starts, parallel),
            at_least(500.0),
            floor.parallel_starts,
        ),
    ])
}

fn auction_spec() -> AuctionSpec {
    AuctionSpec {
        workload_type: noop::TYPE.to_owned(),
        tags: Tags::new(),
        lifecycle: Some(Lifecycle::Service),
        explain: true,
    }
}

/// An auction and a deploy.
pub(super) async fn start(client: Client) -> anyhow::Result<()> {
    client.start(spec()).await?;
    Ok(())
}

/// Deploys until so many workloads run, on all nodes in turn; not measured. A bid may be used more
/// than once.
pub(super) async fn fill(client: &Client, workloads: usize) -> anyhow::Result<()> {
    let running = client.list(&[]).await?.workloads.len();
    let spec = spec();
    let request = StartWorkloadRequest {
        description: String::new(),
        metadata: Map::new(),
        name: spec.name,
        namespace: client.namespace().clone(),
        reference: String::new(),
        run_request: spec.run_request,
        tags: spec.tags,
        workload_lifecycle: spec.lifecycle,
        workload_type: spec.workload_type,
    };
    let mut left = workloads.saturating_sub(running);
    while left > 0 {
        let bids = client.auction(auction_spec()).await?.bids;
        ensure!(!bids.is_empty(), "nobody bids");
        let deploys = bids.iter().cycle().take(left.min(500));
        let deploys: Vec<_> = deploys
            .map(|(_, bid)| client.deploy(&bid.bidder_id, &request))
            .collect();
        left -= deploys.len();
        futures_util::stream::iter(deploys)
            .buffer_unordered(IN_FLIGHT)
            .try_for_each(|_| async { Ok(()) })
            .await?;
    }
    Ok(())
}

fn measure_commands(url: &str, size: Size, floor: &Floor) -> anyhow::Result<Vec<Figure>> {
    let home = Home::new();
    let often = |args: &[&str], check: &dyn Fn(&Output) -> anyhow::Result<()>| {
        let once = || {
            let all = [&["--nats.servers", url, "--namespace", "system"], args].concat();
            let output = home.run(&mut home.nex_command(&all)?)?;
            ensure!(output.code == 0, "{output}");
            check(&output)?;
            Ok(output.took)
        };
        once()?;
        let times: Vec<Duration> = (0..size.runs)
            .map(|_| once())
            .collect::<anyhow::Result<_>>()?;
        Ok::<_, anyhow::Error>(Scale::time(median(&times)))
    };
    let rows = |of: &'static str, count: usize| {
        move |output: &Output| {
            let rows = output.stdout.lines().filter(|line| line.contains(of));
            let rows = rows.count();
            ensure!(rows == count, "{rows} rows with `{of}` of {count}");
            anyhow::Ok(())
        }
    };
    let entries = |count: usize| {
        move |output: &Output| {
            let lists: Vec<Vec<Value>> =
                serde_json::from_str(&output.stdout).context("the list is no JSON")?;
            let entries: usize = lists.iter().map(Vec::len).sum();
            ensure!(entries == count, "{entries} of {count} workloads");
            anyhow::Ok(())
        }
    };
    let figure = |what: String, measured, target, floor| Figure {
        what,
        measured,
        target: below_ms(target),
        floor: Some(floor),
    };
    Ok(vec![
        figure(
            format!("nex node list, {} nodes", size.nodes),
            often(&["node", "list"], &rows("│ bench-", size.nodes))?,
            400.0,
            floor.node_list,
        ),
        figure(
            format!("nex workload list, {} workloads", size.workloads),
            often(&["workload", "list"], &rows("│ noop", size.workloads))?,
            1000.0,
            floor.workload_list,
        ),
        figure(
            "the same with --json".to_owned(),
            often(&["workload", "list", "--json"], &entries(size.workloads))?,
            1000.0,
            floor.workload_list,
        ),
    ])
}
