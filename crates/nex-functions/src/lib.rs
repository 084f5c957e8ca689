//! Functions: one host owns triggers, invocations, limits and reporting; engines only run code.
//!
//! ```text
//!   NATS ──messages──> Pump ──> Scheduler ──> engine threads (Engine::begin, resume)
//!        <──replies───  (one per         <──answers── │
//!   feeds <── Console ── function) <──── output ────│
//!   NATS, HTTP <──────── Services <──── questions ──┘
//! ```
//!
//! - A message on a trigger's subject makes the function run; the replicas of a function share them.
//! - What it returns is the reply. It carries the headers `workload_id` and `namespace`.
//! - A failure has `error`, `Nats-Service-Error-Code` and `Nats-Service-Error` besides, and as body
//!   `{"error":"…"}`: 408 timed out, 413 the result is too large, 500 the code failed, 503 busy.
//! - A message without a reply subject runs the function too; the result is dropped.
//!
//! # Invariants
//!
//! - A message that was delivered is answered, also while its function is being stopped.
//! - An engine thread waits for NATS only where its function asks a host service, and then at most
//!   until its deadline. NATS waits for no code: one that runs on a thread that did I/O before, while
//!   it waited, gives that back within about a millisecond.
//! - Everything that waits is bounded; what finds no room is refused at once, or counted.

mod connections;
mod console;
mod dead_letter;
mod engine;
mod function;
mod host;
mod instance;
mod invocation;
mod io;
mod limits;
mod memory;
mod metrics;
mod nexlet;
mod outbox;
mod park;
mod pump;
mod reply;
mod reporter;
mod request;
mod scheduler;
mod services;
mod stream;
mod subscriptions;
mod sync;
mod trace;
mod triggers;
mod workers;

/// The type of [`Invocation::subject`].
pub use async_nats::Subject;
pub use console::{Console, RecordedLines};
pub use engine::{
    About, Engine, Failure, FailureKind, Finished, Invocation, InvocationId, InvocationKey,
    Position, Setting, Source,
};
pub use host::{FunctionHost, NewFunction};
pub use limits::{
    DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT, LOAD_TIMEOUT, Limits, MAX_CONCURRENCY, MAX_TIMEOUT,
    MEMORY_BYTES,
};
pub use nexlet::{FunctionNexlet, Language};
pub use park::Parker;
pub use request::{FunctionRequest, InvalidRequest, Isolation};
pub use services::{
    Asked, CallId, Calls, Change, Changes, Entry, Gather, HttpRequest, HttpResponse, ListedObjects,
    ObjectInfo, Policy, Question, ServiceCode, ServiceError, Services, Watched,
};
