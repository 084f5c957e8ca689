//! What should run: written down, handed back, forgotten.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_nats::HeaderMap;
use jiff::Timestamp;
use nex_credentials::Minter;
use nex_nats::error_headers;
use nex_node::{Config, Node, Pending, Record, RunningNode, StateError, StateStore};
use nex_protocol::{
    ErrorCode, Lifecycle, Namespace, NexletId, NodeId, StartWorkloadRequest, Subject, Tags,
    WorkloadId, WorkloadState, WorkloadSummary,
    control::LameduckResponse,
    error::WORKLOAD_NOT_FOUND,
    event::{Event, WorkloadError, WorkloadEvent},
    registration::{
        EndedWorkload, NexletHeartbeat, NexletSummary, RegisterRequest, RegisterResponse,
    },
    workload::{NexletStartWorkloadRequest, StopWorkloadResponse, parse_list},
};
use nex_testkit::eventually;
use nkeys::KeyPair;
use serde_json::json;

use crate::support::{
    Bus, LIMIT, RawNexlet, assert_error, body, json as encoded, named_node, next, registration,
    start_request,
};

const GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// Limit for a comparison of the node's records with the lists.
const COMPARED: std::time::Duration = std::time::Duration::from_secs(20);

/// A node that can be started again, and one nexlet of type `echo`, which runs what it is told to.
struct Scene {
    bus: Bus,
    seed: String,
    nexlet: NexletId,
    registration: RegisterRequest,
    /// What the nexlet runs: how often each was started, with its name.
    running: Running,
    /// Whether it takes requests already: it does so over restarts of the node.
    serves: AtomicBool,
}

type Running = Arc<Mutex<BTreeMap<WorkloadId, (usize, String)>>>;

impl Scene {
    async fn new() -> Self {
        Self {
            bus: Bus::start().await,
            seed: KeyPair::new_server().seed().unwrap(),
            nexlet: NexletId::mint(),
            registration: RegisterRequest {
                tells_ends: true,
                ..registration("echo")
            },
            running: Running::default(),
            serves: AtomicBool::new(false),
        }
    }

    fn config(&self) -> Config {
        Config {
            identity: KeyPair::from_seed(&self.seed).unwrap(),
            ..Bus::config()
        }
    }

    async fn node(&self) -> RunningNode {
        self.bus.node_with(self.config()).await
    }

    /// Registers the nexlet, which then takes requests. Answers what it is to take up again.
    async fn join(
        &self,
        node: &NodeId,
    ) -> (
        RawNexlet<'_>,
        BTreeMap<WorkloadId, NexletStartWorkloadRequest>,
    ) {
        let id = self.nexlet.clone();
        let nexlet = self.bus.raw_nexlet(node, id, &self.registration);
        let response: RegisterResponse = body(&nexlet.register(&self.registration).await);
        for (id, order) in &response.existing_state {
            start(&self.running, id, &order.request);
        }
        if !self.serves.swap(true, Ordering::Relaxed) {
            self.serve(&nexlet).await;
        }
        nexlet.beat("running", 0, "healthy").await;
        (nexlet, response.existing_state)
    }

    async fn serve(&self, nexlet: &RawNexlet<'_>) {
        let running = Arc::clone(&self.running);
        nexlet
            .answers(&nexlet.starts(), move |request| {
                let id = request.subject.rsplit('.').next().unwrap();
                let id = WorkloadId::new(id).unwrap();
                let order: NexletStartWorkloadRequest = body(&request);
                start(&running, &id, &order.request);
                let answer = json!({"id": id, "name": order.request.name}).to_string();
                async { vec![(HeaderMap::new(), answer.into())] }
            })
            .await;
        let running = Arc::clone(&self.running);
        nexlet
            .answers(&nexlet.stops(), move |request| {
                let id = request.subject.rsplit('.').next().unwrap();
                let had = running
                    .lock()
                    .unwrap()
                    .remove(&WorkloadId::new(id).unwrap());
                let (headers, message) = match had {
                    Some(_) => (HeaderMap::new(), ""),
                    None => (
                        error_headers(ErrorCode::Nexlet, WORKLOAD_NOT_FOUND),
                        WORKLOAD_NOT_FOUND,
                    ),
                };
                let answer = json!({
                    "id": id, "message": message, "stopped": had.is_some(), "workload_type": "echo"
                });
                async move { vec![(headers, answer.to_string().into())] }
            })
            .await;
        let (running, name) = (Arc::clone(&self.running), nexlet.id.clone());
        nexlet
            .answers(&nexlet.queries(), move |_| {
                let running = running.lock().unwrap();
                let list: Vec<WorkloadSummary> = running
                    .iter()
                    .map(|(id, (_, name))| summary(id, name))
                    .collect();
                let mut headers = HeaderMap::new();
                headers.insert("agentId", name.as_str());
                async move { vec![(headers, encoded(&list))] }
            })
            .await;
    }

