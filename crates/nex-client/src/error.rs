//! What can go wrong with a request.

use std::{error::Error, time::Duration};

use async_nats::{Message, RequestError, RequestErrorKind};
use nex_nats::read_error;
use nex_protocol::{
    ErrorBody, ErrorCode, HINT_HEADER, NODE_HEADER, NodeId, error::REASON_FIELD,
    workload::Unreadable,
};

/// A request that did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A node or a nexlet answered with an error.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Nobody listens to requests of that kind.
    #[error("no node is running")]
    NoNodes,
    /// There is no such workload.
    #[error("workload `{id}` not found")]
    WorkloadNotFound {
        /// What was asked for.
        id: String,
        /// Nodes that did not answer, and might have it.
        missing: Vec<NodeId>,
    },
    /// There is no such node.
    #[error("node `{0}` not found")]
    NodeNotFound(NodeId),
    /// The node is one of Go Nex, which does something else where it is asked for this.
    #[error("node `{0}` is a Go node, which cannot do that")]
    GoNode(NodeId),
    /// Nobody said anything to a request to all, though somebody listens. What was asked for may be
    /// there all the same.
    #[error("no node answered within {after:?}")]
    NoAnswer {
        /// How long was waited.
        after: Duration,
        /// Nodes that are known, and should have answered.
        missing: Vec<NodeId>,
    },
    /// The server does not let us ask.
    #[error("NATS does not let you send to `{subject}`")]
    Denied {
        /// What was to be asked.
        subject: String,
    },
    /// The server does not let us listen.
    #[error("NATS does not let you listen on `{subject}`")]
    Unheard {
        /// Where.
        subject: String,
    },
    /// No answer came.
    #[error("no answer within {after:?}")]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The node that was to answer is gone, or hangs: it answers no pings any more, or was started
    /// again. The request may have been carried out.
    #[error("node `{node}` does not answer any more")]
    NodeAbsent {
        /// The node.
        node: NodeId,
        /// The time since the request was sent.
        after: Duration,
    },
    /// The connection was lost before the answer came. The request may have been carried out.
    #[error("lost the connection to NATS")]
    ConnectionLost,
    /// The request could not be sent.
    #[error("failed to send the request")]
    Send(#[source] Box<dyn Error + Send + Sync>),
    /// The answer is none of the protocol.
    #[error("failed to understand the answer")]
    Malformed(#[source] serde_json::Error),
    /// Some workloads of a list are none of the protocol; the others are in the answer.
    #[error(transparent)]
    Unreadable(Unreadable),
}

/// An error that a node or a nexlet answered with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// The code, on which a program can act.
    pub code: ErrorCode,
    /// For people.
    pub text: String,
    /// What exactly is wrong, where the answer says more than its `text`.
    pub detail: Option<String>,
    /// The next step, where the answer says one; it is no part of the `text`.
    pub hint: Option<String>,
    /// Names the line in the node's log; may be empty.
    pub error_id: String,
    /// Who answered, where it said so.
    pub node: Option<NodeId>,
}

impl ClientError {
    /// The code on the wire, where somebody answered with one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(refused) => Some(refused.code),
            Self::WorkloadNotFound { .. } | Self::NodeNotFound(_) => Some(ErrorCode::NotFound),
            _ => None,
        }
    }

    /// A request within a limit to which there was no answer.
    pub(crate) fn unanswered(error: RequestError, limit: Duration) -> Self {
        match error.kind() {
            RequestErrorKind::NoResponders => Self::NoNodes,
            RequestErrorKind::TimedOut => Self::TimedOut { after: limit },
            RequestErrorKind::Other => Self::ConnectionLost,
            _ => Self::send(error),
        }
    }

    /// The error of a request to one node, with the node in it.
    pub(crate) fn of_node(self, node: &NodeId) -> Self {
        match self {
            Self::NoNodes => Self::NodeNotFound(node.clone()),
            Self::TimedOut { after } => Self::NoAnswer {
                after,
                missing: vec![node.clone()],
            },
            other => other,
        }
    }

    pub(crate) fn send(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Send(Box::new(error))
    }
}

/// The node that a reply names.
pub(crate) fn node_of(message: &Message) -> Option<NodeId> {
    let value = message.headers.as_ref()?.get(NODE_HEADER)?;
    NodeId::new(value.as_str()).ok()
}

/// The next step that a reply says.
fn hint_of(message: &Message) -> Option<String> {
    let value = message.headers.as_ref()?.get(HINT_HEADER)?;
    Some(value.as_str().to_owned()).filter(|hint| !hint.is_empty())
}

/// Whether a reply is a success.
pub(crate) fn check(message: &Message) -> Result<(), Refused> {
    let Some((code, header)) = read_error(message) else {
        return Ok(());
    };
    let body = serde_json::from_slice::<ErrorBody>(&message.payload).ok();
    let (error_id, raw) = body.map_or_else(Default::default, |b| (b.error_id, b.error));
    let (mut text, detail) = texts(code, header, raw);
    let detail = detail.or_else(|| reason_of(&message.payload));
    let hint = hint_of(message);
    if let Some(before) = hint
        .as_ref()
        .and_then(|hint| text.strip_suffix(hint.as_str()))
    {
        text = before.trim_end_matches([' ', ';', ':']).to_owned();
    }
    Err(Refused {
        code,
        text,
        detail,
        hint,
        error_id,
        node: node_of(message),
    })
}

/// Returns the reason that a node gives for a fault of its own.
fn reason_of(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(body.get(REASON_FIELD)?.as_str()?.to_owned())
}

/// The header's text and what the body adds to it.
fn texts(code: ErrorCode, header: String, body: String) -> (String, Option<String>) {
    if header.is_empty() {
        return (body, None);
    }
    // For faults of a node the body says only that there was one; other bodies may repeat a part.
    let adds = code != ErrorCode::Internal && !header.contains(&body);
    (header, adds.then_some(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_a_detail_only_where_it_adds_something() {
        let texts =
            |code, header: &str, body: &str| texts(code, header.to_owned(), body.to_owned());
        let plain = |text: &str| (text.to_owned(), None);

        let (bad, internal) = (ErrorCode::BadRequest, ErrorCode::Internal);
        assert_eq!(
            texts(bad, "invalid", "`uri` is missing"),
            ("invalid".to_owned(), Some("`uri` is missing".to_owned()))
        );
        assert_eq!(texts(bad, "invalid: a", "invalid"), plain("invalid: a"));
        assert_eq!(texts(bad, "invalid", ""), plain("invalid"));
        assert_eq!(texts(bad, "", "invalid"), plain("invalid"));
        assert_eq!(
            texts(internal, "it broke", "server error"),
            plain("it broke")
        );
    }
}
