//! Which nexlets this node has, and how they are. The one owner of that knowledge.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nex_protocol::{
    Lifecycle, NexletId,
    control::{NodeNexletSummary, zero_time},
    registration::{NexletHeartbeat, NexletState, NexletSummary, RegisterRequest},
};
use nex_schema::Schema;
use tokio::sync::watch;

use super::{
    gather::Roll,
    health::{Beat, Health, Pulse},
};

/// A nexlet that is offline for this many looks in a row is forgotten: five minutes of them.
const MAX_OFFLINE_LOOKS: u32 = 30;

/// The state that a nexlet is told to be in that the node does not start any more.
const GIVEN_UP: &str = "given up";

/// The most nexlets of one node, dead ones that are not forgotten yet included.
const MAX_NEXLETS: usize = 1024;

/// What a nexlet said when it registered, with its schema compiled.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) id: NexletId,
    pub(crate) request: RegisterRequest,
    pub(crate) schema: Schema,
}

impl Registration {
    /// Whether it runs workloads of that lifecycle. One that did not say may.
    fn runs(&self, lifecycle: Option<Lifecycle>) -> bool {
        let supported = &self.request.supported_lifecycles;
        lifecycle.is_none_or(|lifecycle| supported.is_empty() || supported.contains(&lifecycle))
    }

    /// Whether it takes no more than that many. `max_workloads` is a float on the wire; 0 is no
    /// limit.
    fn full_with(&self, workloads: u64) -> bool {
        let most = self.request.max_workloads;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of workloads is far below 2^52"
        )]
        let has = workloads as f64;
        most > 0.0 && has >= most
    }
}

#[derive(Debug)]
struct Entry {
    registration: Arc<Registration>,
    pulse: Pulse,
    /// Starts that it works on, or answered since its last heartbeat, which does not count them.
    starting: u64,
    started: u64,
    /// Whether its `AGENTSTARTED` is out.
    announced: bool,
    /// `true` for a nexlet that the node remembers from before its start.
    remembered: bool,
    offline_looks: u32,
}

impl Entry {
    fn workloads(&self) -> u64 {
        let told = self.pulse.last().map_or(0, |b| b.summary.workload_count);
        told.saturating_add(self.starting)
            .saturating_add(self.started)
    }

    fn full(&self) -> bool {
        self.registration.full_with(self.workloads())
    }
}

/// Why no nexlet of this node takes a workload; the later, the closer it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PickError {
    /// None is registered for the type.
    NoType,
    /// None of the type runs the lifecycle.
    Lifecycle,
    /// None of those is healthy.
    Unhealthy,
    /// All of those have as many workloads as they take.
    Full,
}

/// A nexlet that can take up what another one left.
#[derive(Clone, Debug)]
pub(crate) struct Heir {
    pub(crate) registration: Arc<Registration>,
    /// How many it has.
    pub(crate) workloads: u64,
}

impl Heir {
    /// Whether it has room for one of that type and lifecycle.
    pub(crate) fn takes(&self, workload_type: &str, lifecycle: Lifecycle) -> bool {
        self.registration.request.register_type == workload_type
            && self.registration.runs(Some(lifecycle))
            && !self.registration.full_with(self.workloads)
    }
}

