//! Objects of NATS object stores, read.

use async_nats::{
    Client,
    jetstream::{
        self,
        context::Context,
        object_store::{InfoErrorKind, ObjectInfo, ObjectStore},
        stream::{InfoError, Stream},
    },
};
use bytes::{Bytes, BytesMut};
use data_encoding::BASE64URL;
use futures_util::StreamExt as _;

use crate::{
    digest::Digest,
    error::{FetchError, StoreError},
    links::LinkPath,
    reader::{ContentError, ObjectReader},
    uri::ArtifactUri,
};

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
            while let Some(chunk) = incoming.next().await? {
                content.extend_from_slice(&chunk);
            }
            let description = incoming.reader.info().description.clone();
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

/// The subject of an object's chunks.
pub(crate) fn chunks_subject(bucket: &str, nuid: &str) -> String {
    format!("$O.{bucket}.C.{nuid}")
}

/// The size of new chunks in bytes: as of other clients, and smaller where the server wants it.
pub(crate) fn chunk_bytes(max_payload: usize) -> usize {
    const USUAL: usize = 128 * 1024;
    /// Headers count as payload.
    const HEADERS: usize = 512;
    USUAL.min(max_payload.saturating_sub(HEADERS)).max(1)
}

/// The subject of an object's metadata.
pub(crate) fn metadata_subject(bucket: &str, name: &str) -> String {
    format!("$O.{bucket}.M.{}", BASE64URL.encode(name.as_bytes()))
}

/// Returns whether [`chunks_subject`] is the subject of one object: writers of objects choose the nuid,
/// and one with a wildcard stands for the chunks of others.
pub(crate) fn is_token(nuid: &str) -> bool {
    let never =
        |char: char| char.is_whitespace() || char.is_control() || matches!(char, '.' | '*' | '>');
    !nuid.is_empty() && !nuid.contains(never)
}

/// Counts the messages on a subject of a stream.
pub(crate) async fn count<I>(stream: &Stream<I>, subject: &str) -> Result<u64, InfoError> {
    let mut subjects = stream.info_with_subjects(subject).await?;
    match subjects.next().await {
        Some(counted) => Ok(counted?.1 as u64),
        None => Ok(0),
    }
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
async fn find(client: &Client, uri: &str, mut path: LinkPath) -> Result<ObjectInfo, FetchError> {
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
            return Ok(info);
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
    reader: ObjectReader,
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
        let info = find(client, &uri, path).await?;
        let digest = info.digest.as_deref().and_then(Digest::parse);
        let Some(digest) = digest else {
            return Err(FetchError::content(&uri, ContentError::NoDigest));
        };
        Ok(Self {
            digest,
            size: info.size as u64,
            uri,
            reader: ObjectReader::new(&jetstream::new(client.clone()), info),
        })
    }

    /// The next piece; `None` at the end, when size and digest were found right.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let next = self.reader.next().await;
        next.map_err(|error| FetchError::content(&self.uri, error))
    }
}
