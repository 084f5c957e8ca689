//! A fake node, and a nexlet whose workloads are entries in a map.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{Client, HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use nex_nats::ConnectOptions;
use nex_protocol::{
    Lifecycle, NODE_HEADER, NatsConnectionData, NexletId, NodeId, StartWorkloadRequest, Subject,
    Tags, WorkloadId, WorkloadState, WorkloadSummary,
    registration::{RegisterRequest, RegisterResponse},
};
use nex_testkit::NatsServer;
use nexlet::{
    Description, Host, Nexlet, Refusal, RunError, RunnerConfig, Start, Started, Stop, StopError,
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The next message.
pub(crate) async fn next(subscriber: &mut Subscriber) -> Message {
    let message = tokio::time::timeout(LIMIT, subscriber.next()).await;
    message
        .expect("a message in time")
        .expect("a live subscription")
}

/// Workloads that do nothing. One named `slow` dies, and one asked to be slow starts, only when the
/// test lets go.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    max_workloads: u64,
    workloads: Mutex<BTreeMap<WorkloadId, (Host, StartWorkloadRequest)>>,
    let_go: watch::Sender<bool>,
}

impl Fake {
    pub(crate) fn limited(max_workloads: u64) -> Self {
        Self {
            max_workloads,
            ..Self::default()
        }
    }

    pub(crate) fn let_go(&self) {
        self.let_go.send_replace(true);
    }
}

impl Nexlet for Fake {
    fn describe(&self) -> Description {
        Description {
            name: "fake".into(),
            workload_type: "fake".into(),
            version: "1.0.0".into(),
            description: "does nothing".into(),
            lifecycles: vec![Lifecycle::Service, Lifecycle::Job],
            max_workloads: self.max_workloads,
            start_request_schema: json!({"type": "object"}),
        }
    }

    async fn start(&self, start: Start) -> Result<Started, Refusal> {
        let run: Value = serde_json::from_str(&start.request.run_request)
            .map_err(|error| Refusal::bad_request(error.to_string()))?;
        if run["slow"] == true {
            let mut go = self.let_go.subscribe();
            go.wait_for(|go| *go).await.unwrap();
        }
        if let Some(text) = run["refuse"].as_str() {
            return Err(Refusal::bad_request(text));
        }
        if run["show_credentials"] == true {
            let both = json!([start.credentials, start.namespace_credentials]);
            return Err(Refusal::bad_request(both.to_string()));
        }
        assert!(run["panic"].is_null(), "a panic on purpose");
        let mut request = start.request;
        if request.name.is_empty() {
            request.name = nexlet::made_up_name();
        }
        let name = request.name.clone();
        start
            .host
            .workload_started(&start.id, &request, Tags::new())
            .await;
        let mut workloads = self.workloads.lock().unwrap();
        workloads.insert(start.id, (start.host, request));
        Ok(Started { name })
    }

    async fn stop(&self, stop: Stop) -> Result<(), StopError> {
        if stop.id.as_str() == "slow" {
            let mut gone = self.let_go.subscribe();
            gone.wait_for(|gone| *gone).await.unwrap();
        }
        let removed = self.workloads.lock().unwrap().remove(&stop.id);
        let (host, request) = removed.ok_or(StopError::NotFound)?;
        host.workload_stopped(&stop.id, &request, Tags::new(), None)
            .await;
        Ok(())
    }

    fn list(&self) -> Vec<WorkloadSummary> {
        let workloads = self.workloads.lock().unwrap();
        let summary =
            |(id, (_, request)): (&WorkloadId, &(Host, StartWorkloadRequest))| WorkloadSummary {
                id: id.clone(),
                metadata: Tags::new(),
                name: request.name.clone(),
                namespace: Some(request.namespace.clone()),
                runtime: "--".into(),
                start_time: String::new(),
                tags: Tags::new(),
                workload_lifecycle: request.workload_lifecycle.to_string(),
                workload_state: WorkloadState::Running,
                workload_type: "fake".into(),
            };
        workloads.iter().map(summary).collect()
    }

    fn get(&self, id: &WorkloadId) -> Option<StartWorkloadRequest> {
        let workloads = self.workloads.lock().unwrap();
        workloads.get(id).map(|(_, request)| request.clone())
    }

