//! Guests without end: each is ended by its limit, its caller is told which one, and its neighbour does
//! not notice.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nex_protocol::ErrorCode;

use crate::{
    bench::{Bench, LIMIT},
    modules::ECHO,
};

/// The timeout of those that run until their time is over.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How late an end may be: a fifth of the limit.
const LATEST: Duration = Duration::from_millis(2400);

/// A command that does this if it has a payload.
fn command(body: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
            (memory (export "memory") 2)
            (table $table 1 funcref)
            (func $down (param i32) (result i32)
                (i32.add (call $down (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
            (func $run {body})
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 16))
                (i32.store (i32.const 4) (i32.const 1))
                (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                (if (i32.load (i32.const 8)) (then (i32.store (i32.const 0) (i32.const 0)) (call $run)))))"#
    )
}

/// What it is, its body, and what its caller is told.
const RUNAWAYS: [(&str, &str, ErrorCode, &str); 9] = [
    (
        "loop",
        "(loop $again (br $again))",
        ErrorCode::Timeout,
        "timed out after 2s: interrupted, in `run`",
    ),
    (
        "a loop of calls",
        "(loop $again (drop (call $poll (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))) (br $again))",
        ErrorCode::Timeout,
        "timed out after 2s: interrupted, in `run`",
    ),
    (
        // A clock that rings in 60 s.
        "sleep",
        "(i32.store (i32.const 32) (i32.const 0))
         (i32.store (i32.const 48) (i32.const 1))
         (i64.store (i32.const 56) (i64.const 60000000000))
         (drop (call $poll (i32.const 32) (i32.const 128) (i32.const 1) (i32.const 8)))",
        ErrorCode::Timeout,
        "timed out after 2s: interrupted, in `run`",
    ),
    (
        "chance",
        "(loop $again (drop (call $random (i32.const 0) (i32.const 131072))) (br $again))",
        ErrorCode::Timeout,
        "timed out after 2s: interrupted, in `run`",
    ),
    (
        "memory",
        "(loop $more (drop (memory.grow (i32.const 1))) (br $more))",
        ErrorCode::Internal,
        "out of memory: its limit is 64 MiB, in `run`",
    ),
    (
        "stack",
        "(drop (call $down (i32.const 0)))",
        ErrorCode::Internal,
        "stack overflow: its limit is 1 MiB, in `down`",
    ),
    (
        "table",
        "(loop $more (drop (table.grow $table (ref.null func) (i32.const 1000))) (br $more))",
        ErrorCode::Internal,
        "a table is too large: its limit is 100000 elements, in `run`",
    ),
    (
        // 1,600 times 64 KiB.
        "output",
        "(local $left i32)
         (local.set $left (i32.const 1600))
         (i32.store (i32.const 4) (i32.const 65536))
         (loop $more
            (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
            (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))",
        ErrorCode::TooLarge,
        "the result is too large: the server takes 1048576 bytes, in `run`",
    ),
    (
        "log",
        "(i32.store (i32.const 4) (i32.const 65536))
         (loop $more
            (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
            (br $more))",
        ErrorCode::Timeout,
        "timed out after 2s: interrupted, in `run`",
    ),
];

#[tokio::test]
async fn each_is_ended_by_its_limit_and_its_caller_is_told() {
    let bench = Bench::new().await;
    for (name, body, code, text) in RUNAWAYS {
        // Of a limit on anything but time, that one is met, also on a slow machine.
        let timeout = if code == ErrorCode::Timeout {
            "2s"
        } else {
            "60s"
        };
        let subject = name.replace(' ', "-");
        let started = bench.start_with(&command(body), &subject, timeout).await;
        started.1.unwrap();

        let started = Instant::now();
        let reply = bench.call(&subject, "go").await;
        let took = started.elapsed();

        let error = nex_nats::read_error(&reply);
        assert_eq!(error, Some((code, text.to_owned())), "{name}");
        let in_time = match code {
            ErrorCode::Timeout => TIMEOUT..LATEST,
            _ => Duration::ZERO..LIMIT,
        };
        assert!(in_time.contains(&took), "{name}: {took:?}");
        let next = bench.call(&subject, "").await;
        assert_eq!(nex_nats::read_error(&next), None, "{name}");
    }
}

#[tokio::test]
async fn one_that_does_not_come_to_its_beginning_is_ended_too() {
    let bench = Bench::new().await;
    let module = r#"(module (memory (export "memory") 1) (func $init (loop $again (br $again)))
        (start $init) (func (export "_start")))"#;
    bench.start_with(module, "start", "2s").await.1.unwrap();

    let started = Instant::now();
    let reply = bench.call("start", "").await;
    let took = started.elapsed();

    let error = "timed out after 2s: interrupted, in `init`".to_owned();
    assert_eq!(
        nex_nats::read_error(&reply),
        Some((ErrorCode::Timeout, error))
    );
    assert!((TIMEOUT..LATEST).contains(&took), "{took:?}");
}

#[tokio::test]
async fn as_many_as_there_are_threads_and_more_do_not_keep_a_neighbour_from_answering() {
    let bench = Bench::new().await;
    let threads = nex_functions::Limits::default().threads;
    let names: Vec<String> = (0..=threads)
        .map(|number| format!("loop{number}"))
        .collect();
    let (_, body, ..) = RUNAWAYS[0];
    for name in &names {
        let started = bench.start_with(&command(body), name, "5s").await;
        started.1.unwrap();
    }
    bench.start(ECHO, "echo").await.1.unwrap();

    let mut running = Box::pin(join_all(names.iter().map(|name| bench.call(name, "go"))));
    let neighbour = async {
        for _ in 0..100 {
            assert_eq!(bench.call("echo", "hello").await.payload, "hello");
        }
    };
    tokio::select! {
        biased;
        ended = &mut running => panic!("they ended before the neighbour had answered: {ended:?}"),
        () = neighbour => {}
    }

    for reply in running.await {
        let (code, text) = nex_nats::read_error(&reply).unwrap();
        assert_eq!(code, ErrorCode::Timeout, "{text}");
    }
}
