use std::{
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use nex_functions::{
    About, Console, DEFAULT_TIMEOUT, Engine as _, Failure, FailureKind, Invocation, InvocationKey,
    MEMORY_BYTES, Source,
};
use tempfile::TempDir;

use super::WasmEngine;
use crate::instance::Instance;

/// For what never ends by itself; everything else has the time of a deployed function.
const SHORT: Duration = Duration::from_millis(300);
/// What a server takes by default.
const MAX_RESULT_BYTES: usize = 1024 * 1024;
const ECHO: &str = include_str!("../../../../examples/functions/echo.wat");

/// What an engine of its own makes of code, on a thread such as the host's.
pub(super) fn with<T: Send>(
    code: &[u8],
    test: impl FnOnce(&WasmEngine, &mut Instance) -> T + Send,
) -> Result<T, Failure> {
    let dir = TempDir::new().unwrap();
    let engine = WasmEngine::new(dir.path().join("compiled"), 1);
    let source = Source {
        name: "t.wasm".into(),
        uploaded_as: None,
        code: code.to_vec().into(),
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(WasmEngine::STACK_BYTES);
        let run = || {
            let module = engine.load(&source)?;
            let mut instance = Instance::new(&module, &about(), &Console::muted(), MEMORY_BYTES)?;
            Ok(test(&engine, &mut instance))
        };
        thread.spawn_scoped(scope, run).unwrap().join().unwrap()
    })
}

fn about() -> About {
    let variables = [("A", "1"), ("GREETING", "hello you")];
    About {
        name: "web".to_owned(),
        environment: variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..About::default()
    }
}

pub(super) fn call(
    engine: &WasmEngine,
    instance: &mut Instance,
    payload: &[u8],
    timeout: Duration,
) -> Result<Vec<u8>, Failure> {
    let invocation = Invocation {
        id: "i".into(),
        subject: "some.subject".into(),
        headers: async_nats::HeaderMap::new(),
        payload: payload.to_vec().into(),
        max_result_bytes: MAX_RESULT_BYTES,
        deadline: Instant::now() + timeout,
        attempt: 1,
    };
    match engine.begin(instance, InvocationKey(1), &invocation, &mut Vec::new()) {
        Poll::Ready(result) => Ok(result?.to_vec()),
        Poll::Pending => panic!("a guest is never suspended"),
    }
}

fn run_within(timeout: Duration, wat: &str, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    let code = wat::parse_str(wat).unwrap();
    with(&code, |engine, instance| {
        call(engine, instance, payload, timeout)
    })
    .flatten()
}

fn run(wat: &str) -> Result<Vec<u8>, Failure> {
    run_within(DEFAULT_TIMEOUT, wat, b"")
}

fn fails(wat: &str, kind: FailureKind, text: &str) {
    let failure = run(wat).unwrap_err();
    assert_eq!((failure.kind, failure.to_string()), (kind, text.to_owned()));
}

fn refused(code: &[u8], part: &str) {
    let failure = with(code, |_, _| ()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
    assert!(failure.to_string().contains(part), "{failure}");
}

/// A command with this body, and WASI to call: `errno` is what its value is an exit code of.
pub(super) fn command(body: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
            (memory (export "memory") 2)
            (table $table 1 funcref)
            (func $write (param $at i32) (param $len i32)
                (i32.store (i32.const 1024) (local.get $at))
                (i32.store (i32.const 1028) (local.get $len))
                (if (call $fd_write (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 1032)) (then unreachable)))
            (func $start (export "_start") {body}))"#
    )
}

#[test]
fn every_payload_comes_back_unchanged() {
    let code = wat::parse_str(ECHO).unwrap();
    let echoed = |engine: &WasmEngine, instance: &mut Instance| {
        for bytes in [
            0,
            1,
            255,
            256,
            65_535,
            65_536,
            65_537,
            MAX_RESULT_BYTES - 4096,
        ] {
            let payload: Vec<u8> = (0..=255).cycle().take(bytes).collect();
            let result = call(engine, instance, &payload, DEFAULT_TIMEOUT).unwrap();
            assert!(result == payload, "{bytes} bytes came back changed");
        }
    };

    with(&code, echoed).unwrap();
}

#[test]
fn arguments_are_the_name_and_the_subject() {
    let wat = command(
        "(if (call $args_sizes_get (i32.const 0) (i32.const 4)) (then unreachable))
         (if (i32.ne (i32.load (i32.const 0)) (i32.const 2)) (then unreachable))
         (if (call $args_get (i32.const 8) (i32.const 64)) (then unreachable))
         (if (i32.ne (i32.load (i32.const 8)) (i32.const 64)) (then unreachable))
         (if (i32.ne (i32.load (i32.const 12)) (i32.const 68)) (then unreachable))
         (call $write (i32.const 64) (i32.load (i32.const 4)))",
    );

    assert_eq!(run(&wat).unwrap(), b"web\0some.subject\0");
}

