//! A bus, nodes on it, nexlets by hand, and questions.

use std::{future::Future, sync::Arc, time::Duration};

use async_nats::{Client, HeaderMap, Message};
use bytes::Bytes;
use futures_util::StreamExt as _;
use nex_credentials::Minter;
use nex_nats::{ConnectOptions, read_error};
use nex_node::{Config, DiskStore, Node, RunningNode, StateStore};
use nex_protocol::{
    ErrorBody, ErrorCode, Lifecycle, NODE_HEADER, NexletId, NexusName, NodeId, Subject, Tags,
    control::{Bid, NodeInfoResponse},
    registration::{
        EndedWorkload, NexletHeartbeat, NexletSummary, RegisterRequest, RegisterResponse,
    },
};
use nex_testkit::{NatsServer, eventually};
use nkeys::{KeyPair, XKey};
use serde::{Serialize, de::DeserializeOwned};
use tempfile::TempDir;

/// How long anything may take that is to happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A nats-server and a client on it.
pub(crate) struct Bus {
    pub(crate) server: NatsServer,
    pub(crate) client: Client,
    /// Where its nodes keep what should run.
    pub(crate) state: TempDir,
}

impl Bus {
    pub(crate) async fn start() -> Self {
        Self::on(NatsServer::start()).await
    }

    pub(crate) async fn on(server: NatsServer) -> Self {
        let client = async_nats::connect(server.url()).await.unwrap();
        let state = tempfile::tempdir().unwrap();
        Self {
            server,
            client,
            state,
        }
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions::new([self.server.url()], "test")
    }

    pub(crate) fn config() -> Config {
        Config {
            identity: KeyPair::new_server(),
            xkey: XKey::new(),
            name: "n1".into(),
            nexus: NexusName::new("nexus").unwrap(),
            tags: Tags::from([("region".into(), "lab".into())]),
            version: "0.5.0".into(),
            allow_remote: false,
            nexlets: Vec::new(),
            auction_ttl: Config::DEFAULT_AUCTION_TTL,
        }
    }

    pub(crate) async fn node(&self) -> RunningNode {
        self.node_with(Self::config()).await
    }

    pub(crate) async fn node_with(&self, config: Config) -> RunningNode {
        let connection = nex_nats::connect(&self.options()).await.unwrap();
        let minter = Minter::PassThrough(self.options().to_data().unwrap());
        let store = self.store(&config);
        Node::start(config, connection, minter, store)
            .await
            .unwrap()
    }

    pub(crate) fn store(&self, config: &Config) -> Arc<dyn StateStore> {
        let node = NodeId::new(config.identity.public_key()).unwrap();
        Arc::new(DiskStore::open(self.state.path(), &node).unwrap())
    }

    /// Asks, and waits for the first answer.
    pub(crate) async fn ask(&self, subject: &str, body: impl Into<Bytes>) -> Message {
        let asked = self.client.request(subject.to_owned(), body.into());
        asked.await.unwrap()
    }

    /// Shows that the first question is not answered: the second, to the same endpoint, comes
    /// after it, and its answer would come after that of the first.
    pub(crate) async fn silent(&self, first: (&str, &str), second: (&str, &str)) {
        let inbox = self.client.new_inbox();
        let mut replies = self.client.subscribe(format!("{inbox}.*")).await.unwrap();
        for (place, (subject, body)) in [("first", first), ("second", second)] {
            let reply = format!("{inbox}.{place}");
            self.client
                .publish_with_reply(subject.to_owned(), reply, body.to_owned().into())
                .await
                .unwrap();
        }
        let reply = tokio::time::timeout(LIMIT, replies.next()).await;
        let reply = reply.expect("the second question is answered").unwrap();
        assert!(
            reply.subject.ends_with(".second"),
            "the first question was answered: {reply:?}"
        );
    }

    /// A subscription that the server knows of.
    pub(crate) async fn listen(&self, subject: &str) -> async_nats::Subscriber {
        let subscriber = self.client.subscribe(subject.to_owned()).await.unwrap();
        nex_nats::barrier(&self.client).await.unwrap();
        subscriber
    }

    pub(crate) async fn info(&self, node: &NodeId) -> NodeInfoResponse {
        let subject = Subject::NodeInfo(node.clone()).to_string();
        body(&self.ask(&subject, "{}").await)
    }

    /// A registered and healthy nexlet of type `echo`.
    pub(crate) async fn nexlet(&self, node: &NodeId) -> RawNexlet<'_> {
        self.nexlet_as(node, registration("echo")).await
    }

    pub(crate) async fn nexlet_as(
        &self,
        node: &NodeId,
        registration: RegisterRequest,
    ) -> RawNexlet<'_> {
        let nexlet = self.raw_nexlet(node, NexletId::mint(), &registration);
        let response: RegisterResponse = body(&nexlet.register(&registration).await);
        assert!(response.success, "{response:?}");
        nexlet.beat("running", 0, "healthy").await;
        nexlet
    }

    /// A nexlet that has not registered.
    pub(crate) fn raw_nexlet(
        &self,
        node: &NodeId,
        id: NexletId,
        registration: &RegisterRequest,
    ) -> RawNexlet<'_> {
        RawNexlet {
            bus: self,
            node: node.clone(),
            id,
            workload_type: registration.register_type.clone(),
        }
    }

    /// The bid of the only node.
    pub(crate) async fn bid(&self, workload_type: &str) -> Bid {
        let request = auction(workload_type);
        body(&self.ask("$NEX.SVC.default.control.AUCTION", request).await)
    }
}

