//! The changes of a bucket, over restarts of the server.
//!
//! ```text
//!   begin ──> changes ──the connection or its consumer is gone──> resume ──> changes after the last one
//!                                                                   │
//!                                                                   └──the bucket is another one──> error
//! ```
//!
//! Changes have growing revisions, so a watch that is resumed after the last one neither loses nor
//! repeats a change. A key of a bucket that keeps a history may come in more than one of its
//! revisions where the watch was interrupted while it still gave the values that were there.

use std::{fmt, sync::Arc, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        kv::{Entry, Operation, Store, Watch, WatchError, WatchErrorKind},
        stream::Info,
    },
};
use futures_util::StreamExt as _;
use tokio::{sync::Mutex, time::sleep};

use super::{Change, Watched};
use crate::services::{
    buckets::{connects, is_missing},
    error::{ServiceCode, ServiceError},
};

/// Period at which a watch checks whether its connection was lost.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// The pause between two attempts to resume. The deadline of the invocation ends them.
const RESUME_PAUSE: Duration = Duration::from_millis(250);

/// Changes as they come. Cheap to clone; each change goes to one of the clones.
#[derive(Clone)]
pub struct Changes {
    bucket: Arc<str>,
    watching: Arc<Mutex<Watching>>,
}

/// A watch, and how far it has come.
struct Watching {
    client: Client,
    store: Store,
    keys: String,
    watch: Watch,
    /// The revision after which changes are wanted: that of the last one that was given.
    last: u64,
    /// `true` for a watch that begins with the present values.
    from_present: bool,
    /// The bucket, as it was at the beginning.
    begun: Info,
    /// Number of connections that the client had made when the watch was opened.
    connects: u64,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl Changes {
    /// Opens a watch.
    pub(super) async fn begin(
        client: Client,
        store: Store,
        bucket: &str,
        watched: Watched,
    ) -> Result<Self, WatchError> {
        let Watched { keys, from_present } = watched;
        let connects = connects(&client);
        let other = |error| WatchError::with_source(WatchErrorKind::Other, error);
        let begun = store.stream.get_info().await.map_err(other)?;
        let last = if from_present {
            0
        } else {
            begun.state.last_sequence
        };
        let watch = open(&store, &keys, last, from_present).await?;
        Ok(Self {
            bucket: bucket.into(),
            watching: Arc::new(Mutex::new(Watching {
                client,
                store,
                keys,
                watch,
                last,
                from_present,
                begun,
                connects,
            })),
        })
    }

    /// The next one. Cancel safe.
    pub(in crate::services) async fn next(&self) -> Result<Change, ServiceError> {
        let mut watching = self.watching.lock().await;
        loop {
            tokio::select! {
                biased;

                entry = watching.watch.next() => match entry {
                    Some(Ok(entry)) if entry.revision > watching.last => {
                        watching.last = entry.revision;
                        return Ok(change(entry));
                    }
                    // The client library has resumed it further back.
                    Some(Ok(_given_before)) => {}
                    Some(Err(_)) | None => watching.resume(&self.bucket).await?,
                },

                () = sleep(LOOK_PERIOD) => {
                    if connects(&watching.client) != watching.connects {
                        watching.resume(&self.bucket).await?;
                    }
                }
            }
        }
    }
}

impl Watching {
    /// Opens the watch again, as soon as the server can do it. Cancel safe.
    async fn resume(&mut self, bucket: &str) -> Result<(), ServiceError> {
        loop {
            let connects = connects(&self.client);
            match self.store.stream.get_info().await {
                Ok(info) if !self.is_same(&info) => return Err(made_anew(bucket)),
                Ok(_same) => {
                    let (store, keys) = (&self.store, &self.keys);
                    // A bucket that was empty has no values that were there.
                    let present = self.from_present && self.begun.state.last_sequence > 0;
                    if let Ok(watch) = open(store, keys, self.last, present).await {
                        self.watch = watch;
                        self.connects = connects;
                        return Ok(());
                    }
                }
                Err(error) if is_missing(&error) => {
                    let text = format!("the bucket `{bucket}` was deleted while it was watched");
                    return Err(ServiceError::new(ServiceCode::NotFound, text));
                }
                Err(error) => tracing::debug!(bucket, %error, "a watch cannot be resumed yet"),
            }
            sleep(RESUME_PAUSE).await;
        }
    }

    /// Returns whether the bucket is still the watched one, with all changes that were given.
    fn is_same(&self, info: &Info) -> bool {
        info.created == self.begun.created && info.state.last_sequence >= self.last
    }
}

/// Watches what comes after a revision; 0 for the values that are there, where these are wanted.
async fn open(
    store: &Store,
    keys: &str,
    last: u64,
    from_present: bool,
) -> Result<Watch, WatchError> {
    match last {
        0 if from_present => store.watch_with_history(keys).await,
        last => store.watch_from_revision(keys, last + 1).await,
    }
}

fn change(entry: Entry) -> Change {
    Change {
        value: (entry.operation == Operation::Put).then_some(entry.value),
        key: entry.key,
        revision: entry.revision,
    }
}

fn made_anew(bucket: &str) -> ServiceError {
    let text = format!(
        "the bucket `{bucket}` was made anew, or has lost its last changes, while it was watched: \
         changes may be missing; watch it again from its present values"
    );
    ServiceError::new(ServiceCode::Unavailable, text)
}
