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
use futures_util::future::BoxFuture;
use nex_nats::{
    RETURN_PAUSE, RETURN_PERIOD,
    request_many::{Gather, GatherError, Step},
};
use nex_protocol::{
    MORE_HEADER, NodeId, Subject,
    control::{NodePingRequest, NodePingResponse},
};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::{
    client::{Client, decode, encode},
    error::{ClientError, Refused, check, node_of},
    limits,
};
pub(crate) use tracker::{Patience, Rule};
use tracker::{Tracker, Verdict};

/// How many nodes are asked whom they know. One would do, were it sure to live.
const TELLERS: u32 = 3;

/// A request under way.
pub(crate) struct Broadcast {
    client: Client,
    pongs: Option<Gather>,
    replies: Option<Gather>,
    /// The request, unless it is only a ping.
    request: Option<(String, Bytes)>,
    /// Time at which all is sent again, after it had no recipient.
    again_at: Option<Instant>,
    tracker: Tracker,
    asked: Asked,
    /// Why there will be no answer.
    denial: BoxFuture<'static, ClientError>,
}

/// Who was asked who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Nobody yet: it is known from before.
    Nobody,
    /// All, and a few of them whom they know.
    Few,
    /// All, and all whom they know.
    All,
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
        // Where the ping alone is refused, nobody is known, and the answers are those that come.
        let subject = subject.to_string();
        broadcast.denial = client.denial(&subject);
        let sent = Gather::request(&client.nats, subject.clone(), body.clone(), None).await;
        broadcast.replies = Some(sent.map_err(|error| client.unsent(error))?);
        broadcast.request = Some((subject, body));
        Ok(broadcast)
    }

    /// The request of an auction, without a ping where somebody has just heard who is there.
    ///
    /// It is pinged all the same where an answer is late, and before it is said that nobody bids: a
    /// node that is new is not known yet.
    pub(crate) async fn send_to_known(
        client: &Client,
        subject: &Subject,
        body: Bytes,
        patience: Patience,
    ) -> Result<Self, ClientError> {
        let now = Instant::now();
        let Some(known) = client.roster.known(now) else {
            return Self::send(client, subject, body, Rule::Bidders, patience).await;
        };
        let subject = subject.to_string();
        let denial = client.denial(&subject);
        let sent = Gather::request(&client.nats, subject.clone(), body.clone(), None).await;
        Ok(Self {
            client: client.clone(),
            denial,
            pongs: None,
            replies: Some(sent.map_err(|error| client.unsent(error))?),
            request: Some((subject, body)),
            again_at: None,
            tracker: Tracker::new(Rule::Bidders, patience, now).knowing(&known),
            asked: Asked::Nobody,
        })
    }

    /// Sends only a ping.
    pub(crate) async fn ping(
        client: &Client,
        rule: Rule,
        patience: Patience,
    ) -> Result<Self, ClientError> {
        let denial = client.denial(&Subject::Ping.to_string());
        Ok(Self {
            client: client.clone(),
            denial,
            pongs: Some(
                ping(client, Some(TELLERS))
                    .await
                    .map_err(|error| client.unsent(error))?,
            ),
            replies: None,
            request: None,
            again_at: None,
            tracker: Tracker::new(rule, patience, Instant::now()),
            asked: Asked::Few,
        })
    }

    /// Asks who is there after all, or once more.
    async fn ask(&mut self) {
        let tellers = match self.asked {
            Asked::Nobody => {
                self.asked = Asked::Few;
                Some(TELLERS)
            }
            Asked::Few | Asked::All => {
                self.asked = Asked::All;
                None
            }
        };
        self.tracker.asked();
        match ping(&self.client, tellers).await {
            Ok(pongs) => self.pongs = Some(pongs),
            // The connection is closed, which the replies will show.
            Err(error) => debug!(%error, "failed to ask who is there"),
        }
    }

    /// Sends all again later where it had no recipient and the connection has just come back: the nodes
    /// may not be back yet on a server that was restarted. Returns whether it will.
    fn will_send_again(&mut self) -> bool {
        let lost_lately = self.client.losses.was_lost_within(RETURN_PERIOD);
        if lost_lately {
            (self.pongs, self.replies) = (None, None);
            self.again_at = Some(Instant::now() + RETURN_PAUSE);
        }
        lost_lately
    }

    async fn send_again(&mut self) {
        self.again_at = None;
        if let Some((subject, body)) = &self.request {
            let (subject, body) = (subject.clone(), body.clone());
            match Gather::request(&self.client.nats, subject, body, None).await {
                Ok(replies) => self.replies = Some(replies),
                Err(error) => debug!(%error, "failed to send a request again"),
            }
        }
        if self.asked != Asked::Nobody {
            match ping(&self.client, Some(TELLERS)).await {
                Ok(pongs) => self.pongs = Some(pongs),
                Err(error) => debug!(%error, "failed to ask who is there"),
            }
        }
    }

    /// The next pong or reply; `None` when the answers are complete or the limit is over.
    ///
    /// # Errors
    /// The server refuses the request, or to let us hear answers.
    pub(crate) async fn next(&mut self) -> Result<Option<Heard>, ClientError> {
        loop {
            let now = Instant::now();
            let ask_at = self.ask_at();
            let verdict = self.tracker.verdict(now);
            if ask_at.is_some_and(|at| at <= now || verdict == Verdict::Complete) {
                self.ask().await;
                continue;
            }
            let wake = match verdict {
                Verdict::Complete => {
                    self.keep_known(now);
                    return Ok(None);
                }
                Verdict::Until(at) => ask_at.map_or(at, |ask_at| at.min(ask_at)),
            };
            let again_at = self.again_at.unwrap_or(now);
            let heard = tokio::select! {
                () = sleep_until(again_at), if self.again_at.is_some() => {
                    self.send_again().await;
                    None
                }
                step = step(&mut self.pongs, wake), if self.pongs.is_some() => self.pong(step),
                step = step(&mut self.replies, wake), if self.replies.is_some() => self.reply(step),
                denial = &mut self.denial => return Err(denial),
                else => return Ok(None),
            };
            if heard.is_some() {
                return Ok(heard);
            }
        }
    }

    /// When it is asked who is there, or asked once more; at the latest before it is over.
    fn ask_at(&self) -> Option<Instant> {
        match self.asked {
            // A bid is what was wanted. Without one somebody may be new, or gone.
            Asked::Nobody if !self.tracker.has_bid() => {
                Some(self.tracker.heard_last() + limits::TRUST)
            }
            // The few may be gone, or Go nodes, which know nobody. With a bid it does not matter.
            Asked::Few if self.tracker.is_untold() && !self.tracker.has_bid() => {
                Some(self.tracker.heard_last() + limits::TELLING)
            }
            Asked::Nobody | Asked::Few | Asked::All => None,
        }
    }

    /// Spares those the question who ask right after.
    fn keep_known(&self, now: Instant) {
        if self.asked != Asked::Nobody
            && let Some(known) = self.tracker.known()
        {
            self.client.roster.keep(now, known);
        }
    }

    fn pong(&mut self, step: Step) -> Option<Heard> {
        match step {
            Step::Reply(message) => match decode::<NodePingResponse>(&message.payload) {
                Ok(pong) => {
                    let peers = pong.peers.as_deref();
                    let first = self.tracker.pong(&pong.node_id, peers, Instant::now());
                    first.then_some(Heard::Pong(pong))
                }
                Err(error) => {
                    debug!(%error, "a node answered a ping with something else");
                    None
                }
            },
            Step::NoResponders => {
                self.pongs = None;
                if self.request.is_none() && !self.will_send_again() {
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
                if !self.will_send_again() {
                    // Nobody will answer, whoever answers the ping.
                    self.tracker.nobody();
                }
                None
            }
            Step::TimedOut => None,
        }
    }

    /// Tells that the last reply was a bid.
    pub(crate) fn bid(&mut self) {
        self.tracker.bid(Instant::now());
    }

    /// Returns the node that has the workload of [`Rule::Owner`], once it has answered the ping.
    pub(crate) fn owner(&self) -> Option<NodeId> {
        self.tracker.living_owner().cloned()
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

/// Asks who is there, and so many of those whom they know; all where no number is given.
async fn ping(client: &Client, tellers: Option<u32>) -> Result<Gather, GatherError> {
    let question = NodePingRequest {
        tellers,
        ..NodePingRequest::default()
    };
    let body = encode(&question);
    Gather::request(&client.nats, Subject::Ping.to_string(), body, None).await
}

async fn step(gather: &mut Option<Gather>, wake: Instant) -> Step {
    match gather {
        Some(gather) => {
            let step = gather.next(wake).await;
            if matches!(step, Step::TimedOut) {
                // A closed connection reports at once what a deadline reports in time.
                sleep_until(wake).await;
            }
            step
        }
        None => std::future::pending().await,
    }
}
