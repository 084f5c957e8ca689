//! `nex devrun --follow`: what the workload writes, from its first line to its end.

use std::{pin::pin, time::Duration};

use nex_client::{Client, LogLine, LogQuery, Logs, Placed};
use nex_protocol::{Lifecycle, workload::StopWorkloadResponse};

use crate::{
    command::{
        fault,
        job::{Ends, Outcome},
        logs, outage,
    },
    context::Context,
    error::{CommandError, CommandResult, Exit},
};

/// How far back lines are read, so that a clock that is ahead of the server's misses none: what is
/// not of the workload, whose id is new, is left out anyway.
const CLOCKS: Duration = Duration::from_secs(60);

/// How long the workload may take to end after Ctrl-C.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// The streams of a workload that does not run yet.
pub(super) struct Follow {
    lines: Logs,
    ends: Ends,
    interrupt: Interrupt,
}

impl Follow {
    /// Listens to the namespace: the id is not known before the start, and the first line must
    /// not be missed. From now on Ctrl-C no longer ends us: a workload that starts just then would
    /// be left behind.
    pub(super) async fn begin(client: &Client) -> Result<Self, CommandError> {
        let query = LogQuery {
            since: logs::since(Some(CLOCKS))?,
            follow: true,
            ..LogQuery::default()
        };
        Ok(Self {
            lines: client.logs(&query).await.map_err(fault::feed)?,
            ends: Ends::watch(client).await?,
            interrupt: Interrupt::listen().map_err(|error| {
                CommandError::failed("failed to listen for Ctrl-C").because(&error)
            })?,
        })
    }

    /// Prints until the workload ends, or stops it when the person has seen enough.
    pub(super) async fn run(
        self,
        client: &Client,
        placed: &Placed,
        lifecycle: Lifecycle,
        context: &Context,
    ) -> CommandResult {
        let missed = logs::missed(self.lines.source());
        let printing = self.print(client, placed, lifecycle, context);
        outage::reported(client, &context.printer, missed, printing).await
    }

    async fn print(
        self,
        client: &Client,
        placed: &Placed,
        lifecycle: Lifecycle,
        context: &Context,
    ) -> CommandResult {
        let mut lines = self.lines;
        let mut interrupt = self.interrupt;
        let mut end = pin!(self.ends.wait_for(&placed.id));
        loop {
            tokio::select! {
                // The person and the end come before the next line: neither may wait for a workload
                // that writes without pause. What is left to read then is read after the end.
                biased;
                () = interrupt.came() => {
                    let response = stop(client, placed, context).await?;
                    last_lines(&mut lines, placed, context).await?;
                    fault::finished_stop(&placed.id, &response)?;
                    return Ok(Exit::OK);
                }
                outcome = &mut end => {
                    let outcome = outcome?;
                    last_lines(&mut lines, placed, context).await?;
                    return told(outcome, placed, lifecycle, context);
                }
                line = lines.next() => match line.map_err(fault::feed)? {
                    Some(line) => print(&line, placed, context)?,
                    None => return Err(fault::connection_lost()),
                },
            }
        }
    }
}

fn print(line: &LogLine, placed: &Placed, context: &Context) -> Result<(), CommandError> {
    if line.id != placed.id {
        return Ok(());
    }
    logs::print(line, &placed.name, &context.printer)
}

/// Prints the lines that were written before the end and are not read yet.
async fn last_lines(
    lines: &mut Logs,
    placed: &Placed,
    context: &Context,
) -> Result<(), CommandError> {
    lines.finish().await;
    loop {
        match lines.next().await {
            Ok(Some(line)) => print(&line, placed, context)?,
            Ok(None) => return Ok(()),
            // How the workload ended matters more.
            Err(error) => {
                let text = fault::feed(error).message().to_owned();
                let id = &placed.id;
                context.printer.note(format!(
                    "the last lines may be missing: {text}; `nex logs {id}` shows all"
                ));
                return Ok(());
            }
        }
    }
}

fn told(
    outcome: Outcome,
    placed: &Placed,
    lifecycle: Lifecycle,
    context: &Context,
) -> CommandResult {
    if lifecycle == Lifecycle::Job {
        return outcome.tell(context);
    }
    context.printer.note(format!(
        "workload {} [{}] was stopped",
        placed.name, placed.id
    ));
    match outcome {
        Outcome::Failed(_) => outcome.tell(context),
        Outcome::Code(_) | Outcome::Signal(..) => Ok(Exit::OK),
    }
}

async fn stop(
    client: &Client,
    placed: &Placed,
    context: &Context,
) -> Result<StopWorkloadResponse, CommandError> {
    context
        .printer
        .note(format!("stopping workload {} [{}]", placed.name, placed.id));
    let response = client
        .stop(&placed.id, Some(STOP_WAIT))
        .await
        .map_err(fault::client)?;
    if !response.stopped {
        return Err(
            CommandError::failed(format!("failed to stop workload `{}`", placed.id))
                .cause(response.message)
                .hint(format!("try again: `nex workload stop {}`", placed.id)),
        );
    }
    Ok(response)
}

/// Ctrl-C, or the wish of who started us that we end.
struct Interrupt {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
    #[cfg(windows)]
    signal: tokio::signal::windows::CtrlC,
}

#[cfg(unix)]
impl Interrupt {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            signals: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            ],
        })
    }

    /// Resolves when it has come since [`listen`](Self::listen). Cancel safe.
    async fn came(&mut self) {
        let [interrupt, terminate] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(windows)]
impl Interrupt {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            signal: tokio::signal::windows::ctrl_c()?,
        })
    }

    /// Resolves when it has come since [`listen`](Self::listen). Cancel safe.
    async fn came(&mut self) {
        self.signal.recv().await;
    }
}
