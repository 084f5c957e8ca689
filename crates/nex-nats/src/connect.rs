//! One connection to NATS.

use std::{
    hash::{BuildHasher as _, RandomState},
    ops::Deref,
    sync::Arc,
    time::Duration,
};

use async_nats::{Client, Event, ServerAddr, ServerError};
use nex_protocol::text::decode;
use nkeys::KeyPair;
use tokio::{sync::watch, time::timeout};
use tracing::{debug, info, warn};

use crate::{
    barrier::round_trip,
    creds,
    denials::{Denials, Recorder},
    failure::ConnectError,
    losses::{LossRecorder, Losses},
    options::{Auth, ConnectOptions, Reconnect, redacted},
};

/// How long one server may take to answer a command: a person waits.
const COMMAND_SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long all servers and the resolver may take together, for a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(6);
/// How long one server may take to answer a node or a nexlet.
const SERVER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long all servers and the resolver may take together, for a node or a nexlet.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long the end of a connection may take, to get out what was published.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection. Clones share it; it is an [`async_nats::Client`] for most purposes.
#[derive(Clone, Debug)]
pub struct Connection {
    client: Client,
    options: Arc<ConnectOptions>,
    denials: Denials,
    losses: Losses,
    closed_rx: watch::Receiver<()>,
}

/// Connects to the first of the servers that takes us.
///
/// # Errors
/// When none does, with the servers and the cause; [`ConnectError::hint`] says what to do.
pub async fn connect(options: &ConnectOptions) -> Result<Connection, ConnectError> {
    let servers = addresses(options)?;
    options.tls.check().await?;
    let (recorder, denials) = Recorder::new(options.inbox_prefix.as_deref());
    let (loss_recorder, losses) = LossRecorder::new();
    let (closed_tx, closed_rx) = watch::channel(());
    let wanted = nats_options(options, servers.len()).await?;
    let watched = watch_events(
        wanted,
        options.reconnect,
        recorder,
        loss_recorder,
        closed_tx,
    );

    let limit = match options.reconnect {
        Reconnect::Command | Reconnect::Never => COMMAND_TIMEOUT,
        Reconnect::Forever => TIMEOUT,
    };
    let client = match timeout(limit, watched.connect(servers)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Err(ConnectError::from_nats(error, options.shown_servers())),
        Err(_elapsed) => return Err(ConnectError::timed_out(options.shown_servers())),
    };
    Ok(Connection {
        client,
        options: Arc::new(options.clone()),
        denials,
        losses,
        closed_rx,
    })
}

fn addresses(options: &ConnectOptions) -> Result<Vec<ServerAddr>, ConnectError> {
    if options.servers.is_empty() {
        return Err(ConnectError::NoServer);
    }
    let parse = |url: &String| {
        let address = url.trim().parse::<ServerAddr>().ok();
        address
            .filter(|address| !address.host().is_empty())
            .ok_or_else(|| ConnectError::InvalidUrl { url: redacted(url) })
    };
    options.servers.iter().map(parse).collect()
}

/// Everything of our options that async-nats has an option for.
async fn nats_options(
    options: &ConnectOptions,
    servers: usize,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    let mut wanted = async_nats::ConnectOptions::new().name(&options.name);
    wanted = match options.reconnect {
        Reconnect::Forever => wanted
            .connection_timeout(SERVER_TIMEOUT)
            .reconnect_delay_callback(reconnect_delay),
        Reconnect::Command => wanted
            .connection_timeout(COMMAND_SERVER_TIMEOUT)
            .reconnect_delay_callback(command_delay),
        // The count includes the first connection, which tries each server.
        Reconnect::Never => wanted
            .connection_timeout(COMMAND_SERVER_TIMEOUT)
            .max_reconnects(servers),
    };
    if let Some(prefix) = &options.inbox_prefix {
        wanted = wanted.custom_inbox_prefix(prefix);
    }
    if let Some(ca) = &options.tls.ca {
        wanted = wanted.add_root_certificates(ca.clone()).require_tls(true);
    }
    match (&options.tls.cert, &options.tls.key) {
        (Some(cert), Some(key)) => {
            wanted = wanted.add_client_certificate(cert.clone(), key.clone());
        }
        (None, None) => {}
        _ => return Err(ConnectError::HalfCertificate),
    }
    if options.tls.first {
        wanted = wanted.tls_first();
    }
    authenticate(wanted, &options.auth).await
}

/// How long to wait before an attempt to reconnect: doubled each time, a second at the most. The
/// library goes up to four, and a server that is back is to be noticed.
fn reconnect_delay(attempts: usize) -> Duration {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);
    let doublings = u32::try_from(attempts.saturating_sub(1).min(16)).unwrap_or_default();
    let delay = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    // Many clients lose one server at the same time; they are not to come back in step.
    let spread = u32::try_from(RandomState::new().hash_one(attempts) % 512).unwrap_or_default();
    delay * (512 + spread) / 1024
}

/// As [`reconnect_delay`], and none before the first attempt: a person waits for it.
fn command_delay(attempts: usize) -> Duration {
    match attempts {
        0 | 1 => Duration::ZERO,
        later => reconnect_delay(later - 1),
    }
}

