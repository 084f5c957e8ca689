//! Calls that wait hold up no others. Their `timeout` is what bounds their time here: a call that a held
//! thread keeps from running ends as timed out.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use nex_nats::read_error;
use serde_json::json;

use crate::bench::Bench;

/// Awaits for 2 s.
const AWAITS: &str = "export default async () => {
    await new Promise(resolve => setTimeout(resolve, 2000));
    return 'waited';
}";

/// Calls itself so many times as the payload says.
const CALLS_ITSELF: &str = "export default async (request, nex) => {
    const left = Number(request.text());
    return left === 0 ? '0' : 1 + Number(new TextDecoder().decode(await nex.messaging.request(request.subject, String(left - 1))));
}";

/// Calls itself as often, from a script, which holds a thread.
const SCRIPT_CALLS_ITSELF: &str = "(subject, payload) => {
    const text = bytes => String.fromCharCode(...bytes);
    const left = Number(text(payload));
    return left === 0 ? '0' : String(1 + Number(text(messaging.request(subject, String(left - 1)))));
}";

async fn start(bench: &Bench, script: &str, subject: &str, timeout: &str) {
    let asking = json!({ "timeout": timeout });
    let started = bench.start_asking(script, subject, asking).await.1;
    started.unwrap_or_else(|refusal| panic!("{subject}: {refusal}"));
}

/// Calls all subjects at once; returns how many are answered with this text, and the other answers.
async fn call_all(bench: &Bench, subjects: Vec<String>, wanted: &str) -> (usize, BTreeSet<String>) {
    let calls = subjects.into_iter().map(|subject| bench.call(subject, ""));
    let replies: Vec<_> = calls.collect::<FuturesUnordered<_>>().collect().await;
    let (good, bad): (Vec<_>, Vec<_>) = replies
        .into_iter()
        .partition(|reply| read_error(reply).is_none() && reply.payload == wanted.as_bytes());
    let errors = bad.iter().filter_map(read_error);
    (good.len(), errors.map(|(_, text)| text).collect())
}

#[tokio::test]
async fn a_thousand_calls_that_await_two_seconds_are_answered_within_three() {
    let bench = Bench::new().await;
    start(&bench, AWAITS, "wait", "3s").await;

    let answered = call_all(&bench, vec!["wait".to_owned(); 1000], "waited").await;

    assert_eq!(answered, (1000, BTreeSet::new()));
}

#[tokio::test]
async fn so_are_those_of_a_hundred_functions() {
    let bench = Bench::new().await;
    let subjects: Vec<String> = (0..100).map(|number| format!("wait.{number}")).collect();
    for subject in &subjects {
        start(&bench, AWAITS, subject, "3s").await;
    }
    let all = subjects.iter().cycle().take(1000).cloned().collect();

    let answered = call_all(&bench, all, "waited").await;

    assert_eq!(answered, (1000, BTreeSet::new()));
}

#[tokio::test]
async fn a_function_that_calls_itself_ten_deep_answers() {
    let bench = Bench::new().await;
    for (script, subject) in [(CALLS_ITSELF, "module"), (SCRIPT_CALLS_ITSELF, "script")] {
        start(&bench, script, subject, "5s").await;

        let reply = bench.call(subject, "10").await;

        assert_eq!(read_error(&reply), None, "{subject}");
        assert_eq!(reply.payload, "10", "{subject}");
    }
}

#[tokio::test]
async fn functions_that_hold_threads_keep_neither_a_deploy_nor_a_neighbour_waiting() {
    let bench = Bench::new().await;
    let mut nobody = bench.client.subscribe("never.answers").await.unwrap();
    let holds = "() => messaging.request('never.answers', '')";
    let subjects: Vec<String> = (0..20).map(|number| format!("hold.{number}")).collect();
    for subject in &subjects {
        start(&bench, holds, subject, "10s").await;
    }
    start(&bench, "() => 'fine'", "neighbour", "2s").await;
    for subject in &subjects {
        let inbox = bench.client.new_inbox();
        let held = bench
            .client
            .publish_with_reply(subject.clone(), inbox, "".into());
        held.await.unwrap();
    }
    for _ in &subjects {
        // Each of them has a thread, and waits.
        nobody.next().await.unwrap();
    }

    start(&bench, "() => 'new'", "new", "2s").await;

    assert_eq!(bench.call("new", "").await.payload, "new");
    let calls = (0..100).map(|_| bench.call("neighbour", ""));
    for reply in join_all(calls).await {
        assert_eq!(reply.payload, "fine", "{:?}", read_error(&reply));
    }
}

#[tokio::test]
async fn with_a_concurrency_of_one_a_call_has_its_runtime_for_itself() {
    let bench = Bench::new().await;
    let script = "let inside = 0, most = 0;
        export default async () => {
            most = Math.max(most, ++inside);
            await new Promise(resolve => setTimeout(resolve, 50));
            inside--;
            return String(most);
        }";
    for (concurrency, subject, alone) in [(1, "one", true), (100, "many", false)] {
        let asking = json!({ "concurrency": concurrency, "timeout": "10s" });
        let started = bench.start_asking(script, subject, asking).await.1;
        started.unwrap();

        let calls = (0..20).map(|_| bench.call(subject, ""));
        let replies = join_all(calls).await;

        let most = replies.iter().map(|reply| &reply.payload[..]).max();
        assert_eq!(most == Some(b"1"), alone, "{subject}: {most:?}");
    }
}
