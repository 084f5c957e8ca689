//! Puts the rows of a table to a node, one after the other, and says of each what came back, or
//! that nothing did.
//!
//! Silence is shown by the node's end. That a question was heard is in the node's statistics. A
//! node that stops finishes what it has heard and then says goodbye, on the connection on which it
//! answers; the server keeps the order of a connection, so an answer that has not come before the
//! goodbye was never sent.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::Message;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use nex_node::RunningNode;
use nex_testkit::eventually;
use serde_json::Value;
use tracing::{Event, Metadata, Subscriber, field, span};

use crate::support::{Bus, LIMIT, body, next};

/// How long nexlets by hand, which do not obey, may hold up the end of a node.
const GRACE: Duration = Duration::from_millis(100);

/// What the body of a refusal says.
#[derive(Clone, Copy)]
pub(super) enum Told {
    /// The text of the header.
    Same,
    /// This.
    Text(&'static str),
    /// More than the header, and this among it.
    More(&'static str),
}

/// A check of an answer; the error says what is wrong with it.
type Check = Box<dyn Fn(&Message) -> Result<(), String>>;

enum Want {
    Silence,
    Refusal(u16, String, Told),
    Answer(Check),
}

/// One row: a question, and what is to come back.
pub(super) struct Row {
    name: String,
    subject: String,
    body: Bytes,
    want: Want,
}

impl Row {
    fn new(name: &str, subject: &str, body: impl Into<Bytes>, want: Want) -> Self {
        Self {
            name: name.to_owned(),
            subject: subject.to_owned(),
            body: body.into(),
            want,
        }
    }

    /// Nobody answers, though the node hears it.
    pub(super) fn silent(name: &str, subject: &str, body: impl Into<Bytes>) -> Self {
        Self::new(name, subject, body, Want::Silence)
    }

    /// An error in its envelope, its text in the body too.
    pub(super) fn refused(
        name: &str,
        subject: &str,
        body: impl Into<Bytes>,
        code: u16,
        text: &str,
    ) -> Self {
        let want = Want::Refusal(code, text.to_owned(), Told::Same);
        Self::new(name, subject, body, want)
    }

    /// The same, where the body says something else.
    pub(super) fn told(mut self, says: Told) -> Self {
        if let Want::Refusal(_, _, told) = &mut self.want {
            *told = says;
        }
        self
    }

    /// An answer of the node's own that is JSON and satisfies `is`.
    pub(super) fn answered(
        name: &str,
        subject: &str,
        body: impl Into<Bytes>,
        is: impl Fn(&Value) -> bool + 'static,
    ) -> Self {
        let check = move |reply: &Message| {
            header_names(reply, &["Nex-Node"])?;
            let value: Value = serde_json::from_slice(&reply.payload).map_err(|e| e.to_string())?;
            verify(is(&value), "its body is not as wanted")
        };
        Self::new(name, subject, body, Want::Answer(Box::new(check)))
    }

    /// An answer that is these headers, the node's own, and these bytes.
    pub(super) fn forwarded(
        name: &str,
        subject: &str,
        request: impl Into<Bytes>,
        headers: &'static [(&'static str, &'static str)],
        payload: impl Into<Bytes>,
    ) -> Self {
        let payload = payload.into();
        let check = move |reply: &Message| {
            let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
            names.push("Nex-Node");
            header_names(reply, &names)?;
            for (name, value) in headers {
                verify(header(reply, name) == Some(*value), name)?;
            }
            verify(reply.payload == payload, "its body is not as the nexlet's")
        };
        Self::new(name, subject, request, Want::Answer(Box::new(check)))
    }

    fn check(&self, replies: &[Message], log: &Log) -> Result<(), String> {
        match (&self.want, replies) {
            (Want::Silence, []) => Ok(()),
            (Want::Silence, _) => Err("it was answered".to_owned()),
            (_, []) => Err("it was not answered".to_owned()),
            (Want::Answer(check), [reply]) => check(reply),
            (Want::Refusal(code, text, told), [reply]) => {
                refusal(reply, *code, text, *told)?;
                let registers = self.subject.contains(".agent.REGISTER.");
                if registers {
                    registration_fields(reply)?;
                }
                let id: Value = body(reply);
                let id = id["error_id"].as_str().unwrap_or_default();
                log.has(id, text)
            }
            _ => Err("it was answered more than once".to_owned()),
        }
    }
}

fn verify(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}

/// A header by its exact name: upper and lower case differ.
fn header<'a>(reply: &'a Message, name: &str) -> Option<&'a str> {
    let headers = reply.headers.as_ref()?;
    let (_, values) = headers.iter().find(|(n, _)| n.to_string() == name)?;
    Some(values.first()?.as_str())
}

fn header_names(reply: &Message, wanted: &[&str]) -> Result<(), String> {
    let headers = reply.headers.clone().unwrap_or_default();
    let names: BTreeSet<&str> = headers.iter().map(|(name, _)| name.as_ref()).collect();
    let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
    verify(names == wanted, &format!("its headers are {names:?}"))
}

