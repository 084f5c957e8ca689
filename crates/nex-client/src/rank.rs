//! Which bid is taken first. Pure: chance comes in as an argument.

use std::{cmp::Reverse, hash::BuildHasher, sync::Arc};

use nex_protocol::{
    BidId, NodeId,
    control::{Bid, Load},
};

use crate::rounds::Given;

/// A bid, and its node where that says who it is.
pub(crate) type NamedBid = (Option<NodeId>, Arc<Bid>);

/// The score of an idle node. Scores are whole numbers, so that equal ones compare as equal.
const IDLE: f64 = 1_000_000.0;

/// How well a bid suits: first by what the bidder says of itself, then by its workloads. The better
/// is less, so that it comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Suits {
    score: Reverse<u64>,
    workloads: u64,
}

impl Suits {
    fn of(load: &Load) -> Self {
        let score = match load.score {
            // No bidder can be better than idle, whatever it says.
            Some(score) if !score.is_nan() => score.clamp(0.0, 1.0),
            _ => 1.0 / (1.0 + load.workloads as f64),
        };
        Self {
            score: Reverse((score * IDLE).round() as u64),
            workloads: load.workloads,
        }
    }

    /// How it suits when it has been given so many more, of which its bid does not know: they are
    /// taken for such as those that it has, and to share its CPUs with them.
    fn with(self, given: u64, cpus: f64) -> Self {
        let before = cpus + self.workloads as f64;
        let score = self.score.0 as f64 * before / (before + given as f64);
        Self {
            score: Reverse(score.round() as u64),
            workloads: self.workloads.saturating_add(given),
        }
    }
}

/// The CPUs that a bidder has free, at least a tenth of one.
fn cpus(load: &Load) -> Option<f64> {
    let millis = load.cpu_millis_free?;
    Some((millis as f64 / 1000.0).max(0.1))
}

/// The CPUs of a bidder that does not report them: the mean of the others, or one.
fn usual_cpus(bids: &[NamedBid]) -> f64 {
    let loads = bids.iter().filter_map(|(_, bid)| bid.load.as_ref());
    let known: Vec<f64> = loads.filter_map(cpus).collect();
    if known.is_empty() {
        return 1.0;
    }
    known.iter().sum::<f64>() / known.len() as f64
}

/// Orders bids, the best first, and tells how well each suits; `None` where the bidder does not report
/// its load, as a Go node does not.
///
/// Among equals chance decides, so that many clients do not all choose the same node: it is the hash of
/// a bid's id, which nobody can know before. A bid of unknown load keeps its place in the random order
/// of all bids. So it comes first as often as it would if all bidders were equal, and takes its share.
pub(crate) fn ranked(
    bids: Vec<NamedBid>,
    given: &Given,
    chance: &impl BuildHasher,
) -> Vec<(Option<Suits>, NamedBid)> {
    let usual_cpus = usual_cpus(&bids);
    let suits = |bid: &Bid| {
        let load = bid.load.as_ref()?;
        let suits = Suits::of(load);
        Some(match given.get(&bid.bidder_id) {
            Some(given) => suits.with(*given, cpus(load).unwrap_or(usual_cpus)),
            None => suits,
        })
    };
    let mut random: Vec<(Option<Suits>, NamedBid)> = bids
        .into_iter()
        .map(|(node, bid)| (suits(&bid), (node, bid)))
        .collect();
    random.sort_by_cached_key(|(_, (_, bid))| drawn(&bid.bidder_id, chance));

    let mut known: Vec<_> = random.iter().filter(|it| it.0.is_some()).cloned().collect();
    // Stable: equals stay in the random order.
    known.sort_by_key(|(suits, _)| *suits);
    let mut known = known.into_iter();
    let unknown_in_place = random.into_iter().map(|it| match it.0 {
        Some(_) => known.next().unwrap_or(it),
        None => it,
    });
    unknown_in_place.collect()
}

