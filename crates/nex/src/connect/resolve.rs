//! From flags, variables and what runs here to one way to connect. Touches the machine only
//! through [`Outside`].

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use nex_nats::{Auth, ConnectOptions, DEFAULT_SERVER, Reconnect, Tls, split_user};
use nex_protocol::subject::PRIVATE_INBOX;
use nex_server::Phase;

use super::address;
use crate::{cli::NatsArgs, environment::Environment, error::CommandError};

/// What resolving asks of the machine.
pub(super) trait Outside {
    /// The place of a flag's value, for errors: the flag, or the key and the file that it is from.
    fn place(&self, key: &str, flag: &str) -> String;
    /// A context of the NATS CLI.
    fn context(&self, name: &str) -> Result<ConnectOptions, CommandError>;
    /// The text of a file.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// The `nex up` that a command without an address means, if there is one.
    fn running(&self) -> Result<Option<Up>, CommandError>;
    /// Every `nex up` that runs or may come back, those that run first.
    fn known(&self) -> Vec<Up>;
    /// Returns whether the address of a `nex up` has become that of another program.
    fn is_replaced(&self, up: &Up) -> bool;
    /// The addresses of a host's name; none where it is not known.
    fn addresses(&self, host: &str) -> Vec<IpAddr>;
    /// Returns `true` where a program listens at this address of loopback.
    fn listens(&self, address: SocketAddr) -> bool;
}

/// A `nex up` and what it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Up {
    pub(super) data_dir: PathBuf,
    pub(super) phase: Phase,
    /// The address of its server once that is ready; none where its port is not known yet.
    pub(super) access: Option<UpAccess>,
}

/// The address and credentials of the server of a `nex up`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UpAccess {
    pub(super) url: String,
    pub(super) creds: PathBuf,
}

/// A decision how to connect.
#[derive(Debug)]
pub(super) enum Resolved {
    /// To connect to.
    Found(Box<Found>),
    /// The `nex up` that is meant takes no clients at the moment.
    NotReady(Up),
}

/// How to connect, and why so.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) options: ConnectOptions,
    pub(crate) origin: Origin,
    /// Source of the credentials.
    pub(crate) identity: Identity,
    /// Data folder of the `nex up` whose address it is.
    pub(crate) up: Option<PathBuf>,
}

/// Source of the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A flag, typed or from a file, by its key and its name.
    Flag(&'static str, &'static str),
    /// The address has a user in it.
    Address,
    /// A context of the NATS CLI.
    Context(String),
    /// A variable.
    Variable(&'static str),
    /// The `nex up` whose address it is.
    Up,
    /// Nobody said anything.
    Nobody,
}

/// Where the address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A flag.
    Flag,
    /// A configuration file.
    File(String),
    /// A context of the NATS CLI.
    Context(String),
    /// `NATS_URL`.
    Variable,
    /// A running `nex up` and its data folder.
    Up(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("the address was given with `-s`"),
            Self::File(file) => write!(f, "the address is that of `{file}`"),
            Self::Context(name) => write!(f, "the address is that of the context `{name}`"),
            Self::Variable => f.write_str("the address was given with `NATS_URL`"),
            Self::Up(dir) => write!(
                f,
                "the address is that of the `nex up` that runs on {}",
                dir.display()
            ),
            Self::Default => f.write_str(
                "looked there because no flag, no `NATS_URL`, `NATS_CREDS` or `NATS_CONTEXT` says otherwise and no `nex up` runs here",
            ),
        }
    }
}

