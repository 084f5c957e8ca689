//! Remote nexlets that are cut off, come back, or do not: each workload runs once.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{HeaderMap, Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use nex_node::{Config, Record, RunningNode};
use nex_protocol::{
    MORE_HEADER, NODE_HEADER, Namespace, NexletId, NodeId, ONLY_HEADER, Subject, WorkloadId,
    WorkloadState, WorkloadSummary,
    registration::{EndedWorkload, NexletSummary, RegisterRequest, RegisterResponse},
    workload::{NexletStartWorkloadRequest, parse_list},
};
use nex_testkit::eventually;
use nkeys::KeyPair;
use serde_json::json;

use crate::{
    restore::summary,
    support::{Bus, LIMIT, RawNexlet, body, json as encoded, next, registration, start_request},
};

/// When a nexlet that is not heard of is surely gone, and what a busy machine needs beyond it.
const GONE: Duration = Duration::from_secs(60);

/// When a start that is not answered is handed over again: after the time that it may take, and when
/// a list does not show it.
const UNANSWERED: Duration = Duration::from_secs(180);

const BEAT: Duration = Duration::from_secs(2);

/// A node that had a workload on a remote nexlet when it was ended.
struct Scene {
    bus: Bus,
    seed: String,
    id: WorkloadId,
}

impl Scene {
    async fn with_workload_of(holder: &NexletId) -> Self {
        let (bus, identity) = (Bus::start().await, KeyPair::new_server());
        let node = NodeId::new(identity.public_key()).unwrap();
        let scene = Self {
            bus,
            seed: identity.seed().unwrap(),
            id: WorkloadId::mint(&node),
        };
        scene.keep(&scene.id, holder, "service").await;
        scene
    }

