//! Ends of workloads: what the node is to hear of, until it says that it has. Pure: time comes in as
//! an argument.
//!
//! An end goes out with the next heartbeat, and again with later ones: a message that is under way
//! when a server ends is lost. A node of ours confirms the ends that it has read, and is told until it
//! does; one of Go never confirms, and is told for two minutes, which it ignores.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nex_protocol::{NodeId, WorkloadId, registration::EndedWorkload};

/// How many ends are remembered; about a megabyte.
const MAX_LATEST: usize = 10_000;

/// How many go into one heartbeat; far below the largest message that a server takes.
pub(crate) const MAX_ENDS: usize = 500;

/// How soon an end is told again; less than the time between two regular heartbeats.
const AGAIN_AFTER: Duration = Duration::from_secs(4);

/// Number of reports to a node that confirms nothing: they go on for longer than a node takes to compare what runs
/// with what should.
const MAX_TIMES: usize = 24;

/// The ends of one nexlet, over its stays with nodes.
pub(crate) type Memory = Arc<Mutex<Ends>>;

/// Ends of workloads.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Those that nodes are still to hear of.
    untold: VecDeque<Untold>,
    /// The latest ones, told or not: a node that was not there may not have heard of them.
    latest: HashMap<WorkloadId, EndedWorkload>,
    /// Their ids, the oldest first.
    order: VecDeque<WorkloadId>,
    /// The nodes that confirm what they are told.
    confirming: HashSet<NodeId>,
    /// Those that are stopped here because another nexlet has them: they do not end.
    moved: HashSet<WorkloadId>,
    /// The number of the last heartbeat.
    last: u64,
}

/// One end that its node has not said it has heard.
#[derive(Debug)]
struct Untold {
    node: NodeId,
    ended: EndedWorkload,
    /// The heartbeats that had it.
    told: Vec<u64>,
    /// When it is told again; at once where it is not set.
    again: Option<Instant>,
}

impl Ends {
    /// A workload of that node has ended, or was refused.
    pub(crate) fn add(&mut self, node: &NodeId, ended: EndedWorkload) {
        if !ended.refused {
            self.remember(&ended);
        }
        self.tell(node, ended);
    }

    /// A workload is to be stopped here, and runs on elsewhere.
    pub(crate) fn moves(&mut self, id: &WorkloadId) {
        self.moved.insert(id.clone());
    }

    /// What ends from now on is its own end. Answers whether it was to be stopped here.
    pub(crate) fn moves_no_longer(&mut self, id: &WorkloadId) -> bool {
        self.moved.remove(id)
    }

    /// A workload is being started: an earlier refusal of it is not told any more.
    pub(crate) fn starts(&mut self, id: &WorkloadId) {
        self.moved.remove(id);
        self.untold
            .retain(|untold| !(untold.ended.refused && untold.ended.id == *id));
    }

    /// A node confirms what it is told.
    pub(crate) fn confirms(&mut self, node: &NodeId) {
        if !self.confirming.contains(node) {
            self.confirming.insert(node.clone());
        }
    }

    /// Has the node told once more, if the workload has ended here as far as is remembered.
    pub(crate) fn tell_again(&mut self, node: &NodeId, id: &WorkloadId) -> bool {
        let Some(ended) = self.latest.get(id).cloned() else {
            return false;
        };
        self.tell(node, ended);
        true
    }

    fn tell(&mut self, node: &NodeId, ended: EndedWorkload) {
        let same = |untold: &Untold| untold.ended.id == ended.id && untold.node == *node;
        self.untold.retain(|untold| !same(untold));
        self.untold.push_back(Untold {
            node: node.clone(),
            ended,
            told: Vec::new(),
            again: None,
        });
        if self.untold.len() > MAX_LATEST {
            self.untold.pop_front();
        }
    }

    fn remember(&mut self, ended: &EndedWorkload) {
        let id = &ended.id;
        if self.latest.insert(id.clone(), ended.clone()).is_none() {
            self.order.push_back(id.clone());
        }
        if self.order.len() > MAX_LATEST
            && let Some(oldest) = self.order.pop_front()
        {
            self.latest.remove(&oldest);
        }
    }

