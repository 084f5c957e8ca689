//! What nodes, nexlets and clients say to each other: subjects, messages, ids and error codes.
//!
//! The wire is that of the Go Nex 0.4, extended only by optional fields that Go peers ignore.
//! This crate does no I/O: bytes come in, types go out. Encoders always send every key that a Go
//! decoder requires, also when it is empty; decoders take `null` where Go writes a nil map or
//! slice, and ignore what they do not know.
//!
//! | module | what is in it |
//! |---|---|
//! | [`ids`] | names and ids, each one subject token, parsed once |
//! | [`subject`] | every subject, its text form and the patterns that services subscribe to |
//! | [`control`] | what clients ask of nodes |
//! | [`registration`] | what nexlets and nodes say to each other |
//! | [`workload`] | start requests, summaries, lifecycles, states |
//! | [`connection`] | how a receiver connects to NATS |
//! | [`event`] | what is published about nodes, nexlets and workloads |
//! | [`error`] | codes, the error envelope, header values |
//! | [`function`] | triggers and the headers of a function's reply |
//! | [`nexfile`] | the file in which people write down a workload |
//! | [`environment`] | environments that only one nexlet can read |
//! | [`ingress`] | what a nexlet tells an ingress |
//! | [`duration`] | durations in the text form of Go |

pub mod connection;
pub mod control;
pub mod dead_letter;
pub mod duration;
pub mod environment;
pub mod error;
pub mod event;
pub mod function;
pub mod ids;
pub mod ingress;
pub mod nexfile;
pub mod registration;
pub mod subject;
pub mod text;
pub mod workload;

mod lenient;

#[cfg(test)]
mod tests;

pub use connection::NatsConnectionData;
pub use duration::{DURATION_PATTERN, GoDuration};
pub use environment::EncryptedEnvironment;
pub use error::{ErrorBody, ErrorCode, HINT_HEADER, header_value};
pub use ids::{BidId, InvalidId, Namespace, NexletId, NexusName, NodeId, WorkloadId};
pub use lenient::null_default;
pub use nexfile::Nexfile;
pub use subject::{LogStream, Subject};
pub use workload::{Lifecycle, StartWorkloadRequest, WorkloadState, WorkloadSummary};

/// String-to-string pairs, in a stable order: tags and metadata.
pub type Tags = std::collections::BTreeMap<String, String>;

/// Header by which our replies name the node they come from.
///
/// Go peers neither send nor read it; a reply without it is counted as one from a node unnamed.
pub const NODE_HEADER: &str = "Nex-Node";

/// Header on every chunk but the last of a list reply that was cut into several messages.
pub const MORE_HEADER: &str = "Nex-More";

/// Header on a stop that only one nexlet of a node is to obey: its id. Ours ignore a stop that is
/// another's. The workload has not ended: another nexlet has it.
pub const ONLY_HEADER: &str = "Nex-Only";

/// The largest control request a node reads, in bytes; a larger one is refused with 400.
pub const MAX_CONTROL_REQUEST_BYTES: usize = 256 * 1024;

/// The JetStream stream in which `nex up` keeps the feeds.
pub const FEEDS_STREAM: &str = "NEX_FEEDS";

/// The object store bucket for artifacts that the command line uploads.
pub const ARTIFACT_BUCKET: &str = "NEXCLIFILES";
