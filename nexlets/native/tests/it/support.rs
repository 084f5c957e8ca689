//! A nexlet in a folder of its own, with a server, and a reader of its feeds.

use std::{fs, path::PathBuf, time::Duration};

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use nex_process::{Launcher, Reaper};
use nex_protocol::{
    Lifecycle, Namespace, NatsConnectionData, NexletId, NodeId, StartWorkloadRequest, Tags,
    WorkloadId, WorkloadSummary, subject::pattern,
};
use nex_testkit::{NatsServer, Process};
use nexlet::{Host, Nexlet as _, Refusal, Start, Started, Stop, StopError};
use nexlet_native::{Native, NativeConfig};
use serde_json::Value;

/// How long anything may take before a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Bench {
    pub(crate) native: Native,
    pub(crate) client: Client,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) server: NatsServer,
    host: Host,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let _reaper: Reaper = Reaper::install().unwrap();
        let server = NatsServer::builder().jetstream(true).start();
        let client = async_nats::connect(server.url()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let native = nexlet_native::nexlet(NativeConfig {
            data_dir: dir.path().join("data"),
            launcher: Launcher::new(env!("CARGO_BIN_EXE_nexlet-native-test-supervisor")),
        });
        let node = NodeId::new(format!("N{}", "A".repeat(55))).unwrap();
        let host = Host::new(client.clone(), node, NexletId::mint());
        Self {
            native,
            client,
            dir,
            server,
            host,
        }
    }

    pub(crate) async fn feed(&self) -> Feed {
        let subscriber = self.client.subscribe(pattern::FEEDS).await.unwrap();
        self.client.flush().await.unwrap();
        Feed {
            subscriber,
            text: String::new(),
        }
    }

    pub(crate) async fn service(&self, id: &str, run: Value) -> Result<Started, Refusal> {
        self.start_one(id, Lifecycle::Service, run).await
    }

    pub(crate) async fn job(&self, id: &str, run: Value) -> Result<Started, Refusal> {
        self.start_one(id, Lifecycle::Job, run).await
    }

    pub(crate) async fn job_owned(&self, id: String, run: Value) -> Result<Started, Refusal> {
        self.job(&id, run).await
    }

    async fn start_one(
        &self,
        id: &str,
        lifecycle: Lifecycle,
        run: Value,
    ) -> Result<Started, Refusal> {
        let request = StartWorkloadRequest {
            description: String::new(),
            metadata: serde_json::Map::new(),
            name: "web".into(),
            namespace: Namespace::default_tenant(),
            reference: String::new(),
            run_request: run.to_string(),
            tags: Tags::new(),
            workload_lifecycle: lifecycle,
            workload_type: "native".into(),
        };
        let credentials = NatsConnectionData {
            nats_servers: vec![self.server.url().to_owned()],
            nats_user_jwt: "jwt".into(),
            nats_user_seed: "SEED".into(),
            ..NatsConnectionData::default()
        };
        let start = Start {
            id: WorkloadId::new(id).unwrap(),
            request,
            credentials,
            namespace_credentials: None,
            existing: false,
            host: self.host.clone(),
        };
        self.native.start(start).await
    }

    pub(crate) async fn stop(&self, id: &str) -> Result<(), StopError> {
        let id = WorkloadId::new(id).unwrap();
        self.native
            .stop(Stop {
                id,
                namespace: Namespace::default_tenant(),
                purge: false,
            })
            .await
    }

    pub(crate) fn summary(&self, id: &str) -> Option<WorkloadSummary> {
        self.native
            .list()
            .into_iter()
            .find(|summary| summary.id.as_str() == id)
    }

    /// The working folder of a workload.
    pub(crate) fn folder(&self, id: &str) -> PathBuf {
        self.dir.path().join("data/workloads").join(id)
    }

    /// All working folders.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("data/workloads")) else {
            return Vec::new();
        };
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Live processes of its workloads, which have the folder in their environment.
    pub(crate) fn processes(&self) -> Vec<Process> {
        nex_testkit::mentioning(&self.dir.path().join("data/workloads"))
    }
}

/// Reads logs and events in the order in which they were published.
pub(crate) struct Feed {
    subscriber: Subscriber,
    text: String,
}

/// What came until an event.
#[derive(Debug)]
pub(crate) struct Until {
    pub(crate) lines: Vec<String>,
    pub(crate) event: Value,
}

impl Feed {
    /// The next message: an event's name with its body, or none where it was output.
    async fn next(&mut self) -> Option<(String, Value)> {
        let message = tokio::time::timeout(LIMIT, self.subscriber.next()).await;
        let message = message.expect("a message in time").unwrap();
        if message.subject.contains(".logs.") {
            self.text
                .push_str(std::str::from_utf8(&message.payload).unwrap());
            return None;
        }
        let name = message.subject.rsplit('.').next().unwrap().to_owned();
        Some((name, serde_json::from_slice(&message.payload).unwrap()))
    }

    /// Reads until a line has come, and forgets what came before.
    pub(crate) async fn line(&mut self, line: &str) {
        while !self.text.lines().any(|seen| seen == line) {
            self.next().await;
        }
        self.text.clear();
    }

    /// Reads until an event has come.
    pub(crate) async fn until_event(&mut self, wanted: &str) -> Until {
        loop {
            match self.next().await {
                Some((name, event)) if name == wanted => {
                    let text = std::mem::take(&mut self.text);
                    return Until {
                        lines: text.lines().map(str::to_owned).collect(),
                        event,
                    };
                }
                _ => {}
            }
        }
    }
}
