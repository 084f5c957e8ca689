//! Programs that do not run.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nex_process::{Command, Exit, Launcher, Output, SpawnError};

use crate::support::{launcher, new_mark, shell, wait};

fn file(folder: &Path, name: &str, mode: u32, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

async fn refused(command: Command) -> SpawnError {
    launcher().spawn(command).await.expect_err("must not run")
}

#[tokio::test]
async fn each_reason_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let plain = file(folder.path(), "plain", 0o644, b"#!/bin/sh\n");
    let garbage = file(
        folder.path(),
        "garbage",
        0o755,
        b"\x01\x02\x03 not a program",
    );
    let no_shebang = file(folder.path(), "no-shebang", 0o755, b"echo hello\n");
    let no_interpreter = file(
        folder.path(),
        "no-interpreter",
        0o755,
        b"#!/no/such/shell\n",
    );

    let error = refused(Command::new(folder.path().join("missing"))).await;
    assert!(matches!(error, SpawnError::NotFound { .. }), "{error:?}");
    let error = refused(Command::new("no-such-program-in-the-path")).await;
    assert!(matches!(error, SpawnError::NotFound { .. }), "{error:?}");
    let error = refused(Command::new(plain)).await;
    assert!(
        matches!(error, SpawnError::PermissionDenied { .. }),
        "{error:?}"
    );
    let error = refused(Command::new(folder.path())).await;
    assert!(
        matches!(error, SpawnError::PermissionDenied { .. }),
        "{error:?}"
    );
    for unknown in [garbage, no_shebang] {
        let error = refused(Command::new(unknown)).await;
        assert!(matches!(error, SpawnError::BadFormat { .. }), "{error:?}");
    }
    let error = refused(Command::new(no_interpreter)).await;
    assert!(
        matches!(error, SpawnError::NoInterpreter { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_missing_working_folder_is_not_taken_for_a_missing_program() {
    let mut command = shell("exit 0", &new_mark());
    command.cwd = PathBuf::from("/no/such/folder");

    let error = refused(command).await;

    assert!(
        matches!(error, SpawnError::WorkingFolder { .. }),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "failed to enter the working folder `/no/such/folder`"
    );
}

#[tokio::test]
async fn what_no_program_can_be_given_is_an_error() {
    let mut command = shell("exit 0", &new_mark());
    command.args.push("zero \0 byte".into());

    let error = refused(command).await;

    assert!(matches!(error, SpawnError::Execute { .. }), "{error:?}");
}

#[tokio::test]
async fn a_supervisor_that_is_none_is_an_error() {
    for executable in ["/no/such/nex", "/bin/true", "/bin/cat"] {
        let result = Launcher::new(executable)
            .spawn(shell("exit 0", &new_mark()))
            .await;

        let error = result.expect_err("must not run");
        assert!(
            matches!(error, SpawnError::Supervisor { .. }),
            "{executable}: {error:?}"
        );
    }
}

#[tokio::test]
async fn copies_that_are_started_while_others_are_written_all_run() {
    const COPIES: usize = 64;
    let folder = tempfile::tempdir().unwrap();
    let program = fs::read("/bin/true").unwrap();
    let launcher = launcher();
    let mut tasks = tokio::task::JoinSet::new();

    for number in 0..COPIES {
        let path = folder.path().join(number.to_string());
        let (program, launcher) = (program.clone(), launcher.clone());
        tasks.spawn(async move {
            let written = path.clone();
            let write = move || {
                file(
                    written.parent().unwrap(),
                    &number.to_string(),
                    0o755,
                    &program,
                )
            };
            tokio::task::spawn_blocking(write).await.unwrap();
            let mut tree = launcher.spawn(Command::new(path)).await.unwrap();
            wait(&mut tree).await.exit
        });
    }

    let ends = tasks.join_all().await;
    assert_eq!(ends, vec![Exit::Code(0); COPIES]);
}

#[tokio::test]
async fn a_file_that_is_still_open_for_writing_runs_once_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    let mut writer = File::create(&path).unwrap();
    writer.write_all(&fs::read("/bin/true").unwrap()).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    let launcher = launcher();

    let mut spawning = tokio::spawn(async move { launcher.spawn(Command::new(path)).await });
    let early = tokio::time::timeout(Duration::from_millis(200), &mut spawning).await;
    drop(writer);
    assert!(early.is_err(), "executed while open for writing: {early:?}");
    let mut tree = spawning.await.unwrap().unwrap();

    assert!(wait(&mut tree).await.exit.success());
}

#[tokio::test]
async fn a_supervisor_started_by_hand_says_what_it_is() {
    let mut command = Command::new(crate::support::HELPER);
    command.args = vec![nex_process::SUPERVISE_ARG.into()];
    command.stdout = Output::Null;

    let captured = nex_process::output(command, crate::support::LONG)
        .await
        .unwrap();

    assert_eq!(captured.exit, Exit::Code(1));
    let text = String::from_utf8(captured.stderr).unwrap();
    assert!(
        text.starts_with("error: `supervise` is for nex itself"),
        "{text}"
    );
}
