//! How NATS is found: flags (typed, or from a configuration file), then variables, then a running
//! `nex up`, then 127.0.0.1:4222. Never the context that the person has selected for the NATS CLI:
//! what is deployed somewhere must have been meant for there.

mod address;
mod resolve;
mod running;
mod setting;
mod unused;
mod waiting;

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use nex_client::Client;
use nex_nats::{Cause, ConnectError, Connection, context::ContextError};
use nex_protocol::{Namespace, text::decode};
use nex_server::Phase;

use crate::{
    cli::typography,
    context::Context,
    error::{CommandError, Kind},
};
pub(crate) use resolve::{Found, Origin};
use resolve::{Identity, Outside, Resolved, Up};
use setting::Setting;
pub(crate) use unused::unused_credentials;
use waiting::Waiting;

/// Limit for resolving a host's name, to find out if it is this machine.
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);

/// Limit for a connection over loopback.
const LISTEN_LIMIT: Duration = Duration::from_secs(1);

/// Finds NATS and how to connect to it, without connecting. Waits some seconds for a `nex up` that
/// takes no clients at the moment, and says so.
///
/// # Errors
/// When a flag or variable cannot be used, when several `nex up` run and none is the default, and
/// when the one that is meant did not become ready.
pub(crate) async fn find(context: &Context) -> Result<Found, CommandError> {
    find_after(context, &mut Waiting::default()).await
}

async fn find_after(context: &Context, waiting: &mut Waiting) -> Result<Found, CommandError> {
    let mut found = loop {
        match resolve::resolve(&context.global.nats, &context.env, &Machine(context))? {
            Resolved::NotReady(up) => waiting.on(up, &context.printer).await?,
            // It has ended meanwhile, and may come back; what is at the default address is another.
            Resolved::Found(found) if found.origin == Origin::Default && waiting.has_begun() => {
                waiting.again().await?;
            }
            Resolved::Found(found) => break *found,
        }
    };
    let file = context.settings.origin("nats.servers");
    if let (Origin::Flag, Some(file)) = (&found.origin, file) {
        found.origin = Origin::File(file.to_owned());
    }
    let options = &found.options;
    if found.up.is_some() && options.servers.len() == 1 && options.tls.is_required() {
        // The server of a `nex up` never speaks it.
        let error = ConnectError::Connect {
            servers: options.shown_servers(),
            cause: Cause::NoTls,
            source: None,
        };
        return Err(explain(&error, &found, context));
    }
    Ok(found)
}

/// Connects to the NATS that is found. Where that is a `nex up` whose server does not answer, it is
/// tried again for some seconds.
///
/// # Errors
/// As [`find`], and when it does not answer or does not know us.
pub(crate) async fn connect(context: &Context) -> Result<Connection, CommandError> {
    let mut waiting = Waiting::default();
    loop {
        let found = find_after(context, &mut waiting).await?;
        let error = match nex_nats::connect(&found.options).await {
            Ok(connection) => {
                context.connection.set(connection.client().clone()).ok();
                return Ok(connection);
            }
            Err(error) => error,
        };
        match &found.up {
            // Its owner has not noticed yet, or has no space on disk to write it down.
            Some(data_dir) if is_gone(&error) => {
                let up = Up {
                    data_dir: data_dir.clone(),
                    phase: Phase::Restarting(error.to_string()),
                    access: None,
                };
                waiting.on(up, &context.printer).await?;
            }
            _ => return Err(explain(&error, &found, context)),
        }
    }
}

