//! How NATS is found: flags (typed, or from a configuration file), then variables, then a running
//! `nex up`, then 127.0.0.1:4222. Never the context that the person has selected for the NATS CLI:
//! what is deployed somewhere must have been meant for there.

mod resolve;
mod running;

use std::{io, path::Path};

use nex_client::Client;
use nex_nats::{Cause, ConnectError, Connection};
use nex_protocol::Namespace;

use crate::{
    context::Context,
    error::{CommandError, Kind},
};
use resolve::Outside;
pub(crate) use resolve::{Found, Origin};

/// Finds NATS and how to connect to it, without connecting.
///
/// # Errors
/// When a flag or variable cannot be used, or several `nex up` run and none is the default.
pub(crate) fn find(context: &Context) -> Result<Found, CommandError> {
    let mut found = resolve::resolve(&context.global.nats, &context.env, &Machine(context))?;
    let file = context.settings.origin("nats.servers");
    if let (Origin::Flag, Some(file)) = (&found.origin, file) {
        found.origin = Origin::File(file.to_owned());
    }
    Ok(found)
}

/// Connects to the NATS that is found.
///
/// # Errors
/// As [`find`], and when it does not answer or does not know us.
pub(crate) async fn connect(context: &Context) -> Result<Connection, CommandError> {
    let found = find(context)?;
    nex_nats::connect(&found.options)
        .await
        .map_err(|error| explain(&error, &found.origin))
}

/// Connects and speaks for a namespace.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn client(
    context: &Context,
    namespace: Namespace,
) -> Result<Client, CommandError> {
    Ok(Client::new(connect(context).await?, namespace))
}

/// Makes an error of a connection one for people: what they wrote, why NATS was looked for there.
pub(crate) fn explain(error: &ConnectError, origin: &Origin) -> CommandError {
    let kind = match error {
        ConnectError::Connect {
            cause: Cause::Authorization,
            ..
        } => Kind::Failed,
        ConnectError::Connect { .. } => Kind::Unreachable,
        _ => Kind::Usage,
    };
    let mut told = CommandError::from_error(kind, error);
    if kind != Kind::Usage {
        told = told.cause(origin.to_string());
    }
    match error.hint() {
        Some(hint) => told.hint(hint),
        None if is_of_a_file(error) => told.hint("check the path, and who may read the file"),
        None => told,
    }
}

/// Whether a file could not be read.
fn is_of_a_file(error: &ConnectError) -> bool {
    let source = std::error::Error::source(error);
    !matches!(error, ConnectError::Connect { .. })
        && source.is_some_and(<dyn std::error::Error>::is::<io::Error>)
}

/// This machine, as far as finding NATS looks at it.
struct Machine<'a>(&'a Context);

impl Outside for Machine<'_> {
    fn context(&self, name: &str) -> Result<nex_nats::ConnectOptions, CommandError> {
        let env = &self.0.env;
        let dir = env.nats_context_dir()?;
        nex_nats::context::load_with_home(&dir, env.home(), name).map_err(|error| {
            let told = CommandError::from_error(Kind::Usage, &error);
            match error.hint() {
                Some(hint) => told.hint(hint),
                None => told,
            }
        })
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn running(&self) -> Result<Option<resolve::Up>, CommandError> {
        running::choose(&self.0.env)
    }
}
