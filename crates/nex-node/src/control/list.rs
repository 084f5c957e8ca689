//! `WPING`: the workloads of all nexlets, in as many messages as it takes.

use std::{collections::HashSet, time::Instant};

use async_nats::Message;
use bytes::Bytes;
use nex_protocol::{
    MORE_HEADER, Namespace, Subject, WorkloadId, WorkloadSummary,
    workload::{ListWorkloadsRequest, parse_list},
};
use tracing::{debug, warn};

use super::answer::{Answer, Refusal, check_namespace, decode};
use crate::{
    nexlet::{Heard, Roll, gather},
    shared::Shared,
    timeouts::LIST_LIMIT,
};

pub(super) async fn workloads(
    shared: &Shared,
    namespace: Namespace,
    body: &Bytes,
) -> Result<Answer, Refusal> {
    let request: ListWorkloadsRequest = decode(body, "ping request")?;
    check_namespace(&namespace, &request.namespace)?;

    let mut seen: HashSet<WorkloadId> = HashSet::new();
    let mut all: Vec<WorkloadSummary> = Vec::new();
    let missing = gather(
        &shared.client,
        Subject::QueryWorkloads(shared.id.clone()),
        body.clone(),
        Roll::new(shared.registry.living(Instant::now())),
        LIST_LIMIT,
        |message| {
            let list = match parse_list(&message.payload) {
                Ok(list) if nex_nats::read_error(message).is_none() => list,
                // A Go nexlet sends its list after an error too.
                _ => return Heard::Aside,
            };
            all.extend(list.into_iter().filter(|workload| {
                visible(workload, &request.namespace) && seen.insert(workload.id.clone())
            }));
            if has_more(message) {
                Heard::Aside
            } else {
                Heard::Answer
            }
        },
    )
    .await
    .map_err(|error| Refusal::internal("failed to publish query workloads request", &error))?;
    if missing > 0 {
        debug!(missing, "nexlets did not list their workloads in time");
    }
    chunks(&all, shared.client.max_payload() / 2).map(Answer::Chunks)
}

/// Whether it is a part of a long list, and not the last one.
fn has_more(message: &Message) -> bool {
    let headers = message.headers.as_ref();
    headers.is_some_and(|headers| headers.get(MORE_HEADER).is_some())
}

/// A nexlet that filters wrongly must not show one tenant's workloads to another.
fn visible(workload: &WorkloadSummary, namespace: &Namespace) -> bool {
    let owner = workload.namespace.as_ref();
    namespace.is_system() || owner.is_none_or(|owner| owner == namespace)
}

/// Arrays of at most `most_bytes`; one, an empty one, for no workloads. A workload that is larger
/// by itself is left out: it could not be sent.
fn chunks(all: &[WorkloadSummary], most_bytes: usize) -> Result<Vec<Bytes>, Refusal> {
    let mut chunks = Vec::new();
    let mut chunk = String::from("[");
    for workload in all {
        let item = serde_json::to_string(workload)
            .map_err(|error| Refusal::internal("failed to encode a workload", &error))?;
        if item.len() + 2 > most_bytes {
            warn!(workload = %workload.id, bytes = item.len(), "workload is too large to list");
            continue;
        }
        // The brackets or a comma, and the closing bracket.
        if chunk.len() + item.len() + 2 > most_bytes {
            chunk.push(']');
            chunks.push(std::mem::replace(&mut chunk, "[".to_owned()).into());
        }
        if chunk.len() > 1 {
            chunk.push(',');
        }
        chunk.push_str(&item);
    }
    chunk.push(']');
    chunks.push(chunk.into());
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nex_protocol::{Tags, WorkloadState};

    fn workload(name: &str, name_bytes: usize) -> WorkloadSummary {
        WorkloadSummary {
            id: WorkloadId::new(name).unwrap(),
            metadata: Tags::new(),
            name: "n".repeat(name_bytes),
            namespace: Some(Namespace::new("tenant").unwrap()),
            runtime: "--".into(),
            start_time: String::new(),
            tags: Tags::new(),
            workload_lifecycle: "job".into(),
            workload_state: WorkloadState::Running,
            workload_type: "echo".into(),
        }
    }

    #[test]
    fn nothing_is_one_empty_list() {
        assert_eq!(chunks(&[], 100).unwrap(), ["[]"]);
    }

    #[test]
    fn chunks_are_lists_of_bounded_size_and_hold_everything() {
        let all: Vec<WorkloadSummary> = (0..100).map(|n| workload(&format!("w{n}"), n)).collect();

        for most_bytes in [300, 301, 302, 1000, 5000, 1_000_000] {
            let chunks = chunks(&all, most_bytes).unwrap();
            let lists = chunks.iter().map(|chunk| {
                assert!(chunk.len() <= most_bytes, "{} > {most_bytes}", chunk.len());
                parse_list(chunk).unwrap()
            });
            let lists: Vec<Vec<WorkloadSummary>> = lists.collect();

            assert!(lists.iter().all(|list| !list.is_empty()));
            assert_eq!(lists.concat(), all);
        }
    }

    #[test]
    fn a_workload_too_large_to_send_does_not_hide_the_others() {
        let all = [workload("a", 1), workload("b", 10_000), workload("c", 1)];

        let chunks = chunks(&all, 1000).unwrap();

        let listed = parse_list(&chunks[0]).unwrap();
        let ids: Vec<&str> = listed.iter().map(|workload| workload.id.as_str()).collect();
        assert_eq!((chunks.len(), ids), (1, vec!["a", "c"]));
    }

    #[test]
    fn a_tenant_sees_no_other_s_workloads() {
        let (own, other) = (
            Namespace::new("tenant").unwrap(),
            Namespace::new("other").unwrap(),
        );
        let mut workload = workload("w", 1);

        assert!(visible(&workload, &own));
        assert!(visible(&workload, &Namespace::system()));
        assert!(!visible(&workload, &other));
        // Older nexlets do not say whose it is.
        workload.namespace = None;
        assert!(visible(&workload, &other));
    }
}
