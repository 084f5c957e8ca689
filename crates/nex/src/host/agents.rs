//! Nexlets of any other make: from flags to plans of the node.

use nex_node::{ForeignNexlet, NexletPlan};

use super::nexlets;
use crate::{cli::AgentArgs, error::CommandError};

/// The plans for all nexlets that were asked for by `--agents`. As with the Go Nex they run in the
/// node's own working folder.
///
/// # Errors
/// When the working folder or our own executable cannot be found.
pub(super) fn plans(args: &AgentArgs) -> Result<Vec<NexletPlan>, CommandError> {
    if args.agents.is_empty() {
        return Ok(Vec::new());
    }
    let launcher = nexlets::launcher()?;
    let cwd = std::env::current_dir().map_err(|error| {
        CommandError::failed("failed to find the working folder, in which agents run")
            .because(&error)
    })?;
    let plan = |agent: &crate::cli::Agent| {
        NexletPlan::Foreign(ForeignNexlet {
            // A relative path is one of here, not one of wherever its supervisor is.
            program: cwd.join(&agent.program),
            args: agent.argv.clone(),
            env: agent.env.clone(),
            cwd: cwd.clone(),
            restart_limit: args.agent_restart_limit,
            launcher: launcher.clone(),
        })
    };
    Ok(args.agents.iter().map(plan).collect())
}
