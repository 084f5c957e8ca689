//! Ends a workload.

use std::{future::pending, time::Duration};

use nex_protocol::{
    ErrorCode, GoDuration, Namespace, Subject, WorkloadId,
    error::WORKLOAD_NOT_FOUND,
    workload::{StopWorkloadRequest, StopWorkloadResponse},
};

use tokio::time::Instant;

use crate::{
    client::{Client, decode, encode},
    error::{ClientError, Refused},
    fleet::{Broadcast, Heard, Patience, Reply, Rule},
    limits,
};

/// What one reply says about the workload.
enum Said {
    /// Its owner: how the stop went.
    Outcome(StopWorkloadResponse),
    /// Its owner, or whoever should be: an error.
    Refusal(Refused),
    /// Not mine.
    Unknown,
}

fn read(reply: &Reply) -> Said {
    let body = decode::<StopWorkloadResponse>(reply.payload()).ok();
    let not_found = |text: &str| text.eq_ignore_ascii_case(WORKLOAD_NOT_FOUND);
    if let Some(response) = &body
        && (response.stopped || !response.workload_type.is_empty())
        && !not_found(&response.message)
    {
        return Said::Outcome(response.clone());
    }
    match reply.check() {
        Ok(()) => Said::Unknown,
        Err(refused) if refused.code == ErrorCode::NotFound || not_found(&refused.text) => {
            Said::Unknown
        }
        Err(refused) => Said::Refusal(refused),
    }
}

impl Client {
    /// Stops a workload and returns when it is dead, or `wait` (else [`limits::STOP_GRACE`]) is
    /// over; then `stopped` is false and the message says why.
    ///
    /// In the namespace `system` the workload may be of any namespace.
    ///
    /// # Errors
    /// [`ClientError::WorkloadNotFound`] when nobody has it; [`ClientError::NodeAbsent`] when its node stopped
    /// answering before it said how the stop went; what its node answered otherwise.
    pub async fn stop(
        &self,
        id: &WorkloadId,
        wait: Option<Duration>,
    ) -> Result<StopWorkloadResponse, ClientError> {
        self.end(id, wait, false).await
    }

    /// As [`stop`](Self::stop), and removes what the workload would find again after another start:
    /// the place of a function in a stream, unless other replicas use it.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn purge(
        &self,
        id: &WorkloadId,
        wait: Option<Duration>,
    ) -> Result<StopWorkloadResponse, ClientError> {
        self.end(id, wait, true).await
    }

    async fn end(
        &self,
        id: &WorkloadId,
        wait: Option<Duration>,
        purge: bool,
    ) -> Result<StopWorkloadResponse, ClientError> {
        let namespace = if self.namespace.is_system() {
            self.namespace_of(id).await?
        } else {
            self.namespace.clone()
        };
        let wait = wait.unwrap_or(limits::STOP_GRACE);
        let request = StopWorkloadRequest {
            namespace: namespace.clone(),
            wait: Some(GoDuration(wait)),
            purge,
        };
        let limit = wait + limits::STOP_MARGIN;
        let sent = Instant::now();
        let mut broadcast = Broadcast::send(
            self,
            &Subject::Undeploy(namespace, id.clone()),
            encode(&request),
            Rule::Owner(id.clone(), limit),
            Patience::default(),
        )
        .await?;

        let mut refusal = None;
        let mut absence = None;
        loop {
            if absence.is_none()
                && let Some(owner) = broadcast.owner()
            {
                absence = Some(Box::pin(self.absence(owner, sent)));
            }
            let owner_is_absent = async {
                match &mut absence {
                    Some(absence) => absence.await,
                    None => pending().await,
                }
            };
            let heard = tokio::select! {
                biased;
                heard = broadcast.next() => heard?,
                absent = owner_is_absent => return Err(absent),
            };
            let Some(heard) = heard else { break };
            let Heard::Reply(reply) = heard else { continue };
            match read(&reply) {
                Said::Outcome(response) => return Ok(response),
                // Another node may still have it.
                Said::Refusal(refused) => refusal = Some(refused),
                Said::Unknown => {}
            }
        }
        if let Some(refused) = refusal {
            return Err(refused.into());
        }
        if broadcast.nobody_listens() {
            return Err(ClientError::NoNodes);
        }
        broadcast.check_silence()?;
        Err(ClientError::WorkloadNotFound {
            id: id.to_string(),
            missing: broadcast.missing(),
        })
    }

    /// The namespace of a workload, for a caller that sees all of them.
    async fn namespace_of(&self, id: &WorkloadId) -> Result<Namespace, ClientError> {
        let answer = self.list(&[id.to_string()]).await?;
        let mut found = answer.workloads.into_iter().map(|(_, each)| each);
        match found.find(|each| each.id == *id) {
            // Older nexlets do not say; `system` may then stop it, or hear why not.
            Some(workload) => Ok(workload.namespace.unwrap_or_else(Namespace::system)),
            None => Err(ClientError::WorkloadNotFound {
                id: id.to_string(),
                missing: answer.missing,
            }),
        }
    }
}
