//! Short questions to other programs, such as for their version.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::child::{self, OwnedChild};
use crate::command::{Command, Exit, Output};

/// The most that is kept of each stream; the rest is read and forgotten.
const MAX_STREAM_BYTES: u64 = 1024 * 1024;

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Captured {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output, the first MiB.
    pub stdout: Vec<u8>,
    /// Its standard error, the first MiB.
    pub stderr: Vec<u8>,
}

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It could not be executed, or its output not be read.
    #[error("failed to run `{}`", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("`{}` did not end within {limit:?}", program.display())]
    TooSlow {
        /// The program.
        program: PathBuf,
        /// The time it had.
        limit: Duration,
    },
}

/// Runs a program to its end and answers what it said.
///
/// The command's own `stdout` and `stderr` are not used. There is no supervisor:
/// this is for programs that start no daemons. Its process group is killed when
/// `limit` has passed, or when the call is cancelled.
///
/// # Errors
/// It cannot be executed, or does not end in time.
pub async fn output(mut command: Command, limit: Duration) -> Result<Captured, CaptureError> {
    let program = command.program.clone();
    command.stdout = Output::Pipe;
    command.stderr = Output::Pipe;
    match timeout(limit, run(command)).await {
        Ok(Ok(captured)) => Ok(captured),
        Ok(Err(source)) => Err(CaptureError::Run { program, source }),
        Err(_) => Err(CaptureError::TooSlow { program, limit }),
    }
}

async fn run(command: Command) -> io::Result<Captured> {
    let started = child::start(command.into_std(), Duration::ZERO).await?;
    let mut group = Group(started.child);
    let (stdout, stderr) = tokio::try_join!(read(started.stdout), read(started.stderr))?;
    let exit = group.0.wait().await?;
    Ok(Captured {
        exit,
        stdout,
        stderr,
    })
}

/// Kills the group of a program that is not awaited to its end.
struct Group(OwnedChild);

impl Drop for Group {
    fn drop(&mut self) {
        self.0.signal_group(Signal::KILL);
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream)
            .take(MAX_STREAM_BYTES)
            .read_to_end(&mut kept)
            .await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}
