//! Host services: what code may ask of the world beside its own invocation.
//!
//! ```text
//!   engine thread ──Question::wait, Calls::begin──> task on the runtime that does NATS I/O
//!        │  waits, or goes on with others                 │ grants, then NATS or HTTP
//!        └────────<── one answer each, and a wake ────────┘
//! ```
//!
//! A thread that waits while nothing else runs drives that runtime itself; see [`io`](crate::io).
//!
//! An engine thread asks one thing and waits, or an instance has several questions of its invocations
//! open at a time ([`Calls`]), which bounds their number and their bytes per invocation. A deadline that
//! passes ends the wait and the tasks; what was under way may have happened or not.
//!
//! What a function reaches is what its start request asks for ([`Asked`]), as far as the nexlet's
//! [`Policy`] goes, and never what belongs to the system. A refusal is an error with a code.

mod buckets;
mod calls;
mod error;
mod grants;
mod http;
mod kv;
mod messaging;
mod objects;
mod question;
mod whole;

use std::{fmt, sync::Arc};

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use tokio::runtime::Handle;

pub(crate) use buckets::{Buckets, connects};
pub use calls::{CallId, Calls};
pub use error::{ServiceCode, ServiceError};
pub(crate) use grants::Grants;
pub use grants::{Asked, Policy};
pub(crate) use http::HttpClient;
pub use http::{HttpRequest, HttpResponse};
pub use kv::{Change, Changes, Entry, Watched};
pub use messaging::Gather;
pub use objects::{ListedObjects, ObjectInfo};
use question::Cost;
pub use question::Question;

use crate::{engine::Invocation, trace::Trace};

/// The host services of one function. Cheap to clone.
///
/// All methods return a [`Question`]: ask it by waiting for it, or among others with [`Calls`].
#[derive(Clone)]
pub struct Services {
    inner: Option<Arc<Inner>>,
    /// The trace of the invocation that asks.
    trace: Trace,
}

struct Inner {
    runtime: Handle,
    reach: Arc<Reach>,
}

/// What the services of a function work with.
pub(crate) struct Reach {
    pub(crate) client: Client,
    pub(crate) buckets: Arc<Buckets>,
    pub(crate) http: Arc<HttpClient>,
    pub(crate) grants: Grants,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.inner.is_some() { "on" } else { "off" };
        f.debug_tuple("Services").field(&name).finish()
    }
}

impl Services {
    /// Services that refuse everything.
    #[must_use]
    pub fn none() -> Self {
        Self {
            inner: None,
            trace: Trace::default(),
        }
    }

    /// Services whose work is done on this runtime.
    pub(crate) fn new(reach: Reach, runtime: Handle) -> Self {
        let inner = Inner {
            runtime,
            reach: Arc::new(reach),
        };
        Self {
            inner: Some(Arc::new(inner)),
            trace: Trace::default(),
        }
    }

    /// Returns the services for one invocation: the messages that it sends belong to its trace.
    #[must_use]
    pub fn for_invocation(&self, invocation: &Invocation) -> Self {
        Self {
            inner: self.inner.clone(),
            trace: Trace::of(&invocation.headers),
        }
    }

    /// The headers of a message that is sent within the trace of the invocation; `None` where it has none.
    #[must_use]
    pub fn trace_headers(&self) -> Option<HeaderMap> {
        self.trace.headers()
    }

    /// Publishes a message. It is on its way, not at its receivers, when this returns.
    ///
    /// # Errors
    /// Refused, or too large.
    pub fn publish(&self, subject: String, payload: Bytes) -> Question<()> {
        let trace = self.trace_headers();
        self.ask(Cost::brings(payload.len()), async move |reach| {
            messaging::publish(&reach, subject, payload, trace).await
        })
    }

    /// Asks, and returns the first answer.
    ///
    /// # Errors
    /// Refused, nobody there, or the answer is an error.
    pub fn request(&self, subject: String, payload: Bytes) -> Question<Bytes> {
        let trace = self.trace_headers();
        self.ask(Cost::brings(payload.len()), async move |reach| {
            messaging::request(&reach, subject, payload, trace).await
        })
    }

    /// Asks, and returns the answers of all who give one within the limits.
    ///
    /// # Errors
    /// Refused, or nobody there.
    pub fn request_many(
        &self,
        subject: String,
        payload: Bytes,
        gather: Gather,
    ) -> Question<Vec<Bytes>> {
        let trace = self.trace_headers();
        self.ask(Cost::brings(payload.len()), async move |reach| {
            messaging::request_many(&reach, subject, payload, trace, gather).await
        })
    }

    /// The value of a key, with its revision.
    ///
    /// # Errors
    /// Refused, or there is no such key or bucket.
    pub fn kv_entry(&self, bucket: String, key: String) -> Question<Entry> {
        self.ask(Cost::default(), async move |reach| {
            kv::entry(&reach, &bucket, &key).await
        })
    }

    /// Stores a value, whatever was there; returns its revision.
    ///
    /// # Errors
    /// Refused, too large, or there is no such bucket.
    pub fn kv_put(&self, bucket: String, key: String, value: Bytes) -> Question<u64> {
        self.ask(Cost::brings(value.len()), async move |reach| {
            kv::put(&reach, &bucket, &key, value).await
        })
    }

