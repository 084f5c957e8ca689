use nex_protocol::{Lifecycle, Namespace, StartWorkloadRequest, Tags};

use super::*;

fn id(name: &str) -> WorkloadId {
    WorkloadId::new(name).unwrap()
}

fn nexlet(name: &str) -> NexletId {
    NexletId::new(name).unwrap()
}

fn record(name: &str, remote_nexlet: Option<&str>) -> Record {
    Record {
        id: id(name),
        request: StartWorkloadRequest {
            description: String::new(),
            metadata: serde_json::Map::new(),
            name: name.into(),
            namespace: Namespace::default_tenant(),
            reference: String::new(),
            run_request: "{}".into(),
            tags: Tags::new(),
            workload_lifecycle: Lifecycle::Service,
            workload_type: "echo".into(),
        },
        remote_nexlet: remote_nexlet.map(nexlet),
        started: None,
    }
}

fn planned(id: &NexletId) -> Registrant<'_> {
    Registrant {
        id,
        workload_type: "echo",
        planned: true,
    }
}

fn remote(id: &NexletId) -> Registrant<'_> {
    Registrant {
        planned: false,
        ..planned(id)
    }
}

fn names(records: &[Arc<Record>]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

fn standing(workloads: &Workloads, name: &str) -> Standing {
    workloads.get(&id(name)).unwrap().standing
}

/// Workloads of which `a` runs on nexlet `n`.
fn running() -> Arc<Workloads> {
    let workloads = Arc::new(Workloads::default());
    let starting = workloads.starting(&id("a"));
    starting.started(Arc::new(record("a", None)), &nexlet("n"));
    drop(starting);
    workloads
}

#[test]
fn what_was_kept_is_handed_over_once() {
    let now = Instant::now();
    let workloads = Workloads::restored(vec![record("a", None), record("b", None)]);
    let (first, second) = (nexlet("n1"), nexlet("n2"));

    assert_eq!(
        names(&workloads.hand_over(now, planned(&first))),
        ["a", "b"]
    );
    assert!(workloads.hand_over(now, planned(&second)).is_empty());
}

#[test]
fn only_workloads_of_its_type_are_handed_to_a_nexlet() {
    let workloads = Workloads::restored(vec![record("a", None)]);
    let other = nexlet("n");
    let other = Registrant {
        workload_type: "ech",
        ..planned(&other)
    };

    assert!(workloads.hand_over(Instant::now(), other).is_empty());
}

#[test]
fn a_nexlet_that_comes_back_gets_what_it_had() {
    let now = Instant::now();
    let workloads = running();
    let (own, other) = (nexlet("n"), nexlet("other"));
    assert!(workloads.hand_over(now, planned(&other)).is_empty());

    workloads.nexlet_ended(&own);

    assert_eq!(standing(&workloads, "a"), Standing::Waiting);
    assert_eq!(names(&workloads.hand_over(now, planned(&own))), ["a"]);
    workloads.runs(&id("a"));
    assert_eq!(standing(&workloads, "a"), Standing::Running);
}

#[test]
fn what_a_remote_nexlet_has_waits_for_that_one() {
    let now = Instant::now();
    let workloads = Workloads::restored(vec![record("a", Some("far"))]);
    let (far, near, farther) = (nexlet("far"), nexlet("near"), nexlet("farther"));

    assert!(workloads.hand_over(now, planned(&near)).is_empty());
    assert!(workloads.hand_over(now, remote(&farther)).is_empty());
    assert_eq!(names(&workloads.hand_over(now, remote(&far))), ["a"]);
}

#[test]
fn an_orphan_of_a_remote_nexlet_can_be_adopted() {
    let now = Instant::now();
    let workloads = Workloads::restored(vec![record("a", Some("far")), record("b", None)]);
    let heir = nexlet("heir");

    let living = BTreeSet::from([nexlet("far")]);
    assert!(workloads.orphans(&living).is_empty());
    let living = BTreeSet::from([heir.clone()]);
    let gone = nexlet("far");
    assert_eq!(
        workloads.orphans(&living),
        [Orphan {
            id: id("a"),
            nexlet: gone.clone(),
            workload_type: "echo".into(),
            lifecycle: Lifecycle::Service,
        }]
    );

    let handed_over = Standing::HandedOver(now);
    let kept = workloads.pass_on(&id("a"), &gone, &heir, handed_over);
    assert_eq!(kept.unwrap().remote_nexlet, Some(heir));
    let second = workloads.pass_on(&id("a"), &gone, &nexlet("other"), handed_over);
    assert_eq!(second, None, "one heir is enough");
    assert!(workloads.orphans(&living).is_empty());
}

#[test]
fn what_has_ended_is_not_handed_over() {
    let workloads = running();

    assert_eq!(workloads.ended(&id("a")).unwrap().id, id("a"));

    assert!(workloads.ended(&id("a")).is_none());
    workloads.nexlet_ended(&nexlet("n"));
    let own = nexlet("n");
    assert!(
        workloads
            .hand_over(Instant::now(), planned(&own))
            .is_empty()
    );
}

#[test]
fn an_end_before_the_acknowledgement_is_not_lost() {
    let workloads = Arc::new(Workloads::default());
    let starting = workloads.starting(&id("a"));
    assert!(!starting.has_ended());

    assert!(workloads.ended(&id("a")).is_none());
    starting.started(Arc::new(record("a", None)), &nexlet("n"));

    assert!(starting.has_ended());
    assert!(workloads.get(&id("a")).is_none());
}

#[test]
fn an_end_while_it_is_being_kept_is_seen() {
    let workloads = Arc::new(Workloads::default());
    let starting = workloads.starting(&id("a"));
    starting.started(Arc::new(record("a", None)), &nexlet("n"));

    assert!(workloads.ended(&id("a")).is_some());

    assert!(starting.has_ended());
}

#[test]
fn a_refusal_is_tried_again_after_pauses_that_grow() {
    let mut now = Instant::now();
    let workloads = Workloads::restored(vec![record("a", None)]);
    let own = nexlet("n");
    workloads.hand_over(now, planned(&own));
    let mut pauses = Vec::new();

    for _ in 0..10 {
        workloads.refused(now, &id("a"), "no room");
        let (none, next) = workloads.take_due(now);
        assert!(none.is_empty());
        let next = next.unwrap();
        pauses.push((next - now).as_secs());
        now = next;
        let (due, _) = workloads.take_due(now);
        assert_eq!(due[0].refusal.as_deref(), Some("no room"));
    }

    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    workloads.runs(&id("a"));
    assert_eq!(workloads.get(&id("a")).unwrap().refusal, None);
}

#[test]
fn a_workload_without_its_nexlet_does_not_run_whoever_says_so() {
    let workloads = running();
    workloads.nexlet_ended(&nexlet("n"));

    workloads.runs(&id("a"));

    assert_eq!(standing(&workloads, "a"), Standing::Waiting);
}
