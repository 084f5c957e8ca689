//! The files of TLS settings, read before a connection is made: the client library reads them only where a
//! server wants TLS, and names none of them in its errors.

use std::{
    fmt,
    io::{self, Error, ErrorKind},
    path::Path,
};

use async_nats::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use nex_protocol::text::{NotUtf8, bytes_without_mark, is_utf16};

use crate::{failure::ConnectError, options::Tls};

/// A file of the TLS settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    /// The certificates of the authorities that are trusted.
    Ca,
    /// The client certificate.
    Cert,
    /// The key of the client certificate.
    Key,
}

impl fmt::Display for TlsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ca => "CA file",
            Self::Cert => "client certificate",
            Self::Key => "key of the client certificate",
        })
    }
}

impl Tls {
    /// Returns `true` where a server without TLS is refused.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.ca.is_some() || self.first
    }

    /// Reads each file.
    pub(crate) async fn check(&self) -> Result<(), ConnectError> {
        for (file, path) in [
            (TlsFile::Ca, &self.ca),
            (TlsFile::Cert, &self.cert),
            (TlsFile::Key, &self.key),
        ] {
            let Some(path) = path else { continue };
            let checked = check(file, path).await;
            checked.map_err(|source| ConnectError::TlsFile {
                file,
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

async fn check(file: TlsFile, path: &Path) -> io::Result<()> {
    let kind = tokio::fs::metadata(path).await?;
    if !kind.is_file() && !kind.is_dir() {
        // A pipe can be read only once, and the library reads it.
        return Ok(());
    }
    let text = tokio::fs::read(path).await?;
    if is_utf16(&text) {
        return Err(NotUtf8::Utf16.into());
    }
    let text = bytes_without_mark(&text);
    let invalid = |what: String| Error::new(ErrorKind::InvalidData, what);
    if file == TlsFile::Key {
        let key = PrivateKeyDer::from_pem_slice(text);
        return key
            .map(drop)
            .map_err(|error| invalid(format!("no private key in PEM form: {error}")));
    }
    let certificates = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let certificates =
        certificates.map_err(|error| invalid(format!("no certificate in PEM form: {error}")))?;
    if certificates.is_empty() {
        return Err(invalid("no certificate in PEM form".into()));
    }
    if file == TlsFile::Ca {
        let mut trusted = RootCertStore::empty();
        for certificate in certificates {
            trusted
                .add(certificate)
                .map_err(|error| invalid(error.to_string()))?;
        }
    }
    Ok(())
}
