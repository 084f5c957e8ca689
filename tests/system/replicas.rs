//! Replicas of a function, on two nodes, share its messages.

use std::{collections::BTreeMap, process::Command, time::Duration};

use futures_util::{StreamExt as _, stream};
use nex_testkit::{Home, NatsServer};
use serde_json::json;
use tokio::time::timeout;

use crate::{LIMIT, file, node::NodeUp};

/// How many requests all replicas share.
const REQUESTS: usize = 30_000;

/// How many of them wait for an answer at a time.
const IN_FLIGHT: usize = 64;

/// How many are sent while a nexlet is killed.
const AFTER: usize = 6000;

/// After how long an answer counts as lost.
const LOST: Duration = Duration::from_secs(5);

/// Two nodes, with one replica on the first and two on the second.
struct Replicas {
    // Before the server, so that the nodes end while there is one.
    _nodes: [NodeUp; 2],
    home: Home,
    server: NatsServer,
}

impl Replicas {
    fn start() -> Self {
        let home = Home::new();
        let server = NatsServer::builder().jetstream(false).start();
        let nodes = ["one", "two"].map(|name| NodeUp::start(&home, name, &["-s", server.url()]));
        let script = file(&home, "web.js", "(subject, payload) => payload");
        let request = json!({
            "uri": format!("file://{}", script.display()),
            "triggers": [{ "subject": "web" }],
        })
        .to_string();
        for node in ["one", "two", "two"] {
            let place = ["--node-id", node, "-s", server.url()];
            let what = ["--type", "js", "--lifecycle", "function", "--name", "web"];
            let start = ["workload", "start", "--start-request", &request];
            home.nex(&[&start[..], &what, &place].concat()).ok();
        }
        Self {
            _nodes: nodes,
            home,
            server,
        }
    }

    /// Ends the nexlet that runs functions on a node with SIGKILL.
    fn kill_nexlet_of(&self, node: &str) {
        let data = self.home.path().join(node).display().to_string();
        let nexlets = self.home.processes().into_iter().filter(|process| {
            let command = &process.command;
            command.contains("nexlet run js") && command.contains(&data)
        });
        let pids: Vec<u32> = nexlets.map(|process| process.pid).collect();
        assert_eq!(pids.len(), 1, "{:?}", self.home.processes());
        let killed = Command::new("kill")
            .args(["-9", &pids[0].to_string()])
            .status();
        assert!(killed.unwrap().success());
    }
}

/// Asks so often, and counts the answers by replica; `None` are those that were not answered.
async fn ask(
    client: &async_nats::Client,
    count: usize,
    on_answer: impl Fn(usize),
) -> BTreeMap<Option<String>, usize> {
    let answers = stream::iter(0..count).map(|number| async move {
        let payload = number.to_string();
        let request = async_nats::Request::new()
            .payload(payload.clone().into())
            .timeout(Some(LOST));
        let reply = client.send_request("web", request).await.ok()?;
        assert_eq!(reply.payload, payload);
        let headers = reply.headers.unwrap();
        Some(headers.get("workload_id").unwrap().to_string())
    });
    let mut counts = BTreeMap::new();
    let mut answers = answers.buffer_unordered(IN_FLIGHT).enumerate();
    while let Some((number, replica)) = answers.next().await {
        *counts.entry(replica).or_default() += 1;
        on_answer(number);
    }
    counts
}

#[test]
fn replicas_share_requests_and_one_that_is_killed_loses_only_its_own() {
    let replicas = Replicas::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(replicas.server.url()).await.unwrap();
        // All answers, those included that nobody waits for any more.
        let watcher = async_nats::connect(replicas.server.url()).await.unwrap();
        let mut seen = watcher.subscribe("_INBOX.>").await.unwrap();
        watcher.flush().await.unwrap();
        let seen = tokio::spawn(async move {
            let mut answers = 0;
            while let Some(message) = seen.next().await {
                if message.payload == "the end" {
                    break;
                }
                answers += 1;
            }
            answers
        });

        let counts = ask(&client, REQUESTS, |_| ()).await;
        client
            .publish("_INBOX.end", "the end".into())
            .await
            .unwrap();
        let answers: usize = timeout(LIMIT, seen).await.unwrap().unwrap();

        println!("{REQUESTS} requests: {counts:?}");
        assert_eq!(counts.get(&None), None, "all are answered");
        assert_eq!(answers, REQUESTS, "each once");
        assert_eq!(counts.len(), 3);
        // Nobody is left out; the server shares by chance.
        assert!(
            counts.values().all(|count| *count > REQUESTS / 5),
            "{counts:?}"
        );

        let counts = ask(&client, AFTER, |number| {
            if number == AFTER / 2 {
                replicas.kill_nexlet_of("one");
            }
        })
        .await;

        let lost = counts.get(&None).copied().unwrap_or(0);
        println!("killed at {} of {AFTER}: {lost} lost", AFTER / 2);
        // It had at most those that waited; whatever was sent later went to the others, or to it
        // when it ran again.
        assert!(lost <= IN_FLIGHT, "{counts:?}");
        assert_eq!(counts.values().sum::<usize>(), AFTER);
    });
}
