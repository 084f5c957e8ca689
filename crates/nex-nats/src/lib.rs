//! Our NATS habits, once: how we connect, wait for a round trip, gather replies and serve.
//!
//! | item | what it is for |
//! |---|---|
//! | [`connect()`], [`ConnectOptions`], [`Connection`] | one connection, its errors fit for people |
//! | [`context`] | the `nats` CLI's connection contexts |
//! | [`barrier()`] | a round trip: what was subscribed before it, the server knows |
//! | [`request_many`] | one request, many replies |
//! | [`Presence`] | pings to a peer whose answer is awaited |
//! | [`service`] | a NATS micro service with wildcard subjects and ordered endpoints |
//! | [`error_headers`], [`read_error`] | the error envelope of the protocol |
//! | [`tells_full_disk`] | errors of a full disk, also in answers of the server |
//! | [`jetstream`] | refusals of JetStream, with the next step |
//! | [`reply_subject`] | where a request may be answered |
//!
//! Nothing here reads the environment or the home folder; the binary passes in what it found there.

pub mod context;
pub mod creds;
pub mod jetstream;

pub mod request_many;
pub mod service;

mod barrier;
mod connect;
mod denials;
mod envelope;
mod failure;
mod full_disk;
mod losses;
mod options;
mod presence;
mod reply;
mod tls;

pub use barrier::{BarrierError, barrier, barrier_or_denial};
pub use connect::{Connection, connect};
pub use denials::Denials;
pub use envelope::{error_headers, read_error};
pub use failure::{Cause, ConnectError};
pub use full_disk::tells_full_disk;
pub use losses::{Losses, RECONNECT, RETURN_PAUSE, RETURN_PERIOD};
pub use options::{
    Auth, ConnectOptions, DEFAULT_SERVER, DataError, Reconnect, Tls, below_home, redacted,
    split_user,
};
pub use presence::{
    FIRST_PING, MAX_SILENCE, MAX_UNHEARD, PING_PERIOD, PING_TIMEOUT, Presence, RECONNECT_PAUSE,
};
pub use reply::reply_subject;
pub use tls::TlsFile;