    /// What goes into the next heartbeat for a node, and that heartbeat's number.
    pub(crate) fn take(&mut self, now: Instant, node: &NodeId) -> (u64, Vec<EndedWorkload>) {
        self.last += 1;
        let number = self.last;
        let due = |untold: &&mut Untold| {
            untold.node == *node && untold.again.is_none_or(|again| again <= now)
        };
        let due = self.untold.iter_mut().filter(due).take(MAX_ENDS);
        let taken = due.map(|untold| {
            // Enough to recognise a confirmation that comes late.
            if untold.told.len() >= MAX_TIMES {
                untold.told.remove(0);
            }
            untold.told.push(number);
            untold.again = Some(now + AGAIN_AFTER);
            untold.ended.clone()
        });
        let taken = taken.collect();
        (number, taken)
    }

    /// The heartbeat of that number was not sent.
    pub(crate) fn untake(&mut self, number: u64) {
        for untold in &mut self.untold {
            if untold.told.last() == Some(&number) {
                untold.told.pop();
                untold.again = None;
            }
        }
    }

    /// The node has heard what was in the heartbeat of that number.
    pub(crate) fn heard(&mut self, number: u64) {
        self.untold.retain(|untold| !untold.told.contains(&number));
    }

    /// A heartbeat is out: a node that confirms nothing is told of an end so often, and not again.
    pub(crate) fn sent(&mut self) {
        let confirming = &self.confirming;
        self.untold
            .retain(|untold| untold.told.len() < MAX_TIMES || confirming.contains(&untold.node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(letter: &str) -> NodeId {
        NodeId::new(format!("N{}", letter.repeat(55))).unwrap()
    }

    fn end(number: usize, refused: bool) -> EndedWorkload {
        EndedWorkload {
            id: WorkloadId::new(format!("w{number}")).unwrap(),
            error: None,
            refused,
        }
    }

    #[test]
    fn the_oldest_ends_are_forgotten() {
        let mut ends = Ends::default();
        let node = node("A");

        ends.remember(&end(0, false));
        for number in 1..=MAX_LATEST {
            ends.remember(&end(number, false));
            ends.remember(&end(number, false));
        }
        // What was not taken up may come back.
        ends.add(&node, end(MAX_LATEST + 1, true));

        let knows = |number| ends.latest.contains_key(&end(number, false).id);
        assert!(!knows(0) && knows(1) && knows(MAX_LATEST));
        assert!(!knows(MAX_LATEST + 1));
        assert_eq!(ends.order.len(), ends.latest.len());
    }

    #[test]
    fn an_end_is_told_until_it_is_heard() {
        let (mut ends, node) = (Ends::default(), node("A"));
        let mut now = Instant::now();
        ends.add(&node, end(1, false));

        let (first, told) = ends.take(now, &node);
        assert_eq!(told, [end(1, false)]);
        assert!(
            ends.take(now, &node).1.is_empty(),
            "not in every one of a burst"
        );
        now += AGAIN_AFTER;
        assert_eq!(ends.take(now, &node).1.len(), 1);

        // The answer to the first one comes late.
        ends.heard(first);
        assert!(ends.take(now + AGAIN_AFTER, &node).1.is_empty());
    }

    #[test]
    fn what_was_not_sent_is_told_at_once() {
        let (mut ends, node) = (Ends::default(), node("A"));
        let now = Instant::now();
        ends.add(&node, end(1, false));

        let (number, _) = ends.take(now, &node);
        ends.untake(number);

        assert_eq!(ends.take(now, &node).1.len(), 1);
    }

    #[test]
    fn a_node_that_never_hears_is_told_for_longer_than_a_minute() {
        let (mut ends, node) = (Ends::default(), node("A"));
        let start = Instant::now();
        let mut now = start;
        ends.add(&node, end(1, false));

        while !ends.take(now, &node).1.is_empty() {
            ends.sent();
            now += AGAIN_AFTER;
        }

        assert!(now - start > Duration::from_secs(60));
        assert!(ends.untold.is_empty());
    }

    #[test]
    fn ends_are_told_to_the_node_that_they_are_of() {
        let mut ends = Ends::default();
        let (left, other) = (node("A"), node("B"));
        let now = Instant::now();
        ends.add(&left, end(1, false));

        assert!(ends.take(now, &other).1.is_empty());
        // Back with the first one, which hands it back.
        assert_eq!(ends.take(now, &left).1.len(), 1);
        assert!(ends.tell_again(&left, &end(1, false).id));
        assert_eq!(ends.take(now, &left).1.len(), 1);
    }
}
