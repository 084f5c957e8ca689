//! Which workloads should run on this node, and which nexlet has each. Pure: time comes in as an
//! argument.
//!
//! ```text
//!   starting ──started──> running ──refused, or not listed any more──┐
//!                          │   ^                                     │
//!      its nexlet is gone  │   └────────listed, or started───────┐   │
//!                          v                                     │   v
//!                       waiting ──a nexlet registers──> handed over ──refused──> due
//!                          ^                                 ^                    │
//!                          └───── its nexlet is gone ────────┴───── it is time ───┘
//! ```
//!
//! The nexlets own what runs; this is what the node has accepted and must not forget. From every
//! state a workload is removed by a stop, by an end that its nexlet reports, and by nothing else: a
//! refusal, a time-out and an absence from a list lead to another start.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nex_protocol::{Lifecycle, Namespace, NexletId, WorkloadId};
use tokio::sync::Notify;

use crate::state::Record;

/// The first and the longest pause before a workload that was refused is handed over again.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The most workloads that are remembered as unwanted.
const MAX_UNWANTED: usize = 100_000;

/// For how long: a nexlet may come back with it.
const UNWANTED_LIMIT: Duration = Duration::from_secs(60 * 60);

/// How a workload stands that should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its nexlet has said that it runs.
    Running,
    /// Its nexlet was told to take it up again at that time, and has not said how it went.
    HandedOver(Instant),
    /// Its nexlet is to be told at that time.
    Due(Instant),
    /// Its nexlet is not there.
    Waiting,
}

/// A workload that should run.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) record: Arc<Record>,
    /// The nexlet that has it, or had it last.
    pub(crate) holder: Option<NexletId>,
    pub(crate) standing: Standing,
    /// How often in a row it was not taken up again, and why not the last time.
    refusals: u32,
    pub(crate) refusal: Option<String>,
}

impl Workload {
    /// Returns whether the workload is still given to the same nexlet by the same start as `then`.
    fn is_given_as(&self, then: &Self) -> bool {
        self.holder == then.holder && self.standing == then.standing
    }

    fn refuse(&mut self, now: Instant, reason: &str) {
        let pause = PAUSE.0.saturating_mul(1 << self.refusals.min(10));
        self.standing = Standing::Due(now + pause.min(PAUSE.1));
        self.refusals = self.refusals.saturating_add(1);
        self.refusal = Some(reason.to_owned());
    }

    fn run(&mut self) {
        self.standing = Standing::Running;
        self.refusals = 0;
        self.refusal = None;
    }

    fn new(record: Arc<Record>, holder: Option<NexletId>, standing: Standing) -> Self {
        Self {
            record,
            holder,
            standing,
            refusals: 0,
            refusal: None,
        }
    }
}

/// Who registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registrant<'a> {
    pub(crate) id: &'a NexletId,
    pub(crate) workload_type: &'a str,
    /// Whether the node started it: then it is the heir of all that the node started before.
    pub(crate) planned: bool,
}

/// A workload whose remote nexlet is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) id: WorkloadId,
    /// Whose it was.
    pub(crate) nexlet: NexletId,
    pub(crate) workload_type: String,
    pub(crate) lifecycle: Lifecycle,
}

/// The workloads of a node. The one owner of that knowledge.
#[derive(Debug, Default)]
pub(crate) struct Workloads {
    inner: Mutex<Inner>,
    due: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    known: BTreeMap<WorkloadId, Workload>,
    /// Starts that are not acknowledged yet, and whether the workload has ended already.
    starting: HashMap<WorkloadId, bool>,
    /// Those that may run and are not to: whoever lists one is to stop it.
    unwanted: BTreeMap<WorkloadId, (Namespace, Instant)>,
}

