//! Linux: `/proc`, subreapers and process descriptors.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What `/proc/<pid>/stat` says about one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The state's letter.
    pub(crate) state: u8,
    /// The parent.
    pub(crate) parent: i32,
    /// The session; 0 where its leader is outside of our pid namespace.
    pub(crate) session: i32,
    /// Start after boot, in clock ticks.
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// Whether the process has ended, though its parent has not asked how.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Parses the line; the name in it may hold spaces and parentheses.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Fields are counted from 1 in proc(5); the state is the third.
        let field = |number: usize| fields.get(number - 3);
        Some(Self {
            state: *field(3)?.as_bytes().first()?,
            parent: field(4)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
        })
    }
}

/// Reads what the kernel says about a process.
pub(crate) fn stat(pid: Pid) -> io::Result<Stat> {
    // The name may be bytes that are no text; the fields after it are.
    let bytes = fs::read(format!("/proc/{pid}/stat"))?;
    Stat::parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::other("cannot parse the process's stat line"))
}

/// The identifier of this boot of the machine.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Makes this process the new parent of orphans below it.
pub(crate) fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(getpid()))?)
}

/// Shows this process under a name of its own in `ps` and `top`.
pub(crate) fn set_name(name: &str) {
    // Only for the eyes of people.
    fs::write("/proc/self/comm", name).ok();
}

/// The direct children of a process, zombies too.
///
/// The kernel may leave one out while others, or threads of the parent, end.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().filter_map(parse_pid)),
            // Either the thread has just ended, or the kernel was built
            // without these files.
            Err(_) if thread.path().exists() => return children_by_scan(parent),
            Err(_) => {}
        }
    }
    found
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

/// The same from the table of all processes: slower, and none is left out.
pub(crate) fn children_by_scan(parent: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let parent = parent.as_raw_nonzero().get();
    entries
        .flatten()
        .filter_map(|entry| parse_pid(entry.file_name().to_str()?))
        .filter(|pid| stat(*pid).is_ok_and(|stat| stat.parent == parent))
        .collect()
}

/// A process, and the parent under which it was found.
#[derive(Clone, Copy, Debug)]
struct Found {
    pid: Pid,
    parent: Pid,
}

fn descendants(root: Pid) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for pid in children(parent) {
            // Processes move while we look, so one can be seen twice.
            if found.iter().all(|seen| seen.pid != pid) {
                found.push(Found { pid, parent });
                parents.push(pid);
            }
        }
    }
    found
}

/// Sends SIGKILL to everything below this process, whatever `_main` still is.
///
/// A tree that forks while this runs may keep a process: repeat until there is
/// no child left.
pub(crate) fn kill_own_tree(_main: Pid) {
    descendants(getpid()).into_iter().for_each(kill_found);
}

/// Sends SIGKILL to a child of this process and everything below it.
pub(crate) fn kill_subtree(child: Pid) {
    // Listed before the first dies: then its children move to us, among others.
    let below = descendants(child);
    kill_found(Found {
        pid: child,
        parent: getpid(),
    });
    below.into_iter().for_each(kill_found);
}

/// Kills a process if it still is the one that was found.
///
/// A process that is not our own child can end and its number be given to a
/// stranger in between. The descriptor pins the process, and its parent tells
/// whether it is the right one; an orphan's parent is this process.
fn kill_found(found: Found) {
    let Ok(process) = pidfd_open(found.pid, PidfdFlags::empty()) else {
        return;
    };
    let Ok(stat) = stat(found.pid) else {
        return;
    };
    if [found.parent, getpid()]
        .iter()
        .any(|parent| parent.as_raw_nonzero().get() == stat.parent)
    {
        // It may have ended meanwhile, which is what is wanted.
        pidfd_send_signal(&process, Signal::KILL).ok();
    }
}

/// A descriptor of one process, through which its end can be awaited.
#[derive(Debug)]
pub(crate) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Watches a process. Call within a runtime.
    ///
    /// # Errors
    /// There is no such process, or no descriptor for it.
    #[expect(
        unsafe_code,
        reason = "tokio has no safe constructor for any `OwnedFd`"
    )]
    pub(crate) fn new(pid: Pid) -> io::Result<Self> {
        // It is never read, only polled, so it need not be non-blocking.
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        // SAFETY: the `OwnedFd` is open, always answers the same number, and is
        // neither replaced nor closed while the `AsyncFd` owns it.
        let watch = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?;
        Ok(Self(watch))
    }

    /// Resolves when the process has ended. Cancel safe.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        // Readiness is never cleared: a process ends once.
        self.0.readable().await?.retain_ready();
        Ok(())
    }

    /// Sends a signal to exactly this process.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(self.0.get_ref(), signal)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "77 (a) R (b c) S 5 77 70 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 9 9";

        let stat = Stat::parse(line).unwrap();

        assert_eq!(
            stat,
            Stat {
                state: b'S',
                parent: 5,
                session: 70,
                start_ticks: 123_456
            }
        );
    }

    #[test]
    fn a_cut_line_is_refused() {
        assert_eq!(Stat::parse("77 (a) S 5 77 70"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn both_ways_find_the_same_children() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);

        let listed = children(getpid()).contains(&pid);
        let scanned = children_by_scan(getpid()).contains(&pid);

        child.kill().unwrap();
        child.wait().unwrap();
        assert!(listed && scanned, "listed {listed}, scanned {scanned}");
    }
}
