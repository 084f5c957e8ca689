//! A request to all nodes, and when its answers are complete.
//!
//! ```text
//!   PING ──────┐                 ┌─ pong: who answers, and whom it knows ─┐
//!   request ───┴─► all nodes ────┴─ reply: named, or from a Go node ──────┴─► Tracker ─► done?
//! ```

mod tracker;

use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use nex_nats::request_many::{Gather, Step};
use nex_protocol::{
    MORE_HEADER, NodeId, Subject,
    control::{NodePingRequest, NodePingResponse},
};
use tokio::time::Instant;
use tracing::debug;

use crate::{
    client::{Client, decode, encode},
    error::{ClientError, Refused, check, node_of},
};
pub(crate) use tracker::{Patience, Rule};
use tracker::{Tracker, Verdict};

/// A request under way.
pub(crate) struct Broadcast {
    pongs: Option<Gather>,
    replies: Option<Gather>,
    tracker: Tracker,
}

/// What came in.
pub(crate) enum Heard {
    /// A node says who it is.
    Pong(NodePingResponse),
    /// A reply to the request.
    Reply(Reply),
}

/// A reply to the request.
pub(crate) struct Reply {
    /// Who sent it; `None` for a Go node.
    pub(crate) node: Option<NodeId>,
    pub(crate) message: Message,
}

impl Reply {
    pub(crate) fn payload(&self) -> &[u8] {
        &self.message.payload
    }

    /// Whether it is a success.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        check(&self.message)
    }

    fn has_more(&self) -> bool {
        let headers = self.message.headers.as_ref();
        headers.is_some_and(|headers| headers.get(MORE_HEADER).is_some())
    }
}

impl Broadcast {
    /// Sends the request and a ping together.
    pub(crate) async fn send(
        client: &Client,
        subject: &Subject,
        body: Bytes,
        rule: Rule,
        patience: Patience,
    ) -> Result<Self, ClientError> {
        let mut broadcast = Self::ping(client, rule, patience).await?;
        let sent = Gather::request(&client.nats, subject.to_string(), body, None).await;
        broadcast.replies = Some(sent.map_err(ClientError::send)?);
        Ok(broadcast)
    }

    /// Sends only a ping.
    pub(crate) async fn ping(
        client: &Client,
        rule: Rule,
        patience: Patience,
    ) -> Result<Self, ClientError> {
        let body = encode(&NodePingRequest::default());
        let sent = Gather::request(&client.nats, Subject::Ping.to_string(), body, None).await;
        Ok(Self {
            pongs: Some(sent.map_err(ClientError::send)?),
            replies: None,
            tracker: Tracker::new(rule, patience, Instant::now()),
        })
    }

    /// The next pong or reply; `None` when the answers are complete or the limit is over.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        loop {
            let wake = match self.tracker.verdict(Instant::now()) {
                Verdict::Complete => return None,
                Verdict::Until(at) => at,
            };
            let heard = tokio::select! {
                step = step(&mut self.pongs, wake), if self.pongs.is_some() => self.pong(step),
                step = step(&mut self.replies, wake), if self.replies.is_some() => self.reply(step),
                else => return None,
            };
            if heard.is_some() {
                return heard;
            }
        }
    }

    fn pong(&mut self, step: Step) -> Option<Heard> {
        match step {
            Step::Reply(message) => match decode::<NodePingResponse>(&message.payload) {
                Ok(pong) => {
                    self.tracker
                        .pong(&pong.node_id, pong.peers.as_deref(), Instant::now());
                    Some(Heard::Pong(pong))
                }
                Err(error) => {
                    debug!(%error, "a node answered a ping with something else");
                    None
                }
            },
            Step::NoResponders => {
                self.pongs = None;
                if self.replies.is_none() {
                    self.tracker.nobody();
                }
                None
            }
            Step::TimedOut => None,
        }
    }

    fn reply(&mut self, step: Step) -> Option<Heard> {
        match step {
            Step::Reply(message) => {
                let reply = Reply {
                    node: node_of(&message),
                    message: *message,
                };
                self.tracker
                    .reply(reply.node.as_ref(), reply.has_more(), Instant::now());
                Some(Heard::Reply(reply))
            }
            Step::NoResponders => {
                // Nobody will answer, whoever answers the ping.
                self.tracker.nobody();
                None
            }
            Step::TimedOut => None,
        }
    }

    /// Tells that the last reply was a bid.
    pub(crate) fn bid(&mut self) {
        self.tracker.bid(Instant::now());
    }

    /// The nodes that should have answered and have not.
    pub(crate) fn missing(&self) -> Vec<NodeId> {
        self.tracker.missing()
    }

    /// Whether anybody has said anything, or nobody listens: silence is no answer.
    pub(crate) fn check_silence(&self) -> Result<(), ClientError> {
        match self.tracker.silence() {
            Some(after) => Err(ClientError::NoAnswer {
                after,
                missing: self.missing(),
            }),
            None => Ok(()),
        }
    }

    /// The limit, where it is over and nobody has answered, whoever answered the ping. A Go node has
    /// answered an auction with its silence.
    pub(crate) fn no_answers(&self) -> Option<Duration> {
        self.tracker.no_answers()
    }

    /// Whether the server said that nobody listens to the request.
    pub(crate) fn nobody_listens(&self) -> bool {
        self.tracker.nobody_listens()
    }
}

async fn step(gather: &mut Option<Gather>, wake: Instant) -> Step {
    match gather {
        Some(gather) => {
            let step = gather.next(wake).await;
            if matches!(step, Step::TimedOut) {
                // A closed connection reports at once what a deadline reports in time.
                tokio::time::sleep_until(wake).await;
            }
            step
        }
        None => std::future::pending().await,
    }
}