    async fn deploy(&self) -> WorkloadId {
        let bid = self.bus.bid("echo").await.bidder_id;
        let subject = format!("$NEX.SVC.default.control.ADEPLOY.{bid}");
        let reply = self.bus.ask(&subject, request().to_string()).await;
        assert!(nex_nats::read_error(&reply).is_none(), "{reply:?}");
        let reply: serde_json::Value = body(&reply);
        WorkloadId::new(reply["id"].as_str().unwrap()).unwrap()
    }

    async fn stop_workload(&self, id: &WorkloadId) -> StopWorkloadResponse {
        let subject = format!("$NEX.SVC.default.control.UNDEPLOY.{id}");
        body(&self.bus.ask(&subject, r#"{"namespace":"default"}"#).await)
    }

    async fn list(&self) -> Vec<WorkloadSummary> {
        let request = r#"{"filter":null,"namespace":"default"}"#;
        let reply = self
            .bus
            .ask("$NEX.SVC.default.control.WPING", request)
            .await;
        parse_list(&reply.payload).unwrap()
    }

    /// Starts the node again; nothing ran meanwhile.
    async fn restart(&self, node: RunningNode) -> RunningNode {
        node.stop(GRACE).await;
        self.running.lock().unwrap().clear();
        self.node().await
    }

    /// What a new life of the nexlet is told to take up.
    async fn handed_back(&self, node: &NodeId) -> Vec<WorkloadId> {
        let nexlet = self
            .bus
            .raw_nexlet(node, self.nexlet.clone(), &self.registration);
        let response: RegisterResponse = body(&nexlet.register(&self.registration).await);
        response.existing_state.into_keys().collect()
    }
}

fn start(running: &Running, id: &WorkloadId, request: &StartWorkloadRequest) {
    let mut running = running.lock().unwrap();
    let entry = running.entry(id.clone()).or_default();
    entry.0 += 1;
    entry.1.clone_from(&request.name);
}

fn request() -> serde_json::Value {
    let mut request = start_request("echo", r#"{"uri":"file:///bin/true"}"#);
    request["workload_lifecycle"] = "service".into();
    request
}

pub(crate) fn summary(id: &WorkloadId, name: &str) -> WorkloadSummary {
    WorkloadSummary {
        id: id.clone(),
        metadata: nex_protocol::Tags::new(),
        name: name.into(),
        namespace: Some(Namespace::default_tenant()),
        runtime: "--".into(),
        start_time: String::new(),
        tags: nex_protocol::Tags::new(),
        workload_lifecycle: Lifecycle::Service.to_string(),
        workload_state: WorkloadState::Running,
        workload_type: "echo".into(),
    }
}

fn ended(id: &WorkloadId, refused: bool) -> EndedWorkload {
    EndedWorkload {
        id: id.clone(),
        error: refused.then(|| WorkloadError {
            code: "400".into(),
            message: "no such file".into(),
        }),
        refused,
    }
}

#[tokio::test]
async fn a_restarted_node_hands_back_what_it_has_acknowledged() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    scene.join(node.id()).await;
    let ids = [scene.deploy().await, scene.deploy().await];

    let node = scene.restart(node).await;
    let (_nexlet, existing) = scene.join(node.id()).await;

    let mut expected = ids.to_vec();
    expected.sort();
    assert_eq!(existing.keys().cloned().collect::<Vec<_>>(), expected);
    let order = &existing[&ids[0]];
    assert_eq!(order.request.name, "web");
    assert_eq!(order.request.workload_lifecycle, Lifecycle::Service);
    assert_eq!(order.workload_creds.nats_servers, [scene.bus.server.url()]);
    assert!(order.existing && order.namespace_creds.is_some());
}

#[tokio::test]
async fn a_workload_that_has_ended_is_not_handed_back() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    let (nexlet, _) = scene.join(node.id()).await;
    let (over, left) = (scene.deploy().await, scene.deploy().await);

    nexlet
        .send_beat("running", 1, vec![ended(&over, false)])
        .await;
    nexlet.beat("running", 1, "healthy").await;

    let node = scene.restart(node).await;
    assert_eq!(scene.handed_back(node.id()).await, [left]);
}

#[tokio::test]
async fn who_tells_of_ends_learns_that_they_are_heard() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    let (nexlet, _) = scene.join(node.id()).await;
    let over = scene.deploy().await;
    let subject = Subject::NexletHeartbeat(node.id().clone(), nexlet.id.clone()).to_string();
    let beat = json!({
        "data": "", "ended": [ended(&over, false)],
        "summary": {
            "name": "raw", "start_time": "2026-01-02T03:04:05Z", "state": "running",
            "supported_lifecycles": "", "type": "echo", "version": "1.0.0", "workload_count": 0,
        },
    });

