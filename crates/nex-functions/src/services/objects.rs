//! Buckets of objects: values of any size, in chunks.

use std::{
    collections::{HashMap, hash_map::Entry},
    error::Error,
};

use async_nats::jetstream::object_store::{
    self, DeleteErrorKind, InfoErrorKind, ListerErrorKind, ObjectStore,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use nex_artifact::{LinkPath, NewObject, ObjectReader, Target};
use nex_protocol::ids::unique;

use super::{
    Reach,
    buckets::object_stream,
    error::{ServiceCode, ServiceError},
    whole::{Incomplete, MAX_READS, whole},
};

/// The largest object that a function gets or puts: it is in the function's memory as a whole.
pub(super) const MAX_OBJECT_BYTES: usize = 16 * 1024 * 1024;
/// The most objects that are listed.
const MAX_OBJECTS: usize = 10_000;
/// The longest name, in bytes; it is part of a subject, in base64.
const MAX_NAME_BYTES: usize = 1024;

/// What is known about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub name: String,
    /// The bucket that it is in.
    pub bucket: String,
    /// Identifies this version of it.
    pub nuid: String,
    /// Its size in bytes.
    pub size: usize,
    /// When it was stored, as in RFC 3339.
    pub modified: String,
    /// How many parts it is stored in.
    pub chunks: usize,
    /// `SHA-256=` and the digest in URL-safe base64.
    pub digest: String,
}

/// The objects of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObjects {
    bucket: String,
    /// The metadata of the objects.
    pub objects: Vec<ObjectInfo>,
    /// The number of objects that are left out, because what is stored about them cannot be read.
    pub unreadable: usize,
}

impl ListedObjects {
    /// A line for the function's log where objects are left out.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Self {
            bucket, unreadable, ..
        } = self;
        (*unreadable > 0).then(|| {
            format!(
                "objects of the bucket `{bucket}` left out of its list: {unreadable}, whose \
                 metadata cannot be read; `nats object ls {bucket}` may tell more"
            )
        })
    }
}

impl From<object_store::ObjectInfo> for ObjectInfo {
    fn from(info: object_store::ObjectInfo) -> Self {
        let modified = info.modified.map(|time| {
            let nanos = time.unix_timestamp_nanos();
            jiff::Timestamp::from_nanosecond(nanos)
                .map_or_else(|_| String::new(), |t| t.to_string())
        });
        Self {
            name: info.name,
            bucket: info.bucket,
            nuid: info.nuid,
            size: info.size,
            modified: modified.unwrap_or_default(),
            chunks: info.chunks,
            digest: info.digest.unwrap_or_default(),
        }
    }
}

/// The bytes of an object. One that is replaced while it is read is read anew.
pub(super) async fn get(reach: &Reach, bucket: &str, name: &str) -> Result<Bytes, ServiceError> {
    valid_name(name)?;
    let mut info = find(reach, LinkPath::new(bucket, name)).await?;
    for _ in 1..MAX_READS {
        match read(reach, bucket, name, info.clone()).await {
            Err(error) if error.code == ServiceCode::Damaged => {
                let present = find(reach, LinkPath::new(bucket, name)).await?;
                if present == info {
                    return Err(error);
                }
                info = present;
            }
            read => return read,
        }
    }
    read(reach, bucket, name, info).await
}

