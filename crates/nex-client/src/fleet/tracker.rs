//! Who is expected to answer, and who has. Pure: time comes in as an argument.

use std::{collections::BTreeSet, time::Duration};

use nex_protocol::{NodeId, WorkloadId};
use tokio::time::Instant;

use crate::limits::{BROADCAST, NEWCOMER, QUIET, SILENCE};

/// Who answers a request.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// Every node: lists.
    Everyone,
    /// The pongs are the answers.
    Pongs,
    /// Every node of ours; of Go nodes only those that bid.
    Bidders,
    /// The node that made this id, at once or after this long; Go nodes always.
    Owner(WorkloadId, Duration),
}

/// How long is waited for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// While nobody has said anything, and for who has said that it lives.
    pub(crate) silence: Duration,
    /// After the first sign of life, for who has given none.
    pub(crate) rest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            silence: SILENCE,
            rest: BROADCAST,
        }
    }
}

/// Whether more answers will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Complete,
    /// Look again at that time, or when something comes in.
    Until(Instant),
}

#[derive(Debug)]
pub(crate) struct Tracker {
    rule: Rule,
    patience: Patience,
    started: Instant,
    /// Who answered the ping, and whom these know.
    expected: BTreeSet<NodeId>,
    /// Who answered the ping and told whom it knows: our nodes. They name themselves in replies.
    ours: BTreeSet<NodeId>,
    /// Who answered the ping without: Go nodes.
    foreign: BTreeSet<NodeId>,
    answered: BTreeSet<NodeId>,
    /// Whose last chunk is still to come.
    partial: BTreeSet<NodeId>,
    /// Replies without a name.
    unnamed: usize,
    first_heard: Option<Instant>,
    last_heard: Option<Instant>,
    first_bid: Option<Instant>,
    /// When all of ours had answered an auction.
    ours_done: Option<Instant>,
    nobody: bool,
}

impl Tracker {
    pub(crate) fn new(rule: Rule, patience: Patience, started: Instant) -> Self {
        Self {
            rule,
            patience,
            started,
            expected: BTreeSet::new(),
            ours: BTreeSet::new(),
            foreign: BTreeSet::new(),
            answered: BTreeSet::new(),
            partial: BTreeSet::new(),
            unnamed: 0,
            first_heard: None,
            last_heard: None,
            first_bid: None,
            ours_done: None,
            nobody: false,
        }
    }

    pub(crate) fn pong(&mut self, node: &NodeId, peers: Option<&[NodeId]>, now: Instant) {
        self.heard(now);
        self.expected.insert(node.clone());
        if matches!(self.rule, Rule::Pongs) {
            self.answered.insert(node.clone());
        }
        match peers {
            Some(peers) => {
                self.ours.insert(node.clone());
                self.expected.extend(peers.iter().cloned());
            }
            None => {
                self.foreign.insert(node.clone());
            }
        }
    }

    pub(crate) fn reply(&mut self, node: Option<&NodeId>, more: bool, now: Instant) {
        self.heard(now);
        match node {
            Some(node) if more => {
                self.partial.insert(node.clone());
            }
            Some(node) => {
                self.partial.remove(node);
                self.answered.insert(node.clone());
            }
            None => self.unnamed += 1,
        }
    }

    fn heard(&mut self, now: Instant) {
        self.first_heard.get_or_insert(now);
        self.last_heard = Some(now);
    }

    pub(crate) fn bid(&mut self, now: Instant) {
        self.first_bid.get_or_insert(now);
    }

    pub(crate) fn nobody(&mut self) {
        self.nobody = true;
    }

    pub(crate) fn nobody_listens(&self) -> bool {
        self.nobody
    }

    /// How long nobody said anything at all, when it is over and nobody did.
    pub(crate) fn silence(&self) -> Option<Duration> {
        (!self.nobody && self.first_heard.is_none()).then_some(self.patience.silence)
    }

    /// The same where only an answer counts. A Go node has answered an auction with its silence.
    pub(crate) fn no_answers(&self) -> Option<Duration> {
        let some = self.nobody
            || self.unnamed > 0
            || !self.answered.is_empty()
            || !self.foreign.is_empty();
        (!some).then_some(self.patience.silence)
    }

