//! What the node has left to give, looked at every other second: the counters of the kernel tell
//! how busy CPUs were only between two looks, and nothing is read while a bid is made.

use std::{sync::Arc, time::Duration};

use nex_protocol::control::Load;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    cgroup::{Group, groups},
    cpu::Look,
    memory,
    shared::Shared,
};

/// How long the second look comes after the first: from then on the CPU is known.
const FIRST_PERIOD: Duration = Duration::from_millis(250);

/// How often is looked then.
const PERIOD: Duration = Duration::from_secs(2);

/// What is left of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) free: u64,
    /// The whole of which it is left.
    pub(crate) of: u64,
}

/// What the node has left; `None` where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Capacity {
    cpu: Option<Tightest>,
    memory: Option<Tightest>,
}

/// The least of several rooms, which all bound the same.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tightest {
    free: u64,
    of: u64,
    /// Of the room that is fullest, from 0 to 1: not always the one with the least left.
    share: f64,
}

fn tightest(rooms: &[Room]) -> Option<Tightest> {
    let share = |room: &Room| room.free as f64 / room.of.max(1) as f64;
    Some(Tightest {
        free: rooms.iter().map(|room| room.free).min()?,
        of: rooms.iter().map(|room| room.of).min()?,
        share: rooms.iter().map(share).fold(1.0, f64::min),
    })
}

impl Capacity {
    /// How busy a node with so many workloads is.
    pub(crate) fn load(self, workloads: u64) -> Load {
        Load {
            workloads,
            cpu_millis_free: self.cpu.map(|cpu| cpu.free),
            memory_bytes_free: self.memory.map(|memory| memory.free),
            cached: None,
            score: Some(self.score(workloads)),
        }
    }

    /// From 1, for an idle node, down to 0: the share of CPU or memory that is free, whichever is
    /// less, over one more than the workloads per CPU.
    ///
    /// The share is in tenths, so that chance and not a flicker of the machine decides between
    /// nodes that are about as busy; what is not known counts as free. Workloads count beside it,
    /// for one that was just started shows in no share yet.
    fn score(self, workloads: u64) -> f64 {
        let share = [self.cpu, self.memory].into_iter().flatten();
        let share = share.map(|room| room.share).fold(1.0, f64::min);
        let cpus = match self.cpu {
            Some(cpu) => cpu.of.max(1) as f64 / 1000.0,
            None => 1.0,
        };
        let tenths = (share * 10.0).round() / 10.0;
        tenths / (1.0 + workloads as f64 / cpus)
    }
}

/// Looks again and again, until `cancel`.
pub(crate) async fn watch(shared: Arc<Shared>, cancel: CancellationToken) {
    let (mut watcher, mut period) = (Watcher::default(), FIRST_PERIOD);
    loop {
        // On a machine with hundreds of CPUs the kernel takes milliseconds for its table.
        let looking = tokio::task::spawn_blocking(move || {
            let capacity = watcher.look();
            (watcher, capacity)
        });
        let Ok((same, capacity)) = looking.await else {
            warn!("nobody looks at CPU and memory any more: bids tell what was seen last");
            return;
        };
        watcher = same;
        shared.capacity_tx.send_replace(capacity);
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
        period = PERIOD;
    }
}

/// Remembers the last look.
#[derive(Debug)]
struct Watcher {
    cpu: Vec<Group>,
    accounts: Vec<Group>,
    memory: Vec<Group>,
    last: Option<Look>,
}

impl Default for Watcher {
    fn default() -> Self {
        Self {
            cpu: groups("cpu"),
            accounts: groups("cpuacct"),
            memory: groups("memory"),
            last: None,
        }
    }
}

impl Watcher {
    fn look(&mut self) -> Capacity {
        let now = Look::now(&self.cpu, &self.accounts);
        let before = self.last.replace(now.clone());
        let cpu = before.and_then(|before| tightest(&now.rooms_since(&before)));
        Capacity {
            cpu,
            memory: tightest(&memory::rooms(&self.memory)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(cpu: &[Room], memory: &[Room]) -> Capacity {
        Capacity {
            cpu: tightest(cpu),
            memory: tightest(memory),
        }
    }

    fn room(free: u64, of: u64) -> Room {
        Room { free, of }
    }

    #[test]
    fn the_tightest_bound_is_told() {
        let quota = capacity(&[room(7000, 8000), room(300, 500)], &[]);
        let full = capacity(&[room(4000, 4000)], &[room(200, 1000), room(100, 100)]);

        assert_eq!(quota.load(0).cpu_millis_free, Some(300));
        assert_eq!(quota.load(0).memory_bytes_free, None);
        assert_eq!(full.load(0).memory_bytes_free, Some(100));
        // The group has the least left and is empty; the machine is nearly full.
        assert_eq!(full.load(0).score, Some(0.2));
    }

    #[test]
    fn an_idle_node_scores_best_and_a_full_one_nothing() {
        let score = |cpu, memory, workloads| {
            let capacity = capacity(&[room(cpu, 4000)], &[room(memory, 1000)]);
            capacity.score(workloads)
        };

        assert_eq!(score(4000, 1000, 0), 1.0);
        assert_eq!(score(0, 1000, 0), 0.0);
        assert_eq!(score(4000, 0, 0), 0.0);
        // A flicker decides nothing; a workload does.
        assert_eq!(score(3950, 980, 0), 1.0);
        assert!(score(4000, 1000, 1) < score(3800, 1000, 0));
        // The same workloads are less on a larger machine.
        let large = capacity(&[room(64_000, 64_000)], &[]);
        assert!(large.score(10) > score(4000, 1000, 1));
    }

    #[test]
    fn what_the_system_does_not_say_is_left_out() {
        let load = Capacity::default().load(3);

        assert_eq!((load.cpu_millis_free, load.memory_bytes_free), (None, None));
        assert_eq!(load.score, Some(0.25));
    }

    #[tokio::test]
    async fn a_later_look_knows_the_cpu() {
        if !std::path::Path::new("/proc/stat").exists() {
            return nex_testkit::skip("the kernel tells nothing about its CPUs");
        }
        let watcher = std::cell::RefCell::new(Watcher::default());
        let first = watcher.borrow_mut().look();
        assert_eq!(first.cpu, None);
        assert!(first.memory.is_some_and(|memory| memory.free > 0));

        let limit = Duration::from_secs(10);
        let cpu = nex_testkit::eventually("the counters go on", limit, || async {
            let seen = watcher.borrow_mut().look();
            seen.cpu.ok_or("no tick was counted")
        });

        let cpu = cpu.await;
        assert!(cpu.free <= cpu.of && cpu.of > 0, "{cpu:?}");
    }
}
