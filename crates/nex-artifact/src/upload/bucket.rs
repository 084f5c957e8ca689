//! An object store bucket, as its stream.

use async_nats::{
    Client, HeaderMap,
    header::NATS_ROLLUP,
    jetstream::{
        self, ErrorCode,
        context::{Context, CreateStreamErrorKind, PublishError, PublishErrorKind},
        object_store::ObjectInfo,
        stream::{Config, DirectGetErrorKind, DiscardPolicy, StorageType, Stream},
    },
};
use futures_util::StreamExt as _;
use serde_json::json;

use super::Content;
use crate::{
    error::{StoreError, UploadError, is_off},
    links::LinkPath,
    object,
};

/// How large a new bucket may become, in bytes: the first of these for which the server has room.
const SIZES: [i64; 7] = [
    1 << 30,
    1 << 28,
    1 << 26,
    1 << 24,
    1 << 22,
    1 << 20,
    1 << 18,
];

pub(super) struct Bucket {
    pub(super) context: Context,
    pub(super) stream: Stream,
    pub(super) name: String,
    /// The largest payload that the server takes, in bytes.
    pub(super) max_payload: usize,
}

impl Bucket {
    pub(super) async fn open_or_create(client: &Client, name: &str) -> Result<Self, StoreError> {
        let context = jetstream::new(client.clone());
        let stream = match object::open_stream(&context, name).await {
            Err(StoreError::NoBucket(_)) => create(&context, name).await?,
            opened => opened?,
        };
        let max_payload = client.max_payload();
        Ok(Self {
            context,
            stream,
            name: name.to_owned(),
            max_payload,
        })
    }

    /// The subject of an object's chunks.
    pub(super) fn chunks(&self, nuid: &str) -> String {
        format!("$O.{}.C.{nuid}", self.name)
    }

    /// The subject of an object's information.
    pub(super) fn meta(&self, key: &str) -> String {
        let key = data_encoding::BASE64URL.encode(key.as_bytes());
        format!("$O.{}.M.{key}", self.name)
    }

    /// Whether the content is there. Then it is noted as used now, so that it is not the next to
    /// be deleted.
    pub(super) async fn refresh(&self, content: &Content) -> Result<bool, UploadError> {
        let there = self
            .info(&content.key)
            .await?
            .is_some_and(|info| !info.deleted && info.digest == Some(content.digest.to_object()));
        if there {
            self.put_info(content).await?;
        }
        Ok(there)
    }

    /// The information about an object, if there is one that can be read.
    ///
    /// # Errors
    /// [`UploadError::Link`] for a link: what is uploaded is not what runs where that leads.
    pub(super) async fn info(&self, key: &str) -> Result<Option<ObjectInfo>, UploadError> {
        match self
            .stream
            .direct_get_last_for_subject(self.meta(key))
            .await
        {
            Ok(message) => {
                let info: Option<ObjectInfo> = serde_json::from_slice(&message.payload).ok();
                match info.as_ref().and_then(linked) {
                    Some(target) => Err(UploadError::Link {
                        bucket: self.name.clone(),
                        key: key.to_owned(),
                        target,
                    }),
                    None => Ok(info),
                }
            }
            Err(error) => match error.kind() {
                DirectGetErrorKind::NotFound => Ok(None),
                DirectGetErrorKind::TimedOut => Err(StoreError::NoAnswer.into()),
                _ => Err(StoreError::other(error).into()),
            },
        }
    }

    /// Gives the chunks of a content their name, in the form that every object store client reads.
    pub(super) async fn put_info(&self, content: &Content) -> Result<(), UploadError> {
        let file_name = content
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let info = json!({
            "name": content.key,
            "description": file_name,
            "options": { "max_chunk_size": self.chunk_bytes() },
            "bucket": self.name,
            "nuid": content.digest.to_string(),
            "size": content.size,
            "mtime": jiff::Timestamp::now().to_string(),
            "chunks": content.size.div_ceil(self.chunk_bytes() as u64),
            "digest": content.digest.to_object(),
        });
        let mut headers = HeaderMap::new();
        headers.insert(NATS_ROLLUP, "sub");
        let subject = self.meta(&content.key);
        let info = info.to_string().into();
        let sent = self
            .context
            .publish_with_headers(subject, headers, info)
            .await;
        let stored = sent.map_err(|error| self.send_error(error))?.await;
        stored.map(|_| ()).map_err(|error| self.send_error(error))
    }

    /// How large our chunks are, in bytes: as usual, and smaller where the server wants it.
    pub(super) fn chunk_bytes(&self) -> usize {
        const USUAL: usize = 128 * 1024;
        /// Headers count as payload.
        const HEADERS: usize = 512;
        USUAL.min(self.max_payload.saturating_sub(HEADERS)).max(1)
    }

    /// Deletes everything on a subject.
    pub(super) async fn purge(&self, subject: String) -> Result<(), StoreError> {
        self.stream
            .purge()
            .filter(subject)
            .await
            .map_err(StoreError::other)?;
        Ok(())
    }

