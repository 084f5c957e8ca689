//! Code that would go on for ever, or eat all there is: each is ended by its limit, the caller is
//! told which, and the next call works.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nex_functions::Limits;
use nex_protocol::ErrorCode;
use serde_json::json;

use crate::bench::{Bench, failure_of};

/// The timeout of these functions.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How late an end may be: a fifth of the limit.
const LATEST: Duration = Duration::from_millis(2400);

/// What runs until its time is over.
const ENDLESS: [(&str, &str); 12] = [
    (
        "a loop in a try",
        "for (;;) { try { for (;;) {} } catch {} }",
    ),
    (
        "a loop in a finally",
        "for (;;) { try { for (;;) {} } finally { continue } }",
    ),
    (
        "a pattern that backtracks",
        "/^(a+)+$/.test('a'.repeat(40) + 'b')",
    ),
    (
        "a sort that never ends",
        "[3, 1, 2].sort(() => { for (;;) {} })",
    ),
    (
        "jobs without end",
        "const f = () => { Promise.resolve().then(f) }; f(); return new Promise(() => {})",
    ),
    (
        "an await without end",
        "return (async () => { for (;;) await null })()",
    ),
    (
        "jobs after the result",
        "const f = () => { Promise.resolve().then(f) }; f(); return 'early'",
    ),
    (
        "timers without end",
        "setInterval(() => {}, 0); return new Promise(() => {})",
    ),
    (
        "timers that set timers",
        "const f = () => setTimeout(f, 0); f(); return new Promise(() => {})",
    ),
    (
        "a timer that is too late",
        "return new Promise(done => setTimeout(done, 60000))",
    ),
    (
        "a loop in a getter of the result",
        "return { get a() { for (;;) {} } }",
    ),
    (
        "a watch without changes",
        "return (async () => { for await (const x of nex.kv('b').watch('k')) return x })()",
    ),
];

/// What takes memory until there is none.
const GREEDY: [(&str, &str); 8] = [
    (
        "arrays",
        "const a = []; for (;;) a.push(new Array(1000).fill(1.5))",
    ),
    (
        "strings",
        "const a = []; for (let i = 0; ; i++) a.push('x'.repeat(10000) + i)",
    ),
    (
        "buffers",
        "const a = []; for (;;) a.push(new ArrayBuffer(1 << 20))",
    ),
    ("one buffer", "new ArrayBuffer(1 << 30)"),
    (
        "typed arrays",
        "const a = []; for (;;) a.push(new Float64Array(1 << 16))",
    ),
    (
        "a map",
        "const m = new Map(); for (let i = 0; ; i++) m.set(i, {})",
    ),
    (
        "closures",
        "let f = () => 0; for (;;) { const g = f, big = [1, 2, 3, 4, 5, 6, 7, 8]; f = () => [g, big] }",
    ),
    ("output of 100 MiB", "return 'x'.repeat(100 * 1024 * 1024)"),
];

/// A function that does this when it has a payload.
fn script(code: &str) -> String {
    format!(
        "export default (request, nex) => {{
            if (!request.payload.length) return 'fine';
            {code}
        }}"
    )
}

async fn start(bench: &Bench, code: &str, subject: &str) {
    start_within(bench, code, subject, "2s").await;
}

async fn start_within(bench: &Bench, code: &str, subject: &str, timeout: &str) {
    let asking = json!({ "timeout": timeout });
    let started = bench.start_asking(&script(code), subject, asking).await.1;
    started.unwrap_or_else(|refusal| panic!("{code}: {refusal}"));
}