    for _ in 0..2 {
        let heard = scene.bus.ask(&subject, beat.to_string()).await;
        assert!(heard.payload.is_empty(), "{heard:?}");
        assert_eq!(named_node(&heard).as_deref(), Some(node.id().as_str()));
    }
    // Nobody hears one of a nexlet that is to register first.
    let stranger = Subject::NexletHeartbeat(node.id().clone(), NexletId::mint()).to_string();
    let beats = (beat.to_string(), beat.to_string());
    scene
        .bus
        .silent((&stranger, &beats.0), (&subject, &beats.1))
        .await;

    let node = scene.restart(node).await;
    assert!(scene.handed_back(node.id()).await.is_empty());
}

/// A nexlet that left a node and came back has a new id, and still knows what has ended.
#[tokio::test]
async fn ends_are_believed_of_who_had_the_workload_before() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    scene.join(node.id()).await;
    let over = scene.deploy().await;
    let node = scene.restart(node).await;

    let back = scene
        .bus
        .nexlet_as(node.id(), scene.registration.clone())
        .await;
    back.send_beat("running", 0, vec![ended(&over, false)])
        .await;
    back.beat("running", 0, "healthy").await;

    assert!(scene.handed_back(node.id()).await.is_empty());
}

#[tokio::test]
async fn what_ends_while_the_node_stops_comes_back() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    let (nexlet, _) = scene.join(node.id()).await;
    let id = scene.deploy().await;
    let mut goodbyes = scene.bus.listen("$NEX.FEED.*.events.NODESTOPPED").await;

    // A remote nexlet that is told to end at the same time says that its workloads have ended.
    nexlet.send_beat("stopping", 1, Vec::new()).await;
    let event = workload_stopped(&id);
    let subject = event.subject().to_string();
    scene
        .bus
        .client
        .publish(subject, event.body().into())
        .await
        .unwrap();
    node.stop(GRACE).await;
    next(&mut goodbyes).await;

    let node = scene.node().await;
    assert_eq!(scene.handed_back(node.id()).await, [id]);
}

fn workload_stopped(id: &WorkloadId) -> Event {
    Event::WorkloadStopped(WorkloadEvent {
        error: None,
        id: id.clone(),
        metadata: nex_protocol::Tags::new(),
        namespace: Namespace::default_tenant(),
        workload_type: "echo".into(),
    })
}

#[tokio::test]
async fn a_go_nexlets_events_tell_what_has_ended() {
    let mut scene = Scene::new().await;
    scene.registration.tells_ends = false;
    let node = scene.node().await;
    scene.join(node.id()).await;
    let (over, left) = (scene.deploy().await, scene.deploy().await);

    let event = workload_stopped(&over);
    // The node subscribes some time after the registration: it is told until it has heard it.
    eventually("the end is heard", LIMIT, || async {
        let subject = event.subject().to_string();
        scene
            .bus
            .client
            .publish(subject, event.body().into())
            .await
            .unwrap();
        scene.running.lock().unwrap().remove(&over);
        // A stop of what is forgotten finds nothing.
        let answer = scene.stop_workload(&over).await;
        if answer.stopped {
            Err(format!("{answer:?}"))
        } else {
            Ok(())
        }
    })
    .await;

    let node = scene.restart(node).await;
    assert_eq!(scene.handed_back(node.id()).await, [left]);
}

