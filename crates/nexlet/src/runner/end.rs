//! The order to end.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// When a nexlet is to end, and how long its workloads may take then. Clones are one and the same.
///
/// A [`CancellationToken`] becomes one: cancelled, it orders the end with [`GRACE`](Self::GRACE).
#[derive(Clone, Debug)]
pub struct End {
    ordered: CancellationToken,
    grace_tx: Arc<watch::Sender<Duration>>,
    workloads_ended: CancellationToken,
}

impl Default for End {
    fn default() -> Self {
        CancellationToken::new().into()
    }
}

impl From<CancellationToken> for End {
    fn from(ordered: CancellationToken) -> Self {
        Self {
            ordered,
            grace_tx: Arc::new(watch::Sender::new(Self::GRACE)),
            workloads_ended: CancellationToken::new(),
        }
    }
}

impl End {
    /// How long workloads may take where nobody says less.
    pub const GRACE: Duration = Duration::from_secs(5);

    /// One that is ordered when `signal` resolves, such as on Ctrl-C. Must be called within a
    /// runtime.
    pub fn when(signal: impl Future<Output = ()> + Send + 'static) -> Self {
        let end = Self::default();
        let ordered = end.clone();
        tokio::spawn(async move {
            signal.await;
            ordered.order(Self::GRACE);
        });
        end
    }

    /// Orders the end. Of several orders, also of those that come while workloads end, the
    /// shortest grace counts.
    pub fn order(&self, grace: Duration) {
        self.grace_tx.send_if_modified(|shortest| {
            let shorter = grace < *shortest;
            *shortest = grace.min(*shortest);
            shorter
        });
        self.ordered.cancel();
    }

    /// Resolves when the runner has shut its nexlet down; goodbyes to NATS may still be under way.
    /// Never, where the runner ended before it served. Cancel safe.
    pub async fn workloads_ended(&self) {
        self.workloads_ended.cancelled().await;
    }

    /// Resolves when the end is ordered. Cancel safe.
    pub(super) async fn ordered(&self) {
        self.ordered.cancelled().await;
    }

    /// Cancelled by the order.
    pub(super) fn token(&self) -> CancellationToken {
        self.ordered.clone()
    }

    /// The grace, and its changes.
    pub(super) fn grace(&self) -> watch::Receiver<Duration> {
        self.grace_tx.subscribe()
    }

    pub(super) fn tell_workloads_ended(&self) {
        self.workloads_ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_shortest_grace_counts() {
        let end = End::default();
        let mut grace_rx = end.grace();
        assert_eq!(*grace_rx.borrow_and_update(), End::GRACE);

        end.order(Duration::from_secs(60));
        assert!(!grace_rx.has_changed().unwrap());
        end.order(Duration::from_secs(1));
        end.order(Duration::from_secs(2));

        end.ordered().await;
        assert_eq!(*grace_rx.borrow(), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_signal_orders_the_end() {
        End::when(async {}).ordered().await;
    }
}
