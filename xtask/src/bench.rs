//! Measurements of the release build; the `benches` package does them.

use crate::{
    setup,
    shell::{cargo, complain, run as run_shown, show},
    workspace::Workspace,
};
use anyhow::bail;
use std::process::Command;

/// Builds for release and measures. With `--json` there is nothing but the result on standard output;
/// nats-server must have been set up before.
pub(crate) fn run(workspace: &Workspace, args: &[&str]) -> anyhow::Result<()> {
    let mut build = cargo(workspace);
    // Together: apart, each would have dependencies with other features, and build them anew.
    build.args(["build", "--release", "-p", "nex", "-p", "nex-benches"]);
    let mut bench = Command::new(workspace.bin_dir(true).join("nex-benches"));
    bench.args(args);
    if !args.contains(&"--json") {
        setup::run(workspace)?;
        run_shown(&mut build)?;
        return run_shown(&mut bench);
    }
    for command in [&mut build, &mut bench] {
        complain(&format!("$ {}", show(command)));
        let status = command.status()?;
        if !status.success() {
            bail!("`{}` ended with {status}", show(command));
        }
    }
    Ok(())
}