#[test]
fn the_environment_is_that_of_the_start_request() {
    let wat = command(
        "(if (call $environ_sizes_get (i32.const 0) (i32.const 4)) (then unreachable))
         (if (i32.ne (i32.load (i32.const 0)) (i32.const 2)) (then unreachable))
         (if (call $environ_get (i32.const 8) (i32.const 64)) (then unreachable))
         (if (i32.ne (i32.load (i32.const 8)) (i32.const 64)) (then unreachable))
         (if (i32.ne (i32.load (i32.const 12)) (i32.const 68)) (then unreachable))
         (call $write (i32.const 64) (i32.load (i32.const 4)))",
    );

    assert_eq!(run(&wat).unwrap(), b"A=1\0GREETING=hello you\0");
}

#[test]
fn time_passes_and_random_numbers_differ() {
    let wat = command(
        "(if (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 0)) (then unreachable))
         (if (call $random_get (i32.const 8) (i32.const 32)) (then unreachable))
         (call $write (i32.const 0) (i32.const 40))",
    );

    let (one, other) = (run(&wat).unwrap(), run(&wat).unwrap());

    let time = |result: &[u8]| u64::from_le_bytes(*result.first_chunk().unwrap());
    assert!(time(&one) < time(&other), "{one:?} {other:?}");
    assert!(one[8..] != other[8..], "{one:?} {other:?}");
}

#[test]
fn nothing_is_left_for_the_next_run() {
    let wat = command(
        "(i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (i32.const 1)))
         (call $write (i32.const 0) (i32.const 1))",
    );
    let code = wat::parse_str(wat).unwrap();

    let results = with(&code, |engine, instance| {
        [(), ()].map(|()| call(engine, instance, b"", DEFAULT_TIMEOUT).unwrap())
    });

    assert_eq!(results.unwrap(), [[1], [1]]);
}

#[test]
fn an_exit_code_is_a_failure_but_0() {
    let exit = |code: i32| command(&format!("(call $proc_exit (i32.const {code}))"));
    let written = command(
        "(call $write (i32.const 0) (i32.const 2)) (call $proc_exit (i32.const 0)) unreachable",
    );

    fails(&exit(3), FailureKind::Code, "exited with code 3");
    fails(&exit(-1), FailureKind::Code, "exited with code -1");
    assert_eq!(run(&written).unwrap(), [0, 0]);
}

#[test]
fn what_is_asked_of_wasi_wrongly_has_its_error_number() {
    let at = |at: i64, len: i64| {
        format!(
            "(i32.store (i32.const 0) (i32.const {at})) (i32.store (i32.const 4) (i32.const {len}))"
        )
    };
    let close = "(drop (call $fd_close (i32.const 1)))".to_owned();
    let none = String::new();
    for (setup, call, errno) in [
        (
            &none,
            "$fd_write (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 8)",
            8,
        ),
        (
            &none,
            "$fd_write (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)",
            8,
        ),
        (
            &none,
            "$fd_read (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)",
            8,
        ),
        (
            &none,
            "$fd_write (i32.const 1) (i32.const -4) (i32.const 1) (i32.const 8)",
            21,
        ),
        (
            &none,
            "$fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 131069)",
            21,
        ),
        (
            &none,
            "$fd_write (i32.const 1) (i32.const 0) (i32.const 1025) (i32.const 8)",
            28,
        ),
        (
            &none,
            "$fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8)",
            28,
        ),
        (
            &at(131_072, 1),
            "$fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)",
            21,
        ),
        (
            &at(-1, -1),
            "$fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)",
            21,
        ),
        (&none, "$random_get (i32.const 131071) (i32.const 2)", 21),
        (
            &none,
            "$fd_seek (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 0)",
            70,
        ),
        (&none, "$fd_prestat_get (i32.const 3) (i32.const 0)", 8),
        (
            &none,
            "$path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
                (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)",
            8,
        ),
        (&close, "$fd_close (i32.const 1)", 8),
        (
            &none,
            "$clock_time_get (i32.const 2) (i64.const 0) (i32.const 0)",
            58,
        ),
        (
            &none,
            "$clock_time_get (i32.const 9) (i64.const 0) (i32.const 0)",
            28,
        ),
        (
            &none,
            "$poll_oneoff (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)",
            28,
        ),
    ] {
        let wat = command(&format!("{setup} (call $proc_exit (call {call}))"));

        let failure = run(&wat).unwrap_err();

        assert_eq!(
            failure.to_string(),
            format!("exited with code {errno}"),
            "{call}"
        );
    }
}

#[test]
fn a_trap_names_the_function() {
    let wat = r#"(module
        (func $divide (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
        (func (export "_start") (drop (call $divide (i32.const 0)))))"#;
    let rust = r#"(module
        (func $_ZN4echo6answer17h0123456789abcdefE unreachable)
        (func (export "_start") (call 0)))"#;
    let nameless = r#"(module (func unreachable) (func (export "_start") (call 0)))"#;

    fails(
        wat,
        FailureKind::Code,
        "wasm trap: integer divide by zero, in `divide`",
    );
    fails(
        rust,
        FailureKind::Code,
        "wasm trap: wasm `unreachable` instruction executed, in `echo::answer`",
    );
    fails(
        nameless,
        FailureKind::Code,
        "wasm trap: wasm `unreachable` instruction executed, in `function 0`",
    );
}

