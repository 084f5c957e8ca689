//! Tells the program which commit it is built from, where that can be known.
//!
//! Only of a release: else each commit would have the program built and linked again. Both are of the
//! commit and not of the build, so that two builds of a commit are the same.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let built_from = release.then(commit).flatten().unwrap_or_default();
    println!("cargo::rustc-env=NEX_BUILT_FROM={built_from}");
}

/// ` (<commit> <its date>)`; `None` outside of a repository, or without git.
fn commit() -> Option<String> {
    let log = git(&[
        "rev-parse",
        "--path-format=absolute",
        "--git-path",
        "logs/HEAD",
    ])?;
    // Whatever moves the head is written there.
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    // An archive may be unpacked inside of somebody else's repository.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(&["log", "-1", "--format=%h %cs", "--abbrev=12"])?;
    Some(format!(" ({commit})"))
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
