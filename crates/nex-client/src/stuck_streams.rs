//! Streams that take no messages any more.
//!
//! A nats-server that fails to write to a stream, because its disk is full, refuses every later
//! message of that stream until it is restarted. It acknowledges none, and shows nothing of it in
//! the information about the stream. A purge is refused too, with the reason.

use async_nats::jetstream::{self, context::RequestError};
use futures_util::StreamExt as _;
use nex_nats::tells_full_disk;
use serde::Deserialize;
use serde_json::json;

use crate::feeds::stream::context;

/// A subject on which no message is.
const UNUSED_SUBJECT: &str = "$NEX.UNUSED";

/// A failure to look for stuck streams.
#[derive(Debug, thiserror::Error)]
pub enum StuckStreamsError {
    /// The list of streams did not come.
    #[error("failed to list the streams")]
    List(#[source] jetstream::context::StreamsError),
    /// A stream did not answer.
    #[error("failed to ask stream `{stream}`")]
    Ask {
        /// The stream.
        stream: String,
        /// The cause.
        #[source]
        source: RequestError,
    },
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    #[serde(default)]
    description: String,
}

/// Names of the streams of the account that were stuck by a full disk. Changes nothing.
///
/// # Errors
/// A stream, or the list of them, did not answer.
pub async fn stuck_streams(client: &async_nats::Client) -> Result<Vec<String>, StuckStreamsError> {
    let context = context(client);
    let mut names = context.stream_names();
    let mut stuck = Vec::new();
    while let Some(name) = names.next().await {
        let stream = name.map_err(StuckStreamsError::List)?;
        let purge = json!({ "filter": UNUSED_SUBJECT });
        let asked = context.request(format!("STREAM.PURGE.{stream}"), &purge);
        let answer: Answer = asked.await.map_err(|source| StuckStreamsError::Ask {
            stream: stream.clone(),
            source,
        })?;
        let error = answer.error;
        if error.is_some_and(|error| tells_full_disk(&error.description)) {
            stuck.push(stream);
        }
    }
    Ok(stuck)
}
