//! A nexlet on a server, and a client to call its functions.

use std::{path::Path, time::Duration};

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use nex_functions::Policy;
use nex_protocol::{NatsConnectionData, NexletId, NodeId, WorkloadId, ids::unique};
use nex_testkit::NatsServer;
use nexlet::{Host, Nexlet as _, Refusal, Start, Started};
use nexlet_js::{JsConfig, JsNexlet, nexlet};
use tempfile::TempDir;

/// How long a test waits for what should be there in milliseconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) client: Client,
    pub(crate) nexlet: JsNexlet,
    server: NatsServer,
    host: Host,
    dir: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(Policy::LOCAL).await
    }

    pub(crate) async fn with(policy: Policy) -> Self {
        let server = NatsServer::builder().jetstream(true).start();
        let client = async_nats::connect(server.url()).await.unwrap();
        let node = NodeId::new(format!("N{}", "A".repeat(55))).unwrap();
        Self {
            host: Host::new(client.clone(), node, NexletId::new("js").unwrap()),
            client,
            nexlet: nexlet(JsConfig {
                policy,
                ..JsConfig::default()
            }),
            server,
            dir: TempDir::new().unwrap(),
        }
    }

    /// Starts a script that this makes a file of.
    pub(crate) async fn start(&self, script: &str, subject: &str) -> Result<Started, Refusal> {
        let path = self.dir.path().join("f.js");
        std::fs::write(&path, script).unwrap();
        self.start_file(&path, subject).await.1
    }

    pub(crate) async fn start_file(
        &self,
        path: &Path,
        subject: &str,
    ) -> (WorkloadId, Result<Started, Refusal>) {
        self.start_uri(&format!("file://{}", path.display()), subject)
            .await
    }

    pub(crate) async fn start_uri(
        &self,
        uri: &str,
        subject: &str,
    ) -> (WorkloadId, Result<Started, Refusal>) {
        let request = serde_json::json!({ "uri": uri, "triggers": [{ "subject": subject }] });
        self.start_request(&request).await
    }

    /// Starts a script with these services.
    pub(crate) async fn start_with(
        &self,
        script: &str,
        subject: &str,
        services: serde_json::Value,
    ) -> Result<Started, Refusal> {
        let path = self.dir.path().join("f.js");
        std::fs::write(&path, script).unwrap();
        let uri = format!("file://{}", path.display());
        let triggers = [serde_json::json!({ "subject": subject })];
        let request = serde_json::json!({ "uri": uri, "triggers": triggers, "services": services });
        self.start_request(&request).await.1
    }

    async fn start_request(
        &self,
        request: &serde_json::Value,
    ) -> (WorkloadId, Result<Started, Refusal>) {
        let id = WorkloadId::new(unique()).unwrap();
        let run_request = request.to_string();
        let body = serde_json::json!({
            "description": "", "name": "", "namespace": "default", "tags": null,
            "workload_lifecycle": "function", "workload_type": "js", "run_request": run_request,
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
