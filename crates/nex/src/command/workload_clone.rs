//! `nex workload clone`.

use nex_protocol::WorkloadId;

use super::{
    fault,
    handover::{Handover, Unready, stop},
    placement::told,
    workload_start::started,
    workload_stop::owner,
};
use crate::{
    cli::{CloneArgs, value},
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit},
};

/// Starts another one like a workload, and waits until it is ready; the original may end then.
pub(crate) async fn run(args: CloneArgs, context: &Context) -> CommandResult {
    let namespace = context.look_namespace()?;
    let client = connect::client(context, namespace.clone()).await?;
    let original = client.find(&args.workload).await.map_err(fault::find)?;
    // Asked for in its own namespace, so that the rights of that namespace suffice.
    let client = client.in_namespace(owner(&original, namespace));
    let tags = value::tags(&args.tags);
    let (options, explain) = (args.placement.options(), args.placement.explain);
    let lifecycle = original.workload_lifecycle.parse();
    let lifecycle = lifecycle.map_err(|error| {
        CommandError::failed(format!("failed to clone `{}`", original.id)).because(&error)
    })?;
    let handover = match args.stop {
        true => Handover::look(&client, lifecycle, &original.start_time).await?,
        false => Handover::fresh(&client, lifecycle).await,
    };
    let placed = client.place_clone(&original.id, tags, &options).await;
    let (placed, explanation) = told(placed, explain, context, fault::start)?;
    let unready = Unready::Keep(&context.printer);
    handover.ready(&client, &placed, unready).await?;
    started(&placed, explanation, context)?;
    if !args.stop {
        return Ok(Exit::OK);
    }
    let stopped = stop(&client, &original.id).await;
    stopped.map_err(|error| error.explain(not_stopped(&original.id)))??;
    if !context.printer.is_json() {
        let line = format!("Original workload [{}] stopped", original.id);
        context.printer.line(line)?;
    }
    Ok(Exit::OK)
}

fn not_stopped(id: &WorkloadId) -> CommandError {
    CommandError::failed(format!("failed to stop original workload [{id}]"))
        .hint(format!("stop it: `nex workload stop {id}`"))
}
