//! Errors of the client as a person gets them.

use std::error::Error;

use nex_client::{Attempts, ClientError, FeedError, FindError, FindNodeError, Refused, StartError};
use nex_nats::jetstream;
use nex_protocol::{
    ErrorCode, FEEDS_STREAM, NodeId, WorkloadId, WorkloadSummary, workload::StopWorkloadResponse,
};

use super::{state, types};
use crate::{
    error::{CommandError, Kind},
    print::table::printable,
};

/// What to do about nodes that listen and say nothing.
const SILENCE_HINT: &str =
    "a node may be busy, or stopped: ask again; `nex node list` shows which nodes answer";

/// Next step where a node was asked, and then stopped answering.
const ABSENT_HINT: &str = "it may have done what was asked: `nex node list` shows whether it is back, \
                           `nex workload list` what runs";

/// Next step where nobody knows whether a workload runs.
const UNKNOWN_START_HINT: &str = "no other node was asked; `nex workload list` shows whether it runs, `nex node list` which nodes answer";

/// What to do where the server does not let us ask.
pub(super) const DENIED_HINT: &str = "connect as a user who may: `--creds FILE`";

/// A request that did not do what was asked.
pub(super) fn client(error: ClientError) -> CommandError {
    match error {
        ClientError::Refused(refused) => refusal(&refused),
        ClientError::NoNodes => no_nodes(),
        ClientError::WorkloadNotFound { id, missing } => no_workload(&id, &missing),
        ClientError::NodeNotFound(_) => CommandError::from_error(Kind::NotFound, &error)
            .hint("`nex node list` lists those that there are"),
        ClientError::GoNode(_) => CommandError::from_error(Kind::Failed, &error).hint(
            "a Go node ends when its time is over; a later order with `--delay` gives it more",
        ),
        ClientError::NoAnswer { ref missing, .. } => {
            let mut told = CommandError::from_error(Kind::Incomplete, &error);
            if !missing.is_empty() {
                told = told.cause(silent(missing));
            }
            told.hint(SILENCE_HINT)
        }
        ClientError::TimedOut { .. } => {
            CommandError::from_error(Kind::Incomplete, &error).hint(SILENCE_HINT)
        }
        ClientError::NodeAbsent { .. } => {
            CommandError::from_error(Kind::Incomplete, &error).hint(ABSENT_HINT)
        }
        ClientError::Denied { .. } => {
            let told = CommandError::from_error(Kind::Failed, &error);
            told.hint(DENIED_HINT).refused()
        }
        ClientError::Unheard { .. } => CommandError::from_error(Kind::Failed, &error).hint(
            "answers come there: a context of the NATS CLI may name an `inbox_prefix` where this user listens",
        )
        .refused(),
        ClientError::ConnectionLost => connection_lost(),
        ClientError::Send(_) | ClientError::Malformed(_) | ClientError::Unreadable(_) => {
            CommandError::from_error(Kind::Failed, &error)
        }
    }
}

/// Fails for a workload that is stopped where the node or its nexlet could not do the rest, as on a
/// full disk, on which the record of the workload stays.
pub(super) fn finished_stop(
    id: &WorkloadId,
    response: &StopWorkloadResponse,
) -> Result<(), CommandError> {
    if response.message.is_empty() {
        return Ok(());
    }
    Err(
        CommandError::failed(format!("failed to finish the stop of workload `{id}`"))
            .cause(&response.message)
            .hint(
                "its node keeps trying while it runs: free space on its disk if that is full; if \
                 the workload is back after the node's next start, stop it again",
            ),
    )
}

/// A workload that was not started.
pub(super) fn start(error: StartError) -> CommandError {
    let told = not_started(error);
    match told.mentions(&["no space left on device", "disk quota exceeded"]) {
        true => told.hint("free space on the disk of the node, or name another with `--node-id`"),
        false => told,
    }
}

