//! `nex node list`.

use jiff::Timestamp;
use nex_protocol::control::{NodePingResponse, NodeState};

use super::fault;
use crate::{
    cli::{NodeListArgs, value},
    connect,
    context::Context,
    error::{CommandResult, Exit},
    print::{table::Table, time::uptime},
};

/// The tag with a node's name.
pub(super) const NAME_TAG: &str = "nex.node";
/// The tag with a node's nexus.
pub(super) const NEXUS_TAG: &str = "nex.nexus";

/// Lists nodes.
pub(crate) async fn run(args: NodeListArgs, context: &Context) -> CommandResult {
    let client = connect::client(context, context.look_namespace()?).await?;
    let filter = value::tags(&args.filter);
    let timeout = context.global.nats.timeout.map(|wanted| wanted.0);
    let answer = client
        .nodes(&filter, timeout)
        .await
        .map_err(fault::client)?;
    let mut nodes = answer.nodes;
    nodes.sort_by(|a, b| {
        let key = |node: &NodePingResponse| (tag(node, NEXUS_TAG), tag(node, NAME_TAG));
        key(a).cmp(&key(b))
    });

    if context.printer.is_json() {
        for node in &mut nodes {
            // Only some were asked for it, and it says nothing that the list does not.
            node.peers = None;
        }
        context.printer.json(&nodes)?;
    } else if nodes.is_empty() {
        context.printer.line("No nodes found")?;
    } else {
        context
            .printer
            .line(table(&nodes, Timestamp::now()).draw())?;
    }
    fault::complete(&answer.missing, &[])?;
    Ok(Exit::OK)
}

/// A tag of a node, or what Go Nex prints for one that is not there.
pub(super) fn tag(node: &NodePingResponse, name: &str) -> String {
    let tag = node.tags.get(name).cloned();
    tag.unwrap_or_else(|| "[unknown]".to_owned())
}

fn table(nodes: &[NodePingResponse], now: Timestamp) -> Table {
    const COLUMNS: [&str; 7] = [
        "Nexus",
        "ID (* = Lameduck Mode)",
        "Name",
        "Version",
        "Uptime",
        "State",
        "Running Agents",
    ];
    let mut table = Table::new("Nex Nodes", &COLUMNS).number(6);
    for node in nodes {
        let mark = if node.state == NodeState::Lameduck {
            "*"
        } else {
            ""
        };
        table.row([
            tag(node, NEXUS_TAG),
            format!("{}{mark}", node.node_id),
            tag(node, NAME_TAG),
            node.version.clone(),
            uptime(node.start_time, now),
            node.state.to_string(),
            node.agent_count.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_node_is_marked_and_missing_tags_are_said() {
        let id = format!("N{}", "A".repeat(55));
        let node: NodePingResponse = serde_json::from_value(serde_json::json!({
            "agent_count": 2, "node_id": id, "start_time": "2026-01-02T03:04:05Z",
            "state": "lameduck", "tags": {"nex.node": "n1"}, "version": "0.4.1", "xkey": "",
        }))
        .unwrap();
        let now = "2026-01-02T03:04:10Z".parse().unwrap();

        let drawn = table(&[node], now).draw();

        let row = drawn.lines().find(|line| line.contains(&id)).unwrap();
        assert_eq!(
            row,
            format!("│ [unknown] │ {id}* │ n1   │ 0.4.1   │ 5s     │ lameduck │              2 │")
        );
    }
}
