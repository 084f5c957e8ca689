//! Moves the messages of one stream to the engine threads, and tells the stream what became of them.
//!
//! ```text
//!   consumer ──Pull──> admit ──> queue ──> engine threads
//!      ↑                                       │
//!      ├── done <────────── success <──────────┤
//!      ├── later, after a pause <── failure <──┘
//!      └── given up <── dead letter is stored <── one failure too many
//!   stop: ask for no more, hand back what has not begun, settle the rest, end
//! ```
//!
//! # Invariants
//!
//! - No more messages are asked for than there is room for; the stream keeps the others.
//! - Every message that is here is kept from being delivered again, until it is settled.
//! - A message is given up only after its dead letter is stored.

mod consumer;
mod delivery;
mod progress;
mod pull;
mod room;
mod subjects;

use std::{collections::HashMap, mem, pin::pin, sync::Arc, time::Duration};

use async_nats::{Client, Message, Subject, jetstream::context::PublishError};
use bytes::Bytes;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Fuse},
    stream::FuturesUnordered,
};
use nex_nats::barrier;
use nex_protocol::{ErrorCode, LogStream, function::StreamTrigger};
use nexlet::{Chain, Refusal};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

pub(crate) use self::{
    consumer::{ack_wait, context, ensure, is_missing, purge},
    delivery::Delivery,
    pull::Pull,
    subjects::mismatch,
};
use self::{
    progress::Progress,
    pull::Pulled,
    room::{MOST, Room},
};
use crate::{
    dead_letter::{DeadLetters, Letter},
    engine::{Engine, Invocation, InvocationId},
    function::Function,
    instance::Lane,
    invocation::{Answer, Call, Code, OfStream, Pending},
    limits::{DRAIN_MARGIN, EXPIRY_PERIOD},
    metrics::{Outcome, Over},
    reply::CallError,
};

/// How many answers, and how many messages, are taken at a time, so that each has its turn.
const AT_A_TIME: usize = 64;
/// How much more often than its trigger says a message is delivered before it is given up unrun. The
/// ends of nexlets count as deliveries too, and are no fault of the messages that waited there;
/// one that ends its nexlet each time is given up.
const LOST_DELIVERIES: u64 = 100;
/// How often is looked whether the server was away. It does not tell.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// How often a consumer that is not there is tried again.
const MEND_PERIOD: Duration = Duration::from_secs(5);
/// When a message comes again whose dead letter could not be stored.
const UNWRITTEN_PAUSE: Duration = Duration::from_secs(5);

/// What a [`StreamPump`] is made of.
pub(crate) struct StreamParts<E: Engine> {
    pub(crate) function: Arc<Function>,
    pub(crate) code: Arc<Code<E>>,
    pub(crate) lane: Arc<Lane<E>>,
    pub(crate) client: Client,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) source: StreamSource,
    /// Which of the function's triggers on streams it is.
    pub(crate) number: usize,
    pub(crate) timeout: Duration,
}

/// A trigger whose consumer is there.
pub(crate) struct StreamSource {
    pub(crate) trigger: StreamTrigger,
    pub(crate) consumer: String,
    /// How often it has delivered a message before.
    pub(crate) delivered: u64,
    pub(crate) pull: Pull,
    /// Something about the trigger that its function's log says at the start.
    pub(crate) warning: Option<String>,
}

impl StreamSource {
    /// The stream, and the consumer.
    pub(crate) fn names(&self) -> (String, String) {
        let stream = self.trigger.stream.as_str().to_owned();
        (stream, self.consumer.clone())
    }
}

/// The task of one trigger on a stream.
pub(crate) struct StreamPump<E: Engine> {
    parts: StreamParts<E>,
    answers_tx: mpsc::Sender<Answer>,
    answers_rx: mpsc::Receiver<Answer>,
    /// The messages that are here.
    held: HashMap<Delivery, Held>,
    /// The time without a sign after which the server delivers a message again.
    ack_wait: Duration,
    room: Room,
    progress: Progress,
    /// Those for which the queue of all functions has no room yet.
    backlog: Vec<Call<E>>,
    /// What is under way with the server.
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Why there is no consumer, as far as is known.
    lost: Option<String>,
    mending: bool,
}