fn not_started(error: StartError) -> CommandError {
    match error {
        StartError::NoNodes => no_nodes(),
        StartError::NoBids { ref missing, .. } => no_bids(&error.to_string(), missing),
        StartError::Lifecycle { .. } => CommandError::from_error(Kind::NotFound, &error).hint(
            "choose another `--lifecycle`; `nex node info NODE --full` shows which there are",
        ),
        StartError::Unfit {
            ref workload_type,
            ref complaints,
        } => {
            let kind = printable(workload_type);
            let message = format!("the start request does not fit `{kind}` workloads");
            let mut told = CommandError::usage(message);
            for complaint in complaints.as_slice() {
                told = told.cause(printable(&complaint.to_string()));
                if let Some(meant) = &complaint.nearest {
                    told = told.hint(format!("did you mean `{}`?", printable(meant)));
                }
            }
            told.hint(types::what_it_takes(workload_type))
        }
        StartError::Client(ClientError::Refused(refused)) => {
            let told = CommandError::failed("failed to start the workload");
            explained(told.cause(printable(&refused.text)), &refused)
        }
        StartError::Node(error) => find_node(error),
        StartError::NodeDeclined { .. } => CommandError::not_found(printable(&error.to_string()))
            .hint("without `--node-id` any node may have it"),
        StartError::SameName { ref nodes, .. } => {
            let told = CommandError::failed(printable(&error.to_string()));
            nodes
                .iter()
                .fold(told, |told, node| told.cause(node.as_str()))
                .hint("give each node a name of its own: `--node-name` of `nex node up`")
        }
        StartError::NotTaken { ref attempts } => tried(
            CommandError::failed("failed to start the workload"),
            attempts,
        ),
        StartError::Unanswered {
            ref seen,
            ref attempts,
            ..
        }
        | StartError::NodeAbsent {
            ref seen,
            ref attempts,
            ..
        } => unknown_start(&error, seen, attempts).hint(UNKNOWN_START_HINT),
        StartError::Unconfirmed {
            ref refused,
            ref seen,
            ref attempts,
        } => {
            let told = unknown_start(&error, seen, attempts).hint(UNKNOWN_START_HINT);
            explained(told, refused)
        }
        StartError::ConnectionLost {
            ref node,
            ref seen,
            ref attempts,
        } => {
            let message = "lost the connection to NATS while the workload was started";
            let mut told = tried(CommandError::new(Kind::Unreachable, message), attempts);
            if let Some(node) = node {
                told = told.cause(format!("{node} did not answer before: it may run there"));
            }
            candidates(told, seen).hint(UNKNOWN_START_HINT)
        }
        StartError::Client(error) => client(error),
    }
}

/// A start after which nobody knows whether the workload runs.
fn unknown_start(
    error: &StartError,
    seen: &[WorkloadSummary],
    attempts: &Attempts,
) -> CommandError {
    let message = "it is not known whether the workload was started";
    let told = tried(CommandError::new(Kind::Incomplete, message), attempts);
    candidates(told.cause(printable(&error.to_string())), seen)
}

/// Adds workloads one of which may be the one that was started.
fn candidates(told: CommandError, seen: &[WorkloadSummary]) -> CommandError {
    seen.iter().fold(told, |told, workload| {
        told.cause(format!("it may be {}", described(workload)))
    })
}

/// Adds which bidders did not take a workload, and why.
fn tried(told: CommandError, attempts: &Attempts) -> CommandError {
    attempts.iter().fold(told, |told, attempt| {
        let node = attempt.node.as_ref().map_or("a Go node", NodeId::as_str);
        let told = told.cause(format!("{node}: {}", printable(&attempt.error.to_string())));
        match &attempt.error {
            ClientError::Refused(Refused {
                hint: Some(hint), ..
            }) => told.hint(printable(hint)),
            _ => told,
        }
    })
}

/// No node, or too many.
pub(super) fn find_node(error: FindNodeError) -> CommandError {
    match error {
        FindNodeError::NotFound { ref missing, .. } => {
            let message = printable(&error.to_string());
            if missing.is_empty() {
                return CommandError::not_found(message)
                    .hint("`nex node list` lists those that there are");
            }
            not_all_answered(&message, missing)
        }
        FindNodeError::Ambiguous { ref candidates, .. } => {
            let mut told = CommandError::failed(printable(&error.to_string()));
            for node in candidates {
                let name = node.tags.get("nex.node").map_or("", String::as_str);
                told = told.cause(printable(&format!("{} {name}", node.node_id)));
            }
            told.hint("use more of the id")
        }
        FindNodeError::Client(error) => client(error),
    }
}

fn no_bids(message: &str, missing: &[NodeId]) -> CommandError {
    let message = printable(message);
    if missing.is_empty() {
        return CommandError::not_found(message).hint(
            "a type needs a nexlet that runs it: `nex node list` lists nodes, `nex node info NODE` their nexlets",
        );
    }
    // One of those may run it.
    not_all_answered(&message, missing)
}

/// Something that was not found, while not all nodes answered that might have it.
pub(super) fn not_all_answered(message: &str, missing: &[NodeId]) -> CommandError {
    CommandError::new(Kind::Incomplete, printable(message))
        .cause(silent(missing))
        .hint(SILENCE_HINT)
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
    let told = of_stream(&error, FEEDS_STREAM)
        .unwrap_or_else(|| CommandError::from_error(Kind::Failed, &error));
    match cause_of(&error) {
        _ if matches!(error, FeedError::Closed) => connection_lost(),
        Some(ClientError::ConnectionLost) => connection_lost(),
        Some(ClientError::Denied { .. } | ClientError::Unheard { .. }) => {
            told.hint(DENIED_HINT).refused()
        }
        _ => told,
    }
}

