//! Starts a workload once more.

use nex_protocol::{
    ErrorCode, StartWorkloadRequest, Subject, Tags, WorkloadId, control::CloneWorkloadRequest,
    error::WORKLOAD_NOT_FOUND,
};
use nkeys::XKey;

use crate::{
    client::{Client, decode, encode},
    error::ClientError,
    explain::Explained,
    fleet::{Broadcast, Heard, Patience, Reply, Rule},
    limits,
    start::{PlaceOptions, Placed, StartError, StartSpec},
};

impl Client {
    /// Starts another workload like that one, in the other's namespace and under its name, on a
    /// node with these tags. They become the tags of the clone; those of the other are not asked
    /// for. The other runs on.
    ///
    /// # Errors
    /// [`ClientError::WorkloadNotFound`] when nobody has it; else as for [`start`](Self::start).
    pub async fn clone_workload(&self, id: &WorkloadId, tags: Tags) -> Result<Placed, StartError> {
        let options = PlaceOptions::default();
        self.place_clone(id, tags, &options).await.outcome
    }

    /// [`clone_workload`](Self::clone_workload) with options, and how the place was chosen.
    pub async fn place_clone(
        &self,
        id: &WorkloadId,
        tags: Tags,
        options: &PlaceOptions,
    ) -> Explained<Placed> {
        let request = match self.start_request(id).await {
            Ok(request) => request,
            Err(error) => {
                return Explained {
                    outcome: Err(error.into()),
                    explanation: None,
                };
            }
        };
        let spec = StartSpec {
            workload_type: request.workload_type.clone(),
            lifecycle: request.workload_lifecycle,
            run_request: request.run_request.clone(),
            name: request.name.clone(),
            description: request.description.clone(),
            tags,
            metadata: request.metadata.clone(),
        };
        self.in_namespace(request.namespace)
            .place_with(spec, request.reference, options)
            .await
    }

    /// What would start a workload once more. In the namespace `system` the workload may be of any
    /// namespace.
    ///
    /// # Errors
    /// [`ClientError::WorkloadNotFound`] when nobody has it; what its node answered otherwise.
    pub async fn start_request(
        &self,
        id: &WorkloadId,
    ) -> Result<StartWorkloadRequest, ClientError> {
        let request = CloneWorkloadRequest {
            namespace: self.namespace.clone(),
            // Every Go peer wants one, and none encrypts with it.
            new_target_xkey: XKey::new().public_key(),
        };
        let mut broadcast = Broadcast::send(
            self,
            &Subject::Clone(self.namespace.clone(), id.clone()),
            encode(&request),
            Rule::Owner(id.clone(), limits::NODE),
            Patience::default(),
        )
        .await?;

        let mut refusal = None;
        while let Some(heard) = broadcast.next().await? {
            let Heard::Reply(reply) = heard else { continue };
            match self.read(&reply) {
                Ok(Some(request)) => return Ok(request),
                Ok(None) => {}
                // Another node may still have it.
                Err(error) => refusal = Some(error),
            }
        }
        if let Some(error) = refusal {
            return Err(error);
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

    /// What one reply says; nothing where its sender does not have the workload.
    fn read(&self, reply: &Reply) -> Result<Option<StartWorkloadRequest>, ClientError> {
        match reply.check() {
            Ok(()) => {}
            Err(refused)
                if refused.code == ErrorCode::NotFound
                    || refused.text.eq_ignore_ascii_case(WORKLOAD_NOT_FOUND) =>
            {
                return Ok(None);
            }
            Err(refused) => return Err(refused.into()),
        }
        // A Go peer may answer `null` where it has nothing.
        let found: Option<StartWorkloadRequest> = decode(reply.payload())?;
        let visible = |found: &StartWorkloadRequest| {
            self.namespace.is_system() || found.namespace == self.namespace
        };
        Ok(found.filter(visible))
    }
}
