//! Where NATS is and who we are there.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use nex_protocol::{NatsConnectionData, text::decode};
use nkeys::KeyPair;
use percent_encoding::percent_decode_str;

use crate::creds::{self, InvalidCreds};

/// Where a peer looks for NATS when nobody said otherwise, as in Go.
pub const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";

/// How to connect. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// URLs, any of which will do; without a scheme `nats://` is meant.
    pub servers: Vec<String>,
    /// Who we are.
    pub auth: Auth,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// Name of the connection, for the server's list.
    pub name: String,
    /// What happens when the connection is lost.
    pub reconnect: Reconnect,
    /// What our inboxes begin with, where it is not `_INBOX`.
    pub inbox_prefix: Option<String>,
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("servers", &self.shown_servers())
            .field("auth", &self.auth)
            .field("tls", &self.tls)
            .field("name", &self.name)
            .field("reconnect", &self.reconnect)
            .field("inbox_prefix", &self.inbox_prefix)
            .finish()
    }
}

/// What happens when an established connection is lost.
///
/// The first connection is tried once either way, and its failure returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reconnect {
    /// It is tried again until it works: nodes and nexlets.
    #[default]
    Forever,
    /// Reconnects until it works; the first connection takes a few seconds at most:
    /// commands, for which a person waits.
    Command,
    /// Each server is tried once more, then the connection is closed.
    Never,
}

/// One way to authenticate. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Anonymous. What a URL says is taken out of it before; see [`split_user`].
    #[default]
    None,
    /// Name and password.
    UserPassword {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// An nkey.
    Nkey {
        /// Its seed.
        seed: String,
    },
    /// A user JWT.
    Jwt {
        /// The JWT.
        jwt: String,
        /// Seed of the user whose it is.
        seed: String,
    },
    /// A `.creds` file, read when the connection is made.
    CredsFile(PathBuf),
    /// The text of a `.creds` file.
    Creds(String),
    /// A token.
    Token(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::UserPassword { user, .. } => write!(f, "UserPassword({user})"),
            Self::Nkey { .. } => f.write_str("Nkey"),
            Self::Jwt { .. } => f.write_str("Jwt"),
            Self::CredsFile(path) => write!(f, "CredsFile({})", path.display()),
            Self::Creds(_) => f.write_str("Creds"),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}

/// How the connection is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Trust this authority's certificate, and insist on TLS.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Whether the handshake comes before the server's first line.
    pub first: bool,
}