/// Returns whether no server answers at the address.
fn is_gone(error: &ConnectError) -> bool {
    matches!(
        error,
        ConnectError::Connect {
            cause: Cause::Refused | Cause::Other,
            ..
        }
    )
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
pub(crate) fn explain(error: &ConnectError, found: &Found, context: &Context) -> CommandError {
    let kind = match error {
        ConnectError::Connect {
            cause: Cause::Authorization,
            ..
        } => Kind::Failed,
        ConnectError::Connect {
            cause: Cause::NoTls,
            ..
        } => Kind::Usage,
        ConnectError::Connect { .. } => Kind::Unreachable,
        _ => Kind::Usage,
    };
    let mut told = CommandError::from_error(kind, error);
    if kind == Kind::Failed {
        told = told.refused();
    }
    let setting = Setting::of(error, found, context);
    if let Some(source) = setting.and_then(|setting| setting.source(context)) {
        told = told.cause(match error {
            ConnectError::Connect { .. } => format!("{source} asks for TLS"),
            _ => format!("set by {source}"),
        });
    }
    if matches!(
        error,
        ConnectError::Connect { .. } | ConnectError::InvalidUrl { .. }
    ) {
        told = told.cause(found.origin.to_string());
    }
    if kind == Kind::Failed {
        told = told.cause(credentials(&found.identity, context));
    }
    match error.hint() {
        Some(hint) => told.hint(hint),
        None => match file_error(error) {
            Some(io::ErrorKind::InvalidData) => told.hint("save the file as UTF-8"),
            Some(_) => told.hint("check the path, and who may read the file"),
            None => told,
        },
    }
}

/// The credentials that were not taken, as a sentence about where they come from.
fn credentials(identity: &Identity, context: &Context) -> String {
    let from = match identity {
        Identity::Flag(key, flag) => context.settings.place(key, flag),
        Identity::Address => "the address itself".to_owned(),
        Identity::Context(name) => format!("the context `{name}`"),
        Identity::Variable(name) => format!("`{name}`"),
        Identity::Up => "the running `nex up`".to_owned(),
        Identity::Nobody => {
            return "there are no credentials: no flag, file, variable or context has any"
                .to_owned();
        }
    };
    format!("the credentials are those of {from}")
}

/// The reason for which a file could not be read, where the error is about one.
fn file_error(error: &ConnectError) -> Option<io::ErrorKind> {
    match error {
        ConnectError::ReadCreds { source, .. } => Some(source.kind()),
        _ => None,
    }
}

/// This machine, as far as finding NATS looks at it.
struct Machine<'a>(&'a Context);

impl Outside for Machine<'_> {
    fn place(&self, key: &str, flag: &str) -> String {
        self.0.settings.place(key, flag)
    }

    fn context(&self, name: &str) -> Result<nex_nats::ConnectOptions, CommandError> {
        let env = &self.0.env;
        let dir = env.nats_context_dir()?;
        nex_nats::context::load_with_home(&dir, env.home(), name).map_err(|error| {
            let place = match &self.0.global.nats.context {
                Some(_) => self.place("nats.context", "--nats.context"),
                None => "`NATS_CONTEXT`".to_owned(),
            };
            let told = CommandError::from_error(Kind::Usage, &error);
            let mut told = told.cause(format!("the context is named by {place}"));
            if let ContextError::Parse { source, .. } = &error {
                let file = nex_nats::context::file(&dir, name).ok();
                let text = file.and_then(|file| self.read(&file).ok());
                let note =
                    typography::note(&text.unwrap_or_default(), source.line(), source.column());
                told = note.into_iter().fold(told, CommandError::cause);
            }
            match error.hint() {
                Some(hint) => told.hint(hint),
                None => told,
            }
        })
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        Ok(decode(std::fs::read(path)?)?)
    }

    fn running(&self) -> Result<Option<Up>, CommandError> {
        running::choose(&self.0.env)
    }

    fn known(&self) -> Vec<Up> {
        running::known(&self.0.env)
    }

    fn is_replaced(&self, up: &Up) -> bool {
        running::is_replaced(up)
    }

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let (found_tx, found_rx) = mpsc::sync_channel(1);
        let host = host.to_owned();
        // The system's resolver has no time limit.
        thread::spawn(move || {
            let found = (host.as_str(), 0).to_socket_addrs();
            let ips = found.map(|found| found.map(|address| address.ip()).collect());
            found_tx.send(ips.unwrap_or_default()).ok();
        });
        found_rx.recv_timeout(LOOKUP_LIMIT).unwrap_or_default()
    }

    fn listens(&self, address: SocketAddr) -> bool {
        TcpStream::connect_timeout(&address, LISTEN_LIMIT).is_ok()
    }
}
