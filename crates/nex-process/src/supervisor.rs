//! The supervisor: a small process that owns the tree of one workload.
//!
//! ```text
//!             main process ended ─────────────────────────┐
//!   Running ──┤                                           v
//!             └─ stop, SIGTERM, owner died ─> Stopping ─> Killing ─> no child left: end
//!                    SIGINT now, SIGTERM at half time       SIGKILL to all, again and again
//! ```
//!
//! It has one thread and no runtime, and once its workload runs it holds
//! nothing but the channel: its own output is closed, so that the workload's
//! pipes end when the workload does. It records the exit of a main process that
//! ended while Running, for an owner that dies before it hears of it.

mod control;
mod signals;
mod start;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, wait};

use crate::command::Exit;
use crate::os;
use crate::protocol::{Order, Report, Spec};
use control::Control;
use signals::{Arrived, Signals};

/// The first and the longest pause between two rounds of killing.
const KILL_PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// Runs as a supervisor until its tree is dead.
///
/// For the binary's first lines, before it starts a thread or a runtime, when
/// its first argument is [`SUPERVISE_ARG`](crate::SUPERVISE_ARG).
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // The owner reads from the channel's end that something went wrong.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> io::Result<()> {
    let mut control = match Control::on_stdin() {
        Ok(control) => control,
        Err(error) => {
            let text = b"error: `supervise` is for nex itself: it expects a socket to its owner\n";
            // There is nobody else to tell.
            rustix::io::write(rustix::stdio::stderr(), text).ok();
            return Err(error);
        }
    };
    os::set_name("nex-supervise");
    let Some(mut spec) = control.receive::<Spec>()? else {
        return Ok(());
    };
    let orphan_grace = spec.orphan_grace;
    let exit_file = spec
        .exit_file
        .take()
        .map(|file| PathBuf::from(OsString::from(file)));
    let prepared = Signals::install().and_then(|signals| {
        os::become_subreaper()?;
        Ok(signals)
    });
    let started = match prepared {
        Ok(signals) => start::start(spec).map(|main| (signals, main)),
        Err(error) => Err(start::setup_failure(&error)),
    };
    let (signals, main) = match started {
        Ok(started) => started,
        Err(failure) => return control.send(&Report::Failed(failure)),
    };
    let supervisor = Supervisor {
        control,
        signals,
        main,
        ended: false,
        orphan_grace,
        exit_file,
        phase: Phase::Running,
    };
    supervisor.run()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// The main process was asked to end. `terminate_at` is none once that was
    /// said a second time.
    Stopping {
        terminate_at: Option<Instant>,
        kill_at: Instant,
    },
    /// Everything is killed, again after each pause, until nothing is left.
    Killing {
        pause: Duration,
    },
}

struct Supervisor {
    control: Control,
    signals: Signals,
    /// The main process; the number is its own until `ended`.
    main: Pid,
    ended: bool,
    orphan_grace: Duration,
    /// The file in which the exit of the main process is recorded.
    exit_file: Option<PathBuf>,
    phase: Phase,
}

impl Supervisor {
    fn run(mut self) -> io::Result<()> {
        // An owner that is dead reads no reports; its end is seen by poll.
        self.control
            .send(&Report::Started {
                pid: self.main.as_raw_nonzero().get().unsigned_abs(),
            })
            .ok();
        loop {
            let (signalled, readable) = self.poll(self.wait())?;
            let arrived = signalled.then(|| self.signals.take());
            // First: a process that has ended by itself is not recorded as stopped because its owner
            // died in the same moment.
            if !self.reap()? {
                self.control.send(&Report::Gone).ok();
                return Ok(());
            }
            if arrived == Some(Arrived::EndRequest) {
                self.begin_stopping(self.orphan_grace);
            }
            if readable {
                self.take_orders();
            }
            self.advance(Instant::now());
        }
    }

