//! Room for one more object: the oldest go.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::object_store::{ListerErrorKind, ObjectInfo};
use futures_util::StreamExt as _;
use tracing::{info, warn};

use super::bucket::Bucket;
use crate::{
    error::{StoreError, UploadError},
    object,
};

/// What the store adds to each object, in bytes, and some more to be safe.
const OVERHEAD_BYTES: u64 = 64 * 1024;
/// What the store adds to each chunk, in bytes.
const CHUNK_OVERHEAD_BYTES: u64 = 256;
/// After how long chunks without a name are those of an upload that was given up.
const ORPHAN_AGE: Duration = Duration::from_secs(600);

/// Deletes what was not used for longest until `size` bytes fit.
pub(super) async fn make(bucket: &Bucket, size: u64) -> Result<(), UploadError> {
    let info = bucket.stream.get_info().await.map_err(StoreError::other)?;
    // Negative: no limit but the server's own, of which we hear when we send.
    let Ok(limit) = u64::try_from(info.config.max_bytes) else {
        return Ok(());
    };
    let needed = size + OVERHEAD_BYTES + size / bucket.chunk_bytes() as u64 * CHUNK_OVERHEAD_BYTES;
    if needed > limit {
        return Err(UploadError::TooLarge {
            bucket: bucket.name.clone(),
            size,
            limit,
        });
    }
    if limit.saturating_sub(info.state.bytes) >= needed {
        return Ok(());
    }

    let mut objects = objects(bucket).await?;
    objects.sort_by_key(used);
    delete_orphans(bucket, &objects).await?;
    for object in objects {
        // The stream is asked each time: the size of an object is what its writer says.
        let info = bucket.stream.get_info().await.map_err(StoreError::other)?;
        if limit.saturating_sub(info.state.bytes) >= needed {
            break;
        }
        info!(object = object.name, "artifact is deleted to make room");
        // The name first: what has a name is complete.
        bucket.purge(bucket.meta(&object.name)).await?;
        if object::is_token(&object.nuid) {
            bucket.purge(bucket.chunks(&object.nuid)).await?;
        }
    }
    Ok(())
}

fn used(object: &ObjectInfo) -> SystemTime {
    object
        .modified
        .map_or(SystemTime::UNIX_EPOCH, SystemTime::from)
}

/// All objects that have a name.
async fn objects(bucket: &Bucket) -> Result<Vec<ObjectInfo>, UploadError> {
    let store = bucket
        .context
        .get_object_store(&bucket.name)
        .await
        .map_err(StoreError::other)?;
    let mut list = store.list().await.map_err(StoreError::other)?;
    let mut objects = Vec::new();
    while let Some(object) = list.next().await {
        match object {
            Ok(object) => objects.push(object),
            // It takes its room, and the others can go.
            Err(error) if error.kind() == ListerErrorKind::Other => {
                warn!(%error, bucket = bucket.name, "ignored an object that cannot be read");
            }
            Err(error) => return Err(StoreError::other(error).into()),
        }
    }
    Ok(objects)
}

/// Deletes the chunks of uploads that were given up.
async fn delete_orphans(bucket: &Bucket, objects: &[ObjectInfo]) -> Result<(), UploadError> {
    let named: HashSet<String> = objects
        .iter()
        .map(|object| bucket.chunks(&object.nuid))
        .collect();
    let subjects = bucket.stream.info_with_subjects(bucket.chunks(">")).await;
    let mut subjects = subjects.map_err(StoreError::other)?;
    while let Some(subject) = subjects.next().await {
        let (subject, _chunks) = subject.map_err(StoreError::other)?;
        if named.contains(&subject) {
            continue;
        }
        let Ok(last) = bucket.stream.direct_get_last_for_subject(&subject).await else {
            continue;
        };
        let age = SystemTime::from(last.time).elapsed().unwrap_or_default();
        if age > ORPHAN_AGE {
            bucket.purge(subject).await?;
        }
    }
    Ok(())
}
