//! A model of one node, its journal and its nexlet: starts, refusals, time-outs, ends, lost reports,
//! kills and restarts in any order.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use nex_protocol::{StartWorkloadRequest, Tags};
use proptest::prelude::*;

use super::*;
use crate::{
    state::Record,
    workloads::{Registrant, Workloads},
};

const TYPE: &str = "echo";

fn record(id: &WorkloadId) -> Record {
    Record {
        id: id.clone(),
        request: StartWorkloadRequest {
            description: String::new(),
            metadata: serde_json::Map::new(),
            name: id.to_string(),
            namespace: Namespace::default_tenant(),
            reference: String::new(),
            run_request: "{}".into(),
            tags: Tags::new(),
            workload_lifecycle: Lifecycle::Job,
            workload_type: TYPE.into(),
        },
        remote_nexlet: None,
        started: None,
    }
}

fn summary(id: &WorkloadId, state: WorkloadState) -> WorkloadSummary {
    record(id).summary(state, Tags::new())
}

/// A start that the nexlet works on.
#[derive(Debug, Default)]
struct Start {
    /// `true` for a start by the answer to a registration: its refusal is reported.
    restores: bool,
    /// The node's requests that wait for its outcome.
    requests: Vec<Workload>,
}

/// One life of the nexlet.
#[derive(Debug, Default)]
struct NexletModel {
    registered: bool,
    starts: BTreeMap<WorkloadId, Start>,
    running: BTreeSet<WorkloadId>,
    ended: BTreeSet<WorkloadId>,
    /// Ends, and refusals, that the node has not confirmed.
    reports: VecDeque<(WorkloadId, bool)>,
}

impl NexletModel {
    /// Takes up a workload, unless it is here or has ended here.
    fn take(&mut self, id: &WorkloadId, request: Option<Workload>) -> Option<Workload> {
        if self.ended.contains(id) {
            self.reports.push_back((id.clone(), false));
            return request;
        }
        let start = self.starts.entry(id.clone()).or_default();
        start.restores |= request.is_none();
        start.requests.extend(request);
        self.reports
            .retain(|(other, refused)| !(*refused && other == id));
        None
    }
}

#[derive(Debug)]
struct Model {
    now: Instant,
    workloads: Arc<Workloads>,
    journal: BTreeMap<WorkloadId, Record>,
    id: NexletId,
    nexlet: NexletModel,
    /// Unread answers to starts, each with its outcome. They outlive the
    /// nexlet that gave them.
    answers: Vec<(Workload, bool)>,
    /// Deployed, and neither stopped nor ended.
    wanted: BTreeSet<WorkloadId>,
    deployed: usize,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Deploy,
    Register,
    /// A start of the nexlet comes to its end.
    StartEnds(usize, bool),
    /// The node gives out what is due.
    Push,
    /// The node reads an answer to a start.
    Answer(usize),
    /// The node does not wait any longer for the answer to a start.
    AnswerIsLate(usize),
    /// The nexlet loses a workload without a word.
    Loses(usize),
    /// The node compares its books with the lists. The nexlet may not answer.
    Compare(bool),
    /// A report reaches the node; its confirmation may be lost.
    Report(bool),
    Stop(usize),
    End(usize),
    NexletDies,
    NodeDies,
    TimePasses(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Deploy),
        2 => Just(Step::Register),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, ok)| Step::StartEnds(which, ok)),
        4 => Just(Step::Push),
        4 => any::<usize>().prop_map(Step::Answer),
        1 => any::<usize>().prop_map(Step::AnswerIsLate),
        1 => any::<usize>().prop_map(Step::Loses),
        4 => any::<bool>().prop_map(Step::Compare),
        4 => any::<bool>().prop_map(Step::Report),
        1 => any::<usize>().prop_map(Step::Stop),
        1 => any::<usize>().prop_map(Step::End),
        1 => Just(Step::NexletDies),
        1 => Just(Step::NodeDies),
        2 => (0..90_u64).prop_map(Step::TimePasses),
    ]
}

fn pick<T: Clone>(all: impl IntoIterator<Item = T>, which: usize) -> Option<T> {
    let all: Vec<T> = all.into_iter().collect();
    (!all.is_empty()).then(|| all[which % all.len()].clone())
}

