//! The handle, and requests to one addressee.

use std::{error::Error, time::Duration};

use async_nats::Message;
use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use nex_nats::{Denials, Losses, RETURN_PAUSE, RETURN_PERIOD};
use nex_protocol::{
    BidId, Namespace, NodeId, StartWorkloadRequest, Subject,
    control::{Bid, NodeInfoResponse},
    workload::StartWorkloadResponse,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};

use crate::{
    error::{ClientError, check},
    limits,
    link::Link,
    roster::Roster,
    rounds::Rounds,
};

/// Asks nodes for things, in the name of one namespace. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) nats: async_nats::Client,
    pub(crate) denials: Denials,
    pub(crate) losses: Losses,
    pub(crate) namespace: Namespace,
    pub(crate) roster: Roster,
    pub(crate) rounds: Rounds,
}

impl Client {
    /// A client on this connection, for this namespace.
    #[must_use]
    pub fn new(link: impl Into<Link>, namespace: Namespace) -> Self {
        let Link {
            nats,
            denials,
            losses,
        } = link.into();
        Self {
            nats,
            denials,
            losses,
            namespace,
            roster: Roster::default(),
            rounds: Rounds::default(),
        }
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The connection.
    #[must_use]
    pub fn nats(&self) -> &async_nats::Client {
        &self.nats
    }

    /// When the connection was lost.
    #[must_use]
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// The same client in another namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: Namespace) -> Self {
        Self {
            nats: self.nats.clone(),
            denials: self.denials.clone(),
            losses: self.losses.clone(),
            namespace,
            roster: self.roster.clone(),
            rounds: self.rounds.clone(),
        }
    }

    /// Asks one node about itself and its nexlets.
    ///
    /// # Errors
    /// [`ClientError::NodeNotFound`] when nobody listens under that id; [`ClientError::NoAnswer`],
    /// which names the node, when it says nothing.
    pub async fn node_info(&self, node: &NodeId) -> Result<NodeInfoResponse, ClientError> {
        let subject = Subject::NodeInfo(node.clone());
        let reply = self
            .request_node(node, &subject, "{}".into(), limits::NODE)
            .await?;
        check(&reply)?;
        decode(&reply.payload)
    }

    /// Asks one node; errors name it.
    pub(crate) async fn request_node(
        &self,
        node: &NodeId,
        subject: &Subject,
        body: Bytes,
        limit: Duration,
    ) -> Result<Message, ClientError> {
        let answer = self.request(subject, body, limit).await;
        answer.map_err(|error| error.of_node(node))
    }

    /// Sends a request that takes long, and that `node` will answer. The wait ends early when the node is
    /// absent: killed, suspended, or started again.
    pub(crate) async fn request_watched(
        &self,
        node: &NodeId,
        subject: &Subject,
        body: Bytes,
        limit: Duration,
    ) -> Result<Message, ClientError> {
        let sent = Instant::now();
        tokio::select! {
            biased;
            answer = self.request(subject, body, limit) => answer,
            absent = self.absence(node.clone(), sent) => Err(absent),
        }
    }

    /// Deploys on a bid of an auction in this namespace. Takes a minute at most.
    ///
    /// # Errors
    /// What the node or the nexlet answered; [`ClientError::TimedOut`] when nobody did, and then
    /// the workload may run all the same.
    pub async fn deploy(
        &self,
        bid: &BidId,
        request: &StartWorkloadRequest,
    ) -> Result<StartWorkloadResponse, ClientError> {
        let subject = Subject::Deploy(self.namespace.clone(), bid.clone());
        let reply = self
            .request(&subject, encode(request), limits::DEPLOY)
            .await?;
        check(&reply)?;
        decode(&reply.payload)
    }

    /// [`deploy`](Self::deploy) within a limit, heard by the bidder alone where that has a subject
    /// for it, and who did it. Where the bidder is known, the wait ends when it is absent.
    pub(crate) async fn deploy_within(
        &self,
        bid: &Bid,
        bidder: Option<&NodeId>,
        request: &StartWorkloadRequest,
        limit: Duration,
    ) -> Result<(StartWorkloadResponse, Option<NodeId>), ClientError> {
        let (namespace, id) = (self.namespace.clone(), bid.bidder_id.clone());
        let subject = match &bid.node_id {
            Some(node) => Subject::DeployTo(namespace, id, node.clone()),
            None => Subject::Deploy(namespace, id),
        };
        let body = encode(request);
        let reply = match bidder {
            Some(node) => self.request_watched(node, &subject, body, limit).await,
            None => self.request(&subject, body, limit).await,
        }?;
        check(&reply)?;
        let node = crate::error::node_of(&reply);
        Ok((decode(&reply.payload)?, node))
    }

    async fn request(
        &self,
        subject: &Subject,
        body: Bytes,
        limit: Duration,
    ) -> Result<Message, ClientError> {
        let request = || {
            async_nats::Request::new()
                .payload(body.clone())
                .timeout(Some(limit))
        };
        self.send(&subject.to_string(), request, limit).await
    }

    /// Returns the result of a question to JetStream, unless the server refuses it or the connection
    /// is lost.
    pub(crate) async fn unless_denied<T>(
        &self,
        stream: &str,
        asking: impl Future<Output = T>,
    ) -> Result<T, ClientError> {
        let (denied, lost) = (self.denials.of_stream(stream), self.losses.next());
        tokio::select! {
            biased;
            result = asking => Ok(result),
            subject = denied => Err(ClientError::Denied { subject }),
            () = lost => Err(ClientError::ConnectionLost),
        }
    }

    /// Sends a request with that limit, and waits for the answer. On a connection that has just come back,
    /// a request without a recipient is sent again for a while: the recipient may not be back yet on a
    /// server that was restarted.
    pub(crate) async fn send(
        &self,
        subject: &str,
        request: impl Fn() -> async_nats::Request,
        limit: Duration,
    ) -> Result<Message, ClientError> {
        loop {
            let lost_lately = self.losses.was_lost_within(RETURN_PERIOD);
            let denied = self.denial(subject);
            let answer = tokio::select! {
                biased;
                sent = self.nats.send_request(subject.to_owned(), request()) => {
                    sent.map_err(|error| ClientError::unanswered(error, limit))
                }
                denial = denied => Err(denial),
            };
            match answer {
                Err(ClientError::NoNodes) if lost_lately => sleep(RETURN_PAUSE).await,
                answer => return answer,
            }
        }
    }

    /// The error of a request that was not sent.
    pub(crate) fn unsent(&self, error: impl Error + Send + Sync + 'static) -> ClientError {
        match self.losses.is_down() {
            true => ClientError::ConnectionLost,
            false => ClientError::send(error),
        }
    }

    /// Resolves with the reason when no answer can come on that subject any more: the server refuses
    /// it, or the connection is lost.
    pub(crate) fn denial(&self, subject: &str) -> BoxFuture<'static, ClientError> {
        let (denied, deaf) = (self.denials.of(subject), self.denials.of_inbox());
        let lost = self.losses.next();
        let subject = subject.to_owned();
        let denial = async move {
            tokio::select! {
                () = denied => ClientError::Denied { subject },
                subject = deaf => ClientError::Unheard { subject },
                () = lost => ClientError::ConnectionLost,
            }
        };
        denial.boxed()
    }
}

/// A message of ours as JSON.
pub(crate) fn encode(message: &impl Serialize) -> Bytes {
    let body = serde_json::to_vec(message);
    body.expect("messages are maps with text keys, which always encode")
        .into()
}

pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(ClientError::Malformed)
}
