//! Looking at processes through `/proc`. Where there is no `/proc`, nothing is found.

use anyhow::Context as _;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt, fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// A process that was alive when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its command line, arguments joined by spaces.
    pub command: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (parent {}): {}", self.pid, self.parent, self.command)
    }
}

impl Process {
    /// Reads a live process; nothing for one that is gone or a zombie.
    fn read(pid: u32) -> Option<Self> {
        let dir = proc_dir(pid);
        let stat = fs::read_to_string(dir.join("stat")).ok()?;
        // The name in parentheses may hold anything, so parse from behind it: ` state ppid …`.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        if matches!(state, "Z" | "X") {
            return None;
        }
        let command = fs::read(dir.join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command)
            .replace('\0', " ")
            .trim_end()
            .to_owned();
        Some(Self {
            pid,
            parent,
            command,
        })
    }

    fn mentions(&self, needle: &OsStr) -> bool {
        let dir = proc_dir(self.pid);
        let holds = |bytes: &[u8]| {
            bytes
                .windows(needle.len())
                .any(|window| window == needle.as_bytes())
        };
        let file = |name| fs::read(dir.join(name)).is_ok_and(|bytes| holds(&bytes));
        let link = |name| {
            fs::read_link(dir.join(name)).is_ok_and(|path| holds(path.as_os_str().as_bytes()))
        };
        file("cmdline") || file("environ") || link("cwd") || link("exe")
    }
}

/// All live processes but this one whose command line, environment, working folder or executable
/// mentions `path`.
///
/// # Panics
///
/// When `path` is shorter than a temporary folder's: it would match the world.
#[must_use]
pub fn mentioning(path: &Path) -> Vec<Process> {
    let needle = path.as_os_str();
    assert!(
        needle.len() > 4,
        "`{}` is too short to tell processes apart",
        path.display()
    );
    let mut found = all();
    found.retain(|process| process.pid != std::process::id() && process.mentions(needle));
    found
}

/// The live process `pid` and all its live descendants, parents before children.
#[must_use]
pub fn proc_tree(pid: u32) -> Vec<Process> {
    let mut children = BTreeMap::<u32, Vec<Process>>::new();
    let mut tree = Vec::new();
    for process in all() {
        if process.pid == pid {
            tree.push(process);
        } else {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut next = 0;
    while let Some(process) = tree.get(next) {
        tree.extend(children.remove(&process.pid).unwrap_or_default());
        next += 1;
    }
    tree
}

/// Sends SIGTERM to the process `pid`.
///
/// # Errors
///
/// When there is no such process, or it is not ours.
pub fn terminate(pid: u32) -> anyhow::Result<()> {
    signal(pid, rustix::process::Signal::TERM)
}

/// Sends SIGINT to the process `pid`.
pub(crate) fn interrupt(pid: u32) -> anyhow::Result<()> {
    signal(pid, rustix::process::Signal::INT)
}

/// Sends SIGKILL to the process `pid`.
pub(crate) fn kill(pid: u32) -> anyhow::Result<()> {
    signal(pid, rustix::process::Signal::KILL)
}

fn signal(pid: u32, signal: rustix::process::Signal) -> anyhow::Result<()> {
    let target = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let target = target.with_context(|| format!("`{pid}` is not a process id"))?;
    rustix::process::kill_process(target, signal)
        .with_context(|| format!("failed to signal process {pid}"))
}

fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
        .collect()
}

fn proc_dir(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::wait_until;
    use std::{process::Command, time::Duration};

    #[test]
    fn finds_what_only_the_environment_names_and_its_tree() {
        let dir = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 1000 & wait"])
            .env("MARK", dir.path())
            .spawn()
            .unwrap();

        let two = wait_until("shell and sleep", Duration::from_secs(10), || {
            let found = mentioning(dir.path());
            // Between fork and exec the second one still looks like the shell.
            let asleep = found.iter().any(|process| process.command == "sleep 1000");
            if found.len() == 2 && asleep {
                Ok(found)
            } else {
                Err(found)
            }
        });
        let tree = proc_tree(shell.id());
        for process in mentioning(dir.path()) {
            kill(process.pid).unwrap();
        }
        shell.wait().unwrap();

        let two = two.unwrap();
        assert_eq!(tree.len(), 2, "{tree:?}");
        assert_eq!(tree[0].pid, shell.id());
        assert!(two.contains(&tree[1]), "{two:?} {tree:?}");
        wait_until("all gone", Duration::from_secs(10), || {
            mentioning(dir.path()).is_empty()
        })
        .unwrap();
    }
}
