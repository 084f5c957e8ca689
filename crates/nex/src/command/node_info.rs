//! `nex node info`.

use jiff::Timestamp;
use nex_protocol::{
    NodeId,
    control::{NodeInfoResponse, NodeNexletSummary, zero_time},
    registration::NexletSummary,
};

use super::{
    fault,
    node_list::{NAME_TAG, NEXUS_TAG},
};
use crate::{
    cli::NodeInfoArgs,
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit},
    print::{
        labels::{labelled, tags},
        table::Table,
    },
};

/// Prints what is known about one node.
pub(crate) async fn run(args: NodeInfoArgs, context: &Context) -> CommandResult {
    let client = connect::client(context, context.look_namespace()?).await?;
    let node = find(&client, &args.node).await?;
    let info = client.node_info(&node).await.map_err(fault::client)?;
    if context.printer.is_json() {
        context.printer.json(&info)?;
    } else {
        context.printer.line(text(&info, args.full))?;
    }
    Ok(Exit::OK)
}

/// The node with that id, else the one of that name, else the one whose id begins so.
pub(super) async fn find(
    client: &nex_client::Client,
    wanted: &str,
) -> Result<NodeId, CommandError> {
    match NodeId::new(wanted) {
        // Whether it is there is said by the answer to what it is asked.
        Ok(node) => Ok(node),
        Err(_) => match client.find_node(wanted).await {
            Ok(node) => Ok(node.node_id),
            Err(error) => Err(fault::find_node(error)),
        },
    }
}

fn text(info: &NodeInfoResponse, full: bool) -> String {
    let known = |name: &str| {
        let value = info.tags.get(name).cloned();
        value.unwrap_or_else(|| "[unknown]".to_owned())
    };
    let heading = format!("Information about Node {}", info.node_id);
    let about = labelled(
        &heading,
        &[
            ("Nexus", known(NEXUS_TAG)),
            ("Node Name", known(NAME_TAG)),
            ("Tags", tags(&info.tags)),
            ("XKey", info.xkey.clone()),
            ("Uptime", info.uptime.clone()),
            ("Version", info.version.clone()),
        ],
    );
    let mut nexlets: Vec<_> = info.node_agent_summaries.iter().collect();
    nexlets.sort_by(|a, b| a.agent_summary.name.cmp(&b.agent_summary.name));
    let below = if nexlets.is_empty() {
        "No agents running".to_owned()
    } else if full {
        full_table(&nexlets).draw()
    } else {
        short_table(&nexlets).draw()
    };
    format!("{about}\n\n{below}")
}

fn short_table(nexlets: &[&NodeNexletSummary]) -> Table {
    const COLUMNS: [&str; 4] = ["", "Name", "Workload Type", "Running Workloads"];
    let mut table = Table::new("Running Agents", &COLUMNS).number(3);
    for nexlet in nexlets {
        let summary = &nexlet.agent_summary;
        table.row([
            nexlet.agent_health_stoplight.clone(),
            named(summary),
            summary.workload_type.clone(),
            summary.workload_count.to_string(),
        ]);
    }
    table
}

fn full_table(nexlets: &[&NodeNexletSummary]) -> Table {
    const COLUMNS: [&str; 9] = [
        "Health",
        "Id",
        "Name",
        "Workload Type",
        "Start Time",
        "State",
        "Supported Lifecycles",
        "Running Workloads",
        "Last Heartbeat",
    ];
    let mut table = Table::new("Running Agents", &COLUMNS).number(7);
    for nexlet in nexlets {
        let summary = &nexlet.agent_summary;
        table.row([
            format!(
                "{} [{}]",
                nexlet.agent_health_stoplight, nexlet.agent_health
            ),
            nexlet.agent_id.clone(),
            named(summary),
            summary.workload_type.clone(),
            go_time(summary.start_time),
            summary.state.clone(),
            summary.supported_lifecycles.clone(),
            summary.workload_count.to_string(),
            rfc3339(nexlet.agent_last_heartbeat_time),
        ]);
    }
    table
}

/// A nexlet's name and version. One that does not run has no version, but a state that a person should
/// see.
fn named(summary: &NexletSummary) -> String {
    let detail = match summary.version.as_str() {
        "" => &summary.state,
        version => version,
    };
    format!("{} [{detail}]", summary.name)
}

