//! The `nats` CLI's connection contexts: one JSON file each, in `nats/context` of the user's
//! configuration folder. The caller knows where that is.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use nex_protocol::text::decode;
use serde::{Deserialize, Serialize};

use crate::options::{Auth, ConnectOptions, DEFAULT_SERVER, Tls, below_home};

/// A context as the `nats` CLI writes it. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContextFile {
    /// For people.
    pub description: String,
    /// Servers joined by commas.
    pub url: String,
    /// A proxy; not supported here.
    pub socks_proxy: String,
    /// A token.
    pub token: String,
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// Path of a `.creds` file.
    pub creds: String,
    /// Path of a file with an nkey's seed.
    pub nkey: String,
    /// Path of the client certificate.
    pub cert: String,
    /// Path of its key.
    pub key: String,
    /// Path of the authority's certificate.
    pub ca: String,
    /// A look-up through `nsc`; not supported here.
    pub nsc: String,
    /// Domain of JetStream; not used here.
    pub jetstream_domain: String,
    /// Prefix of the JetStream API; not used here.
    pub jetstream_api_prefix: String,
    /// Prefix of JetStream's events; not used here.
    pub jetstream_event_prefix: String,
    /// What inboxes begin with, where it is not `_INBOX`.
    pub inbox_prefix: String,
    /// A user JWT.
    pub user_jwt: String,
    /// Seed of the user whose it is.
    pub user_seed: String,
    /// Colours of the CLI's tables; not used here.
    pub color_scheme: String,
    /// Whether the TLS handshake comes before the server's first line.
    pub tls_first: bool,
}

impl fmt::Debug for ContextFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextFile")
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

/// A context that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The name could name a file elsewhere.
    #[error("invalid context name `{0}`: want a name without `/`, `\\` or a leading dot")]
    InvalidName(String),
    /// There is none of that name.
    #[error("unknown NATS context `{name}`: no file `{}`", path.display())]
    Unknown {
        /// The name.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("failed to read `{}` of NATS context `{name}`", path.display())]
    Read {
        /// The context.
        name: String,
        /// The file: the context's own, or one that it names.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no context.
    #[error("failed to understand NATS context `{name}`")]
    Parse {
        /// The context.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It asks for something that only the `nats` CLI can do.
    #[error(
        "NATS context `{name}` uses `{key}`, which is not supported: give the servers and credentials instead"
    )]
    Unsupported {
        /// The context.
        name: String,
        /// The key in the file.
        key: &'static str,
    },
    /// The `url` of the context has commas or blanks alone.
    #[error("NATS context `{name}` names no server in `url`")]
    NoServer {
        /// The context.
        name: String,
    },
    /// A path begins with `~` and nobody said where the home folder is.
    #[error("NATS context `{name}` names `{path}`, but there is no home folder")]
    NoHome {
        /// The context.
        name: String,
        /// The path.
        path: String,
    },
}

impl ContextError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unknown { .. } => Some("`nats context ls` shows the contexts that there are"),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                Some("save the file as UTF-8")
            }
            Self::NoServer { .. } => Some("for example: `\"url\": \"nats://127.0.0.1:4222\"`"),
            Self::Read { .. } => Some("check the path, and who may read the file"),
            Self::Parse { .. } => Some(
                "want the JSON object that `nats context save` writes; `nats context edit` repairs it",
            ),
            _ => None,
        }
    }
}

/// Reads the context `name` in the folder `dir`.
///
/// # Errors
/// When there is none (unlike Go, which goes on without), or it cannot be used.
pub fn load(dir: &Path, name: &str) -> Result<ConnectOptions, ContextError> {
    load_with_home(dir, None, name)
}

/// [`load`], for contexts whose paths begin with `~/`.
///
/// # Errors
/// As [`load`].
pub fn load_with_home(
    dir: &Path,
    home: Option<&Path>,
    name: &str,
) -> Result<ConnectOptions, ContextError> {
    let path = file(dir, name)?;
    let text = match read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ContextError::Unknown {
                name: name.to_owned(),
                path,
            });
        }
        Err(source) => {
            return Err(ContextError::Read {
                name: name.to_owned(),
                path,
                source,
            });
        }
    };
    let parsed = serde_json::from_str::<ContextFile>(&text);
    let context = parsed.map_err(|source| ContextError::Parse {
        name: name.to_owned(),
        source,
    })?;
    let resolver = Resolver { name, home };
    resolver.options(&context)
}

fn read(path: &Path) -> io::Result<String> {
    Ok(decode(std::fs::read(path)?)?)
}

/// The file of the context `name`, whether or not there is one.
///
/// # Errors
/// When the name cannot be a context's.
pub fn file(dir: &Path, name: &str) -> Result<PathBuf, ContextError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
        return Err(ContextError::InvalidName(name.to_owned()));
    }
    Ok(dir.join(format!("{name}.json")))
}

/// Turns one context into options; knows its name for errors.
struct Resolver<'a> {
    name: &'a str,
    home: Option<&'a Path>,
}

