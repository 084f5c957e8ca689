//! All tests, and what they need first.

use crate::{
    setup,
    shell::{cargo, run as run_shown, say},
    workspace::Workspace,
};
use std::fs;

/// Runs every test of the workspace, documentation tests too.
pub(crate) fn run(workspace: &Workspace, args: &[&str]) -> anyhow::Result<()> {
    setup::run(workspace)?;
    // System tests drive the real programs, which `cargo test` alone would not build.
    run_shown(cargo(workspace).args(["build", "--workspace", "--bins"]))?;

    let scratch = tempfile::tempdir()?;
    let skips = scratch.path().join("skips");
    let tested = run_shown(
        cargo(workspace)
            .args(["test", "--workspace"])
            .args(args)
            .env(nex_testkit::SKIPS_FILE, &skips)
            .env("NEX_TEST_BIN_DIR", workspace.bin_dir(false)),
    );

    let skips = fs::read_to_string(&skips).unwrap_or_default();
    if !skips.is_empty() {
        say(&format!(
            "\ntests that could not run here:\n{}",
            skips.trim_end()
        ));
    }
    tested
}
