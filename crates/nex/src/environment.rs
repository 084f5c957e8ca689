//! What the process was given from outside: variables, folders, terminals. Gathered once, in
//! `main`; everything else takes it as an argument, and tests make one up.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use crate::{cli::home, config_file::Locations, error::CommandError};

/// The surroundings of the process.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    variables: HashMap<OsString, OsString>,
    home: Option<PathBuf>,
    /// Which streams are terminals.
    pub(crate) terminals: Terminals,
}

/// Which of the standard streams a person sits at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terminals {
    /// Standard input.
    pub(crate) stdin: bool,
    /// Standard output.
    pub(crate) stdout: bool,
    /// Standard error.
    pub(crate) stderr: bool,
}

impl Environment {
    /// Looks at the process. The only place that does.
    pub(crate) fn gather() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            home: std::env::home_dir().filter(|home| home.is_absolute()),
            terminals: Terminals {
                stdin: std::io::stdin().is_terminal(),
                stdout: std::io::stdout().is_terminal(),
                stderr: std::io::stderr().is_terminal(),
            },
        }
    }

    /// A variable; an empty one counts as absent. The carriage return that a file of variables with the line
    /// breaks of Windows leaves at its end is no part of it.
    pub(crate) fn var(&self, name: &str) -> Option<&OsStr> {
        let value = self.variables.get(OsStr::new(name))?;
        let text = value.to_str().and_then(|text| text.strip_suffix('\r'));
        let value = text.map_or(value.as_os_str(), OsStr::new);
        Some(value).filter(|value| !value.is_empty())
    }

    /// A variable that names a file; `~` stands for the home folder.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        let path = self.var(name).map(Path::new);
        path.map(|path| home::expanded(path, self.home()))
    }

    /// A variable as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, CommandError> {
        self.var(name)
            .map(|value| {
                value.to_str().map(str::to_owned).ok_or_else(|| {
                    CommandError::usage(format!("the environment variable `{name}` is not UTF-8"))
                })
            })
            .transpose()
    }

    /// The user's home folder, where there is one.
    pub(crate) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// The folder of a kind after the XDG rules: the variable if it is an absolute path, else a
    /// folder below the home.
    fn xdg(&self, variable: &str, below_home: &str) -> Result<PathBuf, CommandError> {
        if let Some(folder) = self.var(variable).map(Path::new)
            && folder.is_absolute()
        {
            return Ok(folder.to_owned());
        }
        let home = self.home.as_ref().ok_or_else(|| {
            CommandError::failed("failed to find your home folder")
                .hint(format!("set `HOME`, or `{variable}` to an absolute path"))
        })?;
        Ok(home.join(below_home))
    }

    /// Where configuration files are looked for.
    pub(crate) fn config_files(&self) -> Locations {
        let user = self.xdg("XDG_CONFIG_HOME", ".config").ok();
        Locations {
            system: PathBuf::from("/etc/nex/config.json"),
            user: user.map(|folder| folder.join("nex/config.json")),
            working: PathBuf::from("config.json"),
            home: self.home.clone(),
        }
    }

    /// Where `nex up` keeps its data unless it is told otherwise.
    ///
    /// # Errors
    /// When there is no home folder.
    pub(crate) fn default_up_dir(&self) -> Result<PathBuf, CommandError> {
        Ok(self.xdg("XDG_DATA_HOME", ".local/share")?.join("nex/up"))
    }

    /// Where `nex node up` keeps its identity unless it is told otherwise.
    ///
    /// # Errors
    /// When there is no home folder.
    pub(crate) fn default_node_dir(&self) -> Result<PathBuf, CommandError> {
        Ok(self.xdg("XDG_DATA_HOME", ".local/share")?.join("nex/node"))
    }

    /// Where a remote nexlet keeps its files unless it is told.
    ///
    /// # Errors
    /// When there is no home folder.
    pub(crate) fn default_nexlet_dir(&self, workload_type: &str) -> Result<PathBuf, CommandError> {
        let data = self.xdg("XDG_DATA_HOME", ".local/share")?;
        Ok(data.join("nex/nexlets").join(workload_type))
    }

    /// Where each running `nex up` leaves a pointer to its data folder.
    ///
    /// # Errors
    /// When there is no home folder.
    pub(crate) fn up_registry_dir(&self) -> Result<PathBuf, CommandError> {
        Ok(self.xdg("XDG_STATE_HOME", ".local/state")?.join("nex/up"))
    }

    /// Where the NATS CLI keeps its contexts.
    ///
    /// # Errors
    /// When there is no home folder.
    pub(crate) fn nats_context_dir(&self) -> Result<PathBuf, CommandError> {
        Ok(self.xdg("XDG_CONFIG_HOME", ".config")?.join("nats/context"))
    }

    /// Whether colours are wanted on a stream that is (or is not) a terminal.
    pub(crate) fn wants_colour(&self, terminal: bool) -> bool {
        let dumb = self.var("TERM").is_some_and(|term| term == "dumb");
        terminal && !dumb && self.var("NO_COLOR").is_none()
    }
}

#[cfg(test)]
impl Environment {
    /// A made-up environment with a home and these variables.
    pub(crate) fn fake(home: &str, variables: &[(&str, &str)]) -> Self {
        Self {
            variables: variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            home: Some(home.into()),
            terminals: Terminals::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_follow_the_xdg_rules() {
        let plain = Environment::fake("/home/ann", &[]);
        let moved = Environment::fake("/home/ann", &[("XDG_STATE_HOME", "/state")]);
        let relative = Environment::fake("/home/ann", &[("XDG_STATE_HOME", "state")]);

        let registry = |env: &Environment| env.up_registry_dir().unwrap();
        let default = Path::new("/home/ann/.local/state/nex/up");
        assert_eq!(registry(&plain), default);
        assert_eq!(registry(&moved), Path::new("/state/nex/up"));
        assert_eq!(registry(&relative), default);
    }

    #[test]
    fn an_empty_variable_is_absent() {
        let env = Environment::fake("/", &[("NATS_URL", "")]);
        assert_eq!(env.var("NATS_URL"), None);
        let env = Environment::fake("/", &[("NATS_URL", "nats://a:1\r"), ("NATS_CA", "\r")]);
        assert_eq!(env.text("NATS_URL").unwrap().as_deref(), Some("nats://a:1"));
        assert_eq!(env.var("NATS_CA"), None);
    }

    #[test]
    fn without_a_home_the_error_says_what_to_set() {
        let error = Environment::default().default_up_dir().unwrap_err();
        assert!(error.text().contains("set `HOME`"), "{}", error.text());
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let colour =
            |variables: &[_], terminal| Environment::fake("/", variables).wants_colour(terminal);
        assert!(colour(&[], true));
        assert!(!colour(&[], false));
        assert!(!colour(&[("NO_COLOR", "1")], true));
        assert!(!colour(&[("TERM", "dumb")], true));
    }
}
