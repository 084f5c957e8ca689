//! `nex node lameduck`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Unit};
use nex_client::Client;
use nex_protocol::{NodeId, Tags};

use super::{fault, node_info};
use crate::{
    cli::{LameduckArgs, value},
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit},
};

/// Tells a node to take no more work, and to end after the delay.
pub(crate) async fn run(args: LameduckArgs, context: &Context) -> CommandResult {
    let delay = args.delay.0;
    let ends = end(Timestamp::now(), delay)
        .ok_or_else(|| CommandError::usage("the delay is longer than any clock can tell"))?;
    let client = connect::client(context, context.look_namespace()?).await?;
    let node = node_info::find(&client, &args.node).await?;
    let tags = value::tags(&args.tags);
    check_tags(&client, &node, &tags).await?;
    if args.cancel {
        return cancel(&client, &node, tags, context).await;
    }

    let told = client.lameduck(&node, delay, tags).await;
    let told = told.map_err(fault::client)?;
    if !told.success {
        return Err(CommandError::failed("Node failed to enter lame duck mode").cause(told.message));
    }
    if context.printer.is_json() {
        context.printer.json(&told)?;
    } else {
        context.printer.line(format!(
            "Node successfully commanded into lame duck mode. Workloads will begin shutting down at {ends}"
        ))?;
    }
    Ok(Exit::OK)
}

/// Tells a lame duck to take work again.
async fn cancel(client: &Client, node: &NodeId, tags: Tags, context: &Context) -> CommandResult {
    let told = client
        .cancel_lameduck(node, tags)
        .await
        .map_err(fault::client)?;
    if !told.success {
        return Err(CommandError::failed("Node failed to leave lame duck mode").cause(told.message));
    }
    if context.printer.is_json() {
        context.printer.json(&told)?;
    } else {
        context
            .printer
            .line("Node left lame duck mode. It takes workloads again")?;
    }
    Ok(Exit::OK)
}

/// When the delay is over, to the second.
fn end(now: Timestamp, delay: Duration) -> Option<Timestamp> {
    let delay = SignedDuration::try_from(delay).ok()?;
    now.checked_add(delay).ok()?.round(Unit::Second).ok()
}

/// Refuses a node that lacks a tag: it would answer with silence, as one that is stuck.
async fn check_tags(client: &Client, node: &NodeId, tags: &Tags) -> Result<(), CommandError> {
    if tags.is_empty() {
        return Ok(());
    }
    let info = client.node_info(node).await.map_err(fault::client)?;
    match tags
        .iter()
        .find(|(key, value)| info.tags.get(*key) != Some(value))
    {
        None => Ok(()),
        Some((key, value)) => Err(CommandError::failed("Node failed to enter lame duck mode")
            .cause(format!("`{node}` has no tag `{key}={value}`"))
            .hint("`nex node info NODE` shows its tags")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_to_the_second() {
        let now: Timestamp = "2026-01-02T03:04:05.2Z".parse().unwrap();

        let ends = end(now, Duration::from_secs(60)).unwrap();

        assert_eq!(ends.to_string(), "2026-01-02T03:05:05Z");
        assert_eq!(end(now, Duration::MAX), None);
    }
}
