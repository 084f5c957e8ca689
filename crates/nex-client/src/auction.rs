//! Who would run it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nex_protocol::{
    ErrorCode, Lifecycle, NodeId, Subject, Tags,
    control::{AuctionReply, AuctionRequest, Bid, NodePingResponse, NodeState, Reason},
    ids::unique,
};
use tracing::debug;

use crate::{
    client::{Client, encode},
    error::ClientError,
    fleet::{Broadcast, Heard, Patience, Rule},
    limits,
};

/// How long an auction waits.
const PATIENCE: Patience = Patience {
    silence: limits::SILENCE,
    rest: limits::AUCTION,
};

/// The tag of every node that takes work, and its value.
pub(crate) const NOT_LAME_DUCK: (&str, &str) = ("nex.lameduck", "false");

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AuctionSpec {
    /// The type.
    pub workload_type: String,
    /// Each must equal a tag of the node.
    pub tags: Tags,
    /// The lifecycle that will be deployed, where it is known.
    pub lifecycle: Option<Lifecycle>,
    /// Whether nodes that do not bid should say why. Makes a refusal fast.
    pub explain: bool,
}

/// Who would run it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuctionAnswer {
    /// The bids, with their nodes where these say who they are.
    pub bids: Vec<(Option<NodeId>, Arc<Bid>)>,
    /// Who does not bid, and why.
    pub declined: Vec<(Option<NodeId>, Reason)>,
    /// Who should have answered and did not.
    pub missing: Vec<NodeId>,
    /// Who answered the ping that goes out with every auction, with its tags. A Go node among
    /// them (without `peers`) that does not bid says nothing.
    pub pongs: Vec<NodePingResponse>,
    /// Whether nobody listens to auctions at all.
    pub nobody: bool,
    /// How long was waited, where somebody listens and nobody answered, not even by being a Go node,
    /// which declines by silence. Then nothing is known about who would run it.
    pub silence: Option<Duration>,
}

impl AuctionAnswer {
    /// Forgets what others said than that node.
    pub(crate) fn keep(&mut self, only: &NodeId) {
        self.bids.retain(|(node, _)| node.as_ref() == Some(only));
        self.declined
            .retain(|(node, _)| node.as_ref() == Some(only));
        self.missing.retain(|node| node == only);
        self.pongs.retain(|pong| pong.node_id == *only);
    }
}

impl Client {
    /// Asks all nodes for bids, in this client's namespace.
    ///
    /// # Errors
    /// When the request cannot be sent, or the server refuses it.
    pub async fn auction(&self, spec: AuctionSpec) -> Result<AuctionAnswer, ClientError> {
        self.auction_until(spec, None).await
    }

    /// The same, over as soon as `only` has answered.
    pub(crate) async fn auction_until(
        &self,
        spec: AuctionSpec,
        only: Option<&NodeId>,
    ) -> Result<AuctionAnswer, ClientError> {
        let _turn = self.roster.turn().await;
        let (subject, body) = self.auction_request(spec);
        let broadcast = Broadcast::send(self, &subject, body, Rule::Bidders, PATIENCE).await?;
        hold(broadcast, only).await
    }

    /// The same, where who is there need not be asked if it was a moment ago: the answer may be
    /// without pongs.
    pub(crate) async fn auction_among_known(
        &self,
        spec: AuctionSpec,
    ) -> Result<AuctionAnswer, ClientError> {
        let _turn = self.roster.turn().await;
        let (subject, body) = self.auction_request(spec);
        let broadcast = Broadcast::send_to_known(self, &subject, body, PATIENCE).await?;
        hold(broadcast, None).await
    }

    fn auction_request(&self, spec: AuctionSpec) -> (Subject, Bytes) {
        let mut tags = spec.tags;
        // A Go node goes on bidding in lame duck; it does not bid where it lacks a tag.
        let (name, value) = NOT_LAME_DUCK;
        tags.entry(name.to_owned())
            .or_insert_with(|| value.to_owned());
        let request = AuctionRequest {
            agent_type: spec.workload_type,
            auction_id: unique(),
            tags,
            explain: spec.explain,
            lifecycle: spec.lifecycle,
        };
        let subject = Subject::Auction(self.namespace.clone());
        (subject, encode(&request))
    }
}

/// Takes the answers, until all are there or `only` has answered.
async fn hold(
    mut broadcast: Broadcast,
    only: Option<&NodeId>,
) -> Result<AuctionAnswer, ClientError> {
    let mut answer = AuctionAnswer::default();
    let mut heard_only = false;
    while !heard_only && let Some(heard) = broadcast.next().await? {
        let reply = match heard {
            Heard::Pong(pong) => {
                answer.pongs.push(pong);
                continue;
            }
            Heard::Reply(reply) => reply,
        };
        heard_only = only.is_some() && reply.node.as_ref() == only;
        if let Err(refused) = reply.check() {
            let reason = Reason {
                code: refused.code.number(),
                text: refused.text,
            };
            answer.declined.push((reply.node, reason));
            continue;
        }
        match read(reply.payload()) {
            Ok(AuctionReply::Bid(bid)) => {
                broadcast.bid();
                answer.bids.push((reply.node, Arc::new(bid)));
            }
            Ok(AuctionReply::Declined(declined)) => {
                answer.declined.push((reply.node, declined.declined));
            }
            Err(error) => debug!(%error, "a node answered an auction with something else"),
        }
    }
    let lame_ducks = answer.pongs.iter().filter(|pong| is_go_lame_duck(pong));
    let reason = |pong: &NodePingResponse| {
        let reason = Reason {
            code: ErrorCode::Busy.number(),
            text: "the node is in state `lameduck`".to_owned(),
        };
        (Some(pong.node_id.clone()), reason)
    };
    answer.declined.extend(lame_ducks.map(reason));
    answer.missing = broadcast.missing();
    answer.nobody = broadcast.nobody_listens();
    answer.silence = broadcast.no_answers();
    Ok(answer)
}

/// Returns whether a Go node takes no more work. It does not say so when it does not bid, as ours do.
pub(crate) fn is_go_lame_duck(pong: &NodePingResponse) -> bool {
    pong.peers.is_none() && pong.state == NodeState::Lameduck
}

/// A bid, most often; the other kind is tried where it is none.
fn read(payload: &[u8]) -> Result<AuctionReply, serde_json::Error> {
    serde_json::from_slice(payload)
        .map(AuctionReply::Bid)
        .or_else(|_| serde_json::from_slice(payload).map(AuctionReply::Declined))
}
