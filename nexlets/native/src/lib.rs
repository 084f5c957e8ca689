//! The nexlet for native programs: services and jobs as processes of this machine.
//!
//! ```text
//!   Native ── start ──> owner task, one per workload
//!                         │  fetch the artifact, make the working folder, start the tree
//!                         v
//!                      running ──exit of a service──> error ──back-off──> running …
//!                         │ \──exit of a job──> stopped or error, listed for ten minutes
//!                       stop
//!                         v
//!                      stopping ──tree is dead──> stopped: output sent, event, folder removed
//! ```
//!
//! # Invariants
//!
//! - The owner task alone changes a workload's state; everybody else reads it or asks.
//! - A stop is answered when no process of the workload is left and its last output is sent.
//! - A process sees the environment of the module `environment` and nothing of the node's.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nex_artifact::Cache;
use nex_process::{Exit, Launcher};
use nex_protocol::{Lifecycle, StartWorkloadRequest, WorkloadId, WorkloadSummary};
use nexlet::{Description, Nexlet, Refusal, Start, Started, Stop, StopError};
use tokio::sync::OnceCell;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

mod backoff;
mod environment;
mod finished;
mod folder;
mod program;
mod registry;
mod request;
mod script;
mod status;
mod workload;

use registry::{Handle, Registry};
use request::StartRequest;
use workload::Workload;

/// The type of workload that this nexlet runs.
pub const WORKLOAD_TYPE: &str = "native";

/// How long killed processes may take to be gone. Only one that hangs in the kernel takes longer.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Where a nexlet works, and with what.
#[derive(Clone, Debug)]
pub struct NativeConfig {
    /// The folder for working folders and the artifact cache. It belongs to this nexlet alone:
    /// working folders that are in it already are those of a predecessor, and are deleted.
    pub data_dir: PathBuf,
    /// Starts process trees.
    pub launcher: Launcher,
}

/// Makes the nexlet. It lists the jobs that have ended in the last ten minutes, those of a
/// predecessor too; their records are read at once, which blocks. Before its first start it waits
/// until the workloads of a predecessor that was killed have ended, and deletes their folders.
///
/// # Panics
/// Outside of a tokio runtime.
#[must_use]
pub fn nexlet(config: NativeConfig) -> Native {
    let data_dir = std::path::absolute(&config.data_dir).unwrap_or(config.data_dir);
    let parts = Arc::new(Parts {
        cache: Cache::new(data_dir.join("artifacts")),
        data_dir,
        launcher: config.launcher,
        registry: Registry::default(),
        closing: CancellationToken::new(),
        tasks: TaskTracker::new(),
        alone: OnceCell::new(),
    });
    for finished in finished::load(&parts.data_dir) {
        let (id, remaining) = (finished.id.clone(), finished.remaining());
        if parts.registry.add(Handle::finished(finished)).is_ok() {
            let forgetting = workload::forget_later(Arc::clone(&parts), id, remaining);
            parts.tasks.spawn(forgetting);
        }
    }
    Native(parts)
}

fn workloads_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("workloads")
}

/// The nexlet for native programs. See [`nexlet()`].
#[derive(Debug)]
pub struct Native(Arc<Parts>);

/// What all workloads use.
#[derive(Debug)]
struct Parts {
    cache: Cache,
    data_dir: PathBuf,
    launcher: Launcher,
    registry: Registry,
    /// Cancelled when everything ends.
    closing: CancellationToken,
    tasks: TaskTracker,
    /// Set when nothing of a predecessor is left: the recorded exits of its jobs.
    alone: OnceCell<HashMap<WorkloadId, Exit>>,
}

impl Parts {
    /// Resolves when nothing of a predecessor runs: a restored workload must not meet itself. Returns
    /// how its jobs ended that may not have been reported.
    async fn alone(&self) -> &HashMap<WorkloadId, Exit> {
        let become_alone = async {
            let dir = workloads_dir(&self.data_dir);
            let read = dir.clone();
            let left = tokio::task::spawn_blocking(move || folder::left_supervisors(&read)).await;
            for supervisor in left.unwrap_or_default() {
                let pid = supervisor.pid();
                match tokio::time::timeout(KILL_LIMIT, supervisor.ended()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => warn!(pid, %error, "cannot wait for a workload of old"),
                    Err(_elapsed) => warn!(pid, "a workload of old does not end"),
                }
            }
            let clearing = tokio::task::spawn_blocking(move || {
                let exits = folder::left_exits(&dir);
                folder::remove_leftovers(&dir);
                exits
            });
            clearing.await.unwrap_or_else(|error| {
                warn!(%error, "old working folders are not deleted");
                HashMap::new()
            })
        };
        self.alone.get_or_init(|| become_alone).await
    }
}

impl Nexlet for Native {
    fn describe(&self) -> Description {
        Description {
            name: "nex_native".to_owned(),
            workload_type: WORKLOAD_TYPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: "Runs programs as processes of the host".to_owned(),
            lifecycles: vec![Lifecycle::Service, Lifecycle::Job],
            max_workloads: 0,
            start_request_schema: request::schema(),
        }
    }

    async fn start(&self, mut start: Start) -> Result<Started, Refusal> {
        if self.0.closing.is_cancelled() {
            return Err(Refusal::busy("this nexlet ends"));
        }
        let run = StartRequest::parse(&start.request.run_request)
            .map_err(|error| Refusal::bad_request(nexlet::Chain(&error).to_string()))?;
        if start.request.name.is_empty() {
            start.request.name = nexlet::made_up_name();
        }
        let name = start.request.name.clone();
        let (workload, ready_rx) = Workload::new(Arc::clone(&self.0), start, run)?;
        self.0.tasks.spawn(workload.run());
        match ready_rx.await {
            Ok(ready) => ready.map(|()| Started { name }),
            Err(_gone) => Err(Refusal::busy("the workload ended while it started")),
        }
    }

    async fn stop(&self, stop: Stop) -> Result<(), StopError> {
        let handle = self.0.registry.find(&stop.id).ok_or(StopError::NotFound)?;
        let grace = handle.stop(None);
        let limit = grace + KILL_LIMIT;
        match tokio::time::timeout(limit, handle.ended()).await {
            Ok(()) => Ok(()),
            Err(_elapsed) => {
                let text = format!("its processes are still there {limit:?} after they were told");
                Err(StopError::StillAlive(text))
            }
        }
    }

    fn list(&self) -> Vec<WorkloadSummary> {
        self.0.registry.summaries()
    }

    fn active(&self) -> usize {
        self.0.registry.active()
    }

    fn get(&self, id: &WorkloadId) -> Option<StartWorkloadRequest> {
        self.0
            .registry
            .find(id)
            .map(|handle| handle.request().clone())
    }

    async fn shutdown(&self, grace: Duration) {
        self.0.closing.cancel();
        for handle in self.0.registry.all() {
            handle.stop(Some(grace));
        }
        self.0.tasks.close();
        if tokio::time::timeout(grace + KILL_LIMIT, self.0.tasks.wait())
            .await
            .is_err()
        {
            warn!("processes are left that do not die");
        }
    }
}
