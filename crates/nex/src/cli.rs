//! The command line: its words, flags and their checks. No command does its work here.

pub(crate) mod agents;
pub(crate) mod deploy;
mod dlq;
pub(crate) mod global;
pub(crate) mod go;
pub(crate) mod home;
pub(crate) mod look;
pub(crate) mod misuse;
pub(crate) mod placement;
pub(crate) mod serve;
pub(crate) mod typography;
pub(crate) mod value;

use clap::{Args, Parser, Subcommand};

use crate::error::EXIT_CODES;
pub(crate) use agents::{Agent, AgentArgs};
pub(crate) use deploy::{CloneArgs, DevrunArgs, StartArgs, StopArgs, ValidateArgs};
pub(crate) use dlq::{DlqArgs, DlqCommand, ManyArgs};
pub(crate) use global::{GlobalArgs, NatsArgs};
pub(crate) use look::{
    FeedArgs, InvokeArgs, LogsArgs, NodeInfoArgs, NodeListArgs, ReqArgs, WorkloadInfoArgs,
    WorkloadListArgs,
};
pub(crate) use serve::{
    IssuerArgs, LameduckArgs, NexletArgs, NexletCommand, NexletRunArgs, NodeUpArgs, Reach,
    StateChoice, UpArgs,
};

/// The version, and, where it is known, the commit that this program is built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("NEX_BUILT_FROM"));

/// Turns NATS into the place where your programs run.
#[derive(Debug, Parser)]
#[command(name = "nex", version = VERSION, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a NATS server, a node and its nexlets, with nothing configured
    Up(UpArgs),
    /// Deploy a file: a function or a program, uploaded, placed and started
    Devrun(DevrunArgs),
    /// Start, stop and look at workloads
    #[command(alias = "workloads")]
    Workload(WorkloadArgs),
    /// Run and look at nodes
    Node(NodeArgs),
    /// Send a request and print the reply
    Req(ReqArgs),
    /// Call a function by its name, and print its reply, how long it took and what it wrote
    Invoke(InvokeArgs),
    /// Print what workloads wrote
    Logs(LogsArgs),
    /// Print what happened to nodes, nexlets and workloads
    Events(FeedArgs),
    /// Look at messages that functions failed on, and let functions have them again
    Dlq(DlqArgs),
    /// What nodes start; not for people
    #[command(hide = true)]
    Nexlet(NexletArgs),
    /// Print a script that completes commands in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `nex workload`.
#[derive(Debug, Args)]
pub(crate) struct WorkloadArgs {
    #[command(subcommand)]
    pub(crate) command: WorkloadCommand,
}

/// What to do with workloads.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkloadCommand {
    /// Start a workload from a Nexfile or a start request
    #[command(visible_aliases = ["run", "deploy"])]
    Start(StartArgs),
    /// Check a Nexfile: its form, and its start request with a node
    Validate(ValidateArgs),
    /// Stop a workload, and return when it is dead
    #[command(visible_alias = "undeploy")]
    Stop(StopArgs),
    /// Start another one like a workload that there is
    #[command(visible_aliases = ["cp", "copy"])]
    Clone(CloneArgs),
    /// List workloads
    #[command(visible_alias = "ls")]
    List(WorkloadListArgs),
    /// Print what is known about one workload
    Info(WorkloadInfoArgs),
}

/// `nex node`.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    pub(crate) command: NodeCommand,
}

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Run a node on a NATS that is there
    Up(Box<NodeUpArgs>),
    /// List nodes
    #[command(visible_alias = "ls")]
    List(NodeListArgs),
    /// Print what is known about one node
    Info(NodeInfoArgs),
    /// End a node after a delay; it takes no more work from now on
    #[command(visible_alias = "down")]
    Lameduck(LameduckArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"nex").chain(args))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_line_of_the_slides_is_taken() {
        let cli = parse(&[
            "devrun",
            "./echo.js",
            "--trigger_subject=echo",
            "--type",
            "v8",
        ])
        .unwrap();
        let Command::Devrun(args) = cli.command else {
            panic!("no devrun");
        };
        assert_eq!(args.trigger_subjects[0].as_str(), "echo");
        assert_eq!(args.workload_type.as_deref(), Some("v8"));
    }

    #[test]
    fn the_old_words_still_work() {
        for args in [
            ["workloads", "ls"].as_slice(),
            &["workload", "undeploy", "id"],
            &["workload", "run", "--start-request", "{}"],
            &["workload", "deploy", "--start-request", "{}"],
            &["workload", "cp", "id", "--stop"],
            &["workload", "copy", "id", "--tags", "a=b;c=d"],
            &["node", "ls"],
            &["node", "down", "id", "--delay", "1h", "--tag", "a=b"],
        ] {
            assert!(parse(args).is_ok(), "{args:?}");
        }
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let before = parse(&["--namespace", "a", "--json", "workload", "list"]).unwrap();
        let after = parse(&["workload", "list", "--json", "--namespace", "a"]).unwrap();
        for cli in [before, after] {
            assert!(cli.global.json);
            assert_eq!(cli.global.namespace.unwrap().as_str(), "a");
        }
    }

    #[test]
    fn no_command_shadows_a_global_flag() {
        fn check(command: &clap::Command, globals: &[String], path: &str) {
            let path = format!("{path} {}", command.get_name());
            for flag in globals {
                let has = |arg: &clap::Arg| arg.get_long() == Some(flag);
                assert!(command.get_arguments().any(has), "{path} has no --{flag}");
            }
            for inner in command.get_subcommands() {
                if inner.get_name() != "help" {
                    check(inner, globals, &path);
                }
            }
        }

        let mut command = <Cli as clap::CommandFactory>::command();
        command.build();
        let globals: Vec<String> = command
            .get_arguments()
            .filter(|arg| arg.is_global_set())
            .filter_map(|arg| arg.get_long().map(str::to_owned))
            .collect();
        assert!(globals.contains(&"nats.nkey".to_owned()), "{globals:?}");
        check(&command, &globals, "");
    }

    #[test]
    fn a_bad_flag_value_is_refused_with_what_was_wanted() {
        for (args, wanted) in [
            (
                ["--namespace", "a.b", "workload", "list"],
                "one subject token",
            ),
            (
                ["devrun", "a.js", "--trigger-subject", "$SYS.x"],
                "not for functions",
            ),
            (
                ["devrun", "a.js", "--trigger-subject", "a b"],
                "tokens joined by `.`",
            ),
            (
                ["devrun", "a", "--lifecycle", "daemon"],
                "`service`, `job` or `function`",
            ),
            (["logs", "x", "--since", "5"], "Go duration"),
            (["logs", "x", "--since", "1y"], "or days and weeks"),
        ] {
            let text = parse(&args).unwrap_err().to_string();
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn variables_and_arguments_of_devrun_are_kept_apart() {
        let cli = parse(&["devrun", "./web", "A=1", "B=x=y", "--", "-p", "80"]).unwrap();
        let Command::Devrun(args) = cli.command else {
            panic!("no devrun");
        };
        let variables: Vec<_> = args
            .variables
            .iter()
            .map(|pair| (pair.key.as_str(), pair.value.as_str()))
            .collect();
        assert_eq!(variables, [("A", "1"), ("B", "x=y")]);
        assert_eq!(args.argv, ["-p", "80"]);
        assert!(parse(&["devrun", "./web", "novalue"]).is_err());
    }
}
