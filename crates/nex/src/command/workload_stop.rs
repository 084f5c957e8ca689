//! `nex workload stop`.

use nex_protocol::{Namespace, WorkloadSummary};

use super::fault;
use crate::{
    cli::StopArgs,
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit},
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
    let response = stopped.map_err(fault::client)?;
    if !response.stopped {
        return Err(
            CommandError::failed(format!("failed to stop workload `{}`", found.id))
                .cause(response.message)
                .hint("`--wait DURATION` waits longer; `nex workload info` shows its state"),
        );
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

/// The tenant of a workload; older peers do not tell it, then the one that was asked.
pub(super) fn owner(workload: &WorkloadSummary, asked: Namespace) -> Namespace {
    workload.namespace.clone().unwrap_or(asked)
}
