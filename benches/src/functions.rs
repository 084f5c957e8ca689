//! Functions: what calling them costs beside a responder on bare async-nats.
//!
//! ```text
//!   this process, one thread ──┐
//!   the floor, a child ────────┼── the nats-server of a `nex up`
//!   its nexlets js and wasm ───┘
//! ```
//!
//! The floor and what is measured take turns, so that what else the machine does meets both.
//!
//! The floor of WebAssembly's processor time is the sum of its two parts, each measured by itself: the
//! bare responder, and wasmtime in a loop that has a processor and its caches to itself. What a responder
//! needs that has wasmtime make the reply is printed beside it.

mod alone;
pub(crate) mod deploy;
pub(crate) mod floor;
pub(crate) mod load;
mod neighbour;
pub(crate) mod process;
pub(crate) mod row;
mod stream;

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::bail;
use async_nats::{Client, jetstream};
use nex_nats::ConnectOptions;
use nex_testkit::NexUp;

use self::{
    deploy::Deployer,
    load::{echo, flood, one_by_one},
    row::{Row, Target, Unit},
};
use crate::{
    Options,
    control::{self, child::Child},
    table::print,
};

/// How much of it.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Turns of floor and function.
    alternations: usize,
    /// How long each calls.
    long: Duration,
    /// Calls of wasmtime alone.
    alone: u32,
    /// Functions that are called for the first time.
    cold: usize,
    /// Gets of a key in a row.
    gets: usize,
    /// Messages on a stream.
    messages: u64,
}

const FULL: Size = Size {
    alternations: 7,
    long: Duration::from_secs(3),
    alone: 50_000,
    cold: 50,
    gets: 3000,
    messages: 50_000,
};

const QUICK: Size = Size {
    alternations: 5,
    long: Duration::from_secs(1),
    alone: 20_000,
    cold: 20,
    gets: 1000,
    messages: 20_000,
};

/// Calls in flight, where it is not one.
const IN_FLIGHT: usize = 256;

const ECHO_JS: &str = "(subject, payload) => payload";
const ECHO_WAT: &str = include_str!("../../examples/functions/echo.wat");
/// Gets a key as often as the payload says.
const GETS_JS: &str = "(subject, payload) => {
    const count = Number(String.fromCharCode(...payload));
    const bucket = this.kv('bench');
    for (let i = 0; i < count; i++) bucket.get('key');
}";

/// Measures on a `nex up` of its own.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let size = if options.quick { QUICK } else { FULL };
    let before = control::machine();
    let up = NexUp::builder().try_start()?;
    let floor = floor::start(up.url())?;
    let guest = up.home().path().join("floor.wasm");
    fs::write(&guest, wat::parse_str(ECHO_WAT)?)?;
    let with_guest = floor::start_guest(up.url(), &guest.display().to_string())?;
    let rows = load::block_on(measure(&up, &floor, &with_guest, size))?;
    floor.stop()?;
    with_guest.stop()?;
    up.stop()?;
    let machine = format!(
        "{before} at the beginning; {} at the end",
        control::machine()
    );
    show(&rows, &machine, options)
}

/// Prints rows; fails where what is promised is not kept.
pub(crate) fn show(rows: &[Row], machine: &str, options: Options) -> anyhow::Result<()> {
    if options.json {
        print(&serde_json::to_string_pretty(&row::to_json(rows, machine))?);
    } else {
        print(&row::render(rows));
        print(machine);
    }
    let broken = rows.iter().filter(|row| !row.is_kept()).count();
    if broken > 0 && !options.quick {
        bail!("{broken} of the promised figures not kept");
    }
    Ok(())
}

async fn measure(
    up: &NexUp,
    floor: &Child,
    with_guest: &Child,
    size: Size,
) -> anyhow::Result<Vec<Row>> {
    let client = async_nats::connect(up.url()).await?;
    let deployer = Deployer::connect(up).await?;
    let echo_js = deployer.file("echo.js", ECHO_JS.as_bytes())?;
    let wasm = wat::parse_str(ECHO_WAT)?;
    let echo_wasm = deployer.file("echo.wasm", &wasm)?;
    deployer.start("js", &echo_js, "bench.js").await?;
    deployer.start("wasm", &echo_wasm, "bench.wasm").await?;

    let mut rows = vec![rate(&client, size).await?];
    rows.push(latency(&client, size).await?);
    let pids = Pids {
        nexlet: process::nexlet(up, "wasm")?,
        floor: floor.id(),
        with_guest: with_guest.id(),
    };
    rows.extend(wasm_cpu(&client, size, pids, &wasm).await?);
    rows.push(gets(up, &deployer, size).await?);
    rows.push(stream::measure(&client, &deployer, size).await?);
    let js = cold(&client, &deployer, "js", &echo_js, size);
    rows.push(first_call("cold JS function: first call", js.await?, 5.0));
    let wasm = cold(&client, &deployer, "wasm", &echo_wasm, size);
    rows.push(first_call(
        "WASM, compiled before: first call",
        wasm.await?,
        3.0,
    ));
    rows.extend(neighbour::measure(&client, &deployer, size).await?);
    Ok(rows)
}

async fn rate(client: &Client, size: Size) -> anyhow::Result<Row> {
    let mut row = Row {
        what: format!("JS echo, {IN_FLIGHT} in flight"),
        unit: Unit::PerSecond,
        measured: Vec::new(),
        floor: Vec::new(),
        target: Some(Target::ShareOfFloor(0.75)),
    };
    for _ in 0..size.alternations {
        for (subject, to) in [
            (floor::SUBJECT, &mut row.floor),
            ("bench.js", &mut row.measured),
        ] {
            let flooded = flood(client, subject, IN_FLIGHT, size.long, || Ok(()));
            to.push(flooded.await?.0.per_second());
        }
    }
    Ok(row)
}

