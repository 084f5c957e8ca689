//! Ends of invocations that are in flight with others: deadlines, failures, and what is left after them.

use std::{
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use nex_functions::{FailureKind, InvocationKey};

use super::{
    SHORT,
    driven::{LONG, bench, code, deadline},
    on_an_engine_thread,
};

#[test]
fn a_deadline_ends_one_invocation_and_no_other() {
    on_an_engine_thread(|| {
        for wait in ["ask(me)", "sleep(60000)", "new Promise(() => {})"] {
            let body = format!("if (me === '1') await {wait}; return ask(me)");
            let mut bench = bench("", &body);
            bench.suspend(2, LONG);
            let started = Instant::now();
            bench.suspend(1, SHORT);

            bench.wait_for(1);

            assert!(started.elapsed() < 10 * SHORT, "{wait}");
            deadline(bench.result(1));
            assert!(!bench.is_worn_out(), "{wait}");
            bench.answer("2");
            assert_eq!(bench.result(2).unwrap(), "2");
            bench.suspend(3, LONG);
            bench.answer("3");
            assert_eq!(bench.result(3).unwrap(), "3");
        }
    });
}

#[test]
fn who_shares_a_call_of_an_ended_invocation_hears_of_its_end() {
    on_an_engine_thread(|| {
        let mut bench = bench(
            "let shared;",
            "shared ??= ask('config'); return await shared",
        );
        bench.suspend(1, SHORT);
        bench.suspend(2, LONG);

        bench.wait_for(2);

        deadline(bench.result(1));
        let failure = code(bench.result(2));
        assert!(
            failure.contains("the invocation that asked for this is over at t.mjs:4:"),
            "{failure}"
        );
        // The log has the calls that led there, and nothing of the one that has ended.
        let lines = bench.lines();
        assert!(lines.iter().all(|(key, _)| *key == 2), "{lines:?}");
    });
}

#[test]
fn code_of_an_ended_invocation_releases_its_lock_and_reaches_nothing() {
    on_an_engine_thread(|| {
        let mut bench = bench(
            "let last = Promise.resolve();
             const locked = work => { const run = last.then(work); last = run.catch(() => {}); return run };",
            "return locked(async () => {
                 if (me !== '1') return ask(me);
                 try { await ask('never') } catch (error) {
                     setTimeout(() => console.log('a timer'), 0);
                     console.log(error.code);
                     try { await ask('again') } catch (error) { console.log(error.code) }
                 }
             })",
        );
        bench.suspend(1, SHORT);
        bench.suspend(2, LONG);

        bench.wait_for(1);
        bench.answer("2");

        deadline(bench.result(1));
        assert_eq!(bench.result(2).unwrap(), "2");
        let ended = (1, "ended".to_owned());
        assert_eq!(bench.lines(), [ended.clone(), ended]);
        assert!(!bench.is_worn_out());
    });
}

#[test]
fn jobs_without_end_of_an_ended_invocation_are_discarded() {
    on_an_engine_thread(|| {
        for body in [
            "for (;;) await null",
            "for (;;) { try { await ask('never') } catch {} }",
            "try { await ask('never') } catch { for (;;) {} }",
        ] {
            let mut bench = bench("", &format!("if (me === '2') return ask(me); {body}"));
            bench.suspend(2, LONG);
            let started = Instant::now();
            if bench.begin(1, SHORT).is_pending() {
                bench.wait_for(1);
                deadline(bench.result(1));
            }

            assert!(
                started.elapsed() < 10 * SHORT,
                "{body}: {:?}",
                started.elapsed()
            );
            assert!(bench.is_worn_out(), "{body}");
            bench.answer("2");
            assert_eq!(bench.result(2).unwrap(), "2", "{body}");
        }
    });
}

