//! A compiler for WASI commands, which a test compiles the seeds' WebAssembly echo with.
//!
//! ```text
//!   Rust's target ── missing ──> rustup target add ── fails ──> clang with wasi-libc ── missing ──> zig
//! ```
//!
//! Without all of them that test is skipped and the others run, so nothing here is an error.

use crate::{
    setup::{download, python},
    shell::{complain, read, run as run_shown, say},
    workspace::Workspace,
};
use std::{
    env::consts::{ARCH, OS},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The target of the seeds' echo.
const TARGET: &str = "wasm32-wasip1";

/// The Python package that carries zig, and its version.
const ZIG: (&str, &str) = ("ziglang", "0.17.1");

/// SHA-256 of the wheel of [`ZIG`], for the one platform on which it was tried.
const ZIG_WHEEL: (&str, &str, &str) = (
    "linux",
    "x86_64",
    "ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54",
);

/// Makes sure of a compiler, as far as that goes, and says which one it is.
pub(crate) fn run(workspace: &Workspace) {
    if has_target() {
        return say(&format!("Rust's target {TARGET} is in place"));
    }
    let add = run_shown(Command::new("rustup").args(["target", "add", TARGET]));
    match add {
        Ok(()) if has_target() => return say(&format!("installed Rust's target {TARGET}")),
        Ok(()) => complain(&format!(
            "rustup added {TARGET} to another toolchain than this one"
        )),
        Err(error) => complain(&format!("{error:#}")),
    }
    if clang_compiles() {
        return say("going on with clang for WASI");
    }
    match install_zig(workspace) {
        Ok(zig) => say(&format!("going on with {} for WASI", zig.display())),
        Err(error) => complain(&format!(
            "{error:#}\nno compiler for WASI: the test with the seeds' WebAssembly echo will be skipped"
        )),
    }
}

fn has_target() -> bool {
    let libraries =
        read(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    libraries.is_ok_and(|libraries| Path::new(libraries.trim()).is_dir())
}

/// Returns `true` where clang finds a C library for WASI in the folder that Debian uses.
fn clang_compiles() -> bool {
    let Ok(scratch) = tempfile::tempdir() else {
        return false;
    };
    let source = scratch.path().join("main.c");
    let written = fs::write(
        &source,
        "#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n",
    );
    let mut clang = Command::new("clang");
    clang.args(["--target=wasm32-wasi", "--sysroot=/usr", "-o"]);
    clang.arg(scratch.path().join("main.wasm")).arg(&source);
    written.is_ok() && read(&mut clang).is_ok()
}

/// Unpacks zig into the folder where the test looks for it.
fn install_zig(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let place = workspace.target_dir().join("zig");
    let zig = place.join("ziglang/zig");
    if zig.is_file() {
        return Ok(zig);
    }
    let (os, arch, sha256) = ZIG_WHEEL;
    anyhow::ensure!(
        (os, arch) == (OS, ARCH),
        "no checksum of zig is pinned for {OS} on {ARCH}"
    );
    let scratch = tempfile::tempdir()?;
    let python = python()?;
    let wheel = download(python, scratch.path(), ZIG, sha256)?;
    let unpacked = place.with_extension("new");
    fs::remove_dir_all(&unpacked).ok();
    read(
        Command::new(python)
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(&unpacked),
    )?;
    crate::setup::make_executable(&unpacked.join("ziglang/zig"))?;
    fs::remove_dir_all(&place).ok();
    fs::rename(&unpacked, &place)?;
    Ok(zig)
}
