//! Several invocations in one runtime: each goes on as itself.

use std::{task::Poll, time::Instant};

use nex_functions::Engine as _;

use super::{
    driven::{Bench, LONG, bench, code, trace},
    on_an_engine_thread,
};
use crate::engine::JsEngine;

#[test]
fn invocations_go_on_in_the_order_of_their_answers() {
    on_an_engine_thread(|| {
        let mut bench = bench(
            "",
            "const first = await ask(`a${me}`); return first + await ask(`b${me}`)",
        );
        bench.suspend(1, LONG);
        bench.suspend(2, LONG);
        bench.suspend(3, LONG);

        bench.answer("a2");
        bench.answer("a1");
        bench.answer("b2");
        assert_eq!(bench.result(2).unwrap(), "A2B2");
        bench.answer("a3");
        bench.answer("b1");
        bench.answer("b3");

        assert_eq!(bench.result(1).unwrap(), "A1B1");
        assert_eq!(bench.result(3).unwrap(), "A3B3");
        assert!(bench.finished.is_empty() && !bench.is_worn_out());
        assert_eq!(JsEngine.wakes_at(&bench.instance), None);
    });
}

#[test]
fn a_neighbour_that_is_over_in_the_turn_of_a_beginning_is_handed_out() {
    on_an_engine_thread(|| {
        let mut bench = bench(
            "let wake;",
            "if (me === '1') return new Promise(done => { wake = done; setTimeout(done, 60000) });
             wake?.('woken'); return 'done'",
        );
        bench.suspend(1, LONG);

        assert_eq!(bench.begin(2, LONG), Poll::Ready(Ok("done".to_owned())));

        assert_eq!(bench.result(1).unwrap(), "woken");
    });
}

/// Code of an invocation between its beginning and a line. The test answers `ask`, with the answers of the
/// other invocation in between.
const SHAPES: [(&str, &str); 22] = [
    ("await", "await ask(me); say()"),
    ("then", "await nex.messaging.request(me).then(() => say())"),
    (
        "a chain",
        "await ask(me).then(x => x).then(x => x).then(say)",
    ),
    ("finally", "await ask(me).finally(say)"),
    ("catch", "await ask(me).then(() => { throw 1 }).catch(say)"),
    (
        "all",
        "await Promise.all([ask(me).then(say), null, sleep(1)]); say()",
    ),
    (
        "race",
        "await Promise.race([ask(me), new Promise(() => {})]); say()",
    ),
    (
        "all settled",
        "await Promise.allSettled([ask(me), Promise.reject(1)]); say()",
    ),
    (
        "a generator",
        "async function* all() { yield await ask(me); say(); yield 2 } for await (const x of all()) say()",
    ),
    (
        "a generator by hand",
        "const g = (async function* () { try { yield 1 } finally { say() } })(); await g.next(); await ask(me); await g.return()",
    ),
    (
        "a generator in a generator",
        "async function* inner() { yield ask(me) } async function* outer() { yield* inner(); say() } for await (const x of outer()) say()",
    ),
    (
        "for await of promises",
        "for await (const x of [ask(me), 1]) say()",
    ),
    (
        "a timer",
        "await ask(me); await new Promise(done => setTimeout(() => { say(); done() }, 2)); say()",
    ),
    (
        "an interval",
        "await ask(me); await new Promise(done => { let n = 0; const i = setInterval(() => { say(); if (++n === 3) { clearInterval(i); done() } }, 1) })",
    ),
    (
        "a microtask",
        "await ask(me); await new Promise(done => queueMicrotask(() => { say(); done() }))",
    ),
    (
        "a thenable",
        "await ask(me); await { then(done) { say(); done() } }; say()",
    ),
    (
        "a promise of a thenable",
        "await Promise.resolve(ask(me)).then(() => ({ then(done) { say(); done() } })); say()",
    ),
    (
        "a promise from elsewhere",
        "const { promise, resolve } = Promise.withResolvers(); ask(me).then(resolve); await promise; say()",
    ),
    (
        "a subclass",
        "class P extends Promise {} await new P(done => ask(me).then(done)); say()",
    ),
    (
        "an async iterator",
        "const it = { [Symbol.asyncIterator]: () => ({ n: 0, async next() { if (!this.n) await ask(me); say(); return { done: this.n++ > 1 } } }) }; for await (const x of it) say()",
    ),
    (
        "an abort",
        "const c = new AbortController(); c.signal.addEventListener('abort', say); await ask(me); c.abort()",
    ),
    (
        "a nested function",
        "const f = async n => n ? await f(n - 1) : await ask(me); await f(20); say()",
    ),
];

