//! The commands. Each is a function of its arguments and the [`Context`].

mod completions;
mod devrun;
mod dlq;
mod events;
mod fault;
mod handover;
mod invoke;
mod job;
mod last_lines;
pub(crate) mod logs;
mod nexfile;
mod node_info;
mod node_lameduck;
mod node_list;
mod outage;
mod placement;
mod req;
mod state;
mod types;
mod workload_clone;
mod workload_info;
mod workload_list;
mod workload_start;
mod workload_stop;
mod workload_validate;

use std::future::Future;

use tracing::level_filters::LevelFilter;

use crate::{
    cli::{Command, NatsArgs, NexletCommand, NodeCommand, WorkloadCommand},
    connect,
    context::Context,
    error::{CommandError, CommandResult},
    host, logging,
};

/// Does what the command line says.
pub(crate) fn run(command: Command, context: &Context) -> CommandResult {
    context.global.go.check()?;
    match command {
        Command::Up(args) => {
            own_server(&context.global.nats)?;
            serve(context, host::up(args, context))
        }
        Command::Nexlet(args) => match args.command {
            NexletCommand::Run(args) => serve(context, host::nexlet(args, context)),
        },
        Command::Completions { shell } => completions::run(shell, context),
        Command::Devrun(args) => client(context, devrun::run(args, context)),
        Command::Req(args) => client(context, req::run(args, context)),
        Command::Invoke(args) => client(context, invoke::run(args, context)),
        Command::Logs(args) => client(context, logs::run(args, context)),
        Command::Dlq(args) => client(context, dlq::run(args, context)),
        Command::Events(args) => client(context, events::run(args, context)),
        Command::Workload(args) => match args.command {
            WorkloadCommand::Start(args) => client(context, workload_start::run(args, context)),
            WorkloadCommand::Validate(args) => {
                client(context, workload_validate::run(args, context))
            }
            WorkloadCommand::Stop(args) => client(context, workload_stop::run(args, context)),
            WorkloadCommand::Clone(args) => client(context, workload_clone::run(args, context)),
            WorkloadCommand::List(args) => client(context, workload_list::run(args, context)),
            WorkloadCommand::Info(args) => client(context, workload_info::run(args, context)),
        },
        Command::Node(args) => match args.command {
            NodeCommand::Up(args) => {
                args.go.check()?;
                serve(context, host::node_up(*args, context))
            }
            NodeCommand::List(args) => client(context, node_list::run(args, context)),
            NodeCommand::Info(args) => client(context, node_info::run(args, context)),
            NodeCommand::Lameduck(args) => client(context, node_lameduck::run(args, context)),
        },
    }
}

/// Refuses flags of a NATS that is already there, for a command that starts its own: who names one
/// means that one.
fn own_server(flags: &NatsArgs) -> Result<(), CommandError> {
    if *flags == NatsArgs::default() {
        return Ok(());
    }
    Err(CommandError::usage(
        "`nex up` starts a NATS server of its own: it takes no flags for another",
    )
    .hint("for a node on a NATS that is already there: `nex node up -s URL`"))
}

/// Runs a command that asks over NATS: silent unless logs were asked for.
fn client(context: &Context, command: impl Future<Output = CommandResult>) -> CommandResult {
    logging::init(context, LevelFilter::OFF);
    let command = async {
        let result = command.await;
        context.flush().await;
        result
    };
    on_one_thread(command).map_err(|error| with_unused(error, context))
}

/// Runs a command that stays: what a person must look at is logged, the rest if asked for.
fn serve(context: &Context, command: impl Future<Output = CommandResult>) -> CommandResult {
    logging::init(context, LevelFilter::WARN);
    on_one_thread(command).map_err(|error| with_unused(error, context))
}

/// Adds to a refusal which credentials there are that the command did not use.
fn with_unused(error: CommandError, context: &Context) -> CommandError {
    let unused = error
        .is_refused()
        .then(|| connect::unused_credentials(context));
    match unused.flatten() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn on_one_thread(command: impl Future<Output = CommandResult>) -> CommandResult {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::failed("failed to start").because(&error))?;
    let result = runtime.block_on(command);
    // A read of standard input cannot be called back; nobody waits for it.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::Cli, environment::Environment};

    #[test]
    fn what_would_be_missed_is_refused_before_anything_is_done() {
        use clap::Parser as _;
        for line in ["nex --check node list", "nex node up --events logs"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let context = Context::new(Environment::fake("/", &[]), cli.global);
            let error = run(cli.command, &context).unwrap_err();
            assert_eq!(error.kind().exit_code(), 2, "{}", error.text());
        }
    }

    #[test]
    fn nex_up_is_not_for_a_nats_that_is_already_there() {
        let other = NatsArgs {
            servers: vec!["nats://elsewhere:4222".to_owned()],
            ..NatsArgs::default()
        };

        assert!(own_server(&NatsArgs::default()).is_ok());
        let error = own_server(&other).unwrap_err();
        assert_eq!(error.kind().exit_code(), 2);
        assert!(error.text().contains("`nex node up -s URL`"));
    }
}
