//! Moves the messages of one function to the engine threads, and the answers back.
//!
//! ```text
//!   subscriptions ──admit──> lane ──> engine threads
//!         replies <──answer── answers_rx <────┘
//!   stop: unsubscribe, take what was delivered, answer all of it, end
//! ```
//!
//! An invocation is let in only with room for its answer, so threads never wait for this task, and
//! the free room tells how many invocations are under way.
//!
//! Engines end their invocations at the deadline. A caller whose invocation is not over some moments later is
//! answered here: no code that computes where nobody can interrupt it keeps a caller waiting.

use std::{pin::pin, sync::Arc, time::Duration};

use async_nats::{Client, HeaderMap, Message, Subject};
use bytes::Bytes;
use futures_util::{FutureExt as _, future::Fuse};
use nex_nats::{barrier, reply_subject};
use nex_protocol::{ErrorCode, LogStream, dead_letter::is_replay};
use slab::Slab;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{
    dead_letter::{Revived, revive},
    engine::{Engine, Failure, FailureKind, Invocation, InvocationId},
    function::Function,
    instance::Lane,
    invocation::{Answer, Call, Code, Pending, waited, watched},
    limits::{DRAIN_MARGIN, EXPIRY_PERIOD},
    metrics::{Outcome, Over},
    reply::{CallError, Replies},
    subscriptions::Subscriptions,
    trace::traceparent,
};

/// How many answers, and how many messages, are taken at a time, so that each has its turn.
const AT_A_TIME: usize = 64;
/// How often the log says how many invocations were refused.
const REFUSALS_PERIOD: Duration = Duration::from_secs(1);
/// The share of its time that an invocation may take beyond its deadline before its caller is answered
/// without it.
const LATE_SHARE: u32 = 20;
/// Lower bound of the period of the look for such invocations, for functions with a short timeout.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// What a [`Pump`] is made of.
pub(crate) struct Parts<E: Engine> {
    pub(crate) function: Arc<Function>,
    pub(crate) code: Arc<Code<E>>,
    pub(crate) lane: Arc<Lane<E>>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) client: Client,
    /// The client on which dead letters come again, if any do.
    pub(crate) replays: Option<Client>,
    pub(crate) replies: Replies,
    pub(crate) timeout: Duration,
    pub(crate) in_flight: usize,
}

/// The task of one function. It ends when the function was stopped and everything is answered.
pub(crate) struct Pump<E: Engine> {
    parts: Parts<E>,
    answers_tx: mpsc::Sender<Answer>,
    answers_rx: mpsc::Receiver<Answer>,
    /// The invocations that are under way.
    pending: Slab<Arc<Pending>>,
    /// Whether messages can still come.
    open: bool,
    refused: u64,
    refused_told: Instant,
}

impl<E: Engine> Pump<E> {
    pub(crate) fn new(parts: Parts<E>) -> Self {
        let (answers_tx, answers_rx) = mpsc::channel(parts.in_flight);
        Self {
            parts,
            answers_tx,
            answers_rx,
            pending: Slab::new(),
            open: true,
            refused: 0,
            refused_told: Instant::now(),
        }
    }

