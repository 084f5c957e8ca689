//! Deploys on one bid after the other.
//!
//! A deploy may be tried elsewhere only where it is sure that the workload does not run, and where
//! another node may not have the reason. What every node would say again is final.

use std::{fmt, ops::Deref, time::Duration};

use nex_protocol::{
    BidId, ErrorCode, NodeId, StartWorkloadRequest, WorkloadSummary, workload::MAY_RUN,
};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::{
    client::Client,
    error::{ClientError, Refused},
    explain::{Explanation, Tried},
    field::{Candidate, Field},
    limits,
    start::{Placed, StartError},
};

/// What a node says, letter by letter, to a deploy on a bid of its that is too old.
const BID_EXPIRED: &str = "bid expired";
/// What it says where the nexlet that it bid with has gone.
const NO_TYPE: &str = "workload type not found";
/// How a Go node begins where it could not make credentials, and so asked no nexlet.
const MINT_FAILED: &str = "failed to mint";

/// One bidder that did not take the workload.
#[derive(Debug)]
pub struct FailedAttempt {
    /// The bidder, where it said who it is.
    pub node: Option<NodeId>,
    /// Its bid.
    pub bid: BidId,
    /// Why.
    pub error: ClientError,
}

/// The bidders that did not take the workload, in order.
#[derive(Debug, Default)]
pub struct Attempts(Vec<FailedAttempt>);

impl Deref for Attempts {
    type Target = [FailedAttempt];

    fn deref(&self) -> &[FailedAttempt] {
        &self.0
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, attempt) in self.iter().enumerate() {
            if place > 0 {
                f.write_str("; ")?;
            }
            match &attempt.node {
                Some(node) => write!(f, "{node}: {}", attempt.error)?,
                None => write!(f, "a Go node: {}", attempt.error)?,
            }
        }
        Ok(())
    }
}

/// How deploying on the bids of one auction went.
pub(crate) enum Attempt {
    /// It runs.
    Placed(Placed, BidId),
    /// The bids are too old: another auction may find fresh ones.
    Again,
    /// It does not run, or nobody knows.
    Failed(StartError),
}

/// What may be done after a deploy that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It does not run there, and may run elsewhere.
    Elsewhere,
    /// The same; and a fresh bid of that node may do.
    FreshBid,
    /// It does not run there, and would not run elsewhere.
    Final,
    /// It may run there.
    Unknown,
}

impl Next {
    /// `ours`: whether the bidder is a node of ours. One says where it could not call off a start that
    /// failed; a Go node may have a nexlet that runs it all the same.
    fn after(error: &ClientError, ours: bool) -> Self {
        match error {
            ClientError::Refused(refused) => Self::after_refusal(refused, ours),
            // Nobody heard it.
            ClientError::NoNodes => Self::Elsewhere,
            ClientError::TimedOut { .. }
            | ClientError::NodeAbsent { .. }
            | ClientError::ConnectionLost => Self::Unknown,
            _ => Self::Final,
        }
    }

    fn after_refusal(refused: &Refused, ours: bool) -> Self {
        match refused.code {
            ErrorCode::Busy | ErrorCode::Timeout => Self::Elsewhere,
            ErrorCode::Internal if refused.text == MAY_RUN => Self::Unknown,
            ErrorCode::Internal if ours || refused.text.starts_with(MINT_FAILED) => Self::Elsewhere,
            ErrorCode::Internal => Self::Unknown,
            ErrorCode::NotFound if refused.text == BID_EXPIRED => Self::FreshBid,
            ErrorCode::NotFound if refused.text == NO_TYPE => Self::Elsewhere,
            _ => Self::Final,
        }
    }
}

/// The deploys of one start, and the time for them.
#[derive(Debug)]
pub(crate) struct Tries {
    limit: Duration,
    /// From the first deploy on.
    deadline: Option<Instant>,
    failed: Attempts,
    /// The same as text, which outlives it.
    tried: Tried,
    /// Whether another auction was held for bids that were too old.
    again: bool,
}

