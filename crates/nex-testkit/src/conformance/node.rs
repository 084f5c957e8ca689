//! The fake node: registers a nexlet, and asks what nodes ask.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Candidate, LIMIT, Place, Setup, journal::Journal, reply};
use crate::{NatsServer, RawMessage, RawNats};

/// The nexus that the node says it is of.
pub(super) const NEXUS: &str = "conformance";
/// A real key of a server, which node ids are.
pub(super) const NODE: &str = "NBWB23HN6J3OUP6XJBVCCL6WFMZPXOPMVJG6U4CUKSDHG4MZ3USO33U7";
/// The id that the nexlet is given.
pub(super) const NEXLET: &str = "conformant1";

/// How long our own echo may take before it is taken for lost.
const ECHO_LIMIT: Duration = Duration::from_millis(500);
/// Between two attempts of something that fails at once.
const PAUSE: Duration = Duration::from_millis(20);

/// A node as a nexlet sees it, with a server of its own.
pub(super) struct Node {
    server: NatsServer,
    pub(super) journal: Arc<Journal>,
    /// Workloads that the next registration hands over.
    existing: Arc<Mutex<BTreeMap<String, Value>>>,
    mouth: tokio::sync::Mutex<RawNats>,
    /// Each request: its inbox, its subject, and the most replies that are right.
    asked: Mutex<Vec<(String, String, usize)>>,
    workload_type: String,
    lifecycle: String,
    run_request: String,
    listening: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// The users of the server. Without a name one is `all`; the rights of `registration` are the same
/// for every node, those of `nexlet` are ours, those of `go` are what a Go node gives.
fn users() -> String {
    let control = "$NEX.SVC.system.control";
    let node = format!("$NEX.SVC.{NODE}.agent");
    let serve = format!(
        r#""{node}.{NEXLET}.STARTWORKLOAD.*", "{node}.{NEXLET}.PING", "{node}.STOPWORKLOAD.*",
        "{node}.GETWORKLOAD.*", "{node}.QUERYWORKLOADS", "{node}.PING", "{node}.SETLAMEDUCK",
        "$NEX.SVC.{NEXUS}.agent.PINGWORKLOAD.*", "$SRV.>", "_INBOX.>""#
    );
    format!(
        r#"authorization {{ users: [
            {{ user: all, password: x }}
            {{ user: registration, password: x, permissions: {{
                publish: ["{node}.REGISTER.{NEXLET}"], subscribe: ["_INBOX.>"]
            }} }}
            {{ user: nexlet, password: x, permissions: {{
                publish: ["{node}.HEARTBEAT.{NEXLET}", "$NEX.FEED.>", "_INBOX.>"]
                subscribe: [{serve}, "{control}.HEARTBEAT.{NODE}", "$NEX.FEED.{NEXLET}.events"]
                allow_responses: true
            }} }}
            {{ user: go, password: x, permissions: {{
                publish: ["{node}.HEARTBEAT.{NEXLET}", "$NEX.FEED.{NEXLET}.events.*",
                    "$NEX.FEED.{NEXLET}.logs.*.stdout", "$NEX.FEED.{NEXLET}.logs.*.stderr", "_INBOX.>"]
                subscribe: [{serve}]
                allow_responses: true
            }} }}
        ] }}
        no_auth_user: all"#
    )
}

fn connection(url: &str, user: &str) -> Value {
    let password = if user.is_empty() { "" } else { "x" };
    json!({
        "conn_name": "", "nats_servers": [url], "nats_user_jwt": "", "nats_user_name": user,
        "nats_user_nkey": "", "nats_user_password": password, "nats_user_seed": "",
        "tls_ca": "", "tls_cert": "", "tls_first": false, "tls_key": "",
    })
}

impl Node {
    pub(super) async fn start(candidate: &Candidate, setup: Setup) -> anyhow::Result<Self> {
        let server = NatsServer::builder().config(users()).try_start()?;
        let journal = Arc::new(Journal::new());
        let existing = Arc::new(Mutex::new(BTreeMap::new()));
        let ear = Ear {
            url: server.url().to_owned(),
            journal: Arc::clone(&journal),
            existing: Arc::clone(&existing),
            user: if setup.go_rights { "go" } else { "nexlet" },
        };
        let raw = ear.open().await?;
        let mouth = RawNats::connect(server.url()).await?;
        let node = Self {
            listening: tokio::spawn(ear.listen(raw)),
            server,
            journal,
            existing,
            mouth: tokio::sync::Mutex::new(mouth),
            asked: Mutex::default(),
            workload_type: candidate.workload_type.clone(),
            lifecycle: candidate.lifecycle.clone(),
            run_request: candidate.run_request.to_string(),
        };
        for id in setup.existing {
            node.hand_over(id);
        }
        Ok(node)
    }

