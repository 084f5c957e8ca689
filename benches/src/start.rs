//! How long the commands take that a person waits for: wall time from the start of the process to its end.

use crate::table::{Row, print, render};
use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use nex_testkit::{Home, NexUp, Output, wait_until};
use std::{env, process::Command, sync::mpsc, thread, time::Duration};

/// Runs of each measurement that count; one more before them warms caches.
const RUNS: usize = 7;

/// The hidden argument with which this program is the floor: connect, ask once, exit.
pub(crate) const BARE_CLIENT: &str = "bare-client";

/// The subject on which the floor's requests are answered.
const ECHO_SUBJECT: &str = "bench.echo";

/// How long connecting and asking may take before the measurement is given up.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// How long the echo may take to be subscribed.
const ECHO_LIMIT: Duration = Duration::from_secs(10);

/// Measures against a `nex up` of its own.
pub(crate) fn run() -> anyhow::Result<()> {
    let up = NexUp::builder().try_start()?;
    serve_echo(up.url())?;
    let rows = measure(&up)?;
    print(&render(&rows, FLOOR));
    up.stop()?;
    let broken = rows.iter().filter(|row| !row.is_kept()).count();
    ensure!(broken == 0, "{broken} of the promised times not kept");
    Ok(())
}

/// The row to which the others are compared: what any NATS client needs on this machine.
const FLOOR: usize = 1;

fn measure(up: &NexUp) -> anyhow::Result<Vec<Row>> {
    let home = up.home();
    let bare = || {
        let mut command = home.command(env::current_exe()?);
        command.args([BARE_CLIENT, up.url()]);
        anyhow::Ok(command)
    };
    wait_until("the floor's echo", ECHO_LIMIT, || {
        bare()
            .and_then(|mut command| succeeded(home.run(&mut command)?))
            .map_err(|e| format!("{e:#}"))
    })?;
    let nex = |args: &[&str]| home.nex_command(args);
    let start = |number: usize, kind: &str| {
        let name = format!("bench-{number}");
        let request = r#"{"uri":"file:///bin/sleep","argv":["1000"]}"#;
        nex(&[
            "workload",
            "start",
            "--type",
            kind,
            "--name",
            &name,
            "--start-request",
            request,
        ])
    };
    Ok(vec![
        row(home, "/bin/true", None, succeeded, |_| {
            Ok(home.command("/bin/true"))
        })?,
        row(
            home,
            "bare client: connect, request, exit",
            None,
            succeeded,
            |_| bare(),
        )?,
        row(home, "nex --version", Some(20), succeeded, |_| {
            nex(&["--version"])
        })?,
        row(
            home,
            "nex workload start, a local service",
            Some(150),
            succeeded,
            |number| start(number, "native"),
        )?,
        row(home, "nex workload list", Some(100), succeeded, |_| {
            nex(&["workload", "list"])
        })?,
        row(
            home,
            "nex workload start, a type that nobody runs",
            Some(600),
            refused,
            |number| start(number, "nobody-runs-this"),
        )?,
    ])
}

fn row(
    home: &Home,
    what: &'static str,
    limit_ms: Option<u64>,
    check: impl Fn(Output) -> anyhow::Result<Duration>,
    command: impl Fn(usize) -> anyhow::Result<Command>,
) -> anyhow::Result<Row> {
    let timed = |number| check(home.run(&mut command(number)?)?).context(what);
    timed(0)?;
    let runs = (1..=RUNS).map(timed).collect::<anyhow::Result<_>>()?;
    Ok(Row {
        what,
        runs,
        limit: limit_ms.map(Duration::from_millis),
    })
}

fn succeeded(output: Output) -> anyhow::Result<Duration> {
    ensure!(output.code == 0, "{output}");
    Ok(output.took)
}

fn refused(output: Output) -> anyhow::Result<Duration> {
    ensure!(output.code > 0, "not refused: {output}");
    Ok(output.took)
}

/// Answers the floor's requests, on a thread of its own, until this process ends.
fn serve_echo(url: &str) -> anyhow::Result<()> {
    let url = url.to_owned();
    let (connected_tx, connected_rx) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let served = block_on(async {
            let client = async_nats::connect(&url).await?;
            let mut requests = client.subscribe(ECHO_SUBJECT).await?;
            connected_tx.send(Ok(())).ok();
            while let Some(request) = requests.next().await {
                if let Some(reply) = request.reply {
                    client.publish(reply, request.payload).await?;
                }
            }
            anyhow::Ok(())
        });
        // Heard only before the first message; afterwards the bare client says it by failing.
        connected_tx.send(served).ok();
    });
    connected_rx
        .recv_timeout(ECHO_LIMIT)
        .context("the floor's echo does not connect")?
}

/// What the commands are compared to.
pub(crate) fn bare_client(url: &str) -> anyhow::Result<()> {
    block_on(async {
        let asked = async {
            let client = async_nats::connect(url).await?;
            anyhow::Ok(client.request(ECHO_SUBJECT, "hello".into()).await?)
        };
        let reply = tokio::time::timeout(ASK_LIMIT, asked).await??;
        ensure!(reply.payload == "hello", "the echo is wrong");
        Ok(())
    })
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
