//! From flags, variables and what runs here to one way to connect. Touches the machine only
//! through [`Outside`].

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use nex_nats::{Auth, ConnectOptions, DEFAULT_SERVER, Reconnect, Tls, split_user};
use nex_protocol::subject::PRIVATE_INBOX;
use nex_server::Phase;

use super::address;
use crate::{cli::NatsArgs, environment::Environment, error::CommandError};

/// What resolving asks of the machine.
pub(super) trait Outside {
    /// A context of the NATS CLI.
    fn context(&self, name: &str) -> Result<ConnectOptions, CommandError>;
    /// The text of a file.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// The `nex up` that a command without an address means, if there is one.
    fn running(&self) -> Result<Option<Up>, CommandError>;
    /// Every `nex up` whose server may be reached now.
    fn live(&self) -> Vec<Up>;
    /// Whether a program listens on this port of `::1`.
    fn listens_on_ipv6(&self, port: u16) -> bool;
}

/// A `nex up` and what it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Up {
    pub(super) data_dir: PathBuf,
    pub(super) phase: Phase,
    /// How to reach its server; none while it starts for the first time.
    pub(super) access: Option<UpAccess>,
}

/// How to reach the server of a `nex up`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UpAccess {
    pub(super) url: String,
    pub(super) creds: PathBuf,
}

/// A decision how to connect.
#[derive(Debug)]
pub(super) enum Resolved {
    /// To connect to.
    Found(Found),
    /// The `nex up` that is meant takes no clients at the moment.
    NotReady(Up),
}

