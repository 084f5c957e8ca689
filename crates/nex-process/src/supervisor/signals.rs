//! Signals to the supervisor, as something to poll.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// The pipe's end into which the handler writes.
static WRITE_END: AtomicI32 = AtomicI32::new(-1);

/// Signals that mean: end your tree and then yourself.
const END_REQUESTS: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// A pipe into which each signal that arrives puts its number.
pub(super) struct Signals {
    read_end: OwnedFd,
    /// Kept open for the handler.
    _write_end: OwnedFd,
}

/// What arrived since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// Children ended, or nothing worth telling.
    Other,
    /// Somebody asks the supervisor to end.
    EndRequest,
}

impl Signals {
    /// Handles the signals from now on.
    pub(super) fn install() -> io::Result<Self> {
        let (read_end, write_end) = rustix::pipe::pipe()?;
        for end in [&read_end, &write_end] {
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
            rustix::fs::fcntl_setfl(end, rustix::fs::OFlags::NONBLOCK)?;
        }
        WRITE_END.store(write_end.as_raw_fd(), Ordering::Release);
        handle(libc::SIGCHLD)?;
        END_REQUESTS.iter().try_for_each(|signal| handle(*signal))?;
        Ok(Self {
            read_end,
            _write_end: write_end,
        })
    }

    /// Readable when a signal has arrived.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.read_end.as_fd()
    }

    /// Empties the pipe.
    pub(super) fn take(&self) -> Arrived {
        let mut arrived = Arrived::Other;
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = rustix::io::read(&self.read_end, &mut bytes[..]) {
            let asked = |byte: &u8| END_REQUESTS.contains(&libc::c_int::from(*byte));
            if bytes[..count].iter().any(asked) {
                arrived = Arrived::EndRequest;
            }
        }
        arrived
    }
}

#[expect(unsafe_code, reason = "there is no safe call to install a handler")]
fn handle(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: the handler makes one async-signal-safe call and keeps errno; the
    // structure is plain data, zero being valid for each of its fields.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = write_number as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART | libc::SA_NOCLDSTOP;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[expect(unsafe_code, reason = "a handler may only make calls like this one")]
extern "C" fn write_number(signal: libc::c_int) {
    let byte = signal.to_le_bytes()[0];
    // rustix's calls leave errno alone where they are raw system calls; a full
    // pipe already says that something arrived.
    // SAFETY: the descriptor stays open as long as the handler is installed.
    let pipe = unsafe { BorrowedFd::borrow_raw(WRITE_END.load(Ordering::Acquire)) };
    rustix::io::write(pipe, &[byte]).ok();
}
