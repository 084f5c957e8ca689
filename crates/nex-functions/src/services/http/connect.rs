//! Connections of the HTTP client, to addresses that were checked.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    sync::OnceCell,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use url::{Host, Url};

use super::{
    super::{
        error::{ServiceCode, ServiceError},
        grants::Grants,
    },
    idle::{Idle, Place},
    shown,
};

/// How long the resolver may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one address may take to accept a connection, and to agree on encryption.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 4;

/// Makes connections. The machine's certificates are read when the first `https` comes.
#[derive(Default)]
pub(super) struct Connector {
    tls: OnceCell<TlsConnector>,
    idle: Idle,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// A host that the function may reach, where it is at the moment.
pub(super) struct Target {
    /// Scheme and host.
    origin: String,
    addresses: Vec<SocketAddr>,
}

/// A connection for one request.
pub(super) struct Connected {
    pub(super) sender: SendRequest<Full<Bytes>>,
    place: Place,
}

impl Connector {
    /// Resolves the host of a URL, if the grants allow that host, to the addresses that they allow.
    pub(super) async fn target(&self, grants: &Grants, url: &Url) -> Result<Target, ServiceError> {
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            let text = format!("invalid URL `{}`: it names no host", shown(url));
            return Err(ServiceError::new(ServiceCode::BadRequest, text));
        };
        Ok(Target {
            addresses: resolve(grants, &host, port).await?,
            origin: format!("{}://{host}", url.scheme()),
        })
    }

    /// A connection that is open already.
    pub(super) fn open_one(&self, target: &Target) -> Option<Connected> {
        target.addresses.iter().find_map(|address| {
            let place = target.place(*address);
            let sender = self.idle.take(&place)?;
            Some(Connected { sender, place })
        })
    }

    /// Keeps a connection for the next request.
    pub(super) fn keep(&self, connected: Connected) {
        self.idle.keep(connected.place, connected.sender);
    }

    /// A new connection.
    pub(super) async fn connect(
        &self,
        target: &Target,
        url: &Url,
    ) -> Result<Connected, ServiceError> {
        let unreachable = |error: &(dyn std::error::Error + 'static)| {
            ServiceError::unavailable(&format!("failed to call `{}`", shown(url)), error)
        };
        let (address, stream) = open(&target.addresses)
            .await
            .map_err(|error| unreachable(&error))?;
        let started = match url.host().filter(|_| url.scheme() == "https") {
            None => start(stream).await,
            Some(host) => {
                let name = server_name(&host).map_err(|error| unreachable(&error))?;
                let tls = self.tls().await?;
                let encrypted = timeout(CONNECT_TIMEOUT, tls.connect(name, stream)).await;
                let encrypted = encrypted
                    .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
                    .map_err(|error| unreachable(&error))?;
                start(encrypted).await
            }
        };
        Ok(Connected {
            sender: started.map_err(|error| unreachable(&error))?,
            place: target.place(address),
        })
    }

    async fn tls(&self) -> Result<TlsConnector, ServiceError> {
        let unready = |error: &(dyn std::error::Error + 'static)| {
            ServiceError::unavailable("failed to prepare encryption", error)
        };
        let made = self.tls.get_or_try_init(async || {
            // Certificates are files: nothing for a thread that does I/O of NATS.
            let roots = tokio::task::spawn_blocking(|| {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                roots
            });
            let roots = roots.await.map_err(|error| unready(&error))?;
            let provider = Arc::new(ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| unready(&error))?
                .with_root_certificates(roots)
                .with_no_client_auth();
            Ok(TlsConnector::from(Arc::new(config)))
        });
        made.await.cloned()
    }
}

/// The addresses of a host that the function may reach.
async fn resolve(
    grants: &Grants,
    host: &Host<&str>,
    port: u16,
) -> Result<Vec<SocketAddr>, ServiceError> {
    let all: Vec<SocketAddr> = match host {
        Host::Ipv4(address) => vec![SocketAddr::new(IpAddr::V4(*address), port)],
        Host::Ipv6(address) => vec![SocketAddr::new(IpAddr::V6(*address), port)],
        Host::Domain(name) => {
            grants.host(name)?;
            let unresolved = |error: &io::Error| {
                ServiceError::unavailable(&format!("failed to resolve `{name}`"), error)
            };
            match timeout(RESOLVE_TIMEOUT, lookup_host((*name, port))).await {
                Ok(Ok(found)) => found.collect(),
                Ok(Err(error)) => return Err(unresolved(&error)),
                Err(_elapsed) => return Err(unresolved(&io::ErrorKind::TimedOut.into())),
            }
        }
    };
    if let [only] = all[..]
        && !matches!(host, Host::Domain(_))
    {
        grants.host(&only.ip().to_string())?;
    }
    let allowed = all.iter().filter(|address| grants.address(address.ip()));
    let allowed: Vec<SocketAddr> = allowed.take(MAX_ADDRESSES).copied().collect();
    if allowed.is_empty() {
        let text = format!(
            "the address of `{host}` is private, of the link or none: functions here may not call it"
        );
        return Err(ServiceError::new(ServiceCode::Denied, text));
    }
    Ok(allowed)
}

/// A connection to the first address that takes one.
async fn open(addresses: &[SocketAddr]) -> io::Result<(SocketAddr, TcpStream)> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok((*address, stream));
            }
            Ok(Err(error)) => last = error,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

fn server_name(host: &Host<&str>) -> io::Result<ServerName<'static>> {
    Ok(match host {
        Host::Ipv4(address) => ServerName::from(IpAddr::V4(*address)),
        Host::Ipv6(address) => ServerName::from(IpAddr::V6(*address)),
        Host::Domain(name) => ServerName::try_from((*name).to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
    })
}

impl Target {
    fn place(&self, address: SocketAddr) -> Place {
        Place {
            origin: self.origin.clone(),
            address,
        }
    }
}

/// Speaks HTTP/1.1 on a stream. The connection ends with what is returned.
async fn start<S>(stream: S) -> hyper::Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Its errors are those of the request.
    tokio::spawn(connection);
    Ok(sender)
}
