//! `nex workload info`.

use nex_protocol::WorkloadSummary;

use super::{fault, state};
use crate::{
    cli::WorkloadInfoArgs,
    connect,
    context::Context,
    error::{CommandResult, Exit},
    print::labels::{labelled, tags},
};

/// Prints everything that is known about one workload.
pub(crate) async fn run(args: WorkloadInfoArgs, context: &Context) -> CommandResult {
    let client = connect::client(context, context.look_namespace()?).await?;
    let summary = client.find(&args.workload).await.map_err(fault::find)?;
    if context.printer.is_json() {
        context.printer.json(&summary)?;
    } else {
        context.printer.line(text(&summary))?;
    }
    Ok(Exit::OK)
}

fn text(summary: &WorkloadSummary) -> String {
    let namespace = summary.namespace.as_ref().map(ToString::to_string);
    let mut pairs = vec![
        ("Name", summary.name.clone()),
        ("Namespace", namespace.unwrap_or_else(|| "--".to_owned())),
        ("Type", summary.workload_type.clone()),
        ("Lifecycle", summary.workload_lifecycle.clone()),
        ("State", state::word(summary)),
    ];
    if let Some(reason) = state::reason(summary) {
        pairs.push(("Reason", reason.to_owned()));
    }
    pairs.extend([
        ("Start Time", summary.start_time.clone()),
        ("Execution Time", summary.runtime.clone()),
        ("Tags", tags(&summary.tags)),
    ]);
    let metadata = summary.metadata.iter();
    let metadata = metadata.filter(|(key, _)| !state::is_told(key));
    pairs.extend(metadata.map(|(key, value)| (key.as_str(), value.clone())));
    labelled(
        &format!("Information about Workload {}", summary.id),
        &pairs,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_state_is_unknown_is_said_beside_it() {
        let summary = serde_json::from_value(serde_json::json!({
            "id": "w1", "name": "web", "runtime": "--", "start_time": "t", "tags": {},
            "workload_lifecycle": "service", "workload_state": "error", "workload_type": "native",
            "metadata": {"nex.state": "unknown", "nex.reason": "its nexlet is silent", "pid": "7"},
        }))
        .unwrap();

        let text = text(&summary);

        assert!(
            text.contains("State: unknown\n            Reason: its nexlet is silent\n"),
            "{text}"
        );
        assert!(text.contains("pid: 7") && !text.contains("nex."), "{text}");
    }

    #[test]
    fn what_the_nexlet_says_is_shown_too() {
        let summary = serde_json::from_value(serde_json::json!({
            "id": "w1", "name": "job", "runtime": "--", "start_time": "t", "tags": {},
            "workload_lifecycle": "job", "workload_state": "stopped",
            "workload_type": "native", "metadata": {"exit_code": "3"},
        }))
        .unwrap();

        let text = text(&summary);

        assert!(
            text.starts_with("Information about Workload w1\n\n"),
            "{text}"
        );
        assert!(text.ends_with("         exit_code: 3"), "{text}");
    }
}