/// A time as Go prints one by default, `2026-01-02 03:04:05.6 +0000 UTC`; `--` for Go's zero time.
fn go_time(time: Timestamp) -> String {
    known(time, "%Y-%m-%d %H:%M:%S%.f +0000 UTC")
}

/// A time as RFC 3339 has it, in whole seconds as in Go; `--` for Go's zero time.
fn rfc3339(time: Timestamp) -> String {
    known(time, "%Y-%m-%dT%H:%M:%SZ")
}

fn known(time: Timestamp, format: &str) -> String {
    match time == zero_time() {
        true => "--".to_owned(),
        false => time.strftime(format).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(nexlets: serde_json::Value) -> NodeInfoResponse {
        serde_json::from_value(serde_json::json!({
            "node_agent_summaries": nexlets, "node_id": format!("N{}", "A".repeat(55)),
            "tags": {"nex.node": "n1", "nex.nexus": "lab"}, "uptime": "29.06757465s",
            "version": "0.4.1", "xkey": "X",
        }))
        .unwrap()
    }

    #[test]
    fn a_node_without_nexlets_says_so() {
        let text = text(&info(serde_json::Value::Null), false);

        assert!(text.contains("    Node Name: n1\n"), "{text}");
        assert!(
            text.contains("         Tags: nex.nexus=lab, nex.node=n1\n"),
            "{text}"
        );
        assert!(
            text.ends_with("      Version: 0.4.1\n\nNo agents running"),
            "{text}"
        );
    }

    #[test]
    fn nexlets_are_listed_by_name() {
        let nexlet = |name: &str| {
            serde_json::json!({
                "agent_health": "healthy", "agent_health_stoplight": "🟢", "agent_id": "a1",
                "agent_last_heartbeat_time": "0001-01-01T00:00:00Z",
                "agent_summary": {
                    "name": name, "start_time": "2026-01-02T03:04:05Z", "state": "running",
                    "supported_lifecycles": "job,service", "type": "native", "version": "1.0.0",
                    "workload_count": 3,
                },
            })
        };
        let info = info(serde_json::json!([nexlet("z"), nexlet("a")]));

        let (short, full) = (text(&info, false), text(&info, true));

        assert!(short.find("a [1.0.0]") < short.find("z [1.0.0]"), "{short}");
        assert!(
            full.contains("🟢 [healthy]") && full.contains(" -- "),
            "{full}"
        );
        assert!(full.contains(" a [1.0.0] "), "{full}");
        assert!(full.contains(" 2026-01-02 03:04:05 +0000 UTC "), "{full}");
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        for (text, default, rfc3339_seconds) in [
            (
                "2026-01-02T03:04:05.6Z",
                "2026-01-02 03:04:05.6 +0000 UTC",
                "2026-01-02T03:04:05Z",
            ),
            (
                "2026-01-02T03:04:05.123456789+02:00",
                "2026-01-02 01:04:05.123456789 +0000 UTC",
                "2026-01-02T01:04:05Z",
            ),
            (
                "2026-01-02T03:04:05Z",
                "2026-01-02 03:04:05 +0000 UTC",
                "2026-01-02T03:04:05Z",
            ),
            ("0001-01-01T00:00:00Z", "--", "--"),
        ] {
            assert_eq!(go_time(time(text)), default);
            assert_eq!(rfc3339(time(text)), rfc3339_seconds);
        }
    }

    #[test]
    fn a_nexlet_that_was_given_up_says_so() {
        let gone = serde_json::json!({
            "agent_health": "offline", "agent_health_stoplight": "🔴", "agent_id": "a1",
            "agent_last_heartbeat_time": "0001-01-01T00:00:00Z",
            "agent_summary": {
                "name": "acme", "start_time": "0001-01-01T00:00:00Z", "state": "given up",
                "supported_lifecycles": "", "type": "", "version": "", "workload_count": 0,
            },
        });

        let short = text(&info(serde_json::json!([gone])), false);

        assert!(
            short.contains("🔴") && short.contains("acme [given up]"),
            "{short}"
        );
    }
}
