//! Connections that wait for the next request to the same address.
//!
//! A request takes one only after its host was resolved and its addresses were checked as for a new
//! connection, and only one that leads to such an address: that it is open already gives nobody more
//! rights, and a name that leads elsewhere now does not keep its old address.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, sleep};

/// How long a connection waits. Shorter than servers do, which are about to close it otherwise just
/// when it is used.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// How many wait for one host and address.
const MAX_FOR_ONE: usize = 8;
/// How many wait in all.
const MAX_IN_ALL: usize = 64;

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// Scheme and host: of an encrypted connection, the certificate was checked for that name.
    pub(super) origin: String,
    pub(super) address: SocketAddr,
}

/// Open connections without a request. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Idle(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    kept: HashMap<Place, Vec<Kept>>,
    count: usize,
    /// Whether a task looks after them.
    watched: bool,
}

struct Kept {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

impl Idle {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An open connection to that place.
    pub(super) fn take(&self, place: &Place) -> Option<SendRequest<Full<Bytes>>> {
        let mut state = self.lock();
        loop {
            // The one that was used last: the server has it for longest.
            let kept = state.kept.get_mut(place)?.pop()?;
            state.count -= 1;
            if kept.sender.is_ready() && kept.since.elapsed() < IDLE_TIMEOUT {
                return Some(kept.sender);
            }
        }
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn keep(&self, place: Place, sender: SendRequest<Full<Bytes>>) {
        let mut state = self.lock();
        if sender.is_closed() || state.count >= MAX_IN_ALL {
            return;
        }
        let kept = state.kept.entry(place).or_default();
        if kept.len() >= MAX_FOR_ONE {
            return;
        }
        let since = Instant::now();
        kept.push(Kept { sender, since });
        state.count += 1;
        if !std::mem::replace(&mut state.watched, true) {
            drop(state);
            tokio::spawn(self.clone().watch());
        }
    }

    /// Ends connections that have waited long enough, until there are none.
    async fn watch(self) {
        loop {
            sleep(IDLE_TIMEOUT).await;
            let mut state = self.lock();
            let State {
                kept,
                count,
                watched,
            } = &mut *state;
            for all in kept.values_mut() {
                all.retain(|one| !one.sender.is_closed() && one.since.elapsed() < IDLE_TIMEOUT);
            }
            kept.retain(|_, all| !all.is_empty());
            *count = kept.values().map(Vec::len).sum();
            if *count == 0 {
                *watched = false;
                return;
            }
        }
    }
}
