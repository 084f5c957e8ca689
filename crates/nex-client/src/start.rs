//! Places a workload: auction, choice, deploy, and the next best where that fails.

use std::{sync::Arc, time::Duration};

use nex_protocol::{
    Lifecycle, NodeId, StartWorkloadRequest, Tags, WorkloadId, WorkloadSummary, control::Reason,
};
use nex_schema::Complaints;
use serde::Serialize;

use crate::{
    attempt::{Attempt, Attempts, Choice, Tries},
    auction::{AuctionAnswer, AuctionSpec},
    client::Client,
    error::{ClientError, Refused},
    explain::{Explained, Explanation, NAME_TAG},
    field::Field,
    nodes::{FindNodeError, Target},
    rounds::Round,
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

/// How a place is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceOptions {
    /// The only node that may get it: its id, its name or the beginning of its id.
    pub node: Option<String>,
    /// How long the deploys may take, all together; else [`DEPLOY`](crate::limits::DEPLOY).
    pub limit: Option<Duration>,
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
    /// The node that was asked for cannot be found.
    #[error(transparent)]
    Node(FindNodeError),
    /// The node that was asked for does not bid.
    #[error(
        "node `{node}` does not take the `{workload_type}` workload: {}",
        why_not(*go, reason.as_ref())
    )]
    NodeDeclined {
        /// The node.
        node: NodeId,
        /// The type.
        workload_type: String,
        /// Whether it is a Go node, which gives no reasons.
        go: bool,
        /// Its reason.
        reason: Option<Reason>,
    },
    /// The node that was asked for is a Go node, and others have its name: its bids could be theirs.
    #[error("Go nodes of the same name, `{name}`, cannot be told apart in an auction")]
    SameName {
        /// The name.
        name: String,
        /// All that have it.
        nodes: Vec<NodeId>,
    },
    /// A bidder was told to start it and has not answered: it may run there.
    #[error("no answer within {after:?} from {}, which may run it all the same", whom(node.as_ref()))]
    Unanswered {
        /// The bidder, where it said who it is.
        node: Option<NodeId>,
        /// How long was waited.
        after: Duration,
        /// What runs under that name on that node, asked afterwards: it may be one of these.
        seen: Vec<WorkloadSummary>,
        /// Those that refused it before.
        attempts: Attempts,
    },
    /// A bidder became absent while it was starting the workload: it was killed, hangs, or was started
    /// again. The workload may run there.
    #[error("node `{node}` stopped answering while it was starting the workload, which may run")]
    NodeAbsent {
        /// The bidder.
        node: NodeId,
        /// The time for which an answer was awaited.
        after: Duration,
        /// Workloads of that name on that node, listed afterwards: it may be one of these.
        seen: Vec<WorkloadSummary>,
        /// The nodes that refused it before.
        attempts: Attempts,
    },
    /// A bidder answered that the start failed, and cannot say that the workload does not run.
    #[error("{refused}")]
    Unconfirmed {
        /// The answer.
        refused: Box<Refused>,
        /// Workloads of that name on that node, listed afterwards: it may be one of these.
        seen: Vec<WorkloadSummary>,
        /// The nodes that refused it before.
        attempts: Attempts,
    },
    /// The connection was lost while a bidder was starting it: it may run there.
    #[error("lost the connection to NATS while {} was starting it: it may run", whom(node.as_ref()))]
    ConnectionLost {
        /// The bidder, where it said who it is.
        node: Option<NodeId>,
        /// Workloads of that name on that node, listed after a reconnect: it may be one of these.
        seen: Vec<WorkloadSummary>,
        /// The nodes that refused it before.
        attempts: Attempts,
    },
    /// Several bidders did not take it. A node of ours has called the start off before it says so;
    /// where its nexlet did not confirm that, it is stopped as soon as a list shows it.
    #[error("{} bidders did not take the workload: {attempts}", attempts.len())]
    NotTaken {
        /// Each of them, in order.
        attempts: Attempts,
    },
    /// The deploy, or asking, failed.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Whether it is asked with an auction who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Census {
    /// It is: an explanation names all nodes.
    Now,
    /// Not where it was asked a moment ago.
    Recent,
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

fn why_not(go: bool, reason: Option<&Reason>) -> &str {
    match reason {
        Some(reason) => &reason.text,
        None if go => "it does not bid, and a Go node does not say why",
        None => "it did not answer",
    }
}

fn whom(node: Option<&NodeId>) -> String {
    node.map_or_else(|| "the bidder".to_owned(), |node| format!("node `{node}`"))
}

