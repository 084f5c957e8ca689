//! Calls every function that the engine has, in hostile ways, and sees that each call ends.
//!
//! The functions are found by walking the globals, so that an update of the engine cannot add one
//! that is left out. Each call has a deadline of milliseconds and must be over within [`BOUND`],
//! which is far more: a call of a native loop without an interrupt check takes minutes or for ever.
//! Calls run on threads of their own; one that is stuck is named, and left behind.

mod programs;

use std::{
    collections::VecDeque,
    env,
    sync::{
        Arc, Mutex,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    task::Waker,
    thread,
    time::{Duration, Instant},
};

use nex_functions::{
    Console, Engine as _, Failure, FailureKind, MEMORY_BYTES, Services, Setting, Source,
};

use self::programs::{PROGRAMS, Program};
use super::{
    JsEngine,
    tests::{call_within, on_an_engine_thread},
};
use crate::instance::Instance;

/// Deadline of a hostile call.
const DEADLINE: Duration = Duration::from_millis(20);
/// Limit for a call to be over, with the release of its memory. A loaded machine needs some of it.
const BOUND: Duration = Duration::from_secs(5);
/// Deadline of a preparation, which is not what is tested.
const PREPARED: Duration = Duration::from_secs(30);
/// Calls at a time.
const THREADS: usize = 2;
/// Reports of threads that are not read yet.
const MOST_REPORTS: usize = 64;
/// Stuck calls after which the rest is not tried: each of them keeps a processor busy.
const MOST_STUCK: usize = 8;
/// Calls of a function in ways that are drawn at random.
const DRAWN: usize = 1;
/// The same with `NEX_TEST_FULL=1`.
const DRAWN_FULL: usize = 60;
/// Start of the random numbers.
const SEED: u64 = 0x6e65_785f_6a73;

const WALK: &str = include_str!("hostile/walk.js");
const VALUES: &str = include_str!("hostile/values.js");

/// Receivers and arguments that suit the functions of a path. The first is the receiver.
const SUITABLE: &[(&str, &[&[&str]])] = &[
    (
        "globalThis[\"Array\"][\"prototype\"]",
        &[
            &["arrayLike", "function", "x"],
            &["longArray", "native"],
            &["dense", "million", "x"],
            &["sparse", "infinity"],
            &["proxy", "x", "minusOne"],
        ],
    ),
    (
        "globalThis[\"Array\"]",
        &[
            &["constructor", "arrayLike"],
            &["constructor", "endless", "native"],
        ],
    ),
    (
        "globalThis[\"String\"][\"prototype\"]",
        &[
            &["aaa", "needle", "needle"],
            &["wide", "x", "safe"],
            &["aaa", "regexp", "dollars"],
            &["marks", "marks"],
            &["rope", "rope"],
            &["spaces", "int31"],
        ],
    ),
    (
        "globalThis[\"String\"]",
        &[&["undefined", "arrayLike"], &["undefined", "bigint"]],
    ),
    (
        "globalThis[\"RegExp\"]",
        &[
            &["regexp", "aaa", "dollars"],
            &["backwards", "aaa", "x"],
            &["everywhere", "wide", "x"],
            &["undefined", "pattern"],
        ],
    ),
    (
        "globalThis[\"BigInt\"]",
        &[
            &["bigint", "bigint"],
            &["bigint", "digits"],
            &["bigint", "million", "bigint"],
        ],
    ),
    (
        "globalThis[\"Map\"]",
        &[&["map", "native"], &["undefined", "endless", "native"]],
    ),
    (
        "globalThis[\"Set\"]",
        &[
            &["set", "setLike"],
            &["set", "set"],
            &["set", "map"],
            &["undefined", "endless"],
        ],
    ),
    (
        "globalThis[\"Weak",
        &[&["weakMap", "object", "object"], &["undefined", "endless"]],
    ),
    (
        "globalThis[\"Object\"]",
        &[
            &["undefined", "keys", "keys"],
            &["undefined", "dense", "keys"],
            &["undefined", "chain", "chain"],
            &["undefined", "proxy", "trap"],
            &["undefined", "endless", "native"],
            &["chain", "x", "function"],
        ],
    ),
    (
        "globalThis[\"Reflect\"]",
        &[
            &["undefined", "native", "undefined", "arrayLike"],
            &["undefined", "trap", "x"],
            &["undefined", "chain", "x"],
        ],
    ),
    (
        "globalThis[\"Function\"]",
        &[
            &["native", "undefined", "arrayLike"],
            &["native", "source"],
            &["function", "undefined", "dense"],
        ],
    ),
    (
        "globalThis[\"JSON\"]",
        &[
            &["undefined", "json", "native"],
            &["undefined", "longArray", "native", "infinity"],
            &["undefined", "keys", "words"],
            &["undefined", "deep"],
            &["undefined", "nested"],
        ],
    ),
    (
        "globalThis[\"Math\"]",
        &[&["undefined", "endless"], &["undefined", "bigint"]],
    ),
    (
        "globalThis[\"Promise\"]",
        &[&["undefined", "endless"], &["promise", "native"]],
    ),
    (
        "globalThis[\"Iterator\"]",
        &[
            &["iterator", "native", "million"],
            &["helper", "infinity"],
            &["generator", "function"],
            &["iterator", "million"],
        ],
    ),
    (
        "globalThis[\"ArrayBuffer\"]",
        &[&["buffer", "zero", "infinity"], &["resizable", "million"]],
    ),
    (
        "globalThis[\"Atomics\"]",
        &[
            &["undefined", "shared", "zero", "zero", "infinity"],
            &["undefined", "typed", "zero", "million"],
        ],
    ),
    ("globalThis[\"DataView\"]", &[&["view", "zero", "digits"]]),
    (
        "Array\"][\"prototype\"]",
        &[
            &["typed", "x", "minusOne"],
            &["floats", "native"],
            &["floats", "function"],
            &["bigs", "bigint"],
            &["floats"],
        ],
    ),
    (
        "Object.getPrototypeOf(globalThis[\"Uint8Array\"])",
        &[
            &["typed", "native", "x"],
            &["floats", "undefined"],
            &["floats", "function"],
            &["bigs", "zero", "million"],
            &["typed", "floats"],
            &["constructor", "arrayLike"],
        ],
    ),
    (
        "globalThis[\"",
        &[
            &["undefined", "text"],
            &["undefined", "arrayLike"],
            &["undefined", "source"],
        ],
    ),
];

/// A call: how to make it, and what it is called if it is stuck.
#[derive(Clone, Debug)]
struct Call {
    name: String,
    script: Arc<str>,
    prepare: String,
}

/// Calls to make, each with its number.
type Queue = Mutex<VecDeque<(usize, Call)>>;

/// Random numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn instance(script: &str) -> Result<Instance, Failure> {
    let source = Source {
        name: "t.js".into(),
        uploaded_as: None,
        code: script.to_owned().into(),
    };
    let setting = Setting {
        about: Arc::default(),
        console: Console::muted(),
        services: Services::none(),
        memory_bytes: MEMORY_BYTES,
        deadline: Instant::now() + PREPARED,
        waker: Waker::noop().clone(),
    };
    JsEngine.instantiate(&JsEngine.load(&source)?, &setting)
}

