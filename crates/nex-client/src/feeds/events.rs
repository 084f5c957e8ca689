//! What is published about nodes, nexlets and workloads.

use std::fmt;

use futures_util::{Stream, stream::unfold};
use jiff::Timestamp;
use nex_protocol::{Namespace, Subject, subject::pattern};
use serde_json::Value;

use super::reader::{FeedError, FeedReader, FeedSource};
use crate::client::Client;

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Of this namespace instead of the client's; `system` means all, and those of nodes too.
    pub namespace: Option<Namespace>,
    /// From this time on; all that are kept where it is not set.
    pub since: Option<Timestamp>,
    /// Whether to go on with what happens from now on, or end where now is.
    pub follow: bool,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct EventEntry {
    /// When the server got it.
    pub time: Timestamp,
    /// Who it is about: a namespace, a node or a nexlet.
    pub from: String,
    /// Its name, in upper case.
    pub name: String,
    /// What it says; a text where it is not JSON.
    pub body: Value,
}

/// Events as they come.
pub struct Events {
    reader: FeedReader,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("source", &self.reader.kind())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Reads events. When this returns, nothing that happens from now on is missed.
    ///
    /// Without the stream of the feeds and without `follow` there is nothing to read;
    /// [`Events::source`] tells.
    ///
    /// # Errors
    /// When reading cannot begin.
    pub async fn events(&self, query: &EventQuery) -> Result<Events, FeedError> {
        let namespace = query.namespace.as_ref().unwrap_or(&self.namespace);
        let filter = pattern::events(namespace);
        Ok(Events {
            reader: FeedReader::open(self, filter, query.since, query.follow).await?,
        })
    }
}

impl Events {
    /// Where the events come from.
    #[must_use]
    pub fn source(&self) -> FeedSource {
        self.reader.kind()
    }

    /// The next event; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// Once, when the connection was closed before the end.
    pub async fn next(&mut self) -> Result<Option<EventEntry>, FeedError> {
        loop {
            let Some(message) = self.reader.next().await? else {
                return Ok(None);
            };
            if let Some(Subject::Event(from, name)) = Subject::parse(&message.subject) {
                let body = serde_json::from_slice(&message.payload).unwrap_or_else(|_no_json| {
                    Value::String(String::from_utf8_lossy(&message.payload).into_owned())
                });
                return Ok(Some(EventEntry {
                    time: message.time,
                    from,
                    name,
                    body,
                }));
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<EventEntry, FeedError>> {
        unfold(self, |mut events| async move {
            let next = events.next().await.transpose()?;
            Some((next, events))
        })
    }
}
