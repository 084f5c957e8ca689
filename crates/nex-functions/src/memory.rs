//! How much memory this process has, and how much of the machine's it should have at most.

use std::fs;

/// The share of the machine's memory, or of what its control group allows, beyond which instances
/// that wait for their next call are too many.
const SHARE: u64 = 4;

/// A bound on the resident memory of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    bytes: Option<u64>,
}

impl Budget {
    /// A quarter of what there is; none where the system does not tell.
    pub(crate) fn of_machine() -> Self {
        let total = kib("/proc/meminfo", "MemTotal:").map(|kib| kib * 1024);
        // Of version 2 and 1. What says `max`, or names more than there is, is no limit.
        let groups = [
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ];
        let limits = groups.iter().filter_map(|path| number(path));
        Self {
            bytes: total.into_iter().chain(limits).min().map(|it| it / SHARE),
        }
    }

    #[cfg(test)]
    pub(crate) fn unlimited() -> Self {
        Self { bytes: None }
    }

    #[cfg(test)]
    pub(crate) fn of(bytes: u64) -> Self {
        Self { bytes: Some(bytes) }
    }

    /// Whether the process has more than that.
    pub(crate) fn is_exceeded(self) -> bool {
        let resident = || kib("/proc/self/status", "VmRSS:").map(|kib| kib * 1024);
        self.bytes
            .is_some_and(|bytes| resident().is_some_and(|resident| resident > bytes))
    }
}

/// The number behind a name in one of the kernel's tables.
fn kib(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_held_against_what_is_resident() {
        assert!(Budget::of(1).is_exceeded());
        assert!(!Budget::of(u64::MAX).is_exceeded());
        assert!(!Budget::unlimited().is_exceeded());
        let machine = Budget::of_machine().bytes.expect("there is a /proc");
        assert!(machine > 16 * 1024 * 1024, "{machine}");
    }
}
