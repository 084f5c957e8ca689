//! The chunks of one content, sent by whoever is first.

use std::{collections::VecDeque, future::IntoFuture as _, time::Duration};

use async_nats::{
    HeaderMap, Request, RequestErrorKind,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::context::{PublishAckFuture, PublishErrorKind},
};
use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::AsyncReadExt as _,
    time::{Instant, sleep},
};
use tracing::debug;

use super::{Content, bucket::Bucket};
use crate::{digest::Digest, error::UploadError};

/// How many chunks are under way at a time.
const WINDOW: usize = 16;
/// The shortest and the longest pause between two looks at another upload.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// Limit for another upload to store no chunk before its sender is looked for. It is longer than a
/// sender takes to connect again.
const QUIET: Duration = Duration::from_millis(500);
/// Limit for another upload to store no chunk before it counts as given up, whoever sends it.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// Limit for the look for a sender. The server says at once that there is none.
const LOOK_LIMIT: Duration = Duration::from_millis(250);

pub(super) enum Sent {
    Done,
    /// Somebody else is sending, or was, the same content.
    Taken,
}

/// Sends a content and names it; leaves nothing behind where that fails.
pub(super) async fn send(
    bucket: &Bucket,
    content: &Content,
    progress: &impl Fn(u64, u64),
) -> Result<Sent, UploadError> {
    let mut reader = Reader::open(content, bucket.chunk_bytes()).await?;
    let subject = bucket.chunks(&content.digest.to_string());
    // Nothing comes on it: the server tells those who wait for this upload that somebody listens, and
    // when the sender has gone, that nobody does.
    let _sending = bucket
        .context
        .client()
        .subscribe(sender(bucket, content))
        .await;
    if let Some(first) = reader.next().await? {
        let mut headers = HeaderMap::new();
        // The server takes it only while nobody else has begun.
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
        let sent = first.len() as u64;
        let published = bucket
            .context
            .publish_with_headers(subject.clone(), headers, first)
            .await;
        let stored = published.map_err(|error| bucket.send_error(error))?.await;
        match stored {
            Ok(_) => progress(sent, content.size),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                return Ok(Sent::Taken);
            }
            Err(error) => return Err(bucket.send_error(error)),
        }
    }
    let finished = finish(bucket, content, &mut reader, &subject, progress).await;
    if !matches!(finished, Ok(Sent::Done)) {
        // The error matters more than what it leaves behind, which the next upload deletes.
        bucket.purge(subject).await.ok();
    }
    finished
}

async fn finish(
    bucket: &Bucket,
    content: &Content,
    reader: &mut Reader<'_>,
    subject: &str,
    progress: &impl Fn(u64, u64),
) -> Result<Sent, UploadError> {
    let mut acks: VecDeque<PublishAckFuture> = VecDeque::with_capacity(WINDOW);
    while let Some(chunk) = reader.next().await? {
        if acks.len() == WINDOW
            && let Some(oldest) = acks.pop_front()
        {
            oldest
                .into_future()
                .await
                .map_err(|error| bucket.send_error(error))?;
        }
        let ack = bucket.context.publish(subject.to_owned(), chunk).await;
        acks.push_back(ack.map_err(|error| bucket.send_error(error))?);
        progress(reader.read, content.size);
    }
    for ack in acks {
        ack.into_future()
            .await
            .map_err(|error| bucket.send_error(error))?;
    }
    reader.check()?;
    if bucket.count(subject).await? != bucket.chunk_count(content) {
        // We were so slow that somebody took us for dead and sends the same.
        return Ok(Sent::Taken);
    }
    bucket.name_chunks(content).await?;
    Ok(Sent::Done)
}

/// The subject on which the sender of a content listens while it sends. Workloads may not.
fn sender(bucket: &Bucket, content: &Content) -> String {
    format!("_INBOX.NEX.upload.{}.{}", bucket.name, content.digest)
}

/// Returns whether the server says that nobody sends a content. It says nothing where this client may
/// not ask.
async fn is_abandoned(bucket: &Bucket, content: &Content) -> bool {
    let request = Request::new().timeout(Some(LOOK_LIMIT));
    let client = bucket.context.client();
    let asked = client.send_request(sender(bucket, content), request).await;
    asked.is_err_and(|error| error.kind() == RequestErrorKind::NoResponders)
}

/// Waits until somebody else's upload of the same content is complete, or given up.
pub(super) async fn wait_for_other(bucket: &Bucket, content: &Content) -> Result<(), UploadError> {
    debug!(digest = %content.digest, "waiting for another upload of the same content");
    let subject = bucket.chunks(&content.digest.to_string());
    let mut pause = PAUSE.0;
    let mut seen = None;
    let mut moved = Instant::now();
    loop {
        if bucket.find(content).await?.is_some() {
            return Ok(());
        }
        let last = bucket.stream.direct_get_last_for_subject(&subject).await;
        let last = last.ok().map(|message| message.sequence);
        let Some(last) = last else {
            // It failed, and took its chunks away.
            return Ok(());
        };
        if seen != Some(last) {
            (seen, moved) = (Some(last), Instant::now());
        }
        let quiet = moved.elapsed();
        if quiet > GIVEN_UP || (quiet > QUIET && is_abandoned(bucket, content).await) {
            return Ok(bucket.purge_until(subject, last).await?);
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// A file in chunks, which must turn out to be the content that was examined.
struct Reader<'a> {
    content: &'a Content,
    file: File,
    hash: Sha256,
    chunk_bytes: usize,
    read: u64,
}

impl<'a> Reader<'a> {
    async fn open(content: &'a Content, chunk_bytes: usize) -> Result<Self, UploadError> {
        let file = File::open(&content.path).await;
        let file = file.map_err(|source| UploadError::File {
            path: content.path.clone(),
            source,
        })?;
        Ok(Self {
            content,
            file,
            hash: Sha256::new(),
            chunk_bytes,
            read: 0,
        })
    }

    /// The next full chunk, or the rest; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, UploadError> {
        let mut chunk = BytesMut::with_capacity(self.chunk_bytes);
        let mut part = (&mut self.file).take(self.chunk_bytes as u64);
        loop {
            let read = part.read_buf(&mut chunk).await;
            let count = read.map_err(|source| UploadError::File {
                path: self.content.path.clone(),
                source,
            })?;
            if count == 0 {
                break;
            }
        }
        self.hash.update(&chunk);
        self.read += chunk.len() as u64;
        Ok((!chunk.is_empty()).then(|| chunk.freeze()))
    }

    fn check(&mut self) -> Result<(), UploadError> {
        if Digest::of(std::mem::take(&mut self.hash)) == self.content.digest {
            Ok(())
        } else {
            Err(UploadError::Changed(self.content.path.clone()))
        }
    }
}