#[tokio::test]
async fn what_does_not_end_is_ended_at_its_deadline() {
    let bench = Bench::new().await;
    for (number, (name, code)) in ENDLESS.into_iter().enumerate() {
        let subject = format!("r.{number}");
        start(&bench, code, &subject).await;

        let started = Instant::now();
        let reply = bench.call(subject.as_str(), "go").await;
        let took = started.elapsed();

        let (code, text) = failure_of(&reply);
        assert_eq!(code, ErrorCode::Timeout, "{name}: {text}");
        assert!(text.starts_with("timed out after 2s"), "{name}: {text}");
        assert!((TIMEOUT..LATEST).contains(&took), "{name}: {took:?}");
        let next = bench.call(subject, "").await;
        assert_eq!(next.payload, "fine", "{name}");
    }
}

#[tokio::test]
async fn what_takes_too_much_memory_is_told_its_limit() {
    let bench = Bench::new().await;
    for (number, (name, code)) in GREEDY.into_iter().enumerate() {
        let subject = format!("r.{number}");
        // Memory is the limit that is met, also on a slow machine.
        start_within(&bench, code, &subject, "60s").await;

        let reply = bench.call(subject.as_str(), "go").await;

        let (code, text) = failure_of(&reply);
        assert_eq!(code, ErrorCode::Internal, "{name}: {text}");
        let limit = "out of memory: its limit is 64 MiB";
        assert!(text.starts_with(limit), "{name}: {text}");
        let next = bench.call(subject, "").await;
        assert_eq!(next.payload, "fine", "{name}");
    }
}

#[tokio::test]
async fn what_is_too_large_too_deep_or_never_done_is_told_so() {
    let bench = Bench::new().await;
    for (number, (code, kind, start_of_text)) in [
        (
            "return 'x'.repeat(30 * 1024 * 1024)",
            ErrorCode::TooLarge,
            "the result has 31457280 bytes",
        ),
        (
            "const f = () => 1 + f(); return f()",
            ErrorCode::Internal,
            "RangeError: Maximum call stack size exceeded",
        ),
        (
            "let s = 'x'; for (;;) s += s",
            ErrorCode::Internal,
            "out of memory: its limit is 64 MiB",
        ),
        (
            "return new Promise(() => {})",
            ErrorCode::Internal,
            "the promise it returned can never settle",
        ),
        (
            "for (;;) setTimeout(() => {}, 1000)",
            ErrorCode::Internal,
            "Error: 10000 timers are set already",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let subject = format!("r.{number}");
        start(&bench, code, &subject).await;

        let told = failure_of(&bench.call(subject.as_str(), "go").await);

        assert_eq!(told.0, kind, "{told:?}");
        assert!(told.1.starts_with(start_of_text), "{told:?}");
        assert_eq!(bench.call(subject, "").await.payload, "fine");
    }
}

#[tokio::test]
async fn a_hundred_mebibytes_of_lines_hold_up_nobody() {
    let bench = Bench::new().await;
    let code = "const line = 'x'.repeat(8000);
        for (let i = 0; i < 13_200; i++) console.log(line);
        return 'said'";
    start_within(&bench, code, "a", "60s").await;

    let reply = bench.call("a", "go").await;

    assert_eq!(reply.payload, "said");
    assert_eq!(bench.call("a", "").await.payload, "fine");
}

#[tokio::test]
async fn a_neighbour_answers_while_more_run_away_than_there_are_threads() {
    let bench = Bench::new().await;
    let threads = Limits::default().threads;
    bench.start("(s, p) => p", "neighbour").await.unwrap();
    for number in 0..=threads {
        start(&bench, ENDLESS[0].1, &format!("r.{number}")).await;
    }
    let mut runaways = Vec::new();
    for number in 0..=threads {
        runaways.push(bench.call(format!("r.{number}"), "go"));
    }
    let calling = async {
        let mut answered = 0;
        for _ in 0..20 {
            let reply = bench.call("neighbour", "hello").await;
            answered += u32::from(reply.payload == "hello");
        }
        answered
    };

    let (ended, answered) = tokio::join!(join_all(runaways), calling);

    assert_eq!(answered, 20);
    for reply in ended {
        assert_eq!(failure_of(&reply).0, ErrorCode::Timeout);
    }
}
