//! Any value of every kind, for the property tests.

pub(super) mod control;
pub(super) mod events;
pub(super) mod nexlets;
pub(super) mod subjects;
pub(super) mod workloads;

use std::time::Duration;

use jiff::Timestamp;
use proptest::{collection, option, prelude::*};
use serde_json::{Map, Value};

use crate::{
    BidId, GoDuration, Lifecycle, Namespace, NexletId, NexusName, NodeId, Tags, WorkloadId,
};

/// Makes a strategy for a struct out of strategies for its fields.
macro_rules! any_struct {
    ($name:ident: $type:ident { $($field:ident: $strategy:expr),* $(,)? }) => {
        pub(in crate::tests) fn $name() -> impl Strategy<Value = $type> {
            ($($strategy,)*).prop_map(|($($field,)*)| $type { $($field),* })
        }
    };
}
use any_struct;

/// Any text, control characters and all.
pub(super) fn text() -> impl Strategy<Value = String> {
    "(?s).{0,24}"
}

pub(super) fn tags() -> impl Strategy<Value = Tags> {
    collection::btree_map(text(), text(), 0..4)
}

/// Any token that may be a namespace: 32 characters are at most 128 bytes.
fn token() -> impl Strategy<Value = String> {
    r"[^\s\p{C}.*>]{1,32}"
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof!["[A-Za-z0-9]{22}", "[A-Za-z0-9_-]{1,128}"]
}

pub(super) fn namespace() -> impl Strategy<Value = Namespace> {
    token().prop_map(|text| Namespace::new(text).unwrap())
}

pub(super) fn nexus() -> impl Strategy<Value = NexusName> {
    token().prop_map(|text| NexusName::new(text).unwrap())
}

pub(super) fn node() -> impl Strategy<Value = NodeId> {
    "N[A-Z2-7]{55}".prop_map(|text| NodeId::new(text).unwrap())
}

pub(super) fn nexlet() -> impl Strategy<Value = NexletId> {
    id().prop_map(|text| NexletId::new(text).unwrap())
}

pub(super) fn workload() -> impl Strategy<Value = WorkloadId> {
    id().prop_map(|text| WorkloadId::new(text).unwrap())
}

pub(super) fn bid_id() -> impl Strategy<Value = BidId> {
    id().prop_map(|text| BidId::new(text).unwrap())
}

/// Any time that Go can write: years 1 to 9999.
pub(super) fn time() -> impl Strategy<Value = Timestamp> {
    (-62_135_596_800i64..253_402_207_200, 0..1_000_000_000i32)
        .prop_map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap())
}

/// Any duration that Go can write, short ones as often as long ones.
pub(super) fn duration() -> impl Strategy<Value = GoDuration> {
    (any::<u64>(), 0..64u32)
        .prop_map(|(nanos, less)| GoDuration(Duration::from_nanos(nanos >> less)))
}

pub(super) fn lifecycle() -> impl Strategy<Value = Lifecycle> {
    prop_oneof![
        Just(Lifecycle::Service),
        Just(Lifecycle::Job),
        Just(Lifecycle::Function)
    ]
}

fn lifecycles() -> impl Strategy<Value = Vec<Lifecycle>> {
    collection::vec(lifecycle(), 0..4)
}

/// Any float that has an exact decimal.
fn float() -> impl Strategy<Value = f64> {
    any::<u32>().prop_map(|quarters| f64::from(quarters) / 4.0)
}

fn maybe<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>> {
    option::of(strategy)
}

/// Any JSON of modest depth.
pub(super) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object(inner).prop_map(Value::from),
        ]
    })
}

fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    collection::btree_map(text(), value, 0..4).prop_map(|map| map.into_iter().collect())
}
