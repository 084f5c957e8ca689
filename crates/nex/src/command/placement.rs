//! `--explain`: how a node was chosen. A table on standard error, or a field of the JSON.

use nex_client::{Considered, Explained, Explanation, StartError, Verdict};
use serde_json::{Value, json};

use crate::{context::Context, error::CommandError, print::table::Table};

/// How much of a node's id is shown: enough to name it.
const ID_CHARS: usize = 10;

/// What came of looking for a place, told as asked for; and the explanation, where the JSON of the
/// result is to have it.
///
/// # Errors
/// What `fault` makes of the error, with the explanation where it is JSON.
pub(super) fn told<T>(
    explained: Explained<T>,
    wanted: bool,
    context: &Context,
    fault: impl FnOnce(StartError) -> CommandError,
) -> Result<(T, Option<Value>), CommandError> {
    let mut field = None;
    if let Some(explanation) = explained.explanation.filter(|_| wanted) {
        if context.printer.is_json() {
            field = Some(json!(explanation));
        } else {
            context.printer.note(table(&explanation));
        }
    }
    match (explained.outcome, field) {
        (Ok(done), field) => Ok((done, field)),
        (Err(error), Some(field)) => Err(fault(error).explained(field)),
        (Err(error), None) => Err(fault(error)),
    }
}

fn table(explanation: &Explanation) -> String {
    const COLUMNS: [&str; 8] = [
        "Node",
        "Id",
        "Verdict",
        "Workloads",
        "Free CPU",
        "Free Memory",
        "Score",
        "Why",
    ];
    let title = format!("Where a `{}` workload may run", explanation.workload_type);
    let mut table = Table::new(title, &COLUMNS);
    for column in 3..7 {
        table = table.number(column);
    }
    for node in &explanation.nodes {
        table.row(row(node));
    }
    table.draw()
}

fn row(node: &Considered) -> [String; 8] {
    let unknown = || "--".to_owned();
    let load = node.load.as_ref();
    let id = node
        .node_id
        .as_ref()
        .map_or_else(unknown, |id| id.as_str().chars().take(ID_CHARS).collect());
    let cpu = load.and_then(|load| load.cpu_millis_free);
    let memory = load.and_then(|load| load.memory_bytes_free);
    let score = load.and_then(|load| load.score);
    [
        node.name.clone().unwrap_or_else(unknown),
        id,
        word(node.verdict).to_owned(),
        load.map_or_else(unknown, |load| load.workloads.to_string()),
        cpu.map_or_else(unknown, |millis| format!("{:.1}", millis as f64 / 1000.0)),
        memory.map_or_else(unknown, |bytes| format!("{} MiB", bytes >> 20)),
        score.map_or_else(unknown, |score| format!("{score:.2}")),
        node.reason.clone(),
    ]
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Chosen => "chosen",
        Verdict::Refused => "refused",
        Verdict::Passed => "passed over",
        Verdict::Unsuitable => "unsuitable",
        Verdict::Declined => "declined",
        Verdict::Unclear => "unclear",
        Verdict::Silent => "silent",
    }
}

#[cfg(test)]
mod tests {
    use nex_protocol::{NodeId, control::Load};

    use super::*;

    #[test]
    fn what_is_not_known_is_left_open() {
        let explanation = Explanation {
            workload_type: "js".into(),
            nodes: vec![
                Considered {
                    node_id: Some(NodeId::new(format!("N{}", "A".repeat(55))).unwrap()),
                    name: Some("n1".into()),
                    verdict: Verdict::Chosen,
                    reason: "the only bid".into(),
                    load: Some(Load {
                        workloads: 2,
                        cpu_millis_free: Some(1550),
                        memory_bytes_free: Some(3 << 30),
                        cached: None,
                        score: Some(0.5),
                    }),
                },
                Considered {
                    node_id: None,
                    name: None,
                    verdict: Verdict::Silent,
                    reason: "no answer".into(),
                    load: None,
                },
            ],
        };

        let lines: Vec<String> = table(&explanation).lines().map(str::to_owned).collect();

        let cells = |line: &str| -> Vec<String> {
            line.split('│').map(|cell| cell.trim().to_owned()).collect()
        };
        assert!(lines[1].contains("Where a `js` workload may run"));
        assert_eq!(
            cells(&lines[5])[1..9],
            [
                "n1",
                "NAAAAAAAAA",
                "chosen",
                "2",
                "1.6",
                "3072 MiB",
                "0.50",
                "the only bid"
            ]
        );
        assert_eq!(
            cells(&lines[6])[1..9],
            ["--", "--", "silent", "--", "--", "--", "--", "no answer"]
        );
    }
}
