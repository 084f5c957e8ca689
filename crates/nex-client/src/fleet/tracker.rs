//! Who is expected to answer, and who has. Pure: time comes in as an argument.

use std::{collections::BTreeMap, time::Duration};

use nex_protocol::{NodeId, WorkloadId};
use tokio::time::Instant;

use crate::{
    limits::{BROADCAST, NEWCOMER, QUIET, SETTLE, SILENCE, UNKNOWN_BIDDERS},
    roster::Known,
};

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

/// What is known of a node.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    /// It answered the ping, or somebody who did knows it.
    expected: bool,
    /// It answered the ping and told whom it knows: one of ours. They name themselves in replies.
    ours: bool,
    /// It answered the ping without, or is known for that: a Go node.
    foreign: bool,
    /// It answered the ping.
    ponged: bool,
    /// Another node, or the node itself, names it as a peer.
    named: bool,
    answered: bool,
    /// Its last chunk is still to come.
    partial: bool,
}

impl Member {
    fn is_left(self) -> bool {
        self.expected && !self.answered
    }
}

/// How many are still to answer by name. Kept with each change: what is left is asked for at every
/// reply, and with hundreds of nodes counting anew takes longer than the reply.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    ours: usize,
    foreign: usize,
    /// Known to others only.
    unknown: usize,
    partial: usize,
}

impl Left {
    fn count_of(&mut self, member: Member) -> Option<&mut usize> {
        let Member { ours, foreign, .. } = member;
        match (member.is_left(), ours, foreign) {
            (false, _, _) => None,
            (true, true, _) => Some(&mut self.ours),
            (true, false, true) => Some(&mut self.foreign),
            (true, false, false) => Some(&mut self.unknown),
        }
    }

    fn others(self) -> usize {
        self.foreign + self.unknown
    }
}

