//! Places a workload: auction, choice, deploy.

use std::hash::{BuildHasher, RandomState};

use nex_protocol::{
    ErrorCode, Lifecycle, NodeId, StartWorkloadRequest, Tags, WorkloadId,
    control::{Bid, Reason},
};
use nex_schema::Complaints;
use serde::Serialize;
use tracing::debug;

use crate::{
    auction::{AuctionAnswer, AuctionSpec},
    client::Client,
    error::ClientError,
    fit::fitting,
};

/// Other names of a type, for as long as nobody runs a type of exactly that name.
const ALIASES: [(&str, &str); 2] = [("v8", "js"), ("javascript", "js")];

/// What to start.
#[derive(Clone, Debug, PartialEq)]
pub struct StartSpec {
    /// The type, and so the nexlet.
    pub workload_type: String,
    /// How long it is meant to live.
    pub lifecycle: Lifecycle,
    /// The nexlet's own start request: a JSON document as text.
    pub run_request: String,
    /// May be empty: the nexlet then makes one up.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// Each must equal a tag of the node.
    pub tags: Tags,
    /// Carried, not interpreted.
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

impl StartSpec {
    /// What must be said; the rest can be set on the result.
    ///
    /// # Panics
    /// When `run_request` cannot be written as JSON: a map with keys that are no text.
    #[must_use]
    pub fn new(workload_type: &str, lifecycle: Lifecycle, run_request: &impl Serialize) -> Self {
        Self {
            workload_type: workload_type.to_owned(),
            lifecycle,
            run_request: serde_json::to_string(run_request).expect("a start request is JSON"),
            name: String::new(),
            description: String::new(),
            tags: Tags::new(),
            metadata: serde_json::Map::new(),
        }
    }
}

/// A workload that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its id.
    pub id: WorkloadId,
    /// Its name.
    pub name: String,
    /// Its type, where an alias was asked for the one that it stands for.
    pub workload_type: String,
    /// Its node, where that says who it is.
    pub node: Option<NodeId>,
}

/// A workload that was not placed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nobody listens to auctions.
    #[error("no node is running")]
    NoNodes,
    /// Nobody of those who answered bids.
    #[error(
        "no node {}runs `{workload_type}` workloads{}",
        who_answered(missing),
        because(declined)
    )]
    NoBids {
        /// The type.
        workload_type: String,
        /// Who said why not.
        declined: Vec<(Option<NodeId>, Reason)>,
        /// Who did not answer.
        missing: Vec<NodeId>,
    },
    /// Who bids cannot run that lifecycle.
    #[error("no node runs `{workload_type}` workloads as a {lifecycle}")]
    Lifecycle {
        /// The type.
        workload_type: String,
        /// The lifecycle.
        lifecycle: Lifecycle,
    },
    /// The start request is not one that nexlets of the type take. Nothing was sent.
    #[error("the start request does not fit `{workload_type}` workloads: {complaints}")]
    Unfit {
        /// The type.
        workload_type: String,
        /// What is wrong, with places in the start request.
        complaints: Complaints,
    },
    /// The deploy, or asking, failed.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Of whom it is known.
fn who_answered(missing: &[NodeId]) -> &'static str {
    if missing.is_empty() {
        ""
    } else {
        "that answered "
    }
}