#[test]
fn computing_past_a_deadline_wears_the_runtime_out_and_ends_no_neighbour() {
    on_an_engine_thread(|| {
        for (body, kind) in [
            ("for (;;) {}", FailureKind::Deadline),
            ("await null; for (;;) {}", FailureKind::Deadline),
            ("await sleep(1); for (;;) {}", FailureKind::Deadline),
            ("return { toJSON() { for (;;) {} } }", FailureKind::Deadline),
            (
                "const a = []; for (;;) a.push(new Array(1000).fill(1.5))",
                FailureKind::Memory,
            ),
            (
                "await null; const a = []; for (;;) a.push(new Array(1000).fill(1.5))",
                FailureKind::Memory,
            ),
        ] {
            let time = if kind == FailureKind::Memory {
                LONG
            } else {
                SHORT
            };
            let mut bench = bench("", &format!("if (me !== '1') return ask(me); {body}"));
            bench.suspend(2, LONG);
            bench.suspend(3, LONG);

            let begun = match bench.begin(1, time) {
                Poll::Ready(result) => result,
                Poll::Pending => {
                    bench.wait_for(1);
                    bench.result(1)
                }
            };

            assert_eq!(begun.unwrap_err().kind, kind, "{body}");
            assert!(bench.is_worn_out(), "{body}");
            for key in ["3", "2"] {
                bench.answer(key);
                assert_eq!(bench.result(key.parse().unwrap()).unwrap(), key, "{body}");
            }
        }
    });
}

#[test]
fn what_nobody_catches_fails_its_invocation_and_no_other() {
    on_an_engine_thread(|| {
        let rejected = "a promise that nobody waits for was rejected: Error: boom at t.mjs:";
        for (body, text) in [
            (
                "queueMicrotask(() => { throw new Error('boom') }); await ask(me)",
                "Error: boom at t.mjs:",
            ),
            (
                "queueMicrotask(() => { throw new Error('boom') }); return 'fine'",
                "Error: boom at t.mjs:",
            ),
            (
                "await sleep(1); queueMicrotask(() => { throw new Error('boom') }); await sleep(1)",
                "Error: boom at t.mjs:",
            ),
            (
                "setTimeout(() => { throw new Error('boom') }, 1); await sleep(60000)",
                "Error: boom at t.mjs:",
            ),
            (
                "setInterval(() => { throw new Error('boom') }, 1); await sleep(60000)",
                "Error: boom at t.mjs:",
            ),
            ("Promise.reject(new Error('boom')); return 'fine'", rejected),
            (
                "(async () => { await null; throw new Error('boom') })(); return 'fine'",
                rejected,
            ),
            (
                "await new Promise(done => { (async () => { throw new Error('boom'); done() })() })",
                rejected,
            ),
            (
                "sleep(1).then(() => { throw new Error('boom') }); await sleep(5)",
                rejected,
            ),
            (
                "Promise.reject(new Error('boom')).finally(() => {}); return 'fine'",
                rejected,
            ),
            (
                "Promise.all([Promise.reject(new Error('boom'))]); return 'fine'",
                rejected,
            ),
        ] {
            let mut bench = bench("", &format!("if (me === '2') return ask(me); {body}"));
            bench.suspend(2, LONG);

            let result = match bench.begin(1, LONG) {
                Poll::Ready(result) => result,
                Poll::Pending => {
                    if bench
                        .asked
                        .lock()
                        .unwrap()
                        .iter()
                        .any(|asked| asked.subject == "1")
                    {
                        bench.answer("1");
                    }
                    bench.wait_for(1);
                    bench.result(1)
                }
            };

            let failure = code(result);
            assert!(failure.starts_with(text), "{body}: {failure}");
            bench.answer("2");
            assert_eq!(bench.result(2).unwrap(), "2", "{body}");
        }
    });
}

