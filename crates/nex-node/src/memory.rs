//! How much memory the node has left.
//!
//! The least of what the kernel thinks can be used without swapping (`MemAvailable`), and of what
//! each control group may still take: its limit less what it uses, where file pages that are not in
//! active use count as free, for the kernel drops those first.

use std::{fs, path::Path};

use crate::{capacity::Room, cgroup::Group};

/// What the machine and each control group with a limit have left, in bytes. Empty where the system
/// does not say.
pub(crate) fn rooms(groups: &[Group]) -> Vec<Room> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|table| machine_room(&table));
    let groups = groups.iter().filter_map(|group| group_room(&group.dir));
    machine.into_iter().chain(groups).collect()
}

fn machine_room(meminfo: &str) -> Option<Room> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(Room {
        free: bytes("MemAvailable:")?,
        of: bytes("MemTotal:")?,
    })
}

/// `None` where the group has no limit.
fn group_room(dir: &Path) -> Option<Room> {
    let number = |file: &str| -> Option<u64> {
        fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
    };
    // Version 2 writes `max` for no limit; version 1 a number that no machine has.
    let v2 = || {
        Some((
            number("memory.max")?,
            number("memory.current")?,
            "inactive_file ",
        ))
    };
    let v1 = || {
        let limit = number("memory.limit_in_bytes").filter(|limit| *limit < NO_LIMIT)?;
        Some((
            limit,
            number("memory.usage_in_bytes")?,
            "total_inactive_file ",
        ))
    };
    let (limit, used, cache) = v2().or_else(v1)?;
    let statistics = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
    let cached = statistics.lines().find_map(|line| line.strip_prefix(cache));
    let cached = cached
        .and_then(|bytes| bytes.trim().parse().ok())
        .unwrap_or(0);
    Some(Room {
        free: limit.saturating_sub(used.saturating_sub(cached)),
        of: limit,
    })
}

/// From here on a limit of version 1 is none: it writes the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;

    /// A control group made of ordinary files.
    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn the_kernel_s_table_is_read() {
        let table = "MemTotal:       24689540 kB\nMemAvailable:   20000000 kB\n";

        assert_eq!(
            machine_room(table),
            Some(Room {
                free: 20_000_000 * 1024,
                of: 24_689_540 * 1024
            })
        );
        assert_eq!(machine_room("MemTotal: 1 kB\n"), None);
        assert_eq!(machine_room("MemTotal: 1 kB\nMemAvailable: much\n"), None);
    }

    #[test]
    fn a_group_has_left_what_it_does_not_use_and_could_drop() {
        let room = Some(Room {
            free: 700,
            of: 1000,
        });
        let v2 = group(&[
            ("memory.max", "1000\n"),
            ("memory.current", "500\n"),
            (
                "memory.stat",
                "anon 300\ninactive_file 200\nactive_file 0\n",
            ),
        ]);
        let v1 = group(&[
            ("memory.limit_in_bytes", "1000\n"),
            ("memory.usage_in_bytes", "500\n"),
            ("memory.stat", "inactive_file 1\ntotal_inactive_file 200\n"),
        ]);

        assert_eq!(group_room(v2.path()), room);
        assert_eq!(group_room(v1.path()), room);
    }

    #[test]
    fn a_group_over_its_limit_has_nothing_left() {
        let full = group(&[("memory.max", "1000"), ("memory.current", "1001")]);

        assert_eq!(group_room(full.path()), Some(Room { free: 0, of: 1000 }));
    }

    #[test]
    fn a_group_without_a_limit_bounds_nothing() {
        let v2 = group(&[("memory.max", "max\n"), ("memory.current", "5\n")]);
        let v1 = group(&[
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.usage_in_bytes", "5\n"),
        ]);

        for dir in [v1.path(), v2.path(), Path::new("/nowhere")] {
            assert_eq!(group_room(dir), None, "{dir:?}");
        }
    }
}
