//! The places where settings of a connection come from, for errors.

use std::path::Path;

use nex_nats::{Cause, ConnectError, TlsFile};

use super::Found;
use crate::context::Context;

/// A setting that names a file, or asks for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Creds,
    Nkey,
    Ca,
    Cert,
    Key,
    TlsFirst,
}

impl Setting {
    /// The setting that an error of a connection is about.
    pub(super) fn of(error: &ConnectError, found: &Found, context: &Context) -> Option<Self> {
        Some(match error {
            ConnectError::ReadCreds { .. } | ConnectError::InvalidCreds(_) => Self::Creds,
            ConnectError::InvalidSeed => Self::Nkey,
            ConnectError::TlsFile { file, .. } => match file {
                TlsFile::Ca => Self::Ca,
                TlsFile::Cert => Self::Cert,
                TlsFile::Key => Self::Key,
            },
            ConnectError::HalfCertificate if found.options.tls.cert.is_some() => Self::Cert,
            ConnectError::HalfCertificate => Self::Key,
            ConnectError::Connect {
                cause: Cause::NoTls,
                ..
            } if context.global.nats.tlsfirst => Self::TlsFirst,
            ConnectError::Connect {
                cause: Cause::NoTls,
                ..
            } if found.options.tls.is_required() => Self::Ca,
            _ => return None,
        })
    }

    /// The flag, the variable, or the file or context of the NATS CLI that has it, and the path as it is
    /// there; none where it is from elsewhere, as from an address.
    pub(super) fn source(self, context: &Context) -> Option<String> {
        let flags = &context.global.nats;
        let (key, by_flag, variable) = match self {
            Self::Creds => ("creds_file", flags.creds.as_deref().map(Some), "NATS_CREDS"),
            Self::Nkey => ("seed", flags.seed.as_ref().map(|_secret| None), "NATS_NKEY"),
            Self::Ca => ("tlsca", flags.tlsca.as_deref().map(Some), "NATS_CA"),
            Self::Cert => ("tlscert", flags.tlscert.as_deref().map(Some), "NATS_CERT"),
            Self::Key => ("tlskey", flags.tlskey.as_deref().map(Some), "NATS_KEY"),
            Self::TlsFirst => ("tlsfirst", flags.tlsfirst.then_some(None), ""),
        };
        let path = |path: &Path| format!(" (`{}`)", path.display());
        if let Some(typed) = by_flag {
            let path = typed.map(path).unwrap_or_default();
            let key = format!("nats.{key}");
            let flag = format!("--{}", key.replace('_', "-"));
            return Some(format!("{}{path}", context.settings.place(&key, &flag)));
        }
        let by_context = flags.context.clone().or_else(|| {
            let exported = context.env.text("NATS_CONTEXT").ok().flatten();
            exported.filter(|_| flags.servers.is_empty())
        });
        let by_variable = context.env.path(variable);
        match (by_context, by_variable) {
            (None, Some(value)) => Some(format!("`{variable}`{}", path(&value))),
            (Some(name), None) => Some(format!("the context `{name}`")),
            (Some(name), Some(value)) => Some(format!(
                "the context `{name}` or `{variable}`{}",
                path(&value)
            )),
            (None, None) => None,
        }
    }
}
