//! `nex completions`: a script for a shell.

use clap::CommandFactory as _;

use crate::{
    cli::Cli,
    context::Context,
    error::{CommandResult, Exit},
};

/// Prints the script.
pub(crate) fn run(shell: clap_complete::Shell, context: &Context) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nex", &mut script);
    context.printer.bytes(&script)?;
    Ok(Exit::OK)
}
