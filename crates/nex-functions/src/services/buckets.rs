//! The buckets that the functions of a connection use: looked up once, not for every call.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use async_nats::{
    Client,
    jetstream::{
        self, Context, ErrorCode,
        context::{GetStreamError, GetStreamErrorKind, PublishError, PublishErrorKind},
        kv, object_store,
    },
};

use nex_nats::jetstream::explain_silence;
use nex_protocol::ids::unique;

use super::error::{ServiceCode, ServiceError};

/// How many handles are kept. One has the configuration of its bucket, a few kilobytes.
const MAX_HANDLES: usize = 64;

/// Limit for an answer of JetStream. It is shorter than the default time of a call, so that the function
/// learns the reason.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// Handles of buckets on one connection.
pub(crate) struct Buckets {
    context: Context,
    kv: Handles<kv::Store>,
    objects: Handles<object_store::ObjectStore>,
}

impl std::fmt::Debug for Buckets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buckets").finish_non_exhaustive()
    }
}

/// A bucket that was looked up before may be gone, or be another of the same name.
pub(super) struct Handle<T> {
    pub(super) bucket: T,
    pub(super) fresh: bool,
}

struct Handles<T>(Mutex<HashMap<String, T>>);

impl<T: Clone> Handles<T> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, name: &str) -> Option<T> {
        let handles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handles.get(name).cloned()
    }

    fn keep(&self, name: &str, handle: T) {
        let mut handles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if handles.len() >= MAX_HANDLES {
            // Whichever: it is looked up again when it is used.
            let some = handles.keys().next().cloned();
            some.map(|name| handles.remove(&name));
        }
        handles.insert(name.to_owned(), handle);
    }

    fn forget(&self, name: &str) {
        let mut handles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        handles.remove(name);
    }
}

impl Buckets {
    pub(crate) fn new(client: Client) -> Self {
        let mut context = jetstream::new(client);
        context.set_timeout(ANSWER_LIMIT);
        Self {
            context,
            kv: Handles::new(),
            objects: Handles::new(),
        }
    }

    /// JetStream on this connection.
    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// Replaces the failure of a write that the stream did not acknowledge in time by the reason, where
    /// the stream says one. `subjects` is what its subjects begin with.
    pub(super) async fn reasoned(
        &self,
        failed: ServiceError,
        stream: &str,
        subjects: &str,
    ) -> ServiceError {
        if failed.code != ServiceCode::Timeout {
            return failed;
        }
        let unused = format!("{subjects}.{}", unique());
        match explain_silence(&self.context, stream, &unused).await {
            Some(refusal) => ServiceError::new(ServiceCode::Full, refusal.to_string()),
            None => failed,
        }
    }

    /// A key-value bucket, which is made where `create` says so.
    pub(super) async fn kv(
        &self,
        name: &str,
        create: bool,
    ) -> Result<Handle<kv::Store>, ServiceError> {
        if let Some(bucket) = self.kv.get(name) {
            return Ok(Handle {
                bucket,
                fresh: false,
            });
        }
        let mut found = self.context.get_key_value(name).await;
        if create && found.as_ref().is_err_and(|error| is_missing(error)) {
            let config = kv::Config {
                bucket: name.to_owned(),
                history: 1,
                ..kv::Config::default()
            };
            match self.context.create_key_value(config).await {
                Ok(bucket) => found = Ok(bucket),
                // Somebody else may have been faster, with other settings.
                Err(error) => {
                    found = self.context.get_key_value(name).await;
                    if found.is_err() {
                        return Err(not_made(name, &kv_stream(name), &error));
                    }
                }
            }
        }
        let bucket = found.map_err(|error| not_found(name, &kv_stream(name), "kv", &error))?;
        self.kv.keep(name, bucket.clone());
        Ok(Handle {
            bucket,
            fresh: true,
        })
    }

    /// A bucket of objects, which is made where `create` says so.
    pub(super) async fn objects(
        &self,
        name: &str,
        create: bool,
    ) -> Result<Handle<object_store::ObjectStore>, ServiceError> {
        if let Some(bucket) = self.objects.get(name) {
            return Ok(Handle {
                bucket,
                fresh: false,
            });
        }
        let mut found = self.context.get_object_store(name).await;
        if create && found.as_ref().is_err_and(|error| is_missing(error)) {
            let config = object_store::Config {
                bucket: name.to_owned(),
                ..object_store::Config::default()
            };
            match self.context.create_object_store(config).await {
                Ok(bucket) => found = Ok(bucket),
                Err(error) => {
                    found = self.context.get_object_store(name).await;
                    if found.is_err() {
                        return Err(not_made(name, &object_stream(name), &error));
                    }
                }
            }
        }
        let bucket =
            found.map_err(|error| not_found(name, &object_stream(name), "object", &error))?;
        self.objects.keep(name, bucket.clone());
        Ok(Handle {
            bucket,
            fresh: true,
        })
    }

    /// Looks a bucket up again when it is next used.
    pub(super) fn forget_kv(&self, name: &str) {
        self.kv.forget(name);
    }

    /// Looks a bucket up again when it is next used.
    pub(super) fn forget_objects(&self, name: &str) {
        self.objects.forget(name);
    }
}

/// Returns the number of times that a client has connected.
pub(crate) fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

/// Whether JetStream says that there is no such stream.
pub(super) fn is_missing(error: &(dyn Error + 'static)) -> bool {
    let code = causes(error).find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<jetstream::Error>() {
            return Some(error.error_code());
        }
        match cause.downcast_ref::<GetStreamError>()?.kind() {
            GetStreamErrorKind::JetStream(error) => Some(error.error_code()),
            _ => None,
        }
    });
    code == Some(ErrorCode::STREAM_NOT_FOUND)
}

/// Whether a write failed because nobody took it: the stream is gone, so nothing was written.
pub(super) fn is_gone(error: &(dyn Error + 'static)) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<PublishError>())
        .any(|error| error.kind() == PublishErrorKind::StreamNotFound)
}

/// Whether a write, or the wait for its acknowledgement, was refused for its size.
pub(super) fn is_too_large(error: &(dyn Error + 'static)) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<PublishError>())
        .any(|error| error.kind() == PublishErrorKind::MaxPayloadExceeded)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        (*error).source()
    })
}

/// The stream of a key-value bucket.
pub(super) fn kv_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The stream of a bucket of objects.
pub(super) fn object_stream(bucket: &str) -> String {
    format!("OBJ_{bucket}")
}

/// A bucket that cannot be used; `make` is the command of the `nats` CLI that makes one.
fn not_found(name: &str, stream: &str, make: &str, error: &(dyn Error + 'static)) -> ServiceError {
    if is_missing(error) {
        let text = format!("there is no bucket `{name}`; `nats {make} add {name}` makes it");
        return ServiceError::new(ServiceCode::NotFound, text);
    }
    ServiceError::of_stream(
        &format!("failed to find the bucket `{name}`"),
        stream,
        error,
    )
}

fn not_made(name: &str, stream: &str, error: &(dyn Error + 'static)) -> ServiceError {
    ServiceError::of_stream(
        &format!("failed to make the bucket `{name}`"),
        stream,
        error,
    )
}
