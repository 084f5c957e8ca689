//! A nexlet on a server, and a client to call its functions.

use std::{path::Path, time::Duration};

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use nex_functions::Policy;
use nex_protocol::{ErrorCode, NatsConnectionData, NexletId, NodeId, WorkloadId, ids::unique};
use nex_testkit::{NatsServer, NatsServerBuilder};
use nexlet::{Host, Nexlet as _, Refusal, Start, Started};
use nexlet_js::{JsConfig, JsNexlet, nexlet};
use tempfile::TempDir;

/// How long a test waits for what should be there in milliseconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) client: Client,
    pub(crate) nexlet: JsNexlet,
    /// Gone where a test has taken it to end it.
    server: Option<NatsServer>,
    url: String,
    host: Host,
    dir: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(Policy::LOCAL).await
    }

    pub(crate) async fn with(policy: Policy) -> Self {
        Self::of(policy, NatsServer::builder().jetstream(true)).await
    }

    pub(crate) async fn on(server: NatsServerBuilder) -> Self {
        Self::of(Policy::LOCAL, server).await
    }

    async fn of(policy: Policy, server: NatsServerBuilder) -> Self {
        let server = server.start();
        let client = async_nats::connect(server.url()).await.unwrap();
        let node = NodeId::new(format!("N{}", "A".repeat(55))).unwrap();
        Self {
            host: Host::new(client.clone(), node, NexletId::new("js").unwrap()),
            client,
            nexlet: nexlet(JsConfig {
                policy,
                ..JsConfig::default()
            }),
            url: server.url().to_owned(),
            server: Some(server),
            dir: TempDir::new().unwrap(),
        }
    }

    /// Gives the server away, which a test may end and start again.
    pub(crate) fn take_server(&mut self) -> NatsServer {
        self.server.take().expect("nobody has taken it before")
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
        let more = serde_json::json!({ "services": services });
        self.start_asking(script, subject, more).await.1
    }

    /// Starts a script with a start request that has more in it.
    pub(crate) async fn start_asking(
        &self,
        script: &str,
        subject: &str,
        more: serde_json::Value,
    ) -> (WorkloadId, Result<Started, Refusal>) {
        let path = self.dir.path().join("f.js");
        std::fs::write(&path, script).unwrap();
        let mut request = more;
        request["uri"] = format!("file://{}", path.display()).into();
        request["triggers"] = serde_json::json!([{ "subject": subject }]);
        self.start_request(&request).await
    }

    /// Starts what is in a folder with these files.
    pub(crate) async fn start_files(
        &self,
        files: &[(&str, &str)],
        subject: &str,
    ) -> Result<Started, Refusal> {
        let folder = TempDir::new().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let path = self.dir.path().join("f.tar");
        std::fs::write(&path, nexlet_js::pack(folder.path()).unwrap()).unwrap();
        self.start_file(&path, subject).await.1
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
                nats_servers: vec![self.url.clone()],
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

/// What a failed call says.
pub(crate) fn failure_of(reply: &Message) -> (ErrorCode, String) {
    nex_nats::read_error(reply).expect("the call failed")
}

/// Calls a script whose result is JSON.
pub(crate) async fn json_of(bench: &Bench, subject: &str, payload: &str) -> serde_json::Value {
    let reply = bench.call(subject, payload.to_owned()).await;
    if let Some((_, text)) = nex_nats::read_error(&reply) {
        panic!("{subject}: {text}");
    }
    serde_json::from_slice(&reply.payload).expect("the result is JSON")
}

/// The next message, as text.
pub(crate) async fn next_text(subscriber: &mut Subscriber) -> String {
    let message = tokio::time::timeout(LIMIT, subscriber.next()).await;
    let message = message.expect("no message in time").unwrap();
    String::from_utf8(message.payload.to_vec()).unwrap()
}