    async fn shutdown(&self, _grace: Duration) {
        let workloads = std::mem::take(&mut *self.workloads.lock().unwrap());
        for (id, (host, request)) in workloads {
            host.workload_stopped(&id, &request, Tags::new(), None)
                .await;
        }
    }
}

/// A runner at work.
pub(crate) struct Running {
    cancel: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

impl Running {
    /// Cancels it and waits for its end.
    pub(crate) async fn end(self) -> Result<(), RunError> {
        self.cancel.cancel();
        self.ended().await
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) -> Result<(), RunError> {
        let ended = tokio::time::timeout(LIMIT, self.task).await;
        ended.expect("the runner ends in time").unwrap()
    }
}

/// What a node does as far as a nexlet sees it, on a server of its own.
pub(crate) struct FakeNode {
    pub(crate) server: NatsServer,
    pub(crate) client: Client,
    pub(crate) id: NodeId,
    pub(crate) nexlet: NexletId,
    answer: Arc<Mutex<RegisterResponse>>,
    registrations: tokio::sync::Mutex<Option<mpsc::Receiver<RegisterRequest>>>,
}

impl FakeNode {
    pub(crate) async fn start() -> Self {
        Self::on(NatsServer::start(), |_| {}).await.listen().await
    }

    pub(crate) async fn start_with_config(config: &str) -> Self {
        let server = NatsServer::builder().config(config).start();
        Self::on(server, |_| {}).await.listen().await
    }

    pub(crate) async fn start_refusing(message: &str) -> Self {
        let refuse = |answer: &mut RegisterResponse| {
            answer.success = false;
            answer.message = message.to_owned();
        };
        Self::on(NatsServer::start(), refuse).await.listen().await
    }

    pub(crate) async fn start_with_existing(workload: &str) -> Self {
        let node = Self::start().await;
        node.hand_over(workload);
        node
    }