fn lines(script: &str, payload: &str) -> Vec<String> {
    on_an_engine_thread(|| {
        let mut instance = instance(script).unwrap();
        let text = call_within(PREPARED, &mut instance, payload.as_bytes()).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.lines().map(str::to_owned).collect()
    })
}

/// Hostile calls of all functions: with what suits each, and with what is drawn.
fn calls(functions: &[String], values: &[String], drawn: usize) -> Vec<Call> {
    let script: Arc<str> = VALUES.into();
    let mut random = Random(SEED);
    let mut calls = Vec::new();
    for function in functions {
        let mut add = |form: &str, given: &[&str]| {
            calls.push(Call {
                name: format!("{form} {function} with {}", given.join(", ")),
                script: Arc::clone(&script),
                prepare: format!("{function}\n{form}\n{}", given.join("\n")),
            });
        };
        let suitable = SUITABLE.iter().find(|(path, _)| function.contains(path));
        for given in suitable.map_or(&[][..], |(_, given)| given) {
            add("method", given);
        }
        // A constructor has no receiver.
        let first = suitable.map_or("endless", |(_, given)| given[0][given[0].len().min(2) - 1]);
        add("construct", &["undefined", first]);
        for _ in 0..drawn {
            let form = ["method", "method", "call", "construct"][random.below(4)];
            let count = 1 + random.below(4);
            let given: Vec<_> = (0..count)
                .map(|_| values[random.below(values.len())].as_str())
                .collect();
            add(form, &given);
        }
    }
    calls
}

fn program_calls() -> Vec<Call> {
    let call = |(name, value, run): &Program| {
        let prepared_or_run = format!("p.length === 3 ? ({run})(v) : void (v = ({value}))");
        Call {
            name: format!("`{name}`: {run}"),
            script: format!("(() => {{ let v; return (s, p) => {prepared_or_run} }})()").into(),
            prepare: "prepare".to_owned(),
        }
    };
    PROGRAMS.iter().map(call).collect()
}

enum Report {
    /// The call begins.
    Begins(usize),
    /// Over, with all that it left; says whether it ended by itself, and its time.
    Ended(usize, Duration, Option<FailureKind>),
    /// Not prepared, such as for want of memory.
    Unprepared(usize, Failure),
}