impl Workloads {
    /// What was kept over a restart. None of it has a nexlet yet.
    pub(crate) fn restored(records: Vec<Record>) -> Self {
        let known = records.into_iter().map(|record| {
            let (id, holder) = (record.id.clone(), record.remote_nexlet.clone());
            let workload = Workload::new(Arc::new(record), holder, Standing::Waiting);
            (id, workload)
        });
        let inner = Inner {
            known: known.collect(),
            ..Inner::default()
        };
        Self {
            inner: Mutex::new(inner),
            due: Notify::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is one step, so a panic elsewhere leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A nexlet is about to be asked for a start.
    pub(crate) fn starting(self: &Arc<Self>, id: &WorkloadId) -> Starting {
        self.inner().starting.insert(id.clone(), false);
        Starting {
            workloads: Arc::clone(self),
            id: id.clone(),
        }
    }

    pub(crate) fn get(&self, id: &WorkloadId) -> Option<Workload> {
        self.inner().known.get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Workload> {
        self.inner().known.values().cloned().collect()
    }

    /// A workload has ended for good. Answers what is to be removed from the store.
    pub(crate) fn ended(&self, id: &WorkloadId) -> Option<Arc<Record>> {
        let mut inner = self.inner();
        if let Some(ended) = inner.starting.get_mut(id) {
            *ended = true;
        }
        inner.known.remove(id).map(|workload| workload.record)
    }

    /// All are to be forgotten. Answers what is to be removed from the store.
    pub(crate) fn all_ended(&self) -> Vec<Arc<Record>> {
        let known = std::mem::take(&mut self.inner().known);
        known
            .into_values()
            .map(|workload| workload.record)
            .collect()
    }

    /// The nexlet of a workload lists it. One whose nexlet is gone meanwhile still waits.
    pub(crate) fn runs(&self, id: &WorkloadId) {
        if let Some(workload) = self.inner().known.get_mut(id)
            && workload.standing != Standing::Waiting
        {
            workload.run();
        }
    }

    /// A nexlet says that it has started what was given to it as `given`. Nothing changes where the
    /// workload was given to somebody again since: the answer is that of an earlier start.
    pub(crate) fn started(&self, given: &Workload) {
        if let Some(workload) = self.inner().known.get_mut(&given.record.id)
            && workload.is_given_as(given)
        {
            workload.run();
        }
    }

    /// A nexlet says that it did not start what was given to it as `given`: the next attempt comes
    /// after a pause that grows. Nothing changes where the workload was given to somebody again since.
    pub(crate) fn not_started(&self, now: Instant, given: &Workload, reason: &str) {
        if let Some(workload) = self.inner().known.get_mut(&given.record.id)
            && workload.is_given_as(given)
        {
            workload.refuse(now, reason);
        }
        self.due.notify_one();
    }

    /// The nexlet of a workload reports that it failed to start it again, which may have been taken
    /// for running since: the next attempt comes after a pause that grows.
    pub(crate) fn refused(&self, now: Instant, id: &WorkloadId, reason: &str) {
        if let Some(workload) = self.inner().known.get_mut(id)
            && matches!(
                workload.standing,
                Standing::HandedOver(_) | Standing::Running
            )
        {
            workload.refuse(now, reason);
        }
        self.due.notify_one();
    }

    /// A remote nexlet is remembered over a restart of the node: it has had its workloads all along.
    pub(crate) fn remembered(&self, nexlet: &NexletId) {
        for workload in self.inner().known.values_mut() {
            if workload.holder.as_ref() == Some(nexlet) {
                workload.standing = Standing::Running;
            }
        }
    }

    /// A nexlet is gone, and its workloads with it.
    pub(crate) fn nexlet_ended(&self, nexlet: &NexletId) {
        for workload in self.inner().known.values_mut() {
            if workload.holder.as_ref() == Some(nexlet) {
                workload.standing = Standing::Waiting;
            }
        }
    }

    /// What a nexlet that registers is to take up: what it had, and, for one that the node
    /// started, what the ones before it had. It counts as handed over.
    pub(crate) fn hand_over(&self, now: Instant, to: Registrant<'_>) -> Vec<Arc<Record>> {
        let mut taken = Vec::new();
        for workload in self.inner().known.values_mut() {
            if workload.record.request.workload_type != to.workload_type {
                continue;
            }
            let its_own = workload.holder.as_ref() == Some(to.id);
            let inherited = to.planned
                && workload.record.remote_nexlet.is_none()
                && workload.standing == Standing::Waiting;
            if its_own || inherited {
                workload.holder = Some(to.id.clone());
                workload.standing = Standing::HandedOver(now);
                taken.push(Arc::clone(&workload.record));
            }
        }
        taken
    }

    /// A workload may run and is not to.
    pub(crate) fn unwanted(&self, id: &WorkloadId, namespace: &Namespace) {
        let mut inner = self.inner();
        if inner.unwanted.len() < MAX_UNWANTED {
            let since = Instant::now();
            inner
                .unwanted
                .insert(id.clone(), (namespace.clone(), since));
        }
    }

    /// It surely does not run.
    pub(crate) fn no_longer_unwanted(&self, id: &WorkloadId) {
        self.inner().unwanted.remove(id);
    }

    /// Returns whether a workload that may run came to be unwanted less than `period` ago.
    pub(crate) fn unwanted_within(&self, period: Duration) -> bool {
        let inner = self.inner();
        inner
            .unwanted
            .values()
            .any(|(_, since)| since.elapsed() < period)
    }

    /// All that may run and are not to.
    pub(crate) fn all_unwanted(&self) -> BTreeMap<WorkloadId, Namespace> {
        let mut inner = self.inner();
        inner
            .unwanted
            .retain(|_, (_, since)| since.elapsed() < UNWANTED_LIMIT);
        let all = inner.unwanted.iter();
        all.map(|(id, (namespace, _))| (id.clone(), namespace.clone()))
            .collect()
    }

    /// Workloads of remote nexlets that are not among `living`: another one may take them up.
    pub(crate) fn orphans(&self, living: &BTreeSet<NexletId>) -> Vec<Orphan> {
        let inner = self.inner();
        let orphan = |(id, workload): (&WorkloadId, &Workload)| {
            let nexlet = workload.record.remote_nexlet.as_ref()?;
            (!living.contains(nexlet)).then(|| Orphan {
                id: id.clone(),
                nexlet: nexlet.clone(),
                workload_type: workload.record.request.workload_type.clone(),
                lifecycle: workload.record.request.workload_lifecycle,
            })
        };
        inner.known.iter().filter_map(orphan).collect()
    }

    /// Gives a workload of the remote nexlet `from` to another, if it is still its. Answers what is
    /// to be kept.
    pub(crate) fn pass_on(
        &self,
        id: &WorkloadId,
        from: &NexletId,
        to: &NexletId,
        standing: Standing,
    ) -> Option<Arc<Record>> {
        let mut inner = self.inner();
        let workload = inner.known.get_mut(id)?;
        if workload.record.remote_nexlet.as_ref() != Some(from) {
            return None;
        }
        let mut record = Record::clone(&workload.record);
        record.remote_nexlet = Some(to.clone());
        *workload = Workload::new(Arc::new(record), Some(to.clone()), standing);
        Some(Arc::clone(&workload.record))
    }

    /// Gives a workload to its nexlet again, at once: the nexlet does not list it. Nothing changes
    /// where it stands otherwise than in `seen`. Answers whether it is given again.
    pub(crate) fn start_again(&self, now: Instant, seen: &Workload) -> bool {
        let mut inner = self.inner();
        let known = inner.known.get_mut(&seen.record.id);
        let again = known.is_some_and(|workload| {
            let same = workload.is_given_as(seen);
            if same {
                workload.standing = Standing::Due(now);
            }
            same
        });
        drop(inner);
        if again {
            self.due.notify_one();
        }
        again
    }

    /// What was handed over is to be handed over again, at once.
    pub(crate) fn due(&self, now: Instant, ids: impl IntoIterator<Item = WorkloadId>) {
        let mut inner = self.inner();
        for id in ids {
            if let Some(workload) = inner.known.get_mut(&id)
                && matches!(workload.standing, Standing::HandedOver(_))
            {
                workload.standing = Standing::Due(now);
            }
        }
        drop(inner);
        self.due.notify_one();
    }

    /// All that are due; they count as handed over. The other answer is when the next one is due.
    pub(crate) fn take_due(&self, now: Instant) -> (Vec<Workload>, Option<Instant>) {
        let mut taken = Vec::new();
        let mut next: Option<Instant> = None;
        for workload in self.inner().known.values_mut() {
            let Standing::Due(at) = workload.standing else {
                continue;
            };
            if at <= now {
                workload.standing = Standing::HandedOver(now);
                taken.push(workload.clone());
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        (taken, next)
    }

    /// Resolves after something has become due. Cancel safe.
    pub(crate) async fn wait_due(&self) {
        self.due.notified().await;
    }
}

/// A start that is not acknowledged yet; forgotten when this is dropped.
#[derive(Debug)]
pub(crate) struct Starting {
    workloads: Arc<Workloads>,
    id: WorkloadId,
}

impl Starting {
    /// The nexlet says that it runs.
    pub(crate) fn started(&self, record: Arc<Record>, holder: &NexletId) {
        let mut inner = self.workloads.inner();
        if inner.starting.get(&self.id) == Some(&false) {
            let workload = Workload::new(record, Some(holder.clone()), Standing::Running);
            inner.known.insert(self.id.clone(), workload);
        }
    }

    /// Whether it has ended since: then it is not to be kept.
    pub(crate) fn has_ended(&self) -> bool {
        self.workloads.inner().starting.get(&self.id) == Some(&true)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.workloads.inner().starting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
