//! The contract of a language: load code, make it ready, and run it for invocations.
//!
//! ```text
//!   load ──> module ──instantiate──> instance ──begin──> over
//!                                       ↑ └─────begin──> suspended ──resume──> over
//!                                       └──the waker of its setting, wakes_at
//! ```
//!
//! An instance may have several invocations in flight: each runs until it waits for a host service or
//! a timer, and is suspended there.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
    task::{Poll, Waker},
    time::Instant,
};

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use nex_protocol::{ErrorCode, ids::unique};

use crate::{console::Console, services::Services};

/// Runs the code of functions. It knows nothing of NATS; the host knows nothing of languages.
///
/// All methods run on engine threads. [`load`](Self::load), [`instantiate`](Self::instantiate) and host
/// services that answer synchronously may block them until the deadline they are given. Code that runs
/// past its deadline must be ended by the engine itself: no one else can.
pub trait Engine: Send + Sync + 'static {
    /// The stack that a thread needs to run its code, in bytes.
    const STACK_BYTES: usize;

    /// Loaded code, shared by all threads.
    type Module: Send + Sync + 'static;
    /// Code that is ready to run. It may move between engine threads; one at a time uses it.
    type Instance: Send + 'static;

    /// Reads code.
    ///
    /// # Errors
    /// What is wrong with it, with its position.
    fn load(&self, source: &Source) -> Result<Self::Module, Failure>;

    /// Makes code ready to run.
    ///
    /// # Errors
    /// What it did wrong when it was set up.
    fn instantiate(
        &self,
        module: &Self::Module,
        setting: &Setting,
    ) -> Result<Self::Instance, Failure>;

    /// Begins an invocation, and runs until it is over or nothing of the instance can go on.
    ///
    /// `Pending`: the invocation is suspended; [`resume`](Self::resume) hands out its result. The key is
    /// the host's, and no other invocation in flight in this instance has it. Other invocations that
    /// this turn has ended are added to `finished`.
    ///
    /// # Errors
    /// The failure of the invocation.
    fn begin(
        &self,
        instance: &mut Self::Instance,
        key: InvocationKey,
        invocation: &Invocation,
        finished: &mut Vec<Finished>,
    ) -> Poll<Result<Bytes, Failure>>;

    /// Goes on with suspended invocations: takes answers that have come, runs timers that are due, and
    /// ends invocations at their deadlines. Those that are over are added to `finished`.
    fn resume(&self, instance: &mut Self::Instance, finished: &mut Vec<Finished>);

    /// The time of the next timer or deadline: [`resume`](Self::resume) has something to do then although
    /// nobody has woken the instance. It may have passed already. `None`: nothing is in flight.
    fn wakes_at(&self, instance: &Self::Instance) -> Option<Instant>;

    /// Returns whether the instance is to get no more invocations: its code was ended half-way through
    /// something, or its memory ran out. Those in flight go on, and the host drops it after the last one.
    fn is_worn_out(&self, instance: &Self::Instance) -> bool;
}

/// The host's name for an invocation in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvocationKey(pub u64);

/// An invocation that is over, and its result.
pub type Finished = (InvocationKey, Result<Bytes, Failure>);

/// The code of a function.
#[derive(Clone, Debug)]
pub struct Source {
    /// The last part of where it came from.
    pub name: String,
    /// The file that it was uploaded from, where that is known. It is for messages only: the same
    /// code may be uploaded again from another file.
    pub uploaded_as: Option<String>,
    /// The code itself.
    pub code: Bytes,
}

impl Source {
    /// Returns the name of the code in messages.
    #[must_use]
    pub fn shown_name(&self) -> &str {
        self.uploaded_as.as_deref().unwrap_or(&self.name)
    }
}

/// Which function it is, as far as its code may know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The id of the workload.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The variables that its start request sets.
    pub environment: BTreeMap<String, String>,
}

/// What an instance is given when it is made.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Which function it is.
    pub about: Arc<About>,
    /// Where its output goes.
    pub console: Console,
    /// What it may ask of the world.
    pub services: Services,
    /// The most memory it may have at a time, in bytes.
    pub memory_bytes: usize,
    /// When it has to be ready.
    pub deadline: Instant,
    /// Makes the host call [`Engine::resume`]. Host services call it from the I/O runtime when they have
    /// answered, also while the instance runs.
    pub waker: Waker,
}

/// The id of a run: what its caller gave it, else one that is made up when somebody asks for it.
#[derive(Clone, Debug, Default)]
pub struct InvocationId(OnceLock<String>);

impl InvocationId {
    /// Always the same.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get_or_init(unique)
    }
}

impl From<&str> for InvocationId {
    fn from(given: &str) -> Self {
        Self(OnceLock::from(given.to_owned()))
    }
}

/// One run of a function.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Names this run; another run of the same message has another.
    pub id: InvocationId,
    /// The subject of the message that made it run.
    pub subject: Subject,
    /// The headers of that message, as they came: whoever sent it chose them.
    pub headers: HeaderMap,
    /// The body of that message.
    pub payload: Bytes,
    /// The largest result in bytes that can be sent. An engine may end what writes more.
    pub max_result_bytes: usize,
    /// When it has to be over.
    pub deadline: Instant,
    /// How often the message was delivered, this time included: 1 the first time.
    pub attempt: u64,
}

/// What kind of failure it was; decides the code for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The code cannot be loaded.
    Invalid,
    /// The code ran and said no: it threw, or its result is none that can be sent.
    Code,
    /// It was ended at its deadline.
    Deadline,
    /// It wanted more memory than it may have.
    Memory,
    /// Its result is larger than what can be sent.
    TooLarge,
    /// A fault of the engine or the host.
    Internal,
}

impl FailureKind {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Invalid => ErrorCode::BadRequest,
            Self::Deadline => ErrorCode::Timeout,
            Self::TooLarge => ErrorCode::TooLarge,
            Self::Code | Self::Memory | Self::Internal => ErrorCode::Internal,
        }
    }
}

/// How loading or running failed. `Display` is for the caller and the log: what, and where.
///
/// The message of an [`Invalid`](FailureKind::Invalid) one has its place in it already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind it was.
    pub kind: FailureKind,
    /// What went wrong. May have line breaks, if the code put them there.
    pub message: String,
    /// Where in the code.
    pub position: Option<Position>,
    /// The next step, where there is one. The message may end with it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a position.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind,
            message,
            position: None,
            hint: None,
        }
    }

    /// Returns the failure with a next step, which becomes the end of the message.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        self.message = format!("{}; {hint}", self.message);
        self.hint = Some(hint);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.position {
            Some(position) if self.kind != FailureKind::Invalid => {
                write!(f, "{} at {position}", self.message)
            }
            _ => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

/// A place in the code. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The name of the source.
    pub file: String,
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