impl Tries {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit: limit.unwrap_or(limits::DEPLOY),
            deadline: None,
            failed: Attempts::default(),
            tried: Tried::new(),
            again: false,
        }
    }

    fn left(&mut self) -> Duration {
        let limit = self.limit;
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + limit);
        deadline.saturating_duration_since(Instant::now())
    }

    /// Whether a bid is worth a deploy: of a node that has refused only if its bid was too old.
    fn worth(&self, candidate: &Candidate) -> bool {
        !self.failed.iter().any(|failed| {
            failed.node.is_some()
                && failed.node == candidate.node
                && Next::after(&failed.error, true) != Next::FreshBid
        })
    }

    fn fail(&mut self, candidate: &Candidate, error: ClientError) {
        let (node, bid) = (candidate.node.clone(), candidate.bid.bidder_id.clone());
        self.tell(candidate, &error);
        self.failed.0.push(FailedAttempt { node, bid, error });
    }

    fn tell(&mut self, candidate: &Candidate, error: &ClientError) {
        let (node, bid) = (candidate.node.clone(), candidate.bid.bidder_id.clone());
        self.tried.push((node, bid, error.to_string()));
    }

    /// What explains the outcome.
    pub(crate) fn choice(&mut self, field: Field, taken: Option<BidId>) -> Choice {
        Choice {
            tried: std::mem::take(&mut self.tried),
            field,
            taken,
        }
    }

    /// The failures so far; `error` where there is none.
    pub(crate) fn or_failure(&mut self, error: StartError) -> StartError {
        self.failure().unwrap_or(error)
    }

    fn failure(&mut self) -> Option<StartError> {
        let mut failed = std::mem::take(&mut self.failed);
        match failed.0.len() {
            0 => None,
            1 => failed.0.pop().map(|only| StartError::Client(only.error)),
            _ => Some(StartError::NotTaken { attempts: failed }),
        }
    }
}

/// What of a start explains how its place was chosen.
#[derive(Debug)]
pub(crate) struct Choice {
    field: Field,
    tried: Tried,
    taken: Option<BidId>,
}

impl Choice {
    pub(crate) async fn explain(mut self, client: &Client) -> Explanation {
        self.field.introduce(client).await;
        Explanation::of(&self.field, &self.tried, self.taken.as_ref())
    }
}

impl Client {
    /// Deploys on the best bid, and on the next best where that fails.
    pub(crate) async fn deploy_in_order(
        &self,
        field: &Field,
        request: &StartWorkloadRequest,
        tries: &mut Tries,
    ) -> Attempt {
        let mut expired = false;
        for candidate in &field.candidates {
            let left = tries.left();
            if !tries.worth(candidate) {
                continue;
            }
            if !tries.failed.is_empty() && left < limits::ATTEMPT {
                debug!("no time is left to try the next bidder");
                break;
            }
            let bid = &candidate.bid.bidder_id;
            let bidder = field.bidder(candidate);
            let deploy = self.deploy_within(&candidate.bid, bidder, request, left);
            let error = match deploy.await {
                Ok((response, node)) => {
                    let placed = Placed {
                        id: response.id,
                        name: response.name,
                        workload_type: request.workload_type.clone(),
                        node: node.or_else(|| candidate.node.clone()),
                    };
                    return Attempt::Placed(placed, bid.clone());
                }
                Err(error) => error,
            };
            debug!(%bid, %error, "a bidder did not take the workload");
            field.round.doubt();
            let next = Next::after(&error, candidate.bid.load.is_some());
            if next == Next::Unknown {
                tries.tell(candidate, &error);
                return Attempt::Failed(self.unknown(error, bidder, request, tries).await);
            }
            tries.fail(candidate, error);
            match next {
                Next::Final | Next::Unknown => break,
                Next::FreshBid => expired = true,
                Next::Elsewhere => {}
            }
        }
        if expired && !tries.again && tries.left() >= limits::ATTEMPT {
            tries.again = true;
            return Attempt::Again;
        }
        Attempt::Failed(tries.or_failure(StartError::NoNodes))
    }

