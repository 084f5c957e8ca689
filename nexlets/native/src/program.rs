//! From a start request to a command that can be run.

use std::io;

use nex_artifact::{ArtifactUri, FetchError, Fetched, Kind};
use nex_process::{Command, Output, SpawnError};
use nex_protocol::{ErrorCode, Lifecycle};
use nexlet::{Chain, Refusal, Start};

use crate::{
    Parts, environment,
    folder::Folder,
    request::StartRequest,
    script::{self, Fault},
    workloads_dir,
};

/// Makes the artifact a file of this machine.
pub(crate) async fn fetch(
    parts: &Parts,
    start: &Start,
    run: &StartRequest,
) -> Result<Fetched, Refusal> {
    let fetched = parts.cache.fetch(&run.uri, start.host.client(), true).await;
    fetched.map_err(|error| refuse_fetch(&error))
}

/// What is needed for each run of a workload.
#[derive(Debug)]
pub(crate) struct Program {
    path: std::path::PathBuf,
    /// The name of the program for people: that of the workload, where the path is one of ours.
    shown: String,
    argv: Vec<String>,
    environment: Vec<(String, String)>,
    is_job: bool,
    pub(crate) folder: Folder,
}

impl Program {
    /// Sets up the working folder. Where that fails, the caller removes the folder.
    pub(crate) async fn set_up(
        parts: &Parts,
        start: &Start,
        run: &StartRequest,
        fetched: Fetched,
    ) -> Result<Self, Refusal> {
        let cached = matches!(run.uri, ArtifactUri::ObjectStore { .. });
        let creds = nexlet::creds_file(&start.credentials);
        let path = workloads_dir(&parts.data_dir).join(start.id.as_str());
        let name = start.request.name.clone();
        let shown = match cached {
            true => name.clone(),
            false => fetched.path.display().to_string(),
        };
        let setting_up = tokio::task::spawn_blocking(move || {
            let folder = Folder::create(path)?;
            let creds = creds.map(|text| folder.write_creds(&text)).transpose()?;
            let program = match cached {
                true => folder.take_program(&fetched.path, &name)?,
                false => fetched.path,
            };
            let broken = script::check(&program).err();
            Ok((folder, creds, program, broken))
        });
        let set_up = setting_up
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let (folder, creds, path, broken) = set_up.map_err(|error: io::Error| {
            let text = format!("failed to set up the working folder: {error}");
            Refusal::new(ErrorCode::Internal, text)
        })?;
        if let Some(broken) = broken {
            return Err(Refusal::bad_request(broken.to_string()).with_hint(broken.hint()));
        }
        let environment = environment::environment(
            &start.id,
            &start.request,
            run,
            &start.credentials,
            folder.path(),
            creds.as_deref(),
        );
        Ok(Self {
            path,
            shown,
            argv: run.argv.clone(),
            environment: environment.into_iter().collect(),
            is_job: start.request.workload_lifecycle == Lifecycle::Job,
            folder,
        })
    }

    /// The command of one run.
    pub(crate) fn command(&self, run: &StartRequest) -> Command {
        let mut command = Command::new(&self.path);
        command.args = self.argv.iter().map(Into::into).collect();
        command.env.clone_from(&self.environment);
        command.cwd = self.folder.path().to_owned();
        command.stdout = Output::Pipe;
        command.stderr = Output::Pipe;
        command.exit_file = self.is_job.then(|| self.folder.exit_file());
        command.orphan_grace = run.stop_grace.min(Command::DEFAULT_ORPHAN_GRACE);
        command
    }

    /// Explains to the person who asked for it that the program does not run.
    pub(crate) fn refuse_spawn(&self, error: &SpawnError) -> Refusal {
        let (code, of_interpreter) = match error {
            SpawnError::NotFound { .. } => (ErrorCode::NotFound, None),
            SpawnError::NoInterpreter { .. } => (
                ErrorCode::BadRequest,
                script::interpreter_fault(&self.path, Some("whose own loader does not exist")),
            ),
            SpawnError::PermissionDenied { .. } if script::is_executable(&self.path) => (
                ErrorCode::BadRequest,
                script::interpreter_fault(&self.path, None),
            ),
            SpawnError::PermissionDenied { .. } => (ErrorCode::BadRequest, None),
            SpawnError::BadFormat { .. } => (
                ErrorCode::BadRequest,
                script::interpreter_fault(&self.path, Some("which is no program for this machine")),
            ),
            _ => (ErrorCode::Internal, None),
        };
        if let Some(Fault { text, hint }) = of_interpreter {
            let text = format!("failed to execute `{}`: {text}", self.shown);
            return Refusal::new(code, text).with_hint(hint);
        }
        let text = Chain(error).to_string();
        let text = text.replace(&self.path.display().to_string(), &self.shown);
        Refusal::new(code, text)
    }
}

fn refuse_fetch(error: &FetchError) -> Refusal {
    let code = match error.kind() {
        Kind::NotFound | Kind::JetStreamOff => ErrorCode::NotFound,
        Kind::Link | Kind::Damaged => ErrorCode::BadRequest,
        Kind::TooLarge => ErrorCode::TooLarge,
        Kind::Unavailable | Kind::NoSpace => ErrorCode::Busy,
        Kind::Io => ErrorCode::Internal,
    };
    let refusal = Refusal::new(code, Chain(error).to_string());
    match error.kind() {
        Kind::Damaged => refusal.with_hint("upload it again"),
        _ => refusal,
    }
}
