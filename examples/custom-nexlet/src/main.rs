//! A nexlet of one's own: a workload of type `timer` writes a line every so often.

use nex_nats::{Auth, ConnectOptions, DEFAULT_SERVER};
use nex_protocol::{Lifecycle, LogStream, StartWorkloadRequest, Tags, WorkloadId, WorkloadSummary};
use nexlet::{Description, End, Nexlet, Refusal, Start, Started, Stop, StopError};
use serde_json::json;
use std::{collections::BTreeMap, env, mem, sync, time::Duration};

/// The JSON of `--start-request`.
#[derive(serde::Deserialize)]
struct Timer {
    every_ms: u64,
    text: String,
}

struct Running(WorkloadSummary, Start, tokio::task::JoinHandle<()>);

async fn end(Running(_, start, task): Running) {
    task.abort();
    task.await.ok(); // Only now is it dead.
    let (id, request, host) = (&start.id, &start.request, &start.host);
    host.workload_stopped(id, request, Tags::new(), None).await;
}

#[derive(Default)]
struct Timers(sync::Mutex<BTreeMap<WorkloadId, Running>>);

impl Timers {
    fn lock(&self) -> sync::MutexGuard<'_, BTreeMap<WorkloadId, Running>> {
        self.0.lock().expect("nobody panics with the lock")
    }
}

impl Nexlet for Timers {
    fn describe(&self) -> Description {
        Description {
            name: "timer".into(),
            workload_type: "timer".into(),
            version: "1.0.0".into(),
            description: "writes a line every so often".into(),
            lifecycles: vec![Lifecycle::Service],
            max_workloads: 0,
            start_request_schema: json!({"type": "object", "required": ["every_ms", "text"]}),
        }
    }

    async fn start(&self, mut start: Start) -> Result<Started, Refusal> {
        let timer: Timer = serde_json::from_str(&start.request.run_request)
            .map_err(|error| Refusal::bad_request(error.to_string()))?;
        if start.request.name.is_empty() {
            start.request.name = nexlet::made_up_name();
        }
        let (id, request, host) = (&start.id, &start.request, &start.host);
        host.workload_started(id, request, Tags::new()).await;
        let log = host.log(&request.namespace, id);
        let task = tokio::spawn(async move {
            loop {
                log.line(LogStream::Stdout, &timer.text).await;
                tokio::time::sleep(Duration::from_millis(timer.every_ms.max(1))).await;
            }
        });
        let (id, name) = (id.clone(), request.name.clone());
        self.lock()
            .insert(id, Running(start.summary(), start, task));
        Ok(Started { name })
    }

    async fn stop(&self, stop: Stop) -> Result<(), StopError> {
        let running = self.lock().remove(&stop.id);
        end(running.ok_or(StopError::NotFound)?).await;
        Ok(())
    }

    fn list(&self) -> Vec<WorkloadSummary> {
        self.lock().values().map(|it| it.0.clone()).collect()
    }

    fn get(&self, id: &WorkloadId) -> Option<StartWorkloadRequest> {
        self.lock().get(id).map(|it| it.1.request.clone())
    }

    async fn shutdown(&self, _grace: Duration) {
        let all = mem::take(&mut *self.lock());
        for running in all.into_values() {
            end(running).await;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let nexus = env::args().nth(1).unwrap_or_else(|| "nexus".into());
    let url = env::var("NATS_URL").unwrap_or_else(|_| DEFAULT_SERVER.into());
    let mut nats = ConnectOptions::new([url], "timer");
    nats.auth = env::var("NATS_CREDS").map_or(Auth::None, |path| Auth::CredsFile(path.into()));
    let end = End::when(async { drop(tokio::signal::ctrl_c().await) });
    let timers = sync::Arc::new(Timers::default());
    Ok(nexlet::run_remote(timers, &nats, &nexus.parse()?, end, |_| {}).await?)
}
