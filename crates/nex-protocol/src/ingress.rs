//! What a nexlet tells an ingress: where the ports of its workloads are.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{NodeId, WorkloadId},
    lenient::null_default,
};

/// The name of the event that carries an [`IngressMessage`]; its subject names the nexlet.
pub const INGRESS_EVENT: &str = "INGRESS";

/// What an ingress shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum IngressCommand {
    /// Route to the workload.
    Add,
    /// Route to it no longer.
    Remove,
}

/// A workload's port has come or gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IngressMessage {
    /// Which of the two.
    pub command: IngressCommand,
    /// `<host>:<port>` of what has come; empty for what has gone.
    #[serde(deserialize_with = "null_default")]
    pub upstream: String,
    /// The workload.
    pub workload_id: WorkloadId,
}

/// Where a nexlet's machine is, and where it reports its ports. Go Nex defines and never sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IngressData {
    /// Address of the machine.
    #[serde(deserialize_with = "null_default")]
    pub host_machine_ip_addr: String,
    /// Subject of the reports.
    #[serde(deserialize_with = "null_default")]
    pub ingress_reporting_subject: String,
}

/// A nexlet's answer to who looks for a workload that it runs; one that does not run it is silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkloadLocation {
    /// The node on which it runs.
    pub node_id: NodeId,
}
