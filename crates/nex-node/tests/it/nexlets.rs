//! Nexlets that the node runs itself, on the SDK: as threads and as processes.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nex_node::{ForeignNexlet, LocalNexlet, NexletPlan};
use nex_process::Launcher;
use nex_protocol::{
    Lifecycle, Namespace, StartWorkloadRequest, Tags, WorkloadId, WorkloadState, WorkloadSummary,
    control::{AuctionReply, NodePingResponse, NodeState},
    workload::{StartWorkloadResponse, StopWorkloadResponse, parse_list},
};
use nex_testkit::eventually;
use nexlet::{Description, Nexlet, Refusal, RunnerConfig, Start, Started, Stop, StopError};
use tokio_util::sync::CancellationToken;

use crate::support::{Bus, LIMIT, body, next, start_request};

/// Runs nothing, and remembers what.
#[derive(Default)]
struct FakeNexlet {
    workloads: Mutex<BTreeMap<WorkloadId, StartWorkloadRequest>>,
}

impl FakeNexlet {
    fn workloads(&self) -> std::sync::MutexGuard<'_, BTreeMap<WorkloadId, StartWorkloadRequest>> {
        self.workloads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nexlet for FakeNexlet {
    fn describe(&self) -> Description {
        Description {
            name: "fake".into(),
            workload_type: "fake".into(),
            version: "1.0.0".into(),
            description: "runs nothing".into(),
            lifecycles: vec![Lifecycle::Job],
            max_workloads: 0,
            start_request_schema: serde_json::json!({"type": "object"}),
        }
    }

    async fn start(&self, start: Start) -> Result<Started, Refusal> {
        if start.request.name == "refused" {
            return Err(Refusal::bad_request("one line\nand another"));
        }
        let name = start.request.name.clone();
        self.workloads().insert(start.id, start.request);
        Ok(Started { name })
    }

    async fn stop(&self, stop: Stop) -> Result<(), StopError> {
        let stopped = self.workloads().remove(&stop.id);
        stopped.map(drop).ok_or(StopError::NotFound)
    }

    fn list(&self) -> Vec<WorkloadSummary> {
        let workloads = self.workloads();
        let each = workloads.iter().map(|(id, request)| WorkloadSummary {
            id: id.clone(),
            metadata: Tags::new(),
            name: request.name.clone(),
            namespace: Some(request.namespace.clone()),
            runtime: "--".into(),
            start_time: String::new(),
            tags: Tags::new(),
            workload_lifecycle: "job".into(),
            workload_state: WorkloadState::Running,
            workload_type: "fake".into(),
        });
        each.collect()
    }

    fn get(&self, id: &WorkloadId) -> Option<StartWorkloadRequest> {
        self.workloads().get(id).cloned()
    }

    async fn shutdown(&self, _grace: Duration) {
        self.workloads().clear();
    }
}

fn embedded(nexlet: &Arc<FakeNexlet>) -> NexletPlan {
    let nexlet = Arc::clone(nexlet);
    NexletPlan::embedded("fake", move || Arc::clone(&nexlet))
}

async fn start(bus: &Bus, name: &str) -> async_nats::Message {
    let bid = bus.bid("fake").await.bidder_id;
    let mut request = start_request("fake", "{}");
    request["name"] = name.into();
    let subject = format!("$NEX.SVC.default.control.ADEPLOY.{bid}");
    bus.ask(&subject, request.to_string()).await
}

#[tokio::test]
async fn a_workload_lives_through_the_whole_protocol() {
    let bus = Bus::start().await;
    let mut config = Bus::config();
    let nexlet = Arc::new(FakeNexlet::default());
    config.nexlets = vec![embedded(&nexlet)];
    let node = bus.node_with(config).await;
    node.ready(LIMIT).await.unwrap();

    let started: StartWorkloadResponse = body(&start(&bus, "web").await);
    let list = r#"{"filter":["web"],"namespace":"default"}"#;
    let listed = bus.ask("$NEX.SVC.default.control.WPING", list).await;
    let listed = parse_list(&listed.payload).unwrap();
    let stop = format!("$NEX.SVC.default.control.UNDEPLOY.{}", started.id);
    let stopped = bus
        .ask(&stop, r#"{"namespace":"default","wait":"5s"}"#)
        .await;
    let again = bus
        .ask(&stop, r#"{"namespace":"default","wait":"5s"}"#)
        .await;

    assert_eq!(started.name, "web");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].id.as_str(), started.id.as_str());
    assert_eq!(listed[0].namespace, Some(Namespace::default_tenant()));
    assert!(
        body::<StopWorkloadResponse>(&stopped).stopped,
        "{stopped:?}"
    );
    assert!(!body::<StopWorkloadResponse>(&again).stopped, "{again:?}");
    assert!(nexlet.workloads().is_empty());
    node.stop(LIMIT).await;
}

#[tokio::test]
async fn a_refusal_with_line_breaks_reaches_the_client_on_one_line() {
    let bus = Bus::start().await;
    let mut config = Bus::config();
    config.nexlets = vec![embedded(&Arc::default())];
    let node = bus.node_with(config).await;
    node.ready(LIMIT).await.unwrap();

    let refused = start(&bus, "refused").await;

    let (_, text) = nex_nats::read_error(&refused).unwrap();
    assert_eq!(text, "one line and another");
    node.stop(LIMIT).await;
}

#[tokio::test]
async fn a_stop_ends_bids_then_nexlets_then_the_node() {
    let bus = Bus::start().await;
    let mut config = Bus::config();
    let nexlet = Arc::new(FakeNexlet::default());
    config.nexlets = vec![embedded(&nexlet)];
    let node = bus.node_with(config).await;
    node.ready(LIMIT).await.unwrap();
    start(&bus, "web").await;
    let mut events = bus.listen("$NEX.FEED.*.events.*").await;

    node.stop(LIMIT).await;

    assert!(nexlet.workloads().is_empty());
    let stopped = next(&mut events).await;
    assert!(stopped.subject.ends_with(".AGENTSTOPPED"), "{stopped:?}");
    assert_eq!(body::<serde_json::Value>(&stopped)["reason"], "stopped");
    assert!(next(&mut events).await.subject.ends_with(".NODESTOPPED"));
    let asked = bus
        .client
        .request("$NEX.SVC.system.control.PING", r#"{"filter":null}"#.into());
    let error = asked.await.unwrap_err();
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn an_embedded_nexlet_that_panics_is_made_and_started_again() {
    let bus = Bus::start().await;
    let mut config = Bus::config();
    let lives = Mutex::new(0);
    config.nexlets = vec![NexletPlan::embedded("fake", move || {
        let mut lives = lives.lock().unwrap();
        *lives += 1;
        let first = *lives == 1;
        drop(lives);
        assert!(!first, "the first life of this test's nexlet");
        Arc::new(FakeNexlet::default())
    })];
    let node = bus.node_with(config).await;

    node.ready(LIMIT).await.unwrap();

    node.stop(LIMIT).await;
}

#[tokio::test]
async fn a_nexlet_that_never_comes_is_named_with_the_reason() {
    let bus = Bus::start().await;
    let mut config = Bus::config();
    config.nexlets = vec![local("missing", "/nowhere/nexlet", &[])];
    let node = bus.node_with(config).await;

    let not_ready = node.ready(Duration::from_secs(60)).await.unwrap_err();

    let [missing] = not_ready.missing.as_slice() else {
        panic!("{not_ready}");
    };
    assert_eq!(missing.label, "missing");
    assert!(missing.reason.contains("/nowhere/nexlet"), "{not_ready}");
    let ping = bus
        .ask("$NEX.SVC.system.control.PING", r#"{"filter":null}"#)
        .await;
    assert_eq!(body::<NodePingResponse>(&ping).state, NodeState::Starting);
    node.stop(LIMIT).await;
}

#[tokio::test]
async fn a_foreign_nexlet_that_is_given_up_is_told_everywhere_and_keeps_nobody_waiting() {
    let bus = Bus::start().await;
    let mut stopped = bus.listen("$NEX.FEED.*.events.AGENTSTOPPED").await;
    let mut config = Bus::config();
    let hopeless = NexletPlan::Foreign(ForeignNexlet {
        program: "/opt/acme/acme-nexlet".into(),
        args: Vec::new(),
        env: Vec::new(),
        cwd: "/".into(),
        restart_limit: Some(1),
        launcher: Launcher::new("/nowhere"),
    });
    config.nexlets = vec![embedded(&Arc::default()), hopeless];

    let node = bus.node_with(config).await;

    node.ready(LIMIT).await.unwrap();
    let event: serde_json::Value = body(&next(&mut stopped).await);
    assert_eq!(event["name"], "acme-nexlet", "{event}");
    let reason = event["reason"].as_str().unwrap();
    assert!(reason.contains("given up after 2 ends"), "{event}");
    assert!(reason.contains("/opt/acme/acme-nexlet"), "{event}");
    let info = bus.info(node.id()).await;
    let told = info
        .node_agent_summaries
        .iter()
        .find(|nexlet| nexlet.agent_id == event["id"]);
    let told = told.expect("it stays in sight");
    assert_eq!(told.agent_health, "offline");
    assert_eq!(told.agent_summary.name, "acme-nexlet");
    assert_eq!(told.agent_summary.state, "given up");
    node.stop(LIMIT).await;
}

fn local(workload_type: &str, program: impl Into<PathBuf>, args: &[&str]) -> NexletPlan {
    NexletPlan::Local(LocalNexlet {
        workload_type: workload_type.into(),
        program: program.into(),
        args: args.iter().map(ToString::to_string).collect(),
        env: vec![("NEX_TEST_NEXLET".into(), "1".into())],
        cwd: "/".into(),
    })
}

/// The plan for a process of this test program that runs [`a_process_of_its_own`].
fn local_fake() -> NexletPlan {
    let args = [
        "--ignored",
        "--exact",
        "nexlets::a_process_of_its_own",
        "--nocapture",
    ];
    local("fake", std::env::current_exe().unwrap(), &args)
}

/// No test: what the tests below start as their nexlet's process.
#[tokio::test]
#[ignore = "a part of other tests, which start it as a process"]
async fn a_process_of_its_own() {
    if std::env::var("NEX_TEST_NEXLET").is_err() {
        return;
    }
    let config = RunnerConfig::from_environment(|name| std::env::var(name).ok()).unwrap();
    let cancel = CancellationToken::new();
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let lifeline = nex_process::lifeline().unwrap();
    let told = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            () = lifeline => {}
        }
        told.cancel();
    });
    nexlet::run(Arc::new(FakeNexlet::default()), config, cancel)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_local_nexlet_runs_workloads_and_ends_with_the_node() {
    let bus = Bus::start().await;
    let mut config = Bus::config();
    config.nexlets = vec![local_fake()];
    let node = bus.node_with(config).await;
    node.ready(LIMIT).await.unwrap();
    let mut events = bus.listen("$NEX.FEED.*.events.AGENTSTOPPED").await;

    let started = start(&bus, "web").await;
    let told = std::time::Instant::now();
    node.stop(LIMIT).await;

    assert!(nex_nats::read_error(&started).is_none(), "{started:?}");
    // It obeyed; it was not killed at the end of its grace.
    assert!(told.elapsed() < LIMIT, "{:?}", told.elapsed());
    let stopped: serde_json::Value = body(&next(&mut events).await);
    assert_eq!(stopped["reason"], "stopped");
    assert_eq!(stopped["name"], "fake");
}

#[tokio::test]
async fn a_local_nexlet_that_is_killed_comes_back_under_its_id() {
    let bus = Bus::start().await;
    let mut config = Bus::config();
    config.nexlets = vec![local_fake()];
    let node = bus.node_with(config).await;
    node.ready(LIMIT).await.unwrap();
    let mut stopped = bus.listen("$NEX.FEED.*.events.AGENTSTOPPED").await;
    let id = bus.info(node.id()).await.node_agent_summaries[0]
        .agent_id
        .clone();

    kill_nexlet(&id);

    let event: serde_json::Value = body(&next(&mut stopped).await);
    assert_eq!(event["id"], id);
    assert_eq!(event["reason"], "signal 9");
    // It is out of the books at once, and then back.
    let auction = r#"{"agent_type":"fake","auction_id":"a","tags":{},"explain":true}"#;
    eventually("the nexlet bids again", LIMIT, || async {
        let reply = bus.ask("$NEX.SVC.default.control.AUCTION", auction).await;
        match body(&reply) {
            AuctionReply::Bid(_) => Ok(()),
            AuctionReply::Declined(declined) => Err(declined),
        }
    })
    .await;
    let info = bus.info(node.id()).await;
    assert_eq!(info.node_agent_summaries.len(), 1);
    assert_eq!(info.node_agent_summaries[0].agent_id, id);
    assert!(nex_nats::read_error(&start(&bus, "web").await).is_none());
    node.stop(LIMIT).await;
}

/// Kills the child of this process that was started with that nexlet id.
fn kill_nexlet(id: &str) {
    let wanted = format!("NEX_AGENT_ASSIGNED_ID={id}");
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<u32>().ok()
    });
    let mut killed = 0;
    for pid in pids {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
        {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            killed += 1;
        }
    }
    assert_eq!(killed, 1, "processes of nexlet {id}");
}