/// Options that cannot be told to another program.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The protocol has no field for it.
    #[error("a token cannot be handed on: want credentials, an nkey or a user and password")]
    Token,
    /// The credentials file cannot be read.
    #[error("failed to read credentials file `{}`", path.display())]
    ReadCreds {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The credentials cannot be understood.
    #[error("invalid credentials")]
    InvalidCreds(#[from] InvalidCreds),
    /// The seed of the nkey is damaged.
    #[error("the seed of the nkey is invalid")]
    InvalidSeed,
}

impl ConnectOptions {
    /// Anonymous options for these servers.
    #[must_use]
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>, name: &str) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// What a peer was told; `name` is the connection's name where the data has none.
    ///
    /// Without servers the default one is meant, as in Go.
    #[must_use]
    pub fn from_data(data: &NatsConnectionData, name: &str) -> Self {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let urls = data.nats_servers.iter().map(|url| split_user(url));
        let (mut servers, of_urls): (Vec<_>, Vec<_>) = urls.unzip();
        if servers.is_empty() {
            servers.push(DEFAULT_SERVER.to_owned());
        }
        let of_url = || of_urls.into_iter().flatten().next();
        Self {
            servers,
            auth: auth_from(data).or_else(of_url).unwrap_or_default(),
            tls: Tls {
                ca: path(&data.tls_ca),
                cert: path(&data.tls_cert),
                key: path(&data.tls_key),
                first: data.tls_first,
            },
            name: if data.conn_name.is_empty() {
                name.to_owned()
            } else {
                data.conn_name.clone()
            },
            reconnect: Reconnect::Forever,
            inbox_prefix: None,
        }
    }

    /// The same, to tell a peer. Reads a credentials file where there is one.
    ///
    /// # Errors
    /// When the protocol cannot say it, or the credentials cannot be read.
    pub fn to_data(&self) -> Result<NatsConnectionData, DataError> {
        let text = |path: &Option<PathBuf>| {
            path.as_deref()
                .map(|path| path.display().to_string())
                .unwrap_or_default()
        };
        let mut data = NatsConnectionData {
            conn_name: self.name.clone(),
            nats_servers: self.servers.clone(),
            tls_ca: text(&self.tls.ca),
            tls_cert: text(&self.tls.cert),
            tls_key: text(&self.tls.key),
            tls_first: self.tls.first,
            ..NatsConnectionData::default()
        };
        match &self.auth {
            Auth::None => {}
            Auth::UserPassword { user, password } => {
                data.nats_user_name.clone_from(user);
                data.nats_user_password.clone_from(password);
            }
            Auth::Nkey { seed } => {
                let pair = KeyPair::from_seed(seed).map_err(|_damaged| DataError::InvalidSeed)?;
                data.nats_user_nkey = pair.public_key();
                data.nats_user_seed.clone_from(seed);
            }
            Auth::Jwt { jwt, seed } => {
                data.nats_user_jwt.clone_from(jwt);
                data.nats_user_seed.clone_from(seed);
            }
            Auth::CredsFile(path) => {
                let read = std::fs::read(path).and_then(|bytes| Ok(decode(bytes)?));
                let text = read.map_err(|source| DataError::ReadCreds {
                    path: path.clone(),
                    source,
                })?;
                (data.nats_user_jwt, data.nats_user_seed) = creds::parse(&text)?;
            }
            Auth::Creds(text) => {
                (data.nats_user_jwt, data.nats_user_seed) = creds::parse(text)?;
            }
            Auth::Token(_) => return Err(DataError::Token),
        }
        Ok(data)
    }

    /// The servers for people: joined by commas, without user or password.
    #[must_use]
    pub fn shown_servers(&self) -> String {
        let shown: Vec<_> = self.servers.iter().map(|url| redacted(url)).collect();
        shown.join(",")
    }
}

fn auth_from(data: &NatsConnectionData) -> Option<Auth> {
    let seed = || data.nats_user_seed.clone();
    if !data.nats_user_jwt.is_empty() && !data.nats_user_seed.is_empty() {
        return Some(Auth::Jwt {
            jwt: data.nats_user_jwt.clone(),
            seed: seed(),
        });
    }
    if !data.nats_user_nkey.is_empty() && !data.nats_user_seed.is_empty() {
        return Some(Auth::Nkey { seed: seed() });
    }
    if !data.nats_user_name.is_empty() {
        return Some(Auth::UserPassword {
            user: data.nats_user_name.clone(),
            password: data.nats_user_password.clone(),
        });
    }
    None
}

/// Takes the user and password out of a server's URL, which goes to logs and to peers; a user alone
/// is a token, as for other clients.
#[must_use]
pub fn split_user(url: &str) -> (String, Option<Auth>) {
    let (scheme, rest) = url
        .split_once("://")
        .map_or((None, url), |(scheme, rest)| (Some(scheme), rest));
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..authority_end].rfind('@') else {
        return (url.to_owned(), None);
    };
    let (user, host) = (&rest[..at], &rest[at + 1..]);
    let bare = match scheme {
        Some(scheme) => format!("{scheme}://{host}"),
        None => host.to_owned(),
    };
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let auth = match user.split_once(':') {
        Some((user, password)) => Auth::UserPassword {
            user: plain(user),
            password: plain(password),
        },
        None => Auth::Token(plain(user)),
    };
    (bare, (!user.is_empty()).then_some(auth))
}

/// A server's URL without what stands before an `@`.
#[must_use]
pub fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let host = match rest[..authority_end].rfind('@') {
        Some(at) => &rest[at + 1..],
        None => rest,
    };
    format!("{scheme}://{host}")
}