async fn authenticate(
    wanted: async_nats::ConnectOptions,
    auth: &Auth,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    match auth {
        Auth::None => Ok(wanted),
        Auth::UserPassword { user, password } => {
            Ok(wanted.user_and_password(user.clone(), password.clone()))
        }
        Auth::Token(token) => Ok(wanted.token(token.clone())),
        Auth::Nkey { seed } => {
            KeyPair::from_seed(seed).map_err(|_damaged| ConnectError::InvalidSeed)?;
            Ok(wanted.nkey(seed.clone()))
        }
        Auth::Jwt { jwt, seed } => with_jwt(wanted, jwt.clone(), seed),
        Auth::Creds(text) => with_creds(wanted, text),
        Auth::CredsFile(path) => {
            let read = tokio::fs::read(path).await;
            let text = read.and_then(|bytes| Ok(decode(bytes)?));
            let text = text.map_err(|source| ConnectError::ReadCreds {
                path: path.clone(),
                source,
            })?;
            with_creds(wanted, &text)
        }
    }
}

fn with_creds(
    wanted: async_nats::ConnectOptions,
    text: &str,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    let (jwt, seed) = creds::parse(text).map_err(ConnectError::InvalidCreds)?;
    with_jwt(wanted, jwt, &seed)
}

fn with_jwt(
    wanted: async_nats::ConnectOptions,
    jwt: String,
    seed: &str,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    let pair = KeyPair::from_seed(seed).map_err(|_damaged| ConnectError::InvalidSeed)?;
    let pair = Arc::new(pair);
    Ok(wanted.jwt(jwt, move |nonce| {
        let pair = Arc::clone(&pair);
        async move { pair.sign(&nonce).map_err(async_nats::AuthError::new) }
    }))
}

/// Logs what happens to the connection.
///
/// The callback owns `closed_tx`: async-nats drops it when the connection has ended for good, also
/// where it sends no event for that (it ran out of attempts).
fn watch_events(
    wanted: async_nats::ConnectOptions,
    reconnect: Reconnect,
    recorder: Recorder,
    loss_recorder: LossRecorder,
    closed_tx: watch::Sender<()>,
) -> async_nats::ConnectOptions {
    wanted.event_callback(move |event| {
        let _keep = &closed_tx;
        match event {
            Event::ServerError(ServerError::Other(text)) if recorder.note(&text) => {
                debug!(%text, "NATS refused a subject");
            }
            Event::Disconnected => {
                loss_recorder.disconnected();
                if reconnect == Reconnect::Forever {
                    warn!("lost the connection to NATS");
                }
            }
            Event::SlowConsumer(subscription) => {
                warn!(
                    subscription,
                    "messages dropped: a subscription is read too slowly"
                );
            }
            Event::ServerError(error) => warn!(%error, "NATS reported an error"),
            Event::Connected => {
                recorder.reconnected();
                loss_recorder.connected();
                info!("connected to NATS");
            }
            event => debug!(%event, "NATS connection"),
        }
        async {}
    })
}

impl Connection {
    /// The client of async-nats.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What it was made from.
    #[must_use]
    pub fn data(&self) -> &ConnectOptions {
        &self.options
    }

    /// The largest payload, headers included, that the server takes, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// The first server of the options, without user and password.
    #[must_use]
    pub fn url(&self) -> String {
        self.options
            .servers
            .first()
            .map(|url| redacted(url))
            .unwrap_or_default()
    }

    /// How many subjects the server has refused us so far.
    #[must_use]
    pub fn permission_violations(&self) -> u64 {
        self.denials.count()
    }

    /// What the server refuses on it.
    #[must_use]
    pub fn denials(&self) -> &Denials {
        &self.denials
    }

    /// When it was lost.
    #[must_use]
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Resolves when the connection has ended for good: by [`close`](Self::close), or because no
    /// server took us back. Cancel safe.
    pub async fn closed(&self) {
        let mut closed_rx = self.closed_rx.clone();
        while closed_rx.changed().await.is_ok() {}
    }

    /// Gets out what was published, drains the subscriptions and ends the connection, for every
    /// clone. Takes two seconds at most.
    pub async fn close(self) {
        let end = async {
            // A socket closed with unread bytes in it may lose what was written last; after a
            // round trip the server has all of it.
            round_trip(&self.client).await.ok();
            self.client.drain().await.ok();
            self.closed().await;
        };
        if timeout(CLOSE_TIMEOUT, end).await.is_err() {
            debug!("the connection did not end in time");
        }
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl From<Connection> for Client {
    fn from(connection: Connection) -> Self {
        connection.client
    }
}

impl From<&Connection> for Client {
    fn from(connection: &Connection) -> Self {
        connection.client.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_at_once_and_then_every_second_at_least() {
        let delays: Vec<Duration> = (1..20).map(reconnect_delay).collect();

        assert!(delays[0] <= Duration::from_millis(10), "{delays:?}");
        for (longest, delay) in delays.iter().enumerate() {
            let longest = Duration::from_millis(10 << longest.min(7)).min(Duration::from_secs(1));
            assert!((longest / 2..=longest).contains(delay), "{delays:?}");
        }
    }
}
