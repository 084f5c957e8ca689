//! Requests that change nothing: get, query, ping.

use async_nats::HeaderMap;
use nex_nats::service::Request;
use nex_protocol::{MORE_HEADER, NODE_HEADER, WorkloadSummary, workload::ListWorkloadsRequest};
use tracing::warn;

use super::{
    reply::{own_header, send, send_unreadable, workload_id},
    shared::Shared,
};
use crate::contract::Nexlet;

/// What the headers of a list take from its message, beside the nexlet's id.
const HEADERS_BYTES: usize = 64;

/// Answers with a workload's start request. Silent where it is not here: the node takes the first
/// answer, and the owner's must win.
pub(super) async fn get<N: Nexlet>(shared: &Shared<N>, request: Request) {
    let found = workload_id(&request).and_then(|id| shared.nexlet.get(&id));
    if let Some(found) = found {
        send(&request, None, &found).await;
    }
}

/// Answers with the workloads that are asked for: a node of ours gets a long list in several
/// messages, others get what one message holds.
pub(super) async fn query<N: Nexlet>(shared: &Shared<N>, request: Request) {
    let wanted: ListWorkloadsRequest = match serde_json::from_slice(request.payload()) {
        Ok(wanted) => wanted,
        Err(error) => return send_unreadable(&request, &error).await,
    };
    let mut found = shared.nexlet.list();
    found.retain(|workload| match &workload.namespace {
        Some(namespace) => wanted.wants(&workload.id, &workload.name, namespace),
        None => false,
    });
    let max_payload = shared.host.max_payload();
    let from_ours = request
        .headers()
        .is_some_and(|headers| headers.get(NODE_HEADER).is_some());
    if !from_ours {
        // A Go node counts messages: a second one would end its wait for another nexlet.
        let all = found.len();
        let reserved = HEADERS_BYTES + shared.host.nexlet().as_str().len();
        let first = chunks(found, max_payload.saturating_sub(reserved)).swap_remove(0);
        let left_out = all - first.len();
        if left_out > 0 {
            warn!(left_out, "the list of workloads is longer than a message");
        }
        return send(&request, Some(own_header(shared)), &first).await;
    }
    let chunks = chunks(found, max_payload / 2);
    let last = chunks.len() - 1;
    for (index, chunk) in chunks.into_iter().enumerate() {
        let mut headers = own_header(shared);
        if index < last {
            headers.insert(MORE_HEADER, "true");
        }
        send(&request, Some(headers), &chunk).await;
    }
}

/// Answers with who this nexlet is.
pub(super) async fn ping<N: Nexlet>(shared: &Shared<N>, request: Request) {
    let headers: HeaderMap = own_header(shared);
    send(&request, Some(headers), &shared.summary()).await;
}

/// Cuts a list into pieces whose JSON is at most `max_bytes`, or has one element. There is always
/// one piece: an empty list is an answer too.
fn chunks(list: Vec<WorkloadSummary>, max_bytes: usize) -> Vec<Vec<WorkloadSummary>> {
    let mut chunks = Vec::new();
    let mut chunk = Vec::new();
    let mut bytes = 2;
    for workload in list {
        let size = serde_json::to_vec(&workload).map_or(0, |json| json.len()) + 1;
        if bytes + size > max_bytes && !chunk.is_empty() {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 2;
        }
        bytes += size;
        chunk.push(workload);
    }
    chunks.push(chunk);
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use nex_protocol::{Namespace, Tags, WorkloadId, WorkloadState};

    fn workload(number: usize) -> WorkloadSummary {
        WorkloadSummary {
            id: WorkloadId::new(format!("w{number}")).unwrap(),
            metadata: Tags::new(),
            name: "name".into(),
            namespace: Some(Namespace::default_tenant()),
            runtime: "--".into(),
            start_time: String::new(),
            tags: Tags::new(),
            workload_lifecycle: "service".into(),
            workload_state: WorkloadState::Running,
            workload_type: "fake".into(),
        }
    }

    #[test]
    fn an_empty_list_is_one_answer() {
        assert_eq!(chunks(Vec::new(), 100), [Vec::new()]);
    }

    #[test]
    fn no_piece_is_larger_than_the_limit_and_none_is_lost() {
        let list: Vec<_> = (0..100).map(workload).collect();

        let chunks = chunks(list.clone(), 1000);

        assert!(chunks.len() > 1);
        for chunk in &chunks {
            assert!(serde_json::to_vec(chunk).unwrap().len() <= 1000);
        }
        assert_eq!(chunks.concat(), list);
    }
}