fn refusal(reply: &Message, code: u16, text: &str, told: Told) -> Result<(), String> {
    const CODE: &str = "Nats-Service-Error-Code";
    const TEXT: &str = "Nats-Service-Error";
    header_names(reply, &[CODE, TEXT, "Nex-Node"])?;
    verify(header(reply, CODE) == Some(&code.to_string()), CODE)?;
    verify(header(reply, TEXT) == Some(text), TEXT)?;

    let envelope: Value =
        serde_json::from_slice(&reply.payload).map_err(|error| error.to_string())?;
    let id = envelope["error_id"].as_str().unwrap_or_default();
    let opaque = id.len() == 22 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    verify(opaque, "its error id is not one")?;
    let error = envelope["error"].as_str().unwrap_or_default();
    let right = match told {
        // What a fault of the node was is for its log alone.
        _ if code == 500 => error == "internal server error",
        Told::Same => error == text,
        Told::Text(wanted) => error == wanted,
        Told::More(part) => error != text && error.contains(part),
    };
    verify(right, &format!("its body says {error:?}"))
}

/// What a Go nexlet reads, which looks at no header of this answer.
fn registration_fields(reply: &Message) -> Result<(), String> {
    let envelope: Value = body(reply);
    for key in ["connection_data", "existing_state", "node_id"] {
        verify(envelope.get(key).is_some(), key)?;
    }
    verify(envelope["success"] == false, "success")?;
    verify(envelope["message"] == envelope["error"], "message")
}

/// Puts all rows to the node, ends it, and fails with every row that did not hold.
pub(super) async fn check(bus: &Bus, node: RunningNode, log: &Log, rows: Vec<Row>) {
    let goodbye = format!("$NEX.FEED.{}.events.NODESTOPPED", node.id());
    let mut goodbyes = bus.listen(&goodbye).await;
    let inbox = bus.client.new_inbox();
    let mut inbox_rx = bus.listen(&format!("{inbox}.*")).await;
    // A node asks at its start who is there, and hears that too: not among the rows.
    eventually("the node has heard its own question", LIMIT, || async {
        match heard_by(bus, "PingNexus").await {
            0 => Err("not yet"),
            _ => Ok(()),
        }
    })
    .await;
    let heard_before = heard(bus).await;
    let mut replies: Vec<Vec<Message>> = rows.iter().map(|_| Vec::new()).collect();

    for (place, row) in rows.iter().enumerate() {
        let reply = format!("{inbox}.{place}");
        let asked = bus
            .client
            .publish_with_reply(row.subject.clone(), reply, row.body.clone());
        asked.await.unwrap();
        let answered = async {
            while replies[place].is_empty() {
                sort(&mut replies, inbox_rx.next().await.unwrap());
            }
        };
        if !matches!(row.want, Want::Silence) {
            // Who does not answer is told at the end, by name.
            tokio::time::timeout(LIMIT, answered).await.ok();
        }
    }
    eventually("the node has heard all rows", LIMIT, || async {
        let heard = heard(bus).await - heard_before;
        let all = u64::try_from(rows.len()).unwrap();
        if heard == all {
            Ok(())
        } else {
            Err((heard, all))
        }
    })
    .await;
    node.stop(GRACE).await;
    next(&mut goodbyes).await;
    while let Some(Some(reply)) = inbox_rx.next().now_or_never() {
        sort(&mut replies, reply);
    }

    let mut failures = String::new();
    for (row, replies) in rows.iter().zip(&replies) {
        if let Err(why) = row.check(replies, log) {
            writeln!(failures, "row `{}`: {why}: {replies:?}", row.name).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

fn sort(replies: &mut [Vec<Message>], reply: Message) {
    let place = reply.subject.rsplit('.').next().unwrap();
    let place: usize = place.parse().unwrap();
    replies[place].push(reply);
}

/// How many requests the node has heard.
async fn heard(bus: &Bus) -> u64 {
    count(bus, |_| true).await
}

/// How many one of its endpoints has heard.
async fn heard_by(bus: &Bus, endpoint: &str) -> u64 {
    count(bus, |name| name == endpoint).await
}

async fn count(bus: &Bus, wanted: impl Fn(&str) -> bool) -> u64 {
    let stats: Value = body(&bus.ask("$SRV.STATS.nexnode", "").await);
    let endpoints = stats["endpoints"].as_array().unwrap();
    let endpoints = endpoints
        .iter()
        .filter(|one| wanted(one["name"].as_str().unwrap()));
    let counts = endpoints.map(|one| one["num_requests"].as_u64());
    counts.map(Option::unwrap).sum()
}

/// What was logged on this thread, which is where a test's node lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    /// Listens until the guard is dropped.
    pub(super) fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let guard = tracing::subscriber::set_default(log.clone());
        (log, guard)
    }

    fn has(&self, error_id: &str, text: &str) -> Result<(), String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = lines.iter().filter(|line| line.contains(error_id));
        let (found, more) = (lines.next(), lines.next());
        verify(
            found.is_some_and(|line| line.contains(text)) && more.is_none(),
            &format!("the log has {found:?} and {more:?}"),
        )
    }
}

struct Line(String);

impl field::Visit for Line {
    fn record_debug(&mut self, field: &field::Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("nex_node")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
