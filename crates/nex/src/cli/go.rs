//! Flags of Go Nex that have no meaning here. Those that can be left without effect are taken and
//! not shown, so that scripts go on; those whose effect would be missed are refused, with what to
//! do instead.

use std::path::PathBuf;

use clap::Args;

use crate::error::CommandError;

/// Flags that every command of Go Nex takes.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct GoArgs {
    /// Refused: in Go Nex every command fails with it
    #[arg(long, global = true, hide = true)]
    check: bool,
    /// Without effect, also in Go Nex
    #[arg(long, global = true, hide = true)]
    disable_upgrade_check: bool,
    /// Without effect, also in Go Nex
    #[arg(long, global = true, hide = true)]
    auto_upgrade: bool,
    /// Without effect, also in Go Nex
    #[arg(long, global = true, hide = true)]
    dev_mode: bool,
    /// Refused but for `std`: logs go to standard error
    #[arg(
        long = "logger.target",
        global = true,
        hide = true,
        value_name = "std",
        value_delimiter = ','
    )]
    logger_target: Vec<String>,
    /// Without effect: a terminal gets colours
    #[arg(long = "logger.color", global = true, hide = true)]
    logger_color: bool,
    /// Without effect
    #[arg(long = "logger.short", global = true, hide = true)]
    logger_short: bool,
    /// Without effect
    #[arg(long = "logger.with-pid", global = true, hide = true)]
    logger_with_pid: bool,
    /// Without effect
    #[arg(long = "logger.group-on-right", global = true, hide = true)]
    logger_group_on_right: bool,
    /// Without effect
    #[arg(long = "logger.line-info", global = true, hide = true)]
    logger_line_info: bool,
    /// Without effect: times are RFC 3339
    #[arg(
        long = "logger.timefmt",
        global = true,
        hide = true,
        value_name = "FORMAT"
    )]
    logger_timefmt: Option<String>,
    /// Without effect, also in Go Nex
    #[arg(
        long = "nats.jsdomain",
        global = true,
        hide = true,
        value_name = "DOMAIN"
    )]
    nats_jsdomain: Option<String>,
}

impl GoArgs {
    /// Whether nothing was asked for whose effect would be missed.
    ///
    /// # Errors
    /// Says what to do instead.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        if self.check {
            return Err(CommandError::usage("there is no `--check`").hint(
                "`nex workload validate` checks a Nexfile; `nex node list` whether nodes answer",
            ));
        }
        let elsewhere = self.logger_target.iter().find(|target| *target != "std");
        if let Some(target) = elsewhere {
            return Err(CommandError::usage(format!(
                "there is no `--logger.target {}`: logs go to standard error",
                target.escape_debug()
            ))
            .hint("`2>nex.log` writes them to a file"));
        }
        Ok(())
    }
}

/// Flags that `nex node up` of Go Nex takes.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct GoNodeArgs {
    /// Print what the workloads of this node write, as `nex logs -f` does
    #[arg(long)]
    pub(crate) show_workload_logs: bool,
    /// Without effect, also in Go Nex; `--data-dir` is the folder
    #[arg(long, hide = true, value_name = "DIR")]
    resource_directory: Option<PathBuf>,
    /// Refused but for `nats`: events are always published
    #[arg(long, hide = true, value_name = "nats")]
    events: Option<String>,
    /// Refused: `nex up` runs a server
    #[arg(long, hide = true, value_name = "FILE")]
    inats_config: Option<PathBuf>,
}