    /// Expected nodes that have not answered by name, our own and the others.
    fn remaining(&self) -> (Vec<&NodeId>, Vec<&NodeId>) {
        let left = self.expected.difference(&self.answered);
        left.partition(|node| self.ours.contains(*node))
    }

    /// Whether we know whom to wait for. One of our nodes knows; Go nodes do not, and among them
    /// alone a silence has to do.
    fn knows_all(&self, now: Instant) -> Result<(), Option<Instant>> {
        if !self.ours.is_empty() {
            return Ok(());
        }
        match self.last_heard {
            Some(at) if now >= at + QUIET => Ok(()),
            Some(at) => Err(Some(at + QUIET)),
            None => Err(None),
        }
    }

    pub(crate) fn verdict(&mut self, now: Instant) -> Verdict {
        if self.nobody {
            return Verdict::Complete;
        }
        let until = match &self.rule {
            Rule::Everyone | Rule::Pongs => self.everyone(now),
            Rule::Bidders => self.bidders(now),
            Rule::Owner(id, wait) => self.owner(&id.clone(), *wait, now),
        };
        match until {
            Some(at) if now < at => Verdict::Until(at),
            _ => Verdict::Complete,
        }
    }

    /// When nothing more is waited for. `alive`: whether somebody who has said that it lives is yet
    /// to answer. It will, however busy it is; who is only known to others may be gone.
    fn end(&self, alive: bool) -> Instant {
        match self.first_heard {
            Some(heard) if !alive => heard + self.patience.rest,
            _ => self.started + self.patience.silence,
        }
    }

    /// Until when to wait; `None` when the answers are complete. So for the others.
    fn everyone(&self, now: Instant) -> Option<Instant> {
        let (ours, others) = self.remaining();
        let end = self.end(!ours.is_empty());
        if let Err(at) = self.knows_all(now) {
            return Some(at.map_or(end, |at| at.min(end)));
        }
        let complete = ours.is_empty() && others.len() <= self.unnamed && self.partial.is_empty();
        (!complete).then_some(end)
    }

