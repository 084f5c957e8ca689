//! A node that answers as told.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::HeaderMap;
use bytes::Bytes;
use jiff::Timestamp;
use nex_nats::service::{Endpoint, Request, Service};
use nex_protocol::{
    BidId, ErrorCode, MORE_HEADER, NODE_HEADER, NodeId, StartWorkloadRequest, Subject, Tags,
    WorkloadId, WorkloadState, WorkloadSummary,
    control::{
        AuctionRequest, Bid, CloneWorkloadRequest, Declined, LameduckRequest, LameduckResponse,
        Load, NodePingResponse, NodeState, Reason, zero_time,
    },
    error::WORKLOAD_NOT_FOUND,
    subject::pattern,
    workload::{ListWorkloadsRequest, StopWorkloadRequest, StopWorkloadResponse},
};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::connected;

pub(crate) fn node_id(fill: char) -> NodeId {
    NodeId::new(format!("N{}", fill.to_string().repeat(55))).unwrap()
}

pub(crate) fn workload(id: WorkloadId, name: &str, namespace: &str) -> WorkloadSummary {
    WorkloadSummary {
        id,
        metadata: Tags::new(),
        name: name.into(),
        namespace: Some(namespace.parse().unwrap()),
        runtime: "--".into(),
        start_time: "2026-01-02T03:04:05Z".into(),
        tags: Tags::new(),
        workload_lifecycle: "service".into(),
        workload_state: WorkloadState::Running,
        workload_type: "native".into(),
    }
}

/// What a node is told to be.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) id: NodeId,
    /// Answers as a node of Go Nex: without its name, without peers, and silent at an auction.
    pub(crate) go: bool,
    pub(crate) peers: Vec<NodeId>,
    pub(crate) types: Vec<&'static str>,
    pub(crate) load: u64,
    /// The schema of start requests in its bids.
    pub(crate) schema: &'static str,
    /// What was deployed on it, in order.
    pub(crate) deployed: Arc<Mutex<Vec<StartWorkloadRequest>>>,
    /// Refuses deploys, for it has no capacity.
    pub(crate) busy: bool,
    /// Refuses so many deploys, each with the next of these.
    pub(crate) refusals: Arc<Mutex<Vec<(ErrorCode, &'static str)>>>,
    pub(crate) workloads: Vec<WorkloadSummary>,
    /// Sends a list as one message per workload.
    pub(crate) chunked: bool,
    /// All tags but `nex.lameduck`.
    pub(crate) tags: Tags,
    pub(crate) lame_duck: bool,
    pub(crate) start_time: Timestamp,
    /// Pause before each answer.
    pub(crate) answers_after: Duration,
    /// Endpoints whose requests it takes and never answers.
    pub(crate) silent_at: &'static [&'static str],
}

