//! An instance that a test drives by hand: host services answer when the test says so.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use nex_functions::{
    Console, Engine as _, Failure, FailureKind, Finished, Invocation, InvocationKey, Question,
    RecordedLines, Services, Setting, Source,
};
use nex_protocol::function::INVOCATION_HEADER;
use tokio::{runtime::Runtime, sync::oneshot};

use super::MEMORY_BYTES;
use crate::{engine::JsEngine, instance::Instance};

pub(super) const LONG: Duration = Duration::from_secs(30);

/// A request that waits for its answer.
pub(super) struct Asked {
    pub(super) subject: String,
    /// The trace that it is sent with.
    pub(super) trace: Option<String>,
    answer_tx: oneshot::Sender<Bytes>,
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An instance whose requests wait until the test answers them.
pub(super) struct Bench {
    // Dropped before the runtime of its questions.
    pub(super) instance: Instance,
    pub(super) asked: Arc<Mutex<VecDeque<Asked>>>,
    woken: Arc<Woken>,
    lines: RecordedLines,
    pub(super) finished: Vec<Finished>,
    _runtime: Runtime,
}

impl Bench {
    /// An instance of a module with this as its default export, after `before`.
    pub(super) fn new(before: &str, function: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let source = Source {
            name: "t.mjs".into(),
            uploaded_as: None,
            code: format!("{before}\nexport default {function}").into(),
        };
        let woken = Arc::new(Woken::default());
        let (console, lines) = Console::recorded();
        let setting = Setting {
            about: Arc::default(),
            console,
            services: Services::none(),
            memory_bytes: MEMORY_BYTES,
            deadline: Instant::now() + LONG,
            waker: Waker::from(Arc::clone(&woken)),
        };
        let script = JsEngine.load(&source).unwrap();
        let instance = JsEngine.instantiate(&script, &setting).unwrap();
        let asked = Arc::new(Mutex::new(VecDeque::new()));
        let (asks, handle) = (Arc::clone(&asked), runtime.handle().clone());
        let fake = move |services: &Services, subject: &str| {
            let (answer_tx, answer_rx) = oneshot::channel();
            let headers = services.trace_headers();
            let trace = headers.and_then(|headers| Some(headers.get("traceparent")?.to_string()));
            asks.lock().unwrap().push_back(Asked {
                subject: subject.to_owned(),
                trace,
                answer_tx,
            });
            let answer = async move { Ok(answer_rx.await.expect("it is answered or cut off")) };
            Question::new(handle.clone(), answer)
        };
        *instance.ready.host.fake.borrow_mut() = Some(Box::new(fake));
        Self {
            instance,
            asked,
            woken,
            lines,
            finished: Vec::new(),
            _runtime: runtime,
        }
    }

    /// Begins an invocation whose payload, id and trace are made of its key.
    pub(super) fn begin(&mut self, key: u64, timeout: Duration) -> Poll<Result<String, Failure>> {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(INVOCATION_HEADER, id(key).as_str());
        headers.insert("traceparent", trace(key).as_str());
        let invocation = Invocation {
            id: id(key).as_str().into(),
            subject: "f".into(),
            headers,
            payload: key.to_string().into(),
            max_result_bytes: usize::MAX,
            deadline: Instant::now() + timeout,
            attempt: 1,
        };
        let key = InvocationKey(key);
        let begun = JsEngine.begin(&mut self.instance, key, &invocation, &mut self.finished);
        begun.map(text)
    }

    /// Begins an invocation that is suspended.
    pub(super) fn suspend(&mut self, key: u64, timeout: Duration) {
        let begun = self.begin(key, timeout);
        assert!(begun.is_pending(), "{begun:?}");
    }

    /// Answers a request, with its subject in capitals, and lets the instance go on.
    pub(super) fn answer(&mut self, subject: &str) {
        let mut asked = self.asked.lock().unwrap();
        let at = asked.iter().position(|asked| asked.subject == subject);
        let at = at.unwrap_or_else(|| panic!("nobody asked {subject}"));
        let answered = asked.remove(at).unwrap();
        drop(asked);
        let woken = self.woken.0.load(Ordering::SeqCst);
        answered
            .answer_tx
            .send(subject.to_uppercase().into())
            .unwrap();
        let started = Instant::now();
        while self.woken.0.load(Ordering::SeqCst) == woken {
            assert!(started.elapsed() < LONG, "nobody was woken");
            thread::yield_now();
        }
        self.resume();
    }

    pub(super) fn resume(&mut self) {
        JsEngine.resume(&mut self.instance, &mut self.finished);
    }

    /// Resumes the instance whenever a timer or a deadline is due, until so many are over.
    pub(super) fn wait_for(&mut self, count: usize) {
        while self.finished.len() < count {
            let wakes_at = JsEngine.wakes_at(&self.instance).expect("something waits");
            let left = wakes_at.saturating_duration_since(Instant::now());
            #[expect(clippy::disallowed_methods, reason = "it is a timer or a deadline")]
            thread::sleep(left);
            self.resume();
        }
    }

    /// The result of an invocation that is over.
    pub(super) fn result(&mut self, key: u64) -> Result<String, Failure> {
        let mut finished = self.finished.iter();
        let at = finished.position(|(over, _)| *over == InvocationKey(key));
        let at = at.unwrap_or_else(|| panic!("{key} is in flight"));
        text(self.finished.swap_remove(at).1)
    }

    pub(super) fn is_worn_out(&self) -> bool {
        JsEngine.is_worn_out(&self.instance)
    }

    /// The lines that were written, with the key of their invocation, 0 where there is none.
    pub(super) fn lines(&mut self) -> Vec<(u64, String)> {
        let lines = self.lines.take().into_iter();
        let key =
            |id: Option<String>| id.map_or(0, |id| id.trim_start_matches("call-").parse().unwrap());
        lines.map(|(id, text)| (key(id), text)).collect()
    }

    /// The bytes that the runtime has, after garbage was collected.
    pub(super) fn memory(&self) -> i64 {
        let runtime = self.instance.ready.context.runtime();
        runtime.run_gc();
        runtime.memory_usage().malloc_size
    }
}

pub(super) fn id(key: u64) -> String {
    format!("call-{key}")
}

pub(super) fn trace(key: u64) -> String {
    format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{key:016x}-01")
}

pub(super) fn text(result: Result<Bytes, Failure>) -> Result<String, Failure> {
    result.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

pub(super) fn code(result: Result<String, Failure>) -> String {
    let failure = result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Code, "{failure}");
    failure.to_string()
}

pub(super) fn deadline(result: Result<String, Failure>) {
    let failure = result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Deadline, "{failure}");
}

/// Asks, on a subject of the invocation, and gives the text of the answer.
const ASK: &str = "
    let nex;
    const decode = bytes => new TextDecoder().decode(bytes);
    const ask = async subject => decode(await nex.messaging.request(subject));
    const sleep = millis => new Promise(done => setTimeout(done, millis));";

pub(super) fn bench(before: &str, body: &str) -> Bench {
    let before = format!("{ASK}\n{before}");
    let function =
        format!("async (request, its) => {{ nex = its; const me = request.text(); {body} }}");
    Bench::new(&before, &function)
}