async fn latency(client: &Client, size: Size) -> anyhow::Result<Row> {
    let mut row = Row {
        what: "JS echo, 1 in flight: median".to_owned(),
        unit: Unit::Micros,
        measured: Vec::new(),
        floor: Vec::new(),
        target: Some(Target::TimesFloor(1.5)),
    };
    for _ in 0..size.alternations {
        for (subject, to) in [
            (floor::SUBJECT, &mut row.floor),
            ("bench.js", &mut row.measured),
        ] {
            let times = one_by_one(client, subject, size.long).await?;
            to.push(micros(control::median(&times)));
        }
    }
    Ok(row)
}

/// The processes whose processor time is measured.
#[derive(Clone, Copy, Debug)]
struct Pids {
    nexlet: u32,
    floor: u32,
    with_guest: u32,
}

/// The processor time of a call in the nexlet, beside that of a bare responder and of wasmtime.
async fn wasm_cpu(
    client: &Client,
    size: Size,
    pids: Pids,
    wasm: &[u8],
) -> anyhow::Result<[Row; 5]> {
    let row = |what: &str| Row {
        what: what.to_owned(),
        unit: Unit::Micros,
        measured: Vec::new(),
        floor: Vec::new(),
        target: None,
    };
    let mut own = row("WASM echo, 256 in flight: CPU of a call in the nexlet");
    own.target = Some(Target::TimesFloor(1.4));
    let mut bare = row("  the floor's: a bare responder without a guest");
    let mut alone = row("  the floor's: wasmtime alone, in a loop");
    let mut beside_both = row("  the same beside a responder that calls wasmtime");
    let mut rate = row("WASM echo, 256 in flight, beside that responder");
    rate.unit = Unit::PerSecond;
    for _ in 0..size.alternations {
        let (_, bare_each) = cpu_each(client, size, floor::SUBJECT, pids.floor).await?;
        let wasmtime = micros(alone::measure(wasm, size.alone)?);
        let guest = cpu_each(client, size, floor::GUEST_SUBJECT, pids.with_guest).await?;
        let nexlet = cpu_each(client, size, "bench.wasm", pids.nexlet).await?;
        own.measured.push(nexlet.1);
        own.floor.push(bare_each + wasmtime);
        beside_both.measured.push(nexlet.1);
        beside_both.floor.push(guest.1);
        bare.measured.push(bare_each);
        alone.measured.push(wasmtime);
        rate.measured.push(nexlet.0);
        rate.floor.push(guest.0);
    }
    Ok([own, bare, alone, beside_both, rate])
}

/// How many calls a second a subject answers, and the processor time of each in its process, in
/// microseconds.
async fn cpu_each(
    client: &Client,
    size: Size,
    subject: &str,
    pid: u32,
) -> anyhow::Result<(f64, f64)> {
    let look = || process::cpu(pid);
    let (run, before, after) = flood(client, subject, IN_FLIGHT, size.long, look).await?;
    Ok((run.per_second(), micros(after - before) / run.calls))
}

/// A get of a key, one after the other, from JavaScript and by async-nats.
async fn gets(up: &NexUp, deployer: &Deployer, size: Size) -> anyhow::Result<Row> {
    let uri = deployer.file("gets.js", GETS_JS.as_bytes())?;
    deployer.start("js", &uri, "bench.gets").await?;
    let client = nex_nats::connect(&ConnectOptions::new([up.url()], "bench gets")).await?;
    let bucket = jetstream::kv::Config {
        bucket: "bench".to_owned(),
        ..jetstream::kv::Config::default()
    };
    let store = jetstream::new(client.client().clone());
    let store = store.create_key_value(bucket).await?;
    store.put("key", "sixteen bytes ok".into()).await?;
    let mut row = Row {
        what: "KV get from JS, synchronous".to_owned(),
        unit: Unit::Micros,
        measured: Vec::new(),
        floor: Vec::new(),
        target: Some(Target::TimesFloor(1.7)),
    };
    for warm in [true].into_iter().chain(vec![false; size.alternations]) {
        let started = Instant::now();
        for _ in 0..size.gets {
            anyhow::ensure!(store.get("key").await?.is_some(), "the key is gone");
        }
        let bare = started.elapsed();
        let started = Instant::now();
        let count = size.gets.to_string();
        let reply = client.request("bench.gets", count.into()).await?;
        let js = started.elapsed();
        if let Some((_, text)) = nex_nats::read_error(&reply) {
            bail!("gets from JS failed: {text}");
        }
        if !warm {
            row.floor.push(micros(bare) / size.gets as f64);
            row.measured.push(micros(js) / size.gets as f64);
        }
    }
    Ok(row)
}

/// The times of the first calls of new functions, as their caller sees them.
async fn cold(
    client: &Client,
    deployer: &Deployer,
    workload_type: &str,
    uri: &str,
    size: Size,
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for number in 0..size.cold {
        let subject = format!("bench.cold.{workload_type}.{number}");
        deployer.start(workload_type, uri, &subject).await?;
        let started = Instant::now();
        echo(client, &subject).await?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(times)
}

fn first_call(what: &str, times: Vec<f64>, limit_ms: f64) -> Row {
    Row {
        what: what.to_owned(),
        unit: Unit::Millis,
        measured: times,
        floor: Vec::new(),
        target: Some(Target::AtMost(limit_ms)),
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
