//! Why a connection could not be made, and what a person can do about it.

use std::{error::Error, fmt, io, path::PathBuf};

use async_nats::{ConnectErrorKind, rustls};

use crate::{creds::InvalidCreds, tls::TlsFile};

/// A connection that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody said where.
    #[error("no NATS server given")]
    NoServer,
    /// A server's URL cannot be read.
    #[error("invalid NATS server URL `{url}`: want `nats://host:port`")]
    InvalidUrl {
        /// The URL, without user and password.
        url: String,
    },
    /// The credentials file cannot be read.
    #[error("failed to read credentials file `{}`", path.display())]
    ReadCreds {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The credentials cannot be understood.
    #[error("invalid NATS credentials")]
    InvalidCreds(#[source] InvalidCreds),
    /// The seed is damaged.
    #[error("the seed of the NATS user is invalid")]
    InvalidSeed,
    /// A file of the TLS settings cannot be used.
    #[error("failed to read {file} `{}`", path.display())]
    TlsFile {
        /// The role of the file.
        file: TlsFile,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A certificate without its key, or the reverse.
    #[error("a client certificate needs both its file and its key's file")]
    HalfCertificate,
    /// No server took us.
    #[error("failed to connect to NATS at `{servers}`: {cause}")]
    Connect {
        /// The servers, without users and passwords.
        servers: String,
        /// Why the last one tried did not.
        cause: Cause,
        /// More about it, where the cause does not say it all.
        #[source]
        source: Option<async_nats::ConnectError>,
    },
}

/// Why a server did not take us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nobody listens there.
    Refused,
    /// The host's name is unknown.
    UnknownHost,
    /// No answer in time.
    TimedOut,
    /// The server does not know us.
    Authorization,
    /// The encryption could not be agreed on.
    Tls,
    /// We ask for TLS, and the server does not speak it.
    NoTls,
    /// Something else.
    Other,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::UnknownHost => "unknown host",
            Self::TimedOut => "timed out",
            Self::Authorization => "authorization violation",
            Self::Tls => "TLS failed",
            Self::NoTls => "the server speaks no TLS",
            Self::Other => "connection failed",
        })
    }
}

/// The first I/O error among an error's causes.
fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}

/// The cause in an I/O error, which a failed handshake is for the library too.
fn cause_in(error: &io::Error) -> Cause {
    let tls = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    match tls {
        // The server's text, where TLS has the type of a record.
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            Cause::NoTls
        }
        Some(_) => Cause::Tls,
        None if error.kind() == io::ErrorKind::ConnectionRefused => Cause::Refused,
        None => Cause::Other,
    }
}

impl ConnectError {
    pub(crate) fn timed_out(servers: String) -> Self {
        Self::Connect {
            servers,
            cause: Cause::TimedOut,
            source: None,
        }
    }

    pub(crate) fn from_nats(error: async_nats::ConnectError, servers: String) -> Self {
        let cause = match error.kind() {
            ConnectErrorKind::Dns => Cause::UnknownHost,
            ConnectErrorKind::TimedOut => Cause::TimedOut,
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                Cause::Authorization
            }
            ConnectErrorKind::Tls => Cause::Tls,
            _ => io_error(&error).map_or(Cause::Other, cause_in),
        };
        let told = matches!(
            cause,
            Cause::Refused | Cause::TimedOut | Cause::Authorization | Cause::NoTls
        );
        Self::Connect {
            servers,
            cause,
            source: (!told).then_some(error),
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoServer
            | Self::Connect {
                cause: Cause::Refused,
                ..
            } => Some(
                "start one with `nex up`, or say where it is: `-s nats://host:port`, `NATS_URL` or a context",
            ),
            Self::Connect {
                cause: Cause::UnknownHost | Cause::TimedOut,
                ..
            } => Some("check the address, and that this machine reaches it"),
            Self::Connect {
                cause: Cause::Authorization,
                ..
            }
            | Self::InvalidCreds(_)
            | Self::InvalidSeed => {
                Some("check the credentials: `--creds`, a user and password, an nkey or a context")
            }
            Self::TlsFile { .. } => Some("want a file in PEM form that you may read"),
            Self::Connect {
                cause: Cause::NoTls,
                ..
            } => Some("leave the TLS settings out, and `tls://` in the address"),
            Self::Connect {
                cause: Cause::Tls, ..
            } => Some("check the CA and the certificate, and whether the server wants TLS"),
            _ => None,
        }
    }
}
