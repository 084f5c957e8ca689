//! Objects of NATS object stores, read.

use std::{io, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        self,
        context::Context,
        object_store::{InfoErrorKind, Object, ObjectStore},
        stream::Stream,
    },
};
use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::{
    digest::Digest,
    error::{FetchError, StoreError},
    links::LinkPath,
    uri::ArtifactUri,
};

/// How long the store may send nothing. An object that is deleted while it is read goes silent.
const STALL_LIMIT: Duration = Duration::from_secs(20);
/// The pause before a read that failed is tried again, within that limit.
const BROKEN_PAUSE: Duration = Duration::from_millis(250);
/// How much is taken from the store at a time.
const BLOCK_BYTES: usize = 128 * 1024;

/// Reads an artifact of at most `limit_bytes` into memory.
///
/// # Errors
/// [`FetchError`]; its kind says what a caller can act on.
pub async fn read(
    uri: &ArtifactUri,
    client: &Client,
    limit_bytes: u64,
) -> Result<Bytes, FetchError> {
    let (content, _description) = read_described(uri, client, limit_bytes).await?;
    Ok(content)
}

/// Reads an artifact of at most `limit_bytes` into memory, with its description in the object store:
/// [`upload`](crate::upload()) puts the file's name there.
///
/// # Errors
/// [`FetchError`]; its kind says what a caller can act on.
pub async fn read_described(
    uri: &ArtifactUri,
    client: &Client,
    limit_bytes: u64,
) -> Result<(Bytes, Option<String>), FetchError> {
    match uri {
        ArtifactUri::File(path) => {
            let failed = |source| FetchError::File {
                path: path.clone(),
                source,
            };
            let metadata = tokio::fs::metadata(path).await.map_err(failed)?;
            if !metadata.is_file() {
                return Err(FetchError::NotAFile(path.clone()));
            }
            check_size(uri, metadata.len(), limit_bytes)?;
            let content = tokio::fs::read(path).await.map_err(failed)?;
            Ok((content.into(), None))
        }
        ArtifactUri::ObjectStore { bucket, name, tag } => {
            let mut incoming = Incoming::open(client, uri, bucket, name, tag).await?;
            check_size(uri, incoming.size, limit_bytes)?;
            let mut content = BytesMut::new();
            while let Some(block) = incoming.next().await? {
                content.extend_from_slice(block);
            }
            let description = incoming.object.info().description.clone();
            Ok((content.freeze(), description))
        }
    }
}

fn check_size(uri: &ArtifactUri, size: u64, limit: u64) -> Result<(), FetchError> {
    if size > limit {
        return Err(FetchError::TooLarge {
            uri: uri.to_string(),
            size,
            limit,
        });
    }
    Ok(())
}

/// The stream of a bucket.
pub(crate) fn stream_name(bucket: &str) -> String {
    format!("OBJ_{bucket}")
}

/// Opens the stream of a bucket that exists.
pub(crate) async fn open_stream(context: &Context, bucket: &str) -> Result<Stream, StoreError> {
    let stream = context.get_stream(stream_name(bucket)).await;
    stream.map_err(|error| StoreError::from_get_stream(error, bucket))
}

/// Opens a bucket that exists.
async fn open(client: &Client, bucket: &str) -> Result<ObjectStore, StoreError> {
    let context = jetstream::new(client.clone());
    let opened = context.get_object_store(bucket).await;
    opened.map_err(|error| StoreError::from_get_store(error, bucket))
}

/// Looks up the object at the end of a path of links.
async fn find(client: &Client, uri: &str, mut path: LinkPath) -> Result<Object, FetchError> {
    loop {
        let target = path.target();
        let store = open(client, &target.bucket).await;
        let store = store.map_err(|error| unusable(uri, &path, error))?;
        let mut info = match store.info(&target.name).await {
            Ok(info) if info.deleted => return Err(missing(uri, &path)),
            Ok(info) => info,
            Err(error) => {
                return Err(match error.kind() {
                    InfoErrorKind::NotFound => missing(uri, &path),
                    InfoErrorKind::TimedOut => unusable(uri, &path, StoreError::NoAnswer),
                    _ => unusable(uri, &path, StoreError::other(error)),
                });
            }
        };
        let followed = path.follow(&info).map_err(|source| FetchError::Link {
            uri: uri.to_owned(),
            source,
        })?;
        if !followed {
            // Where it is, not what it says.
            info.bucket.clone_from(&path.target().bucket);
            return Ok(store.open(info));
        }
    }
}

/// An object that is not there, at the end of a path of links.
fn missing(uri: &str, path: &LinkPath) -> FetchError {
    let uri = uri.to_owned();
    match path.is_linked() {
        true => FetchError::NoLinked {
            uri,
            path: path.to_string(),
        },
        false => FetchError::NoObject {
            uri,
            bucket: path.target().bucket.clone(),
            key: path.target().name.clone(),
        },
    }
}

/// A bucket that cannot be used, on a path of links.
fn unusable(uri: &str, path: &LinkPath, source: StoreError) -> FetchError {
    match path.is_linked() {
        true => FetchError::LinkedStore {
            uri: uri.to_owned(),
            path: path.to_string(),
            source,
        },
        false => FetchError::Store(source),
    }
}

/// An object that is about to arrive.
pub(crate) struct Incoming {
    uri: String,
    object: Object,
    hash: Sha256,
    block: BytesMut,
    received: u64,
    /// The digest that it must have.
    pub(crate) digest: Digest,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl Incoming {
    /// Looks an object up; nothing of it is sent yet.
    pub(crate) async fn open(
        client: &Client,
        uri: &ArtifactUri,
        bucket: &str,
        name: &str,
        tag: &str,
    ) -> Result<Self, FetchError> {
        let uri = uri.to_string();
        let path = LinkPath::new(bucket, ArtifactUri::object_key(name, tag));
        let object = find(client, &uri, path).await?;
        let digest = object.info().digest.as_deref().and_then(Digest::parse);
        Ok(Self {
            digest: digest.ok_or_else(|| FetchError::Digest(uri.clone()))?,
            size: object.info().size as u64,
            uri,
            object,
            hash: Sha256::new(),
            block: BytesMut::with_capacity(BLOCK_BYTES),
            received: 0,
        })
    }

    /// The next piece; `None` at the end, when size and digest were found right.
    pub(crate) async fn next(&mut self) -> Result<Option<&[u8]>, FetchError> {
        self.block.clear();
        let mut broken = None;
        let read = async {
            loop {
                match self.object.read_buf(&mut self.block).await {
                    Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                        // The server may have been restarted; the client library goes on after what
                        // was read.
                        broken = Some(error);
                        tokio::time::sleep(BROKEN_PAUSE).await;
                    }
                    read => break read,
                }
            }
        };
        let count = match tokio::time::timeout(STALL_LIMIT, read).await {
            Ok(Ok(count)) => count,
            Ok(Err(_invalid)) => return Err(FetchError::Digest(self.uri.clone())),
            Err(_elapsed) => {
                let uri = self.uri.clone();
                return Err(match broken {
                    Some(source) => FetchError::Receive { uri, source },
                    None => FetchError::Stalled {
                        uri,
                        after: STALL_LIMIT,
                    },
                });
            }
        };
        if count == 0 {
            let found = Digest::of(std::mem::take(&mut self.hash));
            let whole = self.received == self.size && found == self.digest;
            return if whole {
                Ok(None)
            } else {
                Err(FetchError::Digest(self.uri.clone()))
            };
        }
        self.hash.update(&self.block);
        self.received += count as u64;
        Ok(Some(&self.block))
    }
}
