use std::time::Duration;

use super::*;
use crate::nexlet::health::OFFLINE_LIMIT;

fn id(name: &str) -> NexletId {
    NexletId::new(name).unwrap()
}

fn registration(name: &str, workload_type: &str, max_workloads: f64) -> Registration {
    Registration {
        id: id(name),
        request: RegisterRequest {
            description: String::new(),
            max_workloads,
            name: format!("{name}-name"),
            public_xkey: String::new(),
            register_type: workload_type.into(),
            start_request_schema: "{}".into(),
            supported_lifecycles: vec![Lifecycle::Job],
            tells_ends: true,
            version: "1.0.0".into(),
        },
        schema: Schema::compile("{}").unwrap(),
    }
}

#[test]
fn the_types_are_those_of_nexlets_that_live() {
    let start = Instant::now();
    let registry = Registry::new();
    assert!(registry.types(start).is_empty());

    registry.register(start, registration("a", "js", 0.0));
    registry.register(start, registration("b", "js", 0.0));
    registry.register(start, registration("c", "echo", 0.0));
    let later = start + OFFLINE_LIMIT + Duration::from_secs(1);
    beat(&registry, later, "b", 0);

    assert_eq!(registry.types(start), ["echo", "js"].map(Into::into).into());
    assert_eq!(registry.types(later), ["js"].map(Into::into).into());
}

fn heartbeat(state: &str, workload_count: u64) -> NexletHeartbeat {
    NexletHeartbeat {
        data: String::new(),
        ended: Vec::new(),
        summary: NexletSummary {
            state: state.into(),
            workload_count,
            ..NexletSummary::unknown()
        },
    }
}

/// A registry with one healthy nexlet.
fn registry(now: Instant, max_workloads: f64) -> Registry {
    let registry = Registry::new();
    registry.register(now, registration("a", "echo", max_workloads));
    beat(&registry, now, "a", 0);
    registry
}

fn beat(registry: &Registry, now: Instant, name: &str, count: u64) -> bool {
    let time = Timestamp::UNIX_EPOCH;
    let first = registry.beat(now, time, &id(name), heartbeat("running", count));
    first.is_some()
}

#[test]
fn the_reasons_not_to_pick_are_told_apart() {
    let now = Instant::now();
    let registry = Registry::new();
    let pick = |lifecycle| {
        let picked = registry.pick(now, "echo", lifecycle);
        picked.map(|registration| registration.id.clone())
    };

    assert_eq!(pick(None), Err(PickError::NoType));
    registry.register(now, registration("a", "echo", 1.0));
    assert_eq!(pick(Some(Lifecycle::Service)), Err(PickError::Lifecycle));
    assert_eq!(pick(None), Err(PickError::Unhealthy));
    beat(&registry, now, "a", 0);
    assert_eq!(pick(Some(Lifecycle::Job)), Ok(id("a")));
    beat(&registry, now, "a", 1);
    assert_eq!(pick(None), Err(PickError::Full));
}

#[test]
fn the_least_loaded_nexlet_is_picked() {
    let now = Instant::now();
    let registry = registry(now, 0.0);
    registry.register(now, registration("b", "echo", 0.0));
    beat(&registry, now, "a", 2);
    beat(&registry, now, "b", 1);

    let first = registry.claim(now, "echo", Lifecycle::Job).unwrap();
    assert_eq!(first.registration.id, id("b"));
    let second = registry.claim(now, "echo", Lifecycle::Job).unwrap();
    let third = registry.claim(now, "echo", Lifecycle::Job).unwrap();
    assert_ne!(second.registration.id, third.registration.id);
}

#[test]
fn a_start_counts_until_a_heartbeat_counts_it() {
    let now = Instant::now();
    let registry = registry(now, 1.0);

    let mut claim = registry.claim(now, "echo", Lifecycle::Job).unwrap();
    let full = registry.claim(now, "echo", Lifecycle::Job).unwrap_err();
    assert_eq!(full, PickError::Full);

    claim.started();
    drop(claim);
    assert!(registry.claim(now, "echo", Lifecycle::Job).is_err());

    beat(&registry, now, "a", 0);
    assert!(registry.claim(now, "echo", Lifecycle::Job).is_ok());
}

