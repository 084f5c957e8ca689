//! The owner's side of a supervised process tree.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use rustix::net::SendFlags;
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;

use crate::SUPERVISE_ARG;
use crate::child::{self, OwnedChild};
use crate::command::{Command, Exit};
use crate::os::Watch;
use crate::protocol::{Failure, Lines, Order, Report, Spec, Stage, Text, encode};
use crate::reaper;

/// How long a supervisor may take to say whether the program runs. It tries a
/// file that is open for writing again for some of this time.
const START_LIMIT: Duration = Duration::from_secs(15);

/// How long a supervisor may take to end once it has nothing left to do.
const END_LIMIT: Duration = Duration::from_secs(1);

/// What a supervisor may take beyond its orphan grace to kill and to end, when
/// its tree was dropped.
const ABANDON_MARGIN: Duration = Duration::from_secs(2);

/// Why a program does not run.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The supervisor could not be started or talked to.
    #[error("failed to start a supervisor for `{}`", program.display())]
    Supervisor {
        /// What was to run.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The supervisor did not say within its time whether the program runs.
    #[error("the supervisor of `{}` did not answer within {limit:?}", program.display())]
    NoAnswer {
        /// What was to run.
        program: PathBuf,
        /// The time it had.
        limit: Duration,
    },
    /// The working folder cannot be entered.
    #[error("failed to enter the working folder `{}`", folder.display())]
    WorkingFolder {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no such program.
    #[error("there is no program `{}`", program.display())]
    NotFound {
        /// What was to run.
        program: PathBuf,
    },
    /// The program is there; what its first line or its header names is not.
    #[error("the interpreter or loader that `{}` names does not exist", program.display())]
    NoInterpreter {
        /// What was to run.
        program: PathBuf,
    },
    /// The program may not be executed by us, or is a folder.
    #[error("no permission to execute `{}`: want a regular file with the executable bit", program.display())]
    PermissionDenied {
        /// What was to run.
        program: PathBuf,
    },
    /// The file is not something that this machine can execute.
    #[error("`{}` is no program for this machine: want a script with a `#!` line, or a binary of its architecture", program.display())]
    BadFormat {
        /// What was to run.
        program: PathBuf,
    },
    /// The system refused for another reason.
    #[error("failed to execute `{}`", program.display())]
    Execute {
        /// What was to run.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl SpawnError {
    fn from_failure(failure: Failure, program: PathBuf, folder: PathBuf) -> Self {
        let stage = failure.stage;
        let source = failure.into_error();
        match (stage, source.kind(), source.raw_os_error()) {
            (Stage::Setup, ..) => Self::Supervisor { program, source },
            (Stage::WorkingFolder, ..) => Self::WorkingFolder { folder, source },
            (Stage::Interpreter, ..) => Self::NoInterpreter { program },
            (_, io::ErrorKind::NotFound, _) => Self::NotFound { program },
            (_, io::ErrorKind::PermissionDenied, _) => Self::PermissionDenied { program },
            (_, _, Some(libc::ENOEXEC)) => Self::BadFormat { program },
            _ => Self::Execute { program, source },
        }
    }
}

/// Starts programs, each below a supervisor of its own.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The binary that becomes the supervisor.
    executable: PathBuf,
}

impl Launcher {
    /// Uses a binary that calls [`supervisor::main`](crate::supervisor::main)
    /// when its first argument is [`SUPERVISE_ARG`].
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self {
            executable: executable.into(),
        }
    }

    /// Uses the binary of this process, also after its file was replaced.
    ///
    /// # Errors
    /// The system does not say which file it is.
    pub fn of_this_program() -> io::Result<Self> {
        let itself = Path::new("/proc/self/exe");
        let found = itself.try_exists().unwrap_or(false);
        Ok(Self::new(if found {
            itself.to_owned()
        } else {
            std::env::current_exe()?
        }))
    }

    /// Starts a program; answers when it has been executed.
    ///
    /// Cancelled, it leaves no process: the supervisor ends with its channel.
    ///
    /// # Errors
    /// Whatever keeps the program from running.
    pub async fn spawn(&self, command: Command) -> Result<Tree, SpawnError> {
        let program = command.program.clone();
        let folder = command.cwd.clone();
        match timeout(START_LIMIT, self.start(command)).await {
            Ok(Ok((Report::Failed(failure), _))) => {
                Err(SpawnError::from_failure(failure, program, folder))
            }
            Ok(Ok((_, tree))) => Ok(tree),
            Ok(Err(source)) => Err(SpawnError::Supervisor { program, source }),
            Err(_) => Err(SpawnError::NoAnswer {
                program,
                limit: START_LIMIT,
            }),
        }
    }

    async fn start(&self, command: Command) -> io::Result<(Report, Tree)> {
        let spec = encode(&Spec {
            program: command.program.as_os_str().into(),
            args: command
                .args
                .iter()
                .map(|text| Text::from(text.as_os_str()))
                .collect(),
            env: command.env,
            cwd: command.cwd.as_os_str().into(),
            orphan_grace: command.orphan_grace,
            exit_file: command.exit_file.map(|file| file.as_os_str().into()),
        })?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut supervisor = std::process::Command::new(&self.executable);
        supervisor
            .arg0("nex")
            .arg(SUPERVISE_ARG)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(command.stdout.into_stdio())
            .stderr(command.stderr.into_stdio());
        let started = child::start(supervisor, command.orphan_grace + ABANDON_MARGIN).await?;
        let mut tree = Tree {
            pid: 0,
            channel: Arc::new(UnixStream::from_std(ours)?),
            lines: Lines::default(),
            supervisor: started.child,
            stdout: started.stdout,
            stderr: started.stderr,
            exited: None,
            channel_end: None,
            ended: None,
        };
        tree.send_all(&spec).await?;
        drop(spec);
        let report = tree.next_report().await?;
        match report {
            Some(Report::Started { pid }) => tree.pid = pid,
            Some(Report::Failed(_)) => {}
            Some(Report::Exited(_) | Report::Gone) | None => {
                return Err(io::Error::other(
                    "the supervisor ended before it started the program",
                ));
            }
        }
        Ok((report.expect("matched above"), tree))
    }
}

