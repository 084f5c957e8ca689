//! Files into an object store, named by the hash of their content.
//!
//! ```text
//!   hash ──> there? ──yes──> note its use, done
//!              │ no
//!              v
//!            room? ──no──> delete the oldest
//!              │
//!              v
//!   first chunk, only if the subject is empty ──taken──> wait for the other upload ──> there?
//!              │ ours
//!              v
//!   other chunks ──> information ──> done
//! ```

use std::{
    io,
    path::{Path, PathBuf},
};

use async_nats::Client;

use crate::{
    digest::Digest,
    error::{Kind, StoreError, UploadError},
    uri::ArtifactUri,
};

mod bucket;
mod room;
mod send;

use bucket::Bucket;
use send::Sent;

/// The tag of what is named by its content.
const TAG: &str = "latest";
/// How often an upload begins again because another one of the same content was given up.
const MAX_ROUNDS: usize = 8;

/// A file in an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Its URI: `nats://<bucket>/<sha256>`.
    pub uri: String,
    /// Whether this upload sent it; else it was there already.
    pub fresh: bool,
    /// Its size in bytes.
    pub size: u64,
}

/// What is uploaded, and under which names.
struct Content {
    path: PathBuf,
    digest: Digest,
    size: u64,
    /// The object's key.
    key: String,
}

impl Content {
    fn file_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// Puts a file into a bucket, which is made where it is missing. `progress` hears of the bytes
/// that were sent and of all that are to be.
///
/// A file whose content is there is not sent again. Cancelled, it leaves chunks without a name,
/// which the next upload that needs the room deletes.
///
/// # Errors
/// [`UploadError`]; its kind says what a caller can act on.
pub async fn upload(
    client: &Client,
    bucket: &str,
    path: &Path,
    progress: impl Fn(u64, u64),
) -> Result<Uploaded, UploadError> {
    let content = examine(path).await?;
    let bucket = Bucket::open_or_create(client, bucket).await?;
    let uploaded = |fresh| {
        let (bucket, name) = (bucket.name.clone(), content.digest.to_string());
        let uri = ArtifactUri::ObjectStore {
            bucket,
            name,
            tag: TAG.to_owned(),
        };
        Uploaded {
            uri: uri.to_string(),
            fresh,
            size: content.size,
        }
    };
    match put(&bucket, &content, progress).await {
        Ok(fresh) => Ok(uploaded(fresh)),
        Err(error) if error.kind() == Kind::Unavailable => Err(bucket.explained(error).await),
        Err(error) => Err(error),
    }
}

/// Brings a content into a bucket; returns whether it was sent, else it was there.
async fn put(
    bucket: &Bucket,
    content: &Content,
    progress: impl Fn(u64, u64),
) -> Result<bool, UploadError> {
    for _ in 0..MAX_ROUNDS {
        if bucket.refresh(content).await? {
            return Ok(false);
        }
        room::make(bucket, content.size).await?;
        match send::send(bucket, content, &progress).await? {
            Sent::Done => return Ok(true),
            Sent::Taken => send::wait_for_other(bucket, content).await?,
        }
    }
    Err(StoreError::NoAnswer.into())
}

async fn examine(path: &Path) -> Result<Content, UploadError> {
    let failed = |source| UploadError::File {
        path: path.to_owned(),
        source,
    };
    let metadata = tokio::fs::metadata(path).await.map_err(failed)?;
    if !metadata.is_file() {
        return Err(UploadError::NotAFile(path.to_owned()));
    }
    let hashed = path.to_owned();
    let hashing = tokio::task::spawn_blocking(move || Digest::of_file(&hashed)).await;
    let (digest, size) = hashing
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(failed)?;
    let key = ArtifactUri::object_key(&digest.to_string(), TAG);
    Ok(Content {
        path: path.to_owned(),
        digest,
        size,
        key,
    })
}
