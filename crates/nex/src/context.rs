//! What every command gets: the surroundings, the flags that all take, and the printer.

use std::{sync::OnceLock, time::Duration};

use async_nats::connection::State;
use nex_protocol::Namespace;
use tokio::time::timeout;

use crate::{
    cli::GlobalArgs, config_file::Used, environment::Environment, error::CommandError,
    print::Printer,
};

/// Limit for what a command has published last to leave the process.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) env: Environment,
    pub(crate) global: GlobalArgs,
    pub(crate) printer: Printer,
    /// What configuration files had a part in.
    pub(crate) settings: Used,
    /// The connection of the command, once it has one.
    pub(crate) connection: OnceLock<async_nats::Client>,
}

impl Context {
    /// Makes a printer that fits.
    pub(crate) fn new(env: Environment, global: GlobalArgs) -> Self {
        let printer = Printer::new(global.json, &env);
        Self {
            env,
            global,
            printer,
            settings: Used::default(),
            connection: OnceLock::new(),
        }
    }

    /// The same, where files had a part in the flags.
    pub(crate) fn with_settings(self, settings: Used) -> Self {
        Self { settings, ..self }
    }

    /// Sends what the command has published last, such as the request to delete the consumer of a feed:
    /// nothing leaves the process after the end of its runtime.
    pub(crate) async fn flush(&self) {
        let client = self.connection.get();
        if let Some(client) = client.filter(|it| it.connection_state() == State::Connected) {
            timeout(FLUSH_LIMIT, client.flush()).await.ok();
        }
    }

    /// The namespace that was asked for, by flag or by variable.
    fn asked_namespace(&self) -> Result<Option<Namespace>, CommandError> {
        if let Some(namespace) = &self.global.namespace {
            return Ok(Some(namespace.clone()));
        }
        self.env
            .text("NEX_NAMESPACE")?
            .map(|text| {
                Namespace::new(text)
                    .map_err(|error| CommandError::usage(format!("`NEX_NAMESPACE`: {error}")))
            })
            .transpose()
    }

    /// Where what is deployed goes: `default` unless something else was asked for.
    ///
    /// # Errors
    /// When the variable is no namespace.
    pub(crate) fn deploy_namespace(&self) -> Result<Namespace, CommandError> {
        let asked = self.asked_namespace()?;
        Ok(asked.unwrap_or_else(Namespace::default_tenant))
    }

    /// Where to look: `system`, which sees all, unless something else was asked for.
    ///
    /// # Errors
    /// When the variable is no namespace.
    pub(crate) fn look_namespace(&self) -> Result<Namespace, CommandError> {
        Ok(self.asked_namespace()?.unwrap_or_else(Namespace::system))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(flag: Option<&str>, variables: &[(&str, &str)]) -> Context {
        let global = GlobalArgs {
            namespace: flag.map(|flag| Namespace::new(flag).unwrap()),
            ..GlobalArgs::default()
        };
        Context::new(Environment::fake("/", variables), global)
    }

    #[test]
    fn a_namespace_is_found_by_flag_then_variable_then_default() {
        let variable = [("NEX_NAMESPACE", "env")];
        for (context, deploy, look) in [
            (context(Some("flag"), &variable), "flag", "flag"),
            (context(None, &variable), "env", "env"),
            (context(None, &[]), "default", "system"),
        ] {
            assert_eq!(context.deploy_namespace().unwrap().as_str(), deploy);
            assert_eq!(context.look_namespace().unwrap().as_str(), look);
        }
    }

    #[test]
    fn a_variable_that_is_no_namespace_is_named() {
        let error = context(None, &[("NEX_NAMESPACE", "a.b")])
            .deploy_namespace()
            .unwrap_err();
        assert!(
            error
                .text()
                .contains("`NEX_NAMESPACE`: invalid namespace `a.b`")
        );
    }
}
