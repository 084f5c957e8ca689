//! Everything that must hold before a change is merged, in the order in which failures come cheapest.

use crate::{
    arrows, demo, fuzz,
    shell::{cargo, complain, read, run as run_shown, say},
    test,
    workspace::Workspace,
};

/// Runs all checks; the first failure ends it.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    run_shown(cargo(workspace).args(["fmt", "--all", "--check"]))?;
    say("crates use each other only as the architecture says");
    arrows::check(workspace)?;
    run_shown(cargo(workspace).args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    run_shown(
        cargo(workspace)
            .args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    deny(workspace)?;
    fuzz::run(workspace)?;
    test::run(workspace, &[])?;
    demo::run(workspace, false)
}

/// Holds dependencies to `deny.toml`, where the tool is installed.
fn deny(workspace: &Workspace) -> anyhow::Result<()> {
    if read(cargo(workspace).args(["deny", "--version"])).is_err() {
        complain("SKIPPED: cargo deny is not installed; licences and sources are not checked");
        return Ok(());
    }
    run_shown(cargo(workspace).args(["deny", "check", "bans", "licenses", "sources"]))
}