#[tokio::test]
async fn a_stopped_workload_is_not_handed_back() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    scene.join(node.id()).await;
    let (over, left) = (scene.deploy().await, scene.deploy().await);

    assert!(scene.stop_workload(&over).await.stopped);

    let node = scene.restart(node).await;
    assert_eq!(scene.handed_back(node.id()).await, [left]);
}

#[tokio::test]
async fn a_drained_node_has_nothing_to_hand_back() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    let (nexlet, _) = scene.join(node.id()).await;
    scene.deploy().await;
    let lameducks = format!("$NEX.SVC.{}.agent.SETLAMEDUCK", node.id());
    nexlet
        .says(&lameducks, r#"{"message":"","success":true}"#)
        .await;
    let subject = format!("$NEX.SVC.system.control.LAMEDUCK.{}", node.id());
    let reply: serde_json::Value = body(&scene.bus.ask(&subject, r#"{"delay":"0s"}"#).await);
    assert_eq!(reply["success"], true, "{reply}");
    node.ended().await;

    let node = scene.restart(node).await;

    assert!(scene.handed_back(node.id()).await.is_empty());
}

/// It was killed before its time was over, and is started after that.
#[tokio::test]
async fn a_lame_duck_whose_time_is_over_has_nothing_to_hand_back_and_takes_work() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    scene.join(node.id()).await;
    scene.deploy().await;
    node.stop(GRACE).await;
    let store = scene.bus.store(&scene.config());
    store
        .put_lameduck(Some(Timestamp::UNIX_EPOCH))
        .await
        .unwrap();
    drop(store);

    for _ in 0..2 {
        let node = scene.node().await;

        assert!(scene.handed_back(node.id()).await.is_empty());
        scene.running.lock().unwrap().clear();
        let (nexlet, _) = scene.join(node.id()).await;
        nexlet.beat("running", 0, "healthy").await;
        let id = scene.deploy().await;
        assert!(scene.stop_workload(&id).await.stopped);
        node.stop(GRACE).await;
    }
}

#[tokio::test]
async fn a_workload_without_its_nexlet_is_shown_cloned_and_stopped() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    scene.join(node.id()).await;
    let id = scene.deploy().await;
    let node = scene.restart(node).await;

    let list = scene.list().await;
    assert_eq!((list.len(), &list[0].id), (1, &id), "{list:?}");
    assert_eq!(list[0].workload_state, WorkloadState::Error);
    assert_eq!(list[0].metadata["nex.state"], "unknown");
    assert!(
        list[0].metadata["nex.reason"].contains("nexlet"),
        "{list:?}"
    );
    assert_eq!(list[0].name, "web");

    let clone = format!("$NEX.SVC.default.control.CLONE.{id}");
    let clone_request = r#"{"namespace":"default","new_target_xkey":""}"#;
    let cloned: StartWorkloadRequest = body(&scene.bus.ask(&clone, clone_request).await);
    assert_eq!(cloned.name, "web");
    let elsewhere = clone.replace(".default.", ".other.");
    let reply = scene
        .bus
        .ask(&elsewhere, clone_request.replace("default", "other"))
        .await;
    assert_error(&reply, ErrorCode::NotFound, WORKLOAD_NOT_FOUND);

    // It may still run in a nexlet that the node has not heard since its start.
    let answer = scene.stop_workload(&id).await;
    assert!(
        !answer.stopped && answer.message.contains("not heard"),
        "{answer:?}"
    );
    let other = format!("$NEX.SVC.other.control.UNDEPLOY.{id}");
    let answer: StopWorkloadResponse =
        body(&scene.bus.ask(&other, r#"{"namespace":"other"}"#).await);
    assert_eq!(answer.message, WORKLOAD_NOT_FOUND);
    assert_eq!(scene.handed_back(node.id()).await, [id]);
}

#[tokio::test]
async fn more_than_an_answer_holds_is_handed_back_start_by_start() {
    const WORKLOADS: usize = 60;
    let scene = Scene::new().await;
    let bus = Bus::on(
        nex_testkit::NatsServer::builder()
            .config("max_payload: 32KB")
            .start(),
    )
    .await;
    let scene = Scene { bus, ..scene };
    let node = scene.node().await;
    scene.join(node.id()).await;
    let mut ids = Vec::new();
    for _ in 0..WORKLOADS {
        ids.push(scene.deploy().await);
    }

    let node = scene.restart(node).await;
    let (_nexlet, existing) = scene.join(node.id()).await;

    assert!(
        (1..WORKLOADS).contains(&existing.len()),
        "{}",
        existing.len()
    );
    eventually("all run again", LIMIT, || async {
        match scene.running.lock().unwrap().len() {
            WORKLOADS => Ok(()),
            other => Err(format!("{other} run")),
        }
    })
    .await;
    let running = scene.running.lock().unwrap();
    assert!(
        running
            .values()
            .all(|(starts, name)| *starts == 1 && name == "web")
    );
    assert!(ids.iter().all(|id| running.contains_key(id)));
}

#[tokio::test]
async fn what_is_refused_is_shown_with_the_reason_and_tried_again() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    scene.join(node.id()).await;
    let id = scene.deploy().await;
    let node = scene.restart(node).await;
    // It registers, and then cannot start it.
    let registration = &scene.registration;
    let nexlet = scene
        .bus
        .raw_nexlet(node.id(), scene.nexlet.clone(), registration);
    let response: RegisterResponse = body(&nexlet.register(registration).await);
    assert_eq!(response.existing_state.len(), 1);
    nexlet.beat("running", 0, "healthy").await;
    let mut pushes = scene.bus.listen(&nexlet.starts()).await;

    nexlet.send_beat("running", 0, vec![ended(&id, true)]).await;
    nexlet.beat("running", 0, "healthy").await;

    // No list is answered yet, so the node shows what it knows.
    let list = scene.list().await;
    assert_eq!(list[0].workload_state, WorkloadState::Error, "{list:?}");
    let reason = &list[0].metadata["nex.reason"];
    assert!(reason.contains("no such file"), "{reason}");

    let push = next(&mut pushes).await;
    assert!(push.subject.ends_with(id.as_str()), "{push:?}");
    let order: NexletStartWorkloadRequest = body(&push);
    assert!(order.existing);
}

/// The nexlet never reported an end, and a missing entry in a list is none.
#[tokio::test]
async fn a_workload_that_its_nexlet_does_not_list_is_started_again() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    scene.join(node.id()).await;
    let id = scene.deploy().await;

    scene.running.lock().unwrap().clear();
    let listed = scene.list().await;
    // Somebody new is a reason to compare.
    let registration = &scene.registration;
    let another = scene
        .bus
        .raw_nexlet(node.id(), NexletId::mint(), registration);
    let name = another.id.clone();
    let nothing = move |_| {
        let mut headers = HeaderMap::new();
        headers.insert("agentId", name.as_str());
        async { vec![(headers, "[]".into())] }
    };
    another.answers(&another.queries(), nothing).await;
    another.register(registration).await;
    another.beat("running", 0, "healthy").await;

    assert_eq!(listed[0].id, id, "{listed:?}");
    assert_eq!(listed[0].metadata["nex.state"], "unknown");
    eventually("it runs again", COMPARED, || async {
        let running = scene.running.lock().unwrap();
        running.contains_key(&id).then_some(()).ok_or("no")
    })
    .await;
    assert_eq!(scene.list().await[0].metadata.get("nex.state"), None);
}

