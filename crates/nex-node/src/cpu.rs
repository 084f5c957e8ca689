//! How much CPU the node has left.
//!
//! The least of how idle the CPUs were that this process may use (`/proc/stat`, of those in
//! `Cpus_allowed_list`), and of what each control group with a quota did not use of it, both over
//! the time between two looks. Time that the host gave to other machines is not idle; waiting for
//! disks is.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{capacity::Room, cgroup::Group};

/// What the kernel's counters said at one time.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    at: Instant,
    machine: Option<Ticks>,
    groups: Vec<Quota>,
}

/// Ticks of CPU time since the machine started, and of how many CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    all: u64,
    cpus: u64,
}

/// The quota of a control group, and what it has used.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Quota {
    dir: PathBuf,
    /// In thousandths of a CPU.
    millis: u64,
    /// CPU time since the group was made, in microseconds.
    used_micros: Option<u64>,
}

impl Look {
    /// Reads the counters: small files of the kernel's. `accounts` are the groups that count what
    /// those of `groups` use, where another hierarchy does that.
    pub(crate) fn now(groups: &[Group], accounts: &[Group]) -> Self {
        let read = |file| fs::read_to_string(file).ok();
        let allowed = read("/proc/self/status").and_then(|status| allowed(&status));
        Self {
            at: Instant::now(),
            machine: read("/proc/stat").and_then(|table| ticks(&table, allowed.as_deref())),
            groups: groups
                .iter()
                .filter_map(|group| quota(group, accounts))
                .collect(),
        }
    }

    /// What was left between an earlier look and this one, in thousandths of a CPU, of the machine
    /// and of each group with a quota.
    pub(crate) fn rooms_since(&self, earlier: &Self) -> Vec<Room> {
        let machine = earlier.machine.zip(self.machine);
        let machine = machine.and_then(|(before, after)| idle(before, after));
        let micros = self.at.saturating_duration_since(earlier.at).as_micros();
        let groups = self.groups.iter().map(|group| {
            let before = earlier.groups.iter().find(|each| each.dir == group.dir);
            unused(before, group, u64::try_from(micros).unwrap_or(u64::MAX))
        });
        machine.into_iter().chain(groups).collect()
    }
}

fn idle(before: Ticks, after: Ticks) -> Option<Room> {
    let all = after.all.checked_sub(before.all).filter(|all| *all > 0)?;
    // The kernel's count of idle time may go back a little.
    let idle = after.idle.saturating_sub(before.idle).min(all);
    let of = after.cpus * 1000;
    Some(Room {
        free: share(of, idle, all),
        of,
    })
}

fn unused(before: Option<&Quota>, group: &Quota, micros: u64) -> Room {
    let used = before.and_then(|before| {
        let used = group.used_micros?.checked_sub(before.used_micros?)?;
        (micros > 0).then(|| share(1000, used, micros))
    });
    Room {
        // Where nobody counts what it uses, its quota is still a bound.
        free: group.millis.saturating_sub(used.unwrap_or(0)),
        of: group.millis,
    }
}

