//! Which nats-server is used.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nex_process::{CaptureError, Command};

use crate::embedded::{Carried, UNPACK_ARG};
use crate::files::{self, FileError};

/// The oldest that will do: the first with `default_sentinel` and what it needs.
pub const MIN_VERSION: Version = Version {
    major: 2,
    minor: 11,
    patch: 2,
};

/// How long a program may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

/// How long the carried nats-server may take to unpack; on a slow disk some seconds.
const UNPACK_LIMIT: Duration = Duration::from_secs(60);

/// A version of nats-server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the first dot.
    pub major: u32,
    /// Between the dots.
    pub minor: u32,
    /// After the second dot.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Version {
    /// Reads what `nats-server --version` says: `nats-server: v2.15.1`, with or without a suffix.
    fn parse(said: &str) -> Option<Self> {
        let text = said.trim().strip_prefix("nats-server: v")?;
        let text = text.split(['-', '+', ' ']).next()?;
        let mut parts = text.split('.').map(|part| part.parse().ok());
        let version = Self {
            major: parts.next()??,
            minor: parts.next()??,
            patch: parts.next()??,
        };
        parts.next().is_none().then_some(version)
    }
}

/// Where a nats-server was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Named with `--nats-server`.
    Flag,
    /// Named by `NEX_NATS_SERVER`.
    Environment,
    /// Carried inside the binary.
    Embedded,
    /// In the folder of the executable.
    BesideExecutable,
    /// On the path of programs.
    SearchPath,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "from `--nats-server`",
            Self::Environment => "from `NEX_NATS_SERVER`",
            Self::Embedded => "carried inside nex",
            Self::BesideExecutable => "beside nex",
            Self::SearchPath => "on PATH",
        })
    }
}

/// A nats-server that was asked for its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerBinary {
    /// The program.
    pub path: PathBuf,
    /// What it says that it is.
    pub version: Version,
    /// Where it was found.
    pub source: Source,
}

/// Why a program is not used.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such file.
    #[error("there is no file `{}` ({found})", path.display())]
    Missing {
        /// The program.
        path: PathBuf,
        /// Where it was named.
        found: Source,
    },
    /// It cannot be run.
    #[error("`{}` ({found}) does not run", path.display())]
    DoesNotRun {
        /// The program.
        path: PathBuf,
        /// Where it was found.
        found: Source,
        /// Why not.
        source: CaptureError,
    },
    /// It says something else than a nats-server says.
    #[error("`{}` ({found}) is not a nats-server: its `--version` says `{said}`", path.display())]
    NotNatsServer {
        /// The program.
        path: PathBuf,
        /// Where it was found.
        found: Source,
        /// The first line of what it says.
        said: String,
    },
    /// It is too old.
    #[error("`{}` ({found}) is nats-server {version}: want {MIN_VERSION} or newer", path.display())]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Where it was found.
        found: Source,
        /// What it says that it is.
        version: Version,
    },
}

/// Why there is no nats-server.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// None was found.
    #[error("no nats-server was found: none inside nex, beside it, or on PATH")]
    NotFound,
    /// The one that was named, or the only ones that were found, will not do.
    #[error("no usable nats-server was found: {}", join(.0))]
    Refused(Vec<Refusal>),
    /// The one inside the binary cannot be unpacked.
    #[error("failed to unpack the nats-server inside nex to `{}`: {said}", path.display())]
    Unpack {
        /// Where it was to go.
        path: PathBuf,
        /// What the child said that was to do it.
        said: String,
    },
    /// The child that unpacks cannot be run.
    #[error("failed to unpack the nats-server inside nex")]
    UnpackChild(#[source] CaptureError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// All refusals on one line, with their causes.
fn join(refusals: &[Refusal]) -> String {
    let texts: Vec<String> = refusals
        .iter()
        .map(|refusal| match refusal {
            Refusal::DoesNotRun { source, .. } => match std::error::Error::source(source) {
                Some(cause) => format!("{refusal}: {source}: {cause}"),
                None => format!("{refusal}: {source}"),
            },
            _ => refusal.to_string(),
        })
        .collect();
    texts.join("; ")
}

impl FindError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NotFound | Self::Refused(_) => format!(
                "in a checkout of nex, type: cargo xtask setup; else put nats-server {MIN_VERSION} \
                 or newer on PATH, or name it with `--nats-server FILE`"
            ),
            Self::Unpack { .. } | Self::UnpackChild(_) => {
                "name a nats-server with `--nats-server FILE`".to_owned()
            }
            Self::File(_) => FileError::HINT.to_owned(),
        }
    }
}

