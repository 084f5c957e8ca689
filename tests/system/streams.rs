//! Triggers on streams: dead letters, purging, and that nothing is lost whatever is killed.

use std::{
    collections::{HashSet, VecDeque},
    fs,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, pull},
    stream::Config,
};
use futures_util::StreamExt as _;
use nex_protocol::{
    Namespace,
    function::{StreamName, StreamTrigger},
};
use nex_testkit::{NexUp, eventually, wait_until, workspace_root};
use serde_json::{Value, json};

use crate::{LIMIT, file, find, start_function as start};

async fn jetstream(up: &NexUp) -> jetstream::Context {
    jetstream::new(async_nats::connect(up.url()).await.unwrap())
}

async fn stream(context: &jetstream::Context, name: &str, subjects: &str) {
    let config = Config {
        name: name.to_owned(),
        subjects: vec![subjects.to_owned()],
        ..Config::default()
    };
    context.create_stream(config).await.unwrap();
}

fn letters(up: &NexUp) -> Vec<Value> {
    let printed = up.nex(&["dlq", "list", "--json"]).ok().stdout;
    serde_json::from_str(&printed).unwrap()
}

#[tokio::test]
async fn what_a_function_fails_on_waits_until_it_can_do_it() {
    let up = NexUp::start();
    let context = jetstream(&up).await;
    stream(&context, "ORDERS", "orders.>").await;
    let strict = file(
        up.home(),
        "strict.js",
        r#"(s, p) => { if (p[0] === 98) throw new Error("no good") }"#,
    );
    let trigger = json!({
        "stream": "ORDERS", "filter": "orders.new", "max_deliver": 2, "back_off": ["50ms"],
    });
    start(&up, "bill", &strict, &trigger).ok();

    let mut waiting = Vec::new();
    // One after the other: what fails at the same time is given up in any order.
    for (payload, expected) in [("good", 0), ("bad", 1), ("bad too", 2)] {
        let published = context.publish("orders.new", payload.into()).await;
        published.unwrap().await.unwrap();
        waiting = wait_until("its dead letter", LIMIT, || {
            let letters = letters(&up);
            let are_there = letters.len() == expected;
            are_there.then(|| letters.clone()).ok_or(letters)
        })
        .unwrap();
    }

    let first = &waiting[0];
    for (key, value) in [
        ("name", json!("bill")),
        ("namespace", json!("default")),
        ("code", json!("500")),
        ("attempts", json!(2)),
        ("stream", json!("ORDERS")),
        ("sequence", json!(2)),
        ("subject", json!("orders.new")),
        ("data", json!("bad")),
    ] {
        assert_eq!(first[key], value, "{key} of {first}");
    }
    assert!(first["reason"].as_str().unwrap().contains("no good"));
    let shown = up.nex(&["dlq", "show", "1"]).ok().stdout;
    assert!(
        shown.contains("no good") && shown.ends_with("bad\n"),
        "{shown}"
    );

    let failed = up.nex(&["dlq", "replay", "1"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(failed.stderr.contains("failed again") && failed.stderr.contains("hint:"));
    up.nex(&["workload", "stop", "bill"]).ok();
    let nobody = up.nex(&["dlq", "replay", "1"]);
    assert_eq!(nobody.code, 4, "{}", nobody.stderr);
    assert!(nobody.stderr.contains("does not run"), "{}", nobody.stderr);
    assert_eq!(letters(&up).len(), 2, "a replay that fails removes nothing");

    let mended = file(up.home(), "mended.js", "(s, p) => p");
    start(&up, "bill", &mended, &trigger).ok();
    up.nex(&["dlq", "replay", "1"]).ok();
    let left = letters(&up);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["number"], 2);
    let missing = up.nex(&["dlq", "show", "1"]);
    assert_eq!(missing.code, 4, "{}", missing.stderr);
    up.nex(&["dlq", "drop", "--all"]).ok();
    assert!(letters(&up).is_empty());
    let other = up.nex(&["dlq", "list", "--namespace", "other"]).ok();
    assert_eq!(other.stdout, "No dead letters found\n");
}

#[tokio::test]
async fn a_purge_removes_the_place_in_the_stream_and_a_stop_does_not() {
    let up = NexUp::start();
    let context = jetstream(&up).await;
    stream(&context, "ORDERS", "orders.>").await;
    let echo = file(up.home(), "echo.js", "(s, p) => p");
    let trigger = json!({ "stream": "ORDERS" });
    let consumers = async || {
        let stream = context.get_stream("ORDERS").await.unwrap();
        stream.cached_info().state.consumer_count
    };

    start(&up, "bill", &echo, &trigger).ok();
    up.nex(&["workload", "stop", "bill"]).ok();
    assert_eq!(consumers().await, 1);
    start(&up, "bill", &echo, &trigger).ok();
    up.nex(&["workload", "stop", "bill", "--purge"]).ok();

    assert_eq!(consumers().await, 0);
}

#[test]
fn triggers_that_cannot_be_are_refused_with_the_next_step() {
    let up = NexUp::start();
    let echo = file(up.home(), "echo.js", "(s, p) => p");
    for (trigger, parts) in [
        (
            json!({ "stream": "NONE" }),
            ["`NONE` does not exist", "nats stream add"],
        ),
        (
            json!({ "stream": "NEX_FEEDS" }),
            ["not for functions", "a stream of yours"],
        ),
        (
            json!({ "subject": "$SYS.>" }),
            ["not for functions", "want another first token"],
        ),
        (
            json!({ "subject": "$JS.API.INFO" }),
            ["not for functions", "`$JS`"],
        ),
        (
            json!({ "subject": "*.a" }),
            ["not for functions", "want another first token"],
        ),
        (
            json!({ "subject": ">", "broadcast": true }),
            ["not for functions", "`$SYS`"],
        ),
        (
            json!({ "stream": "S", "max_deliver": 0 }),
            ["max_deliver", "1"],
        ),
        (
            json!({ "subject": "_INBOX.NEX.>" }),
            ["do not allow", "another subject"],
        ),
    ] {
        let refused = start(&up, "f", &echo, &trigger).failed();
        for part in parts {
            assert!(
                refused.stderr.contains(part),
                "{trigger}: {}",
                refused.stderr
            );
        }
    }
}

#[tokio::test]
async fn the_triggers_of_the_documentation_run_functions() {
    let page = fs::read_to_string(workspace_root().join("docs/functions.md")).unwrap();
    let section = page
        .split("\n## ")
        .find(|text| text.starts_with("Triggers\n"));
    let blocks = section.unwrap().split("```json\n").skip(1);
    let triggers: Vec<Value> = blocks
        .map(|text| serde_json::from_str(text.split("```").next().unwrap()).unwrap())
        .collect();
    assert_eq!(triggers.len(), 3, "subject, broadcast, stream");
    let up = NexUp::start();
    let context = jetstream(&up).await;
    stream(&context, "ORDERS", "orders.>").await;
    let client = async_nats::connect(up.url()).await.unwrap();
    let mut seen = client.subscribe("seen.>").await.unwrap();
    client.flush().await.unwrap();
    let tell = file(
        up.home(),
        "tell.js",
        "(s, p) => this.messaging.publish(`seen.${s}`, p)",
    );
    for (number, trigger) in triggers.iter().enumerate() {
        start(&up, &format!("f{number}"), &tell, trigger).ok();
    }

    let mut expected = HashSet::new();
    for subject in ["hello.you", "news.of.today", "orders.new"] {
        client.publish(subject, "x".into()).await.unwrap();
        expected.insert(format!("seen.{subject}"));
    }

    while !expected.is_empty() {
        let message = tokio::time::timeout(LIMIT, seen.next()).await;
        let subject = message.expect("in time").unwrap().subject;
        assert!(expected.remove(subject.as_str()), "{subject} once");
    }
}

/// What is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Nexlet,
    Node,
    Server,
}