    /// Writes down that a nexlet has a workload.
    async fn keep(&self, id: &WorkloadId, holder: &NexletId, lifecycle: &str) {
        let mut request = start_request("echo", r#"{"uri":"file:///bin/true"}"#);
        request["workload_lifecycle"] = lifecycle.into();
        let record = Record {
            id: id.clone(),
            request: serde_json::from_value(request).unwrap(),
            remote_nexlet: Some(holder.clone()),
            started: None,
        };
        let store = self.bus.store(&self.config());
        store.put(&record).await.unwrap();
    }

    fn node_id(&self) -> NodeId {
        NodeId::new(self.config().identity.public_key()).unwrap()
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

    /// A nexlet that names itself and lists what it has.
    async fn join(&self, node: &NodeId, id: &NexletId, has: &Has) -> RawNexlet<'_> {
        let nexlet = self.bus.raw_nexlet(node, id.clone(), &ours());
        let response: RegisterResponse = body(&nexlet.register(&ours()).await);
        assert!(response.success, "{response:?}");
        let (has, name) = (Arc::clone(has), id.clone());
        let list = move |_| {
            let has = has.lock().unwrap();
            let answer = has.as_ref().map(|has| {
                let list: Vec<WorkloadSummary> = has.iter().map(|id| summary(id, "web")).collect();
                let mut headers = HeaderMap::new();
                headers.insert("agentId", name.as_str());
                (headers, encoded(&list))
            });
            async move { answer.into_iter().collect() }
        };
        nexlet.answers(&nexlet.queries(), list).await;
        nexlet.beat("running", 0, "healthy").await;
        nexlet
    }
}

/// What a nexlet lists; nothing at all, where it is cut off.
type Has = Arc<Mutex<Option<BTreeSet<WorkloadId>>>>;

fn has(ids: impl IntoIterator<Item = WorkloadId>) -> Has {
    Arc::new(Mutex::new(Some(ids.into_iter().collect())))
}

fn ours() -> RegisterRequest {
    RegisterRequest {
        tells_ends: true,
        ..registration("echo")
    }
}

/// Answers the next stop, and says whom it was for.
async fn next_stop(scene: &Scene, stops: &mut Subscriber) -> Option<String> {
    let stop: Message = next(stops).await;
    assert!(stop.subject.ends_with(scene.id.as_str()), "{stop:?}");
    let answer = json!({
        "id": scene.id, "message": "", "stopped": true, "workload_type": "echo"
    });
    let reply = stop.reply.unwrap();
    let answered = scene.bus.client.publish(reply, answer.to_string().into());
    answered.await.unwrap();
    let only = stop.headers?.get(ONLY_HEADER)?.to_string();
    Some(only)
}

#[tokio::test]
async fn a_nexlet_that_is_back_stops_what_another_one_has() {
    let (heir, back) = (NexletId::mint(), NexletId::mint());
    let scene = Scene::with_workload_of(&heir).await;
    let node = scene.node().await;
    let both = has([scene.id.clone()]);
    let first = scene.join(node.id(), &heir, &both).await;
    let mut stops = scene.bus.listen(&first.stops()).await;

    scene.join(node.id(), &back, &both).await;

    let only = next_stop(&scene, &mut stops).await;
    assert_eq!(only.as_deref(), Some(back.as_str()));
}

#[tokio::test]
async fn a_nexlet_that_is_back_keeps_what_nobody_else_has() {
    let (gone, back) = (NexletId::mint(), NexletId::mint());
    let scene = Scene::with_workload_of(&gone).await;
    let node = scene.node().await;
    scene.join(node.id(), &back, &has([scene.id.clone()])).await;

    // Whose it is shows when its nexlet registers again.
    eventually("it is handed to who has it", LIMIT, || async {
        let nexlet = scene.bus.raw_nexlet(node.id(), back.clone(), &ours());
        let response: RegisterResponse = body(&nexlet.register(&ours()).await);
        let handed: Vec<WorkloadId> = response.existing_state.into_keys().collect();
        if handed == [scene.id.clone()] {
            Ok(())
        } else {
            Err(handed)
        }
    })
    .await;
}

/// It was there before the other one vanished.
#[tokio::test]
async fn a_nexlet_takes_up_what_another_one_left() {
    let gone = NexletId::mint();
    let scene = Scene::with_workload_of(&gone).await;
    let node = scene.node().await;
    let heir = NexletId::mint();
    let nexlet = scene.join(node.id(), &heir, &has([])).await;
    let cut_off = has([scene.id.clone()]);
    scene.join(node.id(), &gone, &cut_off).await;
    cut_off.lock().unwrap().take();
    let mut starts = scene.bus.listen(&nexlet.starts()).await;

    let started = tokio::time::timeout(GONE, async {
        loop {
            tokio::select! {
                start = starts.next() => return start.unwrap(),
                () = tokio::time::sleep(BEAT) => nexlet.send_beat("running", 0, Vec::new()).await,
            }
        }
    });
    let start = started.await.expect("it is handed over");

    assert!(start.subject.ends_with(scene.id.as_str()), "{start:?}");
    let order: NexletStartWorkloadRequest = body(&start);
    assert!(order.existing);
    assert!(order.request.namespace == Namespace::default_tenant());
    assert!(starts.next().now_or_never().is_none(), "once");
}

async fn list(scene: &Scene) -> Vec<WorkloadSummary> {
    let question = r#"{"filter":null,"namespace":"default"}"#;
    let subject = "$NEX.SVC.default.control.WPING";
    parse_list(&scene.bus.ask(subject, question).await.payload).unwrap()
}

#[tokio::test]
async fn a_workload_of_a_nexlet_that_is_not_heard_of_is_unknown() {
    let holder = NexletId::mint();
    let scene = Scene::with_workload_of(&holder).await;
    let node = scene.node().await;
    let here = has([scene.id.clone()]);
    scene.join(node.id(), &holder, &here).await;
    assert_eq!(list(&scene).await[0].workload_state, WorkloadState::Running);

    // Cut off: nobody takes what it is asked to start, which the node notices.
    here.lock().unwrap().take();
    let bid = scene.bus.bid("echo").await.bidder_id;
    let subject = format!("$NEX.SVC.default.control.ADEPLOY.{bid}");
    let request = start_request("echo", r#"{"uri":"file:///bin/true"}"#);
    let refused = scene.bus.ask(&subject, request.to_string()).await;
    assert!(nex_nats::read_error(&refused).is_some(), "{refused:?}");

    let listed = list(&scene).await;
    assert_eq!((listed.len(), &listed[0].id), (1, &scene.id), "{listed:?}");
    assert_eq!(listed[0].workload_state, WorkloadState::Error);
    assert_eq!(listed[0].metadata["nex.state"], "unknown");
    let reason = format!("its nexlet `{holder}` is not heard of");
    assert_eq!(listed[0].metadata["nex.reason"], reason);
}

/// It may run: so it is not called off, and handed over again when nobody lists it.
#[tokio::test]
async fn a_start_that_is_handed_back_and_not_answered_is_neither_lost_nor_undone() {
    let holder = NexletId::mint();
    let scene = Scene::with_workload_of(&holder).await;
    let node = scene.node().await;
    let nexlet = scene.join(node.id(), &holder, &has([])).await;
    let mut stops = scene.bus.listen(&nexlet.stops()).await;
    let mut starts = scene.bus.listen(&nexlet.starts()).await;
    let refused = EndedWorkload {
        id: scene.id.clone(),
        error: None,
        refused: true,
    };
    nexlet.send_beat("running", 0, vec![refused]).await;

    // The first one is not answered, for longer than the node waits.
    let handed_over = tokio::time::timeout(UNANSWERED, async {
        let mut handed_over = 0;
        while handed_over < 2 {
            tokio::select! {
                start = starts.next() => {
                    let start = start.unwrap();
                    assert!(start.subject.ends_with(scene.id.as_str()), "{start:?}");
                    let order: NexletStartWorkloadRequest = body(&start);
                    assert!(order.existing);
                    handed_over += 1;
                }
                () = tokio::time::sleep(BEAT) => nexlet.send_beat("running", 0, Vec::new()).await,
            }
        }
    });
    handed_over.await.expect("it is handed over again");

    assert!(stops.next().now_or_never().is_none(), "not called off");
    assert_eq!(list(&scene).await[0].id, scene.id);
}

/// By one that does not beat. A list that is too long for one message comes in parts, if the asker
/// says that it is a node of ours.
#[tokio::test]
async fn what_is_still_listed_is_not_taken_up() {
    let gone = NexletId::mint();
    let scene = Scene::with_workload_of(&gone).await;
    let left = WorkloadId::mint(&scene.node_id());
    scene.keep(&left, &gone, "service").await;
    let node = scene.node().await;
    let heir = scene.join(node.id(), &NexletId::mint(), &has([])).await;
    let mut starts = scene.bus.listen(&heir.starts()).await;
    let cut_off = scene.bus.raw_nexlet(node.id(), gone.clone(), &ours());
    let (still, name) = (scene.id.clone(), gone.clone());
    let list = move |question: Message| {
        let headers = question.headers.unwrap_or_default();
        let mut own = HeaderMap::new();
        own.insert("agentId", name.as_str());
        let mut more = own.clone();
        more.insert(MORE_HEADER, "true");
        let mut parts = vec![(more, encoded(&Vec::<WorkloadSummary>::new()))];
        if headers.get(NODE_HEADER).is_some() {
            parts.push((own, encoded(&[summary(&still, "web")])));
        }
        async move { parts }
    };
    cut_off.answers(&cut_off.queries(), list).await;

    let started = tokio::time::timeout(GONE, async {
        loop {
            tokio::select! {
                start = starts.next() => return start.unwrap(),
                () = tokio::time::sleep(BEAT) => heir.send_beat("running", 0, Vec::new()).await,
            }
        }
    });
    let start = started.await.expect("what nobody lists is handed over");

    assert!(start.subject.ends_with(left.as_str()), "{start:?}");
    let response: RegisterResponse = body(&cut_off.register(&ours()).await);
    let handed: Vec<WorkloadId> = response.existing_state.into_keys().collect();
    assert_eq!(handed, std::slice::from_ref(&scene.id));
}

/// Its nexlet has outlived the node, and the end of the lame duck.
#[tokio::test]
async fn what_was_drained_while_the_node_was_away_is_stopped() {
    let holder = NexletId::mint();
    let scene = Scene::with_workload_of(&holder).await;
    let store = scene.bus.store(&scene.config());
    let ends = Some(Timestamp::UNIX_EPOCH);
    store.put_lameduck(ends).await.unwrap();
    drop(store);
    let node = scene.node().await;
    let nexlet = scene.bus.raw_nexlet(node.id(), holder.clone(), &ours());
    let mut stops = scene.bus.listen(&nexlet.stops()).await;

    scene
        .join(node.id(), &holder, &has([scene.id.clone()]))
        .await;

    assert_eq!(next_stop(&scene, &mut stops).await, None);
}

/// A nexlet as those of the Go SDK: it registers once, and names itself nowhere.
async fn go_nexlet<'a>(scene: &'a Scene, node: &NodeId, id: &NexletId, has: &Has) -> RawNexlet<'a> {
    let registration = registration("echo");
    let nexlet = scene.bus.raw_nexlet(node, id.clone(), &registration);
    let has = Arc::clone(has);
    let lists = move |_| {
        let has = has.lock().unwrap();
        let list: Vec<WorkloadSummary> =
            has.iter().flatten().map(|id| summary(id, "web")).collect();
        async move { vec![(HeaderMap::new(), encoded(&list))] }
    };
    nexlet.answers(&nexlet.queries(), lists).await;
    let running = NexletSummary {
        state: "running".into(),
        workload_type: "echo".into(),
        ..NexletSummary::unknown()
    };
    let ping = Subject::NexletPing(node.clone(), id.clone()).to_string();
    let pong = String::from_utf8(encoded(&running).into()).unwrap();
    nexlet.says(&ping, &pong).await;
    let response: RegisterResponse = body(&nexlet.register(&registration).await);
    assert!(response.success, "{response:?}");
    nexlet.beat("running", 0, "healthy").await;
    nexlet
}

