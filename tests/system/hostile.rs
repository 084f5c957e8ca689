//! A flood of messages that nobody in his right mind sends, on everything that a node and its
//! nexlets listen to.

mod message;

use std::{
    cell::Cell,
    fs,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use nex_testkit::{Home, NatsServer, Process, RawNats, eventually};
use serde_json::{Value, json};

use crate::{LIMIT, node::NodeUp};
use message::{Maker, Random};

/// How many messages are sent; with `NEX_TEST_FULL=1` as many on each subject, which takes long.
const MESSAGES: u64 = 100_000;

/// The first of them, which may make a process grow: caches, buffers, the pages of its allocator.
const WARM_UP: u64 = 20_000;

/// How many are on their way at a time; a subscription of the NATS library holds 65,536.
const WINDOW: u64 = 1_000;

/// How much a process may grow after that: 256 bytes a message would be 20 MiB.
const GROWTH_KIB: u64 = 20 * 1024;

/// How many more open files, and how many more threads, are no leak.
const SLACK: usize = 16;

/// What a process holds.
#[derive(Debug)]
struct Holds {
    memory_kib: u64,
    files: usize,
    threads: usize,
}

impl Holds {
    fn read(process: &Process) -> Self {
        let dir = format!("/proc/{}", process.pid);
        let count = |name| fs::read_dir(format!("{dir}/{name}")).unwrap().count();
        let status = fs::read_to_string(format!("{dir}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Self {
            memory_kib: kib.unwrap().parse().unwrap(),
            files: count("fd"),
            threads: count("task"),
        }
    }
}

/// The processes that are flooded: the node and its nexlets.
fn flooded(home: &Home) -> Vec<Process> {
    let mut found = home.processes();
    found.retain(|process| {
        let command = &process.command;
        command.contains(" node up ") || command.contains(" nexlet run ")
    });
    assert_eq!(
        found.len(),
        4,
        "a node, a native, a js and a wasm nexlet: {found:?}"
    );
    found
}

struct Flood {
    client: async_nats::Client,
    node: String,
    nexlets: Vec<(String, String)>,
    /// Requests of its own that the node counts too.
    asked: Cell<u64>,
}

impl Flood {
    async fn ask(&self, subject: &str, body: &Value) -> Value {
        self.asked
            .set(self.asked.get() + u64::from(subject.contains(".control.")));
        let asked = self
            .client
            .request(subject.to_owned(), body.to_string().into());
        let reply = asked.await.unwrap_or_else(|e| panic!("{subject}: {e}"));
        serde_json::from_slice(&reply.payload).unwrap()
    }

    /// Waits until all of them have answered something that is behind the flood.
    async fn catch_up(&self) {
        let ping = format!("$NEX.SVC.system.control.PING.{}", self.node);
        self.ask(&ping, &json!({ "filter": null })).await;
        for (_, nexlet) in &self.nexlets {
            let ping = format!("$NEX.SVC.{}.agent.{nexlet}.PING", self.node);
            self.ask(&ping, &json!({})).await;
        }
    }

    async fn send(&self, raw: &mut RawNats, maker: &mut Maker, count: u64) {
        for number in 0..count {
            let message = maker.next();
            raw.send(&message).await.unwrap();
            if number % WINDOW == 0 {
                self.catch_up().await;
            }
        }
        self.catch_up().await;
    }

    /// How many requests the node has heard, so far.
    async fn heard(&self) -> u64 {
        let stats = self.ask("$SRV.STATS.nexnode", &json!({})).await;
        let endpoints = stats["endpoints"].as_array().unwrap().iter();
        endpoints
            .map(|one| one["num_requests"].as_u64().unwrap())
            .sum()
    }

    async fn bid(&self, workload_type: &str) -> String {
        // A forged heartbeat makes a nexlet unhealthy until its next real one; the node then says so.
        let auction = json!({
            "agent_type": workload_type, "auction_id": "a", "tags": null, "explain": true,
        });
        eventually("a bid", LIMIT, || async {
            let bid = self.ask("$NEX.SVC.default.control.AUCTION", &auction).await;
            bid["bidder_id"]
                .as_str()
                .map(ToOwned::to_owned)
                .ok_or(bid.to_string())
        })
        .await
    }

    /// Shows that the node does its work: it starts a workload, lists it, and stops it.
    async fn works(&self) {
        let bid = self.bid("native").await;
        self.bid("js").await;
        let run = json!({ "uri": "file:///bin/sleep", "argv": ["1006"] });
        let started = self
            .ask(
                &format!("$NEX.SVC.default.control.ADEPLOY.{bid}"),
                &json!({
                    "description": "",
                    "name": "web",
                    "namespace": "default",
                    "run_request": run.to_string(),
                    "tags": null,
                    "workload_lifecycle": "service",
                    "workload_type": "native",
                }),
            )
            .await;
        let id = started["id"]
            .as_str()
            .unwrap_or_else(|| panic!("{started}"));
        let list = json!({ "filter": [id], "namespace": "default" });
        let listed = self.ask("$NEX.SVC.default.control.WPING", &list).await;
        assert_eq!(listed[0]["id"], id, "{listed}");
        assert_eq!(listed[0]["workload_state"], "running", "{listed}");
        let stop = json!({ "namespace": "default", "wait": "10s" });
        let undeploy = format!("$NEX.SVC.default.control.UNDEPLOY.{id}");
        let stopped = self.ask(&undeploy, &stop).await;
        assert_eq!(stopped["stopped"], true, "{stopped}");
    }
}

async fn flood_of(server: &NatsServer) -> Flood {
    let client = async_nats::connect(server.url()).await.unwrap();
    let filter = r#"{"filter":null}"#;
    let asked = client.request("$NEX.SVC.system.control.PING", filter.into());
    let ping: Value = serde_json::from_slice(&asked.await.unwrap().payload).unwrap();
    let node = ping["node_id"].as_str().unwrap().to_owned();
    let mut flood = Flood {
        client,
        node,
        nexlets: Vec::new(),
        asked: Cell::new(0),
    };
    let info = format!("$NEX.SVC.system.control.INFO.{}", flood.node);
    let info = flood.ask(&info, &json!({})).await;
    let nexlets = info["node_agent_summaries"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    flood.nexlets = nexlets
        .map(|one| (text(&one["agent_summary"]["type"]), text(&one["agent_id"])))
        .collect();
    assert_eq!(flood.nexlets.len(), 3, "{info}");
    flood
}

#[tokio::test]
async fn a_hundred_thousand_bad_messages_change_nothing() {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = std::env::var("NEX_TEST_SEED").map_or(since_epoch.as_secs(), |seed| {
        seed.parse().expect("NEX_TEST_SEED is a number")
    });
    println!("NEX_TEST_SEED={seed} sends the same messages again");
    let home = Home::new();
    let server = NatsServer::builder().jetstream(true).start();
    let more = ["-s", server.url(), "--allow-remote-agent-registration"];
    let _node = NodeUp::start(&home, "n1", &more);
    let flood = flood_of(&server).await;
    let nexlets: Vec<&str> = flood.nexlets.iter().map(|(_, id)| id.as_str()).collect();
    let mut maker = Maker::new(Random::new(seed), &flood.node, &nexlets);
    let full = std::env::var_os("NEX_TEST_FULL").is_some_and(|full| full == "1");
    let messages = if full {
        MESSAGES * maker.in_turn()
    } else {
        MESSAGES
    };
    let mut raw = RawNats::connect(server.url()).await.unwrap();
    let processes = flooded(&home);
    let heard_before = flood.heard().await - flood.asked.get();
    let started = Instant::now();

    flood.works().await;
    flood.send(&mut raw, &mut maker, WARM_UP).await;
    let before: Vec<Holds> = processes.iter().map(Holds::read).collect();
    flood.send(&mut raw, &mut maker, messages - WARM_UP).await;
    let after: Vec<Holds> = processes.iter().map(Holds::read).collect();

    println!("{messages} messages in {:?}", started.elapsed());
    assert_eq!(flooded(&home), processes, "none was started anew");
    for (process, (before, after)) in processes.iter().zip(before.iter().zip(&after)) {
        println!("{process}\n  before {before:?}\n  after  {after:?}");
        let growth_kib = after.memory_kib.saturating_sub(before.memory_kib);
        assert!(growth_kib <= GROWTH_KIB, "{process}: {before:?} {after:?}");
        let files = after.files <= before.files + SLACK;
        let threads = after.threads <= before.threads + SLACK;
        assert!(files && threads, "{process}: {before:?} {after:?}");
    }
    // All of the flood was heard, and none of it costs a later request its place.
    let heard = flood.heard().await - heard_before;
    assert_eq!(heard, maker.for_endpoints() + flood.asked.get());
    flood.works().await;
}