    /// The error of a deploy after which nobody knows whether the workload runs. The bidder is asked for
    /// running workloads of that name, for the person who has to find out; where the answer was lost
    /// with the connection, only if that comes back.
    async fn unknown(
        &self,
        error: ClientError,
        bidder: Option<&NodeId>,
        request: &StartWorkloadRequest,
        tries: &mut Tries,
    ) -> StartError {
        let connected = timeout(nex_nats::RECONNECT, self.losses.up()).await;
        let seen = match connected {
            Ok(true) => self.seen(bidder, request).await,
            Ok(false) | Err(_) => Vec::new(),
        };
        let node = bidder.cloned();
        let attempts = std::mem::take(&mut tries.failed);
        match error {
            ClientError::ConnectionLost => StartError::ConnectionLost {
                node,
                seen,
                attempts,
            },
            ClientError::Refused(refused) => StartError::Unconfirmed {
                refused: Box::new(refused),
                seen,
                attempts,
            },
            ClientError::NodeAbsent { node, after } => StartError::NodeAbsent {
                node,
                after,
                seen,
                attempts,
            },
            ClientError::TimedOut { after } => StartError::Unanswered {
                node,
                after,
                seen,
                attempts,
            },
            other => StartError::Client(other),
        }
    }

    async fn seen(
        &self,
        node: Option<&NodeId>,
        request: &StartWorkloadRequest,
    ) -> Vec<WorkloadSummary> {
        let Some(node) = node else {
            return Vec::new();
        };
        if request.name.is_empty() {
            return Vec::new();
        }
        let listed = self.list(std::slice::from_ref(&request.name)).await;
        let workloads = listed.map(|answer| answer.workloads).unwrap_or_default();
        let mine =
            |workload: &WorkloadSummary| workload.id.minted_by(node) && !workload.has_ended();
        workloads
            .into_iter()
            .map(|(_, workload)| workload)
            .filter(mine)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(code: ErrorCode, text: &str, ours: bool) -> Next {
        let refused = Refused {
            code,
            text: text.to_owned(),
            detail: None,
            hint: None,
            error_id: String::new(),
            node: None,
        };
        Next::after(&refused.into(), ours)
    }

    #[test]
    fn what_another_node_may_not_have_is_tried_there() {
        for (code, text) in [
            (ErrorCode::Busy, "nexlets of type `native` are full"),
            (ErrorCode::Timeout, "the workload did not start within 50s"),
            (
                ErrorCode::Internal,
                "failed to publish start workload request",
            ),
            (ErrorCode::NotFound, NO_TYPE),
        ] {
            assert_eq!(after(code, text, true), Next::Elsewhere, "{text}");
        }
        assert_eq!(
            after(ErrorCode::NotFound, BID_EXPIRED, true),
            Next::FreshBid
        );
        assert_eq!(Next::after(&ClientError::NoNodes, true), Next::Elsewhere);
    }

    #[test]
    fn what_every_node_would_say_is_final() {
        for code in [
            ErrorCode::BadRequest,
            ErrorCode::Forbidden,
            ErrorCode::Nexlet,
            ErrorCode::TooLarge,
            ErrorCode::NotFound,
            ErrorCode::Other(418),
        ] {
            assert_eq!(after(code, "no", true), Next::Final, "{code}");
        }
    }

    #[test]
    fn what_may_run_is_tried_nowhere_else() {
        let after_limit = Duration::from_secs(60);
        let silence = ClientError::TimedOut { after: after_limit };
        assert_eq!(Next::after(&silence, true), Next::Unknown);
        assert_eq!(after(ErrorCode::Internal, MAY_RUN, true), Next::Unknown);
        let unheard = "failed to publish start workload request";
        assert_eq!(after(ErrorCode::Internal, unheard, false), Next::Unknown);
        // Without credentials a Go node asks no nexlet.
        let mint = "failed to mint workload nats connection";
        assert_eq!(after(ErrorCode::Internal, mint, false), Next::Elsewhere);
    }
}