/// A message that is here and not settled.
struct Held {
    /// The subject on which it is acknowledged.
    ack: Subject,
    /// The time of the last sign for it to the server, or of its arrival.
    signed: Instant,
}

/// What has been done with the server.
enum Done {
    /// The dead letter of this delivery.
    Written(Delivery, Result<(), PublishError>),
    /// The consumer.
    Mended(Result<u64, Refusal>),
}

impl<E: Engine> StreamPump<E> {
    pub(crate) fn new(parts: StreamParts<E>) -> Self {
        let (answers_tx, answers_rx) = mpsc::channel(2 * MOST);
        let delivered = parts.source.delivered;
        parts.function.counters.count_deliveries(delivered);
        Self {
            progress: Progress::after(delivered),
            answers_tx,
            answers_rx,
            held: HashMap::new(),
            ack_wait: ack_wait(&parts.source.trigger),
            room: Room::new(Instant::now()),
            backlog: Vec::new(),
            work: FuturesUnordered::new(),
            lost: None,
            mending: false,
            parts,
        }
    }

    /// Runs until the function is stopped and everything that is here is settled.
    pub(crate) async fn run(mut self) {
        if let Some(warning) = self.parts.source.warning.take() {
            self.log(&warning);
        }
        let stop = self.parts.function.stop.clone();
        let client = self.parts.client.clone();
        let mut stopping = pin!(stop.cancelled().fuse());
        let mut left = pin!(Fuse::terminated());
        let mut drain_end = pin!(Fuse::terminated());
        let mut retry = ticker(EXPIRY_PERIOD);
        let mut progress = ticker(self.ack_wait / 6);
        let mut look = ticker(LOOK_PERIOD);
        let mut mend = ticker(MEND_PERIOD);
        let (mut answers, mut pulled) = (Vec::new(), Vec::new());
        let mut open = true;
        let mut draining = false;
        while !draining || open || !self.held.is_empty() {
            if !draining && self.lost.is_none() {
                self.parts
                    .source
                    .pull
                    .ask(self.room.size().saturating_sub(self.held.len()))
                    .await;
            }
            tokio::select! {
                biased;

                () = &mut stopping => {
                    draining = true;
                    drain_end.set(sleep(self.parts.timeout + DRAIN_MARGIN).fuse());
                    self.parts.source.pull.leave().await;
                    self.give_back().await;
                    left.set(barrier(&client).fuse());
                }

                _done_or_timed_out = &mut left => self.parts.source.pull.close().await,

                // Before what may always be there.
                _ = retry.tick(), if !self.backlog.is_empty() => self.push_backlog(),

                _ = progress.tick(), if !self.held.is_empty() => self.sign().await,

                _ = look.tick() => self.parts.source.pull.forget_if_lost(),

                _ = mend.tick(), if !draining => self.mend(),

                _ = self.answers_rx.recv_many(&mut answers, AT_A_TIME) => {
                    self.room.count(answers.len(), Instant::now());
                    for answer in answers.drain(..) {
                        self.settle(answer).await;
                    }
                }

                Some(done) = self.work.next(), if !self.work.is_empty() => self.done(done).await,

                count = self.parts.source.pull.recv_many(&mut pulled, AT_A_TIME), if open => {
                    open = count > 0;
                    for pulled in pulled.drain(..) {
                        match pulled {
                            Pulled::Message(message) => self.admit(message, draining).await,
                            Pulled::Word => {}
                            Pulled::Nobody(reason) => self.lose(reason),
                        }
                    }
                    self.push_backlog();
                }

                () = &mut drain_end => {
                    // The stream delivers them again, since nobody says that they are done.
                    for _ in &self.held {
                        self.parts.function.counters.release();
                    }
                    break;
                }
            }
        }
    }

