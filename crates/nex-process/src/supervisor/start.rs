//! How the supervisor starts the main process.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, getpid};

use crate::isolate::{Bond, isolate};
use crate::protocol::{Failure, Spec, Stage};

/// How long an executable may be open for writing before it is an error.
///
/// Whoever wrote the file may have forked in that moment, and the copy of its
/// descriptor lives in the fork until that executes; it is a matter of
/// milliseconds on a machine that is not overloaded.
const BUSY_LIMIT: Duration = Duration::from_secs(2);

/// The first and the longest pause between two attempts on a busy file.
const BUSY_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

pub(super) fn setup_failure(error: &io::Error) -> Failure {
    Failure::new(Stage::Setup, error)
}

/// Starts the program, and lets go of its output and its working folder.
pub(super) fn start(spec: Spec) -> Result<Pid, Failure> {
    let program: OsString = spec.program.into();
    // Done here, or a missing folder would look like a missing program.
    rustix::process::chdir(OsString::from(spec.cwd))
        .map_err(|error| Failure::new(Stage::WorkingFolder, &error.into()))?;
    let mut command = std::process::Command::new(&program);
    command
        .args(spec.args.into_iter().map(OsString::from))
        .env_clear()
        .envs(spec.env)
        .stdin(Stdio::null());
    // This process has one thread, so the bond is to the process.
    isolate(&mut command, Bond::DiesWith(getpid()));
    let is_path = program.as_bytes().contains(&b'/');
    if is_path {
        execute_as_it_is(&mut command).map_err(|error| setup_failure(&error))?;
    }
    let child = spawn(&mut command).map_err(|error| {
        let missing = error.kind() == io::ErrorKind::NotFound;
        let there = is_path && Path::new(&program).exists();
        Failure::new(
            if missing && there {
                Stage::Interpreter
            } else {
                Stage::Execute
            },
            &error,
        )
    })?;
    // If this failed, the workload would be killed by its bond when we end.
    let_go().map_err(|error| setup_failure(&error))?;
    Ok(Pid::from_child(&child))
}

/// Lets the child execute the file itself, or fail.
///
/// The standard library uses `execvp`, which hands a file of an unknown format
/// to `/bin/sh`; a broken artifact would then end with a syntax error instead
/// of being refused.
#[expect(unsafe_code, reason = "`execve` has no safe wrapper")]
fn execute_as_it_is(command: &mut std::process::Command) -> io::Result<()> {
    let program = CString::new(command.get_program().as_bytes())?;
    let arguments = std::iter::once(command.get_program()).chain(command.get_args());
    let arguments: Vec<CString> = arguments
        .map(|text| CString::new(text.as_bytes()))
        .collect::<Result<_, _>>()?;
    let environment = command
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let environment: Vec<CString> = environment
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<Result<_, _>>()?;
    // SAFETY: this process has one thread, so that the forked child may allocate.
    // Both lists end with a null pointer and outlive the call.
    unsafe {
        command.pre_exec(move || {
            libc::execve(
                program.as_ptr(),
                pointers(&arguments).as_ptr(),
                pointers(&environment).as_ptr(),
            );
            Err(io::Error::last_os_error())
        });
    }
    Ok(())
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Starts the child, again and again while its file is open for writing.
fn spawn(command: &mut std::process::Command) -> io::Result<std::process::Child> {
    let deadline = Instant::now() + BUSY_LIMIT;
    let mut pause = BUSY_PAUSE.0;
    loop {
        match command.spawn() {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && Instant::now() < deadline =>
            {
                wait(pause);
                pause = (pause * 2).min(BUSY_PAUSE.1);
            }
            result => return result,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only thread, with nothing else to do"
)]
fn wait(pause: Duration) {
    std::thread::sleep(pause);
}

/// The workload's pipes are to end with the workload, not with its supervisor,
/// and its folder can then be removed or unmounted.
fn let_go() -> io::Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(rustix::process::chdir("/")?)
}