/// A path with a leading `~` resolved; `None` where that needs a home that is not known.
#[must_use]
pub fn below_home(path: &str, home: Option<&Path>) -> Option<PathBuf> {
    match path.strip_prefix("~/") {
        // A further `/` does not make it an absolute path.
        Some(rest) => home.map(|home| home.join(rest.trim_start_matches('/'))),
        None if path == "~" => home.map(Path::to_owned),
        None => Some(path.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_taken_out_of_a_url() {
        let named = |user: &str, password: &str| {
            Some(Auth::UserPassword {
                user: user.into(),
                password: password.into(),
            })
        };
        for (url, bare, auth) in [
            ("nats://h:4222", "nats://h:4222", None),
            ("h", "h", None),
            ("nats://ann:s3@h:4222", "nats://h:4222", named("ann", "s3")),
            ("ann:s3@h", "h", named("ann", "s3")),
            ("tls://a%40b:p%3A%2F%@h/", "tls://h/", named("a@b", "p:/%")),
            ("nats://a:b@c@h", "nats://h", named("a", "b@c")),
            ("nats://ann:@h", "nats://h", named("ann", "")),
            (
                "nats://t0ken@h",
                "nats://h",
                Some(Auth::Token("t0ken".into())),
            ),
            ("nats://@h", "nats://h", None),
            ("ws://h/a@b", "ws://h/a@b", None),
        ] {
            assert_eq!(split_user(url), (bare.to_owned(), auth), "{url}");
        }
    }

    #[test]
    fn a_peer_is_reached_as_its_url_says() {
        let mut data = NatsConnectionData {
            nats_servers: vec!["nats://a".into(), "nats://ann:s3@b".into()],
            ..NatsConnectionData::default()
        };
        let options = ConnectOptions::from_data(&data, "n");
        assert_eq!(options.servers, ["nats://a", "nats://b"]);
        assert!(matches!(options.auth, Auth::UserPassword { user, .. } if user == "ann"));

        data.nats_user_name = "bob".into();
        let options = ConnectOptions::from_data(&data, "n");
        assert!(matches!(options.auth, Auth::UserPassword { user, .. } if user == "bob"));
    }

    #[test]
    fn what_a_peer_is_told_reads_back() {
        let pair = KeyPair::new_user();
        let seed = pair.seed().unwrap();
        let auths = [
            Auth::None,
            Auth::UserPassword {
                user: "u".into(),
                password: "p".into(),
            },
            Auth::Nkey { seed: seed.clone() },
            Auth::Jwt {
                jwt: "j".into(),
                seed,
            },
        ];
        for auth in auths {
            let options = ConnectOptions {
                auth,
                tls: Tls {
                    ca: Some("/ca".into()),
                    cert: Some("/cert".into()),
                    key: Some("/key".into()),
                    first: true,
                },
                ..ConnectOptions::new(["nats://a:1", "b"], "name")
            };

            let read = ConnectOptions::from_data(&options.to_data().unwrap(), "other");

            assert_eq!(read, options);
        }
    }

    #[test]
    fn a_token_cannot_be_handed_on() {
        let options = ConnectOptions {
            auth: Auth::Token("t".into()),
            ..ConnectOptions::default()
        };
        assert!(matches!(options.to_data(), Err(DataError::Token)));
    }

    #[test]
    fn no_servers_mean_the_default_one() {
        let options = ConnectOptions::from_data(&NatsConnectionData::default(), "me");
        assert_eq!(options.servers, [DEFAULT_SERVER]);
        assert_eq!((options.name.as_str(), &options.auth), ("me", &Auth::None));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let options = ConnectOptions {
            auth: Auth::UserPassword {
                user: "u".into(),
                password: "SECRET".into(),
            },
            ..ConnectOptions::new(["nats://u:SECRET@host:1"], "name")
        };
        assert!(!format!("{options:?}").contains("SECRET"));
        for (url, shown) in [
            ("nats://u:SECRET@host:1", "nats://host:1"),
            ("u:SE@CRET@host", "nats://host"),
            ("tls://host/", "tls://host/"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
