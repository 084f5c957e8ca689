//! A bounded folder of fetched artifacts.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_nats::Client;
use tokio::{io::AsyncWriteExt as _, sync::OnceCell};
use tracing::debug;

use crate::{digest::Digest, error::FetchError, object::Incoming, uri::ArtifactUri};

mod disk;

/// How large the cache may become, in bytes; then what was not used for longest goes.
const DEFAULT_LIMIT_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// An artifact on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is. In a cache it may go away when it is not used for long: who needs it for
    /// longer makes a hard link.
    pub path: PathBuf,
    /// SHA-256 in hex; none for a file that is used in place.
    pub digest: Option<String>,
    /// Its size in bytes.
    pub size: u64,
}

/// Fetches artifacts and keeps those from object stores. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    limit_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is being fetched now: who comes second waits for the first.
    fetching: HashMap<Digest, Arc<OnceCell<()>>>,
    /// Files that were seen to have their digest, with the time of their last change.
    checked: HashMap<Digest, SystemTime>,
}

impl Cache {
    /// A cache in a folder, which is made when it is needed; at most 2 GiB.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::with_limit(dir, DEFAULT_LIMIT_BYTES)
    }

    /// A cache of at most `limit_bytes`, beside the artifact that was fetched last.
    #[must_use]
    pub fn with_limit(dir: impl Into<PathBuf>, limit_bytes: u64) -> Self {
        let dir = dir.into();
        Self(Arc::new(Inner {
            dir,
            limit_bytes,
            state: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one step, so a panic elsewhere leaves nothing half done.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an artifact available as a file; `executable` for one that is to be run.
    ///
    /// A local file stays where it is. An object is received once, however many ask for its
    /// content at the same time.
    ///
    /// # Errors
    /// [`FetchError`]; its kind says what a caller can act on.
    pub async fn fetch(
        &self,
        uri: &ArtifactUri,
        client: &Client,
        executable: bool,
    ) -> Result<Fetched, FetchError> {
        match uri {
            ArtifactUri::File(path) => in_place(path).await,
            ArtifactUri::ObjectStore { bucket, name, tag } => {
                let incoming = Incoming::open(client, uri, bucket, name, tag).await?;
                self.take(incoming, executable).await
            }
        }
    }

    async fn take(&self, incoming: Incoming, executable: bool) -> Result<Fetched, FetchError> {
        let (digest, size) = (incoming.digest, incoming.size);
        let path = self.0.dir.join(digest.to_string());
        let cell = Arc::clone(self.state().fetching.entry(digest).or_default());
        // The cell's first user fetches, the others wait; if it fails, the next one tries.
        let fetched = cell.get_or_try_init(|| self.ensure(incoming, &path)).await;
        self.forget(digest, &cell);
        fetched?;

        let dir = self.0.dir.clone();
        let used = path.clone();
        self.blocking(move || disk::mark_used(&dir, &used, executable))
            .await?;
        Ok(Fetched {
            path,
            digest: Some(digest.to_string()),
            size,
        })
    }

    /// Ends the sharing of one fetch, so that a later one looks at the disk again.
    fn forget(&self, digest: Digest, cell: &Arc<OnceCell<()>>) {
        let mut state = self.state();
        if state
            .fetching
            .get(&digest)
            .is_some_and(|current| Arc::ptr_eq(current, cell))
        {
            state.fetching.remove(&digest);
        }
    }

    /// Sees to it that a file is there and right.
    async fn ensure(&self, incoming: Incoming, path: &Path) -> Result<(), FetchError> {
        let digest = incoming.digest;
        let checked = self.state().checked.get(&digest).copied();
        let (known, size) = (path.to_owned(), incoming.size);
        let found = self
            .blocking(move || disk::check(&known, digest, size, checked))
            .await?;
        let changed = match found {
            Some(changed) => changed,
            None => self.receive(incoming, path).await?,
        };
        self.state().checked.insert(digest, changed);
        Ok(())
    }

    async fn receive(&self, mut incoming: Incoming, path: &Path) -> Result<SystemTime, FetchError> {
        let dir = self.0.dir.clone();
        let part = self.blocking(move || disk::new_part(&dir)).await?;
        let failed = |source| FetchError::Cache {
            path: self.0.dir.clone(),
            source,
        };
        let file = part.as_file().try_clone().map_err(failed)?;
        let mut file = tokio::fs::File::from_std(file);
        while let Some(chunk) = incoming.next().await? {
            file.write_all(&chunk).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        // Closed before it gets its name: a file open for writing cannot be executed.
        drop(file.into_std().await);
        debug!(digest = %incoming.digest, size = incoming.size, "artifact received");

        let (dir, path, limit_bytes) = (self.0.dir.clone(), path.to_owned(), self.0.limit_bytes);
        self.blocking(move || {
            let changed = disk::publish(part, &path)?;
            disk::evict(&dir, &path, limit_bytes)?;
            Ok(changed)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, FetchError> {
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|source| FetchError::Cache {
            path: self.0.dir.clone(),
            source,
        })
    }
}

async fn in_place(path: &Path) -> Result<Fetched, FetchError> {
    let metadata = tokio::fs::metadata(path).await;
    let metadata = metadata.map_err(|source| FetchError::File {
        path: path.to_owned(),
        source,
    })?;
    if !metadata.is_file() {
        return Err(FetchError::NotAFile(path.to_owned()));
    }
    Ok(Fetched {
        path: path.to_owned(),
        digest: None,
        size: metadata.len(),
    })
}
