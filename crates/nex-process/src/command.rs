//! What to start, and how it ended.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where one of the output streams of a child goes.
#[derive(Debug, Default)]
pub enum Output {
    /// To nowhere.
    #[default]
    Null,
    /// To a pipe that the owner reads.
    Pipe,
    /// To the same stream of this process.
    Inherit,
    /// To an open file.
    File(File),
}

impl Output {
    pub(crate) fn into_stdio(self) -> Stdio {
        match self {
            Self::Null => Stdio::null(),
            Self::Pipe => Stdio::piped(),
            Self::Inherit => Stdio::inherit(),
            Self::File(file) => Stdio::from(file),
        }
    }
}

/// A program with everything that it gets to see.
#[derive(Debug)]
pub struct Command {
    /// The program; a bare name is looked up in the `PATH` of `env`.
    pub program: PathBuf,
    /// The arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// The complete environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// The working folder.
    pub cwd: PathBuf,
    /// Where its standard output goes.
    pub stdout: Output,
    /// Where its standard error goes.
    pub stderr: Output,
    /// How long the tree may take to stop when its owner died.
    pub orphan_grace: Duration,
    /// The file in which the supervisor records how the main process ended, where it ended by
    /// itself: before it reports the exit, so that an owner which dies in that moment loses nothing.
    /// See [`Exit::read`].
    pub exit_file: Option<PathBuf>,
}

impl Command {
    /// The usual time for a tree to stop when its owner died.
    pub const DEFAULT_ORPHAN_GRACE: Duration = Duration::from_secs(2);

    /// A program without arguments, environment or output, in the root folder.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            stdout: Output::Null,
            stderr: Output::Null,
            orphan_grace: Self::DEFAULT_ORPHAN_GRACE,
            exit_file: None,
        }
    }

    /// The same as the standard library's command. Standard input is empty.
    pub(crate) fn into_std(self) -> std::process::Command {
        let mut command = std::process::Command::new(self.program);
        command
            .args(self.args)
            .env_clear()
            .envs(self.env)
            .current_dir(self.cwd)
            .stdin(Stdio::null())
            .stdout(self.stdout.into_stdio())
            .stderr(self.stderr.into_stdio());
        command
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It ended by itself with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Whether the process ended by itself with code 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// Reads the record that a supervisor wrote; `None` where there is none, or none that can be read.
    /// Blocks.
    ///
    /// A process that was told to stop, or whose owner had died, has no record.
    #[must_use]
    pub fn read(exit_file: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(exit_file).ok()?).ok()
    }

    /// Writes the record of an exit; a reader sees all of it or nothing.
    pub(crate) fn write(self, exit_file: &Path) -> std::io::Result<()> {
        let new = exit_file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&self)?)?;
        std::fs::rename(new, exit_file)
    }

    pub(crate) fn from_status(status: rustix::process::WaitStatus) -> Option<Self> {
        let code = status.exit_status().map(Self::Code);
        code.or_else(|| status.terminating_signal().map(Self::Signal))
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}
