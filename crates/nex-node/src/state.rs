//! The state that a node keeps over its restarts: workloads that should run, remote nexlets that register
//! only once, and the order to drain.
//!
//! The nexlets own what runs. What is kept here is written when a nexlet has started a workload,
//! before that is acknowledged, and removed when the workload has ended for good; a node that
//! starts again hands it back to its nexlets.

mod disk;
mod kv;
mod record;

use std::{fmt::Debug, pin::Pin};

use jiff::Timestamp;
use nex_protocol::{NexletId, WorkloadId, registration::RegisterRequest};

pub use disk::DiskStore;
pub use kv::KvStore;
pub use record::Record;

/// What a store is asked for, under way. Dropping it does not undo what was asked.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StateError>> + Send + 'a>>;

/// Keeps records of workloads for one node. Nobody else writes to it while the node runs.
pub trait StateStore: Debug + Send + Sync + 'static {
    /// All records, in no order. One that cannot be read is left out, with a warning in the log,
    /// and left where it is.
    fn load(&self) -> Pending<'_, Vec<Record>>;

    /// Keeps a record; one of the same id is replaced. It is durable when this resolves.
    fn put<'a>(&'a self, record: &'a Record) -> Pending<'a, ()>;

    /// Removes a record for good; not an error where there is none.
    fn remove<'a>(&'a self, id: &'a WorkloadId, workload_type: &'a str) -> Pending<'a, ()>;

    /// The remote nexlets that were kept, with their registrations. A store that keeps none has none.
    fn load_nexlets(&self) -> Pending<'_, Vec<(NexletId, RegisterRequest)>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Keeps the registration of a remote nexlet; one of the same id is replaced. It is durable when
    /// this resolves, unless the store keeps none.
    fn put_nexlet<'a>(
        &'a self,
        _id: &'a NexletId,
        _registration: &'a RegisterRequest,
    ) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    /// Removes a remote nexlet; not an error where there is none.
    fn remove_nexlet<'a>(&'a self, _id: &'a NexletId) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    /// When the node is to end, where it is a lame duck.
    fn load_lameduck(&self) -> Pending<'_, Option<Timestamp>>;

    /// Keeps when the node is to end, or that it is not. It is durable when this resolves.
    fn put_lameduck(&self, ends: Option<Timestamp>) -> Pending<'_, ()>;
}

/// Why a store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be opened.
    #[error("failed to open `{place}`")]
    Open {
        /// The file or the bucket.
        place: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It cannot be read.
    #[error("failed to read `{place}`")]
    Read {
        /// The file or the bucket.
        place: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It cannot be written to.
    #[error("failed to write to `{place}`")]
    Write {
        /// The file or the bucket.
        place: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The record does not fit.
    #[error("the start request has {bytes} bytes, `{place}` takes {most} at most")]
    TooLarge {
        /// The bucket.
        place: String,
        /// The size of the record.
        bytes: usize,
        /// The largest size.
        most: usize,
    },
}

#[cfg(test)]
mod tests;
