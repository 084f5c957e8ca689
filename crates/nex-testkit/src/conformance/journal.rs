//! Everything that was said on a server, in the order in which it was delivered.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use tokio::sync::watch;

use super::LIMIT;
use crate::RawMessage;

#[derive(Debug)]
pub(super) struct Journal {
    messages: Mutex<Vec<RawMessage>>,
    len_tx: watch::Sender<usize>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            messages: Mutex::default(),
            len_tx: watch::Sender::new(0),
        }
    }

    fn messages(&self) -> MutexGuard<'_, Vec<RawMessage>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, message: RawMessage) {
        let mut messages = self.messages();
        messages.push(message);
        self.len_tx.send_replace(messages.len());
    }

    /// How many there are; a place to look from.
    pub(super) fn len(&self) -> usize {
        self.messages().len()
    }

    /// The first one from a place on, and its own place; waits for it.
    pub(super) async fn find(
        &self,
        what: &str,
        from: usize,
        wanted: impl Fn(&RawMessage) -> bool,
    ) -> anyhow::Result<(usize, RawMessage)> {
        let mut len_rx = self.len_tx.subscribe();
        let mut next = from;
        let finding = async {
            loop {
                len_rx.borrow_and_update();
                let found = {
                    let messages = self.messages();
                    let mut rest = messages.iter().enumerate().skip(next);
                    let found = rest.find(|(_, message)| wanted(message));
                    next = messages.len();
                    found.map(|(at, message)| (at, message.clone()))
                };
                if let Some(found) = found {
                    return found;
                }
                len_rx.changed().await.ok();
            }
        };
        let found = tokio::time::timeout(LIMIT, finding).await;
        found
            .ok()
            .with_context(|| format!("no {what} within {LIMIT:?}"))
    }

    /// Those that came so far.
    pub(super) fn all(&self, wanted: impl Fn(&RawMessage) -> bool) -> Vec<RawMessage> {
        let messages = self.messages();
        messages.iter().filter(|it| wanted(it)).cloned().collect()
    }

    /// How many came so far.
    pub(super) fn count(&self, wanted: impl Fn(&RawMessage) -> bool) -> usize {
        self.messages().iter().filter(|it| wanted(it)).count()
    }
}