    /// Collects what ended. Answers whether anything of the tree is left.
    fn reap(&mut self) -> io::Result<bool> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.main => {
                    if let Some(exit) = Exit::from_status(status) {
                        self.main_ended(exit);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(true),
                Err(rustix::io::Errno::CHILD) => return Ok(false),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn main_ended(&mut self, exit: Exit) {
        self.ended = true;
        if let (Phase::Running, Some(file)) = (self.phase, &self.exit_file) {
            // Without the record the owner still hears the report.
            exit.write(file).ok();
        }
        self.control.send(&Report::Exited(exit)).ok();
        self.begin_killing();
    }

    /// Does what is due at `now`.
    fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Stopping { kill_at, .. } if kill_at <= now => self.begin_killing(),
            Phase::Stopping {
                terminate_at: Some(at),
                kill_at,
            } if at <= now => {
                self.signal_main(Signal::TERM);
                self.phase = Phase::Stopping {
                    terminate_at: None,
                    kill_at,
                };
            }
            _ => {}
        }
        if let Phase::Killing { pause } = self.phase {
            // First what needs no `/proc`.
            self.signal_main(Signal::KILL);
            os::kill_own_tree(self.main);
            self.phase = Phase::Killing {
                pause: (pause * 2).min(KILL_PAUSE.1),
            };
        }
    }

    /// The time until the next thing is due; none where nothing is.
    fn wait(&self) -> Option<Duration> {
        let now = Instant::now();
        match self.phase {
            Phase::Running => None,
            Phase::Stopping {
                terminate_at,
                kill_at,
            } => Some(terminate_at.unwrap_or(kill_at).min(kill_at) - now),
            Phase::Killing { pause } => Some(pause),
        }
    }

    /// Waits for a signal, an order, or for that long.
    fn poll(&self, wait: Option<Duration>) -> io::Result<(bool, bool)> {
        let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let mut fds = vec![PollFd::from_borrowed_fd(self.signals.fd(), PollFlags::IN)];
        if let Some(fd) = self.control.fd() {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok((false, false)),
            Err(error) => return Err(error.into()),
        }
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok((ready(0), ready(1)))
    }

    fn take_orders(&mut self) {
        loop {
            match self.control.try_receive() {
                Ok(control::Input::Line(Order::Stop { grace })) => self.begin_stopping(grace),
                Ok(control::Input::Line(Order::Kill)) => self.begin_killing(),
                Ok(control::Input::Nothing) => return,
                // The owner died, or talks nonsense: both end the tree.
                Ok(control::Input::End) | Err(_) => {
                    self.control.close();
                    self.begin_stopping(self.orphan_grace);
                    return;
                }
            }
        }
    }

    /// Asks the main process to end; of two graces the one that ends first wins.
    fn begin_stopping(&mut self, grace: Duration) {
        let now = Instant::now();
        // A grace beyond what the clock can hold is as good as this.
        const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
        let grace = grace.min(LONGEST);
        self.phase = match self.phase {
            Phase::Killing { .. } => return,
            Phase::Running => {
                self.signal_main(Signal::INT);
                Phase::Stopping {
                    terminate_at: Some(now + grace / 2),
                    kill_at: now + grace,
                }
            }
            Phase::Stopping {
                terminate_at,
                kill_at,
            } => Phase::Stopping {
                terminate_at: terminate_at.map(|at| at.min(now + grace / 2)),
                kill_at: kill_at.min(now + grace),
            },
        };
    }

    fn begin_killing(&mut self) {
        if !matches!(self.phase, Phase::Killing { .. }) {
            self.phase = Phase::Killing {
                pause: KILL_PAUSE.0,
            };
        }
    }

    /// Signals the main process with its group, as a terminal would.
    fn signal_main(&self, signal: Signal) {
        if self.ended {
            return;
        }
        // It may have left the group that it was started in.
        if kill_process_group(self.main, signal).is_err() {
            kill_process(self.main, signal).ok();
        }
    }
}