const GRACE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_nexlet_that_registers_once_is_known_to_a_node_that_is_started_again() {
    let id = NexletId::mint();
    let scene = Scene::with_workload_of(&id).await;
    let node = scene.node().await;
    let here = has([scene.id.clone()]);
    go_nexlet(&scene, node.id(), &id, &here).await;
    node.stop(GRACE).await;

    let node = scene.node().await;

    let listed = list(&scene).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].workload_state, WorkloadState::Running);
    let info = scene.bus.info(node.id()).await;
    let known: Vec<&str> = info
        .node_agent_summaries
        .iter()
        .map(|nexlet| nexlet.agent_id.as_str())
        .collect();
    assert_eq!(known, [id.as_str()]);
    eventually("the node bids with it", LIMIT, || async {
        let asked = scene.bus.client.request(
            "$NEX.SVC.default.control.AUCTION",
            crate::support::auction("echo").into(),
        );
        asked.await
    })
    .await;
}

/// The event of the job's end came while the node was away.
#[tokio::test]
async fn a_job_of_a_nexlet_that_registers_once_has_ended_where_two_lists_leave_it_out() {
    let id = NexletId::mint();
    let scene = Scene::with_workload_of(&id).await;
    scene.keep(&scene.id, &id, "job").await;
    let node = scene.node().await;
    let here = has([scene.id.clone()]);
    let nexlet = go_nexlet(&scene, node.id(), &id, &here).await;
    let mut starts = scene.bus.listen(&nexlet.starts()).await;
    node.stop(GRACE).await;
    here.lock().unwrap().take();

    let node = scene.node().await;

    assert_eq!(list(&scene).await.len(), 1, "it is not sure yet");
    eventually("it is over", GONE, || async {
        // Somebody new is a reason to compare.
        go_nexlet(&scene, node.id(), &NexletId::mint(), &has([])).await;
        let listed = list(&scene).await;
        listed.is_empty().then_some(()).ok_or(listed)
    })
    .await;
    assert!(starts.next().now_or_never().is_none(), "not started again");
}