    /// Keeps the messages that are here for longer from being delivered again. Those that are settled
    /// within a third of the time cost no sign.
    async fn sign(&mut self) {
        let now = Instant::now();
        for held in self.held.values_mut() {
            if now.duration_since(held.signed) >= self.ack_wait / 3 {
                held.signed = now;
                acknowledge(&self.parts.client, held.ack.clone(), "+WPI").await;
            }
        }
    }

    async fn admit(&mut self, message: Message, stopping: bool) {
        let Some((ack, delivery)) = message.reply.and_then(|ack| {
            let delivery = Delivery::parse(&ack)?;
            Some((ack, delivery))
        }) else {
            // Nobody but JetStream knows this inbox; there is nothing to acknowledge.
            tracing::warn!(subject = %message.subject, "a message of a stream without its number");
            return;
        };
        let signed = Instant::now();
        if self.held.insert(delivery, Held { ack, signed }).is_some() {
            // A server that was killed gives a delivery its number again. The one that is here settles it.
            return self.parts.function.counters.count_redelivered();
        }
        let counters = &self.parts.function.counters;
        counters.take();
        let step = self.progress.step(delivery);
        counters.count_deliveries(step.deliveries);
        if step.repeat {
            counters.count_redelivered();
        }
        let room = self.answers_tx.clone().try_reserve_owned();
        let (false, Ok(answer_tx)) = (stopping, room) else {
            return self.finish(delivery, "-NAK").await;
        };
        let invocation = Invocation {
            id: InvocationId::default(),
            subject: message.subject,
            headers: message.headers.unwrap_or_default(),
            payload: message.payload,
            max_result_bytes: self.parts.client.max_payload(),
            // Until it runs, which sets it anew.
            deadline: std::time::Instant::now() + self.parts.timeout,
            attempt: delivery.attempt,
        };
        let most = u64::from(self.parts.source.trigger.max_deliver) + LOST_DELIVERIES;
        if delivery.attempt > most {
            let error = CallError {
                code: ErrorCode::Internal,
                text: format!("delivered {most} times, and no nexlet lived to tell how it went"),
            };
            return self.bury(delivery, invocation, &error);
        }
        let call = Call {
            code: Arc::clone(&self.parts.code),
            pending: Arc::new(Pending::of_delivery(invocation, delivery)),
            stream: Some(OfStream {
                trigger: self.parts.number,
                timeout: self.parts.timeout,
            }),
            answer_tx,
        };
        self.backlog.push(call);
    }

    /// Lets in what waits, as far as the queue of all functions has room.
    fn push_backlog(&mut self) {
        let jobs = mem::take(&mut self.backlog);
        self.backlog = self.parts.lane.push(jobs);
    }

    async fn settle(&mut self, answer: Answer) {
        let Answer {
            pending,
            result,
            took,
        } = answer;
        let delivery = pending.delivery;
        let invocation = Pending::into_invocation(pending);
        let counters = &self.parts.function.counters;
        counters.count(&Over {
            outcome: match &result {
                Ok(_) => Outcome::Ok,
                Err(failure) => Outcome::of(failure.kind.code()),
            },
            // While it waited in the stream nobody waited for it.
            latency: took,
            ran: took,
            bytes_in: invocation.payload.len(),
            bytes_out: 0,
        });
        let Some(delivery) = delivery else { return };
        let failure = match result {
            Ok(_nobody_waits_for_it) => return self.finish(delivery, "+ACK").await,
            Err(failure) => failure,
        };
        let error = CallError::new(&failure, self.parts.timeout);
        self.log(&format!("failed on {}: {}", invocation.subject, error.text));
        let trigger = &self.parts.source.trigger;
        if delivery.attempt >= u64::from(trigger.max_deliver) {
            self.bury(delivery, invocation, &error);
        } else {
            let pause = trigger.pause(delivery.attempt);
            self.finish(delivery, later(pause)).await;
        }
    }

