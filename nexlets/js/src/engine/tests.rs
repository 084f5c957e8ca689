mod driven;
mod ends;
mod in_flight;

use std::{
    sync::Arc,
    task::{Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use nex_functions::{
    Console, DEFAULT_TIMEOUT, Engine as _, Failure, FailureKind, Invocation, InvocationKey,
    LOAD_TIMEOUT, Services, Setting, Source,
};

use super::JsEngine;
use crate::instance::Instance;

const MEMORY_BYTES: usize = 16 * 1024 * 1024;
/// For what never ends by itself; everything else has the time of a deployed function.
const SHORT: Duration = Duration::from_millis(300);

/// A script on a thread such as the host's.
fn with<T: Send>(script: &str, test: impl FnOnce(&mut Instance) -> T + Send) -> Result<T, Failure> {
    with_limits(script, MEMORY_BYTES, DEFAULT_TIMEOUT, test)
}

fn with_limits<T: Send>(
    script: &str,
    memory_bytes: usize,
    timeout: Duration,
    test: impl FnOnce(&mut Instance) -> T + Send,
) -> Result<T, Failure> {
    on_an_engine_thread(|| {
        let source = Source {
            name: "t.js".into(),
            uploaded_as: None,
            code: script.to_owned().into(),
        };
        let setting = Setting {
            about: Arc::default(),
            console: Console::muted(),
            services: Services::none(),
            memory_bytes,
            deadline: Instant::now() + timeout,
            waker: Waker::noop().clone(),
        };
        let script = JsEngine.load(&source)?;
        Ok(test(&mut JsEngine.instantiate(&script, &setting)?))
    })
}

pub(super) fn on_an_engine_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(JsEngine::STACK_BYTES);
        thread.spawn_scoped(scope, run).unwrap().join().unwrap()
    })
}

fn call(instance: &mut Instance, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    call_within(DEFAULT_TIMEOUT, instance, payload)
}

pub(super) fn call_within(
    timeout: Duration,
    instance: &mut Instance,
    payload: &[u8],
) -> Result<Vec<u8>, Failure> {
    let invocation = Invocation {
        id: "i".into(),
        subject: "some.subject".into(),
        headers: async_nats::HeaderMap::new(),
        payload: payload.to_vec().into(),
        max_result_bytes: usize::MAX,
        deadline: Instant::now() + timeout,
        attempt: 1,
    };
    let mut finished = Vec::new();
    let begun = JsEngine.begin(instance, InvocationKey(1), &invocation, &mut finished);
    let result = match begun {
        Poll::Ready(result) => result,
        Poll::Pending => loop {
            let wakes_at = JsEngine.wakes_at(instance).expect("something is in flight");
            let left = wakes_at.saturating_duration_since(Instant::now());
            #[expect(
                clippy::disallowed_methods,
                reason = "what is due then is a timer or a deadline"
            )]
            thread::sleep(left);
            JsEngine.resume(instance, &mut finished);
            if let Some((_, result)) = finished.pop() {
                break result;
            }
        },
    };
    Ok(result?.to_vec())
}

/// One call under the limits that a deployed function has.
fn deployed(script: &str, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    with_limits(
        script,
        nex_functions::MEMORY_BYTES,
        DEFAULT_TIMEOUT,
        |instance| call_within(DEFAULT_TIMEOUT, instance, payload),
    )?
}

fn once(script: &str, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    with(script, |instance| call(instance, payload))?
}

