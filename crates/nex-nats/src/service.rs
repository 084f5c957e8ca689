//! A NATS micro service: endpoints on subjects with wildcards, and discovery under `$SRV`.
//!
//! Our own, because the one of async-nats lists endpoints in no order and takes no queue group per
//! endpoint once the service has one; peers and tools rely on both.
//!
//! ```text
//! Service::builder(…).start(endpoints) -> Requests ── next() ──> Request ── respond() ──> caller
//!                                            └ dropped: endpoints and discovery end
//! ```

mod discovery;
mod stats;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use async_nats::{Client, HeaderMap, Message, PublishError, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::SelectAll};
use nex_protocol::{ErrorCode, ids::unique};

use crate::{
    barrier::{BarrierError, barrier},
    envelope::error_headers,
    reply::reply_subject,
};
use discovery::{Discovery, Identity};
use stats::EndpointStats;

/// One endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name, which tools show.
    pub name: &'static str,
    /// What it subscribes to; may have wildcards.
    pub subject: String,
}

/// A service that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Tools refuse such a name.
    #[error("invalid service name `{0}`: want letters, digits, `-` and `_`")]
    InvalidName(String),
    /// A subscription.
    #[error("failed to subscribe to `{subject}`")]
    Subscribe {
        /// The subject.
        subject: String,
        /// Why.
        #[source]
        source: SubscribeError,
    },
    /// The server did not confirm the subscriptions.
    #[error("failed to confirm the subscriptions of the service")]
    Barrier(#[source] BarrierError),
}

/// Makes a service.
#[derive(Debug)]
pub struct Service;

impl Service {
    /// Begins a service; the version should be SemVer.
    #[must_use]
    pub fn builder(
        client: &Client,
        name: &str,
        version: &str,
        description: &str,
    ) -> ServiceBuilder {
        ServiceBuilder {
            client: client.clone(),
            name: name.to_owned(),
            version: version.to_owned(),
            description: description.to_owned(),
            queue_group: "q".to_owned(),
            other_groups: Vec::new(),
        }
    }
}

/// A service that does not serve yet.
#[derive(Debug)]
pub struct ServiceBuilder {
    client: Client,
    name: String,
    version: String,
    description: String,
    queue_group: String,
    other_groups: Vec<(&'static str, String)>,
}

impl ServiceBuilder {
    /// The queue group of all endpoints; `q` where it is not set.
    #[must_use]
    pub fn queue_group(mut self, group: impl Into<String>) -> Self {
        self.queue_group = group.into();
        self
    }

    /// The queue group of the endpoint of that name alone.
    #[must_use]
    pub fn queue_group_of(mut self, endpoint: &'static str, group: impl Into<String>) -> Self {
        self.other_groups.push((endpoint, group.into()));
        self
    }

    /// Subscribes everything, and returns when the server knows of it.
    ///
    /// # Errors
    /// When the name is invalid or the connection is closed.
    pub async fn start(self, endpoints: Vec<Endpoint>) -> Result<Requests, ServiceError> {
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if self.name.is_empty() || !self.name.bytes().all(valid) {
            return Err(ServiceError::InvalidName(self.name));
        }

        let mut stats = Vec::with_capacity(endpoints.len());
        let mut sources = SelectAll::new();
        for endpoint in endpoints {
            let group = self.group_of(endpoint.name);
            let subscribed = self
                .client
                .queue_subscribe(endpoint.subject.clone(), group.clone())
                .await;
            let subscriber = subscribed.map_err(|source| ServiceError::Subscribe {
                subject: endpoint.subject.clone(),
                source,
            })?;
            let endpoint_stats = Arc::new(EndpointStats::new(endpoint, group));
            stats.push(Arc::clone(&endpoint_stats));
            sources.push(Source {
                subscriber,
                stats: endpoint_stats,
            });
        }

        let identity = Identity {
            name: self.name,
            id: unique(),
            version: self.version,
            description: self.description,
            started: jiff::Timestamp::now(),
        };
        let discovery = Discovery::start(self.client.clone(), identity, stats).await?;
        barrier(&self.client).await.map_err(ServiceError::Barrier)?;
        Ok(Requests {
            client: self.client,
            sources,
            _discovery: discovery,
        })
    }

