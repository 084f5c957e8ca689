//! Key-value buckets.

mod watch;

use std::{collections::HashSet, error::Error};

use async_nats::jetstream::kv::{
    CreateErrorKind, EntryErrorKind, Operation, PutErrorKind, Store, UpdateErrorKind,
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

pub use self::watch::Changes;
use super::{
    Reach,
    buckets::{is_gone, is_too_large, kv_stream},
    error::{ServiceCode, ServiceError},
    messaging::fits,
    whole::{Incomplete, whole},
};

/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 1024;
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

/// How an operation on a bucket failed.
enum Failed {
    /// It cannot have happened: the bucket is gone.
    Gone(ServiceError),
    /// Otherwise.
    Other(ServiceError),
}

pub(super) async fn entry(reach: &Reach, bucket: &str, key: &str) -> Result<Entry, ServiceError> {
    readable(key)?;
    let found = with(reach, bucket, |store: Store| async move {
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
    writable(key)?;
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
    written(reach, bucket, with(reach, bucket, put).await).await
}

pub(super) async fn create(
    reach: &Reach,
    bucket: &str,
    key: &str,
    value: Bytes,
) -> Result<u64, ServiceError> {
    writable(key)?;
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
    written(reach, bucket, with(reach, bucket, create).await).await
}

pub(super) async fn update(
    reach: &Reach,
    bucket: &str,
    key: &str,
    value: Bytes,
    revision: u64,
) -> Result<u64, ServiceError> {
    writable(key)?;
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
    written(reach, bucket, with(reach, bucket, update).await).await
}

pub(super) async fn delete(reach: &Reach, bucket: &str, key: &str) -> Result<(), ServiceError> {
    readable(key)?;
    let deleted = with(reach, bucket, |store: Store| async move {
        let deleted = store.delete(key).await;
        deleted.map_err(|error| write_failed(bucket, key, &error))
    });
    written(reach, bucket, deleted.await).await
}

/// The result of a write, with the reason where the server did not acknowledge it.
async fn written<T>(
    reach: &Reach,
    bucket: &str,
    result: Result<T, ServiceError>,
) -> Result<T, ServiceError> {
    match result {
        Ok(written) => Ok(written),
        Err(error) => {
            let (stream, subjects) = (kv_stream(bucket), format!("$KV.{bucket}"));
            Err(reach.buckets.reasoned(error, &stream, &subjects).await)
        }
    }
}

pub(super) async fn keys(reach: &Reach, bucket: &str) -> Result<Vec<String>, ServiceError> {
    whole(&reach.client, || list_keys(reach, bucket)).await
}

async fn list_keys(reach: &Reach, bucket: &str) -> Result<Vec<String>, Incomplete> {
    let unreadable = |error: &(dyn Error + 'static)| {
        let what = format!("failed to list the keys of the bucket `{bucket}`");
        ServiceError::of_stream(&what, &kv_stream(bucket), error)
    };
    let listed = with(reach, bucket, |store: Store| async move {
        let listed = store.keys().await;
        listed.map_err(|error| Failed::Gone(unreadable(&error)))
    });
    let mut listed = listed.await.map_err(Incomplete::at_start)?;
    let mut keys = Vec::new();
    // A key that is put during the list comes twice.
    let mut seen = HashSet::new();
    let mut bytes = 0;
    let broken = |error| Incomplete::Broken(unreadable(&error));
    while let Some(key) = listed.try_next().await.map_err(broken)? {
        if !seen.insert(key.clone()) {
            continue;
        }
        bytes += key.len();
        if keys.len() >= MAX_KEYS || bytes > MAX_KEYS_BYTES {
            let text =
                format!("the bucket `{bucket}` has too many keys to list: {MAX_KEYS} at most");
            let refused = ServiceError::new(ServiceCode::TooLarge, text);
            return Err(Incomplete::Refused(refused));
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
        Failed::Gone(ServiceError::of_stream(&what, &kv_stream(bucket), error))
    };
    with(reach, bucket, |store: Store| {
        let (client, watched) = (reach.client.clone(), watched.clone());
        async move {
            let begun = Changes::begin(client, store, bucket, watched).await;
            begun.map_err(|error| unwatched(&error))
        }
    })
    .await
}

/// Does something with a bucket. One that was looked up before and is gone is looked up again.
async fn with<T, F>(
    reach: &Reach,
    bucket: &str,
    work: impl Fn(Store) -> F,
) -> Result<T, ServiceError>
where
    F: Future<Output = Result<T, Failed>>,
{
    reach.grants.kv(bucket)?;
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

/// Checks a key that is to get a value: NATS clients read no others.
fn writable(key: &str) -> Result<(), ServiceError> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_=.".contains(&byte);
    readable(key)?;
    match key.bytes().all(valid) {
        true => Ok(()),
        false => {
            let text = format!(
                "invalid key `{key}` for a value: want letters, digits and `-/_=.`; most programs could not read it"
            );
            Err(ServiceError::new(ServiceCode::BadRequest, text))
        }
    }
}

/// Checks a key that may have a value: the server lets others than NATS clients put one under every
/// subject, as `device:1`.
fn readable(key: &str) -> Result<(), ServiceError> {
    let fits = key.len() <= MAX_KEY_BYTES;
    match fits
        && key
            .split('.')
            .all(|token| !is_wildcard(token) && valid_token(token))
    {
        true => Ok(()),
        false => Err(invalid(key)),
    }
}

/// As a key, with `*` for one token and `>` for all that follow.
fn valid_pattern(keys: &str) -> bool {
    let last = keys.split('.').count() - 1;
    let mut tokens = keys.split('.').enumerate();
    keys.len() <= MAX_KEY_BYTES
        && tokens.all(|(at, token)| match token {
            "*" => true,
            ">" => at == last,
            token => valid_token(token) && !token.contains(['*', '>']),
        })
}

fn is_wildcard(token: &str) -> bool {
    matches!(token, "*" | ">")
}

/// Returns whether a token may be a part of a subject.
fn valid_token(token: &str) -> bool {
    !token.is_empty() && !token.contains(|char: char| char.is_whitespace() || char.is_control())
}

fn invalid(key: &str) -> ServiceError {
    let shown: String = key.chars().take(64).collect();
    let text = format!(
        "invalid key `{shown}`: want 1 to {MAX_KEY_BYTES} bytes, tokens joined by `.`, without spaces or wildcards"
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
    ServiceError::of_stream(&text, &kv_stream(bucket), error)
}
