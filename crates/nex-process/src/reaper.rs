//! The children of this process: which are ours, which were adopted.
//!
//! ```text
//!   started here ──> owned ──reaped──> (forgotten)
//!                      │
//!                      └─owner dropped─> abandoned ──deadline──> killed, reaped
//!
//!   parent died  ──> adopted ──ADOPTED_GRACE──> killed, reaped
//! ```
//!
//! A child that is not registered and does not live in our own session was
//! adopted: every process below ours got a session of its own, and a process
//! cannot enter a session that exists. A library's own child, in our session,
//! is therefore never taken for an orphan.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tracing::{debug, warn};

use crate::command::Exit;
use crate::{limits, os};

/// How long an adopted process may live.
///
/// An adopted supervisor needs [`Command::DEFAULT_ORPHAN_GRACE`] and a little to
/// stop its tree, which it does when its owner is dead. With the second that may
/// pass until an orphan is seen, nothing outlives its owner by five.
///
/// [`Command::DEFAULT_ORPHAN_GRACE`]: crate::Command::DEFAULT_ORPHAN_GRACE
pub const ADOPTED_GRACE: Duration = Duration::from_millis(2500);

/// How often the children are looked at while there is nothing to do.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the children are looked at while one of them is to end.
const BUSY_INTERVAL: Duration = Duration::from_millis(200);

/// How long [`kill_adopted_now`] waits for killed processes to be dead.
/// Only a process that hangs in the kernel takes longer.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Makes this process the owner of every process below it.
///
/// Its background thread lives as long as the process.
#[derive(Debug)]
pub struct Reaper(());

impl Reaper {
    /// Adopts, from now on, what other processes below this one leave behind,
    /// and ends it after [`ADOPTED_GRACE`]. Also lets this process, and not its
    /// children, have as many open files as the system grants.
    ///
    /// Call it once in every process that hosts trees or nexlets, before it
    /// starts the first. Calling it again changes nothing.
    ///
    /// # Errors
    /// The kernel refuses, or no thread can be started.
    pub fn install() -> io::Result<Self> {
        os::become_subreaper()?;
        ADOPTING.store(true, Ordering::Relaxed);
        start_thread()?;
        limits::raise();
        Ok(Self(()))
    }
}

/// What this process knows of the children that it started.
static CHILDREN: Mutex<Option<HashMap<Pid, Standing>>> = Mutex::new(None);

/// Whether orphans come here; until then there is nothing to look for.
static ADOPTING: AtomicBool = AtomicBool::new(false);

/// Held for reading from before a fork until the child is registered, and for
/// writing while unregistered children are looked for.
static SPAWNING: RwLock<()> = RwLock::new(());

#[derive(Clone, Copy, Debug)]
enum Standing {
    /// Somebody waits for it.
    Owned,
    /// Nobody waits for it; it should end by itself before this.
    Abandoned { deadline: Instant },
}

/// The table, also after a panic elsewhere: each change to it is one step.
fn children() -> MutexGuard<'static, Option<HashMap<Pid, Standing>>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a child and registers it, with no moment in between.
pub(crate) fn spawn(command: &mut std::process::Command) -> io::Result<std::process::Child> {
    let _guard = SPAWNING.read().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn()?;
    children()
        .get_or_insert_default()
        .insert(Pid::from_child(&child), Standing::Owned);
    Ok(child)
}

/// Collects how an owned child ended, if it has.
pub(crate) fn try_reap(pid: Pid) -> io::Result<Option<Exit>> {
    // The lock makes reaping and forgetting one step: the number may be given
    // to another process at once.
    let mut children = children();
    let exit = collect(pid)?;
    if exit.is_some() {
        children.get_or_insert_default().remove(&pid);
    }
    Ok(exit)
}

fn collect(pid: Pid) -> io::Result<Option<Exit>> {
    let ended = waitpid(Some(pid), WaitOptions::NOHANG)?;
    Ok(ended.and_then(|(_, status)| Exit::from_status(status)))
}

/// Gives up an owned child that is expected to end within `limit`.
pub(crate) fn abandon(pid: Pid, limit: Duration) {
    let deadline = Instant::now() + limit;
    children()
        .get_or_insert_default()
        .insert(pid, Standing::Abandoned { deadline });
    if let Err(error) = start_thread() {
        warn!(%error, "cannot start the thread that looks after children");
    }
}

fn start_thread() -> io::Result<()> {
    static STARTED: Once = Once::new();
    let mut result = Ok(());
    STARTED.call_once(|| {
        const STACK_BYTES: usize = 128 * 1024;
        let thread = std::thread::Builder::new()
            .name("reaper".into())
            .stack_size(STACK_BYTES);
        result = thread.spawn(run).map(drop);
    });
    result
}

