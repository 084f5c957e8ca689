//! Key-value buckets.

use std::{error::Error, fmt, sync::Arc};

use async_nats::jetstream::kv::{
    CreateErrorKind, EntryErrorKind, Operation, PutErrorKind, Store, UpdateErrorKind, Watch,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Mutex;

use super::{
    Reach,
    buckets::{is_gone, is_too_large},
    error::{ServiceCode, ServiceError},
    messaging::fits,
};

/// The most keys that are listed.
const MAX_KEYS: usize = 100_000;
/// The most bytes of such keys.
pub(super) const MAX_KEYS_BYTES: usize = 16 * 1024 * 1024;

/// A value with its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// Its revision, which grows with every change in the bucket.
    pub revision: u64,
}

/// Which changes are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The keys, with wildcards as in subjects.
    pub keys: String,
    /// Whether to begin with the values that are there, as if they had just been put.
    pub from_present: bool,
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The value that was put; `None` where the key was deleted.
    pub value: Option<Bytes>,
    /// Its revision.
    pub revision: u64,
}

/// Changes as they come. Cheap to clone; each change goes to one of the clones.
#[derive(Clone)]
pub struct Changes {
    bucket: Arc<str>,
    watch: Arc<Mutex<Watch>>,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl Changes {
    /// The next one. Cancel safe.
    pub(super) async fn next(&self) -> Result<Change, ServiceError> {
        let ended = || format!("the bucket `{}` cannot be watched any more", self.bucket);
        match self.watch.lock().await.next().await {
            Some(Ok(entry)) => Ok(Change {
                value: (entry.operation == Operation::Put).then_some(entry.value),
                key: entry.key,
                revision: entry.revision,
            }),
            Some(Err(error)) => Err(ServiceError::unavailable(&ended(), &error)),
            None => Err(ServiceError::new(ServiceCode::Unavailable, ended())),
        }
    }
}

/// How an operation on a bucket failed.
enum Failed {
    /// It cannot have happened: the bucket is gone.
    Gone(ServiceError),
    /// Otherwise.
    Other(ServiceError),
}

pub(super) async fn entry(reach: &Reach, bucket: &str, key: &str) -> Result<Entry, ServiceError> {
    let found = with(reach, bucket, key, |store: Store| async move {
        store.entry(key).await.map_err(|error| match error.kind() {
            EntryErrorKind::InvalidKey => Failed::Other(invalid(key)),
            EntryErrorKind::TimedOut => Failed::Other(failed("read", bucket, key, &error)),
            // Reading twice does no harm.
            EntryErrorKind::Other => Failed::Gone(failed("read", bucket, key, &error)),
        })
    });
    match found.await? {
        Some(entry) if entry.operation == Operation::Put => Ok(Entry {
            value: entry.value,
            revision: entry.revision,
        }),
        _ => {
            let text = format!("there is no key `{key}` in the bucket `{bucket}`");
            Err(ServiceError::new(ServiceCode::NotFound, text))
        }
    }
}

pub(super) async fn put(
    reach: &Reach,
    bucket: &str,
    key: &str,
    value: Bytes,
) -> Result<u64, ServiceError> {
    fits(reach, &value)?;
    let put = |store: Store| {
        let value = value.clone();
        async move {
            let put = store.put(key, value).await;
            put.map_err(|error| match error.kind() {
                PutErrorKind::InvalidKey => Failed::Other(invalid(key)),
                _ => write_failed(bucket, key, &error),
            })
        }
    };
    with(reach, bucket, key, put).await
}

pub(super) async fn create(
    reach: &Reach,
    bucket: &str,
    key: &str,
    value: Bytes,
) -> Result<u64, ServiceError> {
    fits(reach, &value)?;
    let exists = || {
        let text = format!("the key `{key}` in the bucket `{bucket}` has a value already");
        ServiceError::new(ServiceCode::Exists, text)
    };
    let create = |store: Store| {
        let value = value.clone();
        async move {
            let created = store.create(key, value).await;
            created.map_err(|error| match error.kind() {
                CreateErrorKind::InvalidKey => Failed::Other(invalid(key)),
                CreateErrorKind::AlreadyExists => Failed::Other(exists()),
                _ => write_failed(bucket, key, &error),
            })
        }
    };
    with(reach, bucket, key, create).await
}

pub(super) async fn update(
    reach: &Reach,
    bucket: &str,
    key: &str,
    value: Bytes,
    revision: u64,
) -> Result<u64, ServiceError> {
    fits(reach, &value)?;
    let conflict = || {
        let text =
            format!("the key `{key}` in the bucket `{bucket}` is not at revision {revision}");
        ServiceError::new(ServiceCode::Conflict, text)
    };
    let update = |store: Store| {
        let value = value.clone();
        async move {
            let updated = store.update(key, value, revision).await;
            updated.map_err(|error| match error.kind() {
                UpdateErrorKind::InvalidKey => Failed::Other(invalid(key)),
                UpdateErrorKind::WrongLastRevision => Failed::Other(conflict()),
                _ => write_failed(bucket, key, &error),
            })
        }
    };
    with(reach, bucket, key, update).await
}

pub(super) async fn delete(reach: &Reach, bucket: &str, key: &str) -> Result<(), ServiceError> {
    with(reach, bucket, key, |store: Store| async move {
        let deleted = store.delete(key).await;
        deleted.map_err(|error| write_failed(bucket, key, &error))
    })
    .await
}

pub(super) async fn keys(reach: &Reach, bucket: &str) -> Result<Vec<String>, ServiceError> {
    let unreadable = |error: &(dyn Error + 'static)| {
        let what = format!("failed to list the keys of the bucket `{bucket}`");
        ServiceError::unavailable(&what, error)
    };
    // Any valid key: what is asked for is all of them.
    let listed = with(reach, bucket, "any", |store: Store| async move {
        let listed = store.keys().await;
        listed.map_err(|error| Failed::Gone(unreadable(&error)))
    });
    let mut listed = listed.await?;
    let mut keys = Vec::new();
    let mut bytes = 0;
    while let Some(key) = listed
        .try_next()
        .await
        .map_err(|error| unreadable(&error))?
    {
        bytes += key.len();
        if keys.len() >= MAX_KEYS || bytes > MAX_KEYS_BYTES {
            let text =
                format!("the bucket `{bucket}` has too many keys to list: {MAX_KEYS} at most");
            return Err(ServiceError::new(ServiceCode::TooLarge, text));
        }
        keys.push(key);
    }
    Ok(keys)
}

pub(super) async fn watch(
    reach: &Reach,
    bucket: &str,
    watched: Watched,
) -> Result<Changes, ServiceError> {
    if !valid_pattern(&watched.keys) {
        let text = format!(
            "invalid keys `{}`: want a key, or one with `*` as a token or `>` as the last",
            watched.keys
        );
        return Err(ServiceError::new(ServiceCode::BadRequest, text));
    }
    let unwatched = |error: &(dyn Error + 'static)| {
        let what = format!("failed to watch the bucket `{bucket}`");
        Failed::Gone(ServiceError::unavailable(&what, error))
    };
    // Any valid key: those that are meant were checked above.
    let watch = with(reach, bucket, "any", |store: Store| {
        let Watched { keys, from_present } = watched.clone();
        async move {
            let watch = match from_present {
                true => store.watch_with_history(keys).await,
                false => store.watch(keys).await,
            };
            watch.map_err(|error| unwatched(&error))
        }
    });
    Ok(Changes {
        watch: Arc::new(Mutex::new(watch.await?)),
        bucket: bucket.into(),
    })
}

/// Does something with a bucket. One that was looked up before and is gone is looked up again.
async fn with<T, F>(
    reach: &Reach,
    bucket: &str,
    key: &str,
    work: impl Fn(Store) -> F,
) -> Result<T, ServiceError>
where
    F: Future<Output = Result<T, Failed>>,
{
    reach.grants.kv(bucket)?;
    if !valid_key(key) {
        return Err(invalid(key));
    }
    let create = reach.grants.create_buckets();
    let handle = reach.buckets.kv(bucket, create).await?;
    match work(handle.bucket).await {
        Ok(result) => Ok(result),
        Err(Failed::Other(error)) => Err(error),
        Err(Failed::Gone(error)) => {
            reach.buckets.forget_kv(bucket);
            if handle.fresh {
                return Err(error);
            }
            let again = reach.buckets.kv(bucket, create).await?;
            match work(again.bucket).await {
                Ok(result) => Ok(result),
                Err(Failed::Gone(error) | Failed::Other(error)) => Err(error),
            }
        }
    }
}

/// As NATS has it. async-nats lets through what would be another subject.
fn valid_key(key: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_=.".contains(&byte);
    !key.is_empty()
        && key.len() <= 1024
        && key.bytes().all(valid)
        && key.split('.').all(|token| !token.is_empty())
}

/// As a key, with `*` for one token and `>` for all that follow.
fn valid_pattern(keys: &str) -> bool {
    let keys = keys
        .strip_suffix('>')
        .map_or_else(|| keys.to_owned(), |rest| format!("{rest}x"));
    let tokens = keys
        .split('.')
        .map(|token| if token == "*" { "x" } else { token });
    valid_key(&tokens.collect::<Vec<_>>().join("."))
}

fn invalid(key: &str) -> ServiceError {
    let text = format!(
        "invalid key `{key}`: want 1 to 1024 letters, digits and `-/_=.`, no `.` at an end"
    );
    ServiceError::new(ServiceCode::BadRequest, text)
}

fn write_failed(bucket: &str, key: &str, error: &(dyn Error + 'static)) -> Failed {
    if is_too_large(error) {
        let text = "the value is larger than the server takes";
        return Failed::Other(ServiceError::new(ServiceCode::TooLarge, text));
    }
    let told = failed("write", bucket, key, error);
    match is_gone(error) {
        true => Failed::Gone(told),
        false => Failed::Other(told),
    }
}

fn failed(what: &str, bucket: &str, key: &str, error: &(dyn Error + 'static)) -> ServiceError {
    let text = format!("failed to {what} the key `{key}` in the bucket `{bucket}`");
    ServiceError::unavailable(&text, error)
}
