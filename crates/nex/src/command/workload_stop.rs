//! `nex workload stop`.

use nex_client::ClientError;
use nex_protocol::{
    Namespace, WorkloadId, WorkloadSummary,
    workload::{NO_NEXLET, STILL_STOPPING},
};

use super::fault;
use crate::{
    cli::StopArgs,
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit, Kind},
    print::table::printable,
};

/// Stops one workload and says so when it is dead.
pub(crate) async fn run(args: StopArgs, context: &Context) -> CommandResult {
    let namespace = context.look_namespace()?;
    let client = connect::client(context, namespace.clone()).await?;
    let found = client.find(&args.workload).await.map_err(fault::find)?;
    // Asked for in its own namespace, so that the rights of that namespace suffice.
    let client = client.in_namespace(owner(&found, namespace));
    let wait = Some(args.wait.0);
    let stopped = match args.purge {
        true => client.purge(&found.id, wait).await,
        false => client.stop(&found.id, wait).await,
    };
    let response = stopped.map_err(|error| match error {
        ClientError::NodeAbsent { .. } => unknown(&found.id, error.to_string()),
        other => fault::client(other),
    })?;
    if !response.stopped {
        return Err(not_stopped(&found.id, &response.message));
    }
    if context.printer.is_json() {
        context.printer.json(&response)?;
    }
    fault::finished_stop(&found.id, &response)?;
    if !context.printer.is_json() {
        let line = format!("Workload {} successfully stopped", found.id);
        context.printer.line(line)?;
    }
    Ok(Exit::OK)
}

/// Explains a stop whose outcome nobody knows.
fn unknown(id: &WorkloadId, cause: String) -> CommandError {
    let message = format!("it is not known whether workload `{id}` is stopped");
    CommandError::new(Kind::Incomplete, message)
        .cause(cause)
        .hint("`nex workload list` shows whether it runs, `nex node info NODE` the nexlets of its node")
}

/// Explains a stop that is not confirmed.
fn not_stopped(id: &WorkloadId, message: &str) -> CommandError {
    if message.starts_with(NO_NEXLET) {
        return unknown(id, printable(message));
    }
    let told = CommandError::failed(format!("failed to stop workload `{id}`"));
    let told = told.cause(printable(message));
    match message.starts_with(STILL_STOPPING) {
        true => told.hint("`--wait DURATION` waits longer; `nex workload info` shows its state"),
        false => told.hint("`nex workload info` shows its state"),
    }
}

/// The tenant of a workload; older peers do not tell it, then the one that was asked.
pub(super) fn owner(workload: &WorkloadSummary, asked: Namespace) -> Namespace {
    workload.namespace.clone().unwrap_or(asked)
}