/// How a tree ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How its main process ended.
    pub exit: Exit,
    /// When that was seen.
    pub at: SystemTime,
    /// Whether the supervisor was lost, and with it the true `exit` unless it
    /// was told before.
    pub supervisor_lost: bool,
}

/// A program that was started, with all that it starts.
///
/// Dropping it is the owner's death: the supervisor stops the tree within its
/// [`Command::orphan_grace`], and nobody learns how it ended.
#[derive(Debug)]
pub struct Tree {
    /// The main process.
    pid: u32,
    /// The one strong reference; the supervisor sees end-of-file when it goes.
    channel: Arc<UnixStream>,
    lines: Lines,
    supervisor: OwnedChild,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    /// How and when the main process ended.
    exited: Option<(Exit, SystemTime)>,
    channel_end: Option<ChannelEnd>,
    ended: Option<Ended>,
}

/// Why there are no more reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChannelEnd {
    /// The supervisor said that nothing is left.
    Gone,
    /// The supervisor died, or cannot be understood.
    Lost,
}

impl Tree {
    /// The number of the main process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The number of its supervisor.
    pub fn supervisor_pid(&self) -> u32 {
        self.supervisor.pid()
    }

    /// The standard output, if it was asked for as a pipe; once.
    pub fn take_stdout(&mut self) -> Option<Receiver> {
        self.stdout.take()
    }

    /// The standard error, if it was asked for as a pipe; once.
    pub fn take_stderr(&mut self) -> Option<Receiver> {
        self.stderr.take()
    }

    /// A handle that stops the tree.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            channel: Arc::downgrade(&self.channel),
            supervisor: self.supervisor.watch(),
        }
    }

    /// Resolves when the main process has ended and nothing of the tree is left.
    ///
    /// Cancel safe. Answers the same again when it is called again.
    pub async fn wait(&mut self) -> Ended {
        if let Some(ended) = self.ended {
            return ended;
        }
        let end = self.read_reports().await;
        self.reap_supervisor().await;
        if end == ChannelEnd::Lost {
            tracing::warn!(
                pid = self.pid,
                "a supervisor was lost, killing what it left"
            );
            // It can only fail where the runtime is being shut down.
            tokio::task::spawn_blocking(reaper::kill_adopted_now)
                .await
                .ok();
        }
        let killed = || (Exit::Signal(libc::SIGKILL), SystemTime::now());
        let (exit, at) = self.exited.unwrap_or_else(killed);
        *self.ended.insert(Ended {
            exit,
            at,
            supervisor_lost: end == ChannelEnd::Lost,
        })
    }

    async fn read_reports(&mut self) -> ChannelEnd {
        loop {
            if let Some(end) = self.channel_end {
                return end;
            }
            match self.next_report().await {
                Ok(Some(Report::Exited(exit))) => self.exited = Some((exit, SystemTime::now())),
                Ok(Some(Report::Gone)) => self.channel_end = Some(ChannelEnd::Gone),
                Ok(Some(Report::Started { .. } | Report::Failed(_))) => {}
                Ok(None) | Err(_) => self.channel_end = Some(ChannelEnd::Lost),
            }
        }
    }

    /// A supervisor that should be dead but is not, is killed.
    async fn reap_supervisor(&mut self) {
        if timeout(END_LIMIT, self.supervisor.wait()).await.is_err() {
            self.supervisor.signal(Signal::KILL);
            // Only a process that hangs in the kernel survives that, and then
            // the reaper has it.
            timeout(END_LIMIT, self.supervisor.wait()).await.ok();
        }
    }

    /// The next line of the supervisor; none at the end. Cancel safe.
    async fn next_report(&mut self) -> io::Result<Option<Report>> {
        let mut bytes = [0; 1024];
        loop {
            if let Some(report) = self.lines.next()? {
                return Ok(Some(report));
            }
            self.channel.readable().await?;
            match self.channel.try_read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(count) => self.lines.push(&bytes[..count])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.channel.writable().await?;
            match self.channel.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Stops a tree; any number of them, from anywhere.
///
/// It does not keep the tree alive, and does nothing when the tree has ended.
/// That the tree is dead is told by [`Tree::wait`].
#[derive(Clone, Debug)]
pub struct Stopper {
    channel: Weak<UnixStream>,
    supervisor: Weak<Watch>,
}

impl Stopper {
    /// Asks the program to end, and has everything killed after `grace`.
    ///
    /// SIGINT goes to the main process's group at once, SIGTERM after half of
    /// the grace. Of several graces the one that ends first wins.
    pub fn stop(&self, grace: Duration) {
        self.order(&Order::Stop { grace });
    }

    /// Has everything killed at once.
    pub fn kill(&self) {
        self.order(&Order::Kill);
    }

    fn order(&self, order: &Order) {
        let (Some(channel), Ok(line)) = (self.channel.upgrade(), encode(order)) else {
            return;
        };
        // A line is far smaller than the socket's buffer, so it goes in whole or
        // not at all, when the supervisor is dead.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::send(&*channel, &line, flags).ok();
        // Somebody may have suspended it.
        if let Some(supervisor) = self.supervisor.upgrade() {
            supervisor.signal(Signal::CONT).ok();
        }
    }
}