/// An error that JetStream's refusal caused, with the next step; `None` for other errors.
pub(super) fn of_stream(error: &(dyn Error + 'static), stream: &str) -> Option<CommandError> {
    let refusal = jetstream::explain(error, stream)?;
    let told = CommandError::failed(printable(&error.to_string()));
    Some(told.cause(printable(&refusal.text)).hint(refusal.hint))
}

/// The error of the client that is the cause of a feed's error, if one is.
pub(super) fn cause_of(error: &FeedError) -> Option<&ClientError> {
    match error {
        FeedError::Open(cause) | FeedError::Resume(cause) => cause.downcast_ref(),
        FeedError::Closed => None,
    }
}

/// The connection was lost, and with it the answer.
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
        workload.id,
        workload.name,
        state::word(workload)
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
    explained(CommandError::new(kind, printable(&refused.text)), refused)
}

/// Adds what the node says beyond the text, and where to read more of faults that it keeps to its
/// log.
fn explained(mut error: CommandError, refused: &Refused) -> CommandError {
    if let Some(detail) = &refused.detail {
        error = error.cause(printable(detail));
    }
    if let Some(hint) = &refused.hint {
        error = error.hint(printable(hint));
    }
    if refused.error_id.is_empty() || refused.code != ErrorCode::Internal {
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

    use nex_protocol::workload::MAY_RUN;

    use super::*;

    fn node() -> NodeId {
        NodeId::new(format!("N{}", "A".repeat(55))).unwrap()
    }

    fn refused(code: ErrorCode) -> Refused {
        Refused {
            code,
            text: "failed to validate".into(),
            detail: Some("`uri` is missing".into()),
            hint: None,
            error_id: "e1".into(),
            node: Some(node()),
        }
    }

    #[test]
    fn a_refused_start_tells_what_the_nexlet_said() {
        let told = |code| start(StartError::Client(refused(code).into()));

        assert_eq!(told(ErrorCode::BadRequest).kind(), Kind::Failed);
        assert_eq!(
            told(ErrorCode::BadRequest).text(),
            "error: failed to start the workload\n  caused by: failed to validate\n  caused by: `uri` is missing"
        );
        // Only of its own faults a node's log says more.
        let internal = told(ErrorCode::Internal).text();
        assert!(internal.contains("under `e1`"), "{internal}");
    }

    #[test]
    fn a_full_disk_is_named_with_what_to_do() {
        let told = |text: &str| {
            let refused = Refused {
                text: text.to_owned(),
                ..refused(ErrorCode::Internal)
            };
            start(StartError::Client(refused.into())).text()
        };
        assert!(told("x: No space left on device (os error 28)").contains("hint: free space"));
        assert!(!told("no such file").contains("free space"));
    }

    #[test]
    fn each_error_has_its_exit_code() {
        let no_bids = |missing| StartError::NoBids {
            workload_type: "oci".into(),
            declined: Vec::new(),
            missing,
        };
        let no_answer = |missing| ClientError::NoAnswer {
            after: Duration::from_secs(10),
            missing,
        };
        let not_found = |missing| FindError::NotFound {
            text: "web".into(),
            missing,
        };
        for (error, code) in [
            (start(no_bids(Vec::new())), 4),
            (start(no_bids(vec![node()])), 5),
            (start(StartError::Client(no_answer(Vec::new()))), 5),
            (client(no_answer(vec![node()])), 5),
            (start(StartError::NoNodes), 4),
            (client(refused(ErrorCode::NotFound).into()), 4),
            (client(refused(ErrorCode::Forbidden).into()), 1),
            (
                client(ClientError::TimedOut {
                    after: Duration::from_secs(2),
                }),
                5,
            ),
            (client(ClientError::NodeNotFound(node())), 4),
            (client(absent()), 5),
            (start(unknown_outcome()), 5),
            (start(unconfirmed(MAY_RUN)), 5),
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

    fn absent() -> ClientError {
        ClientError::NodeAbsent {
            node: node(),
            after: Duration::from_secs(7),
        }
    }

    fn unknown_outcome() -> StartError {
        StartError::NodeAbsent {
            node: node(),
            after: Duration::from_secs(7),
            seen: Vec::new(),
            attempts: Attempts::default(),
        }
    }

    fn unconfirmed(text: &str) -> StartError {
        let refused = Refused {
            text: text.to_owned(),
            ..refused(ErrorCode::Internal)
        };
        StartError::Unconfirmed {
            refused: Box::new(refused),
            seen: Vec::new(),
            attempts: Attempts::default(),
        }
    }

    #[test]
    fn what_may_have_been_done_is_not_called_a_failure() {
        for error in [start(unknown_outcome()), start(unconfirmed(MAY_RUN))] {
            let text = error.text();
            assert!(text.contains("not known whether"), "{text}");
            assert!(
                text.contains("may run") && text.contains("`nex workload list`"),
                "{text}"
            );
            assert!(!text.contains("failed to start"), "{text}");
        }
        let text = client(absent()).text();
        assert!(text.contains("may have done"), "{text}");
    }

    #[test]
    fn who_did_not_answer_is_named() {
        let no_answer = ClientError::NoAnswer {
            after: Duration::from_secs(10),
            missing: vec![node()],
        };
        for error in [complete(&[node()], &[]).unwrap_err(), client(no_answer)] {
            let text = error.text();
            assert!(text.contains(node().as_str()), "{text}");
        }
    }
}
