//! `nex workload list`.

use nex_protocol::{Namespace, NodeId, Tags, WorkloadSummary};

use super::{fault, state, types};
use crate::{
    cli::WorkloadListArgs,
    connect,
    context::Context,
    error::{CommandResult, Exit},
    print::table::Table,
};

/// A workload and the node that told of it, where that named itself.
type Listed = (Option<NodeId>, WorkloadSummary);

/// Lists what runs.
pub(crate) async fn run(args: WorkloadListArgs, context: &Context) -> CommandResult {
    let namespace = context.look_namespace()?;
    let client = connect::client(context, namespace.clone()).await?;
    let mut filter = args.filter;
    // A comma to spare is no filter.
    if filter.iter().any(|name| !name.is_empty()) {
        filter.retain(|name| !name.is_empty());
    }
    let answer = client.list(&filter).await.map_err(fault::client)?;
    let mut workloads = answer.workloads;
    if let Some(wanted) = &args.workload_type {
        let wanted = types::canonical(wanted);
        workloads.retain(|(_, summary)| types::canonical(&summary.workload_type) == wanted);
    }

    if context.printer.is_json() {
        context.printer.json(&by_node(workloads))?;
    } else if workloads.is_empty() {
        context
            .printer
            .line(nothing(&answer.missing, answer.nobody))?;
    } else {
        let table = table(&workloads, &namespace, args.show_metadata);
        context.printer.line(table.draw())?;
    }
    fault::complete(&answer.missing, &answer.failed)?;
    Ok(Exit::OK)
}

/// What is said of an empty list: what those that did not answer run is not known.
fn nothing(missing: &[NodeId], nobody: bool) -> &'static str {
    match (missing.is_empty(), nobody) {
        (_, true) => "No workloads found: no node is running",
        (true, false) => "No workloads found",
        (false, false) => "No workloads found on the nodes that answered",
    }
}

/// One array for each node that has any: what Go Nex prints.
fn by_node(workloads: Vec<Listed>) -> Vec<Vec<WorkloadSummary>> {
    let mut groups: Vec<(Option<NodeId>, Vec<WorkloadSummary>)> = Vec::new();
    for (node, summary) in workloads {
        match groups.iter_mut().find(|(known, _)| *known == node) {
            Some((_, group)) => group.push(summary),
            None => groups.push((node, vec![summary])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn table(workloads: &[Listed], namespace: &Namespace, show_metadata: bool) -> Table {
    let mut columns = vec!["Id", "Name"];
    if namespace.is_system() {
        columns.push("Namespace");
    }
    columns.extend(["Start Time", "Execution Time", "Type", "Lifecycle", "State"]);
    if show_metadata {
        columns.extend(["Metadata", "Tags"]);
    }
    let mut table = Table::new(format!("Running Workloads - {namespace}"), &columns);
    for (_, summary) in workloads {
        table.row(row(summary, namespace, show_metadata));
    }
    table
}

fn row(summary: &WorkloadSummary, namespace: &Namespace, show_metadata: bool) -> Vec<String> {
    let mut cells = vec![summary.id.to_string(), summary.name.clone()];
    if namespace.is_system() {
        let owner = summary.namespace.as_ref().map(ToString::to_string);
        cells.push(owner.unwrap_or_else(|| "--".to_owned()));
    }
    let runtime = if summary.workload_lifecycle == "function" {
        &summary.runtime
    } else {
        "--"
    };
    cells.extend([
        summary.start_time.clone(),
        runtime.to_owned(),
        summary.workload_type.clone(),
        summary.workload_lifecycle.clone(),
        state::word(summary),
    ]);
    if show_metadata {
        cells.push(metadata(&summary.metadata));
        cells.push(go_map(&summary.tags));
    }
    cells
}

fn metadata(metadata: &Tags) -> String {
    if metadata.is_empty() {
        return "--".to_owned();
    }
    serde_json::to_string(metadata).expect("a map of strings always encodes")
}

/// A map as Go prints it.
fn go_map(tags: &Tags) -> String {
    let pairs: Vec<String> = tags
        .iter()
        .map(|(key, value)| format!("{key}:{value}"))
        .collect();
    format!("map[{}]", pairs.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(node: Option<char>, id: &str) -> Listed {
        let summary = serde_json::from_value(serde_json::json!({
            "id": id, "name": "web", "namespace": "shop", "runtime": "3ms",
            "start_time": "2026-01-02T03:04:05Z", "tags": {"region": "lab"},
            "workload_lifecycle": "service", "workload_state": "running",
            "workload_type": "native", "metadata": {"pid": "7"},
        }));
        let node =
            node.map(|fill| NodeId::new(format!("N{}", fill.to_string().repeat(55))).unwrap());
        (node, summary.unwrap())
    }

    #[test]
    fn each_node_has_its_own_array() {
        let lists = by_node(vec![
            listed(Some('A'), "1"),
            listed(Some('B'), "2"),
            listed(Some('A'), "3"),
        ]);
        let ids: Vec<Vec<&str>> = lists
            .iter()
            .map(|list| list.iter().map(|summary| summary.id.as_str()).collect())
            .collect();
        assert_eq!(ids, [vec!["1", "3"], vec!["2"]]);
    }

    #[test]
    fn system_sees_whose_workload_it_is() {
        let workloads = [listed(None, "1")];
        let seen_by = |namespace: &str, metadata| {
            table(&workloads, &Namespace::new(namespace).unwrap(), metadata).draw()
        };

        let system = seen_by("system", false);
        let tenant = seen_by("shop", true);

        assert!(system.contains("Running Workloads - system"), "{system}");
        assert!(system.contains("│ web  │ shop      │"), "{system}");
        assert!(!tenant.contains("Namespace"), "{tenant}");
        assert!(tenant.contains(r#"{"pid":"7"}"#), "{tenant}");
        assert!(tenant.contains("map[region:lab]"), "{tenant}");
    }

    #[test]
    fn only_a_function_has_an_execution_time() {
        let (_, mut summary) = listed(None, "1");
        let shop = Namespace::new("shop").unwrap();
        assert_eq!(row(&summary, &shop, false)[3], "--");
        summary.workload_lifecycle = "function".to_owned();
        assert_eq!(row(&summary, &shop, false)[3], "3ms");
    }
}
