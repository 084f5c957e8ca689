//! An invocation on its way from the task that lets it in to an engine thread, and its answer back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use nex_protocol::function::{INVOCATION_HEADER, invocation_id};
use tokio::sync::mpsc::OwnedPermit;

use crate::{
    console::Console,
    engine::{About, Engine, Failure, FailureKind, Invocation},
    scheduler::Job,
    services::Services,
    stream::Delivery,
};

/// Code that has been loaded, with what its instances are given.
pub(crate) struct Code<E: Engine> {
    pub(crate) module: E::Module,
    pub(crate) about: Arc<About>,
    pub(crate) console: Console,
    pub(crate) services: Services,
    pub(crate) memory_bytes: usize,
    /// Invocations that may be in flight in one instance.
    pub(crate) concurrency: usize,
    /// Set where each invocation has an instance of its own.
    pub(crate) fresh: bool,
}

/// An invocation to run.
pub(crate) struct Call<E: Engine> {
    pub(crate) code: Arc<Code<E>>,
    pub(crate) pending: Arc<Pending>,
    /// Trigger and limit of a message of a stream: its time begins when it runs, since it can wait.
    pub(crate) stream: Option<OfStream>,
    /// Room for the answer, kept since the invocation was let in: a thread never waits for it.
    pub(crate) answer_tx: OwnedPermit<Answer>,
}

/// An invocation that is under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) invocation: Invocation,
    /// The subject on which its caller waits.
    pub(crate) reply: Option<Subject>,
    /// Delivery of a stream that made it run.
    pub(crate) delivery: Option<Delivery>,
    /// Place among the invocations of its function that are under way.
    pub(crate) slot: usize,
    /// Set once its caller is answered.
    is_answered: AtomicBool,
}

/// Trigger and limit of an invocation on a stream's message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfStream {
    /// Number of the trigger among those of the function on streams.
    pub(crate) trigger: usize,
    /// Limit for its run.
    pub(crate) timeout: Duration,
}

/// Result of an invocation.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) pending: Arc<Pending>,
    pub(crate) result: Result<Bytes, Failure>,
    /// Time in an instance, waits included.
    pub(crate) took: Duration,
}

impl Pending {
    pub(crate) fn new(invocation: Invocation, reply: Option<Subject>, slot: usize) -> Self {
        Self {
            invocation,
            reply,
            delivery: None,
            slot,
            is_answered: AtomicBool::new(false),
        }
    }

    /// Makes one of a delivery of a stream.
    pub(crate) fn of_delivery(invocation: Invocation, delivery: Delivery) -> Self {
        Self {
            delivery: Some(delivery),
            ..Self::new(invocation, None, 0)
        }
    }

    /// Claims the right to answer the caller; returns whether nobody has it.
    pub(crate) fn claim(&self) -> bool {
        !self.is_answered.swap(true, Ordering::Relaxed)
    }

    /// The invocation, for whoever has it when it is over.
    pub(crate) fn into_invocation(pending: Arc<Self>) -> Invocation {
        Arc::try_unwrap(pending).map_or_else(
            |shared| shared.invocation.clone(),
            |pending| pending.invocation,
        )
    }

    /// The id that its caller gave it, so as to find its lines in the log.
    pub(crate) fn watched(&self) -> Option<&str> {
        watched(&self.invocation.headers)
    }
}

impl<E: Engine> Call<E> {
    /// Returns whether its deadline has passed before it began.
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.stream.is_none() && self.pending.invocation.deadline <= now
    }
}

impl<E: Engine> Job for Call<E> {
    fn bytes(&self) -> usize {
        self.pending.invocation.payload.len()
    }
}

/// The id that the caller gave the invocation with these headers.
pub(crate) fn watched(headers: &HeaderMap) -> Option<&str> {
    if headers.is_empty() {
        return None;
    }
    invocation_id(headers.get(INVOCATION_HEADER)?.as_str())
}

/// The failure of an invocation whose deadline came before its turn.
pub(crate) fn waited() -> Failure {
    let text = "it waited for a free engine thread all that time";
    Failure::new(FailureKind::Deadline, text)
}