    fn group_of(&self, endpoint: &str) -> String {
        let other = self.other_groups.iter().find(|(name, _)| *name == endpoint);
        other.map_or(&self.queue_group, |(_, group)| group).clone()
    }
}

/// One endpoint's subscription.
struct Source {
    subscriber: Subscriber,
    stats: Arc<EndpointStats>,
}

impl Stream for Source {
    type Item = (Arc<EndpointStats>, Message);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.subscriber.poll_next_unpin(context);
        next.map(|message| Some((Arc::clone(&self.stats), message?)))
    }
}

/// The requests of a running service. Each endpoint buffers a bounded number of them, beyond which
/// the client drops and reports a slow consumer. Dropped, the service ends.
pub struct Requests {
    client: Client,
    sources: SelectAll<Source>,
    _discovery: Discovery,
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests")
            .field("endpoints", &self.sources.len())
            .finish_non_exhaustive()
    }
}

impl Requests {
    /// The next request of any endpoint; `None` when the connection was closed, or every endpoint
    /// was left. Cancel safe.
    pub async fn next(&mut self) -> Option<Request> {
        StreamExt::next(self).await
    }

    /// Takes no more requests on the endpoint of that name; those that are here still come.
    pub async fn leave(&mut self, endpoint: &str) {
        for source in self.sources.iter_mut() {
            if source.stats.endpoint.name == endpoint {
                // Fails only on a closed connection, which has left already.
                source.subscriber.drain().await.ok();
            }
        }
    }

    /// [`leave`](Self::leave) for every endpoint: after the requests that are here, `next` is `None`.
    pub async fn leave_all(&mut self) {
        for source in self.sources.iter_mut() {
            source.subscriber.drain().await.ok();
        }
    }
}

impl Stream for Requests {
    type Item = Request;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Request>> {
        let next = self.sources.poll_next_unpin(context);
        next.map(|item| {
            let (stats, message) = item?;
            stats.received();
            Some(Request {
                endpoint: stats.endpoint.name,
                message,
                client: self.client.clone(),
                stats,
                received: Instant::now(),
            })
        })
    }
}

/// One request. May be answered any number of times, or never.
#[derive(Debug)]
pub struct Request {
    /// The name of the endpoint it came to.
    pub endpoint: &'static str,
    /// The message as it came.
    pub message: Message,
    client: Client,
    stats: Arc<EndpointStats>,
    received: Instant,
}

impl Request {
    /// The subject it was sent to.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.message.subject
    }

    /// Its body.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.message.headers.as_ref()
    }

    /// Answers it; does nothing where nobody waits for an answer, or it [may not go](reply_subject)
    /// where the asker wants it.
    ///
    /// # Errors
    /// When the answer is larger than the server takes, or the connection is closed.
    pub async fn respond(
        &self,
        headers: Option<HeaderMap>,
        body: Bytes,
    ) -> Result<(), PublishError> {
        self.stats.answered(self.received.elapsed());
        let Some(reply) = reply_subject(&self.message) else {
            return Ok(());
        };
        match headers {
            Some(headers) => self.client.publish_with_headers(reply, headers, body).await,
            None => self.client.publish(reply, body).await,
        }
    }

    /// Answers it with an error.
    ///
    /// # Errors
    /// As [`respond`](Self::respond).
    pub async fn respond_error(
        &self,
        code: ErrorCode,
        text: &str,
        body: Bytes,
    ) -> Result<(), PublishError> {
        self.respond_error_with(code, text, HeaderMap::new(), body)
            .await
    }

    /// Answers it with an error and more headers.
    ///
    /// # Errors
    /// As [`respond`](Self::respond).
    pub async fn respond_error_with(
        &self,
        code: ErrorCode,
        text: &str,
        more: HeaderMap,
        body: Bytes,
    ) -> Result<(), PublishError> {
        self.stats.failed(code, text);
        let mut headers = error_headers(code, text);
        for (name, values) in more.iter() {
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
        self.respond(Some(headers), body).await
    }
}