fn kill(up: NexUp, victim: Victim) -> NexUp {
    let words: [&str; 2] = match victim {
        Victim::Node => {
            let home = up.kill();
            return NexUp::builder().home(Arc::clone(&home)).start();
        }
        Victim::Nexlet => ["nexlet", "js"],
        Victim::Server => ["nats-server", "-c"],
    };
    // It may be between two lives after the kill before.
    let pid = wait_until("it to be there", LIMIT, || {
        let all = up.processes();
        let victim = all.iter().find(|process| {
            let shown = format!("{process:?}");
            words.iter().all(|word| shown.contains(word)) && !shown.contains("supervise")
        });
        victim.map(|process| process.pid).ok_or(all)
    })
    .unwrap();
    let sent = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(sent.expect("`kill` is everywhere").success());
    wait_until("it to be gone", LIMIT, || {
        up.processes().iter().all(|process| process.pid != pid)
    })
    .unwrap();
    up
}

/// JetStream on a new connection: one that has lost its server is back later than a function.
async fn connected(up: &NexUp) -> jetstream::Context {
    eventually("JetStream to answer", LIMIT, || async {
        let context = jetstream::new(async_nats::connect(up.url()).await.ok()?);
        context.get_stream("DONE").await.ok()?;
        Some(context)
    })
    .await
}

