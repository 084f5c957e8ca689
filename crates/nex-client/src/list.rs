//! What runs.

use nex_protocol::{
    NodeId, Subject, WorkloadSummary,
    workload::{ListWorkloadsRequest, read_list},
};

use crate::{
    client::{Client, encode},
    error::ClientError,
    fleet::{Broadcast, Heard, Patience, Rule},
};

/// The workloads of a namespace, or of all for `system`.
#[derive(Debug, Default)]
pub struct ListAnswer {
    /// The workloads, with their nodes where these say who they are.
    pub workloads: Vec<(Option<NodeId>, WorkloadSummary)>,
    /// Who should have answered and did not.
    pub missing: Vec<NodeId>,
    /// Who answered with an error.
    pub failed: Vec<(Option<NodeId>, ClientError)>,
    /// Whether nobody listens to such requests: no node is running.
    pub nobody: bool,
}

impl Client {
    /// Asks all nodes for their workloads: all of this client's namespace, or those whose id or
    /// name is one of `filter`.
    ///
    /// # Errors
    /// When the request cannot be sent, or nobody said anything to it. Errors of single nodes are in
    /// the answer.
    pub async fn list(&self, filter: &[String]) -> Result<ListAnswer, ClientError> {
        let request = ListWorkloadsRequest {
            filter: filter.to_vec(),
            namespace: self.namespace.clone(),
        };
        let subject = Subject::ListWorkloads(self.namespace.clone());
        let mut broadcast = Broadcast::send(
            self,
            &subject,
            encode(&request),
            Rule::Everyone,
            Patience::default(),
        )
        .await?;

        let mut answer = ListAnswer::default();
        while let Some(heard) = broadcast.next().await? {
            let Heard::Reply(reply) = heard else { continue };
            let read = match reply.check() {
                Ok(()) => read_list(reply.payload()).map_err(ClientError::Malformed),
                Err(refused) => Err(refused.into()),
            };
            match read {
                Ok(list) => {
                    let node = reply.node;
                    if let Some(unreadable) = list.unreadable {
                        let error = ClientError::Unreadable(unreadable);
                        answer.failed.push((node.clone(), error));
                    }
                    let named = list.workloads.into_iter().map(|each| (node.clone(), each));
                    answer.workloads.extend(named);
                }
                Err(error) => answer.failed.push((reply.node, error)),
            }
        }
        broadcast.check_silence()?;
        answer.missing = broadcast.missing();
        answer.nobody = broadcast.nobody_listens();
        Ok(answer)
    }
}