impl Client {
    /// Places a workload in this client's namespace, on the least loaded node that bids for it.
    ///
    /// Where that node does not take it, for a reason that another may not have (no room after all,
    /// a fault of the node, a bid whose time is over), it goes to the next best. A node that does
    /// not answer may run it, so no other is asked then.
    ///
    /// # Errors
    /// When nobody bids, with the reasons that nodes gave; what the nexlet answered otherwise.
    pub async fn start(&self, spec: StartSpec) -> Result<Placed, StartError> {
        let options = PlaceOptions::default();
        self.run(spec, String::new(), &options, Census::Recent)
            .await
            .0
    }

    /// [`start`](Self::start) with options, and how the place was chosen.
    ///
    /// ```no_run
    /// # async fn example(connection: nex_nats::Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// use nex_client::{Client, PlaceOptions, StartError, StartSpec};
    /// use nex_protocol::{Lifecycle, Namespace};
    ///
    /// let client = Client::new(&connection, Namespace::default_tenant());
    /// let request = serde_json::json!({ "uri": "file:///usr/bin/env" });
    /// let spec = StartSpec::new("native", Lifecycle::Job, &request);
    ///
    /// let placed = client.place(spec, &PlaceOptions::default()).await;
    /// for node in placed.explanation.iter().flat_map(|explanation| &explanation.nodes) {
    ///     println!("{:?}: {:?}, {}", node.name, node.verdict, node.reason);
    /// }
    /// match placed.outcome {
    ///     Ok(placed) => println!("{} runs as {}", placed.name, placed.id),
    ///     Err(StartError::NoNodes) => println!("start a node first"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn place(&self, spec: StartSpec, options: &PlaceOptions) -> Explained<Placed> {
        self.place_with(spec, String::new(), options).await
    }

    /// The same, with a reference to documentation.
    pub(crate) async fn place_with(
        &self,
        spec: StartSpec,
        reference: String,
        options: &PlaceOptions,
    ) -> Explained<Placed> {
        let (outcome, choice) = self.run(spec, reference, options, Census::Now).await;
        let explanation = match choice {
            Some(choice) => Some(choice.explain(self).await),
            None => None,
        };
        Explained {
            outcome,
            explanation,
        }
    }

    /// Whether [`start`](Self::start) would find somebody now, and under which type. For what has to
    /// be done before a start and takes longer than a refusal.
    ///
    /// # Errors
    /// When nobody bids, as for a start.
    pub async fn would_start(&self, spec: &StartSpec) -> Result<String, StartError> {
        self.would_place(spec, &PlaceOptions::default())
            .await
            .outcome
    }

    /// [`would_start`](Self::would_start) with options, and who would be chosen.
    pub async fn would_place(&self, spec: &StartSpec, options: &PlaceOptions) -> Explained<String> {
        self.look(spec, options, None).await
    }

    /// [`would_start`](Self::would_start), where the start request is known: it is checked against
    /// the schemas of those that bid, as a start does, and nothing is deployed.
    ///
    /// # Errors
    /// As for a start, [`StartError::Unfit`] among them.
    pub async fn check_start(&self, spec: &StartSpec) -> Result<String, StartError> {
        let (options, request) = (PlaceOptions::default(), spec.run_request.as_str());
        self.look(spec, &options, Some(request)).await.outcome
    }

    async fn look(
        &self,
        spec: &StartSpec,
        options: &PlaceOptions,
        run_request: Option<&str>,
    ) -> Explained<String> {
        let found = async {
            let target = self.target(options).await?;
            self.field(spec, run_request, target, Census::Now).await
        };
        let mut field = match found.await {
            Ok(field) => field,
            Err(error) => {
                return Explained {
                    outcome: Err(error),
                    explanation: None,
                };
            }
        };
        field.introduce(self).await;
        let best = field.candidates.first().map(|each| &each.bid.bidder_id);
        let explanation = Some(Explanation::of(&field, &Vec::new(), best));
        Explained {
            outcome: field.check().map(|()| field.workload_type),
            explanation,
        }
    }

    /// Auction and deploys, and what of them explains the outcome.
    async fn run(
        &self,
        spec: StartSpec,
        reference: String,
        options: &PlaceOptions,
        census: Census,
    ) -> (Result<Placed, StartError>, Option<Choice>) {
        let target = match self.target(options).await {
            Ok(target) => target,
            Err(error) => return (Err(error), None),
        };
        let mut tries = Tries::new(options.limit);
        loop {
            let request = Some(spec.run_request.as_str());
            let field = match self.field(&spec, request, target.clone(), census).await {
                Ok(field) => field,
                Err(error) => return (Err(tries.or_failure(error)), None),
            };
            if let Err(error) = field.check() {
                let choice = tries.choice(field, None);
                return (Err(tries.or_failure(error)), Some(choice));
            }
            let request = start_request(self, &spec, &reference, &field);
            match self.deploy_in_order(&field, &request, &mut tries).await {
                Attempt::Placed(placed, bid) => {
                    let choice = tries.choice(field, Some(bid));
                    return (Ok(placed), Some(choice));
                }
                Attempt::Again => {}
                Attempt::Failed(error) => {
                    let choice = tries.choice(field, None);
                    return (Err(error), Some(choice));
                }
            }
        }
    }

    /// The node that was asked for, where one was.
    async fn target(&self, options: &PlaceOptions) -> Result<Option<Target>, StartError> {
        let Some(text) = &options.node else {
            return Ok(None);
        };
        let found = self.find_node(text).await.map_err(|error| match error {
            FindNodeError::Client(error) => StartError::Client(error),
            other => StartError::Node(other),
        })?;
        Ok(Some(Target::from(found)))
    }

    /// The auction for the type, or for the one it is an alias of where nobody runs it. Both are
    /// held at once: a second one after the first would double the wait.
    async fn field(
        &self,
        spec: &StartSpec,
        run_request: Option<&str>,
        target: Option<Target>,
        census: Census,
    ) -> Result<Field, StartError> {
        let auction = async |workload_type| {
            self.round_for(spec, workload_type, target.as_ref(), census)
                .await
        };
        let asked = spec.workload_type.as_str();
        let alias = ALIASES.iter().find(|(name, _)| *name == asked);
        let (meant, round) = match alias {
            None => (asked, auction(asked).await?),
            Some((_, aliased)) => {
                let (exact, other) = tokio::try_join!(auction(asked), auction(aliased))?;
                // Whether nobody runs the other either is known only from an answer about it.
                if exact.answer.bids.is_empty() {
                    (*aliased, other)
                } else {
                    (asked, exact)
                }
            }
        };
        let types = (asked, meant);
        Ok(Field::new(
            types,
            spec.lifecycle,
            run_request,
            target.clone(),
            &round,
        ))
    }

    /// The auction that this start waits for: one that others wait for too, where it is for anybody
    /// and nobody has to be told of all nodes.
    async fn round_for(
        &self,
        spec: &StartSpec,
        workload_type: &str,
        target: Option<&Target>,
        census: Census,
    ) -> Result<Arc<Round>, StartError> {
        if target.is_none() && census == Census::Recent {
            return Ok(self.shared_auction(asked(spec, workload_type)).await?);
        }
        let answer = self.auction_for(spec, workload_type, target).await?;
        Ok(Round::of(answer))
    }

    /// An auction; where one node is asked for, only what that one says.
    async fn auction_for(
        &self,
        spec: &StartSpec,
        workload_type: &str,
        target: Option<&Target>,
    ) -> Result<AuctionAnswer, StartError> {
        let mut auction = asked(spec, workload_type);
        let Some(target) = target else {
            return Ok(self.auction(auction).await?);
        };
        if !target.go {
            let mut answer = self.auction_until(auction, Some(&target.id)).await?;
            answer.keep(&target.id);
            return Ok(answer);
        }
        // Its bid will not say whose it is: only nodes of its name may bid.
        let Some(name) = &target.name else {
            return Err(StartError::SameName {
                name: String::new(),
                nodes: vec![target.id.clone()],
            });
        };
        auction
            .tags
            .entry(NAME_TAG.to_owned())
            .or_insert_with(|| name.clone());
        let mut answer = self.auction(auction).await?;
        let twins = answer
            .pongs
            .iter()
            .filter(|pong| pong.peers.is_none() && pong.tags.get(NAME_TAG) == Some(name));
        let twins: Vec<NodeId> = twins.map(|pong| pong.node_id.clone()).collect();
        if twins.iter().any(|twin| *twin != target.id) {
            let name = name.clone();
            return Err(StartError::SameName { name, nodes: twins });
        }
        answer.bids.retain(|(node, _)| node.is_none());
        for (node, _) in &mut answer.bids {
            *node = Some(target.id.clone());
        }
        answer.keep(&target.id);
        Ok(answer)
    }
}

/// What nodes are asked for a start.
fn asked(spec: &StartSpec, workload_type: &str) -> AuctionSpec {
    AuctionSpec {
        workload_type: workload_type.to_owned(),
        tags: spec.tags.clone(),
        lifecycle: Some(spec.lifecycle),
        explain: true,
    }
}

fn start_request(
    client: &Client,
    spec: &StartSpec,
    reference: &str,
    field: &Field,
) -> StartWorkloadRequest {
    StartWorkloadRequest {
        description: spec.description.clone(),
        metadata: spec.metadata.clone(),
        name: spec.name.clone(),
        namespace: client.namespace.clone(),
        reference: reference.to_owned(),
        run_request: spec.run_request.clone(),
        tags: spec.tags.clone(),
        workload_lifecycle: spec.lifecycle,
        workload_type: field.workload_type.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