    pub(super) fn place(&self) -> Place {
        let url = self.server.url().to_owned();
        let variables = vec![
            ("NEX_AGENT_NATS_SERVERS", url.clone()),
            ("NEX_AGENT_NATS_USER_SEED", String::new()),
            ("NEX_AGENT_NATS_B64_JWT", String::new()),
            ("NEX_AGENT_NATS_USER", "registration".to_owned()),
            ("NEX_AGENT_NATS_PASSWORD", "x".to_owned()),
            ("NEX_AGENT_NATS_USER_NKEY", String::new()),
            ("NEX_AGENT_NODE_ID", NODE.to_owned()),
            ("NEX_AGENT_ASSIGNED_ID", NEXLET.to_owned()),
        ];
        Place { url, variables }
    }

    /// Hands a workload over at the next registration.
    pub(super) fn hand_over(&self, id: &str) {
        let order = self.order(id, &self.run_request);
        let mut existing = self.existing.lock().unwrap_or_else(PoisonError::into_inner);
        existing.insert(id.to_owned(), order);
    }

    /// What a nexlet is told to start.
    pub(super) fn order(&self, name: &str, run_request: &str) -> Value {
        json!({
            "request": {
                "description": "", "name": name, "namespace": "default",
                "run_request": run_request, "tags": { "suite": "conformance" },
                "workload_lifecycle": self.lifecycle, "workload_type": self.workload_type,
            },
            "workload_creds": connection(self.server.url(), ""),
        })
    }

    /// Kills the server, starts it again, and waits until we are back.
    pub(super) async fn restart_server(&mut self) -> anyhow::Result<()> {
        self.server.restart();
        *self.mouth.lock().await = RawNats::connect(self.server.url()).await?;
        crate::eventually("our own reconnection", LIMIT, || async {
            let echo = tokio::time::timeout(ECHO_LIMIT, self.sync()).await;
            matches!(echo, Ok(Ok(())))
        })
        .await;
        Ok(())
    }

    /// Publishes without asking for an answer.
    pub(super) async fn say(&self, subject: &str, body: &str) -> anyhow::Result<()> {
        let mut mouth = self.mouth.lock().await;
        mouth.publish(subject, None, None, body.as_bytes()).await?;
        Ok(())
    }

    /// Publishes the node's own heartbeat.
    pub(super) async fn beat(&self, registrations: &str) -> anyhow::Result<()> {
        let subject = format!("$NEX.SVC.system.control.HEARTBEAT.{NODE}");
        let body = json!({ "registrations": registrations }).to_string();
        self.say(&subject, &body).await
    }

    /// Waits until everything is in the journal that the server has handled by now.
    pub(super) async fn sync(&self) -> anyhow::Result<()> {
        let from = self.journal.len();
        let subject = format!("conformance.sync.{from}");
        self.say(&subject, "").await?;
        let found = self.journal.find("echo", from, |it| it.subject == subject);
        found.await.map(drop)
    }