#[test]
fn a_rejection_that_is_looked_after_later_fails_nothing() {
    on_an_engine_thread(|| {
        for body in [
            "const late = Promise.reject(1); await ask(me); await late.catch(() => {}); return 'fine'",
            "const late = Promise.reject(1); await sleep(2); try { await late } catch {} return 'fine'",
            "const late = (async () => { throw 1 })(); await null; return late.then(() => 'no', () => 'fine')",
        ] {
            let mut bench = bench("", body);
            let result = match bench.begin(1, LONG) {
                Poll::Ready(result) => result,
                Poll::Pending => {
                    if !bench.asked.lock().unwrap().is_empty() {
                        bench.answer("1");
                    }
                    bench.wait_for(1);
                    bench.result(1)
                }
            };
            assert_eq!(result.unwrap(), "fine", "{body}");
        }
    });
}

#[test]
fn what_is_thrown_after_the_reply_is_logged_with_its_invocation() {
    on_an_engine_thread(|| {
        let mut bench = bench(
            "let wake; const waits = new Promise(done => { wake = done });",
            "if (me === '2') { wake(); return 'woke' }
             waits.then(() => { queueMicrotask(() => { throw new Error('a microtask') }) });
             waits.then(() => { throw new Error('a rejection') });
             return 'fine'",
        );
        assert_eq!(bench.begin(1, LONG), Poll::Ready(Ok("fine".to_owned())));

        assert_eq!(bench.begin(2, LONG), Poll::Ready(Ok("woke".to_owned())));

        let lines = bench.lines();
        assert!(
            matches!(&*lines, [(1, one), (1, other)]
                if one.starts_with("Error: a microtask at t.mjs:")
                && other.starts_with("a promise that nobody waits for was rejected: Error: a rejection at t.mjs:")),
            "{lines:?}"
        );
    });
}

#[test]
fn nothing_is_left_of_invocations_that_are_over() {
    on_an_engine_thread(|| {
        let mut bench = bench(
            "",
            "setTimeout(() => {}, 60000); setInterval(() => {}, 60000);
             const never = ask('never'); never.catch(() => {});
             await Promise.race([ask(me), never, sleep(60000)]);
             return me",
        );
        let mut before = 0;
        for round in 0..101 {
            for key in 0..100 {
                if let Poll::Ready(late) = bench.begin(key, Duration::from_millis(20)) {
                    let late = late.map(Bytes::from);
                    bench.finished.push((InvocationKey(key), late));
                }
            }
            bench.wait_for(100);
            for key in 0..100 {
                deadline(bench.result(key));
            }
            bench.asked.lock().unwrap().clear();
            if round == 0 {
                before = bench.memory();
            }
        }
        let after = bench.memory();
        assert!(after <= before + 16 * 1024, "{before} bytes, then {after}");
        assert_eq!(bench.lines(), []);
    });
}

#[test]
fn a_runtime_ends_with_invocations_that_are_suspended() {
    on_an_engine_thread(|| {
        let mut bench = bench(
            "const all = [];",
            "async function* values() { try { yield await ask(me) } finally { await ask('end') } }
             all.push(values); setInterval(() => {}, 1000);
             await Promise.all([sleep(1000), (async () => { for await (const x of values()) all.push(x) })()])",
        );
        for key in 0..100 {
            bench.suspend(key, LONG);
        }
        bench.answer("7");
        drop(bench);
    });
}

#[test]
fn errors_of_ended_invocations_that_make_more_of_them_hold_up_nobody() {
    on_an_engine_thread(|| {
        let mut bench = bench(
            "",
            "if (me === '2') return ask(me);
             const evil = () => { const e = new Error('evil'); more(); return e };
             const more = () => Promise.reject({ get code() { queueMicrotask(more); more(); throw evil() } });
             try { await ask('never') } catch { more() }",
        );
        bench.suspend(2, LONG);
        let started = Instant::now();
        bench.suspend(1, SHORT);

        bench.wait_for(1);

        deadline(bench.result(1));
        assert!(started.elapsed() < 10 * SHORT, "{:?}", started.elapsed());
        bench.answer("2");
        assert_eq!(bench.result(2).unwrap(), "2");
    });
}
