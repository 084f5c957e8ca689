//! The bids of an auction that is over, and what they mean for one start.

use std::{collections::BTreeSet, hash::RandomState, sync::Arc};

use futures_util::future::join_all;
use nex_protocol::{
    Lifecycle, NodeId,
    control::{Bid, NodePingResponse},
};
use nex_schema::Complaints;

use crate::{
    client::Client,
    error::ClientError,
    fit::Fit,
    nodes::Target,
    rank::{NamedBid, Suits, ranked},
    rounds::Round,
    start::StartError,
};

/// A bid that can be taken.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) node: Option<NodeId>,
    pub(crate) bid: Arc<Bid>,
    /// `None` where the bidder does not report its load.
    pub(crate) suits: Option<Suits>,
}

/// The bids of an auction that is over.
#[derive(Debug)]
pub(crate) struct Field {
    /// The auction, which other starts may share.
    pub(crate) round: Arc<Round>,
    /// The type that was asked for.
    asked: String,
    lifecycle: Lifecycle,
    /// The type that bids are for: the same, or what it is an alias of.
    pub(crate) workload_type: String,
    /// The bids that can be taken, the best first.
    pub(crate) candidates: Vec<Candidate>,
    /// Those that cannot, and why.
    pub(crate) unsuitable: Vec<(NamedBid, String)>,
    /// What is wrong with the start request, where a bid cannot be taken for that.
    complaints: Option<Complaints>,
    /// Who is known by name: those that answered the ping, and who was asked afterwards.
    pub(crate) pongs: Vec<NodePingResponse>,
    /// The only node whose bid is wanted.
    target: Option<Target>,
}

impl Field {
    /// Sorts an auction's bids; the best is given to this start. `run_request` is what is to be
    /// started, where that is known.
    pub(crate) fn new(
        (asked, workload_type): (&str, &str),
        lifecycle: Lifecycle,
        run_request: Option<&str>,
        target: Option<Target>,
        round: &Arc<Round>,
    ) -> Self {
        let answer = &round.answer;
        let fit = Fit::of(&answer.bids, run_request);
        let mut unsuitable = Vec::new();
        let runs = |bid: &Bid| {
            bid.supported_lifecycles.is_empty() || bid.supported_lifecycles.contains(&lifecycle)
        };
        let (bids, others): (Vec<_>, Vec<_>) =
            answer.bids.iter().cloned().partition(|(_, bid)| runs(bid));
        let reason = format!("it does not run lifecycle `{lifecycle}`");
        unsuitable.extend(others.into_iter().map(|bid| (bid, reason.clone())));

        let mut complaints = None;
        let mut candidates = Vec::with_capacity(bids.len());
        // One start at a time chooses.
        let mut given = round.given();
        for (suits, (node, bid)) in ranked(bids, &given, &RandomState::new()) {
            match fit.verdict(&bid) {
                Ok(()) => candidates.push(Candidate { node, bid, suits }),
                Err(wrong) => {
                    unsuitable.push(((node, bid), format!("the start request: {wrong}")));
                    complaints.get_or_insert(wrong);
                }
            }
        }
        if let Some(Candidate { bid, .. }) = candidates.first() {
            *given.entry(bid.bidder_id.clone()).or_default() += 1;
        }
        drop(given);
        Self {
            round: Arc::clone(round),
            asked: asked.to_owned(),
            lifecycle,
            workload_type: workload_type.to_owned(),
            candidates,
            unsuitable,
            complaints,
            pongs: answer.pongs.clone(),
            target,
        }
    }

    /// Whether there is a bid to take; else why not, as far as it is known.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        if !self.candidates.is_empty() {
            return Ok(());
        }
        let workload_type = self.asked.clone();
        if self.round.answer.nobody {
            return Err(StartError::NoNodes);
        }
        if let Some(after) = self.round.answer.silence {
            let missing = self.round.answer.missing.clone();
            return Err(ClientError::NoAnswer { after, missing }.into());
        }
        if let Some(complaints) = &self.complaints {
            return Err(StartError::Unfit {
                workload_type: self.workload_type.clone(),
                complaints: complaints.clone(),
            });
        }
        if !self.unsuitable.is_empty() {
            return Err(StartError::Lifecycle {
                workload_type,
                lifecycle: self.lifecycle,
            });
        }
        if let Some(target) = &self.target {
            let reason = self
                .round
                .answer
                .declined
                .first()
                .map(|(_, reason)| reason.clone());
            return Err(StartError::NodeDeclined {
                node: target.id.clone(),
                workload_type,
                go: target.go,
                reason,
            });
        }
        Err(StartError::NoBids {
            workload_type,
            declined: self.round.answer.declined.clone(),
            missing: self.round.answer.missing.clone(),
        })
    }

    /// Asks those who they are that answered the auction before the ping, so that each can be told
    /// by its name.
    pub(crate) async fn introduce(&mut self, client: &Client) {
        let known: BTreeSet<&NodeId> = self.pongs.iter().map(|pong| &pong.node_id).collect();
        let strangers: BTreeSet<&NodeId> =
            self.named().filter(|node| !known.contains(node)).collect();
        let pongs = join_all(strangers.into_iter().map(|node| client.ping(node))).await;
        // One that ends meanwhile stays without a name.
        self.pongs.extend(pongs.into_iter().flatten());
    }

    /// The node of a bid. A Go node does not say whose its bids are: where only one answered the ping, it
    /// is the bidder.
    pub(crate) fn bidder<'a>(&'a self, candidate: &'a Candidate) -> Option<&'a NodeId> {
        let named = candidate.node.as_ref();
        let named = named.or(candidate.bid.node_id.as_ref());
        if named.is_some() || candidate.bid.load.is_some() {
            return named;
        }
        let mut go = self.pongs.iter().filter(|pong| pong.peers.is_none());
        match (go.next(), go.next()) {
            (Some(only), None) => Some(&only.node_id),
            _ => None,
        }
    }

    /// The nodes that said something by name.
    pub(crate) fn named(&self) -> impl Iterator<Item = &NodeId> {
        let candidates = self.candidates.iter().filter_map(|each| each.node.as_ref());
        let unsuitable = self.unsuitable.iter();
        let unsuitable = unsuitable.filter_map(|((node, _), _)| node.as_ref());
        let declined = self
            .round
            .answer
            .declined
            .iter()
            .filter_map(|(node, _)| node.as_ref());
        candidates.chain(unsuitable).chain(declined)
    }

    /// How many bids do not say whose they are.
    pub(crate) fn unnamed_bids(&self) -> usize {
        let candidates = self.candidates.iter().filter(|each| each.node.is_none());
        let unsuitable = self.unsuitable.iter();
        let unsuitable = unsuitable.filter(|((node, _), _)| node.is_none());
        candidates.count() + unsuitable.count()
    }
}
