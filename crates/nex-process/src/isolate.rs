//! What happens between fork and exec, in every child of this crate.

use std::io;
use std::os::unix::process::CommandExt;

use rustix::process::Pid;

use crate::limits;

/// What the end of the thread that starts a child does to it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bond {
    /// It goes on, and wakes up if somebody suspended it: it could not see
    /// otherwise that its owner is dead. To a child that runs, that is nothing,
    /// so that it does no harm when only the thread ends.
    Wakes,
    /// It is killed with its parent. Right only where the parent has a single
    /// thread: the kernel's signal fires when the *thread* ends.
    DiesWith(Pid),
}

/// Gives the command's child a session of its own, default signal handling and
/// no descriptor above 2.
#[expect(unsafe_code, reason = "`pre_exec` is the only place for these calls")]
pub(crate) fn isolate(command: &mut std::process::Command, bond: Bond) {
    let files = limits::inherited();
    // SAFETY: the closure allocates nothing, takes no lock and makes only
    // async-signal-safe calls, as is required between fork and exec.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            default_signals()?;
            limits::restore(files)?;
            close_the_rest_on_exec();
            tie(bond)
        });
    }
}

/// A shell starts a background program with SIGINT ignored, and `nohup` ignores
/// SIGHUP; both would be inherited, and a workload could not be interrupted.
#[expect(unsafe_code, reason = "there is no safe call for signal dispositions")]
fn default_signals() -> io::Result<()> {
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: the default action is no function of ours. Signals that have
        // no other action are refused, which changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a signal set is plain data, and the calls fill and read it.
    let result = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(target_os = "linux")]
const LAST_SIGNAL: i32 = 64;
#[cfg(not(target_os = "linux"))]
const LAST_SIGNAL: i32 = 31;

/// Descriptors that whoever started us left open are none of the child's.
///
/// They are marked, not closed: the standard library still holds one through
/// which it learns that exec failed.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
fn close_the_rest_on_exec() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the call changes flags of descriptors of this forked child alone.
    // A kernel before 5.11 refuses it, and then descriptors stay as they were.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

#[cfg(not(target_os = "linux"))]
fn close_the_rest_on_exec() {}

#[cfg(target_os = "linux")]
fn tie(bond: Bond) -> io::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};

    match bond {
        Bond::Wakes => set_parent_process_death_signal(Some(Signal::CONT))?,
        Bond::DiesWith(parent) => {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the call above.
            if getppid() != Some(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn tie(_bond: Bond) -> io::Result<()> {
    Ok(())
}
