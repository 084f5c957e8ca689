//! `~` at the beginning of a path: the home folder. A shell writes it out only at the beginning of a word,
//! so not in `--creds=~/a.creds`, in quotes, in variables of a service manager or in files.

use std::path::{Path, PathBuf};

use nex_nats::below_home;
use serde_json::Value;

use super::{
    Cli, Command, NatsArgs, NexletCommand, NodeCommand, WorkloadCommand, agents::FILE_SCHEME,
};

/// A path with the home folder written out, where there is one.
pub(crate) fn expanded(path: &Path, home: Option<&Path>) -> PathBuf {
    let below = path.to_str().and_then(|path| below_home(path, home));
    below.unwrap_or(path.to_owned())
}

/// Writes out the home folder in all paths of a command line.
pub(crate) fn expand(cli: &mut Cli, home: Option<&Path>) {
    for path in paths(cli) {
        *path = expanded(path, home);
    }
}

/// Writes out the home folder in the address of a start request's artifact, `file://~/…`. Another text
/// stays as it is.
pub(crate) fn in_start_request(run_request: String, home: Option<&Path>) -> String {
    let Ok(mut request) = serde_json::from_str::<Value>(&run_request) else {
        return run_request;
    };
    let path = request["uri"]
        .as_str()
        .and_then(|uri| uri.strip_prefix(FILE_SCHEME));
    let Some(path) = path.filter(|path| path.starts_with('~')) else {
        return run_request;
    };
    let path = expanded(Path::new(path), home);
    request["uri"] = format!("{FILE_SCHEME}{}", path.display()).into();
    request.to_string()
}

fn paths(cli: &mut Cli) -> Vec<&mut PathBuf> {
    let NatsArgs {
        creds,
        tlscert,
        tlskey,
        tlsca,
        ..
    } = &mut cli.global.nats;
    let mut paths: Vec<&mut PathBuf> = [&mut cli.global.config, creds, tlscert, tlskey, tlsca]
        .into_iter()
        .flatten()
        .collect();
    match &mut cli.command {
        Command::Up(args) => {
            paths.extend(
                [&mut args.data_dir, &mut args.nats_server]
                    .into_iter()
                    .flatten(),
            );
            paths.extend(args.agents.agents.iter_mut().map(|it| &mut it.program));
        }
        Command::Devrun(args) => paths.push(&mut args.file),
        Command::Invoke(args) => paths.extend(&mut args.file),
        Command::Workload(args) => match &mut args.command {
            WorkloadCommand::Start(args) => paths.extend(&mut args.nexfile),
            WorkloadCommand::Validate(args) => paths.push(&mut args.nexfile),
            WorkloadCommand::Stop(_)
            | WorkloadCommand::Clone(_)
            | WorkloadCommand::List(_)
            | WorkloadCommand::Info(_) => {}
        },
        Command::Node(args) => match &mut args.command {
            NodeCommand::Up(args) => {
                paths.extend(&mut args.data_dir);
                paths.extend(args.agents.agents.iter_mut().map(|it| &mut it.program));
            }
            NodeCommand::List(_) | NodeCommand::Info(_) | NodeCommand::Lameduck(_) => {}
        },
        Command::Nexlet(args) => match &mut args.command {
            NexletCommand::Run(args) => paths.extend(&mut args.data_dir),
        },
        Command::Req(_)
        | Command::Logs(_)
        | Command::Events(_)
        | Command::Dlq(_)
        | Command::Completions { .. } => {}
    }
    paths
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    const HOME: &str = "/home/ann";

    #[test]
    fn only_a_tilde_by_itself_is_the_home_folder() {
        for (path, wanted) in [
            ("~", "/home/ann"),
            ("~/a.creds", "/home/ann/a.creds"),
            ("~//a.creds", "/home/ann/a.creds"),
            ("~///a//b", "/home/ann/a//b"),
            ("~//", "/home/ann/"),
            ("~bob/a", "~bob/a"),
            ("./~/a", "./~/a"),
            ("/a/~", "/a/~"),
            ("a~", "a~"),
        ] {
            let found = expanded(Path::new(path), Some(Path::new(HOME)));
            assert_eq!(found, Path::new(wanted), "{path}");
        }
        assert_eq!(expanded(Path::new("~/a"), None), Path::new("~/a"));
    }

    #[test]
    fn the_address_of_an_artifact_may_begin_at_home() {
        let expand = |text: &str| in_start_request(text.to_owned(), Some(Path::new(HOME)));
        assert_eq!(
            expand(r#"{"uri":"file://~/web"}"#),
            r#"{"uri":"file:///home/ann/web"}"#
        );
        for same in [
            r#"{ "uri": "file:///a" }"#,
            r#"{"uri":"nats://B/~"}"#,
            "{",
            "[]",
        ] {
            assert_eq!(expand(same), same);
        }
    }

    /// Each flag of each command that is a path, with what the command needs beside it.
    fn flags(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
        for arg in command.get_arguments() {
            let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
            let (Some(long), true) = (arg.get_long(), is_path) else {
                continue;
            };
            // Without effect, or refused.
            if ["resource-directory", "inats-config"].contains(&long) {
                continue;
            }
            let mut line = words.to_vec();
            line.push(format!("--{long}=~/x"));
            found.push(line);
        }
        for inner in command.get_subcommands() {
            if inner.get_name() != "help" {
                let words = [words, &[inner.get_name().to_owned()]].concat();
                flags(inner, &words, found);
            }
        }
    }

    #[test]
    fn every_flag_that_is_a_path_may_begin_at_home() {
        let mut command = Cli::command();
        command.build();
        let mut found = Vec::new();
        flags(&command, &["nex".to_owned()], &mut found);
        assert!(found.len() > 20, "{found:?}");
        for mut line in found {
            let extra: &[&str] = match line[1..].iter().map(String::as_str).collect::<Vec<_>>()[..]
            {
                ["devrun", ..] => &["~/f"],
                ["req" | "invoke", ..] => &["a"],
                ["nexlet", "run", ref flags @ ..] if flags[0].contains("data-dir") => &["js"],
                ["nexlet", "run", ..] => &["js", "--data-dir=~/d"],
                ["completions", ..] => &["bash"],
                ["workload", "stop" | "clone" | "info", ..] => &["a"],
                ["node", "info" | "lameduck", ..] => &["a"],
                ["dlq", "show" | "replay" | "drop", ..] => &["1"],
                [] | [_] | [_, ..] => &[],
            };
            line.extend(extra.iter().map(ToString::to_string));
            for (own, other) in [
                ("--nats.tlscert", "--nats.tlskey"),
                ("--nats.tlskey", "--nats.tlscert"),
            ] {
                if line.iter().any(|word| word.starts_with(own)) {
                    line.push(format!("{other}=~/y"));
                }
            }
            let Ok(mut cli) = Cli::try_parse_from(&line) else {
                // A group without a command.
                assert!(Cli::try_parse_from(&line).is_err());
                let error = Cli::try_parse_from(&line).unwrap_err();
                assert!(error.to_string().contains("Usage"), "{line:?}: {error}");
                continue;
            };
            expand(&mut cli, Some(Path::new(HOME)));
            let shown = format!("{cli:?}");
            assert!(!shown.contains('~'), "{line:?}: {shown}");
        }
    }
}