fn run() {
    let mut adopted = Adopted::default();
    loop {
        let busy = adopted.look(Instant::now()) | look_at_abandoned(Instant::now());
        pause(if busy { BUSY_INTERVAL } else { IDLE_INTERVAL });
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a plain thread that looks at things in turn"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Reaps abandoned children and kills those that are late, with all below them.
/// Answers whether any is left.
fn look_at_abandoned(now: Instant) -> bool {
    let mut children = children();
    let table = children.get_or_insert_default();
    table.retain(|pid, standing| {
        // The end of an owned child is its owner's to collect: it can be collected only once.
        let Standing::Abandoned { deadline } = *standing else {
            return true;
        };
        let lives = matches!(collect(*pid), Ok(None));
        if lives && deadline <= now {
            os::kill_subtree(*pid);
        }
        lives
    });
    table
        .values()
        .any(|standing| matches!(standing, Standing::Abandoned { .. }))
}

/// What the background thread remembers of adopted processes.
#[derive(Debug, Default)]
struct Adopted {
    since: HashMap<Pid, Instant>,
    /// Until then a newcomer is what is left of a process just killed.
    no_grace_until: Option<Instant>,
}

impl Adopted {
    /// Kills what was adopted too long ago. Answers whether more may follow.
    fn look(&mut self, now: Instant) -> bool {
        let look = if self.since.is_empty() {
            Look::Cheap
        } else {
            Look::Thorough
        };
        let Adoptees {
            living: present,
            reaped,
        } = reap_adopted(look);
        self.since.retain(|pid, _| present.contains(pid));
        let no_grace = self.no_grace_until.is_some_and(|until| now < until);
        for pid in &present {
            let since = *self.since.entry(*pid).or_insert_with(|| {
                debug!(%pid, "adopted an orphan");
                now
            });
            if no_grace || now.duration_since(since) >= ADOPTED_GRACE {
                debug!(%pid, "killing an orphan with its tree");
                os::kill_subtree(*pid);
                self.no_grace_until = Some(now + IDLE_INTERVAL * 2);
            }
        }
        !present.is_empty() || reaped > 0
    }
}

/// How children are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// One may be left out; the next look will find it.
    Cheap,
    /// All are found, by looking at every process of the machine.
    Thorough,
}

/// What a look for adopted children found.
#[derive(Debug, Default)]
struct Adoptees {
    living: HashSet<Pid>,
    /// Some that had ended. Their children may have become ours after the look.
    reaped: usize,
}

/// Reaps the adopted children that have ended; answers the others.
fn reap_adopted(look: Look) -> Adoptees {
    let mut adoptees = Adoptees::default();
    if !ADOPTING.load(Ordering::Relaxed) {
        return adoptees;
    }
    let _guard = SPAWNING.write().unwrap_or_else(PoisonError::into_inner);
    // Not `getsid(2)`: in a pid namespace whose first process kept an outer session, that
    // session has no number, and 0 is not a process id.
    let Ok(own) = os::stat(getpid()) else {
        return adoptees;
    };
    let found = match look {
        Look::Cheap => os::children(getpid()),
        Look::Thorough => os::children_by_scan(getpid()),
    };
    let unregistered: Vec<Pid> = {
        let mut children = children();
        let table = children.get_or_insert_default();
        found
            .into_iter()
            .filter(|pid| !table.contains_key(pid))
            .collect()
    };
    for pid in unregistered {
        if os::stat(pid).is_ok_and(|stat| stat.session != own.session) {
            match collect(pid) {
                Ok(None) => {
                    adoptees.living.insert(pid);
                }
                Ok(Some(_)) | Err(_) => adoptees.reaped += 1,
            }
        }
    }
    adoptees
}

/// Kills everything that was adopted so far and returns when it is dead.
///
/// Blocks for a few milliseconds, and for [`KILL_LIMIT`] at the very most.
pub(crate) fn kill_adopted_now() {
    const POLL_INTERVAL: Duration = Duration::from_millis(5);
    let deadline = Instant::now() + KILL_LIMIT;
    loop {
        let Adoptees {
            living: adopted,
            reaped,
        } = reap_adopted(Look::Thorough);
        if adopted.is_empty() && reaped == 0 {
            return;
        }
        if Instant::now() >= deadline {
            warn!(?adopted, "orphans that were killed did not end");
            return;
        }
        adopted.iter().copied().for_each(os::kill_subtree);
        pause(POLL_INTERVAL);
    }
}