#[test]
fn what_never_ends_is_ended_at_its_deadline_and_the_next_run_works() {
    let endless = command(
        "(i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 1))
         (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
         (if (i32.load8_u (i32.const 16)) (then (loop $again (br $again))))",
    );
    let code = wat::parse_str(endless).unwrap();

    let (ended, next) = with(&code, |engine, instance| {
        (
            call(engine, instance, &[1], SHORT).unwrap_err(),
            call(engine, instance, &[0], DEFAULT_TIMEOUT),
        )
    })
    .unwrap();

    assert_eq!(ended.kind, FailureKind::Deadline);
    assert_eq!(ended.to_string(), "interrupted, in `start`");
    assert!(next.is_ok(), "{next:?}");
}

/// Waits for a clock for so long, and writes how many events there were, and the first of them.
fn wait(nanos: u64) -> String {
    command(&format!(
        "(i64.store (i32.const 0) (i64.const 7))
         (i32.store (i32.const 16) (i32.const 1))
         (i64.store (i32.const 24) (i64.const {nanos}))
         (if (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 60)) (then unreachable))
         (call $write (i32.const 60) (i32.const 12))"
    ))
}

#[test]
fn a_guest_can_wait_but_not_beyond_its_deadline() {
    let waited = run(&wait(1_000_000)).unwrap();
    let ended = run_within(SHORT, &wait(3_600_000_000_000), b"").unwrap_err();

    assert_eq!(waited, [1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(ended.kind, FailureKind::Deadline);
}

#[test]
fn memory_beyond_the_limit_ends_a_run() {
    let grow = |pages: u32| {
        command(&format!(
            "(loop $more (drop (memory.grow (i32.const {pages}))) (br $more))"
        ))
    };
    for pages in [1, 160, 2000] {
        fails(
            &grow(pages),
            FailureKind::Memory,
            "out of memory: its limit is 64 MiB, in `start`",
        );
    }
}

#[test]
fn a_module_may_have_a_smaller_maximum_of_its_own() {
    let wat = r#"(module (memory 1 2) (func (export "_start")
        (if (i32.ne (memory.grow (i32.const 2000)) (i32.const -1)) (then unreachable))
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const 1)) (then unreachable))))"#;

    assert_eq!(run(wat).unwrap(), b"");
}

#[test]
fn a_module_that_begins_with_too_much_is_refused() {
    let memory = r#"(module (memory 1025) (func (export "_start")))"#;
    let table = r#"(module (table 100001 funcref) (func (export "_start")))"#;

    fails(
        memory,
        FailureKind::Memory,
        "out of memory: its limit is 64 MiB: it begins with 65 MiB",
    );
    fails(
        table,
        FailureKind::Memory,
        "a table is too large: its limit is 100000 elements",
    );
}

#[test]
fn a_table_beyond_the_limit_ends_a_run() {
    let wat = command(
        "(loop $more (drop (table.grow $table (ref.null func) (i32.const 1000))) (br $more))",
    );

    fails(
        &wat,
        FailureKind::Memory,
        "a table is too large: its limit is 100000 elements, in `start`",
    );
}

#[test]
fn recursion_without_end_is_a_stack_overflow() {
    let wat = r#"(module (func $down (param i32) (result i32)
        (i32.add (call $down (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
        (func (export "_start") (drop (call $down (i32.const 0)))))"#;

    fails(
        wat,
        FailureKind::Code,
        "stack overflow: its limit is 1 MiB, in `down`",
    );
}

#[test]
fn a_result_that_is_too_large_ends_the_run() {
    let wat = command("(loop $more (call $write (i32.const 0) (i32.const 65536)) (br $more))");

    fails(
        &wat,
        FailureKind::TooLarge,
        "the result is too large: the server takes 1048576 bytes, in `write`",
    );
}

#[test]
fn a_flood_of_log_lines_ends_at_the_deadline() {
    let wat = command(
        "(i32.store (i32.const 4) (i32.const 131072))
         (loop $more
            (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
            (br $more))",
    );

    let failure = run_within(SHORT, &wat, b"").unwrap_err();

    assert_eq!(failure.kind, FailureKind::Deadline, "{failure}");
}

#[test]
fn what_is_no_command_is_refused() {
    let module = |text: &str| wat::parse_str(text).unwrap();
    let no_start = module(r#"(module (func (export "_initialize")))"#);
    let arguments = module(r#"(module (func (export "_start") (param i32)))"#);
    let component = module("(component)");
    let imports = module(r#"(module (import "env" "now" (func)) (func (export "_start")))"#);
    let mut cut = module(ECHO);
    cut.truncate(cut.len() - 3);

    refused(&no_start, "t.wasm is no command: it exports no `_start`");
    refused(&arguments, "no function without arguments");
    refused(&component, "t.wasm is a component: want a module");
    refused(&imports, "unknown import: `env::now`");
    refused(&cut, "t.wasm is no valid module");
    refused(b"\0asm\x02\0\0\0", "of an unknown version");
    refused(b"(module)", "t.wasm is no WebAssembly");
    refused(b"", "t.wasm is no WebAssembly");
}
