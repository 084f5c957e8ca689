//! A function beside others that never end.

use std::{
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use async_nats::Client;
use futures_util::future::try_join_all;
use nex_protocol::ErrorCode;

use super::{
    Size,
    deploy::Deployer,
    load::{echo, one_by_one},
    row::{Row, Target, Unit},
};
use crate::control::percentile;

const RUNAWAY_JS: &str = "() => { for (;;) { try { for (;;) {} } catch {} } }";

/// How long the neighbour is called while they run. They end after five seconds.
const LONG: Duration = Duration::from_secs(3);

/// Its 99th percentile alone and beside them, and how soon it answers after they have begun.
pub(super) async fn measure(
    client: &Client,
    deployer: &Deployer,
    size: Size,
) -> anyhow::Result<[Row; 2]> {
    // One more than the engine threads, of which there is one more than processors.
    let runaways = thread::available_parallelism().map_or(1, NonZero::get) + 2;
    let uri = deployer.file("runaway.js", RUNAWAY_JS.as_bytes())?;
    for number in 0..runaways {
        let subject = subject(number);
        deployer.start("js", &uri, &subject).await?;
    }
    let row = |what: String, unit, target| Row {
        what,
        unit,
        measured: Vec::new(),
        floor: Vec::new(),
        target,
    };
    let mut p99 = row(
        format!("JS echo beside {runaways} runaways: 99th percentile"),
        Unit::Millis,
        Some(Target::TimesFloor(5.0)),
    );
    let mut reaction = row(
        "  its first answer after they began".to_owned(),
        Unit::Millis,
        None,
    );
    for _ in 0..size.alternations {
        let quiet = one_by_one(client, "bench.js", LONG).await?;
        p99.floor.push(millis(percentile(&quiet, 99)));
        let started = Instant::now();
        let running = (0..runaways).map(|number| run_away(client, number));
        let beside = async {
            // They are on their way before it.
            client.flush().await?;
            echo(client, "bench.js").await?;
            reaction.measured.push(millis(started.elapsed()));
            one_by_one(client, "bench.js", LONG).await
        };
        let (ended, beside) = futures_util::join!(try_join_all(running), beside);
        ended?;
        p99.measured.push(millis(percentile(&beside?, 99)));
    }
    Ok([p99, reaction])
}

/// Calls a runaway; it has to be ended at its deadline.
async fn run_away(client: &Client, number: usize) -> anyhow::Result<()> {
    let reply = client.request(subject(number), "".into()).await?;
    let error = nex_nats::read_error(&reply);
    let timed_out = matches!(&error, Some((ErrorCode::Timeout, _)));
    ensure!(timed_out, "a runaway ended with {error:?}");
    Ok(())
}

fn subject(number: usize) -> String {
    format!("bench.runaway.{number}")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