#[test]
fn lines_and_calls_are_of_the_invocation_whose_code_makes_them() {
    on_an_engine_thread(|| {
        for (name, shape) in SHAPES {
            let body = format!(
                "const say = () => console.log(me); {shape}; await ask(`after${{me}}`); say()"
            );
            let mut bench = bench("", &body);
            bench.suspend(1, LONG);
            bench.suspend(2, LONG);

            bench.answer("2");
            bench.answer("1");
            // Timers of both are due in turn.
            let started = Instant::now();
            while bench.asked.lock().unwrap().len() < 2 {
                assert!(started.elapsed() < LONG, "{name}: it does not go on");
                bench.resume();
            }
            for asked in &*bench.asked.lock().unwrap() {
                let key = asked.subject.trim_start_matches("after").parse().unwrap();
                assert_eq!(asked.trace, Some(trace(key)), "{name}");
            }
            bench.answer("after1");
            bench.answer("after2");

            bench
                .result(1)
                .unwrap_or_else(|failure| panic!("{name}: {failure}"));
            bench
                .result(2)
                .unwrap_or_else(|failure| panic!("{name}: {failure}"));
            let lines = bench.lines();
            assert!(lines.len() >= 4, "{name}: {lines:?}");
            for (key, text) in lines {
                assert_eq!(key.to_string(), text, "{name}");
            }
        }
    });
}

#[test]
fn who_waits_for_a_neighbour_goes_on_as_itself() {
    on_an_engine_thread(|| {
        let mut bench = bench(
            "const waiting = [];",
            "console.log(me);
             if (me === '3') { await ask('go'); waiting.forEach(done => done()); return }
             await new Promise(done => waiting.push(done));
             console.log(me)",
        );
        for key in [3, 1, 2] {
            bench.suspend(key, LONG);
        }

        bench.answer("go");

        for key in 1..=3 {
            bench.result(key).unwrap();
        }
        let lines = bench.lines();
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(
            lines.iter().all(|(key, text)| key.to_string() == *text),
            "{lines:?}"
        );
    });
}

#[test]
fn a_promise_that_a_neighbour_may_settle_is_waited_for() {
    on_an_engine_thread(|| {
        let mut bench = bench(
            "let wake;",
            "if (me === '1') return new Promise(done => { wake = done });
             const answer = await ask(me); if (me === '3') wake('settled'); return answer",
        );
        bench.suspend(2, LONG);
        bench.suspend(3, LONG);
        bench.suspend(1, LONG);

        bench.answer("3");
        assert_eq!(bench.result(1).unwrap(), "settled");
        bench.suspend(1, LONG);
        bench.answer("2");

        let failure = code(bench.result(1));
        assert_eq!(
            failure,
            "the promise it returned can never settle: nothing is left to run or to wait for"
        );
    });
}

#[test]
fn a_thousand_are_in_flight() {
    on_an_engine_thread(|| {
        let mut bench = bench("", "await sleep(100); return me");
        let started = Instant::now();
        for key in 1..=1000 {
            bench.suspend(key, LONG);
        }

        bench.wait_for(1000);

        for key in 1..=1000 {
            assert_eq!(bench.result(key).unwrap(), key.to_string());
        }
        assert!(started.elapsed() < LONG);
    });
}

#[test]
fn an_instance_moves_between_threads() {
    let mut bench = on_an_engine_thread(|| {
        bench(
            "let count = 0;",
            "const first = await ask(me); await sleep(1); return `${first} ${++count}`",
        )
    });
    for key in 1..=20_u64 {
        bench = on_an_engine_thread(move || {
            bench.suspend(key, LONG);
            bench
        });
        bench = on_an_engine_thread(move || {
            bench.answer(&key.to_string());
            bench.wait_for(1);
            bench
        });
        assert_eq!(bench.result(key).unwrap(), format!("{key} {key}"));
    }
    on_an_engine_thread(move || drop(bench));
}

/// Recurses to the end of the stack, if there is one, before and after it is suspended.
fn recurse(mut bench: Bench, key: u64) -> Bench {
    bench.suspend(key, LONG);
    bench.answer(&key.to_string());
    assert_eq!(bench.result(key).unwrap(), "RangeError RangeError");
    bench
}

/// All threads are there at the same time, so that each has another stack.
#[test]
fn the_stack_is_that_of_the_thread_that_runs_the_instance() {
    on_an_engine_thread(|| {
        let bench = bench(
            "const f = () => 1 + f(); const deep = () => { try { return f() } catch (e) { return e.name } };",
            "const before = deep(); await ask(me); return `${before} ${deep()}`",
        );
        let bench = on_an_engine_thread(|| {
            let bench = on_an_engine_thread(|| recurse(bench, 1));
            recurse(bench, 2)
        });
        recurse(bench, 3);
    });
}
