//! An object store bucket, as its stream.

use std::collections::HashMap;

use async_nats::{
    Client, datetime,
    jetstream::{
        self, ErrorCode,
        context::{Context, CreateStreamErrorKind, PublishError, PublishErrorKind},
        object_store::{ObjectInfo, ObjectOptions},
        stream::{Config, DirectGetErrorKind, DiscardPolicy, StorageType, Stream},
    },
};

use super::Content;
use crate::{
    digest::Digest,
    error::{StoreError, UploadError, is_off, server_answer},
    links::LinkPath,
    object, writer,
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
        object::chunks_subject(&self.name, nuid)
    }

    /// The subject of an object's information.
    pub(super) fn meta(&self, key: &str) -> String {
        object::metadata_subject(&self.name, key)
    }

    /// The information about a content, if all of the content is there.
    pub(super) async fn find(&self, content: &Content) -> Result<Option<ObjectInfo>, UploadError> {
        let Some(info) = self.info(&content.key).await? else {
            return Ok(None);
        };
        let digest = info.digest.as_deref().and_then(Digest::parse);
        let same = digest == Some(content.digest) && info.size as u64 == content.size;
        if info.deleted || !same || !object::is_token(&info.nuid) {
            return Ok(None);
        }
        // Chunks may have been deleted, and others than this function write information.
        let stored = self.count(&self.chunks(&info.nuid)).await?;
        Ok((stored == info.chunks as u64).then_some(info))
    }

    /// Returns whether the content is there. Then it is noted as used now, under its present file name,
    /// so that it is not the next to be deleted.
    pub(super) async fn refresh(&self, content: &Content) -> Result<bool, UploadError> {
        let Some(mut info) = self.find(content).await? else {
            return Ok(false);
        };
        // The other fields describe the stored chunks, whoever stored them. The names are those of this
        // place: who writes metadata by hand may write others.
        (info.name, info.bucket) = (content.key.clone(), self.name.clone());
        info.description = Some(content.file_name());
        info.modified = Some(datetime::now());
        self.put_info(&info).await?;
        Ok(true)
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

    /// Gives the chunks that this upload has sent their name.
    pub(super) async fn name_chunks(&self, content: &Content) -> Result<(), UploadError> {
        let info = ObjectInfo {
            name: content.key.clone(),
            description: Some(content.file_name()),
            metadata: HashMap::new(),
            headers: None,
            options: Some(ObjectOptions {
                link: None,
                max_chunk_size: Some(self.chunk_bytes()),
            }),
            bucket: self.name.clone(),
            nuid: content.digest.to_string(),
            size: usize::try_from(content.size).unwrap_or(usize::MAX),
            chunks: usize::try_from(self.chunk_count(content)).unwrap_or(usize::MAX),
            modified: Some(datetime::now()),
            digest: Some(content.digest.to_object()),
            deleted: false,
        };
        self.put_info(&info).await
    }

    async fn put_info(&self, info: &ObjectInfo) -> Result<(), UploadError> {
        let sent = writer::send_metadata(&self.context, info).await;
        sent.map_err(|error| self.send_error(error))
    }

    /// The number of chunks in which this upload sends a content.
    pub(super) fn chunk_count(&self, content: &Content) -> u64 {
        content.size.div_ceil(self.chunk_bytes() as u64)
    }

    /// The size of our chunks in bytes.
    pub(super) fn chunk_bytes(&self) -> usize {
        object::chunk_bytes(self.max_payload)
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

    /// Counts the messages on a subject.
    pub(super) async fn count(&self, subject: &str) -> Result<u64, StoreError> {
        let counted = object::count(&self.stream, subject).await;
        counted.map_err(StoreError::other)
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
