//! Errors of the client as a person gets them.

use nex_client::{ClientError, FeedError, FindError, Refused, StartError};
use nex_protocol::{ErrorCode, NodeId, WorkloadSummary};

use crate::{
    error::{CommandError, Kind},
    print::table::printable,
};

/// A request that did not do what was asked.
pub(super) fn client(error: ClientError) -> CommandError {
    match error {
        ClientError::Refused(refused) => refusal(&refused),
        ClientError::NoNodes => no_nodes(),
        ClientError::WorkloadNotFound { id, missing } => no_workload(&id, &missing),
        ClientError::NodeNotFound(_) => CommandError::from_error(Kind::NotFound, &error)
            .hint("`nex node list` lists those that there are"),
        ClientError::TimedOut { .. } => CommandError::from_error(Kind::Failed, &error)
            .hint("`nex node list` shows which nodes answer"),
        ClientError::Send(_) | ClientError::Malformed(_) => {
            CommandError::from_error(Kind::Failed, &error)
        }
    }
}

/// A workload that was not started.
pub(super) fn start(error: StartError) -> CommandError {
    match error {
        StartError::NoNodes => no_nodes(),
        StartError::NoBids { ref missing, .. } => {
            let mut told = CommandError::new(Kind::NotFound, printable(&error.to_string()));
            if !missing.is_empty() {
                told = told.cause(silent(missing));
            }
            told.hint("`nex node info NODE` shows what a node runs; `nex node list` lists nodes")
        }
        StartError::Lifecycle { .. } => CommandError::from_error(Kind::NotFound, &error).hint(
            "choose another `--lifecycle`; `nex node info NODE --full` shows which there are",
        ),
        StartError::Client(ClientError::Refused(refused)) => {
            let told = CommandError::failed("failed to start the workload");
            with_log(told.cause(printable(&refused.text)), &refused)
        }
        StartError::Client(error @ ClientError::TimedOut { .. }) => {
            CommandError::failed("failed to start the workload")
                .because(&error)
                .hint("it may run all the same: `nex workload list`")
        }
        StartError::Client(error) => client(error),
    }
}

/// No workload, or too many.
pub(super) fn find(error: FindError) -> CommandError {
    match error {
        FindError::NotFound { text, missing } => no_workload(&text, &missing),
        FindError::Ambiguous { ref candidates, .. } => {
            let mut told = CommandError::new(Kind::Failed, printable(&error.to_string()));
            for candidate in candidates {
                told = told.cause(described(candidate));
            }
            told.hint("use an id, or enough of its beginning")
        }
        FindError::Client(error) => client(error),
    }
}

/// Logs or events that cannot be read.
pub(super) fn feed(error: FeedError) -> CommandError {
    CommandError::from_error(Kind::Failed, &error)
}

/// The server has gone while we listened.
pub(super) fn connection_lost() -> CommandError {
    CommandError::new(Kind::Unreachable, "lost the connection to NATS")
        .hint("workloads are not stopped by that: `nex workload list` shows them")
}

fn described(workload: &WorkloadSummary) -> String {
    let namespace = workload
        .namespace
        .as_ref()
        .map_or("--", |namespace| namespace.as_str());
    printable(&format!(
        "{} {} in namespace {namespace}, {}",
        workload.id, workload.name, workload.workload_state
    ))
}

/// Whether everybody who should have answered did, without an error.
///
/// # Errors
/// Names the others.
pub(super) fn complete(
    missing: &[NodeId],
    failed: &[(Option<NodeId>, ClientError)],
) -> Result<(), CommandError> {
    if missing.is_empty() && failed.is_empty() {
        return Ok(());
    }
    let mut error = CommandError::new(Kind::Incomplete, "the answer is incomplete");
    if !missing.is_empty() {
        error = error.cause(silent(missing));
    }
    for (node, reason) in failed {
        let node = node.as_ref().map_or("a node", |node| node.as_str());
        error = error.cause(format!("{node}: {}", printable(&reason.to_string())));
    }
    Err(error.hint("a node that has gone for good is forgotten after a while; ask again"))
}

fn silent(missing: &[NodeId]) -> String {
    let ids: Vec<&str> = missing.iter().map(NodeId::as_str).collect();
    format!("no answer from {}", ids.join(", "))
}

fn no_nodes() -> CommandError {
    CommandError::not_found("no node is running")
        .hint("start one: `nex up`, or `nex node up` on a NATS that is already there")
}

fn no_workload(text: &str, missing: &[NodeId]) -> CommandError {
    let message = format!("workload not found: `{}`", printable(text));
    if missing.is_empty() {
        CommandError::not_found(message).hint("`nex workload list` lists those that there are")
    } else {
        // One of those may have it: that it does not exist would be a guess.
        CommandError::new(Kind::Incomplete, message)
            .cause(silent(missing))
            .hint("ask again when these nodes answer: `nex node list`")
    }
}

fn refusal(refused: &Refused) -> CommandError {
    let kind = if refused.code == ErrorCode::NotFound {
        Kind::NotFound
    } else {
        Kind::Failed
    };
    with_log(CommandError::new(kind, printable(&refused.text)), refused)
}

/// Adds where to read more, for faults that only the node can explain.
fn with_log(error: CommandError, refused: &Refused) -> CommandError {
    if refused.error_id.is_empty() {
        return error;
    }
    let node = refused
        .node
        .as_ref()
        .map(|node| format!(" {node}"))
        .unwrap_or_default();
    error.hint(format!(
        "the log of the node{node} says more under `{}`",
        printable(&refused.error_id)
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn node() -> NodeId {
        NodeId::new(format!("N{}", "A".repeat(55))).unwrap()
    }

    fn refused(code: ErrorCode) -> Refused {
        Refused {
            code,
            text: "syntax error at 3:7".into(),
            error_id: "e1".into(),
            node: Some(node()),
        }
    }

    #[test]
    fn a_refused_start_tells_what_the_nexlet_said() {
        let error = start(StartError::Client(refused(ErrorCode::BadRequest).into()));

        assert_eq!(error.kind(), Kind::Failed);
        let text = error.text();
        assert!(text.contains("caused by: syntax error at 3:7"), "{text}");
        assert!(text.contains("under `e1`"), "{text}");
    }

    #[test]
    fn each_error_has_its_exit_code() {
        let no_bids = |missing| StartError::NoBids {
            workload_type: "oci".into(),
            declined: Vec::new(),
            missing,
        };
        let not_found = |missing| FindError::NotFound {
            text: "web".into(),
            missing,
        };
        for (error, code) in [
            (start(no_bids(Vec::new())), 4),
            (start(StartError::NoNodes), 4),
            (client(refused(ErrorCode::NotFound).into()), 4),
            (client(refused(ErrorCode::Forbidden).into()), 1),
            (
                client(ClientError::TimedOut {
                    after: Duration::from_secs(2),
                }),
                1,
            ),
            (client(ClientError::NodeNotFound(node())), 4),
            (find(not_found(Vec::new())), 4),
            (find(not_found(vec![node()])), 5),
            (complete(&[node()], &[]).unwrap_err(), 5),
            (
                complete(&[], &[(None, ClientError::NoNodes)]).unwrap_err(),
                5,
            ),
        ] {
            assert_eq!(error.kind().exit_code(), code, "{}", error.text());
        }
        assert!(complete(&[], &[]).is_ok());
    }

    #[test]
    fn who_did_not_answer_is_named() {
        let text = complete(&[node()], &[]).unwrap_err().text();
        assert!(text.contains(node().as_str()), "{text}");
    }
}