#[derive(Debug)]
pub(crate) struct Tracker {
    rule: Rule,
    patience: Patience,
    started: Instant,
    members: BTreeMap<NodeId, Member>,
    left: Left,
    /// Those that may have made the id of [`Rule::Owner`].
    makers: Vec<NodeId>,
    /// Whether somebody has told whom it knows.
    heard_peers: bool,
    /// Whether one of ours has answered the ping.
    heard_ours: bool,
    /// How many Go nodes have answered the ping.
    foreign: usize,
    /// How many have answered by name.
    answered: usize,
    /// Whether it is known from before who is there, and nobody was asked.
    told: bool,
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
            members: BTreeMap::new(),
            left: Left::default(),
            makers: Vec::new(),
            heard_peers: false,
            heard_ours: false,
            foreign: 0,
            answered: 0,
            told: false,
            unnamed: 0,
            first_heard: None,
            last_heard: None,
            first_bid: None,
            ours_done: None,
            nobody: false,
        }
    }

    /// The same, where it is known from before who is there.
    pub(crate) fn knowing(mut self, known: &Known) -> Self {
        for (node, foreign) in &known.nodes {
            self.change(node, |member| {
                member.expected = true;
                member.foreign = *foreign;
            });
        }
        self.told = true;
        self
    }

    /// Whoever is there is asked now: what was known from before tells no more that there are no
    /// others.
    pub(crate) fn asked(&mut self) {
        self.told = false;
    }

    /// Who is there, where one has told whom it knows. Some may not have answered yet: while all are
    /// busy, asking again would only make them busier.
    pub(crate) fn known(&self) -> Option<Known> {
        let expected = self.members.iter().filter(|(_, member)| member.expected);
        let nodes = expected.map(|(node, member)| (node.clone(), member.foreign));
        self.heard_peers.then(|| Known {
            nodes: nodes.collect(),
        })
    }

    /// Changes what is known of a node, and the counts with it.
    fn change(&mut self, node: &NodeId, change: impl FnOnce(&mut Member)) {
        let before = self.members.get(node).copied();
        let mut member = before.unwrap_or_default();
        change(&mut member);
        if let Some(count) = self.left.count_of(before.unwrap_or_default()) {
            *count -= 1;
        }
        if let Some(count) = self.left.count_of(member) {
            *count += 1;
        }
        let before_partial = before.is_some_and(|before| before.partial);
        self.left.partial =
            self.left.partial + usize::from(member.partial) - usize::from(before_partial);
        self.answered += usize::from(member.answered && !before.is_some_and(|it| it.answered));
        match self.members.get_mut(node) {
            Some(place) => *place = member,
            None => {
                if let Rule::Owner(id, _) = &self.rule
                    && id.minted_by(node)
                {
                    self.makers.push(node.clone());
                }
                self.members.insert(node.clone(), member);
            }
        }
    }

    /// Answers whether it is the first of that node.
    pub(crate) fn pong(&mut self, node: &NodeId, peers: Option<&[NodeId]>, now: Instant) -> bool {
        self.heard(now);
        let pongs = matches!(self.rule, Rule::Pongs);
        let first = !self.members.get(node).is_some_and(|it| it.ponged);
        self.change(node, |member| {
            member.expected = true;
            member.ponged = true;
            member.answered |= pongs;
            member.ours |= peers.is_some();
            member.foreign = peers.is_none();
        });
        match peers {
            Some(peers) => {
                self.heard_ours = true;
                // A node is its own peer: an empty list is of one that was not asked for it.
                self.heard_peers |= !peers.is_empty();
                for peer in peers {
                    // Each names all the others, so nearly all are known.
                    if !self.members.get(peer).is_some_and(|member| member.named) {
                        self.change(peer, |member| {
                            member.expected = true;
                            member.named = true;
                        });
                    }
                }
            }
            None => self.foreign += usize::from(first),
        }
        first
    }

    /// Whether somebody is there who could tell whom it knows, and nobody has.
    pub(crate) fn is_untold(&self) -> bool {
        self.heard_ours && !self.heard_peers
    }

    /// When something was heard last; before that, when it was asked.
    pub(crate) fn heard_last(&self) -> Instant {
        self.last_heard.unwrap_or(self.started)
    }

    pub(crate) fn reply(&mut self, node: Option<&NodeId>, more: bool, now: Instant) {
        self.heard(now);
        match node {
            Some(node) if more => self.change(node, |member| member.partial = true),
            Some(node) => self.change(node, |member| {
                member.partial = false;
                member.answered = true;
            }),
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
        let some = self.nobody || self.unnamed > 0 || self.answered > 0 || self.foreign > 0;
        (!some).then_some(self.patience.silence)
    }

    /// Whether anybody has bid.
    pub(crate) fn has_bid(&self) -> bool {
        self.first_bid.is_some()
    }

    /// Whether we know whom to wait for. Our nodes know; Go nodes do not, and among them
    /// alone a silence has to do.
    fn knows_all(&self, now: Instant) -> Result<(), Option<Instant>> {
        if self.heard_peers || self.told {
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
        let until = match self.rule {
            Rule::Everyone | Rule::Pongs => self.everyone(now),
            Rule::Bidders => self.bidders(now),
            Rule::Owner(_, wait) => self.owner(wait, now),
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
        let left = self.left;
        let end = self.end(left.ours > 0);
        if let Err(at) = self.knows_all(now) {
            return Some(at.map_or(end, |at| at.min(end)));
        }
        let complete = left.ours == 0 && left.others() <= self.unnamed && left.partial == 0;
        match complete {
            true => self.settled().map(|at| at.min(end)),
            false => Some(end),
        }
    }

    /// Returns the time until which answers of unknown nodes are awaited after all known ones have
    /// answered.
    fn settled(&self) -> Option<Instant> {
        let first = self.first_heard?;
        let settled = first + SETTLE.max(2 * (first - self.started));
        if !self.hears_strangers() {
            return Some(settled);
        }
        let last_heard = self.last_heard?;
        Some(settled.max(last_heard + NEWCOMER))
    }

    /// Returns whether a node has answered the ping that no node names as a peer. There may be more of
    /// them.
    fn hears_strangers(&self) -> bool {
        self.heard_peers
            && self
                .members
                .values()
                .any(|member| member.ponged && !member.named)
    }

    fn bidders(&mut self, now: Instant) -> Option<Instant> {
        let known = self.knows_all(now);
        let left = self.left;
        let end = self.end(left.ours > 0);
        if known.is_ok() && left.ours + left.unknown == 0 {
            if left.foreign <= self.unnamed {
                return self.refused_by_all(end);
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

    /// Returns the end of an auction in which every known node has answered. Without a bid it waits for
    /// nodes that are not known yet, unless the nodes are to be asked anyway who is there.
    fn refused_by_all(&self, end: Instant) -> Option<Instant> {
        let waits = self.first_bid.is_none() && self.heard_peers;
        let last_heard = self.last_heard.filter(|_| waits)?;
        Some((last_heard + UNKNOWN_BIDDERS).min(end))
    }

    fn owner(&self, wait: Duration, now: Instant) -> Option<Instant> {
        let makers = self.makers.iter().filter_map(|node| self.members.get(node));
        let mut makers = makers.filter(|member| member.expected && !member.foreign);
        if let Some(owner) = makers.next() {
            if owner.answered {
                return None;
            }
            let heard = self.first_heard.unwrap_or(self.started);
            return Some(if owner.ours {
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
        if self.foreign <= self.unnamed {
            // No node that we know of made it, and every other one has answered.
            return Some(last_heard + NEWCOMER);
        }
        Some(self.end(false))
    }

    /// Returns the node that made the id of [`Rule::Owner`], once it has answered the ping.
    pub(crate) fn living_owner(&self) -> Option<&NodeId> {
        self.makers.iter().find(|node| {
            let member = self.members.get(*node);
            member.is_some_and(|member| member.ours && member.ponged)
        })
    }

    /// Who should have answered and has not. Where some Go nodes have answered and some not, which
    /// ones cannot be told, and all of them are named.
    pub(crate) fn missing(&self) -> Vec<NodeId> {
        if self.nobody {
            return Vec::new();
        }
        let unnamed_enough = self.left.others() <= self.unnamed;
        let missing = self.members.iter().filter(|(node, member)| {
            let left = member.is_left();
            match &self.rule {
                Rule::Everyone | Rule::Pongs => left && (member.ours || !unnamed_enough),
                // Silence is how a Go node declines.
                Rule::Bidders => left && (member.ours || !member.foreign),
                Rule::Owner(_, _) if member.foreign && !member.ours => self.foreign > self.unnamed,
                Rule::Owner(_, _) => left && self.makers.contains(node),
            }
        });
        missing.map(|(node, _)| node.clone()).collect()
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

        /// Returns whether the answers are complete when unknown nodes have had their time.
        fn settled(self) -> bool {
            self.after(2).complete()
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
        assert!(case().pong('A', &['A']).reply('A').settled());
        assert!(case().reply('A').pong('A', &['A']).settled());
        assert!(!case().pong('A', &['A', 'B']).reply('A').settled());
        assert!(
            case()
                .pong('A', &['A', 'B'])
                .reply('A')
                .reply('B')
                .settled()
        );
    }

    #[test]
    fn a_node_that_no_other_knows_is_listed() {
        let case = || Case::new(Rule::Everyone).pong('A', &['A']).reply('A');

        assert!(!case().after(1).complete());
        assert!(case().after(2).complete());
        // On a busy machine all are slow.
        let slow = || {
            Case::new(Rule::Everyone)
                .after(50)
                .pong('A', &['A'])
                .reply('A')
        };
        assert!(!slow().after(99).complete());
        assert!(slow().after(100).complete());
        let stranger = || case().after(1).go_pong('G');
        assert!(!stranger().after(100).complete(), "its list is awaited");
        assert!(!stranger().go_reply().after(99).complete());
        assert!(stranger().go_reply().after(100).complete());
        // A list that takes longer anyway is as fast as ever.
        let long = Case::new(Rule::Everyone).pong('A', &['A', 'B']).reply('A');
        assert!(long.after(30).reply('B').complete());
    }

    #[test]
    fn an_auction_without_a_bid_waits_for_nodes_that_no_other_knows() {
        let case = || Case::new(Rule::Bidders).pong('A', &['A']).reply('A');

        assert!(!case().after(19).complete());
        assert!(case().after(20).complete());
        assert!(case().bid().complete());
        let bid = case().after(10).go_pong('G').go_reply().bid();
        assert!(bid.after(0).complete());
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

        assert!(!chunked().settled());
        assert!(chunked().reply('A').settled());
    }

    #[test]
    fn a_go_node_is_one_reply_without_a_name() {
        let mixed = || {
            Case::new(Rule::Everyone)
                .pong('A', &['A', 'G'])
                .go_pong('G')
        };

        assert!(!mixed().reply('A').settled());
        assert!(!mixed().go_reply().settled());
        assert!(mixed().reply('A').go_reply().settled());
        // It cannot stand in for one of ours.
        assert!(!mixed().go_reply().go_reply().settled());
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

        assert!(case().bid().reply('B').complete());
        assert!(!case().complete());
    }

    #[test]
    fn among_nodes_known_from_before_nobody_needs_to_be_pinged() {
        let case = || {
            let mut case = Case::new(Rule::Bidders);
            let nodes = vec![(node('A'), false), (node('G'), true)];
            case.tracker = case.tracker.knowing(&Known { nodes });
            case
        };

        assert!(!case().complete());
        assert!(!case().go_reply().complete());
        assert!(case().reply('A').go_reply().complete());
        // A Go node may be silent; one of ours may not, and is named.
        assert!(!case().reply('A').after(299).complete());
        assert!(case().reply('A').after(300).complete());
        assert_eq!(case().go_reply().missing(), [node('A')]);
        // Once it is asked who is there, what was known does not say that these are all.
        let mut asked = case().reply('A').go_reply();
        asked.tracker.asked();
        assert!(!asked.complete());
        assert!(!asked.pong('A', &['A', 'B']).complete());
    }

    #[test]
    fn who_was_not_asked_for_its_peers_tells_nothing_of_others() {
        let case = || Case::new(Rule::Pongs).pong('B', &[]);

        assert!(!case().complete() && case().tracker.is_untold());
        let told = case().pong('A', &['A', 'B']);
        assert!(!told.tracker.is_untold());
        assert!(case().pong('A', &['A', 'B']).settled());
        assert!(!case().pong('A', &['A', 'B', 'C']).settled());
        assert!(!Case::new(Rule::Pongs).go_pong('G').tracker.is_untold());
    }

    #[test]
    fn who_is_there_is_known_when_one_has_told_its_peers() {
        let case = || {
            Case::new(Rule::Bidders)
                .pong('A', &['A', 'B', 'G'])
                .go_pong('G')
        };

        let known = case().reply('A').tracker.known();
        let nodes = vec![(node('A'), false), (node('B'), false), (node('G'), true)];
        assert_eq!(known, Some(Known { nodes }));
        let go = Case::new(Rule::Bidders).go_pong('G').go_reply();
        assert_eq!(go.tracker.known(), None);
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
