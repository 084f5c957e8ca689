//! The live nodes that this node knows of. Pure: time comes in as an argument.

use std::{collections::BTreeMap, time::Instant};

use nex_protocol::NodeId;

use crate::timeouts::PEER_LIMIT;

/// The most nodes that are remembered; a stranger beyond that is not taken for a peer.
const MAX_PEERS: usize = 10_000;

/// Who was heard of when.
#[derive(Debug)]
pub(crate) struct Peers {
    own: NodeId,
    heard: BTreeMap<NodeId, Instant>,
}

impl Peers {
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            heard: BTreeMap::new(),
        }
    }

    /// A node has said that it lives.
    pub(crate) fn heard(&mut self, now: Instant, node: NodeId) {
        if self.heard.len() >= MAX_PEERS && !self.heard.contains_key(&node) {
            self.heard
                .retain(|_, heard| now.duration_since(*heard) < PEER_LIMIT);
            if self.heard.len() >= MAX_PEERS {
                return;
            }
        }
        self.heard.insert(node, now);
    }

    /// Returns whether a node was heard lately.
    pub(crate) fn knows(&self, now: Instant, node: &NodeId) -> bool {
        let heard = self.heard.get(node);
        heard.is_some_and(|heard| now.duration_since(*heard) < PEER_LIMIT)
    }

    /// A node has said that it ends.
    pub(crate) fn stopped(&mut self, node: &NodeId) {
        self.heard.remove(node);
    }

    /// How many others that live come before this node in the order of ids.
    pub(crate) fn place(&self, now: Instant) -> usize {
        let before = self.heard.range(..&self.own);
        let living = before.filter(|(_, heard)| now.duration_since(**heard) < PEER_LIMIT);
        living.count()
    }

    /// All that live, this node included.
    pub(crate) fn living(&mut self, now: Instant) -> Vec<NodeId> {
        self.heard
            .retain(|_, heard| now.duration_since(*heard) < PEER_LIMIT);
        let mut living: Vec<NodeId> = self.heard.keys().cloned().collect();
        if let Err(place) = living.binary_search(&self.own) {
            living.insert(place, self.own.clone());
        }
        living
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn node(fill: char) -> NodeId {
        NodeId::new(format!("N{}", fill.to_string().repeat(55))).unwrap()
    }

    #[test]
    fn a_node_is_its_own_peer() {
        let mut peers = Peers::new(node('A'));

        assert_eq!(peers.living(Instant::now()), [node('A')]);
    }

    #[test]
    fn each_peer_has_its_place() {
        let now = Instant::now();
        let mut peers = Peers::new(node('B'));
        assert_eq!(peers.place(now), 0);

        // It hears itself too.
        for fill in ['C', 'B', 'A'] {
            peers.heard(now, node(fill));
        }

        assert_eq!(peers.place(now), 1);
        assert_eq!(peers.place(now + PEER_LIMIT), 0);
    }

    #[test]
    fn a_peer_is_forgotten_after_three_silent_periods() {
        let start = Instant::now();
        let mut peers = Peers::new(node('B'));
        peers.heard(start, node('A'));
        peers.heard(start + Duration::from_secs(1), node('C'));

        assert_eq!(peers.living(start), [node('A'), node('B'), node('C')]);
        assert_eq!(peers.living(start + PEER_LIMIT), [node('B'), node('C')]);
    }

    #[test]
    fn a_peer_that_says_goodbye_is_gone_at_once() {
        let now = Instant::now();
        let mut peers = Peers::new(node('A'));
        peers.heard(now, node('B'));

        peers.stopped(&node('B'));

        assert_eq!(peers.living(now), [node('A')]);
    }

    #[test]
    fn strangers_cannot_push_out_the_living() {
        let now = Instant::now();
        let mut peers = Peers::new(node('A'));
        peers.heard = (0..MAX_PEERS)
            .map(|n| {
                let digits: String = format!("{n:055}")
                    .chars()
                    .map(|c| char::from(b'A' + (c as u8 - b'0')))
                    .collect();
                (NodeId::new(format!("N{digits}")).unwrap(), now)
            })
            .collect();

        peers.heard(now, node('Z'));

        assert!(!peers.living(now).contains(&node('Z')));
    }
}