impl GoNodeArgs {
    /// Whether nothing was asked for whose effect would be missed.
    ///
    /// # Errors
    /// Says what to do instead.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        if self.inats_config.is_some() {
            return Err(CommandError::usage(
                "`nex node up` runs no server: there is no `--inats-config`",
            )
            .hint(
                "`nex up` runs one; else start it by `nats-server -c FILE`, and name it with `-s`",
            ));
        }
        match self.events.as_deref() {
            None | Some("" | "nats") => Ok(()),
            Some(other) => Err(CommandError::usage(format!(
                "there is no `--events {}`: events are published on NATS",
                other.escape_debug()
            ))
            .hint("`nex events -f` prints them")),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::{Cli, Command, NodeCommand};

    /// What becomes of a line that Go Nex takes: nothing is said, or what is said.
    fn taken(line: &str) -> Result<(), String> {
        let args = std::iter::once("nex").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(args).map_err(|error| error.to_string())?;
        cli.global.go.check().map_err(|error| error.text())?;
        match cli.command {
            Command::Node(node) => match node.command {
                NodeCommand::Up(up) => up.go.check().map_err(|error| error.text()),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Each command, alias and flag of the command line of Go Nex.
    const TAKEN: &str = r#"
        node up
        node up --nexus lab --node-name n1 --tags a=b --tags c=d;e=f --auction-ttl 5s
        node up --node-seed SN --node-xkey-seed SX
        node up --disable-native-start --agent-restart-limit 3
        node up --agents {"uri":"file:///opt/nexlet","argv":["-v"],"env":{"A":"b"}}
        node up --allow-remote-agent-registration --show-workload-logs
        node up --resource-directory /var/lib/nex --state kv --events nats
        node up --issuer-signing-key SA --issuer-signing-key-root-account A
        node up --issuer-nkey U --issuer-nkey-seed SU
        node lameduck N --delay 5m --tag a=b
        node down N
        node list --filter a=b;c=d
        node ls --json
        node info N --full
        workload start --start-request {} --tags a=b --type native --name web --description d --lifecycle service
        workload run --start-request {} --lifecycle function
        workload deploy --nexfile web.yaml --lifecycle job
        workload start -f -
        workload stop W
        workload undeploy W
        workload list --type native --show-metadata --filter a,b --filter c
        workload ls
        workload clone W --tags a=b --stop
        workload cp W
        workload copy W
        workloads ls
        --config nex.json --namespace shop --json workload ls
        --disable-upgrade-check --auto-upgrade --dev-mode node ls
        node ls --disable-upgrade-check --auto-upgrade --dev-mode
        node ls --logger.target std -l trace
        node ls --logger.level fatal --logger.color --logger.short --logger.with-pid
        node ls --logger.group-on-right --logger.line-info --logger.timefmt RFC3339
        node ls --nats.context lab
        node ls -s nats://a:4222,nats://b:4222 --nats.servers nats://c:4222
        node ls --nats.nkey U --nats.seed SU
        node ls --nats.jwt J --nats.seed SU
        node ls --nats.user ann --nats.password secret
        node ls --nats.creds-file a.creds --nats.tlsca ca.pem --nats.tlscert c.pem --nats.tlskey k.pem
        node ls --nats.tlsfirst --nats.jsdomain hub --nats.conn-name me --nats.timeout 5s
    "#;

    #[test]
    fn what_go_takes_is_taken() {
        for line in TAKEN.lines().map(str::trim).filter(|line| !line.is_empty()) {
            assert_eq!(taken(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_would_be_missed_is_refused_with_what_to_do() {
        for (line, hint) in [
            ("--check node ls", "nex workload validate"),
            ("node ls --logger.target std,file", "2>nex.log"),
            ("node up --logger.target nats", "standard error"),
            ("node up --events logs", "nex events -f"),
            ("node up --inats-config server.conf", "nex up"),
        ] {
            let refused = taken(line).unwrap_err();
            assert!(refused.contains("\nhint: "), "{line}: {refused}");
            assert!(refused.contains(hint), "{line}: {refused}");
        }
    }

    #[test]
    fn what_has_no_effect_is_not_shown() {
        fn hidden(command: &clap::Command, flag: &str) -> Option<bool> {
            let own = command.get_arguments();
            let own = own.filter(|arg| arg.get_long() == Some(flag));
            let inner = command.get_subcommands();
            own.map(clap::Arg::is_hide_set)
                .chain(inner.filter_map(|command| hidden(command, flag)))
                .reduce(|all, one| all && one)
        }

        let command = <Cli as clap::CommandFactory>::command();
        for flag in ["dev-mode", "logger.color", "nats.jsdomain", "inats-config"] {
            assert_eq!(hidden(&command, flag), Some(true), "{flag}");
        }
        assert_eq!(hidden(&command, "nats.servers"), Some(false));
    }
}