impl Model {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            workloads: Arc::default(),
            journal: BTreeMap::new(),
            id: NexletId::new("n").unwrap(),
            nexlet: NexletModel::default(),
            answers: Vec::new(),
            wanted: BTreeSet::new(),
            deployed: 0,
        }
    }

    fn ended(&mut self, id: &WorkloadId) {
        if let Some(record) = self.workloads.ended(id) {
            self.journal.remove(&record.id);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Deploy => self.deploy(),
            Step::Register => self.register(),
            Step::StartEnds(which, ok) => self.start_ends(which, ok),
            Step::Push => self.push(),
            Step::Answer(which) => self.answer(which),
            Step::Loses(which) => {
                if let Some(id) = pick(self.nexlet.running.clone(), which) {
                    self.nexlet.running.remove(&id);
                }
            }
            Step::AnswerIsLate(which) => {
                if let Some(id) = pick(self.nexlet.starts.keys().cloned(), which) {
                    self.nexlet.starts.get_mut(&id).unwrap().requests.clear();
                }
            }
            Step::Compare(answers) => self.compare(answers),
            Step::Report(confirmed) => self.report(confirmed),
            Step::Stop(which) => {
                if let Some(id) = pick(self.nexlet.running.clone(), which) {
                    self.end(&id);
                    self.ended(&id);
                }
            }
            Step::End(which) => {
                if let Some(id) = pick(self.nexlet.running.clone(), which) {
                    self.end(&id);
                }
            }
            Step::NexletDies => {
                self.forget_unrecorded();
                self.nexlet = NexletModel::default();
                self.workloads.nexlet_ended(&self.id);
            }
            Step::NodeDies => {
                self.forget_unrecorded();
                self.nexlet = NexletModel::default();
                self.answers.clear();
                let records = self.journal.values().cloned().collect();
                self.workloads = Arc::new(Workloads::restored(records));
            }
            Step::TimePasses(seconds) => self.now += Duration::from_secs(seconds),
        }
    }

    /// The nexlet's memory dies before its node has heard of these ends: they are to run again.
    fn forget_unrecorded(&mut self) {
        let ended = self.nexlet.ended.iter();
        let unrecorded = ended.filter(|id| self.journal.contains_key(*id));
        self.wanted.extend(unrecorded.cloned());
    }

    fn deploy(&mut self) {
        if !self.nexlet.registered {
            return;
        }
        self.deployed += 1;
        let id = WorkloadId::new(format!("w{}", self.deployed)).unwrap();
        let starting = self.workloads.starting(&id);
        starting.started(Arc::new(record(&id)), &self.id);
        self.journal.insert(id.clone(), record(&id));
        self.nexlet.running.insert(id.clone());
        self.wanted.insert(id);
    }

    fn register(&mut self) {
        let registrant = Registrant {
            id: &self.id,
            workload_type: TYPE,
            planned: true,
        };
        let existing = self.workloads.hand_over(self.now, registrant);
        self.nexlet.registered = true;
        for record in existing {
            if !self.nexlet.running.contains(&record.id) {
                self.nexlet.take(&record.id, None);
            }
        }
    }

    fn start_ends(&mut self, which: usize, ok: bool) {
        let Some(id) = pick(self.nexlet.starts.keys().cloned(), which) else {
            return;
        };
        let start = self.nexlet.starts.remove(&id).unwrap();
        if ok {
            self.nexlet.running.insert(id);
        } else if start.restores {
            self.nexlet.reports.push_back((id, true));
        }
        let answers = start.requests.into_iter().map(|request| (request, ok));
        self.answers.extend(answers);
    }

    fn answer(&mut self, which: usize) {
        if self.answers.is_empty() {
            return;
        }
        let (request, ok) = self.answers.swap_remove(which % self.answers.len());
        if ok {
            self.workloads.started(&request);
        } else {
            self.workloads.not_started(self.now, &request, "no room");
        }
    }

    fn push(&mut self) {
        let (due, _) = self.workloads.take_due(self.now);
        for workload in due {
            let id = workload.record.id.clone();
            if !self.nexlet.registered {
                self.workloads.not_started(self.now, &workload, "not there");
            } else if self.nexlet.running.contains(&id) {
                self.answers.push((workload, true));
            } else if let Some(refused) = self.nexlet.take(&id, Some(workload)) {
                self.answers.push((refused, false));
            }
        }
    }

    fn compare(&mut self, answers: bool) {
        let mut lists = Lists::default();
        if answers && self.nexlet.registered {
            let starting = self.nexlet.starts.keys();
            let starting = starting.map(|id| summary(id, WorkloadState::Starting));
            let running = self.nexlet.running.iter();
            let running = running.map(|id| summary(id, WorkloadState::Running));
            lists.add(Some(self.id.clone()), starting.chain(running).collect());
        }
        for workload in self.workloads.all() {
            let seen = Seen {
                lists: &lists,
                complete: answers,
                healthy: self.nexlet.registered,
                nameless: false,
                suspected: false,
            };
            match seen.verdict(&workload, self.now) {
                Verdict::Runs => self.workloads.runs(&workload.record.id),
                Verdict::Ended => self.ended(&workload.record.id),
                Verdict::Missing => drop(self.workloads.start_again(self.now, &workload)),
                Verdict::Suspect | Verdict::Open => {}
            }
        }
    }

    fn report(&mut self, confirmed: bool) {
        let Some((id, refused)) = self.nexlet.reports.pop_front() else {
            return;
        };
        if refused {
            self.workloads.refused(self.now, &id, "no room");
        } else {
            self.ended(&id);
        }
        if !confirmed {
            self.nexlet.reports.push_back((id, refused));
        }
    }

    fn end(&mut self, id: &WorkloadId) {
        self.nexlet.running.remove(id);
        self.nexlet.ended.insert(id.clone());
        self.nexlet.reports.push_back((id.clone(), false));
        self.wanted.remove(id);
    }

    /// Nothing fails any more: everything that should run gets there.
    fn settle(&mut self) {
        self.register();
        for _ in 0..4 {
            self.now += RECONCILE_PERIOD;
            self.push();
            while !self.nexlet.starts.is_empty() {
                self.start_ends(0, true);
            }
            while !self.answers.is_empty() {
                self.answer(0);
            }
            for _ in 0..self.nexlet.reports.len() {
                self.report(true);
            }
            self.compare(true);
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let known: BTreeSet<WorkloadId> = self
            .workloads
            .all()
            .iter()
            .map(|workload| workload.record.id.clone())
            .collect();
        let kept: BTreeSet<WorkloadId> = self.journal.keys().cloned().collect();
        prop_assert_eq!(&known, &kept);
        let lost: Vec<_> = self.wanted.difference(&known).collect();
        prop_assert!(lost.is_empty(), "lost: {:?}", lost);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_was_acknowledged_is_kept_until_it_ends_and_runs_in_the_end(
        story in prop::collection::vec(step(), 0..60),
    ) {
        let mut model = Model::new();
        for step in story {
            model.step(step);
            model.check()?;
        }

        model.settle();

        model.check()?;
        prop_assert_eq!(&model.nexlet.running, &model.wanted);
        for workload in model.workloads.all() {
            prop_assert_eq!(workload.standing, Standing::Running);
        }
    }
}
