//! Who is there.

use std::time::Duration;

use nex_protocol::{
    NexletId, NodeId, Subject, Tags,
    control::{NodePingRequest, NodePingResponse},
};

use crate::{
    client::{Client, decode, encode},
    error::{ClientError, check},
    explain::NAME_TAG,
    fleet::{Broadcast, Heard, Patience, Rule},
    limits,
};

/// No node, or too many.
#[derive(Debug, thiserror::Error)]
pub enum FindNodeError {
    /// None has that id or name, or begins so.
    #[error("node not found: `{text}`")]
    NotFound {
        /// What was asked for.
        text: String,
        /// Nodes that did not answer, and might have that name.
        missing: Vec<NodeId>,
    },
    /// Several have that name, or begin so.
    #[error("several nodes match `{text}`")]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// All of them.
        candidates: Vec<NodePingResponse>,
    },
    /// Asking failed.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The one node that a workload is for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) id: NodeId,
    /// The value of the tag that names it.
    pub(crate) name: Option<String>,
    /// Whether it is a Go node, whose bids do not say whose they are.
    pub(crate) go: bool,
}

impl From<NodePingResponse> for Target {
    fn from(pong: NodePingResponse) -> Self {
        Self {
            id: pong.node_id,
            name: pong.tags.get(NAME_TAG).cloned(),
            go: pong.peers.is_none(),
        }
    }
}

/// The nodes that a person means: by exact id, else by exact name, else by the beginning of an id.
fn meant(nodes: Vec<NodePingResponse>, text: &str) -> Vec<NodePingResponse> {
    let ways: [fn(&NodePingResponse, &str) -> bool; 3] = [
        |node, text| node.node_id.as_str() == text,
        |node, text| node.tags.get(NAME_TAG).is_some_and(|name| name == text),
        |node, text| !text.is_empty() && node.node_id.as_str().starts_with(text),
    ];
    let found = ways
        .iter()
        .find(|way| nodes.iter().any(|node| way(node, text)));
    match found {
        Some(way) => nodes.into_iter().filter(|node| way(node, text)).collect(),
        None => Vec::new(),
    }
}

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
        while let Some(heard) = broadcast.next().await? {
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

    /// Asks one node who it is.
    ///
    /// # Errors
    /// [`ClientError::NodeNotFound`] when nobody listens under that id; [`ClientError::NoAnswer`],
    /// which names the node, when it says nothing.
    pub async fn ping(&self, node: &NodeId) -> Result<NodePingResponse, ClientError> {
        let body = encode(&NodePingRequest::default());
        let subject = Subject::PingNode(node.clone());
        let reply = self
            .request_node(node, &subject, body, limits::NODE)
            .await?;
        check(&reply)?;
        decode(&reply.payload)
    }

    /// Finds the node that a person means by an id, a name or the beginning of an id.
    ///
    /// ```no_run
    /// # async fn example(connection: nex_nats::Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// use nex_client::{Client, FindNodeError};
    /// use nex_protocol::Namespace;
    ///
    /// let client = Client::new(&connection, Namespace::system());
    /// match client.find_node("rack-3").await {
    ///     Ok(node) => println!("{} is {}", node.node_id, node.state),
    ///     Err(FindNodeError::NotFound { text, .. }) => println!("no node `{text}`"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When none or several match, or asking failed.
    pub async fn find_node(&self, text: &str) -> Result<NodePingResponse, FindNodeError> {
        if let Ok(node) = NodeId::new(text) {
            return match self.ping(&node).await {
                Err(ClientError::NodeNotFound(_)) => Err(FindNodeError::NotFound {
                    text: text.to_owned(),
                    missing: Vec::new(),
                }),
                other => Ok(other?),
            };
        }
        let answer = self.nodes(&Tags::new(), None).await?;
        let mut found = meant(answer.nodes, text);
        let text = text.to_owned();
        match (found.pop(), found.is_empty()) {
            (Some(node), true) => Ok(node),
            (Some(last), false) => {
                found.push(last);
                Err(FindNodeError::Ambiguous {
                    text,
                    candidates: found,
                })
            }
            (None, _) => Err(FindNodeError::NotFound {
                text,
                missing: answer.missing,
            }),
        }
    }

    /// The tags of all nodes, as the Go client tells them: of each name the first value that came.
    ///
    /// # Errors
    /// When the request cannot be sent, or somebody listens and nobody answered.
    pub async fn placement_tags(&self) -> Result<Tags, ClientError> {
        let mut broadcast = Broadcast::send(
            self,
            &Subject::PlacementTags,
            "".into(),
            Rule::Everyone,
            Patience::default(),
        )
        .await?;
        let mut tags = Tags::new();
        while let Some(heard) = broadcast.next().await? {
            let Heard::Reply(reply) = heard else { continue };
            let one: Option<Tags> = match reply.check() {
                Ok(()) => decode(reply.payload())?,
                Err(refused) => return Err(refused.into()),
            };
            for (name, value) in one.unwrap_or_default() {
                tags.entry(name).or_insert(value);
            }
        }
        if !broadcast.nobody_listens() {
            broadcast.check_silence()?;
        }
        Ok(tags)
    }

    /// The id of the nexlet of that name on a node; `None` where the node says nothing, which is how
    /// it says that it has none of that name.
    ///
    /// # Errors
    /// [`ClientError::NodeNotFound`] when nobody listens under that id; what the node answered
    /// otherwise.
    pub async fn nexlet_id(
        &self,
        node: &NodeId,
        name: &str,
    ) -> Result<Option<NexletId>, ClientError> {
        let subject = Subject::NexletIdByName(node.clone());
        let body = name.as_bytes().to_vec().into();
        let reply = match self
            .request_node(node, &subject, body, limits::NEXLET_ID)
            .await
        {
            Ok(reply) => reply,
            Err(ClientError::NoAnswer { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        check(&reply)?;
        let id = std::str::from_utf8(&reply.payload).ok();
        let id = id.and_then(|id| NexletId::new(id).ok());
        id.map(Some).ok_or_else(|| {
            ClientError::Malformed(serde::de::Error::custom("not the id of a nexlet"))
        })
    }
}

#[cfg(test)]
mod tests {
    use nex_protocol::control::{NodeState, zero_time};

    use super::*;

    fn node(fill: &str, name: &str) -> NodePingResponse {
        NodePingResponse {
            agent_count: 0,
            node_id: NodeId::new(format!("N{fill:A<55}")).unwrap(),
            start_time: zero_time(),
            state: NodeState::Running,
            tags: Tags::from([(NAME_TAG.to_owned(), name.to_owned())]),
            version: String::new(),
            xkey: String::new(),
            peers: None,
        }
    }

    #[test]
    fn a_name_goes_before_the_beginning_of_an_id() {
        let nodes = vec![
            node("B", "n1"),
            node("BC", "NB"),
            node("D", "twin"),
            node("E", "twin"),
        ];
        let found = |text: &str| meant(nodes.clone(), text).len();

        assert_eq!(found("n1"), 1);
        assert_eq!(found("NB"), 1, "a name, and the beginning of two ids");
        assert_eq!(found("NBA"), 1);
        assert_eq!(found("twin"), 2);
        assert_eq!(found("N"), 4);
        assert_eq!((found(""), found("x")), (0, 0));
        assert_eq!(found(nodes[0].node_id.as_str()), 1);
    }
}