/// The nexlets of a node. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    entries: Arc<Mutex<BTreeMap<NexletId, Entry>>>,
    /// Those that the node does not start any more, with what people call them.
    given_up: Arc<Mutex<BTreeMap<NexletId, String>>>,
    /// Those that the node starts itself, registered or not.
    planned: Arc<Mutex<BTreeSet<NexletId>>>,
    /// Counts changes of who is there and how they are.
    changed_tx: watch::Sender<u64>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            entries: Arc::default(),
            given_up: Arc::default(),
            planned: Arc::default(),
            changed_tx: watch::Sender::new(0),
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<NexletId, Entry>> {
        // Each change is one step, so a panic elsewhere leaves nothing half done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changed_tx.send_modify(|changes| *changes += 1);
    }

    /// Sees every change from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed_tx.subscribe()
    }

    fn planned(&self) -> MutexGuard<'_, BTreeSet<NexletId>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node is going to start a nexlet.
    pub(crate) fn plan(&self, id: NexletId) {
        self.planned().insert(id);
    }

    /// Whether it is registered.
    pub(crate) fn knows(&self, id: &NexletId) -> bool {
        self.entries().contains_key(id)
    }

    /// Whether it is registered for that type.
    pub(crate) fn runs(&self, id: &NexletId, workload_type: &str) -> bool {
        let entries = self.entries();
        let entry = entries.get(id);
        entry.is_some_and(|entry| entry.registration.request.register_type == workload_type)
    }

    /// Whether the node started it, and it ends with the node.
    pub(crate) fn is_planned(&self, id: &NexletId) -> bool {
        self.planned().contains(id)
    }

    /// Whether a nexlet tells in its heartbeats what has ended.
    pub(crate) fn tells_ends(&self, id: &NexletId) -> bool {
        let entries = self.entries();
        let entry = entries.get(id);
        entry.is_some_and(|entry| entry.registration.request.tells_ends)
    }

    /// Whose lists to wait for. Those that tell of ends, ours, name themselves in a list.
    pub(crate) fn list_roll(&self, now: Instant) -> Roll {
        let living = self.living(now);
        let nameless = living.iter().filter(|id| !self.tells_ends(id)).count();
        Roll::naming(living, nameless)
    }

    /// A living nexlet that does not name itself in a list.
    pub(crate) fn a_nameless(&self, now: Instant) -> Option<NexletId> {
        let mut living = self.living(now).into_iter();
        living.find(|id| !self.tells_ends(id))
    }

    /// Whether there is one that does not.
    pub(crate) fn some_tell_no_ends(&self) -> bool {
        let entries = self.entries();
        entries
            .values()
            .any(|entry| !entry.registration.request.tells_ends)
    }

    /// Whether a nexlet says that it ends.
    pub(crate) fn is_ending(&self, id: &NexletId) -> bool {
        let entries = self.entries();
        let last = entries.get(id).and_then(|entry| entry.pulse.last());
        last.is_some_and(|beat| beat.summary.state == NexletState::Stopping.as_str())
    }

    /// Nobody takes the requests of a nexlet: it is offline until it is heard of again.
    pub(crate) fn unreachable(&self, id: &NexletId) {
        if let Some(entry) = self.entries().get_mut(id) {
            entry.pulse.lose();
        }
        self.changed();
    }

    /// Whether one more fits in. Ids are taken from whoever may register, so there is an end to them.
    pub(crate) fn has_room(&self, id: &NexletId) -> bool {
        let entries = self.entries();
        entries.len() < MAX_NEXLETS || entries.contains_key(id)
    }

    /// Takes a nexlet in; one of the same id is replaced.
    pub(crate) fn register(&self, now: Instant, registration: Registration) {
        self.insert(now, registration, false);
    }

    /// Takes in a nexlet that registered before the node was started again. It counts as living until
    /// it has been silent for as long as one that is offline.
    pub(crate) fn remember(&self, now: Instant, registration: Registration) {
        self.insert(now, registration, true);
    }

    fn insert(&self, now: Instant, registration: Registration, remembered: bool) {
        let entry = Entry {
            registration: Arc::new(registration),
            pulse: Pulse::new(now),
            starting: 0,
            started: 0,
            announced: false,
            remembered,
            offline_looks: 0,
        };
        let id = entry.registration.id.clone();
        self.entries().insert(id, entry);
        self.changed();
    }

    /// Forgets a nexlet that is gone. Counts as a change also where it was never registered, so
    /// that who waits for it looks again.
    pub(crate) fn remove(&self, id: &NexletId) -> Option<Arc<Registration>> {
        let removed = self.entries().remove(id);
        self.changed();
        removed.map(|entry| entry.registration)
    }

    /// The registration of a nexlet, which identifies its present life.
    pub(crate) fn registration(&self, id: &NexletId) -> Option<Arc<Registration>> {
        let entries = self.entries();
        Some(Arc::clone(&entries.get(id)?.registration))
    }

    /// Resolves when the process of a nexlet that the node starts has ended since it registered as
    /// `life`. Never resolves for a remote nexlet: one that registers again goes on with its starts.
    /// Cancel safe.
    pub(crate) async fn ended(&self, id: &NexletId, life: Option<Arc<Registration>>) {
        let mut changes = self.watch();
        while let (true, Some(life)) = (self.is_planned(id), &life) {
            let now = self.registration(id);
            if now.is_none_or(|now| !Arc::ptr_eq(&now, life)) {
                return;
            }
            if changes.changed().await.is_err() {
                break;
            }
        }
        std::future::pending().await
    }

    /// Tells in `INFO` from now on of a nexlet that is not started any more.
    pub(crate) fn give_up(&self, id: NexletId, label: &str) {
        self.given_up().insert(id, label.to_owned());
    }

    fn given_up(&self) -> MutexGuard<'_, BTreeMap<NexletId, String>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a heartbeat down. Answers the registration when the nexlet becomes healthy for the
    /// first time; a heartbeat of a stranger is ignored.
    pub(crate) fn beat(
        &self,
        now: Instant,
        time: Timestamp,
        id: &NexletId,
        heartbeat: NexletHeartbeat,
    ) -> Option<Arc<Registration>> {
        let mut entries = self.entries();
        let entry = entries.get_mut(id)?;
        entry.pulse.beat(Beat {
            at: now,
            time,
            summary: heartbeat.summary,
        });
        entry.started = 0;
        entry.offline_looks = 0;
        let first = !entry.announced && entry.pulse.health(now) == Health::Healthy;
        entry.announced |= first;
        let registration = first.then(|| Arc::clone(&entry.registration));
        drop(entries);
        self.changed();
        registration
    }

    /// The least loaded nexlet that would take such a workload.
    pub(crate) fn pick(
        &self,
        now: Instant,
        workload_type: &str,
        lifecycle: Option<Lifecycle>,
    ) -> Result<Arc<Registration>, PickError> {
        let entries = self.entries();
        Self::pick_entry(&entries, now, workload_type, lifecycle)
            .map(|entry| Arc::clone(&entry.registration))
    }

    fn pick_entry<'a>(
        entries: &'a BTreeMap<NexletId, Entry>,
        now: Instant,
        workload_type: &str,
        lifecycle: Option<Lifecycle>,
    ) -> Result<&'a Entry, PickError> {
        let of_type = entries
            .values()
            .filter(|entry| entry.registration.request.register_type == workload_type);
        let mut reason = PickError::NoType;
        let mut picked: Option<&Entry> = None;
        for entry in of_type {
            let stands = if !entry.registration.runs(lifecycle) {
                PickError::Lifecycle
            } else if entry.pulse.health(now) != Health::Healthy {
                PickError::Unhealthy
            } else if entry.full() {
                PickError::Full
            } else {
                if picked.is_none_or(|picked| entry.workloads() < picked.workloads()) {
                    picked = Some(entry);
                }
                continue;
            };
            reason = reason.max(stands);
        }
        picked.ok_or(reason)
    }

    /// Picks a nexlet as [`pick`](Self::pick) does, and counts the start until it is over.
    pub(crate) fn claim(
        &self,
        now: Instant,
        workload_type: &str,
        lifecycle: Lifecycle,
    ) -> Result<Picked, PickError> {
        let mut entries = self.entries();
        let picked = Self::pick_entry(&entries, now, workload_type, Some(lifecycle))?;
        let registration = Arc::clone(&picked.registration);
        if let Some(entry) = entries.get_mut(&registration.id) {
            entry.starting += 1;
        }
        drop(entries);
        Ok(Picked {
            registry: self.clone(),
            registration,
            started: false,
        })
    }

    /// Those whose answer to a question is worth waiting for.
    pub(crate) fn living(&self, now: Instant) -> Vec<NexletId> {
        self.entries()
            .iter()
            .filter(|(_, entry)| {
                let heard = entry.pulse.last().is_some() || entry.remembered;
                heard && entry.pulse.health(now) != Health::Offline
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Those that may still be there, also those that have only registered.
    pub(crate) fn not_offline(&self, now: Instant) -> BTreeSet<NexletId> {
        let entries = self.entries();
        let there = entries
            .iter()
            .filter(|(_, entry)| entry.pulse.health(now) != Health::Offline);
        there.map(|(id, _)| id.clone()).collect()
    }

    /// The remote nexlets that take work.
    pub(crate) fn heirs(&self, now: Instant) -> Vec<Heir> {
        let planned = self.planned().clone();
        let entries = self.entries();
        let healthy = entries.iter().filter(|(id, entry)| {
            !planned.contains(*id) && entry.pulse.health(now) == Health::Healthy
        });
        let heir = |(_, entry): (&NexletId, &Entry)| Heir {
            registration: Arc::clone(&entry.registration),
            workloads: entry.workloads(),
        };
        healthy.map(heir).collect()
    }

    /// Whether a nexlet is registered and takes work.
    pub(crate) fn is_healthy(&self, now: Instant, id: &NexletId) -> bool {
        self.health(now, id) == Some(Health::Healthy)
    }

    /// Returns the time since a nexlet's last heartbeat or registration; `None` when it is not
    /// registered.
    pub(crate) fn silent_for(&self, now: Instant, id: &NexletId) -> Option<Duration> {
        Some(self.entries().get(id)?.pulse.silent_for(now))
    }

    /// How a nexlet is; `None` when it is not registered.
    pub(crate) fn health(&self, now: Instant, id: &NexletId) -> Option<Health> {
        Some(self.entries().get(id)?.pulse.health(now))
    }

    /// Whether it is registered, and was heard of not long ago.
    pub(crate) fn is_there(&self, now: Instant, id: &NexletId) -> bool {
        self.health(now, id)
            .is_some_and(|health| health != Health::Offline)
    }

    /// How many are registered.
    pub(crate) fn count(&self) -> usize {
        self.entries().len()
    }

    /// Workloads of all nexlets together, as far as they told.
    pub(crate) fn workloads(&self) -> u64 {
        self.entries().values().map(Entry::workloads).sum()
    }

    /// The types that its nexlets run, in order. One whose nexlets are all offline is none.
    pub(crate) fn types(&self, now: Instant) -> BTreeSet<String> {
        let entries = self.entries();
        let living = entries
            .values()
            .filter(|entry| entry.pulse.health(now) != Health::Offline);
        living
            .map(|entry| entry.registration.request.register_type.clone())
            .collect()
    }

    /// The id of the nexlet with that name.
    pub(crate) fn id_by_name(&self, name: &str) -> Option<NexletId> {
        self.entries()
            .values()
            .find(|entry| entry.registration.request.name == name)
            .map(|entry| entry.registration.id.clone())
    }

    /// All that are registered, whether they live or not.
    pub(crate) fn ids(&self) -> Vec<NexletId> {
        self.entries().keys().cloned().collect()
    }

    /// All nexlets as a node's heartbeat has them: `<id> [<type>]`, joined by `, `.
    pub(crate) fn registrations(&self) -> String {
        let entries = self.entries();
        let each = entries
            .iter()
            .map(|(id, entry)| format!("{id} [{}]", entry.registration.request.register_type));
        each.collect::<Vec<_>>().join(", ")
    }

    /// All nexlets, as `INFO` has them, and those that were given up.
    pub(crate) fn summaries(&self, now: Instant) -> Vec<NodeNexletSummary> {
        let summary = |(id, entry): (&NexletId, &Entry)| {
            let health = entry.pulse.health(now);
            let last = entry.pulse.last();
            NodeNexletSummary {
                agent_health: health.as_str().to_owned(),
                agent_health_stoplight: health.stoplight().to_owned(),
                agent_id: id.to_string(),
                agent_last_heartbeat_time: last.map_or_else(zero_time, |beat| beat.time),
                agent_summary: last
                    .map_or_else(NexletSummary::unknown, |beat| beat.summary.clone()),
            }
        };
        let registered: Vec<_> = self.entries().iter().map(summary).collect();
        let gone = |(id, name): (&NexletId, &String)| NodeNexletSummary {
            agent_health: Health::Offline.as_str().to_owned(),
            agent_health_stoplight: Health::Offline.stoplight().to_owned(),
            agent_id: id.to_string(),
            agent_last_heartbeat_time: zero_time(),
            agent_summary: NexletSummary {
                name: name.clone(),
                state: GIVEN_UP.to_owned(),
                ..NexletSummary::unknown()
            },
        };
        let given_up: Vec<_> = self.given_up().iter().map(gone).collect();
        registered.into_iter().chain(given_up).collect()
    }

    /// Looks for nexlets that are offline for good, and forgets them. Call it about every ten
    /// seconds while the node is connected: without a connection nobody can be heard.
    pub(crate) fn forget_offline(&self, now: Instant) -> Vec<Arc<Registration>> {
        let mut gone = Vec::new();
        self.entries().retain(|_, entry| {
            if entry.pulse.health(now) != Health::Offline {
                return true;
            }
            entry.offline_looks += 1;
            let keep = entry.offline_looks < MAX_OFFLINE_LOOKS;
            if !keep {
                gone.push(Arc::clone(&entry.registration));
            }
            keep
        });
        if !gone.is_empty() {
            self.changed();
        }
        gone
    }
}

/// A nexlet that was picked for a start, which is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Picked {
    registry: Registry,
    pub(crate) registration: Arc<Registration>,
    started: bool,
}

impl Picked {
    /// The workload runs: it counts on, until a heartbeat of the nexlet counts it.
    pub(crate) fn started(&mut self) {
        self.started = true;
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        let mut entries = self.registry.entries();
        let Some(entry) = entries.get_mut(&self.registration.id) else {
            return;
        };
        // A nexlet that registered again meanwhile has counters of its own.
        if Arc::ptr_eq(&entry.registration, &self.registration) {
            entry.starting = entry.starting.saturating_sub(1);
            entry.started += u64::from(self.started);
        }
    }
}

#[cfg(test)]
mod tests;
