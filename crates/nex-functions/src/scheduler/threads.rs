//! The states of the engine threads.
//!
//! ```text
//!   Absent ──starts──> Waking ──asks──> Running ──────ends, nothing to do──────> Parked, Driving
//!                        ↑               │  ↑ │                                    │        │
//!                        │        waits  ↓  │ └──ends, sends answers or polls──┐   │        │
//!                        │              Waiting                                ↓   │        │
//!                        └──woken──────────────────────────────────────── Coming   │        │
//!                        └──woken──────────────────────────────────────────────────┘        │
//!                                                                   Coming <──woken─────────┘
//! ```
//!
//! A thread that has asked for work may be given instances to drop (`Dropping`), and asks again then.

use std::time::Instant;

use nex_process::OwnThread;

use super::lane::LaneId;

/// State of an engine thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thread {
    /// There is no thread of this number.
    Absent,
    /// Started or woken; asks for work when a processor runs it.
    Waking,
    /// Awake; asks for work in a moment, and sends answers or polls the I/O until then.
    Coming,
    /// Sleeps until it is woken.
    Parked,
    /// Drives the I/O until it is woken.
    Driving,
    /// Runs a turn.
    Running(Run),
    /// Waits in a synchronous host call of its turn.
    Waiting(Run),
    /// Drops instances.
    Dropping,
}

/// The turn of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) lane: LaneId,
    /// Set while the thread holds answers back until the turn is over.
    pub(super) holds: bool,
    /// Time at which it began, or went on after a wait.
    pub(super) since: Instant,
    /// Set while it runs with idle priority, since it held others up.
    pub(super) is_demoted: bool,
}

/// State of a thread as far as others go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Absent,
    /// Can be woken.
    Idle,
    /// Uses a processor, or is about to.
    Busy,
    /// Has idle priority.
    Demoted,
    /// Waits in a host call.
    Waiting,
}

impl Thread {
    fn class(self) -> Class {
        match self {
            Self::Absent => Class::Absent,
            Self::Parked | Self::Driving => Class::Idle,
            Self::Running(run) if run.is_demoted => Class::Demoted,
            Self::Waking | Self::Coming | Self::Running(_) | Self::Dropping => Class::Busy,
            Self::Waiting(_) => Class::Waiting,
        }
    }
}

/// A place for one engine thread.
#[derive(Clone, Copy, Debug)]
struct Slot {
    thread: Thread,
    /// Set where the lane of its last turn has short turns.
    ran_short: bool,
    /// The thread as the system knows it.
    own: Option<OwnThread>,
}

/// All engine threads. Only [`Threads::set`] changes a state.
#[derive(Debug)]
pub(super) struct Threads {
    slots: Box<[Slot]>,
    busy: usize,
    coming: usize,
    idle: usize,
    waiting: usize,
    present: usize,
    holding: usize,
    dropping: usize,
}

impl Threads {
    pub(super) fn new(places: usize) -> Self {
        let slot = Slot {
            thread: Thread::Absent,
            ran_short: false,
            own: None,
        };
        Self {
            slots: vec![slot; places].into(),
            busy: 0,
            coming: 0,
            idle: 0,
            waiting: 0,
            present: 0,
            holding: 0,
            dropping: 0,
        }
    }

    pub(super) fn get(&self, number: usize) -> Thread {
        self.slots[number].thread
    }

    pub(super) fn set(&mut self, number: usize, thread: Thread) {
        let slot = &mut self.slots[number];
        let before = std::mem::replace(&mut slot.thread, thread);
        if thread == Thread::Absent {
            slot.own = None;
            slot.ran_short = false;
        }
        self.count(before, usize::wrapping_sub);
        self.count(thread, usize::wrapping_add);
    }

    fn count(&mut self, thread: Thread, add: fn(usize, usize) -> usize) {
        let class = thread.class();
        let change = |count: &mut usize, counts: bool| *count = add(*count, usize::from(counts));
        change(&mut self.busy, class == Class::Busy);
        change(&mut self.idle, class == Class::Idle);
        change(&mut self.waiting, class == Class::Waiting);
        change(&mut self.present, class != Class::Absent);
        change(&mut self.coming, thread == Thread::Coming);
        change(&mut self.dropping, thread == Thread::Dropping);
        let holds = matches!(thread, Thread::Running(run) | Thread::Waiting(run) if run.holds);
        change(&mut self.holding, holds);
    }

    pub(super) fn identify(&mut self, number: usize, own: Option<OwnThread>) {
        self.slots[number].own = own;
    }

    pub(super) fn own(&self, number: usize) -> Option<OwnThread> {
        self.slots[number].own
    }

    pub(super) fn ran_short(&self, number: usize) -> bool {
        self.slots[number].ran_short
    }

    pub(super) fn set_ran_short(&mut self, number: usize, short: bool) {
        self.slots[number].ran_short = short;
    }

    /// Notes whether a thread holds answers back while it runs.
    pub(super) fn set_holds(&mut self, number: usize, holds: bool) {
        let thread = match self.get(number) {
            Thread::Running(run) => Thread::Running(Run { holds, ..run }),
            Thread::Waiting(run) => Thread::Waiting(Run { holds, ..run }),
            other => other,
        };
        self.set(number, thread);
    }

    /// Notes that a thread has idle priority until its turn is over.
    pub(super) fn set_demoted(&mut self, number: usize) {
        if let Thread::Running(run) = self.get(number) {
            let run = Run {
                is_demoted: true,
                ..run
            };
            self.set(number, Thread::Running(run));
        }
    }

    /// Takes threads that were to ask for work in a moment for busy.
    pub(super) fn give_up_on_coming(&mut self) {
        for number in 0..self.len() {
            if self.get(number) == Thread::Coming {
                self.set(number, Thread::Waking);
            }
        }
    }

    /// Returns whether no other thread is busy. Those with idle priority are not: they let all others go first.
    pub(super) fn is_alone(&self, number: usize) -> bool {
        let own = self.slots[number].thread.class() == Class::Busy;
        self.busy == usize::from(own)
    }

    /// Returns whether a thread asks for work in a moment.
    pub(super) fn one_comes(&self) -> bool {
        self.coming > 0
    }

    pub(super) fn any_idle(&self) -> bool {
        self.idle > 0
    }

    /// Returns whether threads hold answers back while they run a turn.
    pub(super) fn any_holds(&self) -> bool {
        self.holding > 0
    }

    /// Returns whether threads drop instances.
    pub(super) fn any_drops(&self) -> bool {
        self.dropping > 0
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns the number of threads beside those that wait in host calls.
    pub(super) fn not_waiting(&self) -> usize {
        self.present - self.waiting
    }

    /// The thread to wake: the one that drives is awake, and among the others the first is warm.
    pub(super) fn first_idle(&self) -> Option<usize> {
        let find = |wanted: Thread| self.slots.iter().position(|slot| slot.thread == wanted);
        if self.idle == 0 {
            return None;
        }
        find(Thread::Driving).or_else(|| find(Thread::Parked))
    }

    pub(super) fn first_absent(&self) -> Option<usize> {
        let mut slots = self.slots.iter();
        slots.position(|slot| slot.thread == Thread::Absent)
    }

    /// The turns that run, with the numbers of their threads.
    pub(super) fn runs(&self) -> impl Iterator<Item = (usize, Run)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(number, slot)| match slot.thread {
            Thread::Running(run) => Some((number, run)),
            _ => None,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}
