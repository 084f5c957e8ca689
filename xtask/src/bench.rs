//! Measurements of the release build; the `benches` package does them.

use crate::{
    setup,
    shell::{cargo, complain, run as run_shown, show},
    workspace::Workspace,
};
use anyhow::bail;

/// Builds for release and measures. With `--json` there is nothing but the result on standard output;
/// nats-server must have been set up before.
pub(crate) fn run(workspace: &Workspace, args: &[&str]) -> anyhow::Result<()> {
    let mut build = cargo(workspace);
    build.args(["build", "--release", "-p", "nex"]);
    let mut bench = cargo(workspace);
    bench.args(["run", "--release", "-p", "nex-benches", "--"]);
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
