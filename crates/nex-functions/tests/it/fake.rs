//! An engine whose programs are one word, and a host around it.

use std::{
    sync::{Arc, Condvar, Mutex},
    task::Poll,
    time::{Duration, Instant},
};

use async_nats::{Client, Message};
use bytes::Bytes;
use nex_functions::{
    Engine, Failure, FailureKind, Finished, FunctionHost, FunctionRequest, Invocation,
    InvocationKey, Limits, NewFunction, Setting, Source,
};
use nex_nats::read_error;
use nex_protocol::{
    ErrorCode, LogStream, Namespace, NatsConnectionData, NexletId, NodeId, StartWorkloadRequest,
    WorkloadId, ids::unique,
};
use nex_testkit::NatsServer;
use nexlet::{Refusal, Start, Started, Stop};

/// How long a test waits for what should be there in milliseconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Holds calls of the program `gate` until it is opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<(usize, bool)>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().1 = true;
        self.0.1.notify_all();
    }

    /// How many calls have come to it.
    pub(crate) fn arrived(&self) -> usize {
        self.0.0.lock().unwrap().0
    }

    fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.0 += 1;
        drop(self.0.1.wait_while(state, |(_, open)| !*open).unwrap());
    }
}

#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(crate) gate: Gate,
}

#[derive(Debug)]
pub(crate) struct Program {
    setting: Setting,
    word: String,
    calls: u32,
    is_worn_out: bool,
}

impl Engine for Fake {
    type Module = String;
    type Instance = Program;
    const STACK_BYTES: usize = 256 * 1024;

    fn load(&self, source: &Source) -> Result<String, Failure> {
        let word = String::from_utf8(source.code.to_vec()).unwrap();
        if word == "broken" {
            return Err(Failure::new(FailureKind::Invalid, "no such word at 1:1"));
        }
        Ok(word)
    }

    fn instantiate(&self, word: &String, setting: &Setting) -> Result<Program, Failure> {
        Ok(Program {
            setting: setting.clone(),
            word: word.clone(),
            calls: 0,
            is_worn_out: false,
        })
    }

    fn begin(
        &self,
        program: &mut Program,
        _key: InvocationKey,
        invocation: &Invocation,
        _finished: &mut Vec<Finished>,
    ) -> Poll<Result<Bytes, Failure>> {
        let result = self.call(program, invocation);
        program.is_worn_out |=
            matches!(&result, Err(failure) if failure.kind == FailureKind::Deadline);
        Poll::Ready(result)
    }

    fn resume(&self, _program: &mut Program, _finished: &mut Vec<Finished>) {}

    fn wakes_at(&self, _program: &Program) -> Option<Instant> {
        None
    }

    fn is_worn_out(&self, program: &Program) -> bool {
        program.is_worn_out
    }
}

impl Fake {
    fn call(&self, program: &mut Program, invocation: &Invocation) -> Result<Bytes, Failure> {
        program.calls += 1;
        let payload = std::str::from_utf8(&invocation.payload).unwrap_or_default();
        match (program.word.as_str(), payload) {
            (_, "fail") => Err(Failure::new(FailureKind::Code, "Error: a\r\nb at f:1:2")),
            (_, "panic") => panic!("a bug of the engine"),
            (_, "loop") => {
                while Instant::now() < invocation.deadline {
                    std::thread::yield_now();
                }
                Err(Failure::new(FailureKind::Deadline, "interrupted"))
            }
            ("gate", _) => {
                self.gate.pass();
                Ok(invocation.payload.clone())
            }
            ("say", _) => {
                let console = program.setting.console.for_invocation(invocation);
                console.line(LogStream::Stdout, payload);
                Ok(Bytes::new())
            }
            ("count", _) => Ok(program.calls.to_string().into()),
            ("chatter", _) => {
                let console = program.setting.console.for_invocation(invocation);
                for number in 0..5000 {
                    console.line(LogStream::Stdout, &format!("line {number}"));
                }
                Ok(Bytes::new())
            }
            ("show", _) => {
                let header = invocation
                    .headers
                    .get("x-color")
                    .map_or("", |value| value.as_str());
                Ok(format!("{} {} {header}", invocation.id.as_str(), invocation.attempt).into())
            }
            ("relay", _) => {
                let services = program.setting.services.for_invocation(invocation);
                let sent = services.publish("relayed".to_owned(), invocation.payload.clone());
                sent.wait(invocation.deadline)
                    .map(|()| Bytes::new())
                    .map_err(|error| Failure::new(FailureKind::Code, error.to_string()))
            }
            ("grow", _) => Ok(vec![b'x'; payload.parse().unwrap()].into()),
            _ => Ok(invocation.payload.clone()),
        }
    }
}

/// A host on a server, and a client to call its functions.
pub(crate) struct Bench {
    pub(crate) host: FunctionHost<Fake>,
    pub(crate) gate: Gate,
    pub(crate) client: Client,
    pub(crate) nexlet: nexlet::Host,
    url: String,
}

