//! Measurements of the release build; the `benches` package does them.

use crate::{
    setup,
    shell::{cargo, run as run_shown},
    workspace::Workspace,
};

/// Builds for release and measures.
pub(crate) fn run(workspace: &Workspace, args: &[&str]) -> anyhow::Result<()> {
    setup::run(workspace)?;
    run_shown(cargo(workspace).args(["build", "--release", "-p", "nex"]))?;
    run_shown(
        cargo(workspace)
            .args(["run", "--release", "-p", "nex-benches", "--"])
            .args(args),
    )
}