    /// Stores the message as a dead letter; it is given up when that is done.
    fn bury(&mut self, delivery: Delivery, invocation: Invocation, error: &CallError) {
        let letter = Letter::new(
            &self.parts.function,
            &self.parts.source.consumer,
            self.parts.source.trigger.stream.as_str(),
            delivery,
            invocation,
            error,
        );
        let dead_letters = self.parts.dead_letters.clone();
        let writing = async move { Done::Written(delivery, dead_letters.write(letter).await) };
        self.work.push(writing.boxed());
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Written(delivery, Ok(())) => {
                self.parts.function.counters.count_dead_letter();
                let Delivery {
                    sequence, attempt, ..
                } = delivery;
                let stream = self.parts.source.trigger.stream.as_str();
                self.log(&format!(
                    "gave up message {sequence} of stream {stream} after {attempt} deliveries: \
                     it is a dead letter now (nex dlq list)"
                ));
                self.finish(delivery, "+TERM").await;
            }
            Done::Written(delivery, Err(error)) => {
                self.log(&format!(
                    "a dead letter cannot be stored, so its message stays in the stream: {}",
                    Chain(&error)
                ));
                self.finish(delivery, later(UNWRITTEN_PAUSE)).await;
            }
            Done::Mended(Ok(_delivered)) => {
                self.mending = false;
                if self.lost.take().is_some() {
                    self.log("the stream is back");
                }
            }
            Done::Mended(Err(refusal)) => {
                self.mending = false;
                self.lost = Some(refusal.text);
            }
        }
    }

    /// Tells the stream what is to be done with a message, which is not here any more then.
    async fn finish(&mut self, delivery: Delivery, what: impl Into<Bytes>) {
        let Some(Held { ack, .. }) = self.held.remove(&delivery) else {
            return;
        };
        self.parts.function.counters.release();
        acknowledge(&self.parts.client, ack, what).await;
    }

    /// Hands back what has not begun.
    async fn give_back(&mut self) {
        let number = self.parts.number;
        let is_ours = |call: &Call<E>| {
            let stream = call.stream.as_ref();
            stream.is_some_and(|stream| stream.trigger == number)
        };
        let mut calls = self.parts.lane.withdraw(is_ours);
        calls.append(&mut self.backlog);
        for call in calls {
            if let Some(delivery) = call.pending.delivery {
                self.finish(delivery, "-NAK").await;
            }
        }
    }

    fn lose(&mut self, reason: String) {
        if self.lost.is_none() {
            let stream = self.parts.source.trigger.stream.as_str();
            self.log(&format!(
                "stream {stream} cannot be reached: {reason}; it is tried again"
            ));
            self.lost = Some(reason);
        }
    }

    /// Looks whether a consumer that was lost is there again, or can be.
    fn mend(&mut self) {
        if self.lost.is_none() || self.mending {
            return;
        }
        self.mending = true;
        let client = self.parts.client.clone();
        let trigger = self.parts.source.trigger.clone();
        let consumer = self.parts.source.consumer.clone();
        let mending = async move { Done::Mended(ensure(&client, &trigger, &consumer).await) };
        self.work.push(mending.boxed());
    }

    fn log(&self, line: &str) {
        self.parts.code.console.line(LogStream::Stderr, line);
    }
}

async fn acknowledge(client: &Client, ack: Subject, what: impl Into<Bytes>) {
    let told = client.publish(ack, what.into());
    if let Err(error) = told.await {
        tracing::debug!(%error, "a message of a stream cannot be acknowledged");
    }
}

/// To be delivered again after a pause.
fn later(pause: Duration) -> String {
    format!(r#"-NAK {{"delay":{}}}"#, pause.as_nanos())
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut ticker = interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}