    /// Runs until the function is stopped and drained.
    pub(crate) async fn run(mut self) {
        let stop = self.parts.function.stop.clone();
        let client = self.parts.client.clone();
        let replays = self.parts.replays.clone();
        let mut stopping = pin!(stop.cancelled().fuse());
        let mut left = pin!(Fuse::terminated());
        let mut drain_end = pin!(Fuse::terminated());
        let period = (self.parts.timeout / LATE_SHARE).clamp(SHORTEST_PERIOD, EXPIRY_PERIOD);
        let mut tick = interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Room is made with the first of each: most functions are idle.
        let (mut answers, mut messages) = (Vec::new(), Vec::new());
        let mut draining = false;
        while !draining || self.open || self.in_flight() > 0 {
            tokio::select! {
                biased;

                () = &mut stopping => {
                    draining = true;
                    drain_end.set(sleep(self.parts.timeout + DRAIN_MARGIN).fuse());
                    self.parts.subscriptions.leave().await;
                    left.set(async { tokio::join!(barrier(&client), replays_left(replays.as_ref())) }.fuse());
                }

                _done_or_timed_out = &mut left => self.parts.subscriptions.close().await,

                // Before what may always be there.
                _ = tick.tick(), if self.in_flight() > 0 || self.refused > 0 => {
                    self.expire().await;
                    self.tell_refusals(REFUSALS_PERIOD);
                }

                // Before new messages: it makes room for them.
                _ = self.answers_rx.recv_many(&mut answers, AT_A_TIME) => {
                    // Before they are counted, so that a report of the last one has no others.
                    self.parts.function.counters.set_in_flight(self.in_flight());
                    let now = std::time::Instant::now();
                    for answer in answers.drain(..) {
                        self.answer(answer, now).await;
                    }
                }

                count = self.parts.subscriptions.recv_many(&mut messages, AT_A_TIME), if self.open => {
                    self.open = count > 0;
                    self.admit(&mut messages).await;
                }

                () = &mut drain_end => break,
            }
            self.parts.function.counters.set_in_flight(self.in_flight());
        }
        self.parts.function.counters.set_in_flight(0);
        self.tell_refusals(Duration::ZERO);
    }

    fn in_flight(&self) -> usize {
        self.answers_tx.max_capacity() - self.answers_tx.capacity()
    }

    /// Lets messages in, as far as there is room.
    async fn admit(&mut self, messages: &mut Vec<Message>) {
        let deadline = std::time::Instant::now() + self.parts.timeout;
        let mut jobs = Vec::with_capacity(messages.len());
        for message in messages.drain(..) {
            jobs.extend(self.call(message, deadline).await);
        }
        for call in self.parts.lane.push(jobs) {
            let text = "the queue of all functions here is full";
            let pending = &call.pending;
            self.pending.try_remove(pending.slot);
            let Invocation {
                headers, payload, ..
            } = &pending.invocation;
            self.refuse(pending.reply.clone(), headers, payload.len(), text)
                .await;
        }
    }

    /// The call that a message asks for, or `None` where it is refused.
    async fn call(&mut self, message: Message, deadline: std::time::Instant) -> Option<Call<E>> {
        let reply = reply_subject(&message);
        let message = match is_replay(&message.subject) {
            true => revive(message),
            false => Some(Revived {
                subject: message.subject,
                headers: message.headers.unwrap_or_default(),
                payload: message.payload,
                attempt: 1,
            }),
        };
        let Some(message) = message else {
            let error = CallError {
                code: ErrorCode::BadRequest,
                text: "this is no dead letter: it does not say what it was".to_owned(),
            };
            if let Some(reply) = reply {
                self.parts.replies.error(reply, None, &error).await;
            }
            return None;
        };
        let Ok(answer_tx) = self.answers_tx.clone().try_reserve_owned() else {
            let max = self.parts.in_flight;
            let text = format!("{max} invocations of this function are under way");
            let bytes_in = message.payload.len();
            self.refuse(reply, &message.headers, bytes_in, &text).await;
            return None;
        };
        let invocation = Invocation {
            id: watched(&message.headers).map_or_else(InvocationId::default, InvocationId::from),
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
            max_result_bytes: self.parts.client.max_payload(),
            deadline,
            attempt: message.attempt,
        };
        let entry = self.pending.vacant_entry();
        let pending = Arc::new(Pending::new(invocation, reply, entry.key()));
        entry.insert(Arc::clone(&pending));
        Some(Call {
            code: Arc::clone(&self.parts.code),
            pending,
            stream: None,
            answer_tx,
        })
    }