/// Publishes these numbers.
async fn publish(context: &jetstream::Context, numbers: Range<u64>) {
    let mut under_way = VecDeque::new();
    for number in numbers {
        let published = context
            .publish("orders.new", number.to_string().into())
            .await;
        under_way.push_back(published.unwrap());
        if under_way.len() == 1000 {
            under_way.pop_front().unwrap().await.unwrap();
        }
    }
    for published in under_way {
        published.await.unwrap();
    }
}

async fn messages(context: &jetstream::Context, stream: &str) -> Option<u64> {
    let stream = context.get_stream(stream).await.ok()?;
    Some(stream.cached_info().state.messages)
}

/// Numbers that differ from run to run: xorshift, of the time.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// The messages of a killed nexlet are delivered again soon, whatever the ack wait of its trigger, and
/// also where the consumer is one of an earlier version, that waits so long itself.
#[tokio::test]
async fn what_a_killed_nexlet_had_comes_again_soon() {
    let up = NexUp::start();
    let context = jetstream(&up).await;
    stream(&context, "ORDERS", "orders.>").await;
    let namespace = Namespace::new("default").unwrap();
    let trigger = StreamTrigger::new(StreamName::new("ORDERS").unwrap());
    let old = pull::Config {
        durable_name: Some(trigger.consumer(&namespace, "worker")),
        ack_wait: Duration::from_secs(600),
        max_deliver: -1,
        ..pull::Config::default()
    };
    context
        .create_consumer_on_stream(old, "ORDERS")
        .await
        .unwrap();
    let worker = file(
        up.home(),
        "worker.mjs",
        r#"
        export default async (request, nex) => {
          nex.messaging.publish("begun", String(request.attempt));
          if (request.attempt === 1) await new Promise(done => setTimeout(done, 50000));
        };
        "#,
    );
    let client = async_nats::connect(up.url()).await.unwrap();
    let mut begun = client.subscribe("begun").await.unwrap();
    client.flush().await.unwrap();
    let request = json!({
        "uri": format!("file://{}", worker.display()), "timeout": "60s",
        "triggers": [{ "stream": "ORDERS", "ack_wait": "10m" }],
    });
    let args = [
        "--type",
        "js",
        "--lifecycle",
        "function",
        "--name",
        "worker",
    ];
    let mut words = vec!["workload", "start", "--start-request"];
    let request = request.to_string();
    words.push(&request);
    words.extend(args);
    up.nex(&words).ok();
    let stream = context.get_stream("ORDERS").await.unwrap();
    let consumers: Vec<_> = stream.consumers().map(Result::unwrap).collect().await;
    assert_eq!(consumers.len(), 1, "{consumers:?}");
    publish(&context, 0..1).await;
    let first = tokio::time::timeout(LIMIT, begun.next()).await;
    assert_eq!(first.unwrap().unwrap().payload, "1");

    let up = kill(up, Victim::Nexlet);

    let again = tokio::time::timeout(2 * LIMIT, begun.next()).await;
    assert_eq!(again.expect("it comes again").unwrap().payload, "2");
    eventually("it to be acknowledged", LIMIT, || async {
        let info = stream.consumers().next().await?.ok()?;
        (info.ack_floor.stream_sequence == 1).then_some(())
    })
    .await;
    drop(up);
}

