//! Which nexlets a node starts.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use nex_protocol::text::without_mark;
use serde::Deserialize;

/// What the prefix of a file's address is; what follows is its path.
pub(super) const FILE_SCHEME: &str = "file://";

/// What the two commands that run nodes have in common about nexlets.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AgentArgs {
    /// A nexlet of your own that the node starts: {"uri":"file:///opt/acme/nexlet","argv":["-v"],
    /// "env":{"HOME":"/"}}, repeatable; in a configuration file a list of such objects
    #[arg(long, value_name = "JSON")]
    pub(crate) agents: Vec<Agent>,
    /// How often in a row such a nexlet is started again before it is given up; a run of a minute
    /// heals the budget [default: without end]
    #[arg(long, value_name = "COUNT")]
    pub(crate) agent_restart_limit: Option<u32>,
    /// Do not start the built-in nexlet for native workloads
    #[arg(long)]
    pub(crate) disable_native_start: bool,
    /// Do not start the built-in nexlet for JavaScript functions
    #[arg(long)]
    pub(crate) disable_js_start: bool,
    /// Do not start the built-in nexlet for WebAssembly functions
    #[arg(long)]
    pub(crate) disable_wasm_start: bool,
}

impl AgentArgs {
    /// Returns `true` where a flag leaves out the built-in nexlet of a type.
    pub(crate) fn leaves_out(&self, workload_type: &str) -> bool {
        match workload_type {
            "js" => self.disable_js_start,
            "native" => self.disable_native_start,
            "wasm" => self.disable_wasm_start,
            _ => false,
        }
    }
}

/// A nexlet's program, as the Go Nex has it in its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) program: PathBuf,
    pub(crate) argv: Vec<String>,
    /// Its environment; it gets nothing else but what a node tells its nexlets.
    pub(crate) env: Vec<(String, String)>,
}

/// The same, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    uri: String,
    #[serde(default)]
    argv: Option<Vec<String>>,
    #[serde(default)]
    env: Option<std::collections::BTreeMap<String, String>>,
}

impl FromStr for Agent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let written: Written = serde_json::from_str(without_mark(text))
            .map_err(|error| format!("want {{\"uri\":…,\"argv\":[…],\"env\":{{…}}}}: {error}"))?;
        let path = written.uri.strip_prefix(FILE_SCHEME);
        let path = path.unwrap_or(&written.uri);
        if path.is_empty() || path.contains("://") {
            return Err(format!(
                "`{}` is no program of this machine: want `file:///path/to/it`",
                written.uri
            ));
        }
        let env = written.env.unwrap_or_default();
        if let Some(name) = env
            .keys()
            .find(|name| name.is_empty() || name.contains('='))
        {
            return Err(format!("`{name}` is no name of a variable"));
        }
        Ok(Self {
            program: path.into(),
            argv: written.argv.unwrap_or_default(),
            env: env.into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<Agent>().unwrap_err()
    }

    #[test]
    fn an_agent_is_written_as_for_go() {
        let agent: Agent = r#"{"uri":"file:///opt/n","argv":["-v","x y"],"env":{"A":"b"}}"#
            .parse()
            .unwrap();
        let bare: Agent = r#"{"uri":"bin/n","argv":null,"env":null}"#.parse().unwrap();

        assert_eq!(agent.program, PathBuf::from("/opt/n"));
        assert_eq!(agent.argv, ["-v", "x y"]);
        assert_eq!(agent.env, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(bare.program, PathBuf::from("bin/n"));
        assert!(bare.argv.is_empty() && bare.env.is_empty());
    }

    #[test]
    fn what_is_no_agent_is_refused_with_what_was_wanted() {
        assert!(refused(r#"{"uri":"nats://bucket/n"}"#).contains("no program of this machine"));
        assert!(refused(r#"{"uri":""}"#).contains("file:///path"));
        assert!(refused(r#"{"uri":"/n","args":[]}"#).contains("unknown field `args`"));
        assert!(refused(r#"{"uri":"/n","env":{"A=":"b"}}"#).contains("no name of a variable"));
        assert!(refused("/opt/n").contains("\"uri\""));
    }
}