fn refused(script: &str) -> String {
    let failure = with(script, |_| ()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
    failure.to_string()
}

fn failure(script: &str, payload: &[u8]) -> (FailureKind, String) {
    let failure = once(script, payload).unwrap_err();
    (failure.kind, failure.to_string())
}

#[test]
fn results_of_every_kind_become_bytes() {
    for (script, bytes) in [
        ("(s, p) => p", "abc"),
        ("(s, p) => p.buffer", "abc"),
        ("(s, p) => p.subarray(1)", "bc"),
        ("(s, p) => new Uint16Array([0x6261])", "ab"),
        ("(s, p) => new Uint8ClampedArray([97])", "a"),
        ("(s, p) => new Uint8Array(0)", ""),
        ("(s, p) => s", "some.subject"),
        ("\u{feff}(s, p) => s\r\n", "some.subject"),
        (
            "\u{feff}#!/usr/bin/env node\r\n(s, p) => s\r\n",
            "some.subject",
        ),
        ("(s, p) => 'ü\\u{1F600}'", "ü😀"),
        ("(s, p) => 'half \\ud800'", "half \u{fffd}"),
        ("(s, p) => {}", ""),
        ("(s, p) => undefined", ""),
        ("(s, p) => null", "null"),
        ("(s, p) => 1.5", "1.5"),
        ("(s, p) => true", "true"),
        ("(s, p) => [1, 'a', {b: null}]", r#"[1,"a",{"b":null}]"#),
        (
            "(s, p) => ({s, n: p.length})",
            r#"{"s":"some.subject","n":3}"#,
        ),
        ("(s, p) => ({toJSON: () => 'own'})", r#""own""#),
        ("(s, p) => new Date(0)", r#""1970-01-01T00:00:00.000Z""#),
        ("async (s, p) => p", "abc"),
        (
            "async s => { await null; return (await [s])[0]; }",
            "some.subject",
        ),
        ("function f(s) { return this === globalThis }; f", "true"),
        ("s => this === globalThis", "true"),
        (
            "'use strict'; (function () { return this === globalThis })",
            "true",
        ),
    ] {
        let result = once(script, b"abc").unwrap_or_else(|error| panic!("{script}: {error}"));
        assert_eq!(String::from_utf8_lossy(&result), bytes, "{script}");
    }
}

#[test]
fn bytes_of_every_value_pass_unchanged() {
    let all: Vec<u8> = (0..=255).cycle().take(1024 * 1024 - 4096).collect();

    assert_eq!(once("(s, p) => p", &all).unwrap(), all);
    assert!(once("(s, p) => p", b"").unwrap().is_empty());
}

#[test]
fn a_payload_is_the_functions_own() {
    let changed = once("(s, p) => { p.fill(120); return p }", b"abc").unwrap();
    assert_eq!(changed, b"xxx");
}

#[test]
fn what_cannot_be_sent_is_a_failure() {
    for (script, text) in [
        (
            "s => () => 1",
            "it returned a function, which cannot be sent",
        ),
        (
            "s => Symbol('x')",
            "it returned a symbol, which cannot be sent",
        ),
        (
            "s => 10n",
            "TypeError: BigInt are forbidden in JSON.stringify",
        ),
        (
            "s => { const o = {}; o.o = o; return o }",
            "TypeError: circular reference",
        ),
        (
            "(s, p) => { structuredTransfer(p) }",
            "ReferenceError: structuredTransfer is not defined at t.js:1:13",
        ),
        (
            "(s, p) => { p.buffer.transfer(); return p.buffer }",
            "TypeError: ArrayBuffer is detached",
        ),
    ] {
        assert_eq!(
            failure(script, b"abc"),
            (FailureKind::Code, text.to_owned())
        );
    }
}

#[test]
fn what_is_thrown_is_told_with_its_place() {
    for (script, text) in [
        (
            "s => {\n  throw new Error('no') }",
            "Error: no at t.js:2:13",
        ),
        (
            "s => { f() };\nfunction f() { null.x }",
            "TypeError: cannot read property 'x' of null at t.js:2:16",
        ),
        (
            "async s => { throw new RangeError('r') }",
            "RangeError: r at t.js:1:24",
        ),
        ("s => { throw 'text' }", "text"),
        ("s => { throw { code: 3 } }", r#"{"code":3}"#),
        ("s => Promise.reject(7)", "7"),
        (
            "s => { throw new Error('a\\r\\nb') }",
            "Error: a\r\nb at t.js:1:18",
        ),
        (
            "s => { const e = new Error('x'); e.toString = () => { throw e }; throw e }",
            "an error that cannot be shown at t.js:1:22",
        ),
    ] {
        assert_eq!(
            failure(script, b""),
            (FailureKind::Code, text.to_owned()),
            "{script}"
        );
    }
}

#[test]
fn a_long_error_is_cut_and_keeps_its_place() {
    let (_, text) = failure("s => { throw new Error('ü'.repeat(100000)) }", b"");

    assert!(text.len() < 700 && text.contains("… at t.js:1:"), "{text}");
}

#[test]
fn a_script_that_is_none_is_refused_with_its_place() {
    assert_eq!(
        refused("(s, p) => {\n  let x = ;\n}"),
        "syntax error at t.js:2:11: unexpected token in expression: ';'"
    );
    assert_eq!(
        refused("\n nope.x; s => s"),
        "the script failed at t.js:2:2: ReferenceError: nope is not defined"
    );
    assert!(refused("42").starts_with("the value of t.js is no function but int"));
    assert!(refused("").starts_with("the value of t.js is no function but undefined"));
    assert!(refused("s => s\0").ends_with("byte 6 is zero"));
    assert_eq!(
        refused("import { x } from './x.js';\nexport default 1 +* 2"),
        "syntax error at t.js:2:19: unexpected token in expression: '*'"
    );
    assert_eq!(
        refused("export const f = s => s"),
        "the default export of t.js is no function but undefined; want `export default async (request, nex) => …`"
    );
}

#[test]
fn a_script_that_is_not_read_in_time_is_refused() {
    // Each reference looks for its group in the whole expression.
    let script = format!("/{}(?<a>)/", r"\k<a>".repeat(150_000));
    let began = Instant::now();

    let failure = with(&script, |_| ()).unwrap_err();

    assert_eq!(failure.kind, FailureKind::Deadline, "{failure}");
    assert!(began.elapsed() < 3 * LOAD_TIMEOUT, "{:?}", began.elapsed());
}

#[test]
fn a_script_that_does_not_end_is_refused() {
    let failure = with_limits("for (;;) {}", MEMORY_BYTES, SHORT, |_| ()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Deadline);
}

#[test]
fn state_is_kept_between_calls() {
    let counts = with("let n = 0; () => ++n", |instance| {
        [call(instance, b""), call(instance, b"")].map(Result::unwrap)
    });
    assert_eq!(counts.unwrap(), [b"1", b"2"]);
}

#[test]
fn a_runaway_is_ended_at_its_deadline() {
    for script in [
        "s => { for (;;) { try { for (;;) {} } catch {} } }",
        "s => { for (;;) { try { for (;;) {} } finally { continue } } }",
        "s => /^(a+)+$/.test('a'.repeat(40) + 'b')",
        "async s => { for (;;) await null }",
        "s => { const f = () => { Promise.resolve().then(f) }; f(); return 'early' }",
        "s => ({ toJSON() { for (;;) {} } })",
        "s => { throw { get message() { for (;;) {} }, toJSON() { for (;;) {} } } }",
        "s => { const e = new Error(); e.toString = () => { for (;;) {} }; throw e }",
    ] {
        let started = Instant::now();
        let result = with(script, |instance| call_within(SHORT, instance, b""));
        let failure = result.unwrap().unwrap_err();
        let took = started.elapsed();
        assert_eq!(failure.kind, FailureKind::Deadline, "{script}: {failure}");
        assert!(took < SHORT * 10, "{script}: {took:?}");
    }
}

#[test]
fn a_promise_that_nothing_can_settle_fails_at_once() {
    let text = "the promise it returned can never settle: nothing is left to run or to wait for";
    let failure = failure("async s => { await new Promise(() => {}) }", b"");
    assert_eq!(failure, (FailureKind::Code, text.to_owned()));
}

#[test]
fn memory_without_end_meets_the_limit() {
    for script in [
        "s => { const a = []; for (;;) a.push(new Array(1000).fill(1.5)) }",
        "s => { const a = []; for (;;) a.push(new Uint8Array(1 << 20)) }",
        "s => { const o = {}; for (let i = 0; ; i++) o['k' + i] = {} }",
        "s => 'x'.repeat(1 << 28)",
    ] {
        let (kind, text) = failure(script, b"");
        assert_eq!(kind, FailureKind::Memory, "{script}: {text}");
        assert!(
            text.starts_with("out of memory: its limit is 16 MiB"),
            "{text}"
        );
    }
}

#[test]
fn memory_that_ran_out_in_a_try_can_be_used_again() {
    let script =
        "s => { try { const a = []; for (;;) a.push([1, 2, 3]) } catch { return 'went on' } }";
    assert_eq!(once(script, b"").unwrap(), b"went on");
}

#[test]
fn a_runtime_that_ran_out_of_memory_can_be_ended() {
    // At every limit something else is half done when memory ends; a leak would abort here.
    on_an_engine_thread(|| {
        let source = Source {
            name: "t.js".into(),
            uploaded_as: None,
            code: "class A { #p = 1; get q() { return this.#p } }
                async s => { const a = []; for (let i = 0; ; i++) { a.push(new A(), () => a,
                    new Map([[i, /(a+)(?<n>b)/.exec('aab')]]), new Promise(r => a.push(r)),
                    JSON.parse('{\"a\":[1,{\"b\":2}]}'), eval('(function* () { yield ' + i + ' })()'));
                    if (i % 100 == 99) await null } }"
                .into(),
        };
        let script = JsEngine.load(&source).unwrap();
        for memory_bytes in (100_000..600_000).step_by(7_919) {
            let setting = Setting {
                about: Arc::default(),
                console: Console::muted(),
                services: Services::none(),
                memory_bytes,
                deadline: Instant::now() + DEFAULT_TIMEOUT,
                waker: Waker::noop().clone(),
            };
            if let Ok(mut instance) = JsEngine.instantiate(&script, &setting) {
                assert!(call(&mut instance, b"abc").is_err());
            }
        }
    });
}

#[test]
fn recursion_without_end_is_a_range_error() {
    let too_deep = "RangeError: Maximum call stack size exceeded";
    for script in [
        "s => { const f = () => 1 + f(); return f() }",
        "s => JSON.parse('['.repeat(1e6))",
        "s => eval('('.repeat(1e6))",
        "s => { const a = []; a[0] = a; return String(new Proxy(a, { get(t, k, r) { return r[k] } })) }",
    ] {
        let (kind, text) = failure(script, b"");
        assert_eq!(kind, FailureKind::Code, "{script}: {text}");
        assert!(text.starts_with(too_deep), "{script}: {text}");
    }
    let depth = once(
        "s => { let n = 0; const f = () => { n++; f() }; try { f() } catch {} return n }",
        b"",
    );
    let depth: u32 = String::from_utf8(depth.unwrap()).unwrap().parse().unwrap();
    assert!(depth > 10_000, "{depth}");
}

#[test]
fn a_payload_of_any_size_can_be_spread() {
    let most = vec![65; 1024 * 1024];
    for script in [
        "(s, p) => String.fromCharCode(...p)",
        "(s, p) => String.fromCharCode.apply(null, p)",
        "(s, p) => { const f = (...a) => String.fromCharCode(...a); return f(...p) }",
        "async (s, p) => { const f = async (...a) => new Uint8Array(a); return await f(...p) }",
    ] {
        for size in [65_535, 65_536, 65_537, 200_000] {
            let result = deployed(script, &most[..size]);
            assert!(result.as_deref() == Ok(&most[..size]), "{script}, {size}");
        }
    }
    let spread = deployed("(s, p) => String.fromCharCode(...p)", &most);
    assert!(spread.as_deref() == Ok(&most), "a mebibyte");
    for (script, result) in [
        (
            "(s, p) => { function f() { return arguments.length }; return f(...p) }",
            "70000",
        ),
        (
            "(s, p) => String.fromCharCode.bind(null, 65)(...p).length",
            "70001",
        ),
        ("(s, p) => new Array(...p).length", "70000"),
    ] {
        let told = deployed(script, &most[..70_000]).unwrap();
        assert_eq!(String::from_utf8(told).unwrap(), result, "{script}");
    }
}

#[test]
fn too_many_arguments_are_a_range_error() {
    for (script, text) in [
        (
            "s => Math.max(...new Array(1024 * 1024 + 1).fill(1))",
            "RangeError: too many arguments",
        ),
        (
            "s => Math.max.bind(null)(...new Array(1024 * 1024).fill(1))",
            "RangeError: Maximum call stack size exceeded",
        ),
    ] {
        let failure = deployed(script, b"").unwrap_err();
        assert_eq!(failure.kind, FailureKind::Code, "{failure}");
        assert!(failure.to_string().starts_with(text), "{failure}");
    }
}
