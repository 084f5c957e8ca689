//! Ends a node in time for its workloads to move.

use std::time::Duration;

use nex_protocol::{
    GoDuration, NodeId, Subject, Tags,
    control::{LameduckRequest, LameduckResponse},
};

use crate::{
    client::{Client, decode, encode},
    error::{ClientError, check},
    limits,
};

impl Client {
    /// Tells a node to take no more work, and to end after `delay` with what it runs. A second
    /// order replaces the time of the first. A node that lacks one of the tags says nothing.
    ///
    /// # Errors
    /// [`ClientError::NodeNotFound`] when nobody listens under that id; [`ClientError::NoAnswer`],
    /// which names the node, when it says nothing; what it answered otherwise.
    pub async fn lameduck(
        &self,
        node: &NodeId,
        delay: Duration,
        tags: Tags,
    ) -> Result<LameduckResponse, ClientError> {
        let request = LameduckRequest {
            delay: GoDuration(delay).to_string(),
            tag: tags,
            cancel: false,
        };
        let subject = Subject::Lameduck(node.clone());
        let reply = self
            .request_node(node, &subject, encode(&request), limits::LAMEDUCK)
            .await?;
        check(&reply)?;
        decode(&reply.payload)
    }
}