#[test]
fn a_start_that_failed_does_not_count() {
    let now = Instant::now();
    let registry = registry(now, 1.0);

    drop(registry.claim(now, "echo", Lifecycle::Job).unwrap());

    assert!(registry.claim(now, "echo", Lifecycle::Job).is_ok());
}

#[test]
fn a_nexlet_is_announced_once_per_registration() {
    let now = Instant::now();
    let registry = Registry::new();
    registry.register(now, registration("a", "echo", 0.0));
    let starting = registry.beat(
        now,
        Timestamp::UNIX_EPOCH,
        &id("a"),
        heartbeat("starting", 0),
    );

    assert!(starting.is_none());
    assert!(beat(&registry, now, "a", 0));
    assert!(!beat(&registry, now, "a", 0));
    registry.register(now, registration("a", "echo", 0.0));
    assert!(beat(&registry, now, "a", 0));
}

#[test]
fn a_registration_replaces_the_one_of_the_same_id() {
    let now = Instant::now();
    let registry = registry(now, 0.0);

    registry.register(now, registration("a", "other", 0.0));

    assert_eq!(registry.count(), 1);
    assert_eq!(registry.registrations(), "a [other]");
    assert_eq!(
        registry.pick(now, "echo", None).unwrap_err(),
        PickError::NoType
    );
    // The new one has not said yet that it lives.
    assert!(registry.living(now).is_empty());
}

#[test]
fn a_stranger_s_heartbeat_registers_nobody() {
    let registry = Registry::new();

    assert!(!beat(&registry, Instant::now(), "stranger", 0));

    assert_eq!(registry.count(), 0);
}

#[test]
fn an_offline_nexlet_is_not_waited_for_and_forgotten_in_the_end() {
    let start = Instant::now();
    let registry = registry(start, 0.0);
    let later = start + OFFLINE_LIMIT + Duration::from_secs(1);

    assert_eq!(registry.living(start), [id("a")]);
    assert!(registry.living(later).is_empty());
    for _ in 1..MAX_OFFLINE_LOOKS {
        assert!(registry.forget_offline(later).is_empty());
    }
    assert_eq!(registry.forget_offline(later).len(), 1);
    assert_eq!(registry.count(), 0);
}

#[test]
fn a_nexlet_that_comes_back_is_not_forgotten() {
    let start = Instant::now();
    let registry = registry(start, 0.0);
    let later = start + OFFLINE_LIMIT + Duration::from_secs(1);
    for _ in 1..MAX_OFFLINE_LOOKS {
        registry.forget_offline(later);
    }

    beat(&registry, later, "a", 0);

    let again = later + OFFLINE_LIMIT + Duration::from_secs(1);
    assert!(registry.forget_offline(again).is_empty());
}

#[test]
fn there_is_an_end_to_strangers_and_a_place_for_who_comes_back() {
    let now = Instant::now();
    let registry = Registry::new();
    for number in 0..MAX_NEXLETS {
        let name = format!("n{number}");
        assert!(registry.has_room(&id(&name)));
        registry.register(now, registration(&name, "echo", 0.0));
    }

    assert!(!registry.has_room(&id("one-more")));
    assert!(registry.has_room(&id("n7")));
}

#[test]
fn an_heir_takes_what_it_runs_and_has_room_for() {
    let now = Instant::now();
    let registry = registry(now, 2.0);
    beat(&registry, now, "a", 1);

    let mut heir = registry.heirs(now).remove(0);

    assert!(heir.takes("echo", Lifecycle::Job));
    assert!(!heir.takes("echo", Lifecycle::Service));
    assert!(!heir.takes("js", Lifecycle::Job));
    heir.workloads += 1;
    assert!(!heir.takes("echo", Lifecycle::Job));
}