impl Bench {
    pub(crate) async fn new(server: &NatsServer, limits: Limits) -> Self {
        let client = async_nats::connect(server.url()).await.unwrap();
        Self::with_client(server, limits, client)
    }

    /// A host whose nexlet comes back to a server that was restarted only after `delay`.
    pub(crate) async fn returning_after(
        server: &NatsServer,
        limits: Limits,
        delay: Duration,
    ) -> Self {
        let options = async_nats::ConnectOptions::new().reconnect_delay_callback(move |_| delay);
        let client = options.connect(server.url()).await.unwrap();
        Self::with_client(server, limits, client)
    }

    fn with_client(server: &NatsServer, limits: Limits, client: Client) -> Self {
        let nexlet = nexlet::Host::new(
            client.clone(),
            NodeId::new(format!("N{}", "A".repeat(55))).unwrap(),
            NexletId::new("nexlet").unwrap(),
        );
        let engine = Fake::default();
        Self {
            gate: engine.gate.clone(),
            host: FunctionHost::new(engine, limits),
            client,
            nexlet,
            url: server.url().to_owned(),
        }
    }

    pub(crate) async fn start(&self, code: &str, subject: &str) -> WorkloadId {
        self.start_with(code, subject, r#""5s""#).await.unwrap().0
    }

    pub(crate) async fn start_with(
        &self,
        code: &str,
        subject: &str,
        timeout: &str,
    ) -> Result<(WorkloadId, Started), Refusal> {
        let data = NatsConnectionData {
            nats_servers: vec![self.url.clone()],
            ..NatsConnectionData::default()
        };
        self.start_as(code, subject, timeout, data).await
    }

    pub(crate) async fn start_as(
        &self,
        code: &str,
        subject: &str,
        timeout: &str,
        credentials: NatsConnectionData,
    ) -> Result<(WorkloadId, Started), Refusal> {
        let triggers = format!(r#"[{{"subject":"{subject}"}}]"#);
        self.start_on(code, &triggers, timeout, credentials).await
    }

    /// Starts a function with these triggers, which have five seconds for a run.
    pub(crate) async fn start_triggers(
        &self,
        code: &str,
        triggers: &str,
    ) -> Result<WorkloadId, Refusal> {
        let data = NatsConnectionData {
            nats_servers: vec![self.url.clone()],
            ..NatsConnectionData::default()
        };
        let started = self.start_on(code, triggers, r#""5s""#, data).await;
        started.map(|(id, _)| id)
    }

    async fn start_on(
        &self,
        code: &str,
        triggers: &str,
        timeout: &str,
        credentials: NatsConnectionData,
    ) -> Result<(WorkloadId, Started), Refusal> {
        let id = WorkloadId::new(unique()).unwrap();
        let run_request =
            format!(r#"{{"uri":"file:///f","triggers":{triggers},"timeout":{timeout}}}"#);
        let request = FunctionRequest::parse(&run_request).unwrap();
        let body = format!(
            r#"{{"description":"","name":"{code}","namespace":"tenant","tags":null,
                "workload_lifecycle":"function","workload_type":"fake","run_request":""}}"#
        );
        let new = NewFunction {
            start: Start {
                id: id.clone(),
                request: serde_json::from_str::<StartWorkloadRequest>(&body).unwrap(),
                credentials,
                namespace_credentials: None,
                existing: false,
                host: self.nexlet.clone(),
            },
            request,
            source: Source {
                name: "f".into(),
                uploaded_as: None,
                code: code.to_owned().into(),
            },
        };
        self.host.start(new).await.map(|started| (id, started))
    }

    pub(crate) async fn stop(&self, id: &WorkloadId) {
        self.end(id, false).await;
    }

    /// Stops a function; with `purge` nothing of it stays.
    pub(crate) async fn end(&self, id: &WorkloadId, purge: bool) {
        let stop = Stop {
            id: id.clone(),
            namespace: Namespace::new("tenant").unwrap(),
            purge,
        };
        self.host.stop(&stop).await.unwrap();
    }

    pub(crate) async fn call(&self, subject: &str, payload: impl Into<Bytes>) -> Message {
        let asked = self.client.request(subject.to_owned(), payload.into());
        let reply = tokio::time::timeout(LIMIT, asked).await;
        reply.expect("no reply in time").unwrap()
    }

    pub(crate) async fn error(&self, subject: &str, payload: &str) -> (ErrorCode, String) {
        let reply = self.call(subject, payload.to_owned()).await;
        read_error(&reply).unwrap_or_else(|| panic!("no error: {reply:?}"))
    }

    /// A number from a function's metadata.
    pub(crate) fn count(&self, id: &WorkloadId, name: &str) -> u64 {
        let list = self.host.list();
        let summary = list.iter().find(|summary| summary.id == *id).unwrap();
        summary.metadata[name].parse().unwrap()
    }
}
