//! The command line of Nex: it finds out what a person wants and what the machine offers, has the
//! other crates do it, and tells how it went.
//!
//! ```text
//!   cli.rs          words and flags              environment.rs   variables, folders, terminals
//!   config_file.rs  flags from files
//!   command/        one file for each command    connect.rs       how NATS is found
//!   print.rs        the only way out             error.rs         errors, hints, exit codes
//! ```
//!
//! Only this crate reads the environment, the home folder or the terminal, or chooses an exit code.

mod cli;
mod command;
mod config_file;
mod connect;
mod context;
mod environment;
mod error;
mod host;
mod logging;
mod print;

use std::{
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use clap::error::ErrorKind;
use nex_process::SUPERVISE_ARG;

use crate::{
    cli::{misuse, typography},
    config_file::Misunderstood,
    context::Context,
    environment::Environment,
    error::{CommandError, CommandResult, Kind},
    print::Printer,
};

fn main() -> ExitCode {
    // A supervisor shares its machine with every workload: it starts no thread, reads no
    // arguments and loads nothing else of this binary.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == SUPERVISE_ARG)
    {
        return nex_process::supervisor::main();
    }
    let env = Environment::gather();
    if let Some(code) = host::unpack(&env) {
        return code;
    }
    let args = std::env::args_os().collect();
    let (cli, settings) = match config_file::parse(args, &env.config_files()) {
        Ok(parsed) => parsed,
        Err(Misunderstood::Line(error)) => return misunderstood(&error, &env),
        Err(Misunderstood::File(error) | Misunderstood::Typed(error)) => {
            return finish(Err(error), &Printer::new(json_was_typed(), &env));
        }
    };
    let context = Context::new(env, cli.global).with_settings(settings);
    for note in &context.settings.notes {
        context.printer.note(note);
    }
    let result = guarded(|| command::run(cli.command, &context));
    finish(
        result.map_err(|error| context.settings.explain(error)),
        &context.printer,
    )
}

/// Runs the command; a panic becomes an error that says whose fault it is.
fn guarded(run: impl FnOnce() -> CommandResult) -> CommandResult {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_panic| {
        Err(
            CommandError::new(Kind::Internal, "nex has failed: this is a bug")
                .hint("the lines above say where; `RUST_BACKTRACE=1` says more"),
        )
    })
}

fn finish(result: CommandResult, printer: &Printer) -> ExitCode {
    match result {
        Ok(exit) => ExitCode::from(exit.0),
        Err(error) => {
            let args: Vec<_> = std::env::args_os().collect();
            let error = typography::explain(error, &args);
            printer.error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Whether errors are to be JSON, where the command line was not understood.
fn json_was_typed() -> bool {
    std::env::args_os().any(|arg| arg == "--json")
}

/// A command line that asks for help or the version, or that cannot be used.
fn misunderstood(error: &clap::Error, env: &Environment) -> ExitCode {
    let help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    let json = json_was_typed();
    let lost = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !help && (json || !lost) {
        return finish(Err(misuse::explain(error)), &Printer::new(json, env));
    }
    let printed = error.print().and_then(|()| io::stdout().flush());
    match printed {
        // Help in the place of an error goes to standard error.
        _ if !help => ExitCode::from(Kind::Usage.exit_code()),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => finish(Err(error.into()), &Printer::new(json, env)),
    }
}