    /// Whose working credentials are those of the user `me`, with these permissions.
    pub(crate) async fn start_permitting(permissions: &str) -> Self {
        let config = format!(
            r#"authorization {{ users: [
                {{ user: all, password: x }}
                {{ user: me, password: x, permissions: {permissions} }}
            ] }}
            no_auth_user: all"#
        );
        let server = NatsServer::builder().config(config).start();
        let change = |answer: &mut RegisterResponse| {
            answer.connection_data.nats_user_name = "me".into();
            answer.connection_data.nats_user_password = "x".into();
        };
        Self::on(server, change).await.listen().await
    }

    /// Whose answer names addresses and files that lead nowhere on this machine.
    pub(crate) async fn start_elsewhere() -> Self {
        let change = |answer: &mut RegisterResponse| answer.connection_data = elsewhere();
        Self::on(NatsServer::start(), change).await.listen().await
    }

    /// Has a workload among those that the next nexlet to register is to take up.
    pub(crate) fn hand_over(&self, workload: &str) {
        self.hand_over_to_run(workload, json!({}));
    }

    pub(crate) fn hand_over_to_run(&self, workload: &str, run: Value) {
        let order = serde_json::from_value(order("service", run)).unwrap();
        let mut answer = self.answer.lock().unwrap();
        let id = WorkloadId::new(workload).unwrap();
        answer.existing_state.insert(id, order);
    }

    /// Says that it lives, and which nexlets it knows.
    pub(crate) async fn beat(&self, registrations: &str) {
        let subject = Subject::NodeHeartbeat(self.id.clone()).to_string();
        let body = json!({ "registrations": registrations }).to_string();
        self.client.publish(subject, body.into()).await.unwrap();
    }

    /// Whether a nexlet has registered that nobody asked for yet.
    pub(crate) async fn has_registrations(&self) -> bool {
        let registrations = self.registrations.lock().await;
        !registrations.as_ref().unwrap().is_empty()
    }

    async fn on(server: NatsServer, change: impl FnOnce(&mut RegisterResponse)) -> Self {
        let client = async_nats::connect(server.url()).await.unwrap();
        let id = NodeId::new(format!("N{}", "A".repeat(55))).unwrap();
        let mut answer = RegisterResponse {
            connection_data: NatsConnectionData {
                nats_servers: vec![server.url().to_string()],
                ..NatsConnectionData::default()
            },
            existing_state: BTreeMap::new(),
            message: String::new(),
            node_id: id.to_string(),
            success: true,
        };
        change(&mut answer);
        Self {
            server,
            client,
            id,
            nexlet: NexletId::mint(),
            answer: Arc::new(Mutex::new(answer)),
            registrations: tokio::sync::Mutex::new(None),
        }
    }

    /// Takes registrations from now on.
    async fn listen(mut self) -> Self {
        let (registrations_tx, registrations_rx) = mpsc::channel(4);
        let register = Subject::Register(self.id.clone(), self.nexlet.clone());
        let mut requests = self.subscribe(register).await;
        let client = self.client.clone();
        let (answer, node) = (Arc::clone(&self.answer), self.id.clone());
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let registration = serde_json::from_slice(&request.payload).unwrap();
                registrations_tx.send(registration).await.ok();
                let answer = serde_json::to_vec(&*answer.lock().unwrap()).unwrap();
                let reply = request.reply.unwrap();
                let mut headers = HeaderMap::new();
                headers.insert(NODE_HEADER, node.as_str());
                let answered = client.publish_with_headers(reply, headers, answer.into());
                answered.await.unwrap();
            }
        });
        self.registrations = tokio::sync::Mutex::new(Some(registrations_rx));
        self
    }

    /// Waits until a nexlet has registered and serves; returns what it said.
    pub(crate) async fn registration(&self) -> RegisterRequest {
        let mut registrations = self.registrations.lock().await;
        let next = registrations.as_mut().unwrap().recv();
        let registration = tokio::time::timeout(LIMIT, next).await.unwrap().unwrap();
        let ping = Subject::NexletPing(self.id.clone(), self.nexlet.clone()).to_string();
        nex_testkit::eventually("an answer to a ping", LIMIT, || {
            self.client.request(ping.clone(), "".into())
        })
        .await;
        registration
    }

    pub(crate) async fn subscribe(&self, subject: Subject) -> Subscriber {
        let subscriber = self.client.subscribe(subject.to_string()).await.unwrap();
        nex_nats::barrier(&self.client).await.unwrap();
        subscriber
    }

    pub(crate) fn run(&self, fake: Fake) -> Running {
        self.run_shared(Arc::new(fake))
    }

    pub(crate) fn run_shared(&self, fake: Arc<Fake>) -> Running {
        let cancel = CancellationToken::new();
        let registration = ConnectOptions {
            servers: vec![self.server.url().to_string()],
            ..ConnectOptions::default()
        };
        let config = RunnerConfig {
            node: self.id.clone(),
            id: self.nexlet.clone(),
            registration,
            route: None,
        };
        let task = tokio::spawn(nexlet::run(fake, config, cancel.clone()));
        Running { cancel, task }
    }

    pub(crate) async fn request(&self, subject: Subject, body: Value) -> Message {
        let request = async_nats::Request::new()
            .payload(body.to_string().into())
            .timeout(Some(LIMIT));
        self.client
            .send_request(subject.to_string(), request)
            .await
            .unwrap()
    }

    pub(crate) async fn start_workload(&self, id: &str, run: Value) -> Message {
        self.start_as(id, "service", run).await
    }

    pub(crate) async fn start_as(&self, id: &str, lifecycle: &str, run: Value) -> Message {
        let id = WorkloadId::new(id).unwrap();
        let subject = Subject::StartWorkload(self.id.clone(), self.nexlet.clone(), id);
        self.request(subject, order(lifecycle, run)).await
    }
}

/// Returns connection data of a node that reaches NATS by an address of its own machine.
pub(crate) fn elsewhere() -> NatsConnectionData {
    NatsConnectionData {
        nats_servers: vec!["nats://127.0.0.1:1".into()],
        nats_user_name: "me".into(),
        nats_user_password: "x".into(),
        tls_ca: "/of/the/node/ca.pem".into(),
        tls_cert: "/of/the/node/cert.pem".into(),
        tls_key: "/of/the/node/key.pem".into(),
        tls_first: true,
        ..NatsConnectionData::default()
    }
}

pub(crate) fn order(lifecycle: &str, run: Value) -> Value {
    json!({
        "request": {
            "description": "", "name": "", "namespace": "default",
            "run_request": run.to_string(), "tags": {},
            "workload_lifecycle": lifecycle, "workload_type": "fake",
        },
        "workload_creds": NatsConnectionData::default(),
    })
}