impl Resolver<'_> {
    fn options(&self, context: &ContextFile) -> Result<ConnectOptions, ContextError> {
        for (key, value) in [("nsc", &context.nsc), ("socks_proxy", &context.socks_proxy)] {
            if !value.is_empty() {
                return Err(self.unsupported(key));
            }
        }
        let servers: Vec<String> = context
            .url
            .split(',')
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .map(ToOwned::to_owned)
            .collect();
        if servers.is_empty() && !context.url.is_empty() {
            return Err(ContextError::NoServer {
                name: self.name.to_owned(),
            });
        }
        Ok(ConnectOptions {
            servers: if servers.is_empty() {
                vec![DEFAULT_SERVER.to_owned()]
            } else {
                servers
            },
            auth: self.auth(context)?,
            tls: Tls {
                ca: self.path(&context.ca)?,
                cert: self.path(&context.cert)?,
                key: self.path(&context.key)?,
                first: context.tls_first,
            },
            inbox_prefix: (!context.inbox_prefix.is_empty()).then(|| context.inbox_prefix.clone()),
            ..ConnectOptions::default()
        })
    }

    /// In the order of the `nats` CLI.
    fn auth(&self, context: &ContextFile) -> Result<Auth, ContextError> {
        if !context.user.is_empty() {
            return Ok(Auth::UserPassword {
                user: context.user.clone(),
                password: context.password.clone(),
            });
        }
        if context.creds.contains("://") {
            return Err(self.unsupported("creds"));
        }
        if let Some(path) = self.path(&context.creds)? {
            return Ok(Auth::CredsFile(path));
        }
        if let Some(path) = self.path(&context.nkey)? {
            return self.nkey(path);
        }
        if !context.user_jwt.is_empty() {
            return Ok(Auth::Jwt {
                jwt: context.user_jwt.clone(),
                seed: context.user_seed.clone(),
            });
        }
        if !context.token.is_empty() {
            return Ok(Auth::Token(context.token.clone()));
        }
        Ok(Auth::None)
    }

    fn nkey(&self, path: PathBuf) -> Result<Auth, ContextError> {
        match read(&path) {
            Ok(text) => Ok(Auth::Nkey {
                // The file may be decorated as a `.creds` file is.
                seed: text
                    .lines()
                    .map(str::trim)
                    .find(|line| line.starts_with('S'))
                    .unwrap_or_default()
                    .to_owned(),
            }),
            Err(source) => Err(ContextError::Read {
                name: self.name.to_owned(),
                path,
                source,
            }),
        }
    }

    fn path(&self, text: &str) -> Result<Option<PathBuf>, ContextError> {
        if text.is_empty() {
            return Ok(None);
        }
        let resolved = below_home(text, self.home);
        resolved.map(Some).ok_or_else(|| ContextError::NoHome {
            name: self.name.to_owned(),
            path: text.to_owned(),
        })
    }

    fn unsupported(&self, key: &'static str) -> ContextError {
        ContextError::Unsupported {
            name: self.name.to_owned(),
            key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ConnectOptions, ContextError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c.json"), text).unwrap();
        load_with_home(dir.path(), Some(Path::new("/home/u")), "c")
    }

    #[test]
    fn what_the_nats_cli_wrote_is_read() {
        let text = r#"{"description":"lab","url":"nats://a:1, nats://b:2","token":"","user":"","password":"",
            "creds":"~/lab.creds","nkey":"","cert":"/c","key":"/k","ca":"/ca","nsc":"","jetstream_domain":"",
            "inbox_prefix":"_ME","user_jwt":"","color_scheme":"","tls_first":true,"windows_cert_store":""}"#;

        let options = read(text).unwrap();

        assert_eq!(options.servers, ["nats://a:1", "nats://b:2"]);
        assert_eq!(options.auth, Auth::CredsFile("/home/u/lab.creds".into()));
        assert_eq!(options.inbox_prefix.as_deref(), Some("_ME"));
        assert!(options.tls.first && options.tls.ca == Some("/ca".into()));
    }

    #[test]
    fn a_file_of_an_editor_of_windows_is_read() {
        let options = read("\u{feff}{\r\n\"url\":\"nats://a:1\"\r\n}\r\n").unwrap();
        assert_eq!(options.servers, ["nats://a:1"]);
        let seed = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(seed.path(), "\u{feff}SUSEED\r\n").unwrap();
        let text = format!(r#"{{"nkey":"{}"}}"#, seed.path().display());
        let seed = "SUSEED".to_owned();
        assert_eq!(read(&text).unwrap().auth, Auth::Nkey { seed });
    }

    #[test]
    fn each_way_to_authenticate_is_found() {
        let cases = [
            (r#"{"user":"u","password":"p"}"#, "UserPassword(u)"),
            (r#"{"user_jwt":"j","user_seed":"s"}"#, "Jwt"),
            (r#"{"token":"t"}"#, "Token"),
            ("{}", "None"),
        ];
        for (text, auth) in cases {
            assert_eq!(format!("{:?}", read(text).unwrap().auth), auth);
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            load(dir.path(), "none"),
            Err(ContextError::Unknown { .. })
        ));
        assert!(matches!(
            load(dir.path(), "../c"),
            Err(ContextError::InvalidName(_))
        ));
        assert!(matches!(read("{"), Err(ContextError::Parse { .. })));
        for url in [",", " ", " , "] {
            let text = format!(r#"{{"url":"{url}"}}"#);
            assert!(matches!(read(&text), Err(ContextError::NoServer { .. })));
        }
        assert!(matches!(
            read(r#"{"nsc":"nsc://o/a/u"}"#),
            Err(ContextError::Unsupported { key: "nsc", .. })
        ));
        assert!(matches!(
            read(r#"{"creds":"op://vault/x"}"#),
            Err(ContextError::Unsupported { key: "creds", .. })
        ));
    }

    #[test]
    fn a_written_context_has_the_keys_of_the_nats_cli_and_no_secret_in_debug() {
        let context = ContextFile {
            url: "nats://127.0.0.1:4222".into(),
            password: "SECRET".into(),
            ..ContextFile::default()
        };
        let text = serde_json::to_string(&context).unwrap();
        assert!(
            text.contains(r#""url":"nats://127.0.0.1:4222""#) && text.contains(r#""creds":"""#)
        );
        assert!(!format!("{context:?}").contains("SECRET"));
    }
}