    /// Sends a request, to which at most that many replies are right; answers with its inbox.
    async fn request(&self, subject: &str, body: &str, most: usize) -> anyhow::Result<String> {
        let inbox = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let inbox = format!("_INBOX.conformance.{}", asked.len());
            asked.push((inbox.clone(), subject.to_owned(), most));
            inbox
        };
        let mut mouth = self.mouth.lock().await;
        let sent = mouth.publish(subject, Some(&inbox), None, body.as_bytes());
        sent.await?;
        Ok(inbox)
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&self, subject: &str, body: &str) -> anyhow::Result<RawMessage> {
        let from = self.journal.len();
        let inbox = self.request(subject, body, 1).await?;
        let what = format!("answer on `{subject}`");
        let (_, reply) = self
            .journal
            .find(&what, from, |it| it.subject == inbox)
            .await?;
        Ok(reply)
    }

    /// Asks something to which no answer may come, ever.
    pub(super) async fn ask_in_vain(&self, subject: &str, body: &str) -> anyhow::Result<()> {
        self.request(subject, body, 0).await.map(drop)
    }

    /// All requests: their inboxes, their subjects, and the most replies that are right.
    pub(super) fn asked(&self) -> Vec<(String, String, usize)> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }

    /// Waits for the registration of that number, and answers with its body.
    pub(super) async fn registered(&self, number: usize) -> anyhow::Result<Value> {
        let is = |it: &RawMessage| it.subject == register();
        let mut from = 0;
        for _ in 1..number {
            from = self.journal.find("registration", from, is).await?.0 + 1;
        }
        let (_, message) = self.journal.find("registration", from, is).await?;
        reply::body(&message)
    }

    /// Waits for a heartbeat in that state, from the first one on.
    pub(super) async fn heartbeat(&self, state: &str) -> anyhow::Result<(usize, Value)> {
        self.heartbeat_from(0, |summary| summary["state"] == state)
            .await
            .with_context(|| format!("it never was `{state}`"))
    }

    /// Waits for a heartbeat with such a summary.
    pub(super) async fn heartbeat_from(
        &self,
        from: usize,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<(usize, Value)> {
        let is = |it: &RawMessage| {
            it.subject == heartbeat() && reply::body(it).is_ok_and(|beat| wanted(&beat["summary"]))
        };
        let (at, message) = self.journal.find("heartbeat", from, is).await?;
        Ok((at, reply::body(&message)?))
    }

    /// Starts the candidate's workload and insists on success; answers with the reply's body.
    pub(super) async fn start_workload(&self, id: &str, name: &str) -> anyhow::Result<Value> {
        let order = self.order(name, &self.run_request).to_string();
        let reply = self.ask(&start(id), &order).await?;
        reply::expect_success(&reply).context("the candidate's own start request")
    }

    /// The workloads that a query lists.
    pub(super) async fn query(&self, namespace: &str, filter: Value) -> anyhow::Result<Vec<Value>> {
        let body = json!({ "filter": filter, "namespace": namespace }).to_string();
        let reply = self.ask(&agent("QUERYWORKLOADS"), &body).await?;
        reply::list(reply::expect_success(&reply)?)
    }

    /// Insists that a workload is listed, and lives.
    pub(super) async fn lists(&self, id: &str) -> anyhow::Result<()> {
        let listed = self.query("default", json!([id])).await?;
        ensure!(
            listed.iter().any(|it| it["id"] == id && lives(it)),
            "workload `{id}` is not listed: {listed:?}"
        );
        Ok(())
    }

    /// The events of that name about a workload that came so far.
    pub(super) fn events(&self, name: &str, id: &str) -> usize {
        self.journal.count(|it| is_event(it, name, id))
    }

    /// Waits for an event about a workload; its place, and its body.
    pub(super) async fn event(&self, name: &str, id: &str) -> anyhow::Result<(usize, Value)> {
        let what = format!("event {name} of `{id}`");
        let is = |it: &RawMessage| is_event(it, name, id);
        let (at, message) = self.journal.find(&what, 0, is).await?;
        Ok((at, reply::body(&message)?))
    }
}

/// Whether a listed workload has not ended.
pub(super) fn lives(workload: &Value) -> bool {
    workload["workload_state"] != "stopped" && workload["metadata"]["ended"].is_null()
}

fn is_event(message: &RawMessage, name: &str, id: &str) -> bool {
    let subject = format!("$NEX.FEED.default.events.{name}");
    message.subject == subject && reply::body(message).is_ok_and(|body| body["id"] == id)
}

/// A subject that all nexlets of the node hear.
pub(super) fn agent(verb: &str) -> String {
    format!("$NEX.SVC.{NODE}.agent.{verb}")
}

pub(super) fn start(id: &str) -> String {
    agent(&format!("{NEXLET}.STARTWORKLOAD.{id}"))
}

pub(super) fn register() -> String {
    agent(&format!("REGISTER.{NEXLET}"))
}

pub(super) fn heartbeat() -> String {
    agent(&format!("HEARTBEAT.{NEXLET}"))
}

/// Hears everything, writes it down, and answers registrations.
struct Ear {
    url: String,
    journal: Arc<Journal>,
    existing: Arc<Mutex<BTreeMap<String, Value>>>,
    user: &'static str,
}

impl Ear {
    async fn open(&self) -> std::io::Result<RawNats> {
        let mut raw = RawNats::connect(&self.url).await?;
        raw.subscribe(">").await?;
        Ok(raw)
    }

    async fn listen(self, mut raw: RawNats) {
        loop {
            match self.hear(&mut raw).await {
                Ok(()) => {}
                Err(_gone) => raw = self.reopen().await,
            }
        }
    }

    async fn reopen(&self) -> RawNats {
        loop {
            match self.open().await {
                Ok(raw) => return raw,
                Err(_not_yet) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn hear(&self, raw: &mut RawNats) -> std::io::Result<()> {
        let message = raw.next().await?;
        let answer = if message.subject == register() {
            Some(self.registration())
        } else if message.subject == format!("$NEX.SVC.{NEXUS}.agent.RREGISTER") {
            Some(json!({
                "assigned_agent_id": NEXLET, "respond_to": NODE,
                "registration_creds": connection(&self.url, "registration"),
            }))
        } else {
            None
        };
        let reply = message.reply.clone();
        self.journal.add(message);
        if let (Some(answer), Some(reply)) = (answer, reply) {
            let body = answer.to_string();
            raw.publish(&reply, None, None, body.as_bytes()).await?;
        }
        Ok(())
    }

    fn registration(&self) -> Value {
        let existing = self.existing.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "connection_data": connection(&self.url, self.user), "existing_state": *existing,
            "message": "", "node_id": NODE, "success": true,
        })
    }
}
