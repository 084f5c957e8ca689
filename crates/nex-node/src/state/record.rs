//! One workload as it is kept.

use jiff::Timestamp;
use nex_protocol::{
    NexletId, StartWorkloadRequest, Tags, WorkloadId, WorkloadState, WorkloadSummary,
};
use serde::{Deserialize, Serialize};

/// A workload that should run.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its id.
    pub id: WorkloadId,
    /// What was asked for, with its final name.
    pub request: StartWorkloadRequest,
    /// The nexlet that has it, where it is one that the node did not start: such a nexlet lives on
    /// when the node ends, and the workload with it.
    pub remote_nexlet: Option<NexletId>,
    /// When it was started first; unknown where a Go node has kept it.
    pub started: Option<Timestamp>,
}

/// What stands beside the fields of the start request. A Go node ignores it.
#[derive(Serialize, Deserialize)]
struct Beside {
    #[serde(
        default,
        rename = "nex_remote_nexlet",
        skip_serializing_if = "Option::is_none"
    )]
    remote_nexlet: Option<NexletId>,
    #[serde(
        default,
        rename = "nex_started",
        skip_serializing_if = "Option::is_none"
    )]
    started: Option<Timestamp>,
}

#[derive(Serialize)]
struct Stored<'a> {
    #[serde(flatten)]
    request: &'a StartWorkloadRequest,
    #[serde(flatten)]
    beside: Beside,
}

impl Record {
    /// The value under which it is kept: the start request as a Go node keeps it, and what is ours.
    pub(super) fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            request: &self.request,
            beside: Beside {
                remote_nexlet: self.remote_nexlet.clone(),
                started: self.started,
            },
        };
        serde_json::to_vec(&stored).expect("a start request is made of texts and JSON")
    }

    pub(super) fn decode(id: WorkloadId, value: &[u8]) -> Result<Self, serde_json::Error> {
        let beside: Beside = serde_json::from_slice(value)?;
        Ok(Self {
            id,
            request: serde_json::from_slice(value)?,
            remote_nexlet: beside.remote_nexlet,
            started: beside.started,
        })
    }

    /// What a list shows of it while its nexlet does not.
    pub(crate) fn summary(&self, state: WorkloadState, metadata: Tags) -> WorkloadSummary {
        let request = &self.request;
        let started = self
            .started
            .map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        WorkloadSummary {
            id: self.id.clone(),
            metadata,
            name: request.name.clone(),
            namespace: Some(request.namespace.clone()),
            runtime: "--".to_owned(),
            start_time: started.unwrap_or_default(),
            tags: request.tags.clone(),
            workload_lifecycle: request.workload_lifecycle.to_string(),
            workload_state: state,
            workload_type: request.workload_type.clone(),
        }
    }
}