/// The content that some metadata describes. `bucket` and `name` are those that the function knows.
async fn read(
    reach: &Reach,
    bucket: &str,
    name: &str,
    info: object_store::ObjectInfo,
) -> Result<Bytes, ServiceError> {
    if info.size > MAX_OBJECT_BYTES {
        return Err(too_large(info.size));
    }
    let mut reader = ObjectReader::new(reach.buckets.context(), info);
    let mut bytes = BytesMut::new();
    loop {
        match reader.next().await {
            Ok(Some(chunk)) => {
                if bytes.is_empty() {
                    // The size may not be true; the number of chunks is, now that one has come.
                    let info = reader.info();
                    bytes.reserve(info.size.min(chunk.len().saturating_mul(info.chunks)));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(None) => return Ok(bytes.freeze()),
            Err(error) if error.is_damage() => {
                let text = format!(
                    "the object `{name}` in the bucket `{bucket}` is damaged: {}; put it again",
                    nexlet::Chain(&error)
                );
                return Err(ServiceError::new(ServiceCode::Damaged, text));
            }
            Err(error) => return Err(failed(reach, "get", bucket, name, &error)),
        }
    }
}

pub(super) async fn put(
    reach: &Reach,
    bucket: &str,
    name: &str,
    value: Bytes,
) -> Result<ObjectInfo, ServiceError> {
    valid_name(name)?;
    if value.len() > MAX_OBJECT_BYTES {
        return Err(too_large(value.len()));
    }
    let store = open(reach, bucket).await?;
    // What cannot be read is replaced too; its chunks are not known.
    let replaced = store.info(name).await.ok();
    let object = NewObject {
        bucket: bucket.to_owned(),
        name: name.to_owned(),
        nuid: unique(),
        content: value,
    };
    let stored = object.store(reach.buckets.context(), replaced.as_ref());
    match stored.await {
        Ok(info) => Ok(info.into()),
        Err(error) => {
            let error = failed(reach, "put", bucket, name, &error);
            let (stream, subjects) = (object_stream(bucket), format!("$O.{bucket}.C"));
            Err(reach.buckets.reasoned(error, &stream, &subjects).await)
        }
    }
}

pub(super) async fn info(
    reach: &Reach,
    bucket: &str,
    name: &str,
) -> Result<ObjectInfo, ServiceError> {
    valid_name(name)?;
    let store = open(reach, bucket).await?;
    let info = store.info(name).await.map_err(|error| match error.kind() {
        InfoErrorKind::NotFound => no_object(bucket, name),
        _ => failed(reach, "look up", bucket, name, &error),
    })?;
    match info.deleted {
        true => Err(no_object(bucket, name)),
        false => Ok(info.into()),
    }
}

pub(super) async fn delete(reach: &Reach, bucket: &str, name: &str) -> Result<(), ServiceError> {
    valid_name(name)?;
    let store = open(reach, bucket).await?;
    store
        .delete(name)
        .await
        .map_err(|error| match error.kind() {
            DeleteErrorKind::NotFound => no_object(bucket, name),
            _ => failed(reach, "delete", bucket, name, &error),
        })
}

pub(super) async fn list(reach: &Reach, bucket: &str) -> Result<ListedObjects, ServiceError> {
    whole(&reach.client, || read_list(reach, bucket)).await
}

async fn read_list(reach: &Reach, bucket: &str) -> Result<ListedObjects, Incomplete> {
    let store = open(reach, bucket).await.map_err(Incomplete::at_start)?;
    let unlisted = |error: &(dyn Error + 'static)| {
        reach.buckets.forget_objects(bucket);
        let what = format!("failed to list the objects of the bucket `{bucket}`");
        Incomplete::Broken(ServiceError::of_stream(
            &what,
            &object_stream(bucket),
            error,
        ))
    };
    let mut objects: Vec<ObjectInfo> = Vec::new();
    // An object that is put during the list comes twice.
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut unreadable = 0;
    let mut listed = store.list().await.map_err(|error| unlisted(&error))?;
    while let Some(info) = listed.next().await {
        match info {
            Ok(info) => match places.entry(info.name.clone()) {
                Entry::Occupied(place) => objects[*place.get()] = info.into(),
                Entry::Vacant(place) => {
                    place.insert(objects.len());
                    objects.push(info.into());
                }
            },
            // One that cannot be read says nothing about the others.
            Err(error) if error.kind() == ListerErrorKind::Other => unreadable += 1,
            Err(error) => return Err(unlisted(&error)),
        }
        if objects.len() + unreadable > MAX_OBJECTS {
            let text = format!(
                "the bucket `{bucket}` has too many objects to list: {MAX_OBJECTS} at most"
            );
            let refused = ServiceError::new(ServiceCode::TooLarge, text);
            return Err(Incomplete::Refused(refused));
        }
    }
    Ok(ListedObjects {
        bucket: bucket.to_owned(),
        objects,
        unreadable,
    })
}

/// Looks up the object at the end of a path of links.
///
/// Each bucket on the way is one that the function may read: whoever made a link may have more
/// rights than the function.
async fn find(reach: &Reach, mut path: LinkPath) -> Result<object_store::ObjectInfo, ServiceError> {
    loop {
        let Target { bucket, name } = path.target();
        let create = !path.is_linked() && reach.grants.create_buckets();
        let on_the_way = |mut error: ServiceError| {
            if path.is_linked() {
                error.text.push_str(&format!("; links led there: {path}"));
            }
            error
        };
        reach.grants.objects(bucket).map_err(on_the_way)?;
        let store = reach.buckets.objects(bucket, create).await;
        let store = store.map_err(on_the_way)?.bucket;
        let found = store.info(name).await.map_err(|error| match error.kind() {
            InfoErrorKind::NotFound => no_object(bucket, name),
            _ => failed(reach, "get", bucket, name, &error),
        });
        let mut info = found.map_err(on_the_way)?;
        if info.deleted {
            return Err(on_the_way(no_object(bucket, name)));
        }
        let followed = path.follow(&info);
        if !followed.map_err(|error| ServiceError::new(ServiceCode::BadLink, error.to_string()))? {
            // Where it is, not what it says.
            info.bucket.clone_from(&path.target().bucket);
            return Ok(info);
        }
    }
}

/// The bucket, after the check that it may be used.
async fn open(reach: &Reach, bucket: &str) -> Result<ObjectStore, ServiceError> {
    reach.grants.objects(bucket)?;
    let create = reach.grants.create_buckets();
    Ok(reach.buckets.objects(bucket, create).await?.bucket)
}

fn valid_name(name: &str) -> Result<(), ServiceError> {
    match name.is_empty() || name.len() > MAX_NAME_BYTES {
        true => Err(invalid(name)),
        false => Ok(()),
    }
}

fn invalid(name: &str) -> ServiceError {
    let shown: String = name.chars().take(64).collect();
    let text = format!("invalid object name `{shown}`: want 1 to {MAX_NAME_BYTES} bytes");
    ServiceError::new(ServiceCode::BadRequest, text)
}

fn no_object(bucket: &str, name: &str) -> ServiceError {
    let text = format!("there is no object `{name}` in the bucket `{bucket}`");
    ServiceError::new(ServiceCode::NotFound, text)
}

fn too_large(bytes: usize) -> ServiceError {
    let text = format!("the object has {bytes} bytes: functions take {MAX_OBJECT_BYTES} at most");
    ServiceError::new(ServiceCode::TooLarge, text)
}

/// A failure of the bucket itself. It may be gone, so it is looked up again by the next who asks.
fn failed(
    reach: &Reach,
    what: &str,
    bucket: &str,
    name: &str,
    error: &(dyn Error + 'static),
) -> ServiceError {
    reach.buckets.forget_objects(bucket);
    let text = format!("failed to {what} the object `{name}` in the bucket `{bucket}`");
    ServiceError::of_stream(&text, &object_stream(bucket), error)
}