    fn bidders(&mut self, now: Instant) -> Option<Instant> {
        let known = self.knows_all(now);
        let (ours, others) = self.remaining();
        let (foreign, unknown): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|node| self.foreign.contains(*node));
        let must_answer = ours.len() + unknown.len();
        let may_bid = foreign.len();
        let end = self.end(!ours.is_empty());
        if known.is_ok() && must_answer == 0 {
            if may_bid <= self.unnamed {
                return None;
            }
            self.ours_done.get_or_insert(now);
        }
        let window = [self.first_bid, self.ours_done].into_iter().flatten().min();
        let until = match window {
            Some(from) => Some(from + QUIET),
            None => known.err().flatten(),
        };
        Some(until.map_or(end, |until| until.min(end)))
    }

    fn owner(&self, id: &WorkloadId, wait: Duration, now: Instant) -> Option<Instant> {
        let mut makers = self.expected.iter().filter(|node| id.minted_by(node));
        if let Some(owner) = makers.find(|node| !self.foreign.contains(*node)) {
            if self.answered.contains(owner) {
                return None;
            }
            let heard = self.first_heard.unwrap_or(self.started);
            return Some(if self.ours.contains(owner) {
                heard + wait
            } else {
                self.end(false)
            });
        }
        let Some(last_heard) = self.last_heard else {
            // Not even a pong: perhaps we may not ping, and the owner is at work.
            return Some(self.end(false).max(self.started + wait));
        };
        if let Err(at) = self.knows_all(now) {
            return at;
        }
        if self.foreign.len() <= self.unnamed {
            // No node that we know of made it, and every other one has answered.
            return Some(last_heard + NEWCOMER);
        }
        Some(self.end(false))
    }

    /// Who should have answered and has not. Where some Go nodes have answered and some not, which
    /// ones cannot be told, and all of them are named.
    pub(crate) fn missing(&self) -> Vec<NodeId> {
        if self.nobody {
            return Vec::new();
        }
        let (mut ours, others) = self.remaining();
        match &self.rule {
            Rule::Everyone | Rule::Pongs if others.len() > self.unnamed => ours.extend(others),
            Rule::Everyone | Rule::Pongs => {}
            // Silence is how a Go node declines.
            Rule::Bidders => {
                ours.extend(others.into_iter().filter(|n| !self.foreign.contains(*n)));
            }
            Rule::Owner(id, _) => {
                ours.extend(others.iter().filter(|n| !self.foreign.contains(**n)));
                ours.retain(|node| id.minted_by(node));
                if self.foreign.len() > self.unnamed {
                    ours.extend(self.foreign.iter());
                }
            }
        }
        ours.into_iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(fill: char) -> NodeId {
        NodeId::new(format!("N{}", fill.to_string().repeat(55))).unwrap()
    }

    struct Case {
        tracker: Tracker,
        now: Instant,
    }

    impl Case {
        fn new(rule: Rule) -> Self {
            let now = Instant::now();
            Self {
                tracker: Tracker::new(rule, Patience::default(), now),
                now,
            }
        }

        fn pong(mut self, fill: char, peers: &[char]) -> Self {
            let peers: Vec<_> = peers.iter().map(|fill| node(*fill)).collect();
            self.tracker.pong(&node(fill), Some(&peers), self.now);
            self
        }

        fn go_pong(mut self, fill: char) -> Self {
            self.tracker.pong(&node(fill), None, self.now);
            self
        }

        fn reply(mut self, fill: char) -> Self {
            self.tracker.reply(Some(&node(fill)), false, self.now);
            self
        }

        fn chunk(mut self, fill: char) -> Self {
            self.tracker.reply(Some(&node(fill)), true, self.now);
            self
        }

        fn go_reply(mut self) -> Self {
            self.tracker.reply(None, false, self.now);
            self
        }

        fn bid(mut self) -> Self {
            self.tracker.bid(self.now);
            self
        }

        fn after(mut self, millis: u64) -> Self {
            // The verdict at each moment counts: windows begin when it is asked.
            self.complete();
            self.now += Duration::from_millis(millis);
            self
        }

        fn complete(&mut self) -> bool {
            self.tracker.verdict(self.now) == Verdict::Complete
        }

        fn missing(&self) -> Vec<NodeId> {
            self.tracker.missing()
        }
    }

    #[test]
    fn a_list_is_complete_when_every_known_node_has_answered() {
        let case = || Case::new(Rule::Everyone);

        assert!(!case().complete());
        assert!(!case().reply('A').complete());
        assert!(case().pong('A', &['A']).reply('A').complete());
        assert!(case().reply('A').pong('A', &['A']).complete());
        assert!(!case().pong('A', &['A', 'B']).reply('A').complete());
        assert!(
            case()
                .pong('A', &['A', 'B'])
                .reply('A')
                .reply('B')
                .complete()
        );
    }

    #[test]
    fn a_silent_peer_is_missing() {
        let mut case = Case::new(Rule::Everyone)
            .pong('A', &['A', 'B'])
            .reply('A')
            .after(1999);

        assert!(!case.complete());
        assert_eq!(case.missing(), [node('B')]);
    }

    #[test]
    fn nothing_at_all_is_waited_for_longer_than_the_rest_of_a_fleet() {
        for rule in [Rule::Everyone, Rule::Pongs, Rule::Bidders] {
            let case = || Case::new(rule.clone());

            assert!(!case().after(9_999).complete());
            assert!(case().after(10_000).complete());
            assert!(case().tracker.silence().is_some() && case().missing().is_empty());
            // The rest of the fleet gets its time from the first sign of life on.
            let late = || case().after(9_000).pong('A', &['A', 'B']).reply('A');
            assert!(!late().after(2_499).complete());
            assert!(late().after(2_500).complete());
            assert_eq!(late().missing(), [node('B')]);
            assert!(late().tracker.silence().is_none());
        }
    }

    #[test]
    fn who_lives_is_waited_for_however_busy_it_is() {
        for rule in [Rule::Everyone, Rule::Bidders] {
            let case = || Case::new(rule.clone()).pong('A', &['A']);

            assert!(!case().after(9_999).complete());
            assert!(case().after(10_000).complete());
            assert_eq!(case().missing(), [node('A')]);
        }
    }

    #[test]
    fn an_auction_without_answers_is_told_from_one_that_go_nodes_decline() {
        let case = || Case::new(Rule::Bidders);

        assert!(case().tracker.no_answers().is_some());
        assert!(case().pong('A', &['A']).tracker.no_answers().is_some());
        assert!(case().go_pong('G').tracker.no_answers().is_none());
        assert!(case().reply('A').tracker.no_answers().is_none());
        assert!(case().go_reply().tracker.no_answers().is_none());
    }

    #[test]
    fn the_last_chunk_counts() {
        let chunked = || Case::new(Rule::Everyone).pong('A', &['A']).chunk('A');

        assert!(!chunked().complete());
        assert!(chunked().reply('A').complete());
    }

    #[test]
    fn a_go_node_is_one_reply_without_a_name() {
        let mixed = || {
            Case::new(Rule::Everyone)
                .pong('A', &['A', 'G'])
                .go_pong('G')
        };

        assert!(!mixed().reply('A').complete());
        assert!(!mixed().go_reply().complete());
        assert!(mixed().reply('A').go_reply().complete());
        // It cannot stand in for one of ours.
        assert!(!mixed().go_reply().go_reply().complete());
    }

    #[test]
    fn among_go_nodes_a_silence_closes_the_list() {
        let fleet = || Case::new(Rule::Everyone).go_pong('G').go_pong('H');

        assert!(!fleet().go_reply().go_reply().complete());
        assert!(fleet().go_reply().go_reply().after(300).complete());
        assert!(!fleet().go_reply().after(300).complete());
    }

    #[test]
    fn an_auction_among_ours_needs_no_silence() {
        let case = || Case::new(Rule::Bidders).pong('A', &['A', 'B']).reply('A');

        assert!(case().reply('B').complete());
        assert!(!case().complete());
    }

    #[test]
    fn after_the_first_bid_an_auction_waits_a_moment() {
        let case = || {
            Case::new(Rule::Bidders)
                .pong('A', &['A', 'B'])
                .reply('A')
                .bid()
        };

        assert!(!case().after(299).complete());
        assert!(case().after(300).complete());
        assert_eq!(case().missing(), [node('B')]);
    }

    #[test]
    fn a_go_node_may_be_silent_at_an_auction() {
        let case = || {
            Case::new(Rule::Bidders)
                .pong('A', &['A', 'G'])
                .go_pong('G')
                .reply('A')
        };

        assert!(!case().after(299).complete());
        assert!(case().after(300).complete());
        assert!(case().go_reply().bid().complete());
        assert!(case().missing().is_empty());
    }

    #[test]
    fn only_the_owner_of_an_id_is_waited_for() {
        let id = WorkloadId::mint(&node('B'));
        let wait = Duration::from_secs(17);
        let case = || Case::new(Rule::Owner(id.clone(), wait)).pong('A', &['A', 'B']);

        assert!(case().pong('B', &['A', 'B']).reply('B').complete());
        assert!(!case().pong('B', &['A', 'B']).after(16_999).complete());
        assert!(case().pong('B', &['A', 'B']).after(17_000).complete());
        // A dead owner is not waited for as long as a workload's grace.
        assert!(!case().after(2_499).complete());
        assert!(case().after(2_500).complete());
        assert_eq!(case().missing(), [node('B')]);
    }

    #[test]
    fn an_id_that_nobody_made_is_soon_known_to_be_nobodys() {
        let id = WorkloadId::mint(&node('X'));
        let wait = Duration::from_secs(17);
        let case = || Case::new(Rule::Owner(id.clone(), wait)).pong('A', &['A']);

        assert!(!case().after(99).complete());
        assert!(case().after(100).complete());
        assert!(!case().go_pong('G').after(1999).complete());
        assert!(case().go_pong('G').go_reply().after(100).complete());
    }

    #[test]
    fn no_responders_end_everything() {
        let mut case = Case::new(Rule::Everyone).pong('A', &['A']);
        case.tracker.nobody();

        assert!(case.complete());
        assert!(case.missing().is_empty());
    }
}
