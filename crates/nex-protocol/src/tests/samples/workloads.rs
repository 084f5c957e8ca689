//! Start requests, stops and lists.

use std::time::Duration;

use super::{namespace, nexlets::connection, tags, workload};
use crate::{
    GoDuration, Lifecycle, Nexfile, StartWorkloadRequest, WorkloadState, WorkloadSummary,
    tests::messages::Message,
    workload::{
        ListWorkloadsRequest, NexletStartWorkloadRequest, StartWorkloadResponse,
        StopWorkloadRequest, StopWorkloadResponse,
    },
};

pub(super) fn start() -> StartWorkloadRequest {
    StartWorkloadRequest {
        description: "serves <pages>".into(),
        metadata: serde_json::from_str(r#"{"owner":{"team":1}}"#).unwrap(),
        name: "web".into(),
        namespace: namespace(),
        reference: "https://example.com/web".into(),
        run_request: r#"{"uri":"file:///usr/bin/web","argv":["-p","80"]}"#.into(),
        tags: tags(),
        workload_lifecycle: Lifecycle::Service,
        workload_type: "native".into(),
    }
}

pub(super) fn all() -> Vec<Message> {
    let mut all = starts();
    all.extend(stops());
    all.extend(lists());
    all
}

fn starts() -> Vec<Message> {
    vec![
        Message::new(
            "start-workload-request",
            "description name namespace run_request tags workload_lifecycle workload_type",
            "metadata reference",
            "",
            &start(),
        ),
        Message::new(
            "start-workload-response",
            "id name",
            "",
            "",
            &StartWorkloadResponse {
                id: workload(),
                name: "web".into(),
            },
        ),
        Message::new(
            "nexlet-start-workload-request",
            "request workload_creds",
            "",
            "namespace_creds existing",
            &NexletStartWorkloadRequest {
                request: start(),
                workload_creds: connection(),
                namespace_creds: Some(connection()),
                existing: true,
            },
        ),
        Message::new(
            "nexfile",
            "name type lifecycle start_request",
            "description tags",
            "",
            &Nexfile {
                name: "web".into(),
                description: "serves pages".into(),
                tags: tags(),
                workload_type: "native".into(),
                lifecycle: Lifecycle::Service,
                start_request: serde_json::json!({"uri": "file:///usr/bin/web"}),
            },
        ),
    ]
}

fn stops() -> Vec<Message> {
    vec![
        Message::new(
            "stop-workload-request",
            "namespace",
            "",
            "wait purge",
            &StopWorkloadRequest {
                namespace: namespace(),
                wait: Some(GoDuration(Duration::from_secs(90))),
                purge: true,
            },
        ),
        Message::new(
            "stop-workload-response",
            "id message stopped workload_type",
            "",
            "",
            &StopWorkloadResponse {
                id: workload().to_string(),
                message: "stopping".into(),
                stopped: true,
                workload_type: "native".into(),
            },
        ),
    ]
}

fn lists() -> Vec<Message> {
    vec![
        Message::new(
            "list-workloads-request",
            "filter namespace",
            "",
            "",
            &ListWorkloadsRequest {
                filter: vec!["web".into()],
                namespace: namespace(),
            },
        ),
        Message::new(
            "workload-summary",
            "id name runtime start_time tags workload_lifecycle workload_state workload_type",
            "metadata namespace",
            "",
            &WorkloadSummary {
                id: workload(),
                metadata: tags(),
                name: "web".into(),
                namespace: Some(namespace()),
                runtime: "--".into(),
                start_time: "2026-01-02T03:04:05Z".into(),
                tags: tags(),
                workload_lifecycle: "service".into(),
                workload_state: WorkloadState::Running,
                workload_type: "native".into(),
            },
        ),
    ]
}
