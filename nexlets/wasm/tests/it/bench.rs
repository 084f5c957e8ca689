//! A nexlet on a server, and a client to call its functions.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use nex_protocol::{NatsConnectionData, NexletId, NodeId, WorkloadId, ids::unique};
use nex_testkit::NatsServer;
use nexlet::{Host, Nexlet as _, Refusal, Start, Started};
use nexlet_wasm::{WasmConfig, WasmNexlet, nexlet};
use serde_json::json;
use tempfile::TempDir;

/// How long a test waits for what should be there in milliseconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) client: Client,
    pub(crate) nexlet: WasmNexlet,
    server: NatsServer,
    host: Host,
    dir: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let server = NatsServer::builder().jetstream(true).start();
        let client = async_nats::connect(server.url()).await.unwrap();
        let dir = TempDir::new().unwrap();
        let node = NodeId::new(format!("N{}", "A".repeat(55))).unwrap();
        Self {
            host: Host::new(client.clone(), node, NexletId::new("wasm").unwrap()),
            client,
            nexlet: nexlet(WasmConfig::new(dir.path().to_owned())),
            server,
            dir,
        }
    }

    /// Starts a module, given as text, that this makes a file of.
    pub(crate) async fn start(
        &self,
        wat: &str,
        subject: &str,
    ) -> (WorkloadId, Result<Started, Refusal>) {
        self.start_with(wat, subject, "5s").await
    }

    /// Starts a module of which a run may take so long.
    pub(crate) async fn start_with(
        &self,
        wat: &str,
        subject: &str,
        timeout: &str,
    ) -> (WorkloadId, Result<Started, Refusal>) {
        let path = self.dir.path().join("f.wasm");
        std::fs::write(&path, wat::parse_str(wat).unwrap()).unwrap();
        let uri = format!("file://{}", path.display());
        let triggers = [json!({ "subject": subject })];
        self.start_request(&json!({ "uri": uri, "triggers": triggers, "timeout": timeout }))
            .await
    }

    /// The nexlet's folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The files of compiled code.
    pub(crate) fn compiled(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.path().join("compiled")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|is| is == "code") {
                    found.push(path);
                }
            }
        }
        found
    }

    /// Starts what a start request says.
    pub(crate) async fn start_request(
        &self,
        request: &serde_json::Value,
    ) -> (WorkloadId, Result<Started, Refusal>) {
        let id = WorkloadId::new(unique()).unwrap();
        let run_request = request.to_string();
        let body = json!({
            "description": "", "name": "", "namespace": "default", "tags": null,
            "workload_lifecycle": "function", "workload_type": "wasm", "run_request": run_request,
        });
        let started = self.nexlet.start(Start {
            id: id.clone(),
            request: serde_json::from_value(body).unwrap(),
            credentials: NatsConnectionData {
                nats_servers: vec![self.server.url().to_owned()],
                ..NatsConnectionData::default()
            },
            namespace_credentials: None,
            existing: false,
            host: self.host.clone(),
        });
        (id, started.await)
    }

    pub(crate) async fn call(
        &self,
        subject: impl Into<String>,
        payload: impl Into<Bytes>,
    ) -> Message {
        let asked = self.client.request(subject.into(), payload.into());
        let reply = tokio::time::timeout(LIMIT, asked).await;
        reply.expect("no reply in time").unwrap()
    }
}

/// The next message, as text.
pub(crate) async fn next_text(subscriber: &mut Subscriber) -> String {
    let message = tokio::time::timeout(LIMIT, subscriber.next()).await;
    let message = message.expect("no message in time").unwrap();
    String::from_utf8(message.payload.to_vec()).unwrap()
}
