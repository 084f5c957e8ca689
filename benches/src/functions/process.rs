//! What `/proc` says of processes.

use std::{collections::HashSet, fs, time::Duration};

use anyhow::Context as _;
use nex_testkit::{NexUp, proc_tree};

/// The unit of processor time in `/proc`, on all systems that Rust runs on: a hundredth of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// The nexlet of this type of a `nex up`.
pub(crate) fn nexlet(up: &NexUp, workload_type: &str) -> anyhow::Result<u32> {
    let wanted = format!("nexlet run {workload_type}");
    let tree = proc_tree(up.pid());
    let found = tree
        .iter()
        .find(|process| process.command.contains(&wanted));
    Ok(found
        .with_context(|| format!("no `{wanted}` under `nex up`"))?
        .pid)
}

/// The processor time of a process.
pub(super) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("a stat without a name")?;
    let mut times = fields.split_whitespace().skip(11);
    let mut ticks = || anyhow::Ok(times.next().context("a stat that is cut")?.parse::<f64>()?);
    let total = ticks()? + ticks()?;
    Ok(Duration::from_secs_f64(total / TICKS_PER_SECOND))
}

/// The processor time of the calling thread.
pub(super) fn own_cpu() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = stat
        .split(' ')
        .next()
        .context("a schedstat without times")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// The memory of a process that is resident, in mebibytes.
pub(crate) fn resident(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib
        .context("a status without `VmRSS`")?
        .trim()
        .parse::<f64>()?
        / 1024.0)
}

/// How many TCP connections a process has open. Runtimes have sockets of their own, which are none.
pub(crate) fn connections(pid: u32) -> anyhow::Result<usize> {
    const INODE: usize = 9;
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let sockets: HashSet<String> = table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(INODE))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let mut count = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed meanwhile.
        let Ok(link) = fs::read_link(entry?.path()) else {
            continue;
        };
        count += usize::from(sockets.contains(&*link.to_string_lossy()));
    }
    Ok(count)
}