/// A nexlet may have been taken for running it.
#[tokio::test]
async fn a_refusal_that_follows_a_success_is_tried_again() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    let (nexlet, _) = scene.join(node.id()).await;
    let id = scene.deploy().await;
    let mut starts = scene.bus.listen(&nexlet.starts()).await;

    nexlet.send_beat("running", 0, vec![ended(&id, true)]).await;

    let start = next(&mut starts).await;
    assert!(start.subject.ends_with(id.as_str()), "{start:?}");
    let order: NexletStartWorkloadRequest = body(&start);
    assert!(order.existing);
}

/// As a stream answers that keeps whatever is sent to nexlets.
#[tokio::test]
async fn an_answer_that_is_no_answer_to_a_start_acknowledges_nothing() {
    const STORED: &str = r#"{"stream":"ALL","seq":7}"#;
    let scene = Scene::new().await;
    let node = scene.node().await;
    let id = scene.nexlet.clone();
    let nexlet = scene.bus.raw_nexlet(node.id(), id, &scene.registration);
    nexlet.register(&scene.registration).await;
    nexlet.says(&nexlet.starts(), STORED).await;
    nexlet.beat("running", 0, "healthy").await;
    let bid = scene.bus.bid("echo").await.bidder_id;

    let subject = format!("$NEX.SVC.default.control.ADEPLOY.{bid}");
    let reply = scene.bus.ask(&subject, request().to_string()).await;

    // It goes on as it is, as all answers of nexlets do.
    assert_eq!(reply.payload, STORED);
    assert!(scene.handed_back(node.id()).await.is_empty());
}

