//! `nex dlq` with several dead letters at once.

use async_nats::jetstream::{self, stream::Config};
use nex_testkit::{NexUp, wait_until};
use serde_json::{Value, json};

use crate::{LIMIT, file};

fn numbers(up: &NexUp) -> Vec<Value> {
    let printed = up.nex(&["dlq", "list", "--json"]).ok().stdout;
    let letters: Vec<Value> = serde_json::from_str(&printed).unwrap();
    letters.iter().map(|it| it["number"].clone()).collect()
}

/// Has a function fail on that many messages, and waits for their dead letters.
async fn dead_letters(up: &NexUp, count: usize) -> jetstream::Context {
    let context = jetstream::new(async_nats::connect(up.url()).await.unwrap());
    let config = Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        ..Config::default()
    };
    context.create_stream(config).await.unwrap();
    let script = file(up.home(), "never.js", "() => { throw new Error('no') }");
    let uri = format!("file://{}", script.to_str().unwrap());
    let trigger = json!({ "stream": "ORDERS", "max_deliver": 1 });
    let request = json!({ "uri": uri, "triggers": [trigger] }).to_string();
    let (start, what) = (["workload", "start", "--type", "js"], "--start-request");
    let rest = ["--lifecycle", "function", "--name", "never", what, &request];
    up.nex(&[&start[..], &rest].concat()).ok();
    for _ in 0..count {
        let published = context.publish("orders.new", "bad".into()).await;
        published.unwrap().await.unwrap();
    }
    wait_until("the dead letters", LIMIT, || match numbers(up) {
        numbers if numbers.len() == count => Ok(()),
        numbers => Err(numbers),
    })
    .unwrap();
    context
}

/// As a stream confirms that it keeps what is sent to functions.
#[tokio::test]
async fn an_answer_that_is_not_the_function_s_removes_no_dead_letter() {
    let up = NexUp::start();
    let context = dead_letters(&up, 1).await;
    up.nex(&["workload", "stop", "never"]).ok();
    let config = Config {
        name: "CALLS".to_owned(),
        subjects: vec!["$NEX.SVC.*.function.>".to_owned()],
        ..Config::default()
    };
    context.create_stream(config).await.unwrap();

    let replayed = up.nex(&["dlq", "replay", "1"]);

    assert_eq!(replayed.code, 1, "{replayed}");
    assert!(replayed.stderr.contains("not the function's"), "{replayed}");
    assert_eq!(numbers(&up), [json!(1)]);
}

#[tokio::test]
async fn a_message_that_is_no_dead_letter_is_counted_and_hides_none() {
    let up = NexUp::start();
    dead_letters(&up, 1).await;
    let options = async_nats::ConnectOptions::new()
        .credentials_file(up.data_dir().join("cli.creds"))
        .await
        .unwrap();
    let context = jetstream::new(options.connect(up.url()).await.unwrap());
    for subject in ["$NEX.DLQ.default", "$NEX.DLQ.default.x", "$NEX.DLQ.other.x"] {
        let published = context.publish(subject, "junk".into()).await;
        published.unwrap().await.unwrap();
    }

    let listed = up.nex(&["dlq", "list", "--namespace", "default"]).ok();

    assert!(listed.stdout.contains("never"), "{listed}");
    let told = "no dead letters: 2, as number 2";
    assert!(listed.stderr.contains(told), "{listed}");
}

#[tokio::test]
async fn one_that_is_not_there_keeps_no_other_from_being_dropped() {
    let up = NexUp::start();
    dead_letters(&up, 3).await;

    let dropped = up.nex(&["dlq", "drop", "1", "99", "3", "1"]);

    assert_eq!(dropped.code, 4, "{}", dropped.stderr);
    assert!(dropped.stderr.contains("`99`"), "{}", dropped.stderr);
    let told = ["Dead letter 1 dropped", "Dead letter 3 dropped"];
    assert_eq!(dropped.stdout.lines().collect::<Vec<_>>(), told);
    assert_eq!(numbers(&up), [json!(2)]);
}
