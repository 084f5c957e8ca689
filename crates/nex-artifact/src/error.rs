//! What can go wrong.

use std::{error::Error, io, path::PathBuf};

use crate::{links::LinkError, reader::ContentError};
use async_nats::jetstream::{
    self, ErrorCode,
    context::{
        GetStreamError, GetStreamErrorKind, ObjectStoreError, ObjectStoreErrorKind,
        RequestErrorKind,
    },
};

/// What a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The artifact, or the bucket, is not there.
    NotFound,
    /// The server has no JetStream, or none for this account.
    JetStreamOff,
    /// It is larger than what may be read or kept.
    TooLarge,
    /// The server's disk is full.
    NoSpace,
    /// The object's content and its metadata contradict each other.
    Damaged,
    /// A link that leads to no object, or stands where no link may be.
    Link,
    /// The server did not answer, or the credentials do not allow it.
    Unavailable,
    /// The machine's own files.
    Io,
}

/// An object store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such bucket.
    #[error("there is no object store bucket `{0}`")]
    NoBucket(String),
    /// No bucket can have that name.
    #[error("invalid bucket `{0}`: want letters, digits, `-` and `_`")]
    InvalidBucket(String),
    /// JetStream is off.
    #[error("JetStream is off on this NATS server, or for this account")]
    JetStreamOff,
    /// No answer. NATS does not tell whether the credentials forbid it.
    #[error("NATS did not answer in time for the object store, or the credentials do not allow it")]
    NoAnswer,
    /// The server's disk is full, or what JetStream may use of it.
    #[error("the disk of the NATS server has no space left for artifacts: {0}")]
    NoSpace(String),
    /// Something else.
    #[error("failed to use the object store")]
    Other(#[source] Box<dyn Error + Send + Sync>),
}