/// The nexlet is back under another id, and the node still waits for the id that it knew.
#[tokio::test]
async fn an_end_that_cannot_be_believed_yet_is_not_confirmed() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    scene.join(node.id()).await;
    let over = scene.deploy().await;
    let back = scene
        .bus
        .nexlet_as(node.id(), scene.registration.clone())
        .await;

    let beat = |id: &WorkloadId| {
        let summary = NexletSummary {
            state: "running".into(),
            ..NexletSummary::unknown()
        };
        let beat = NexletHeartbeat {
            data: String::new(),
            ended: vec![ended(id, false)],
            summary,
        };
        String::from_utf8(encoded(&beat).into()).unwrap()
    };
    let subject = Subject::NexletHeartbeat(node.id().clone(), back.id.clone()).to_string();
    // What nobody knows is confirmed, as it is of no use to tell it again.
    let strange = WorkloadId::mint(node.id());
    scene
        .bus
        .silent((&subject, &beat(&over)), (&subject, &beat(&strange)))
        .await;

    assert_eq!(scene.handed_back(node.id()).await, [over]);
}

/// A store whose disk is full.
#[derive(Debug)]
struct FullStore;

impl StateStore for FullStore {
    fn load(&self) -> Pending<'_, Vec<Record>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn put<'a>(&'a self, _: &'a Record) -> Pending<'a, ()> {
        Box::pin(async {
            Err(StateError::Write {
                place: "journal".into(),
                source: "no space left on device".into(),
            })
        })
    }

    fn remove<'a>(&'a self, _: &'a WorkloadId, _: &'a str) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn load_lameduck(&self) -> Pending<'_, Option<Timestamp>> {
        Box::pin(async { Ok(None) })
    }

    fn put_lameduck(&self, _: Option<Timestamp>) -> Pending<'_, ()> {
        Box::pin(async {
            Err(StateError::Write {
                place: "journal".into(),
                source: "no space left on device".into(),
            })
        })
    }
}

/// One that took work again, and were killed, would forget all of it when its time is over.
#[tokio::test]
async fn a_lame_duck_is_not_called_back_where_that_cannot_be_kept() {
    let scene = Scene::new().await;
    let connection = nex_nats::connect(&scene.bus.options()).await.unwrap();
    let minter = Minter::PassThrough(scene.bus.options().to_data().unwrap());
    let node = Node::start(scene.config(), connection, minter, Arc::new(FullStore))
        .await
        .unwrap();
    let subject = Subject::Lameduck(node.id().clone()).to_string();
    let told: LameduckResponse = body(&scene.bus.ask(&subject, r#"{"delay":"1h"}"#).await);
    assert!(told.success && told.message.contains("comes back taking work"));

    let cancel = r#"{"delay":"0s","cancel":true}"#;
    let refused = scene.bus.ask(&subject, cancel).await;

    let text = "failed to keep that the node takes work again: it stays a lame duck";
    assert_error(&refused, ErrorCode::Internal, text);
    let tags: Tags = body(&scene.bus.ask("$NEX.SVC.system.control.PTAGS", "").await);
    assert_eq!(tags["nex.lameduck"], "true");
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_and_does_not_run() {
    let scene = Scene::new().await;
    let connection = nex_nats::connect(&scene.bus.options()).await.unwrap();
    let minter = Minter::PassThrough(scene.bus.options().to_data().unwrap());
    let node = Node::start(scene.config(), connection, minter, Arc::new(FullStore))
        .await
        .unwrap();
    scene.join(node.id()).await;
    let bid = scene.bus.bid("echo").await.bidder_id;
    let subject = format!("$NEX.SVC.default.control.ADEPLOY.{bid}");

    let reply = scene.bus.ask(&subject, request().to_string()).await;

    assert_error(&reply, ErrorCode::Internal, "failed to keep the workload");
    eventually("it is stopped", LIMIT, || async {
        match scene.running.lock().unwrap().len() {
            0 => Ok(()),
            other => Err(format!("{other} run")),
        }
    })
    .await;
    assert_eq!(scene.list().await, []);
}
