//! Ten thousand functions on one node.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::ensure;
use nex_protocol::Namespace;
use nex_testkit::NexUp;
use tokio::task::JoinSet;

use crate::{
    Options, control,
    functions::{
        deploy::Deployer,
        load::block_on,
        process::{connections, nexlet, resident},
        row::{Row, Target, Unit},
        show,
    },
};

/// Namespaces; each has as many functions.
const NAMESPACES: usize = 10;
/// Starts, and later calls, that are under way at a time.
const IN_FLIGHT: usize = 32;
/// How long after the last call memory is looked at again.
const LATER: Duration = Duration::from_secs(60);

/// Deploys, calls and counts on a `nex up` of its own.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    let functions = if options.quick { 1000 } else { 10_000 };
    let before = control::machine();
    let up = NexUp::builder().try_start()?;
    let rows = block_on(measure(&up, functions))?;
    up.stop()?;
    let machine = format!(
        "{before} at the beginning; {} at the end",
        control::machine()
    );
    show(&rows, &machine, options)
}

async fn measure(up: &NexUp, functions: usize) -> anyhow::Result<Vec<Row>> {
    let js = nexlet(up, "js")?;
    let (empty, own_connections) = (resident(js)?, connections(js)?);
    let deployer = Deployer::connect(up).await?;
    let uri = deployer.file("count.js", COUNT_JS.as_bytes())?;
    let mut rows = vec![Row::single(
        "js nexlet without functions: resident",
        Unit::Mebibytes,
        empty,
        None,
    )];

    let started = Instant::now();
    each(functions, |number| {
        let deployer = deployer.in_namespace(namespace(number));
        let uri = uri.clone();
        async move { deployer.start("js", &uri, &subject(number)).await }
    })
    .await?;
    let took = started.elapsed();
    rows.push(Row::single(
        &format!("{functions} JS functions deployed by nex-client, {IN_FLIGHT} in flight"),
        Unit::Seconds,
        took.as_secs_f64(),
        Some(Target::AtMost(60.0)),
    ));
    rows.push(memory("  resident before any call", js)?);
    rows.push(Row::single(
        &format!("  NATS connections for {NAMESPACES} namespaces"),
        Unit::Count,
        (connections(js)? - own_connections) as f64,
        Some(Target::AtMost(NAMESPACES as f64)),
    ));

    let started = Instant::now();
    call_all(&deployer, functions).await?;
    rows.push(Row::single(
        &format!("  each called once and answered, {IN_FLIGHT} in flight"),
        Unit::Seconds,
        started.elapsed().as_secs_f64(),
        None,
    ));
    rows.push(Row {
        target: None,
        ..memory("  resident right after that", js)?
    });
    tokio::time::sleep(LATER).await;
    rows.push(memory("  resident a minute later", js)?);
    let started = Instant::now();
    call_all(&deployer, functions).await?;
    rows.push(Row::single(
        "  each called again and answered",
        Unit::Seconds,
        started.elapsed().as_secs_f64(),
        None,
    ));

    let started = Instant::now();
    let everything = deployer.in_namespace(Namespace::system());
    let list = everything.client.list(&[]).await?;
    ensure!(
        list.missing.is_empty() && list.failed.is_empty(),
        "the list has gaps: {:?}, {:?}",
        list.missing,
        list.failed
    );
    let took = started.elapsed();
    let ids: HashSet<_> = list.workloads.iter().map(|(_, each)| &each.id).collect();
    rows.push(Row::single(
        "  listed",
        Unit::Count,
        ids.len() as f64,
        Some(Target::AtLeast(functions as f64)),
    ));
    rows.push(Row::single(
        "  the list by nex-client",
        Unit::Seconds,
        took.as_secs_f64(),
        None,
    ));
    Ok(rows)
}

/// Small, but no constant: it has a state of its own, which is gone when it was evicted.
const COUNT_JS: &str = "let calls = 0; (subject, payload) => `${subject} ${++calls}`";

fn memory(what: &str, pid: u32) -> anyhow::Result<Row> {
    let target = Some(Target::AtMost(400.0 * 1e6 / 1_048_576.0));
    Ok(Row::single(what, Unit::Mebibytes, resident(pid)?, target))
}

async fn call_all(deployer: &Deployer, functions: usize) -> anyhow::Result<()> {
    each(functions, |number| {
        let nats = deployer.client.nats().clone();
        async move {
            let subject = subject(number);
            let reply = nats.request(subject.clone(), "".into()).await?;
            let text = std::str::from_utf8(&reply.payload)?;
            ensure!(
                text.starts_with(&subject) && nex_nats::read_error(&reply).is_none(),
                "`{subject}` answered `{text}`"
            );
            Ok(())
        }
    })
    .await
}

/// Does something for each number, so many at a time.
async fn each<F>(count: usize, work: impl Fn(usize) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    for number in 0..count {
        if under_way.len() >= IN_FLIGHT
            && let Some(done) = under_way.join_next().await
        {
            done??;
        }
        under_way.spawn(work(number));
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(())
}

fn namespace(number: usize) -> Namespace {
    let name = format!("tenant-{}", number % NAMESPACES);
    Namespace::new(name).expect("letters, digits and `-` are a namespace")
}

fn subject(number: usize) -> String {
    format!("dense.{number}")
}