fn work(queue: &Queue, report: impl Fn(Report)) {
    loop {
        let Some((number, call)) = queue.lock().unwrap().pop_front() else {
            return;
        };
        let prepared = instance(&call.script).and_then(|mut instance| {
            call_within(PREPARED, &mut instance, call.prepare.as_bytes())?;
            Ok(instance)
        });
        let mut instance = match prepared {
            Ok(instance) => instance,
            Err(failure) => {
                report(Report::Unprepared(number, failure));
                continue;
            }
        };
        report(Report::Begins(number));
        let began = Instant::now();
        let result = call_within(DEADLINE, &mut instance, b"run");
        let kind = result.err().map(|failure| failure.kind);
        // What was changed is not for the next call.
        drop(instance);
        report(Report::Ended(number, began.elapsed(), kind));
    }
}

/// Result of a sweep.
#[derive(Default)]
struct Swept {
    ended: usize,
    by_deadline: usize,
    unprepared: Vec<String>,
    stuck: Vec<String>,
    slowest: Vec<(Duration, String)>,
}

/// Starts a thread that runs calls until there are no more.
fn spawn(queue: &Arc<Queue>, thread: usize, reports_tx: &SyncSender<(usize, Report)>) {
    let queue = Arc::clone(queue);
    let reports_tx = reports_tx.clone();
    let run = move || work(&queue, |report| drop(reports_tx.send((thread, report))));
    let spawned = thread::Builder::new()
        .stack_size(JsEngine::STACK_BYTES)
        .spawn(run);
    spawned.unwrap();
}

fn sweep(calls: Vec<Call>) -> Swept {
    let names: Vec<_> = calls.iter().map(|call| call.name.clone()).collect();
    let total = calls.len();
    let queue: Arc<Queue> = Arc::new(Mutex::new(calls.into_iter().enumerate().collect()));
    let (tx, rx) = mpsc::sync_channel(MOST_REPORTS);
    let mut running: Vec<Option<(usize, Instant)>> = Vec::new();
    for thread in 0..THREADS {
        running.push(None);
        spawn(&queue, thread, &tx);
    }
    let mut swept = Swept::default();
    let mut done = 0;
    while done < total && swept.stuck.len() < MOST_STUCK {
        match rx.recv_timeout(BOUND / 20) {
            Ok((thread, Report::Begins(number))) => {
                running[thread] = Some((number, Instant::now()));
            }
            // One that was given up may come back yet.
            Ok((thread, Report::Ended(..))) if running[thread].is_none() => {}
            Ok((thread, Report::Ended(number, took, kind))) => {
                running[thread] = None;
                done += 1;
                swept.ended += 1;
                swept.by_deadline += usize::from(kind == Some(FailureKind::Deadline));
                swept.slowest.push((took, names[number].clone()));
            }
            Ok((_, Report::Unprepared(number, failure))) => {
                done += 1;
                swept
                    .unprepared
                    .push(format!("{}: {failure}", names[number]));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        for thread in 0..running.len() {
            if let Some((number, began)) = running[thread]
                && began.elapsed() > DEADLINE + BOUND
            {
                // Its thread is left behind; another takes its place.
                running[thread] = None;
                done += 1;
                swept.stuck.push(names[number].clone());
                running.push(None);
                spawn(&queue, running.len() - 1, &tx);
            }
        }
    }
    swept
        .slowest
        .sort_by_key(|(took, _)| std::cmp::Reverse(*took));
    swept
}

fn assert_all_ended(what: &str, calls: Vec<Call>) {
    let total = calls.len();
    let began = Instant::now();

    let swept = sweep(calls);

    let Swept {
        ended,
        by_deadline,
        unprepared,
        stuck,
        slowest,
    } = &swept;
    println!(
        "{what}: {total} calls in {:.1?}, {ended} ended, {by_deadline} of them by their deadline, {} not prepared",
        began.elapsed(),
        unprepared.len(),
    );
    for (took, name) in slowest.iter().take(10) {
        println!("  {took:.0?} {name}");
    }
    for name in unprepared {
        println!("  not prepared: {name}");
    }
    assert!(
        stuck.is_empty(),
        "seed {SEED:#x}: stuck {BOUND:?} after their deadline:\n  {}",
        stuck.join("\n  ")
    );
    assert!(
        unprepared.len() * 20 < total,
        "too many calls were not tried"
    );
}

#[test]
fn every_function_ends_at_its_deadline() {
    let full = env::var_os("NEX_TEST_FULL").is_some_and(|full| full == "1");
    let functions = lines(WALK, "");
    let values = lines(VALUES, "names");
    assert!(
        functions.len() > 600,
        "only {} functions were found",
        functions.len()
    );

    let calls = calls(&functions, &values, if full { DRAWN_FULL } else { DRAWN });

    assert_all_ended("functions", calls);
}

#[test]
fn syntax_ends_at_its_deadline() {
    assert_all_ended("programs", program_calls());
}