    /// Deletes everything on a subject up to a message, that included.
    pub(super) async fn purge_until(&self, subject: String, last: u64) -> Result<(), StoreError> {
        let purge = self.stream.purge().filter(subject).sequence(last + 1);
        purge.await.map_err(StoreError::other)?;
        Ok(())
    }

    /// Replaces an error by the reason that the stream itself gives: one whose disk is full
    /// acknowledges nothing, and says why only to a purge. That of an unused subject changes nothing.
    pub(super) async fn explained(&self, error: UploadError) -> UploadError {
        let purged = self.stream.purge().filter(self.chunks("unused")).await;
        match purged.map_err(|refused| refused.to_string()) {
            Err(text) if tells_full_disk(&text) => StoreError::NoSpace(text).into(),
            _ => error,
        }
    }

    /// How many messages there are on a subject.
    pub(super) async fn count(&self, subject: &str) -> Result<u64, StoreError> {
        let info = self.stream.info_with_subjects(subject).await;
        let mut subjects = info.map_err(StoreError::other)?;
        match subjects.next().await {
            Some(counted) => Ok(counted.map_err(StoreError::other)?.1 as u64),
            None => Ok(0),
        }
    }

    /// What it means that a part was not stored.
    pub(super) fn send_error(&self, error: PublishError) -> UploadError {
        let bucket = self.name.clone();
        match (error.kind(), server_code(&error)) {
            (PublishErrorKind::StreamNotFound, _) => StoreError::NoBucket(bucket).into(),
            (_, Some(code)) if is_off(code) => StoreError::JetStreamOff.into(),
            (_, Some(code)) if is_without_space(code) => {
                StoreError::NoSpace(server_text(&error)).into()
            }
            (_, Some(code)) if is_full(code) => UploadError::NoRoom {
                bucket,
                source: Box::new(error),
            },
            _ => UploadError::Send {
                bucket,
                source: Box::new(error),
            },
        }
    }
}

/// Returns the target of an object that is a link and not deleted.
fn linked(info: &ObjectInfo) -> Option<String> {
    let link = info.options.as_ref()?.link.as_ref()?;
    let path = LinkPath::new(&*link.bucket, link.name.clone().unwrap_or_default());
    (!info.deleted).then(|| format!("`{path}`"))
}

fn is_full(code: ErrorCode) -> bool {
    code == ErrorCode::STREAM_STORE_FAILED
        || code == ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        || is_without_space(code)
}

/// Returns whether the server itself has no space, whatever the account may use.
fn is_without_space(code: ErrorCode) -> bool {
    code == ErrorCode::STORAGE_RESOURCES_EXCEEDED || code == ErrorCode::INSUFFICIENT_RESOURCES
}

/// Returns whether a text says that a disk or a quota is used up.
fn tells_full_disk(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("no space left on device") || text.contains("disk quota exceeded")
}

/// Returns the server's answer among the causes of an error.
fn server_answer<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a jetstream::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(answer) = error.downcast_ref::<jetstream::Error>() {
            return Some(answer);
        }
        next = error.source();
    }
    None
}

fn server_code(error: &(dyn std::error::Error + 'static)) -> Option<ErrorCode> {
    server_answer(error).map(jetstream::Error::error_code)
}

fn server_text(error: &(dyn std::error::Error + 'static)) -> String {
    server_answer(error).map_or_else(|| error.to_string(), ToString::to_string)
}

async fn create(context: &Context, name: &str) -> Result<Stream, StoreError> {
    let mut refused = None;
    for max_bytes in SIZES {
        match context.create_stream(config(name, max_bytes)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => match error.kind() {
                CreateStreamErrorKind::JetStreamUnavailable => {
                    return Err(StoreError::JetStreamOff);
                }
                CreateStreamErrorKind::TimedOut => return Err(StoreError::NoAnswer),
                CreateStreamErrorKind::JetStream(answer) if is_off(answer.error_code()) => {
                    return Err(StoreError::JetStreamOff);
                }
                CreateStreamErrorKind::JetStream(answer) if is_full(answer.error_code()) => {
                    refused = Some(StoreError::NoSpace(answer.to_string()));
                }
                CreateStreamErrorKind::JetStream(answer)
                    if tells_full_disk(&answer.to_string()) =>
                {
                    return Err(StoreError::NoSpace(answer.to_string()));
                }
                // Somebody else may have made it in this moment, in another size.
                CreateStreamErrorKind::JetStream(_) => {
                    let opened = object::open_stream(context, name).await;
                    return opened.map_err(|_| StoreError::other(error));
                }
                _ => return Err(StoreError::other(error)),
            },
        }
    }
    Err(refused.unwrap_or(StoreError::NoAnswer))
}

/// The stream of a bucket as every object store client makes it.
fn config(name: &str, max_bytes: i64) -> Config {
    Config {
        name: object::stream_name(name),
        description: Some("artifacts for Nex workloads".to_owned()),
        subjects: vec![format!("$O.{name}.C.>"), format!("$O.{name}.M.>")],
        max_bytes,
        storage: StorageType::File,
        num_replicas: 1,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        allow_direct: true,
        ..Config::default()
    }
}