impl StoreError {
    pub(crate) fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoBucket(_) | Self::InvalidBucket(_) => Kind::NotFound,
            Self::JetStreamOff => Kind::JetStreamOff,
            Self::NoSpace(_) => Kind::NoSpace,
            Self::NoAnswer | Self::Other(_) => Kind::Unavailable,
        }
    }

    pub(crate) fn from_get_store(error: ObjectStoreError, bucket: &str) -> Self {
        if error.kind() == ObjectStoreErrorKind::InvalidBucketName {
            return Self::InvalidBucket(bucket.to_owned());
        }
        // The kind hides what the server said; the cause does not.
        let cause = error.source();
        let cause = cause.and_then(|cause| cause.downcast_ref::<GetStreamError>());
        let known = cause.and_then(|cause| Self::known(cause, bucket));
        known.unwrap_or_else(|| Self::other(error))
    }

    pub(crate) fn from_get_stream(error: GetStreamError, bucket: &str) -> Self {
        Self::known(&error, bucket).unwrap_or_else(|| Self::other(error))
    }

    fn known(error: &GetStreamError, bucket: &str) -> Option<Self> {
        match error.kind() {
            GetStreamErrorKind::JetStream(answer) => match answer.error_code() {
                ErrorCode::STREAM_NOT_FOUND => Some(Self::NoBucket(bucket.to_owned())),
                code if is_off(code) => Some(Self::JetStreamOff),
                _ => None,
            },
            GetStreamErrorKind::Request => match request_kind(error)? {
                RequestErrorKind::NoResponders => Some(Self::JetStreamOff),
                RequestErrorKind::TimedOut => Some(Self::NoAnswer),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Whether the server says that JetStream is off.
pub(crate) fn is_off(code: ErrorCode) -> bool {
    code == ErrorCode::JETSTREAM_NOT_ENABLED || code == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
}

/// Returns the server's answer among the causes of an error.
pub(crate) fn server_answer<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a jetstream::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(answer) = error.downcast_ref::<jetstream::Error>() {
            return Some(answer);
        }
        next = error.source();
    }
    None
}

fn request_kind(error: &(dyn Error + 'static)) -> Option<RequestErrorKind> {
    let source = error.source()?;
    let request = source.downcast_ref::<async_nats::jetstream::context::RequestError>()?;
    Some(request.kind())
}

/// An artifact that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A local file cannot be read.
    #[error("failed to open artifact `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder, or something else that is no file.
    #[error("artifact `{}` is no regular file", .0.display())]
    NotAFile(PathBuf),
    /// The bucket cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such object.
    #[error("there is no artifact `{uri}`: bucket `{bucket}` has no object `{key}`")]
    NoObject {
        /// What was asked for.
        uri: String,
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// There is no object where its links lead.
    #[error("artifact `{uri}` is a link to an object that does not exist: {path}")]
    NoLinked {
        /// The requested artifact.
        uri: String,
        /// The objects on the way.
        path: String,
    },
    /// A bucket to which its links lead cannot be used.
    #[error("artifact `{uri}` is a link, and where it leads cannot be used: {path}")]
    LinkedStore {
        /// The requested artifact.
        uri: String,
        /// The objects on the way.
        path: String,
        /// The cause.
        #[source]
        source: StoreError,
    },
    /// The links of the artifact lead to no object.
    #[error("artifact `{uri}` is a link that cannot be followed")]
    Link {
        /// The requested artifact.
        uri: String,
        /// The cause.
        #[source]
        source: LinkError,
    },
    /// It is larger than asked for.
    #[error("artifact `{uri}` has {size} bytes: at most {limit} are taken")]
    TooLarge {
        /// What was asked for.
        uri: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The content of the artifact is not the one that its metadata describes.
    #[error("artifact `{uri}` is damaged")]
    Damaged {
        /// The requested artifact.
        uri: String,
        /// The cause.
        #[source]
        source: ContentError,
    },
    /// The object store failed while sending.
    #[error("failed to receive artifact `{uri}`")]
    Receive {
        /// The requested artifact.
        uri: String,
        /// The cause.
        #[source]
        source: ContentError,
    },
    /// The cache cannot be written.
    #[error("failed to write to the artifact cache `{}`", path.display())]
    Cache {
        /// The folder, or a file in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    pub(crate) fn content(uri: &str, source: ContentError) -> Self {
        let uri = uri.to_owned();
        match source.is_damage() {
            true => Self::Damaged { uri, source },
            false => Self::Receive { uri, source },
        }
    }

    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Self::File { .. } | Self::NotAFile(_) | Self::Cache { .. } => Kind::Io,
            Self::Store(error) => error.kind(),
            Self::LinkedStore { source, .. } => source.kind(),
            Self::NoObject { .. } | Self::NoLinked { .. } => Kind::NotFound,
            Self::Link { .. } => Kind::Link,
            Self::TooLarge { .. } => Kind::TooLarge,
            Self::Damaged { .. } => Kind::Damaged,
            Self::Receive { .. } => Kind::Unavailable,
        }
    }
}

/// A file that was not uploaded.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file cannot be read.
    #[error("failed to read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder, or something else that is no file.
    #[error("`{}` is no regular file", .0.display())]
    NotAFile(PathBuf),
    /// The file was written to during the upload.
    #[error("`{}` changed while it was uploaded", .0.display())]
    Changed(PathBuf),
    /// The bucket cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The artifact's place holds a link to another object.
    #[error("object `{key}` of bucket `{bucket}`, in the artifact's place, is a link to {target}")]
    Link {
        /// The bucket.
        bucket: String,
        /// The key of the artifact.
        key: String,
        /// The target of the link.
        target: String,
    },
    /// The file does not fit, even if all others were deleted.
    #[error("artifact of {size} bytes is too large: bucket `{bucket}` takes {limit} bytes")]
    TooLarge {
        /// The bucket.
        bucket: String,
        /// The file's size in bytes.
        size: u64,
        /// What the bucket takes in bytes.
        limit: u64,
    },
    /// The server does not store more.
    #[error("NATS has no more room for artifacts in bucket `{bucket}`")]
    NoRoom {
        /// The bucket.
        bucket: String,
        /// The server's words.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server did not store a part.
    #[error("failed to send the artifact to bucket `{bucket}`")]
    Send {
        /// The bucket.
        bucket: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl UploadError {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Self::File { .. } | Self::NotAFile(_) | Self::Changed(_) => Kind::Io,
            Self::Store(error) => error.kind(),
            Self::TooLarge { .. } | Self::NoRoom { .. } => Kind::TooLarge,
            Self::Link { .. } => Kind::Link,
            Self::Send { .. } => Kind::Unavailable,
        }
    }
}