/// Decides how to connect.
///
/// Address and identity are found apart: each by its flags, then its variables, then the context
/// (before the variables if the context was named by flag), then the running `nex up`. The
/// credentials of a `nex up` are used only for its address, however that was found.
pub(super) fn resolve(
    flags: &NatsArgs,
    env: &Environment,
    outside: &impl Outside,
) -> Result<Resolved, CommandError> {
    let typed: Vec<String> = listed(&flags.servers).collect();
    if typed.is_empty() && !flags.servers.is_empty() {
        return Err(no_server(&outside.place("nats.servers", "-s")));
    }
    let context_by_variable = if typed.is_empty() {
        env.text("NATS_CONTEXT")?
    } else {
        // An address on the command line never gets the credentials of a context that was
        // exported some other day.
        None
    };
    let by_flag = flags.context.is_some();
    let name = flags.context.clone().or(context_by_variable);
    let context_name = name.clone().unwrap_or_default();
    let context = name
        .as_deref()
        .map(|name| outside.context(name))
        .transpose()?
        .unwrap_or_default();

    let variables = Variables::read(env, outside)?;
    let of_context = (!context.servers.is_empty()).then(|| {
        let origin = Origin::Context(name.unwrap_or_default());
        (context.servers.clone(), origin)
    });
    let of_variable =
        (!variables.servers.is_empty()).then_some((variables.servers, Origin::Variable));
    let of_flag = (!typed.is_empty()).then_some((typed, Origin::Flag));
    let named = of_flag.or_else(|| first(by_flag, of_context, of_variable));

    let of_context =
        (context.auth != Auth::None).then_some((context.auth, Identity::Context(context_name)));
    // Whoever the address names is meant for it.
    let (named, of_url) = match named {
        Some((servers, origin)) => {
            let urls = servers.iter().map(|url| split_user(url));
            let (servers, users): (Vec<_>, Vec<_>) = urls.unzip();
            (Some((servers, origin)), users.into_iter().flatten().next())
        }
        None => (None, None),
    };
    let auth = flag_auth(flags)
        .or(of_url.map(|auth| (auth, Identity::Address)))
        .or_else(|| first(by_flag, of_context, variables.auth));

    let (servers, origin, up) = match named {
        Some((servers, origin)) => match own_up(&servers, outside) {
            Some(up) if up.phase == Phase::Ready => (servers, origin, Some(up)),
            Some(up) => return Ok(Resolved::NotReady(up)),
            None => (servers, origin, None),
        },
        None => match outside.running()? {
            Some(up) if up.phase == Phase::Ready => {
                let origin = Origin::Up(up.data_dir.clone());
                (Vec::new(), origin, Some(up))
            }
            Some(up) => return Ok(Resolved::NotReady(up)),
            None => (vec![DEFAULT_SERVER.to_owned()], Origin::Default, None),
        },
    };
    let (auth, mut identity) = match auth {
        Some((auth, identity)) => (Some(auth), identity),
        None => (None, Identity::Nobody),
    };
    let mut inbox_prefix = context.inbox_prefix;
    let (servers, auth, up) = match up {
        Some(Up {
            data_dir,
            access: Some(access),
            ..
        }) => {
            if auth.is_none() {
                // The owner's answers are not for workloads to hear.
                inbox_prefix.get_or_insert_with(|| PRIVATE_INBOX.to_owned());
                identity = Identity::Up;
            }
            let own_creds = auth.is_none() || servers.is_empty();
            let auth = auth.unwrap_or(Auth::CredsFile(access.creds));
            // Its credentials are for no other server, so of several it alone is used.
            let servers = if own_creds { vec![access.url] } else { servers };
            (servers, Some(auth), Some(data_dir))
        }
        _ => (servers, auth, None),
    };
    let tls = Tls {
        ca: flags.tlsca.clone().or(context.tls.ca).or(variables.tls.ca),
        cert: flags
            .tlscert
            .clone()
            .or(context.tls.cert)
            .or(variables.tls.cert),
        key: flags
            .tlskey
            .clone()
            .or(context.tls.key)
            .or(variables.tls.key),
        first: flags.tlsfirst || context.tls.first,
    };
    let default_name = concat!("nex-", env!("CARGO_PKG_VERSION"));
    Ok(Resolved::Found(Box::new(Found {
        options: ConnectOptions {
            servers,
            auth: auth.unwrap_or_default(),
            tls,
            name: flags.conn_name.clone().unwrap_or(default_name.to_owned()),
            reconnect: Reconnect::Command,
            inbox_prefix,
        },
        origin,
        identity,
        up,
    })))
}

fn no_server(place: &str) -> CommandError {
    CommandError::usage(format!("{place} names no server")).hint(
        "for example: `nats://127.0.0.1:4222`; without it the server is found as in docs/cli.md",
    )
}

