//! Which endpoints there are, and how they answer.

use std::sync::Arc;

use async_nats::HeaderMap;
use nex_nats::service::{Endpoint, Request};
use nex_protocol::{
    ErrorCode, HINT_HEADER, NexletId, NodeId, Subject, WorkloadId, header_value, subject::pattern,
};
use serde::Serialize;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{lameduck, questions, shared::Shared, start, stop};
use crate::contract::Nexlet;

/// Header by which Go nexlets name themselves.
const NEXLET_HEADER: &str = "agentId";

const START: &str = "StartWorkload";
const STOP: &str = "StopWorkload";
const GET: &str = "GetWorkload";
const QUERY: &str = "QueryWorkloads";
const PING: &str = "PingAgent";
const PING_ALL: &str = "PingAllAgents";
const LAMEDUCK: &str = "SetLameduck";

/// The endpoints of a nexlet, by the names and on the subjects of the Go SDK.
pub(super) fn endpoints(node: &NodeId, nexlet: &NexletId) -> Vec<Endpoint> {
    let text = |subject: Subject| subject.to_string();
    vec![
        Endpoint {
            name: START,
            subject: pattern::start_workload(node, nexlet),
        },
        Endpoint {
            name: STOP,
            subject: pattern::stop_workload(node),
        },
        Endpoint {
            name: GET,
            subject: pattern::get_workload(node),
        },
        Endpoint {
            name: QUERY,
            subject: text(Subject::QueryWorkloads(node.clone())),
        },
        Endpoint {
            name: PING,
            subject: text(Subject::NexletPing(node.clone(), nexlet.clone())),
        },
        Endpoint {
            name: PING_ALL,
            subject: text(Subject::NexletPingAll(node.clone())),
        },
        Endpoint {
            name: LAMEDUCK,
            subject: text(Subject::NexletLameduck(node.clone())),
        },
    ]
}

/// Answers one request.
pub(super) async fn answer<N: Nexlet>(
    shared: Arc<Shared<N>>,
    tasks: TaskTracker,
    request: Request,
) {
    debug!(subject = request.subject(), "request");
    match request.endpoint {
        START => start::answer(shared, tasks, request).await,
        STOP => stop::answer(shared, tasks, request).await,
        GET => questions::get(&shared, request).await,
        QUERY => questions::query(&shared, request).await,
        PING | PING_ALL => questions::ping(&shared, request).await,
        LAMEDUCK => lameduck::answer(shared, tasks, request).await,
        other => warn!(
            endpoint = other,
            "request to an endpoint that nobody answers"
        ),
    }
}

/// The workload that a request's subject names, its last token.
pub(super) fn workload_id(request: &Request) -> Option<WorkloadId> {
    let (_, last) = request.subject().rsplit_once('.')?;
    WorkloadId::new(last).ok()
}

/// The header that names this nexlet.
pub(super) fn own_header<N: Nexlet>(shared: &Shared<N>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NEXLET_HEADER, shared.host.nexlet().as_str());
    headers
}

fn encode(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("replies are made of texts, numbers and maps of texts")
}

/// Sends the one reply to a request.
pub(super) async fn send(request: &Request, headers: Option<HeaderMap>, body: &impl Serialize) {
    if let Err(error) = request.respond(headers, encode(body).into()).await {
        warn!(subject = request.subject(), %error, "reply is lost");
    }
}

/// Sends the one reply to a request: an error, with the body that Go expects beside it.
pub(super) async fn send_error(
    request: &Request,
    code: ErrorCode,
    text: &str,
    body: &impl Serialize,
) {
    send_refusal(request, code, text, None, body).await;
}

/// Sends an error as [`send_error`] does, with the next step for the person who asked.
pub(super) async fn send_refusal(
    request: &Request,
    code: ErrorCode,
    text: &str,
    hint: Option<&str>,
    body: &impl Serialize,
) {
    let mut headers = HeaderMap::new();
    if let Some(hint) = hint {
        headers.insert(HINT_HEADER, header_value(hint));
    }
    let body = encode(body).into();
    if let Err(error) = request.respond_error_with(code, text, headers, body).await {
        warn!(subject = request.subject(), %error, "reply is lost");
    }
}

/// Sends the one reply to a request that cannot be read. The body is empty, as in Go.
pub(super) async fn send_unreadable(request: &Request, error: &serde_json::Error) {
    let text = format!("failed to read the request: {error}");
    let empty = bytes::Bytes::new();
    if let Err(error) = request
        .respond_error(ErrorCode::BadRequest, &text, empty)
        .await
    {
        warn!(subject = request.subject(), %error, "reply is lost");
    }
}