    /// Tells a caller at once that there is no room.
    async fn refuse(
        &mut self,
        reply: Option<Subject>,
        headers: &HeaderMap,
        bytes_in: usize,
        reason: &str,
    ) {
        self.parts.function.counters.count(&Over {
            outcome: Outcome::Busy,
            latency: Duration::ZERO,
            ran: Duration::ZERO,
            bytes_in,
            bytes_out: 0,
        });
        self.refused += 1;
        if let Some(reply) = reply {
            let error = CallError {
                code: ErrorCode::Busy,
                text: format!("busy: {reason}; try again"),
            };
            let trace = traceparent(headers);
            self.parts.replies.error(reply, trace, &error).await;
        }
    }

    async fn answer(&mut self, answer: Answer, now: std::time::Instant) {
        let Answer {
            pending,
            result,
            took,
        } = answer;
        self.pending.try_remove(pending.slot);
        self.reply(&pending, result, took, now).await;
        if let Some(id) = pending.watched() {
            self.parts.code.console.end(id);
        }
    }

    /// Answers the caller, unless that was done, and counts the invocation.
    async fn reply(
        &mut self,
        pending: &Pending,
        result: Result<Bytes, Failure>,
        took: Duration,
        now: std::time::Instant,
    ) {
        if !pending.claim() {
            return;
        }
        let invocation = &pending.invocation;
        let trace = traceparent(&invocation.headers);
        let reply = pending.reply.clone();
        let bytes_out = result.as_ref().map_or(0, Bytes::len);
        let outcome = match (result, reply) {
            (Ok(result), Some(reply)) => self.parts.replies.result(reply, trace, result).await,
            (Ok(_unwanted), None) => Ok(()),
            (Err(failure), reply) => {
                let error = CallError::new(&failure, self.parts.timeout);
                if let Some(reply) = reply {
                    self.parts.replies.error(reply, trace, &error).await;
                }
                Err(error)
            }
        };
        let error = outcome.as_ref().err();
        // What was let in has its whole time before it.
        let left = invocation.deadline.saturating_duration_since(now);
        self.parts.function.counters.count(&Over {
            outcome: error.map_or(Outcome::Ok, |error| Outcome::of(error.code)),
            latency: self.parts.timeout.saturating_sub(left),
            ran: took,
            bytes_in: invocation.payload.len(),
            bytes_out,
        });
        if let Err(error) = outcome {
            let line = format!("failed on {}: {}", invocation.subject, error.text);
            let console = &self.parts.code.console;
            console.line_of(pending.watched(), LogStream::Stderr, &line);
        }
    }

    /// Answers the callers of invocations that waited for a thread until their deadline, and of those that
    /// are not over although it has passed.
    async fn expire(&mut self) {
        let now = std::time::Instant::now();
        for call in self.parts.lane.withdraw(|call| call.is_expired(now)) {
            let answer = Answer {
                pending: call.pending,
                result: Err(waited()),
                took: Duration::ZERO,
            };
            self.answer(answer, now).await;
        }
        let Some(late) = now.checked_sub(self.parts.timeout / LATE_SHARE) else {
            return;
        };
        let overdue: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.invocation.deadline <= late)
            .map(|(_, pending)| Arc::clone(pending))
            .collect();
        for pending in overdue {
            let text = "it is not over; it is ended as soon as it can be";
            let result = Err(Failure::new(FailureKind::Deadline, text));
            self.reply(&pending, result, self.parts.timeout, now).await;
        }
    }

    /// Logs how many invocations were refused, unless that was done less than `period` ago: a line
    /// for each would be a second load.
    fn tell_refusals(&mut self, period: Duration) {
        if self.refused == 0 || self.refused_told.elapsed() < period {
            return;
        }
        let line = format!("busy: {} invocations refused", self.refused);
        self.parts.code.console.line(LogStream::Stderr, &line);
        self.refused = 0;
        self.refused_told = Instant::now();
    }
}

/// A round trip on the client on which dead letters come again.
async fn replays_left(client: Option<&Client>) {
    if let Some(client) = client {
        barrier(client).await.ok();
    }
}