/// 10,000 messages; a million with `NEX_TEST_FULL=1`.
#[tokio::test]
async fn every_message_is_processed_whatever_is_killed() {
    let full = std::env::var_os("NEX_TEST_FULL").is_some();
    let count: u64 = if full { 1_000_000 } else { 10_000 };
    let limit = Duration::from_secs(if full { 3600 } else { 240 });
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = now.unwrap().subsec_nanos();
    let began = Instant::now();
    let mut dice = Dice(u64::from(seed) | 1);
    let mut up = NexUp::start();
    let mut context = jetstream(&up).await;
    stream(&context, "ORDERS", "orders.>").await;
    stream(&context, "DONE", "done").await;
    // It succeeds only when what it has done is stored.
    let worker = file(
        up.home(),
        "worker.js",
        r#"
        (subject, payload) => {
          const stored = JSON.parse(String.fromCharCode(...this.messaging.request("done", payload)));
          if (!stored.seq) throw new Error(JSON.stringify(stored));
        };
        "#,
    );
    let trigger = json!({
        "stream": "ORDERS", "ack_wait": "3s", "max_deliver": 1000, "back_off": ["100ms"],
    });
    start(&up, "worker", &worker, &trigger).ok();

    let mut victims = [Victim::Nexlet, Victim::Node, Victim::Server].repeat(2);
    let mut moments: Vec<u64> = victims.iter().map(|_| dice.next(count * 8 / 10)).collect();
    moments.sort_unstable();
    let mut published = 0;
    for moment in moments {
        // There is work at the moment of the kill, and more to come afterwards.
        let end = published.max(moment + count / 10);
        publish(&context, published..end).await;
        published = end;
        let done = eventually("work to go on", limit, || async {
            let done = messages(&context, "DONE").await;
            done.filter(|done| *done >= moment)
        })
        .await;
        let victim = victims.swap_remove(usize::try_from(dice.next(victims.len() as u64)).unwrap());
        eprintln!("{victim:?} is killed after {done} of {published}");
        up = kill(up, victim);
        context = connected(&up).await;
    }
    publish(&context, published..count).await;
    eventually("all to be acknowledged", limit, || async {
        let stream = context.get_stream("ORDERS").await.ok()?;
        let info = stream.consumers().next().await?.ok()?;
        (info.ack_floor.stream_sequence == count && info.num_pending == 0).then_some(())
    })
    .await;

    let done = context.get_stream("DONE").await.unwrap();
    let total = done.cached_info().state.messages;
    let consumer = done
        .create_consumer(pull::OrderedConfig {
            deliver_policy: DeliverPolicy::All,
            ..pull::OrderedConfig::default()
        })
        .await
        .unwrap();
    let mut messages = consumer.messages().await.unwrap();
    let mut seen = HashSet::new();
    for _ in 0..total {
        let message = messages.next().await.unwrap().unwrap();
        let text = std::str::from_utf8(&message.payload).unwrap();
        seen.insert(text.parse::<u64>().unwrap());
    }
    let counted = find(&up, "worker").unwrap()["metadata"].clone();
    eprintln!(
        "{count} messages in {:?}, {} processed more than once; the function says {counted}",
        began.elapsed(),
        total - count
    );
    assert_eq!(seen.len() as u64, count, "seed {seed}");
    let number = |key: &str| counted[key].as_str().unwrap().parse::<u64>().unwrap();
    assert!(number("calls") > 0, "seed {seed}: {counted}");
    assert!(number("deliveries") >= count, "seed {seed}: {counted}");
    assert!(letters(&up).is_empty(), "seed {seed}");
}
