//! Records in a key-value bucket, exactly where a Go node keeps and looks for them.
//!
//! | what | value |
//! |---|---|
//! | bucket | `nex-<node>` |
//! | key | `<workload type>_<workload id>` |
//! | value | the start request, as JSON |
//!
//! Beside them are `=lameduck`, when a node that is a lame duck ends, and `=nexlet.<nexlet id>`, the
//! registration of a remote nexlet. A Go node reads all keys that begin with a type of its nexlets, and
//! no type begins like that.

use std::error::Error;

use async_nats::jetstream::{
    self, ErrorCode,
    context::{CreateKeyValueError, CreateStreamError, CreateStreamErrorKind},
    kv::{Config, Operation, Store},
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use nex_nats::tells_full_disk;
use nex_protocol::{NexletId, NodeId, WorkloadId, registration::RegisterRequest};
use nexlet::Chain;
use tracing::warn;

use super::{Pending, Record, StateError, StateStore};

/// The largest value of a new bucket, in bytes, as in one that Go makes. A bucket that is there is
/// used as it is.
const MAX_VALUE_BYTES: i32 = 10_000;

/// Sizes of a new bucket, in bytes: it takes the first for which the server has room.
/// The first is that of Go.
const SIZES: [i64; 3] = [100_000_000, 10_000_000, 1_000_000];

/// When the node ends, where it is a lame duck.
const LAMEDUCK: &str = "=lameduck";

/// Begins the keys that are no workloads.
const OWN: char = '=';

/// Before the id of a remote nexlet.
const NEXLET: &str = "=nexlet.";

/// A key that no record has.
const UNUSED: &str = "=unused";

/// How many values are read at a time.
const READS_AT_A_TIME: usize = 64;

/// A bucket of a node.
#[derive(Clone, Debug)]
pub struct KvStore {
    bucket: String,
    store: Store,
    max_value_bytes: usize,
}

impl KvStore {
    /// Opens the bucket of a node, and makes it where there is none.
    ///
    /// # Errors
    /// [`StateError::Open`]: there is no JetStream, or no right to use it.
    pub async fn open(client: &async_nats::Client, node: &NodeId) -> Result<Self, StateError> {
        let bucket = format!("nex-{node}");
        let failed = |source: Box<dyn Error + Send + Sync>| StateError::Open {
            place: bucket.clone(),
            source,
        };
        let context = jetstream::new(client.clone());
        let store = match context.get_key_value(&bucket).await {
            Ok(store) => store,
            Err(_) => make(&context, &bucket)
                .await
                .map_err(|error| failed(error.into()))?,
        };
        let status = store.status().await;
        let status = status.map_err(|error| failed(error.into()))?;
        let most = status.info.config.max_message_size;
        Ok(Self {
            bucket,
            store,
            // -1 is no limit of its own; the server's is the client's to tell.
            max_value_bytes: usize::try_from(most).unwrap_or(usize::MAX),
        })
    }

    fn key(id: &WorkloadId, workload_type: &str) -> String {
        format!("{workload_type}_{id}")
    }

    /// The id in a key. What is before the last `_` is the type, which may have one itself.
    fn id(key: &str) -> Option<WorkloadId> {
        let (_, id) = key.rsplit_once('_')?;
        WorkloadId::new(id).ok()
    }

    /// Removes a key of the stream, not of the bucket: that would leave a marker of each workload, and
    /// the bucket has an end.
    async fn purge(&self, key: &str) -> Result<(), StateError> {
        let subject = format!("{}{key}", self.store.prefix);
        let purged = self.store.stream.purge().filter(subject).await;
        purged.map(drop).map_err(|error| StateError::Write {
            place: self.bucket.clone(),
            source: error.into(),
        })
    }

    async fn read_all(&self) -> Result<Vec<Record>, Box<dyn Error + Send + Sync>> {
        let keys = self.store.keys().await?;
        let keys: Vec<String> = keys.try_collect().await?;
        let keys = keys.into_iter().filter(|key| !key.starts_with(OWN));
        let reads = keys.map(|key| async move {
            let entry = self.store.entry(key.as_str()).await;
            (key, entry)
        });
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(READS_AT_A_TIME);
        let mut records = Vec::new();
        while let Some((key, entry)) = reads.next().await {
            let Some(entry) = entry?.filter(|entry| entry.operation == Operation::Put) else {
                continue;
            };
            let Some(id) = Self::id(&key) else {
                // What Go nodes leave of workloads of others is `_<id>`, and no record.
                warn!(key, "ignored a record whose key is no id");
                continue;
            };
            match Record::decode(id, &entry.value) {
                Ok(record) => records.push(record),
                Err(error) => warn!(key, %error, "ignored an unreadable record"),
            }
        }
        Ok(records)
    }
}

impl KvStore {
    async fn read_nexlets(
        &self,
    ) -> Result<Vec<(NexletId, RegisterRequest)>, Box<dyn Error + Send + Sync>> {
        let keys: Vec<String> = self.store.keys().await?.try_collect().await?;
        let mut nexlets = Vec::new();
        for key in keys {
            let Some(id) = key.strip_prefix(NEXLET) else {
                continue;
            };
            let Some(value) = self.store.get(key.as_str()).await? else {
                continue;
            };
            match (NexletId::new(id), serde_json::from_slice(&value)) {
                (Ok(id), Ok(registration)) => nexlets.push((id, registration)),
                _ => warn!(key, "ignored an unreadable registration"),
            }
        }
        Ok(nexlets)
    }

    async fn write(&self, key: &str, value: Vec<u8>) -> Result<(), StateError> {
        if value.len() > self.max_value_bytes {
            return Err(StateError::TooLarge {
                place: self.bucket.clone(),
                bytes: value.len(),
                most: self.max_value_bytes,
            });
        }
        let Err(error) = self.store.put(key, value.into()).await else {
            return Ok(());
        };
        let source = match self.full_disk().await {
            Some(full) => full,
            None => error.into(),
        };
        Err(StateError::Write {
            place: self.bucket.clone(),
            source,
        })
    }

    /// Returns the server's error where a full disk has stopped the bucket. A nats-server then
    /// acknowledges no message of the stream, and gives the reason only when it is asked for a purge.
    async fn full_disk(&self) -> Option<Box<dyn Error + Send + Sync>> {
        let nothing = format!("{}{UNUSED}", self.store.prefix);
        let error = self.store.stream.purge().filter(nothing).await.err()?;
        tells_full_disk(&Chain(&error).to_string()).then(|| error.into())
    }
}

async fn make(context: &jetstream::Context, bucket: &str) -> Result<Store, CreateKeyValueError> {
    let mut sizes = SIZES.into_iter().peekable();
    loop {
        let max_bytes = sizes.next().unwrap_or(SIZES[0]);
        let config = Config {
            bucket: bucket.to_owned(),
            history: 1,
            max_bytes,
            max_value_size: MAX_VALUE_BYTES,
            ..Config::default()
        };
        match context.create_key_value(config).await {
            Err(error) if is_full(&error) && sizes.peek().is_some() => {}
            Ok(store) => {
                if max_bytes < SIZES[0] {
                    let (kept, usual) = (max_bytes / 1_000_000, SIZES[0] / 1_000_000);
                    warn!(
                        bucket,
                        "the NATS server has little space: {kept} MB of start requests are kept instead of {usual} MB"
                    );
                }
                return Ok(store);
            }
            failed => return failed,
        }
    }
}

/// Returns whether the server, or the account, has no room for a bucket of that size.
fn is_full(error: &CreateKeyValueError) -> bool {
    let cause = error.source();
    let cause = cause.and_then(|cause| cause.downcast_ref::<CreateStreamError>());
    cause.is_some_and(|cause| match cause.kind() {
        CreateStreamErrorKind::JetStream(answer) => [
            ErrorCode::STORAGE_RESOURCES_EXCEEDED,
            ErrorCode::INSUFFICIENT_RESOURCES,
            ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ]
        .contains(&answer.error_code()),
        _ => false,
    })
}

impl StateStore for KvStore {
    fn load(&self) -> Pending<'_, Vec<Record>> {
        Box::pin(async move {
            let read = self.read_all().await;
            read.map_err(|source| StateError::Read {
                place: self.bucket.clone(),
                source,
            })
        })
    }

    fn put<'a>(&'a self, record: &'a Record) -> Pending<'a, ()> {
        Box::pin(async move {
            let key = Self::key(&record.id, &record.request.workload_type);
            self.write(&key, record.encode()).await
        })
    }

    fn remove<'a>(&'a self, id: &'a WorkloadId, workload_type: &'a str) -> Pending<'a, ()> {
        Box::pin(async move { self.purge(&Self::key(id, workload_type)).await })
    }

    fn load_nexlets(&self) -> Pending<'_, Vec<(NexletId, RegisterRequest)>> {
        Box::pin(async move {
            let read = self.read_nexlets().await;
            read.map_err(|source| StateError::Read {
                place: self.bucket.clone(),
                source,
            })
        })
    }

    fn put_nexlet<'a>(
        &'a self,
        id: &'a NexletId,
        registration: &'a RegisterRequest,
    ) -> Pending<'a, ()> {
        let value = serde_json::to_vec(registration);
        let value = value.expect("a registration is made of texts and numbers");
        Box::pin(async move { self.write(&format!("{NEXLET}{id}"), value).await })
    }

    fn remove_nexlet<'a>(&'a self, id: &'a NexletId) -> Pending<'a, ()> {
        Box::pin(async move { self.purge(&format!("{NEXLET}{id}")).await })
    }

    fn load_lameduck(&self) -> Pending<'_, Option<Timestamp>> {
        Box::pin(async move {
            let failed = |source: Box<dyn Error + Send + Sync>| StateError::Read {
                place: self.bucket.clone(),
                source,
            };
            let kept = self.store.get(LAMEDUCK).await;
            let kept = kept.map_err(|error| failed(error.into()))?;
            let ends = kept.map(|ends| String::from_utf8_lossy(&ends).parse::<Timestamp>());
            ends.transpose().map_err(|error| failed(error.into()))
        })
    }

    fn put_lameduck(&self, ends: Option<Timestamp>) -> Pending<'_, ()> {
        Box::pin(async move {
            let Some(ends) = ends else {
                return self.purge(LAMEDUCK).await;
            };
            self.write(LAMEDUCK, ends.to_string().into_bytes()).await
        })
    }
}