fn drawn(bid: &BidId, chance: &impl BuildHasher) -> u64 {
    chance.hash_one(bid.as_str())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        hash::{DefaultHasher, Hasher as _, RandomState},
    };

    use proptest::prelude::*;

    use super::*;

    /// The same chance each time.
    struct Seed(u64);

    impl BuildHasher for Seed {
        type Hasher = DefaultHasher;

        fn build_hasher(&self) -> DefaultHasher {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(self.0);
            hasher
        }
    }

    fn bid(id: &str, load: Option<Load>) -> NamedBid {
        let bid = Bid {
            bidder_id: BidId::new(id).unwrap(),
            start_request_schema: "{}".into(),
            supported_lifecycles: Vec::new(),
            xkey: String::new(),
            load,
            node_id: None,
        };
        (None, Arc::new(bid))
    }

    fn load(workloads: u64, score: Option<f64>) -> Option<Load> {
        Some(Load {
            workloads,
            score,
            ..Load::default()
        })
    }

    fn order(bids: Vec<NamedBid>, chance: &impl BuildHasher) -> Vec<String> {
        let ranked = ranked(bids, &Given::new(), chance).into_iter();
        ranked
            .map(|(_, (_, bid))| bid.bidder_id.to_string())
            .collect()
    }

    #[test]
    fn the_least_loaded_comes_first() {
        let bids = |scores: [Option<f64>; 2]| {
            vec![
                bid("busy", load(9, scores[0])),
                bid("idle", load(1, scores[1])),
            ]
        };
        let chance = RandomState::new();
        assert_eq!(order(bids([None, None]), &chance), ["idle", "busy"]);
        // What a bidder says of itself goes before a count of its workloads.
        let said = bids([Some(0.9), Some(0.1)]);
        assert_eq!(order(said, &chance), ["busy", "idle"]);
    }

    /// Whatever the others report: equal or different loads, few or many of them.
    #[test]
    fn bidders_of_unknown_load_get_their_share() {
        const STARTS: u64 = 3_000;
        let idle = || load(0, Some(1.0));
        for (bids, go_nodes, bidders) in [
            (
                vec![bid("a", idle()), bid("b", idle()), bid("go", None)],
                1,
                3,
            ),
            (
                vec![
                    bid("a", idle()),
                    bid("b", load(9, Some(0.1))),
                    bid("go", None),
                ],
                1,
                3,
            ),
            (vec![bid("a", load(5, None)), bid("go", None)], 1, 2),
            (
                vec![
                    bid("a", idle()),
                    bid("go1", None),
                    bid("go2", None),
                    bid("go3", None),
                ],
                3,
                4,
            ),
        ] {
            let first = |seed| order(bids.clone(), &Seed(seed)).swap_remove(0);
            let firsts: Vec<String> = (0..STARTS).map(first).collect();
            let count = |id: &str| firsts.iter().filter(|first| *first == id).count() as f64;
            let share = STARTS as f64 / f64::from(bidders);
            for (_, go) in bids.iter().filter(|(_, bid)| bid.load.is_none()) {
                let got = count(go.bidder_id.as_str());
                assert!(
                    (got / share - 1.0).abs() < 0.15,
                    "{got} of {share}: {bids:?}"
                );
            }
            // The least loaded gets all the rest.
            let rest = STARTS as f64 - share * f64::from(go_nodes);
            assert!(count("b") == 0.0 || count("a") > 0.0, "{bids:?}");
            assert!((count("a") + count("b")) / rest > 0.85, "{bids:?}");
        }
    }

    #[test]
    fn no_bidder_can_claim_to_be_better_than_idle() {
        for claim in [f64::INFINITY, f64::MAX, 1.5] {
            let bids = vec![
                bid("boaster", load(9, Some(claim))),
                bid("b", load(0, Some(1.0))),
            ];
            assert_eq!(order(bids, &Seed(1)), ["b", "boaster"]);
        }
        for odd in [f64::NAN, f64::NEG_INFINITY, -1.0] {
            let bids = vec![bid("odd", load(9, Some(odd))), bid("b", load(0, Some(0.5)))];
            assert_eq!(order(bids, &Seed(1)), ["b", "odd"]);
        }
    }

    /// How often each bid is the best, of so many starts that share an auction.
    fn shared(bids: &[NamedBid], starts: u64) -> BTreeMap<String, u64> {
        let mut given = Given::new();
        for seed in 0..starts {
            let (_, (_, best)) = ranked(bids.to_vec(), &given, &Seed(seed)).swap_remove(0);
            *given.entry(best.bidder_id.clone()).or_default() += 1;
        }
        let given = given.into_iter();
        given.map(|(id, count)| (id.to_string(), count)).collect()
    }

    #[test]
    fn starts_that_share_an_auction_do_not_all_go_to_one_node() {
        let sized = |cpus: u64, workloads| {
            let mut load = load(workloads, Some(1.0));
            load.as_mut().unwrap().cpu_millis_free = Some(cpus * 1000);
            load
        };
        let equals = [
            bid("a", sized(2, 0)),
            bid("b", sized(2, 0)),
            bid("c", sized(2, 0)),
        ];
        assert!(shared(&equals, 30).values().all(|count| *count == 10));
        // Each is given as much as its CPUs can take.
        let different = [bid("large", sized(24, 0)), bid("small", sized(8, 0))];
        let counts = shared(&different, 32);
        assert!((23..=25).contains(&counts["large"]), "{counts:?}");
        // One that is busy is spared until the others are as busy.
        let busy = load(9, Some(0.1));
        let counts = shared(&[bid("busy", busy), bid("idle", load(0, Some(1.0)))], 8);
        assert_eq!(counts.get("busy"), None);
    }

    #[test]
    fn go_nodes_alone_are_chosen_from_by_chance() {
        let firsts: BTreeSet<String> = (0..64)
            .map(|seed| order(vec![bid("a", None), bid("b", None)], &Seed(seed)).swap_remove(0))
            .collect();
        assert_eq!(firsts.len(), 2);
    }

    fn some_load() -> impl Strategy<Value = Option<Load>> {
        prop_oneof![
            1 => Just(None),
            4 => (0..4_u64, prop::option::of(0..=10_u8)).prop_map(|(workloads, tenths)| {
                load(workloads, tenths.map(|tenths| f64::from(tenths) / 10.0))
            }),
        ]
    }

    fn some_bids() -> impl Strategy<Value = Vec<NamedBid>> {
        let loads = prop::collection::vec(some_load(), 1..12);
        loads.prop_map(|loads| {
            let loads = loads.into_iter().enumerate();
            loads.map(|(n, load)| bid(&format!("b{n}"), load)).collect()
        })
    }

    proptest! {
        #[test]
        fn nobody_is_before_a_better_one_and_nobody_is_lost(
            bids in some_bids(), seed in any::<u64>(),
        ) {
            let ranked = ranked(bids.clone(), &Given::new(), &Seed(seed));

            let known: Vec<Suits> = ranked.iter().filter_map(|(suits, _)| *suits).collect();
            prop_assert!(known.is_sorted(), "{:?}", known);
            let ids = |bids: Vec<&NamedBid>| -> BTreeSet<String> {
                bids.iter().map(|(_, bid)| bid.bidder_id.to_string()).collect()
            };
            let after = ids(ranked.iter().map(|(_, bid)| bid).collect());
            prop_assert_eq!(after, ids(bids.iter().collect()));
        }

        #[test]
        fn who_answers_first_does_not_matter(
            (bids, shuffled) in some_bids().prop_flat_map(|bids| {
                (Just(bids.clone()), Just(bids).prop_shuffle())
            }),
            seed in any::<u64>(),
        ) {
            prop_assert_eq!(order(bids, &Seed(seed)), order(shuffled, &Seed(seed)));
        }

        #[test]
        fn each_of_equals_is_chosen_at_some_time(count in 2..6_usize, workloads in 0..3_u64) {
            let firsts: BTreeSet<String> = (0..200)
                .map(|seed| {
                    let equals = (0..count).map(|n| bid(&format!("b{n}"), load(workloads, Some(0.5))));
                    order(equals.collect(), &Seed(seed)).swap_remove(0)
                })
                .collect();

            prop_assert_eq!(firsts.len(), count);
        }
    }
}
