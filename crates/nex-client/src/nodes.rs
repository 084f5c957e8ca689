//! Who is there.

use std::time::Duration;

use nex_protocol::{NodeId, Tags, control::NodePingResponse};

use crate::{
    client::Client,
    error::ClientError,
    fleet::{Broadcast, Heard, Patience, Rule},
};

/// The nodes that answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodesAnswer {
    /// Those with the tags asked for, ordered by id.
    pub nodes: Vec<NodePingResponse>,
    /// Those that are known to the others and did not answer.
    pub missing: Vec<NodeId>,
}

impl Client {
    /// Asks all nodes who they are, and keeps those that have all the tags of `filter`.
    ///
    /// Waits `limit` for nodes that do not answer; else [`BROADCAST`](crate::limits::BROADCAST), and
    /// [`SILENCE`](crate::limits::SILENCE) while none does.
    ///
    /// # Errors
    /// When the request cannot be sent, or somebody listens and nobody answered.
    pub async fn nodes(
        &self,
        filter: &Tags,
        limit: Option<Duration>,
    ) -> Result<NodesAnswer, ClientError> {
        // Nodes are asked without the filter: those that it leaves out would be silent, and could
        // not be told from the dead.
        let patience = limit.map_or_else(Patience::default, |limit| Patience {
            silence: limit,
            rest: limit,
        });
        let mut broadcast = Broadcast::ping(self, Rule::Pongs, patience).await?;
        let mut nodes = Vec::new();
        while let Some(heard) = broadcast.next().await {
            if let Heard::Pong(pong) = heard
                && filter
                    .iter()
                    .all(|(key, value)| pong.tags.get(key) == Some(value))
            {
                nodes.push(pong);
            }
        }
        broadcast.check_silence()?;
        nodes.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        Ok(NodesAnswer {
            nodes,
            missing: broadcast.missing(),
        })
    }
}
