//! How a place was chosen: who was asked, what each said, and what became of it.

use std::collections::{BTreeMap, BTreeSet};

use nex_protocol::{
    BidId, NodeId,
    control::{Load, NodePingResponse},
};
use serde::Serialize;

use crate::{
    auction::is_go_lame_duck,
    field::{Candidate, Field},
    start::StartError,
};

/// The tag with a node's name.
pub(crate) const NAME_TAG: &str = "nex.node";

/// What came of looking for a place, and how it came.
#[derive(Debug)]
pub struct Explained<T> {
    /// What came of it.
    pub outcome: Result<T, StartError>,
    /// How; `None` where it did not come to an auction.
    pub explanation: Option<Explanation>,
}

/// How a place was chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// The type that nodes were asked for: where an alias was asked for, the one that it stands
    /// for.
    pub workload_type: String,
    /// Every node that is known, the chosen one first. Where one node was asked for, only that.
    pub nodes: Vec<Considered>,
}

/// What became of one node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Considered {
    /// The node; `None` for a bid of a Go node, which does not say whose it is.
    pub node_id: Option<NodeId>,
    /// Its name, where it answered a ping.
    pub name: Option<String>,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, for people.
    pub reason: String,
    /// How busy it is, where it bid and said so.
    pub load: Option<Load>,
}

/// What became of a node in a choice, the nearest to being chosen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It has the workload, or would get it.
    Chosen,
    /// It bid, and did not take the workload.
    Refused,
    /// It bid, and another was better or luckier.
    Passed,
    /// It bid, and cannot run this one.
    Unsuitable,
    /// It said why it does not bid.
    Declined,
    /// It is a Go node of which one cannot know whether a bid without a name is its.
    Unclear,
    /// It said nothing.
    Silent,
}

/// What was tried, in order: whose bid, and why it was not taken.
pub(crate) type Tried = Vec<(Option<NodeId>, BidId, String)>;

const SILENT: &str = "no answer";
const SILENT_GO: &str = "no answer (a Go node says nothing when it does not bid)";
const UNCLEAR: &str = "a bid without a name may be its: a Go node does not name itself";

impl Explanation {
    /// Of an auction that is over, what was tried on it, and the bid that was taken, if one was.
    pub(crate) fn of(field: &Field, tried: &Tried, taken: Option<&BidId>) -> Self {
        let names = Names::of(field);
        let mut nodes = names.bids(field, tried, taken);
        nodes.extend(names.others(field));
        // Each group is in its own order already.
        nodes.sort_by_key(|each| each.verdict);
        Self {
            workload_type: field.workload_type.clone(),
            nodes,
        }
    }

    /// The one that was chosen.
    #[must_use]
    pub fn chosen(&self) -> Option<&Considered> {
        let mut nodes = self.nodes.iter();
        nodes.find(|each| each.verdict == Verdict::Chosen)
    }
}

/// Who the nodes are.
struct Names<'a> {
    pongs: BTreeMap<&'a NodeId, &'a NodePingResponse>,
    /// The Go node whose bid one without a name must be, where there is only one of both.
    only_go: Option<&'a NodeId>,
}

impl<'a> Names<'a> {
    fn of(field: &'a Field) -> Self {
        let pongs: BTreeMap<_, _> = field.pongs.iter().map(|p| (&p.node_id, p)).collect();
        // A Go node in lame duck does not bid.
        let mut go = pongs
            .values()
            .filter(|pong| pong.peers.is_none() && !is_go_lame_duck(pong));
        let only_go = match (go.next(), go.next(), field.unnamed_bids()) {
            (Some(only), None, 1) => Some(&only.node_id),
            _ => None,
        };
        Self { pongs, only_go }
    }

    fn considered(
        &self,
        node: Option<&NodeId>,
        verdict: Verdict,
        reason: String,
        load: Option<&Load>,
    ) -> Considered {
        let pong = node.and_then(|node| self.pongs.get(node));
        Considered {
            node_id: node.cloned(),
            name: pong.and_then(|pong| pong.tags.get(NAME_TAG).cloned()),
            verdict,
            reason,
            load: load.cloned(),
        }
    }