/// Finds a nats-server that will do. The first of these that is there decides: `explicit`, `env`,
/// the one inside `exe`; then the first that will do beside `exe` and in the folders of `path_var`.
///
/// The one inside `exe` is unpacked to `unpacked_dir` where it is not yet. Cancel safe.
///
/// # Errors
/// None is there, or none will do; says of each why.
pub async fn find_binary(
    explicit: Option<&Path>,
    env: Option<&OsStr>,
    unpacked_dir: &Path,
    exe: &Path,
    path_var: Option<&OsStr>,
) -> Result<ServerBinary, FindError> {
    let named = explicit
        .map(|path| (path.to_owned(), Source::Flag))
        .or_else(|| env.map(|path| (path.into(), Source::Environment)));
    if let Some((path, source)) = named {
        return only(check(path, source).await);
    }
    if let Some(carried) = Carried::find(exe).map_err(FileError::new("read", exe))? {
        let path = unpacked_dir.join(carried.file_name());
        if !path.is_file() {
            unpack(exe, unpacked_dir, &path).await?;
        }
        return only(check(path, Source::Embedded).await);
    }
    let beside = exe
        .parent()
        .map(|folder| (folder.to_owned(), Source::BesideExecutable));
    let folders = std::env::split_paths(path_var.unwrap_or_default())
        // A relative folder would make it depend on where one stands.
        .filter(|folder| folder.is_absolute())
        .map(|folder| (folder, Source::SearchPath));
    let mut refused = Vec::new();
    for (folder, source) in beside.into_iter().chain(folders) {
        let path = folder.join(format!("nats-server{}", std::env::consts::EXE_SUFFIX));
        if !path.is_file() {
            continue;
        }
        match check(path, source).await {
            Ok(binary) => return Ok(binary),
            Err(refusal) => refused.push(refusal),
        }
    }
    Err(if refused.is_empty() {
        FindError::NotFound
    } else {
        FindError::Refused(refused)
    })
}

fn only(checked: Result<ServerBinary, Refusal>) -> Result<ServerBinary, FindError> {
    checked.map_err(|refusal| FindError::Refused(vec![refusal]))
}

async fn check(path: PathBuf, found: Source) -> Result<ServerBinary, Refusal> {
    if !path.is_file() {
        return Err(Refusal::Missing { path, found });
    }
    // A path without a slash would be looked up on PATH; a relative one would be read in `/`.
    let path = std::path::absolute(&path).unwrap_or(path);
    let mut command = Command::new(&path);
    command.args = vec!["--version".into()];
    let captured = match nex_process::output(command, VERSION_LIMIT).await {
        Ok(captured) => captured,
        Err(source) => {
            return Err(Refusal::DoesNotRun {
                path,
                found,
                source,
            });
        }
    };
    let said = String::from_utf8_lossy(&captured.stdout);
    match Version::parse(&said) {
        None => Err(Refusal::NotNatsServer {
            path,
            found,
            said: first_line(&said),
        }),
        Some(version) if version < MIN_VERSION => Err(Refusal::TooOld {
            path,
            found,
            version,
        }),
        Some(version) => Ok(ServerBinary {
            path,
            version,
            source: found,
        }),
    }
}

/// The first line, at most 80 characters of it.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(80).collect()
}

