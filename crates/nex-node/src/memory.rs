//! How much memory the machine has left.

/// What the kernel thinks can be used without swapping, in bytes; `None` where it does not say.
#[cfg(target_os = "linux")]
pub(crate) fn available_bytes() -> Option<u64> {
    // A file of the kernel's: reading it does not wait for a disk.
    parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// What the kernel thinks can be used without swapping; it says so only on Linux.
#[cfg(not(target_os = "linux"))]
pub(crate) fn available_bytes() -> Option<u64> {
    None
}

#[cfg(any(target_os = "linux", test))]
fn parse(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_table_is_read() {
        let table = "MemTotal:       24689540 kB\nMemAvailable:   20000000 kB\n";

        assert_eq!(parse(table), Some(20_000_000 * 1024));
        assert_eq!(parse("MemTotal: 1 kB\n"), None);
        assert_eq!(parse("MemAvailable: much\n"), None);
    }
}
