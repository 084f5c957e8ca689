//! Start requests, stops and lists.

use proptest::{collection::vec, prelude::*};

use super::{
    any_struct, duration, json, lifecycle, maybe, namespace, nexlets::connection, object, tags,
    text, workload,
};
use crate::{
    Nexfile, StartWorkloadRequest, WorkloadState, WorkloadSummary,
    workload::{
        ListWorkloadsRequest, NexletStartWorkloadRequest, StartWorkloadResponse,
        StopWorkloadRequest, StopWorkloadResponse,
    },
};

any_struct!(start_request: StartWorkloadRequest {
    description: text(),
    metadata: object(json()),
    name: text(),
    namespace: namespace(),
    reference: text(),
    run_request: text(),
    tags: tags(),
    workload_lifecycle: lifecycle(),
    workload_type: text(),
});

any_struct!(start_response: StartWorkloadResponse { id: workload(), name: text() });

any_struct!(nexlet_start_request: NexletStartWorkloadRequest {
    request: start_request(),
    workload_creds: connection(),
    namespace_creds: maybe(connection()),
    existing: any::<bool>(),
});

any_struct!(stop_request: StopWorkloadRequest {
    namespace: namespace(),
    wait: maybe(duration()),
    purge: any::<bool>(),
});

any_struct!(stop_response: StopWorkloadResponse {
    id: text(),
    message: text(),
    stopped: any::<bool>(),
    workload_type: text(),
});

any_struct!(list_request: ListWorkloadsRequest {
    filter: vec(text(), 0..4),
    namespace: namespace(),
});

fn state() -> impl Strategy<Value = WorkloadState> {
    prop_oneof![
        Just(WorkloadState::Starting),
        Just(WorkloadState::Running),
        Just(WorkloadState::Warm),
        Just(WorkloadState::Stopping),
        Just(WorkloadState::Stopped),
        Just(WorkloadState::Error),
    ]
}

any_struct!(summary: WorkloadSummary {
    id: workload(),
    metadata: tags(),
    name: text(),
    namespace: maybe(namespace()),
    runtime: text(),
    start_time: text(),
    tags: tags(),
    workload_lifecycle: text(),
    workload_state: state(),
    workload_type: text(),
});

any_struct!(nexfile: Nexfile {
    name: text(),
    description: text(),
    tags: tags(),
    workload_type: text(),
    lifecycle: lifecycle(),
    start_request: json(),
});