async fn unpack(exe: &Path, folder: &Path, dest: &Path) -> Result<(), FindError> {
    files::make_folder(folder)?;
    let mut command = Command::new(exe);
    command.args = vec![UNPACK_ARG.into(), dest.into()];
    let captured = nex_process::output(command, UNPACK_LIMIT)
        .await
        .map_err(FindError::UnpackChild)?;
    if captured.exit.success() && dest.is_file() {
        return Ok(());
    }
    let said = first_line(&String::from_utf8_lossy(&captured.stderr));
    Err(FindError::Unpack {
        path: dest.to_owned(),
        said: if said.is_empty() {
            captured.exit.to_string()
        } else {
            said
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder with a program `nats-server` that says this.
    fn server_that_says(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        // Written by another process: if this one had it open while another test's thread forks,
        // the fork would keep it from being executed.
        let written = std::process::Command::new("/bin/sh")
            .args([
                "-c",
                r#"printf '#!/bin/sh\necho "%s"\n' "$1" >nats-server && chmod 755 nats-server"#,
            ])
            .args(["sh", text])
            .current_dir(folder.path())
            .status()
            .unwrap();
        assert!(written.success());
        folder
    }

    async fn find(
        explicit: Option<&Path>,
        env: Option<&OsStr>,
        beside: &Path,
        path_var: &[&Path],
    ) -> Result<ServerBinary, FindError> {
        let exe = beside.join("nex");
        fs::write(&exe, "carries nothing").unwrap();
        let path_var = std::env::join_paths(path_var).unwrap();
        find_binary(
            explicit,
            env,
            &beside.join("unpacked"),
            &exe,
            Some(&path_var),
        )
        .await
    }

    #[test]
    fn versions_are_read_as_the_server_says_them() {
        let version = |major, minor, patch| {
            Some(Version {
                major,
                minor,
                patch,
            })
        };
        for (said, read) in [
            ("nats-server: v2.15.1\n", version(2, 15, 1)),
            ("nats-server: v2.12.0-RC.1", version(2, 12, 0)),
            ("nats-server: v2.11", None),
            ("nats-server: v2.11.2.1", None),
            ("nats-server 2.11.2", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(said), read, "{said}");
        }
        assert!(Version::parse("nats-server: v2.11.1").unwrap() < MIN_VERSION);
        assert!(Version::parse("nats-server: v2.11.2").unwrap() >= MIN_VERSION);
    }

    #[tokio::test]
    async fn what_is_named_decides_before_what_is_found() {
        let named = server_that_says("nats-server: v2.15.1");
        let found = server_that_says("nats-server: v2.14.0");
        let path = named.path().join("nats-server");

        let flag = find(Some(&path), None, found.path(), &[]).await.unwrap();
        let env = find(None, Some(path.as_os_str()), found.path(), &[])
            .await
            .unwrap();
        let beside = find(None, None, found.path(), &[named.path()])
            .await
            .unwrap();

        assert_eq!((flag.source, flag.version.minor), (Source::Flag, 15));
        assert_eq!((env.source, env.version.minor), (Source::Environment, 15));
        assert_eq!(
            (beside.source, beside.version.minor),
            (Source::BesideExecutable, 14)
        );
    }

    #[tokio::test]
    async fn an_old_one_that_was_named_is_refused_with_its_version() {
        let old = server_that_says("nats-server: v2.10.29");
        let good = server_that_says("nats-server: v2.15.1");
        let path = old.path().join("nats-server");

        let error = find(Some(&path), None, good.path(), &[]).await.unwrap_err();

        assert_eq!(
            error.to_string(),
            format!(
                "no usable nats-server was found: `{}` (from `--nats-server`) is nats-server \
                 2.10.29: want 2.11.2 or newer",
                path.display()
            )
        );
        assert!(error.hint().contains("--nats-server"));
    }

    #[tokio::test]
    async fn an_old_one_on_the_path_is_passed_over() {
        let (old, good) = (
            server_that_says("nats-server: v2.10.29"),
            server_that_says("nats-server: v2.15.1"),
        );
        let empty = tempfile::tempdir().unwrap();

        let found = find(None, None, empty.path(), &[old.path(), good.path()])
            .await
            .unwrap();

        assert_eq!(found.path, good.path().join("nats-server"));
        assert_eq!(found.source, Source::SearchPath);
    }

    #[tokio::test]
    async fn what_is_no_nats_server_is_refused_with_what_it_said() {
        let other = server_that_says("etcd 3");
        let empty = tempfile::tempdir().unwrap();

        let error = find(None, None, empty.path(), &[other.path()])
            .await
            .unwrap_err();

        assert!(error.to_string().contains("says `etcd 3`"), "{error}");
    }

    #[tokio::test]
    async fn what_is_not_there_is_said() {
        let empty = tempfile::tempdir().unwrap();

        let none = find(None, None, empty.path(), &[]).await.unwrap_err();
        let named = find(Some(Path::new("/no/such")), None, empty.path(), &[])
            .await
            .unwrap_err();

        assert!(matches!(none, FindError::NotFound), "{none}");
        assert!(named.to_string().contains("there is no file `/no/such`"));
    }

    #[tokio::test]
    async fn what_does_not_run_is_said_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nats-server");
        fs::write(&path, "not executable").unwrap();

        let error = find(Some(&path), None, folder.path(), &[])
            .await
            .unwrap_err();

        assert!(error.to_string().contains("does not run: "), "{error}");
        assert!(
            error
                .to_string()
                .ends_with("ermission denied (os error 13)"),
            "{error}"
        );
    }
}