/// A running node; it is gone when this is dropped.
pub(crate) struct Running {
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) fn new(fill: char, peers: &[char]) -> Self {
        Self {
            id: node_id(fill),
            go: false,
            peers: peers.iter().map(|fill| node_id(*fill)).collect(),
            types: Vec::new(),
            load: 0,
            schema: "{}",
            deployed: Arc::default(),
            busy: false,
            refusals: Arc::default(),
            workloads: Vec::new(),
            chunked: false,
            tags: Tags::new(),
            lame_duck: false,
            start_time: zero_time(),
            answers_after: Duration::ZERO,
            silent_at: &[],
        }
    }

    pub(crate) fn go(fill: char) -> Self {
        Self {
            go: true,
            ..Self::new(fill, &[])
        }
    }

    /// Takes every request and answers none, as a process that was stopped.
    pub(crate) fn stuck(fill: char) -> Self {
        Self {
            silent_at: &[
                "ping", "info", "auction", "deploy", "stop", "list", "clone", "lameduck",
            ],
            ..Self::new(fill, &[])
        }
    }

    /// Refuses one deploy.
    pub(crate) fn refuses(self, code: ErrorCode, text: &'static str) -> Self {
        self.refusals.lock().unwrap().push((code, text));
        self
    }

    /// Drains, and says so where its kind of node does: one of Go bids all the same.
    pub(crate) fn lame_duck(mut self) -> Self {
        self.lame_duck = true;
        self
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        self.tags.insert("nex.node".into(), name.into());
        self
    }

    pub(crate) fn runs(mut self, workload_type: &'static str) -> Self {
        self.types.push(workload_type);
        self
    }

    pub(crate) fn with(mut self, name: &str, namespace: &str) -> Self {
        let id = WorkloadId::mint(&self.id);
        self.workloads.push(workload(id, name, namespace));
        self
    }

    pub(crate) async fn start(&self, url: &str) -> Running {
        let connection = connected(url).await;
        let endpoint = |name, subject: String| Endpoint { name, subject };
        let mut requests = Service::builder(&connection, "nexnode", "0.0.0", "")
            .queue_group(self.id.as_str())
            .start(vec![
                endpoint("ping", Subject::Ping.to_string()),
                endpoint("ping-one", Subject::PingNode(self.id.clone()).to_string()),
                endpoint("tags", Subject::PlacementTags.to_string()),
                endpoint(
                    "nexlet-id",
                    Subject::NexletIdByName(self.id.clone()).to_string(),
                ),
                endpoint("info", Subject::NodeInfo(self.id.clone()).to_string()),
                endpoint("auction", pattern::AUCTION.into()),
                endpoint("deploy", pattern::DEPLOY.into()),
                endpoint("deploy-to", pattern::deploy_to(&self.id)),
                endpoint("stop", pattern::UNDEPLOY.into()),
                endpoint("list", pattern::LIST_WORKLOADS.into()),
                endpoint("clone", pattern::CLONE.into()),
                endpoint("lameduck", Subject::Lameduck(self.id.clone()).to_string()),
            ])
            .await
            .unwrap();
        let fake = self.clone();
        let task = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                fake.answer(&request).await;
            }
            drop(connection);
        });
        Running { task }
    }

    async fn answer(&self, request: &Request) {
        tokio::time::sleep(self.answers_after).await;
        let endpoint = match request.endpoint {
            "deploy-to" => "deploy",
            other => other,
        };
        match endpoint {
            silent if self.silent_at.contains(&silent) => {}
            "ping" | "ping-one" => self.pong(request).await,
            "tags" => self.say(request, &self.tags).await,
            "nexlet-id" => self.nexlet_id(request).await,
            "auction" => self.auction(request).await,
            "deploy" => self.deploy(request).await,
            "stop" => self.stop(request).await,
            "list" => self.list(request).await,
            "clone" => self.clone_workload(request).await,
            "lameduck" => self.lameduck(request).await,
            other => panic!("{other}"),
        }
    }

    fn headers(&self, more: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !self.go {
            headers.insert(NODE_HEADER, self.id.as_str());
        }
        if more {
            headers.insert(MORE_HEADER, "true");
        }
        headers
    }

    async fn say(&self, request: &Request, body: &impl Serialize) {
        let body: Bytes = serde_json::to_vec(body).unwrap().into();
        let headers = Some(self.headers(false));
        request.respond(headers, body).await.unwrap();
    }

    async fn pong(&self, request: &Request) {
        let pong = NodePingResponse {
            agent_count: 1,
            node_id: self.id.clone(),
            start_time: self.start_time,
            state: match self.lame_duck {
                true => NodeState::Lameduck,
                false => NodeState::Running,
            },
            tags: self.tags.clone(),
            version: "0.0.0".into(),
            xkey: String::new(),
            peers: (!self.go).then(|| self.peers.clone()),
        };
        self.say(request, &pong).await;
    }

    /// Knows a nexlet by the name of each of its types, whose id is that name.
    async fn nexlet_id(&self, request: &Request) {
        let name = request.payload().clone();
        if self.types.iter().any(|each| each.as_bytes() == name) {
            request.respond(None, name).await.unwrap();
        }
    }

    async fn auction(&self, request: &Request) {
        let asked: AuctionRequest = serde_json::from_slice(request.payload()).unwrap();
        let has = |(key, value): (&String, &String)| match key.as_str() {
            "nex.lameduck" => *value == self.lame_duck.to_string(),
            _ => self.tags.get(key) == Some(value),
        };
        let fits = asked.tags.iter().all(has);
        if fits && self.types.iter().any(|each| *each == asked.agent_type) {
            let bid = Bid {
                bidder_id: BidId::mint(&self.id),
                start_request_schema: self.schema.into(),
                supported_lifecycles: Vec::new(),
                xkey: String::new(),
                load: (!self.go).then(|| Load {
                    workloads: self.load,
                    ..Load::default()
                }),
                node_id: (!self.go).then(|| self.id.clone()),
            };
            self.say(request, &bid).await;
        } else if asked.explain && !self.go {
            let declined = Reason {
                code: 404,
                text: format!("no nexlet runs `{}`", asked.agent_type),
            };
            self.say(request, &Declined { declined }).await;
        }
    }

    async fn deploy(&self, request: &Request) {
        let bid = match Subject::parse(request.subject()) {
            Some(Subject::Deploy(_, bid) | Subject::DeployTo(_, bid, _)) => bid,
            _ => panic!("{}", request.subject()),
        };
        if !bid.minted_by(&self.id) {
            return;
        }
        let asked: StartWorkloadRequest = serde_json::from_slice(request.payload()).unwrap();
        if self.busy {
            let body = r#"{"error_id":"E1","error":"no capacity"}"#.into();
            let error = request.respond_error(ErrorCode::Busy, "no capacity", body);
            return error.await.unwrap();
        }
        let refusal = self.refusals.lock().unwrap().pop();
        if let Some((code, text)) = refusal {
            let body = format!(r#"{{"error_id":"E6","error":"{text}"}}"#).into();
            let headers = self.headers(false);
            let error = request.respond_error_with(code, text, headers, body);
            return error.await.unwrap();
        }
        if asked.run_request.contains("unfit") {
            let body =
                r#"{"error_id":"E3","error":"at `/`: \"uri\" is a required property"}"#.into();
            let error = request.respond_error(ErrorCode::BadRequest, "failed to validate", body);
            return error.await.unwrap();
        }
        if asked.run_request.contains("broken") {
            let body = r#"{"error_id":"E2","error":"internal server error"}"#.into();
            let error = request.respond_error(ErrorCode::Internal, "it\nbroke", body);
            return error.await.unwrap();
        }
        self.deployed.lock().unwrap().push(asked.clone());
        let id = WorkloadId::mint(&self.id);
        let name = format!("{}-on-{}", asked.workload_type, &self.id.as_str()[1..2]);
        self.say(request, &serde_json::json!({ "id": id, "name": name }))
            .await;
    }

    async fn stop(&self, request: &Request) {
        let asked: StopWorkloadRequest = serde_json::from_slice(request.payload()).unwrap();
        let Some(Subject::Undeploy(namespace, id)) = Subject::parse(request.subject()) else {
            panic!("{}", request.subject());
        };
        assert_eq!(asked.namespace, namespace);
        let owned = self
            .workloads
            .iter()
            .any(|each| each.id == id && each.namespace.as_ref() == Some(&namespace));
        let mut response = StopWorkloadResponse {
            id: id.to_string(),
            message: String::new(),
            stopped: owned,
            workload_type: if owned {
                "native".into()
            } else {
                String::new()
            },
        };
        if owned {
            self.say(request, &response).await;
        } else if self.go {
            response.message = WORKLOAD_NOT_FOUND.into();
            self.say(request, &response).await;
        } else if id.minted_by(&self.id) {
            response.message = WORKLOAD_NOT_FOUND.into();
            let body = serde_json::to_vec(&response).unwrap().into();
            request
                .respond_error_with(
                    ErrorCode::NotFound,
                    WORKLOAD_NOT_FOUND,
                    self.headers(false),
                    body,
                )
                .await
                .unwrap();
        }
    }

    async fn clone_workload(&self, request: &Request) {
        let asked: CloneWorkloadRequest = serde_json::from_slice(request.payload()).unwrap();
        let Some(Subject::Clone(namespace, id)) = Subject::parse(request.subject()) else {
            panic!("{}", request.subject());
        };
        assert_eq!(asked.namespace, namespace);
        assert!(asked.new_target_xkey.starts_with('X'), "{asked:?}");
        let owned = self.workloads.iter().find(|each| {
            each.id == id && (namespace.is_system() || each.namespace.as_ref() == Some(&namespace))
        });
        if let Some(owned) = owned {
            let start = serde_json::json!({
                "description": "d", "name": owned.name, "namespace": owned.namespace,
                "reference": "r", "run_request": "{}", "tags": { "old": "tag" },
                "workload_lifecycle": owned.workload_lifecycle,
                "workload_type": owned.workload_type,
            });
            self.say(request, &start).await;
        } else if !self.go && id.minted_by(&self.id) {
            let body = r#"{"error_id":"E4","error":"workload not found"}"#.into();
            let headers = self.headers(false);
            request
                .respond_error_with(ErrorCode::NotFound, WORKLOAD_NOT_FOUND, headers, body)
                .await
                .unwrap();
        }
    }

    /// Refuses a delay of zero, and is silent where a tag differs.
    async fn lameduck(&self, request: &Request) {
        let asked: LameduckRequest = serde_json::from_slice(request.payload()).unwrap();
        assert!(!(self.go && asked.cancel), "a Go node would begin to drain");
        let has = |(key, value): (&String, &String)| match key.as_str() {
            "nex.lameduck" => *value == self.lame_duck.to_string(),
            _ => self.tags.get(key) == Some(value),
        };
        if !asked.tag.iter().all(has) {
            return;
        }
        if asked.delay == "0s" {
            let body = r#"{"error_id":"E5","error":"too short"}"#.into();
            let text = "failed to parse lameduck delay";
            let error = request.respond_error(ErrorCode::BadRequest, text, body);
            return error.await.unwrap();
        }
        let response = LameduckResponse {
            message: if asked.cancel {
                "called back".into()
            } else {
                asked.delay
            },
            success: true,
        };
        self.say(request, &response).await;
    }

    async fn list(&self, request: &Request) {
        let asked: ListWorkloadsRequest = serde_json::from_slice(request.payload()).unwrap();
        let wanted: Vec<_> = self
            .workloads
            .iter()
            .filter(|each| asked.wants(&each.id, &each.name, each.namespace.as_ref().unwrap()))
            .collect();
        if !self.chunked {
            return self.say(request, &wanted).await;
        }
        for (position, each) in wanted.iter().enumerate() {
            let body = serde_json::to_vec(&[each]).unwrap().into();
            let headers = self.headers(position + 1 < wanted.len());
            request.respond(Some(headers), body).await.unwrap();
        }
    }
}