/// The first `nex up` whose address is among these servers.
fn own_up(servers: &[String], outside: &impl Outside) -> Option<Up> {
    let known = outside.known();
    let port = |up: &Up| address::port(&up.access.as_ref()?.url);
    servers.iter().find_map(|server| {
        let server = address::plain(server)?;
        let own = |up: &&Up| port(up) == Some(server.port()) && !outside.is_replaced(up);
        let named = known.iter().find(own)?;
        address::leads_here(&server, outside).then(|| named.clone())
    })
}

/// The servers of a list that may have blanks and commas to spare.
fn listed<T: AsRef<str>>(servers: impl IntoIterator<Item = T>) -> impl Iterator<Item = String> {
    let servers = servers.into_iter();
    let trimmed = servers.map(|url| url.as_ref().trim().to_owned());
    trimmed.filter(|url| !url.is_empty())
}

/// The context's answer before the variable's if the context was named by flag, else after it.
fn first<T>(context_by_flag: bool, context: Option<T>, variable: Option<T>) -> Option<T> {
    if context_by_flag {
        context.or(variable)
    } else {
        variable.or(context)
    }
}

fn flag_auth(flags: &NatsArgs) -> Option<(Auth, Identity)> {
    if let Some(path) = &flags.creds {
        let identity = Identity::Flag("nats.creds_file", "--nats.creds-file");
        return Some((Auth::CredsFile(path.clone()), identity));
    }
    if let Some(seed) = &flags.seed {
        let seed = seed.clone();
        return Some(match flags.jwt.clone() {
            Some(jwt) => (
                Auth::Jwt { jwt, seed },
                Identity::Flag("nats.jwt", "--nats.jwt"),
            ),
            None => (
                Auth::Nkey { seed },
                Identity::Flag("nats.seed", "--nats.seed"),
            ),
        });
    }
    let auth = user_auth(flags.user.clone()?, flags.password.clone());
    Some((auth, Identity::Flag("nats.user", "--nats.user")))
}

/// A name and a password; a name alone is a token, as for the NATS CLI.
fn user_auth(user: String, password: Option<String>) -> Auth {
    match password {
        Some(password) => Auth::UserPassword { user, password },
        None => Auth::Token(user),
    }
}

/// What the variables of the NATS CLI say.
#[derive(Debug)]
struct Variables {
    servers: Vec<String>,
    auth: Option<(Auth, Identity)>,
    tls: Tls,
}

impl Variables {
    fn read(env: &Environment, outside: &impl Outside) -> Result<Self, CommandError> {
        let path = |name| env.path(name);
        let list = env.text("NATS_URL")?;
        let servers: Vec<String> = list.iter().flat_map(|it| listed(it.split(','))).collect();
        if servers.is_empty() && list.is_some() {
            return Err(no_server("`NATS_URL`"));
        }
        Ok(Self {
            servers,
            auth: Self::auth(env, outside)?,
            tls: Tls {
                ca: path("NATS_CA"),
                cert: path("NATS_CERT"),
                key: path("NATS_KEY"),
                first: false,
            },
        })
    }

    fn auth(
        env: &Environment,
        outside: &impl Outside,
    ) -> Result<Option<(Auth, Identity)>, CommandError> {
        let by = |auth, name| Ok(Some((auth, Identity::Variable(name))));
        if let Some(path) = env.path("NATS_CREDS") {
            return by(Auth::CredsFile(path), "NATS_CREDS");
        }
        if let Some(path) = env.path("NATS_NKEY") {
            let seed = outside.read(&path).map_err(|error| {
                CommandError::usage(format!("failed to read the nkey file `{}`", path.display()))
                    .because(&error)
                    .hint("`NATS_NKEY` names a file with the seed; `--nats.seed` takes the seed itself")
            })?;
            let seed = seed.trim().to_owned();
            return by(Auth::Nkey { seed }, "NATS_NKEY");
        }
        if let Some(user) = env.text("NATS_USER")? {
            return by(user_auth(user, env.text("NATS_PASSWORD")?), "NATS_USER");
        }
        match env.text("NATS_TOKEN")? {
            Some(token) => by(Auth::Token(token), "NATS_TOKEN"),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