/// The reasons, each once, after a colon.
fn because(declined: &[(Option<NodeId>, Reason)]) -> String {
    let mut texts: Vec<&str> = declined.iter().map(|(_, r)| r.text.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    match texts.as_slice() {
        [] => String::new(),
        texts => format!(": {}", texts.join("; ")),
    }
}

/// The bids of an auction that can run it, the best first.
///
/// # Errors
/// When there are none; why, as far as it is known.
fn eligible(
    asked: &str,
    lifecycle: Lifecycle,
    answer: AuctionAnswer,
) -> Result<Vec<(Option<NodeId>, Bid)>, StartError> {
    let workload_type = asked.to_owned();
    if answer.nobody {
        return Err(StartError::NoNodes);
    }
    if let Some(after) = answer.silence {
        let missing = answer.missing;
        return Err(ClientError::NoAnswer { after, missing }.into());
    }
    if answer.bids.is_empty() {
        return Err(StartError::NoBids {
            workload_type,
            declined: answer.declined,
            missing: answer.missing,
        });
    }
    let bids = ranked(answer.bids, lifecycle, &RandomState::new());
    if bids.is_empty() {
        return Err(StartError::Lifecycle {
            workload_type,
            lifecycle,
        });
    }
    Ok(bids)
}

/// The bids that can run it, the best first: fewest workloads on the node, and among equals by
/// chance, so that many clients do not all choose the same node.
fn ranked(
    bids: Vec<(Option<NodeId>, Bid)>,
    lifecycle: Lifecycle,
    chance: &impl BuildHasher,
) -> Vec<(Option<NodeId>, Bid)> {
    let mut eligible: Vec<_> = bids
        .into_iter()
        .filter(|(_, bid)| {
            bid.supported_lifecycles.is_empty() || bid.supported_lifecycles.contains(&lifecycle)
        })
        .collect();
    let known: Vec<u64> = eligible
        .iter()
        .filter_map(|(_, bid)| Some(bid.load.as_ref()?.workloads))
        .collect();
    // A Go node does not say how busy it is; it counts as one of average.
    let average = known.iter().sum::<u64>() / u64::try_from(known.len().max(1)).unwrap_or(1);
    eligible.sort_by_cached_key(|(_, bid)| {
        let workloads = bid.load.as_ref().map_or(average, |load| load.workloads);
        (workloads, chance.hash_one(bid.bidder_id.as_str()))
    });
    eligible
}

impl Client {
    /// Places a workload in this client's namespace, on the least loaded node that bids for it. A
    /// node that is busy after all is passed over for the next one.
    ///
    /// # Errors
    /// When nobody bids, with the reasons that nodes gave; what the nexlet answered otherwise.
    pub async fn start(&self, spec: StartSpec) -> Result<Placed, StartError> {
        self.place(spec, String::new()).await
    }

    /// [`start`](Self::start), with a reference to documentation.
    pub(crate) async fn place(
        &self,
        spec: StartSpec,
        reference: String,
    ) -> Result<Placed, StartError> {
        let (workload_type, bids) = self.fitting_bids_for(&spec).await?;
        let request = StartWorkloadRequest {
            description: spec.description,
            metadata: spec.metadata,
            name: spec.name,
            namespace: self.namespace.clone(),
            reference,
            run_request: spec.run_request,
            tags: spec.tags,
            workload_lifecycle: spec.lifecycle,
            workload_type,
        };
        self.deploy_on_first(bids, request).await
    }

    /// Whether [`start`](Self::start) would find somebody now, and under which type. For what has to
    /// be done before a start and takes longer than a refusal.
    ///
    /// # Errors
    /// When nobody bids, as for a start.
    pub async fn would_start(&self, spec: &StartSpec) -> Result<String, StartError> {
        let (workload_type, _bids) = self.bids_for(spec).await?;
        Ok(workload_type)
    }

    /// [`would_start`](Self::would_start), where the start request is known: it is checked against
    /// the schemas of those that bid, as a start does, and nothing is deployed.
    ///
    /// # Errors
    /// As for a start, [`StartError::Unfit`] among them.
    pub async fn check_start(&self, spec: &StartSpec) -> Result<String, StartError> {
        let (workload_type, _bids) = self.fitting_bids_for(spec).await?;
        Ok(workload_type)
    }

    async fn fitting_bids_for(
        &self,
        spec: &StartSpec,
    ) -> Result<(String, Vec<(Option<NodeId>, Bid)>), StartError> {
        let (workload_type, bids) = self.bids_for(spec).await?;
        match fitting(bids, &spec.run_request) {
            Ok(bids) => Ok((workload_type, bids)),
            Err(complaints) => Err(StartError::Unfit {
                workload_type,
                complaints,
            }),
        }
    }

    async fn deploy_on_first(
        &self,
        bids: Vec<(Option<NodeId>, Bid)>,
        request: StartWorkloadRequest,
    ) -> Result<Placed, StartError> {
        let mut last = ClientError::NoNodes;
        for (bidder, bid) in bids {
            match self.deploy_on(&bid.bidder_id, &request).await {
                Ok((response, node)) => {
                    return Ok(Placed {
                        id: response.id,
                        name: response.name,
                        workload_type: request.workload_type,
                        node: node.or(bidder),
                    });
                }
                // Only these are sure not to have started it. After a silence it may run.
                Err(error)
                    if error.code() == Some(ErrorCode::Busy)
                        || matches!(error, ClientError::NoNodes) =>
                {
                    debug!(%error, "a bidder did not take the workload, trying the next");
                    last = error;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.into())
    }

    /// The auction for the type, or for the one it is an alias of where nobody runs it. Both are
    /// held at once: a second one after the first would double the wait.
    async fn bids_for(
        &self,
        spec: &StartSpec,
    ) -> Result<(String, Vec<(Option<NodeId>, Bid)>), StartError> {
        let auction = |workload_type: &str| {
            self.auction(AuctionSpec {
                workload_type: workload_type.to_owned(),
                tags: spec.tags.clone(),
                lifecycle: Some(spec.lifecycle),
                explain: true,
            })
        };
        let asked = spec.workload_type.as_str();
        let alias = ALIASES.iter().find(|(name, _)| *name == asked);
        let Some((_, target)) = alias else {
            let bids = eligible(asked, spec.lifecycle, auction(asked).await?)?;
            return Ok((asked.to_owned(), bids));
        };
        let (exact, aliased) = tokio::try_join!(auction(asked), auction(target))?;
        // Whether nobody runs the target either is known only from an answer about the target.
        let (meant, answer) = if exact.bids.is_empty() {
            (*target, aliased)
        } else {
            (asked, exact)
        };
        let bids = eligible(asked, spec.lifecycle, answer)?;
        Ok((meant.to_owned(), bids))
    }
}

#[cfg(test)]
mod tests {
    use nex_protocol::{BidId, control::Load};

    use super::*;

    fn bid(id: &str, workloads: Option<u64>, lifecycles: &[Lifecycle]) -> (Option<NodeId>, Bid) {
        let bid = Bid {
            bidder_id: BidId::new(id).unwrap(),
            start_request_schema: "{}".into(),
            supported_lifecycles: lifecycles.to_vec(),
            xkey: String::new(),
            load: workloads.map(|workloads| Load {
                workloads,
                ..Load::default()
            }),
        };
        (None, bid)
    }

    fn order(bids: Vec<(Option<NodeId>, Bid)>) -> Vec<String> {
        let ranked = ranked(bids, Lifecycle::Job, &RandomState::new());
        let ids = ranked.iter().map(|(_, bid)| bid.bidder_id.to_string());
        ids.collect()
    }

    #[test]
    fn the_least_loaded_comes_first_and_the_unknown_in_the_middle() {
        let bids = vec![
            bid("busy", Some(9), &[]),
            bid("go", None, &[]),
            bid("idle", Some(1), &[]),
        ];
        assert_eq!(order(bids), ["idle", "go", "busy"]);
    }

    #[test]
    fn who_cannot_run_the_lifecycle_is_left_out() {
        let bids = vec![
            bid("functions", Some(0), &[Lifecycle::Function]),
            bid("jobs", Some(5), &[Lifecycle::Job]),
            bid("silent", Some(6), &[]),
        ];
        assert_eq!(order(bids), ["jobs", "silent"]);
    }

    #[test]
    fn among_equals_chance_decides() {
        let firsts: std::collections::HashSet<String> = (0..64)
            .map(|_| order(vec![bid("a", Some(1), &[]), bid("b", Some(1), &[])]).swap_remove(0))
            .collect();
        assert_eq!(firsts.len(), 2);
    }

    #[test]
    fn reasons_are_told_once() {
        let reason = |text: &str| {
            let text = text.to_owned();
            (None, Reason { code: 404, text })
        };
        let declined = [
            reason("no nexlet"),
            reason("tags differ"),
            reason("no nexlet"),
        ];
        assert_eq!(because(&declined), ": no nexlet; tags differ");
    }
}