    /// Stores a value where the key has none; returns its revision.
    ///
    /// # Errors
    /// [`ServiceCode::Exists`] where it has one, and as [`kv_put`](Self::kv_put).
    pub fn kv_create(&self, bucket: String, key: String, value: Bytes) -> Question<u64> {
        self.ask(Cost::brings(value.len()), async move |reach| {
            kv::create(&reach, &bucket, &key, value).await
        })
    }

    /// Stores a value in place of the one of that revision; returns the new revision.
    ///
    /// # Errors
    /// [`ServiceCode::Conflict`] where the key has another, and as [`kv_put`](Self::kv_put).
    pub fn kv_update(
        &self,
        bucket: String,
        key: String,
        value: Bytes,
        revision: u64,
    ) -> Question<u64> {
        self.ask(Cost::brings(value.len()), async move |reach| {
            kv::update(&reach, &bucket, &key, value, revision).await
        })
    }

    /// Deletes a key, whether it is there or not.
    ///
    /// # Errors
    /// Refused, or there is no such bucket.
    pub fn kv_delete(&self, bucket: String, key: String) -> Question<()> {
        self.ask(Cost::default(), async move |reach| {
            kv::delete(&reach, &bucket, &key).await
        })
    }

    /// All keys, in no order.
    ///
    /// # Errors
    /// Refused, too many, or there is no such bucket.
    pub fn kv_keys(&self, bucket: String) -> Question<Vec<String>> {
        self.ask(Cost::takes(kv::MAX_KEYS_BYTES), async move |reach| {
            kv::keys(&reach, &bucket).await
        })
    }

    /// The changes of a bucket's keys from now on, perhaps after the last one of each.
    ///
    /// # Errors
    /// Refused, or there is no such bucket.
    pub fn kv_watch(&self, bucket: String, watched: Watched) -> Question<Changes> {
        self.ask(Cost::default(), async move |reach| {
            kv::watch(&reach, &bucket, watched).await
        })
    }

    /// The next change, as soon as there is one, also after a restart of the server.
    ///
    /// # Errors
    /// The bucket was deleted, or is another one of the same name.
    pub fn kv_change(&self, changes: Changes) -> Question<Change> {
        self.ask(Cost::default(), async move |_reach| changes.next().await)
    }

    /// The bytes of an object.
    ///
    /// # Errors
    /// Refused, too large, or there is no such object or bucket.
    pub fn object(&self, bucket: String, name: String) -> Question<Bytes> {
        self.ask(Cost::takes(objects::MAX_OBJECT_BYTES), async move |reach| {
            objects::get(&reach, &bucket, &name).await
        })
    }

    /// Stores an object in place of what had its name.
    ///
    /// # Errors
    /// Refused, too large, or there is no such bucket.
    pub fn object_put(&self, bucket: String, name: String, value: Bytes) -> Question<ObjectInfo> {
        self.ask(Cost::brings(value.len()), async move |reach| {
            objects::put(&reach, &bucket, &name, value).await
        })
    }

    /// What is known about an object.
    ///
    /// # Errors
    /// Refused, or there is no such object or bucket.
    pub fn object_info(&self, bucket: String, name: String) -> Question<ObjectInfo> {
        self.ask(Cost::default(), async move |reach| {
            objects::info(&reach, &bucket, &name).await
        })
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// Refused, or there is no such object or bucket.
    pub fn object_delete(&self, bucket: String, name: String) -> Question<()> {
        self.ask(Cost::default(), async move |reach| {
            objects::delete(&reach, &bucket, &name).await
        })
    }

    /// All objects whose metadata can be read, in no order.
    ///
    /// # Errors
    /// Refused, too many, or there is no such bucket.
    pub fn object_list(&self, bucket: String) -> Question<ListedObjects> {
        self.ask(Cost::default(), async move |reach| {
            objects::list(&reach, &bucket).await
        })
    }

    /// Calls a URL. Every status is an answer.
    ///
    /// # Errors
    /// Refused, unreachable, or an answer that is too large.
    pub fn http(&self, request: HttpRequest) -> Question<HttpResponse> {
        let cost = Cost {
            brings_bytes: request.body.len(),
            takes_bytes: http::MAX_BODY_BYTES,
        };
        self.ask(cost, async move |reach| {
            reach.http.call(&reach.grants, request).await
        })
    }

    /// A question whose work is done on the runtime.
    fn ask<T, W, F>(&self, cost: Cost, work: W) -> Question<T>
    where
        W: FnOnce(Arc<Reach>) -> F,
        F: Future<Output = Result<T, ServiceError>> + Send + 'static,
        T: Send + 'static,
    {
        match &self.inner {
            Some(inner) => Question {
                runtime: Some(inner.runtime.clone()),
                work: Box::pin(work(Arc::clone(&inner.reach))),
                cost,
            },
            None => Question {
                runtime: None,
                work: Box::pin(async { Err(question::nobody()) }),
                cost,
            },
        }
    }
}
