//! Children that are our own binary and end by themselves when we die.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::child::{self, OwnedChild};
use crate::command::{Command, Exit};

/// How long a child may live after its handle was dropped.
const ABANDON_LIMIT: Duration = Duration::from_secs(4);

/// A child in a session of its own whose standard input is its lifeline.
///
/// Dropping it cuts the lifeline; a child that is still there seconds later is
/// killed with all that is below it.
#[derive(Debug)]
pub struct LifelineChild {
    child: OwnedChild,
    /// Writes nothing, ever; that it is open says that we live.
    lifeline: Option<OwnedFd>,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
}

/// Starts a program that waits for the end of its [`lifeline`].
///
/// # Errors
/// The program cannot be executed.
pub async fn spawn_lifeline(command: Command) -> io::Result<LifelineChild> {
    // The standard library's pipe is closed on exec at both ends.
    let (theirs, ours) = io::pipe()?;
    let mut command = command.into_std();
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    let started = child::start(command, ABANDON_LIMIT).await?;
    Ok(LifelineChild {
        child: started.child,
        lifeline: Some(ours.into()),
        stdout: started.stdout,
        stderr: started.stderr,
    })
}

impl LifelineChild {
    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The standard output, if it was asked for as a pipe; once.
    pub fn take_stdout(&mut self) -> Option<Receiver> {
        self.stdout.take()
    }

    /// The standard error, if it was asked for as a pipe; once.
    pub fn take_stderr(&mut self) -> Option<Receiver> {
        self.stderr.take()
    }

    /// Resolves when the process has ended. Cancel safe.
    ///
    /// # Errors
    /// The system cannot say how it ended.
    pub async fn wait(&mut self) -> io::Result<Exit> {
        self.child.wait().await
    }

    /// Tells the child what our death would tell it.
    pub fn cut_lifeline(&mut self) {
        self.lifeline = None;
    }

    /// Sends SIGTERM, also to one that somebody suspended.
    pub fn terminate(&self) {
        self.child.signal(Signal::TERM);
        self.child.signal(Signal::CONT);
    }

    /// Sends SIGKILL. Trees of the child end by their supervisors.
    pub fn kill(&self) {
        self.child.signal(Signal::KILL);
    }
}

/// In a child of [`spawn_lifeline`]: resolves when the parent has died or has
/// cut the lifeline. Call it once, within a runtime.
///
/// # Errors
/// Standard input is no pipe: the program was started by somebody else.
pub fn lifeline() -> io::Result<impl Future<Output = ()> + Send> {
    let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 0)?;
    let mut input = Receiver::from_owned_fd(input)?;
    Ok(async move {
        let mut bytes = [0; 64];
        // An error says as surely as the end that nobody holds the other end.
        while let Ok(1..) = input.read(&mut bytes).await {}
    })
}
