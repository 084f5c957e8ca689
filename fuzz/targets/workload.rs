//! Start requests, stops and lists.
#![no_main]

use nex_protocol::{
    Nexfile, StartWorkloadRequest, WorkloadSummary,
    workload::{
        ListWorkloadsRequest, NexletStartWorkloadRequest, StartWorkloadResponse,
        StopWorkloadRequest, StopWorkloadResponse,
    },
};

nex_fuzz::messages![
    ListWorkloadsRequest,
    Nexfile,
    NexletStartWorkloadRequest,
    Option<Vec<WorkloadSummary>>,
    StartWorkloadRequest,
    StartWorkloadResponse,
    StopWorkloadRequest,
    StopWorkloadResponse,
    WorkloadSummary,
];
