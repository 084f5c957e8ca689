//! The control plane: many nodes on one nats-server, and one node with many workloads.
//!
//! ```text
//!   this process ── nex-client, and the real CLI ──┐
//!                                                  ├── one nats-server, a connection each
//!   a child: the fleet, or the bare responders ────┘
//! ```
//!
//! The floor are responders on bare async-nats that answer fixed bytes to the same questions, asked
//! by a client that only counts the answers: what NATS and the machine leave to be had.

mod bare;
pub(crate) mod child;
mod crowd;
mod figure;
mod fleet;
mod load;
mod noop;

use crate::table::print;
use child::Child;
use figure::{Figure, Scale};
use nex_testkit::NatsServer;

pub(crate) use child::{SERVE, serve};
pub(crate) use figure::{median, percentile};

/// How much of it.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Nodes, each with a connection of its own.
    nodes: usize,
    /// Workloads, over all nodes, and then on one.
    workloads: usize,
    /// Auctions of which the 50th and the 99th percentile are told.
    auctions: usize,
    /// Starts one at a time.
    single_starts: usize,
    /// Starts with [`IN_FLIGHT`] at a time.
    parallel_starts: usize,
    /// Runs of each command; the median counts.
    runs: usize,
    /// Whether these are the numbers for which something is promised.
    promised: bool,
}

const FULL: Size = Size {
    nodes: 200,
    workloads: 10_000,
    auctions: 500,
    single_starts: 300,
    parallel_starts: 3000,
    runs: 7,
    promised: true,
};

const QUICK: Size = Size {
    nodes: 200,
    workloads: 2000,
    auctions: 100,
    single_starts: 50,
    parallel_starts: 300,
    runs: 3,
    promised: false,
};

/// How many starts are under way at a time, where it is not one.
const IN_FLIGHT: usize = 32;

/// Measures on servers of its own; `quick` with smaller numbers, of which nothing is promised.
pub(crate) fn run(quick: bool) -> anyhow::Result<()> {
    let size = if quick { QUICK } else { FULL };
    print(&format!(
        "{} nodes with a connection each, in one process; each has a journal on disk and a no-op nexlet of\n\
         the SDK, which has a thread and a connection of its own. {} workloads. {}\n",
        size.nodes,
        size.workloads,
        machine(),
    ));
    let mut figures = many_nodes(size)?;
    figures.extend(one_node(size)?);
    print(&figure::render(&figures, size.promised));
    print(&format!("at the end: {}", machine()));
    let broken = figures.iter().filter(|figure| !figure.is_kept()).count();
    if size.promised && broken > 0 {
        anyhow::bail!("{broken} of the promised figures not kept");
    }
    Ok(())
}

/// What else keeps the machine busy decides about every figure.
pub(crate) fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let minute = load.split(' ').next().filter(|text| !text.is_empty());
    format!("{cpus} CPUs, load {}", minute.unwrap_or("unknown"))
}

fn many_nodes(size: Size) -> anyhow::Result<Vec<Figure>> {
    let per_node = size.workloads / size.nodes;
    let floor = {
        let server = NatsServer::builder().try_start()?;
        let shape = bare::Shape {
            responders: size.nodes,
            workloads: per_node,
        };
        let _bare = Child::start("bare", &shape.args(server.url()))?;
        bare::measure(server.url(), size, shape)?
    };
    let server = NatsServer::builder().try_start()?;
    let state = tempfile::tempdir()?;
    let fleet = Child::start(
        "fleet",
        &fleet::args(server.url(), size.nodes, state.path()),
    )?;
    fleet::measure(server.url(), &fleet, size, &floor)
}

fn one_node(size: Size) -> anyhow::Result<Vec<Figure>> {
    let floor = {
        let server = NatsServer::builder().try_start()?;
        let shape = bare::Shape {
            responders: 1,
            workloads: size.workloads,
        };
        let _bare = Child::start("bare", &shape.args(server.url()))?;
        bare::measure_one(server.url(), size, shape)?
    };
    let server = NatsServer::builder().try_start()?;
    crowd::measure(server.url(), size, &floor)
}

/// A target of which more is better.
fn at_least(per_second: f64) -> Option<Scale> {
    Some(Scale::PerSecond(per_second))
}

/// A target of which less is better.
fn below_ms(milliseconds: f64) -> Option<Scale> {
    Some(Scale::Milliseconds(milliseconds))
}