/// `whole * part / of`, for numbers whose product may be large.
fn share(whole: u64, part: u64, of: u64) -> u64 {
    let share = u128::from(whole) * u128::from(part) / u128::from(of);
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// The sums of the lines `cpuN` of `/proc/stat`, of the allowed CPUs.
fn ticks(table: &str, allowed: Option<&[usize]>) -> Option<Ticks> {
    let mut sum = Ticks {
        idle: 0,
        all: 0,
        cpus: 0,
    };
    for line in table.lines() {
        let mut fields = line.split_ascii_whitespace();
        let cpu = fields.next().and_then(|name| name.strip_prefix("cpu"));
        // The line of all CPUs has no number.
        let Some(Ok(cpu)) = cpu.map(str::parse::<usize>) else {
            continue;
        };
        if allowed.is_some_and(|allowed| !allowed.contains(&cpu)) {
            continue;
        }
        // user nice system idle iowait irq softirq steal; the rest is part of the first two.
        let counts: Vec<u64> = fields.map_while(|text| text.parse().ok()).take(8).collect();
        sum.idle += counts.iter().skip(3).take(2).sum::<u64>();
        sum.all += counts.iter().sum::<u64>();
        sum.cpus += 1;
    }
    (sum.cpus > 0).then_some(sum)
}

/// The CPUs that a process may run on: `0-2,5` in its status.
fn allowed(status: &str) -> Option<Vec<usize>> {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

/// `None` where the group has no quota.
fn quota(group: &Group, accounts: &[Group]) -> Option<Quota> {
    let read = |dir: &Path, file: &str| fs::read_to_string(dir.join(file)).ok();
    let number = |dir: &Path, file: &str| read(dir, file)?.trim().parse::<u64>().ok();
    let v2 = || {
        let text = read(&group.dir, "cpu.max")?;
        let (quota, period) = text.trim().split_once(' ')?;
        let statistics = read(&group.dir, "cpu.stat").unwrap_or_default();
        let used = statistics
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "));
        let used = used.and_then(|used| used.parse().ok());
        Some((quota.parse().ok()?, period.parse().ok()?, used))
    };
    let v1 = || {
        // No quota is -1, which is no such number.
        let quota = number(&group.dir, "cpu.cfs_quota_us")?;
        let period = number(&group.dir, "cpu.cfs_period_us")?;
        let account = accounts.iter().find(|account| account.path == group.path);
        let nanos = account.and_then(|account| number(&account.dir, "cpuacct.usage"));
        Some((quota, period, nanos.map(|nanos| nanos / 1000)))
    };
    let (quota, period, used_micros) = v2().or_else(v1)?;
    (period > 0).then(|| Quota {
        dir: group.dir.clone(),
        millis: share(1000, quota, period),
        used_micros,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TABLE: &str = "\
cpu  30 0 10 160 20 0 0 0 0 0
cpu0 10 0 10 80 0 0 0 0 5 0
cpu1 20 0 0 70 10 0 0 0 0 0
cpu2 0 0 0 10 10 0 0 100 0 0
intr 12345 6 7
";

    #[test]
    fn the_allowed_cpus_are_counted_and_waiting_for_disks_is_idle() {
        let two = Ticks {
            idle: 160,
            all: 200,
            cpus: 2,
        };

        assert_eq!(ticks(TABLE, Some(&[0, 1, 9])), Some(two));
        assert_eq!(ticks(TABLE, None).unwrap().cpus, 3);
        assert_eq!(ticks(TABLE, Some(&[7])), None);
        assert_eq!(ticks("", None), None);
    }

    #[test]
    fn ranges_of_cpus_are_read() {
        let status = |list: &str| format!("Name:\tnex\nCpus_allowed_list:\t{list}\n");

        assert_eq!(allowed(&status("0-2,5")), Some(vec![0, 1, 2, 5]));
        assert_eq!(allowed(&status("3")), Some(vec![3]));
        assert_eq!(allowed(&status("x")), None);
        assert_eq!(allowed(""), None);
    }

    fn ticks_of(idle: u64, all: u64) -> Ticks {
        Ticks { idle, all, cpus: 4 }
    }

    #[test]
    fn what_was_idle_between_two_looks_is_free() {
        let before = ticks_of(100, 1000);

        let half = Room {
            free: 2000,
            of: 4000,
        };
        assert_eq!(idle(before, ticks_of(300, 1400)), Some(half));
        // Nothing was counted meanwhile, or the counters went back.
        assert_eq!(idle(before, before), None);
        assert_eq!(idle(before, ticks_of(90, 1400)).unwrap().free, 0);
    }

    /// A control group made of ordinary files.
    fn group(dir: &tempfile::TempDir, files: &[(&str, &str)]) -> Group {
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Group {
            path: PathBuf::from("a"),
            dir: dir.path().to_owned(),
        }
    }

    #[test]
    fn a_quota_is_read_in_both_versions() {
        let (dir, accounts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let accounts = [group(&accounts, &[("cpuacct.usage", "7000\n")])];
        let read = |files: &[(&str, &str)]| {
            let dir = tempfile::tempdir_in(dir.path()).unwrap();
            let quota = quota(&group(&dir, files), &accounts);
            quota.map(|quota| (quota.millis, quota.used_micros))
        };

        let v2 = [
            ("cpu.max", "150000 100000\n"),
            ("cpu.stat", "usage_usec 7\nuser_usec 5\n"),
        ];
        let v1 = [
            ("cpu.cfs_quota_us", "150000\n"),
            ("cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(read(&v2), Some((1500, Some(7))));
        assert_eq!(read(&v1), Some((1500, Some(7))));
        assert_eq!(read(&[("cpu.max", "max 100000\n")]), None);
        let none = [
            ("cpu.cfs_quota_us", "-1\n"),
            ("cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(read(&none), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn what_a_group_did_not_use_of_its_quota_is_free() {
        let look = |at, used_micros| Look {
            at,
            machine: None,
            groups: vec![Quota {
                dir: PathBuf::from("/g"),
                millis: 1500,
                used_micros,
            }],
        };
        let start = Instant::now();
        let before = look(start, Some(1_000_000));
        let left = |used| {
            let after = look(start + Duration::from_secs(2), used);
            after.rooms_since(&before)[0].free
        };

        // One CPU of the two seconds was used.
        assert_eq!(left(Some(3_000_000)), 500);
        assert_eq!(left(Some(9_000_000)), 0);
        assert_eq!(left(None), 1500);
    }
}