/// An auction's request, without tags.
pub(crate) fn auction(workload_type: &str) -> String {
    format!(r#"{{"agent_type":"{workload_type}","auction_id":"a","tags":null}}"#)
}

/// A start request for namespace `default`.
pub(crate) fn start_request(workload_type: &str, run_request: &str) -> serde_json::Value {
    serde_json::json!({
        "description": "",
        "name": "web",
        "namespace": "default",
        "run_request": run_request,
        "tags": null,
        "workload_lifecycle": "job",
        "workload_type": workload_type,
    })
}

pub(crate) fn registration(workload_type: &str) -> RegisterRequest {
    RegisterRequest {
        description: "runs things".into(),
        max_workloads: 0.0,
        name: format!("{workload_type}_nexlet"),
        public_xkey: "XKEY".into(),
        register_type: workload_type.into(),
        start_request_schema: r#"{"type":"object","required":["uri"]}"#.into(),
        supported_lifecycles: vec![Lifecycle::Job, Lifecycle::Service],
        // It names itself in no list, as Go nexlets do not.
        tells_ends: false,
        version: "1.0.0".into(),
    }
}

/// A nexlet that says what a test wants it to say.
pub(crate) struct RawNexlet<'a> {
    bus: &'a Bus,
    pub(crate) node: NodeId,
    pub(crate) id: NexletId,
    workload_type: String,
}

impl RawNexlet<'_> {
    pub(crate) async fn register(&self, registration: &RegisterRequest) -> Message {
        let subject = Subject::Register(self.node.clone(), self.id.clone()).to_string();
        self.bus.ask(&subject, json(registration)).await
    }

    /// Sends a heartbeat, and waits until the node tells that health and count.
    pub(crate) async fn beat(&self, state: &str, workload_count: u64, health: &str) {
        self.send_beat(state, workload_count, Vec::new()).await;
        eventually("the heartbeat shows", LIMIT, || async {
            let info = self.bus.info(&self.node).await;
            let mut own = info.node_agent_summaries.into_iter();
            let own = own.find(|nexlet| nexlet.agent_id == self.id.as_str());
            match own {
                Some(own)
                    if own.agent_health == health
                        && own.agent_summary.workload_count == workload_count =>
                {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Sends a heartbeat that tells of ends.
    pub(crate) async fn send_beat(
        &self,
        state: &str,
        workload_count: u64,
        ended: Vec<EndedWorkload>,
    ) {
        let heartbeat = NexletHeartbeat {
            data: String::new(),
            ended,
            summary: NexletSummary {
                name: "raw".into(),
                state: state.into(),
                workload_type: self.workload_type.clone(),
                workload_count,
                ..NexletSummary::unknown()
            },
        };
        let subject = Subject::NexletHeartbeat(self.node.clone(), self.id.clone());
        let published = self
            .bus
            .client
            .publish(subject.to_string(), json(&heartbeat));
        published.await.unwrap();
    }

    /// Answers every message on a subject with what `answer` makes of it: none, one, or several
    /// messages.
    pub(crate) async fn answers<F, Fut>(&self, subject: &str, mut answer: F)
    where
        F: FnMut(Message) -> Fut + Send + 'static,
        Fut: Future<Output = Vec<(HeaderMap, Bytes)>> + Send,
    {
        let mut requests = self.bus.listen(subject).await;
        let client = self.bus.client.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let Some(reply) = request.reply.clone() else {
                    continue;
                };
                for (headers, body) in answer(request).await {
                    let sent = client.publish_with_headers(reply.clone(), headers, body);
                    sent.await.unwrap();
                }
            }
        });
    }

    /// Answers every message on a subject with the same text.
    pub(crate) async fn says(&self, subject: &str, text: &str) {
        let text = Bytes::from(text.to_owned());
        self.answers(subject, move |_| {
            let answer = vec![(HeaderMap::new(), text.clone())];
            async { answer }
        })
        .await;
    }

    pub(crate) fn starts(&self) -> String {
        nex_protocol::subject::pattern::start_workload(&self.node, &self.id)
    }

    pub(crate) fn stops(&self) -> String {
        nex_protocol::subject::pattern::stop_workload(&self.node)
    }

    pub(crate) fn gets(&self) -> String {
        nex_protocol::subject::pattern::get_workload(&self.node)
    }

    pub(crate) fn queries(&self) -> String {
        Subject::QueryWorkloads(self.node.clone()).to_string()
    }
}

pub(crate) fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap().into()
}

#[track_caller]
pub(crate) fn body<T: DeserializeOwned>(message: &Message) -> T {
    serde_json::from_slice(&message.payload).unwrap_or_else(|error| panic!("{error}: {message:?}"))
}

/// Code and texts of an error reply, headers and body.
#[track_caller]
pub(crate) fn error(message: &Message) -> (ErrorCode, String, String) {
    let (code, text) = read_error(message).unwrap_or_else(|| panic!("no error: {message:?}"));
    let body: ErrorBody = body(message);
    assert_eq!(body.error_id.len(), 22, "{body:?}");
    (code, text, body.error)
}

#[track_caller]
pub(crate) fn assert_error(message: &Message, code: ErrorCode, text: &str) {
    let (got, header, _) = error(message);
    assert_eq!((got, header.as_str()), (code, text), "{message:?}");
}

/// The node that a reply names.
pub(crate) fn named_node(message: &Message) -> Option<String> {
    let headers = message.headers.as_ref()?;
    Some(headers.get(NODE_HEADER)?.to_string())
}

/// The next message, or a failure when none comes.
pub(crate) async fn next(subscriber: &mut async_nats::Subscriber) -> Message {
    let message = tokio::time::timeout(LIMIT, subscriber.next()).await;
    message.expect("a message comes").unwrap()
}