/// How to connect, and why so.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) options: ConnectOptions,
    pub(crate) origin: Origin,
    /// Data folder of the `nex up` whose address it is.
    pub(crate) up: Option<PathBuf>,
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
        return Err(CommandError::usage("`-s` names no server")
            .hint("for example: `-s nats://127.0.0.1:4222`; without it the server is found as in docs/cli.md"));
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

    let of_context = (context.auth != Auth::None).then_some(context.auth);
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
        .or(of_url)
        .or_else(|| first(by_flag, of_context, variables.auth));

    let (servers, origin, up) = match named {
        Some((servers, origin)) => match own_up(&servers, outside) {
            Some(up) if matches!(up.phase, Phase::Restarting(_)) => {
                return Ok(Resolved::NotReady(up));
            }
            Some(up) => (servers, origin, Some(up)),
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
    Ok(Resolved::Found(Found {
        options: ConnectOptions {
            servers,
            auth: auth.unwrap_or_default(),
            tls,
            name: flags.conn_name.clone().unwrap_or(default_name.to_owned()),
            reconnect: Reconnect::Command,
            inbox_prefix,
        },
        origin,
        up,
    }))
}

/// The first live `nex up` whose address is among these servers.
fn own_up(servers: &[String], outside: &impl Outside) -> Option<Up> {
    let live = outside.live();
    let port = |up: &Up| address::port(&up.access.as_ref()?.url);
    servers.iter().find_map(|server| {
        let named = address::loopback_port(server, |port| outside.listens_on_ipv6(port))?;
        live.iter().find(|up| port(up) == Some(named)).cloned()
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

fn flag_auth(flags: &NatsArgs) -> Option<Auth> {
    if let Some(path) = &flags.creds {
        return Some(Auth::CredsFile(path.clone()));
    }
    if let Some(seed) = &flags.seed {
        return Some(match &flags.jwt {
            Some(jwt) => Auth::Jwt {
                jwt: jwt.clone(),
                seed: seed.clone(),
            },
            None => Auth::Nkey { seed: seed.clone() },
        });
    }
    flags
        .user
        .clone()
        .map(|user| user_auth(user, flags.password.clone()))
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
    auth: Option<Auth>,
    tls: Tls,
}

impl Variables {
    fn read(env: &Environment, outside: &impl Outside) -> Result<Self, CommandError> {
        let path = |name| env.path(name);
        let servers = env.text("NATS_URL")?.unwrap_or_default();
        Ok(Self {
            servers: listed(servers.split(',')).collect(),
            auth: Self::auth(env, outside)?,
            tls: Tls {
                ca: path("NATS_CA"),
                cert: path("NATS_CERT"),
                key: path("NATS_KEY"),
                first: false,
            },
        })
    }

    fn auth(env: &Environment, outside: &impl Outside) -> Result<Option<Auth>, CommandError> {
        if let Some(path) = env.path("NATS_CREDS") {
            return Ok(Some(Auth::CredsFile(path)));
        }
        if let Some(path) = env.path("NATS_NKEY") {
            let seed = outside.read(&path).map_err(|error| {
                CommandError::usage(format!("failed to read the nkey file `{}`", path.display()))
                    .because(&error)
                    .hint("`NATS_NKEY` names a file with the seed; `--nats.seed` takes the seed itself")
            })?;
            return Ok(Some(Auth::Nkey {
                seed: seed.trim().to_owned(),
            }));
        }
        if let Some(user) = env.text("NATS_USER")? {
            return Ok(Some(user_auth(user, env.text("NATS_PASSWORD")?)));
        }
        Ok(env.text("NATS_TOKEN")?.map(Auth::Token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with the context `prod`, one nkey file, and perhaps a `nex up`.
    struct Fake {
        up: bool,
    }

    impl Outside for Fake {
        fn context(&self, name: &str) -> Result<ConnectOptions, CommandError> {
            if name != "prod" {
                return Err(CommandError::usage("no such context"));
            }
            Ok(ConnectOptions {
                servers: vec!["nats://prod:4222".into()],
                auth: Auth::CredsFile("/prod.creds".into()),
                ..ConnectOptions::default()
            })
        }

        fn read(&self, _path: &Path) -> io::Result<String> {
            Ok("SUSEED\n".into())
        }

        fn running(&self) -> Result<Option<Up>, CommandError> {
            Ok(self.live().pop())
        }

        fn live(&self) -> Vec<Up> {
            let up = Up {
                data_dir: "/up".into(),
                phase: Phase::Ready,
                access: Some(UpAccess {
                    url: "nats://127.0.0.1:5000".into(),
                    creds: "/up/cli.creds".into(),
                }),
            };
            let default = Up {
                data_dir: "/default".into(),
                access: Some(UpAccess {
                    url: DEFAULT_SERVER.into(),
                    creds: "/default/cli.creds".into(),
                }),
                ..up.clone()
            };
            if self.up {
                vec![default, up]
            } else {
                Vec::new()
            }
        }

        fn listens_on_ipv6(&self, port: u16) -> bool {
            port == 4222
        }
    }

    fn found(flags: &[&str], variables: &[(&str, &str)], up: bool) -> Found {
        use clap::Parser as _;
        let line = ["nex", "events"].iter().chain(flags);
        let cli = crate::cli::Cli::try_parse_from(line).unwrap();
        let env = Environment::fake("/home/ann", variables);
        match resolve(&cli.global.nats, &env, &Fake { up }).unwrap() {
            Resolved::Found(found) => found,
            Resolved::NotReady(up) => panic!("{up:?}"),
        }
    }

    fn summary(found: &Found) -> (String, Auth) {
        (found.options.servers.join(","), found.options.auth.clone())
    }

    fn creds(path: &str) -> Auth {
        Auth::CredsFile(path.into())
    }

    #[test]
    fn each_source_comes_before_the_next() {
        let url = ("NATS_URL", "nats://env:1, nats://env:2");
        let by_flag = found(&["-s", "nats://flag:1"], &[url], true);
        let by_variable = found(&[], &[url], true);
        let by_up = found(&[], &[], true);
        let by_default = found(&[], &[], false);

        assert_eq!(summary(&by_flag), ("nats://flag:1".into(), Auth::None));
        assert_eq!(by_flag.origin, Origin::Flag);
        assert_eq!(
            summary(&by_variable),
            ("nats://env:1,nats://env:2".into(), Auth::None)
        );
        assert_eq!(
            summary(&by_up),
            ("nats://127.0.0.1:5000".into(), creds("/up/cli.creds"))
        );
        assert_eq!(by_up.origin, Origin::Up("/up".into()));
        assert_eq!(summary(&by_default), (DEFAULT_SERVER.into(), Auth::None));
        assert_eq!(by_default.origin, Origin::Default);
    }

    #[test]
    fn a_context_by_flag_stands_above_the_variables() {
        let variables = [("NATS_URL", "nats://env:1"), ("NATS_CREDS", "/env.creds")];
        let by_flag = found(&["--nats.context", "prod"], &variables, true);
        let by_variable = found(&[], &[("NATS_CONTEXT", "prod"), variables[0]], true);

        assert_eq!(
            summary(&by_flag),
            ("nats://prod:4222".into(), creds("/prod.creds"))
        );
        assert_eq!(by_flag.origin, Origin::Context("prod".into()));
        assert_eq!(
            summary(&by_variable),
            ("nats://env:1".into(), creds("/prod.creds"))
        );
    }

    #[test]
    fn an_address_by_flag_gets_no_credentials_of_an_exported_context() {
        let found = found(&["-s", "nats://flag:1"], &[("NATS_CONTEXT", "prod")], true);
        assert_eq!(summary(&found), ("nats://flag:1".into(), Auth::None));
    }

    #[test]
    fn an_address_may_say_who_we_are() {
        let user = |user: &str| Auth::UserPassword {
            user: user.into(),
            password: "s3".into(),
        };
        let exported = [("NATS_CREDS", "/env.creds")];
        let by_url = found(&["-s", "nats://ann:s3@flag:1"], &exported, true);
        let flags = ["-s", "nats://ann:s3@flag:1", "--creds", "/flag.creds"];
        let by_flag = found(&flags, &exported, true);
        let by_variable = found(&[], &[("NATS_URL", "nats://bob:s3@env:1")], true);

        assert_eq!(summary(&by_url), ("nats://flag:1".into(), user("ann")));
        assert_eq!(
            summary(&by_flag),
            ("nats://flag:1".into(), creds("/flag.creds"))
        );
        assert_eq!(summary(&by_variable), ("nats://env:1".into(), user("bob")));
    }

    #[test]
    fn the_address_of_nex_up_gets_its_credentials_however_it_is_written() {
        let own = ("nats://127.0.0.1:5000".to_owned(), creds("/up/cli.creds"));
        for address in [
            "nats://127.0.0.1:5000",
            "127.0.0.1:5000",
            "nats://localhost:5000",
            "LocalHost:5000",
            "nats://[::1]:5000",
            "nats://127.0.0.1:5000/",
            " nats://127.0.0.1:5000",
            "nats://far:1,nats://localhost:5000",
            "localhost:5000,nats://127.0.0.1:5001",
        ] {
            let by_flag = found(&["-s", address], &[], true);
            assert_eq!(summary(&by_flag), own, "{address}");
            assert_eq!(by_flag.options.inbox_prefix.as_deref(), Some(PRIVATE_INBOX));
            let by_variable = found(&[], &[("NATS_URL", address)], true);
            assert_eq!(summary(&by_variable), own, "{address}");
        }
        let default = (DEFAULT_SERVER.to_owned(), creds("/default/cli.creds"));
        for address in ["localhost", "127.0.0.1", "nats://localhost"] {
            assert_eq!(
                summary(&found(&["-s", address], &[], true)),
                default,
                "{address}"
            );
        }
    }

    #[test]
    fn no_other_address_gets_the_credentials_of_nex_up() {
        for address in [
            "nats://127.0.0.1:5001",
            "nats://far:5000",
            "nats://127.0.0.2:5000",
            "nats://localhost.example:5000",
            "tls://127.0.0.1:5000",
            "ws://127.0.0.1:5000",
            // Another server listens there.
            "nats://[::1]:4222",
        ] {
            let found = found(&["-s", address], &[], true);
            assert_eq!(
                summary(&found),
                (address.to_owned(), Auth::None),
                "{address}"
            );
            assert_eq!(found.options.inbox_prefix, None);
        }
    }

    #[test]
    fn explicit_credentials_win_at_the_address_of_nex_up() {
        let url = "nats://127.0.0.1:5000";
        let by_flag = found(&["-s", url, "--creds", "/my.creds"], &[], true);
        let by_variable = found(&["-s", url], &[("NATS_CREDS", "/my.creds")], true);
        let in_url = found(&["-s", "nats://ann:s3@127.0.0.1:5000"], &[], true);

        for found in [&by_flag, &by_variable] {
            assert_eq!(summary(found), (url.to_owned(), creds("/my.creds")));
        }
        assert!(matches!(in_url.options.auth, Auth::UserPassword { .. }));
        for found in [by_flag, by_variable, in_url] {
            assert_eq!(found.options.inbox_prefix, None);
            assert_eq!(found.up.as_deref(), Some(Path::new("/up")));
        }
    }

    #[test]
    fn credentials_alone_go_to_what_runs_here() {
        let found = found(&["--creds", "/my.creds"], &[], true);
        assert_eq!(
            summary(&found),
            ("nats://127.0.0.1:5000".into(), creds("/my.creds"))
        );
    }

    #[test]
    fn only_the_owner_of_nex_up_has_private_inboxes() {
        let prefix = |flags: &[&str], variables: &[(&str, &str)]| {
            found(flags, variables, true).options.inbox_prefix
        };

        assert_eq!(prefix(&[], &[]).as_deref(), Some(PRIVATE_INBOX));
        // Others may not listen on them.
        assert_eq!(prefix(&["--creds", "/my.creds"], &[]), None);
        assert_eq!(prefix(&[], &[("NATS_URL", "nats://127.0.0.1:5001")]), None);
    }

    #[test]
    fn every_way_to_say_who_we_are_is_understood() {
        let seed = || "SUSEED".to_owned();
        let token = |text: &str| Auth::Token(text.into());
        let password = || Auth::UserPassword {
            user: "u".into(),
            password: "p".into(),
        };
        let flags = [
            (vec!["--nats.seed", "SUSEED"], Auth::Nkey { seed: seed() }),
            (
                vec!["--nats.seed", "SUSEED", "--nats.jwt", "eyJ"],
                Auth::Jwt {
                    jwt: "eyJ".into(),
                    seed: seed(),
                },
            ),
            (vec!["--nats.user", "u", "--nats.password", "p"], password()),
            (vec!["--nats.user", "t"], token("t")),
        ];
        for (flags, auth) in flags {
            assert_eq!(found(&flags, &[], false).options.auth, auth, "{flags:?}");
        }
        let variables = [
            (vec![("NATS_CREDS", "/c")], creds("/c")),
            (vec![("NATS_NKEY", "/seed")], Auth::Nkey { seed: seed() }),
            (vec![("NATS_USER", "u"), ("NATS_PASSWORD", "p")], password()),
            (vec![("NATS_USER", "t")], token("t")),
            (vec![("NATS_TOKEN", "t")], token("t")),
        ];
        for (variables, auth) in variables {
            assert_eq!(
                found(&[], &variables, false).options.auth,
                auth,
                "{variables:?}"
            );
        }
    }

    #[test]
    fn a_list_of_servers_may_have_commas_to_spare() {
        for list in ["nats://a:1,nats://b:2,", " nats://a:1 , ,nats://b:2 "] {
            let by_flag = found(&["-s", list], &[], false);
            let by_variable = found(&[], &[("NATS_URL", list)], false);
            for found in [by_flag, by_variable] {
                assert_eq!(summary(&found).0, "nats://a:1,nats://b:2", "{list}");
            }
        }
        for list in ["", ",", " "] {
            let flags = NatsArgs {
                servers: list.split(',').map(str::to_owned).collect(),
                ..NatsArgs::default()
            };
            let error = resolve(&flags, &Environment::fake("/", &[]), &Fake { up: true });
            assert!(error.unwrap_err().text().contains("names no server"));
        }
    }

    #[test]
    fn variables_may_begin_at_home() {
        let variables = [
            ("NATS_CREDS", "~/k.creds"),
            ("NATS_CA", "~/ca.pem"),
            ("NATS_CERT", "~"),
            ("NATS_KEY", "/k"),
        ];
        let options = found(&[], &variables, false).options;
        assert_eq!(options.auth, creds("/home/ann/k.creds"));
        assert_eq!(options.tls.ca, Some("/home/ann/ca.pem".into()));
        assert_eq!(options.tls.cert, Some("/home/ann".into()));
        assert_eq!(options.tls.key, Some("/k".into()));
    }

    #[test]
    fn a_context_that_is_not_there_is_an_error() {
        let flags = NatsArgs {
            context: Some("nowhere".into()),
            ..NatsArgs::default()
        };
        assert!(resolve(&flags, &Environment::fake("/", &[]), &Fake { up: true }).is_err());
    }
}
