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

/// What an order to take work again says of time: nothing is done with it, and the longest is the
/// safest.
const UNREAD_DELAY: &str = "8760h0m0s";

impl Client {
    /// Tells a node to take no more work, and to end after `delay` with what it runs. A second
    /// order replaces the time of the first. A node that lacks one of the tags says nothing.
    ///
    /// # Errors
    /// [`ClientError::NodeNotFound`] when nobody listens under that id; [`ClientError::NoAnswer`],
    /// which names the node, when it says nothing; [`ClientError::NodeAbsent`] when it does not even
    /// answer pings; what it answered otherwise.
    pub async fn lameduck(
        &self,
        node: &NodeId,
        delay: Duration,
        tags: Tags,
    ) -> Result<LameduckResponse, ClientError> {
        let delay = GoDuration(delay).to_string();
        self.order(node, delay, tags, false).await
    }

    /// Tells a lame duck to take work again; it goes on as before. A node that lacks one of the tags
    /// says nothing.
    ///
    /// A Go node would take the order for a first one, so it is asked first what it is.
    ///
    /// # Errors
    /// [`ClientError::GoNode`] for a Go node, to which nothing is sent;
    /// [`ClientError::NodeNotFound`] when nobody listens under that id; what it answered otherwise,
    /// also where it is no lame duck or at its end.
    pub async fn cancel_lameduck(
        &self,
        node: &NodeId,
        tags: Tags,
    ) -> Result<LameduckResponse, ClientError> {
        if self.ping(node).await?.peers.is_none() {
            return Err(ClientError::GoNode(node.clone()));
        }
        self.order(node, UNREAD_DELAY.to_owned(), tags, true).await
    }

    async fn order(
        &self,
        node: &NodeId,
        delay: String,
        tag: Tags,
        cancel: bool,
    ) -> Result<LameduckResponse, ClientError> {
        let request = LameduckRequest { delay, tag, cancel };
        let subject = Subject::Lameduck(node.clone());
        let reply = self
            .request_watched(node, &subject, encode(&request), limits::LAMEDUCK)
            .await
            .map_err(|error| error.of_node(node))?;
        check(&reply)?;
        decode(&reply.payload)
    }
}
