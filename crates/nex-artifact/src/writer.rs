//! Objects of any bucket, written whole from memory.

use std::{
    collections::{HashMap, VecDeque},
    future::IntoFuture as _,
};

use async_nats::{
    HeaderMap, datetime,
    header::NATS_ROLLUP,
    jetstream::{
        context::{Context, PublishAckFuture, PublishError},
        object_store::{ObjectInfo, ObjectOptions},
    },
};
use bytes::Bytes;
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};
use tracing::debug;

use crate::{
    digest::Digest,
    error::StoreError,
    object::{chunk_bytes, chunks_subject, is_token, metadata_subject, stream_name},
};

/// Number of chunks under way at a time.
const WINDOW: usize = 16;

/// An object to write.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// The bucket.
    pub bucket: String,
    /// Name of the object.
    pub name: String,
    /// An id that no other object has.
    pub nuid: String,
    /// Content of the object.
    pub content: Bytes,
}

impl NewObject {
    /// Stores the object in place of `replaced`, and returns its metadata. Where that fails, the chunks
    /// that were stored are deleted. Not cancel safe: chunks stay.
    ///
    /// # Errors
    /// The refusal of the server is among the causes.
    pub async fn store(
        self,
        context: &Context,
        replaced: Option<&ObjectInfo>,
    ) -> Result<ObjectInfo, StoreError> {
        let chunks = chunks_subject(&self.bucket, &self.nuid);
        let chunk_bytes = chunk_bytes(context.client().max_payload());
        let stream = context.get_stream_no_info(stream_name(&self.bucket)).await;
        let stream = stream.map_err(StoreError::other)?;
        let stored = async {
            let digest = self.send_chunks(context, &chunks, chunk_bytes).await?;
            let info = self.info(digest, chunk_bytes);
            send_metadata(context, &info).await?;
            Ok::<_, PublishError>(info)
        };
        let info = match stored.await {
            Ok(info) => info,
            Err(error) => {
                if let Err(error) = stream.purge().filter(&chunks).await {
                    debug!(%error, chunks, "chunks of an object stay that could not be stored");
                }
                return Err(StoreError::other(error));
            }
        };
        if let Some(replaced) = replaced.filter(|it| is_token(&it.nuid)) {
            let old = chunks_subject(&self.bucket, &replaced.nuid);
            stream
                .purge()
                .filter(&old)
                .await
                .map_err(StoreError::other)?;
        }
        Ok(info)
    }

    /// Sends the chunks and returns the digest. At its end no chunk is under way any more.
    async fn send_chunks(
        &self,
        context: &Context,
        subject: &str,
        chunk_bytes: usize,
    ) -> Result<Digest, PublishError> {
        let mut hash = Sha256::new();
        let mut acks: VecDeque<PublishAckFuture> = VecDeque::with_capacity(WINDOW);
        let mut stored = Ok(());
        for start in (0..self.content.len()).step_by(chunk_bytes) {
            let end = self.content.len().min(start + chunk_bytes);
            let chunk = self.content.slice(start..end);
            hash.update(&chunk);
            if acks.len() == WINDOW
                && let Some(oldest) = acks.pop_front()
            {
                stored = oldest.await.map(drop);
            }
            if stored.is_ok() {
                match context.publish(subject.to_owned(), chunk).await {
                    Ok(ack) => acks.push_back(ack),
                    Err(error) => stored = Err(error),
                }
            }
            if stored.is_err() {
                break;
            }
        }
        // Together: the time of each begins when it is waited for.
        for ack in join_all(acks.into_iter().map(PublishAckFuture::into_future)).await {
            stored = stored.and(ack.map(drop));
        }
        stored.map(|()| Digest::of(hash))
    }

    fn info(&self, digest: Digest, chunk_bytes: usize) -> ObjectInfo {
        ObjectInfo {
            name: self.name.clone(),
            description: None,
            metadata: HashMap::new(),
            headers: None,
            options: Some(ObjectOptions {
                link: None,
                max_chunk_size: Some(chunk_bytes),
            }),
            bucket: self.bucket.clone(),
            nuid: self.nuid.clone(),
            size: self.content.len(),
            chunks: self.content.len().div_ceil(chunk_bytes),
            modified: Some(datetime::now()),
            digest: Some(digest.to_object()),
            deleted: false,
        }
    }
}

/// Stores the metadata of an object in its bucket, in the form that every object store client reads.
pub(crate) async fn send_metadata(
    context: &Context,
    info: &ObjectInfo,
) -> Result<(), PublishError> {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_ROLLUP, "sub");
    let subject = metadata_subject(&info.bucket, &info.name);
    let payload = serde_json::to_vec(info).expect("metadata is text, numbers and maps of text");
    let sent = context.publish_with_headers(subject, headers, payload.into());
    sent.await?.await.map(drop)
}
