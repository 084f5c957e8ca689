//! Guests that take long in native code: each must be over soon after its deadline.
//!
//! wasmtime ends a guest where the guest jumps back or enters a function, and before an instruction
//! that moves much memory. The guests here have as much as possible in between.

use std::time::{Duration, Instant};

use nex_functions::FailureKind;

use super::tests::{call, command, with};

/// Deadline of a hostile call.
const SHORT: Duration = Duration::from_millis(100);
/// Limit for a call to be over. A loaded machine needs some of it.
const BOUND: Duration = Duration::from_secs(5);
/// Repetitions of an instruction without a jump.
const TIMES: usize = 4_000;
/// Repetitions of an instruction that is compiled to much code.
const TIMES_OF_LONG_CODE: usize = 500;

/// A guest that does nothing else than this, again and again without a jump back.
fn straight(body: &str) -> String {
    straight_after("", body)
}

/// The same, after something else.
fn straight_after(first: &str, body: &str) -> String {
    let times = if body.contains("table.") {
        TIMES_OF_LONG_CODE
    } else {
        TIMES
    };
    command(&format!("{first}{}", body.repeat(times)))
        .replace(
            "(memory (export \"memory\") 2)",
            "(memory (export \"memory\") 1000)\n(data $passive \"DATA\")",
        )
        .replace("(table $table 1 funcref)", "(table $table 100000 funcref)")
        .replace("DATA", &"x".repeat(1024 * 1024))
}

fn took(wat: &str) -> (Duration, Option<FailureKind>) {
    let code = wat::parse_str(wat).unwrap();
    with(&code, |engine, instance| {
        let began = Instant::now();
        let ended = call(engine, instance, b"", SHORT);
        (began.elapsed(), ended.err().map(|failure| failure.kind))
    })
    .unwrap()
}

#[test]
fn every_guest_ends_at_its_deadline() {
    let guests = [
        (
            "memory.fill",
            straight("(memory.fill (i32.const 0) (i32.const 1) (i32.const 65536000))"),
        ),
        (
            "memory.copy",
            straight("(memory.copy (i32.const 0) (i32.const 1) (i32.const 65535999))"),
        ),
        (
            "memory.init",
            straight("(memory.init $passive (i32.const 0) (i32.const 0) (i32.const 1048576))"),
        ),
        (
            "table.fill",
            straight("(table.fill $table (i32.const 0) (ref.null func) (i32.const 100000))"),
        ),
        (
            "table.copy",
            straight("(table.copy $table $table (i32.const 0) (i32.const 1) (i32.const 99999))"),
        ),
        (
            "random_get",
            straight("(drop (call $random_get (i32.const 0) (i32.const 1000000)))"),
        ),
        (
            "fd_write",
            // Each byte is a line of the log.
            straight_after(
                "(memory.fill (i32.const 2048) (i32.const 10) (i32.const 65536))
                (i32.store (i32.const 1024) (i32.const 2048))
                (i32.store (i32.const 1028) (i32.const 65536))",
                "(drop (call $fd_write (i32.const 2) (i32.const 1024) (i32.const 1) (i32.const 1032)))",
            ),
        ),
        (
            "clock_time_get",
            command(
                "(loop $l (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 0))) (br $l))",
            ),
        ),
        (
            "poll_oneoff",
            // One clock, in an hour.
            command(
                "(i32.store8 (i32.const 8) (i32.const 0)) (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 3600000000000)) (drop (call $poll_oneoff (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 120)))",
            ),
        ),
        (
            "memory.grow",
            command("(loop $l (drop (memory.grow (i32.const 1))) (br $l))"),
        ),
        (
            "a start function",
            command("").replace(
                "(func $start",
                "(start $spin) (func $spin (loop $l (br $l))) (func $start",
            ),
        ),
        ("calls", command("(call $start) (call $start)")),
    ];
    for (name, guest) in guests {
        let (took, kind) = took(&guest);

        println!("{name}: {took:.0?}, {kind:?}");
        assert!(took < SHORT + BOUND, "{name} took {took:?}");
    }
}
