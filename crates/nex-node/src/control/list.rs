//! `WPING`: the workloads of all nexlets, in as many messages as it takes.

use std::{collections::HashSet, time::Instant};

use bytes::Bytes;
use nex_protocol::{
    Namespace, NexletId, Tags, WorkloadId, WorkloadState, WorkloadSummary,
    workload::ListWorkloadsRequest,
};
use tracing::{debug, warn};

use super::answer::{Answer, Refusal, check_namespace, decode};
use crate::{
    nexlet::{Heard, gather_lists},
    shared::Shared,
    state::Record,
    timeouts::LIST_LIMIT,
    workloads::{Standing, Workload},
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
    // Before the nexlets are asked: what starts meanwhile is theirs to tell.
    let known = shared.workloads.all();
    let missing = gather_lists(
        &shared.client,
        &shared.id,
        body.clone(),
        shared.registry.list_roll(Instant::now()),
        LIST_LIMIT,
        |_, list| {
            all.extend(list.into_iter().filter(|workload| {
                visible(workload, &request.namespace) && seen.insert(workload.id.clone())
            }));
            Heard::Answer
        },
    )
    .await
    .map_err(|error| Refusal::internal("failed to publish query workloads request", &error))?;
    if missing > 0 {
        debug!(missing, "nexlets did not list their workloads in time");
    }
    let living = shared.registry.living(Instant::now());
    for workload in known {
        let Record {
            id, request: asked, ..
        } = &*workload.record;
        let wanted = request.wants(id, &asked.name, &asked.namespace) && !seen.contains(id);
        // One that was forgotten meanwhile has ended.
        let current = || shared.workloads.get(id).is_some();
        if wanted && current() {
            all.push(unlisted(&workload, &living, missing > 0));
        }
    }
    chunks(&all, shared.client.max_payload() / 2).map(Answer::Chunks)
}

/// What is shown of a workload that should run and that no nexlet lists. The protocol has no word
/// for "unknown": a Go program takes no list with a word that it does not know.
fn unlisted(workload: &Workload, living: &[NexletId], incomplete: bool) -> WorkloadSummary {
    let unknown = |reason: String| {
        let metadata = Tags::from([
            ("nex.state".to_owned(), "unknown".to_owned()),
            ("nex.reason".to_owned(), reason),
        ]);
        workload.record.summary(WorkloadState::Error, metadata)
    };
    let lives = |nexlet: &NexletId| living.contains(nexlet);
    match (&workload.standing, &workload.holder) {
        (Standing::Waiting, _) | (_, None) => unknown("its nexlet is not there".to_owned()),
        (_, Some(nexlet)) if !lives(nexlet) => {
            unknown(format!("its nexlet `{nexlet}` is not heard of"))
        }
        (Standing::Running, Some(nexlet)) if incomplete => {
            unknown(format!("its nexlet `{nexlet}` did not answer in time"))
        }
        (Standing::Running, Some(nexlet)) => {
            unknown(format!("its nexlet `{nexlet}` does not list it"))
        }
        (Standing::HandedOver(_) | Standing::Due(_), _) => match &workload.refusal {
            Some(refusal) => {
                let reason = format!("it was not taken up again: {refusal}");
                let metadata = Tags::from([("nex.reason".to_owned(), reason)]);
                workload.record.summary(WorkloadState::Error, metadata)
            }
            None => workload
                .record
                .summary(WorkloadState::Starting, Tags::new()),
        },
    }
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
    use nex_protocol::workload::parse_list;

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