    fn bids(&self, field: &Field, tried: &Tried, taken: Option<&BidId>) -> Vec<Considered> {
        let all = &field.candidates;
        let best = all.iter().find(|each| Some(&each.bid.bidder_id) == taken);
        let candidates = all.iter().map(|each| {
            let (verdict, reason) = judged(each, best, all, tried);
            let node = each.node.as_ref().or(self.only_go);
            self.considered(node, verdict, reason, each.bid.load.as_ref())
        });
        let unsuitable = field.unsuitable.iter().map(|((node, bid), reason)| {
            let (node, load) = (node.as_ref().or(self.only_go), bid.load.as_ref());
            self.considered(node, Verdict::Unsuitable, reason.clone(), load)
        });
        candidates.chain(unsuitable).collect()
    }

    /// Those that did not bid.
    fn others(&self, field: &Field) -> Vec<Considered> {
        let mut others: Vec<Considered> = Vec::new();
        for (node, reason) in &field.round.answer.declined {
            let (node, reason) = (node.as_ref(), reason.text.clone());
            others.push(self.considered(node, Verdict::Declined, reason, None));
        }
        for node in &field.round.answer.missing {
            others.push(self.considered(Some(node), Verdict::Silent, SILENT.to_owned(), None));
        }
        let named: BTreeSet<&NodeId> = field.named().chain(self.only_go).collect();
        for (node, pong) in &self.pongs {
            if named.contains(*node) || pong.peers.is_some() {
                continue;
            }
            let (verdict, reason) = match field.unnamed_bids() {
                0 => (Verdict::Silent, SILENT_GO),
                _ => (Verdict::Unclear, UNCLEAR),
            };
            others.push(self.considered(Some(node), verdict, reason.to_owned(), None));
        }
        others
    }
}

/// What became of a bid that could have been taken.
fn judged(
    bid: &Candidate,
    best: Option<&Candidate>,
    all: &[Candidate],
    tried: &Tried,
) -> (Verdict, String) {
    let same = |(node, id, _): &&(Option<NodeId>, BidId, String)| {
        *id == bid.bid.bidder_id || (node.is_some() && *node == bid.node)
    };
    let failed = tried.iter().find(same);
    match (best, failed) {
        (Some(best), _) if best.bid.bidder_id == bid.bid.bidder_id => {
            (Verdict::Chosen, why(best, all, tried.len()))
        }
        (_, Some((_, _, text))) => (Verdict::Refused, text.clone()),
        (Some(best), None) => (Verdict::Passed, passed(best, bid).to_owned()),
        (None, None) => (Verdict::Passed, "not tried".to_owned()),
    }
}

/// Reason why a bid was passed over for another.
fn passed(best: &Candidate, bid: &Candidate) -> &'static str {
    match (best.suits, bid.suits) {
        (_, None) => "its load is unknown: chance decided",
        (None, _) => "chance decided for one whose load is unknown",
        (best, own) if best == own => "as loaded as the chosen one: chance decided",
        _ => "more loaded than the chosen one",
    }
}

/// Why a bid was taken.
fn why(best: &Candidate, all: &[Candidate], failures: usize) -> String {
    let equals = all.iter().filter(|each| each.suits == best.suits).count();
    let unknown = all.iter().filter(|each| each.suits.is_none()).count();
    let mut why = match (all.len(), failures) {
        (1, 0) => "the only bid".to_owned(),
        (bids, 0) if best.suits.is_none() => format!("by chance, 1 in {bids}"),
        (bids, 0) if equals == 1 => format!("the least loaded of {}", bids - unknown),
        (bids, 0) => format!(
            "by chance among {equals} equally loaded, of {}",
            bids - unknown
        ),
        (_, 1) => "the next best after one that did not take it".to_owned(),
        (_, failures) => format!("the next best after {failures} that did not take it"),
    };
    match (best.suits, unknown) {
        (None, _) if all.len() > 1 => why.push_str("; its load is unknown"),
        (Some(_), 1..) if failures == 0 => {
            why.push_str(&format!(" that report it; {unknown} of unknown load"));
        }
        _ => {}
    }
    why
}
