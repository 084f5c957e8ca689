//! The absence of a node whose answer is awaited: it was killed, hangs, or was started again.

use std::future::pending;

use jiff::Timestamp;
use nex_nats::Presence;
use nex_protocol::{
    GoDuration, NodeId, Subject,
    control::{NodePingRequest, NodePingResponse},
};
use tokio::time::Instant;

use crate::{
    client::{Client, decode, encode},
    error::ClientError,
};

impl Client {
    /// Resolves with an error when `node` will not answer a request that was sent at `sent`: it has missed
    /// several pings in a row, or it was started again. Never resolves where the server does not let
    /// this user ping the node. Cancel safe.
    pub(crate) async fn absence(&self, node: NodeId, sent: Instant) -> ClientError {
        let subject = Subject::PingNode(node.clone()).to_string();
        let denied = self.denials.of(&subject);
        let absence = async {
            let body = encode(&NodePingRequest::default());
            let mut pings = Presence::new(&self.nats, subject, body);
            let mut life = Life::default();
            loop {
                let missed_before = pings.is_missed();
                let pong = pings.next().await;
                let pong = pong.and_then(|pong| decode::<NodePingResponse>(&pong.payload).ok());
                let gone = match pong {
                    Some(pong) => {
                        life.is_another(pong.start_time)
                            || missed_before && self.started_after(&node, sent).await
                    }
                    None => pings.is_absent(),
                };
                if gone {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = denied => return pending().await,
            () = absence => {}
        }
        ClientError::NodeAbsent {
            node,
            after: sent.elapsed(),
        }
    }

    /// Returns whether a node was started after `sent`, as far as the node says.
    async fn started_after(&self, node: &NodeId, sent: Instant) -> bool {
        let asked = Instant::now();
        let Ok(info) = self.node_info(node).await else {
            return false;
        };
        let uptime = info.uptime.parse::<GoDuration>();
        uptime.is_ok_and(|uptime| uptime.0 < asked - sent)
    }
}

/// The life of a node, by its start time.
#[derive(Debug, Default)]
struct Life(Option<Timestamp>);

impl Life {
    /// Returns whether a start time is that of another life than the first one seen.
    fn is_another(&mut self, start_time: Timestamp) -> bool {
        *self.0.get_or_insert(start_time) != start_time
    }
}
