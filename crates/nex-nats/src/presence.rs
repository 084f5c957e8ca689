//! Pings to a peer while its answer to a request is awaited.
//!
//! ```text
//!   request ──1 s──► ping ─┬─ answered ──2 s──► ping …
//!                          ├─ nobody listens ──1 s──► ping …    three in a row ──► absent
//!                          └─ no answer for 2 s ──► ping …      for 10 s ────────► absent
//! ```
//!
//! A request that takes longer than a second is accompanied by pings, so that the end of its peer is
//! noticed in seconds, whatever the time-out of the request is. A peer without a connection is gone; one
//! that is silent may only be busy.

use std::time::Duration;

use async_nats::{Client, Message, Request, RequestErrorKind};
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::barrier::barrier;

/// Time before the first ping: most requests are answered earlier.
pub const FIRST_PING: Duration = Duration::from_secs(1);

/// Pause after a ping that was answered.
pub const PING_PERIOD: Duration = Duration::from_secs(2);

/// Limit for the answer to one ping.
pub const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after a ping for which the server had no recipient: the peer may be about to reconnect.
pub const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Number of pings in a row without a recipient after which a peer is absent.
pub const MAX_UNHEARD: u32 = 3;

/// Time without an answer to any ping after which a peer that is connected is absent. A busy machine takes
/// seconds to answer.
pub const MAX_SILENCE: Duration = Duration::from_secs(10);

/// Pings to one peer, for as long as somebody waits for it.
#[derive(Debug)]
pub struct Presence {
    client: Client,
    subject: String,
    payload: Bytes,
    pause: Duration,
    /// Number of pings in a row without a recipient.
    unheard: u32,
    /// Time of the first of the last pings in a row without an answer.
    missed_since: Option<Instant>,
    sent: Instant,
}

impl Presence {
    /// Prepares pings on `subject`, which the peer alone answers.
    #[must_use]
    pub fn new(client: &Client, subject: String, payload: Bytes) -> Self {
        Self {
            client: client.clone(),
            subject,
            payload,
            pause: FIRST_PING,
            unheard: 0,
            missed_since: None,
            sent: Instant::now(),
        }
    }

    /// Sends the next ping when it is due. Returns the answer, or `None` for a ping without one.
    ///
    /// A ping counts as missed only if NATS itself answers: an outage says nothing about the peer.
    pub async fn next(&mut self) -> Option<Message> {
        sleep(self.pause).await;
        self.sent = Instant::now();
        let ping = Request::new()
            .payload(self.payload.clone())
            .timeout(Some(PING_TIMEOUT));
        let error = match self.client.send_request(self.subject.clone(), ping).await {
            Ok(answer) => {
                (self.unheard, self.missed_since) = (0, None);
                self.pause = PING_PERIOD;
                return Some(answer);
            }
            Err(error) => error.kind(),
        };
        let connected = match error {
            RequestErrorKind::NoResponders => true,
            RequestErrorKind::TimedOut => barrier(&self.client).await.is_ok(),
            _ => false,
        };
        self.missed_since = connected.then(|| self.missed_since.unwrap_or(self.sent));
        self.unheard = match error {
            RequestErrorKind::NoResponders => self.unheard + 1,
            _ => 0,
        };
        self.pause = match error {
            RequestErrorKind::TimedOut => Duration::ZERO,
            _ => RECONNECT_PAUSE,
        };
        None
    }

    /// Returns whether the peer counts as absent.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let silent = |since: Instant| since.elapsed() >= MAX_SILENCE;
        self.unheard >= MAX_UNHEARD || self.missed_since.is_some_and(silent)
    }

    /// Returns whether the last ping was missed.
    #[must_use]
    pub fn is_missed(&self) -> bool {
        self.missed_since.is_some()
    }
}
