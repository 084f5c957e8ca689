//! Where the programs and files of a test are.

use anyhow::{Context as _, bail};
use std::{
    env,
    path::{Path, PathBuf},
};

const EXE: &str = env::consts::EXE_SUFFIX;

/// The folder with the executables of this build: `NEX_TEST_BIN_DIR`, else that of the running test.
///
/// # Panics
///
/// When the running program does not know its own path.
#[must_use]
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = env::var_os("NEX_TEST_BIN_DIR") {
        return dir.into();
    }
    let mut dir = env::current_exe().expect("a process knows its executable");
    dir.pop();
    // Cargo puts tests and examples one below the programs they belong to.
    if dir.ends_with("deps") || dir.ends_with("examples") {
        dir.pop();
    }
    dir
}

/// The path of a program of this workspace, such as `nex`.
///
/// # Panics
///
/// When it is not built, with what to type.
#[must_use]
#[track_caller]
pub fn bin(name: &str) -> PathBuf {
    bin_in(&bin_dir(), name).unwrap_or_else(|error| panic!("{error:#}"))
}

pub(crate) fn bin_in(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = dir.join(format!("{name}{EXE}"));
    if !path.is_file() {
        bail!(
            "{} is not built; type: cargo build -p {name} (or run all tests: cargo xtask test)",
            path.display()
        );
    }
    Ok(path)
}

/// The nats-server that tests use: `NEX_NATS_SERVER`, else beside this build's executables, else PATH.
///
/// # Errors
///
/// When there is none, with what to type.
pub fn nats_server() -> anyhow::Result<PathBuf> {
    if let Some(path) = env::var_os("NEX_NATS_SERVER") {
        return Ok(path.into());
    }
    let name = format!("nats-server{EXE}");
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(bin_dir())
        .chain(env::split_paths(&path))
        .map(|dir| dir.join(&name))
        .find(|candidate| candidate.is_file())
        .context("no nats-server here; type: cargo xtask setup")
}

/// The root of the checkout that this build is of.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = crate_dir
        .ancestors()
        .nth(2)
        .expect("this crate is two folders below the root");
    root.to_owned()
}

/// The folder of programs given with the project (`../shared/seeds/functions`), where it is present.
///
/// Those programs are not part of the checkout: a test that wants them [`skip`](crate::skip)s without.
#[must_use]
pub fn seeds() -> Option<PathBuf> {
    let dir = workspace_root().parent()?.join("shared/seeds/functions");
    dir.is_dir().then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_workspaces() {
        let manifest = std::fs::read_to_string(workspace_root().join("Cargo.toml")).unwrap();

        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn a_program_that_is_not_built_names_the_command() {
        let error = bin_in(Path::new("/nowhere"), "echo-service").unwrap_err();

        assert!(
            error.to_string().contains("cargo build -p echo-service"),
            "{error}"
        );
    }
}
