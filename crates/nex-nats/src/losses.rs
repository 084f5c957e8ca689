//! Losses of a connection.
//!
//! async-nats reconnects by itself and says nothing to pending requests: their answers are gone with
//! the old connection, so each of them would wait for its whole timeout.
//!
//! ```text
//!   up ── Event::Disconnected, count + 1 ──► down ── Event::Connected ──► up
//!                                              └──── no more attempts ──► closed
//! ```

use std::{future::pending, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// Time for which a request waits for a connection that is down when the request is made.
pub const RECONNECT: Duration = Duration::from_secs(2);

/// Time after a reconnect in which the other clients of a server that was restarted are back on it: nodes
/// and nexlets try again every second, and a busy machine takes longer.
pub const RETURN_PERIOD: Duration = Duration::from_secs(5);

/// Pause before a request is sent again that had no recipient within [`RETURN_PERIOD`].
pub const RETURN_PAUSE: Duration = Duration::from_millis(200);

/// The losses of a connection. Cheap to clone. The default never reports one.
#[derive(Clone, Debug, Default)]
pub struct Losses(Option<watch::Receiver<State>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// Number of losses since the connection was made.
    count: u64,
    /// `true` while the client is reconnecting.
    down: bool,
    /// The time of the last change between the two.
    since: Instant,
}

/// Records losses. Dropped, it reports that the connection is closed for good.
#[derive(Debug)]
pub(crate) struct LossRecorder(watch::Sender<State>);

impl LossRecorder {
    pub(crate) fn new() -> (Self, Losses) {
        let (state_tx, state_rx) = watch::channel(State {
            count: 0,
            down: false,
            since: Instant::now(),
        });
        (Self(state_tx), Losses(Some(state_rx)))
    }

    pub(crate) fn disconnected(&self) {
        self.0.send_modify(|state| {
            state.count += 1;
            state.down = true;
            state.since = Instant::now();
        });
    }

    pub(crate) fn connected(&self) {
        self.0.send_modify(|state| {
            state.down = false;
            state.since = Instant::now();
        });
    }
}

impl Losses {
    /// Returns the number of losses since the connection was made.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |state_rx| state_rx.borrow().count)
    }

    /// Returns whether the connection is down or closed now.
    #[must_use]
    pub fn is_down(&self) -> bool {
        let state_rx = self.0.as_ref();
        state_rx.is_some_and(|state_rx| state_rx.borrow().down || state_rx.has_changed().is_err())
    }

    /// Returns whether the connection is down, or has come back less than `period` ago after a loss. Other
    /// clients of a server that was restarted may then not be back yet: that the server has no
    /// recipient for a message says nothing about them.
    #[must_use]
    pub fn was_lost_within(&self, period: Duration) -> bool {
        let state = self.0.as_ref().map(|state_rx| *state_rx.borrow());
        state.is_some_and(|state| state.down || state.count > 0 && state.since.elapsed() < period)
    }

    /// Resolves when the connection is lost: the one that is up when this is called, or else the next
    /// one, which may take [`RECONNECT`] to come up. Cancel safe.
    pub fn next(&self) -> impl Future<Output = ()> + Send + use<> {
        let state_rx = self.0.clone();
        // Read at the call, not at the first poll: a loss between the two must count.
        let state = state_rx.as_ref().map(|state_rx| *state_rx.borrow());
        async move {
            let (Some(mut state_rx), Some(mut state)) = (state_rx, state) else {
                return pending().await;
            };
            if state.down {
                match timeout(RECONNECT, state_rx.wait_for(|state| !state.down)).await {
                    Ok(Ok(up)) => state = *up,
                    Ok(Err(_closed)) => return,
                    Err(_elapsed) => return,
                }
            }
            // An error means that the connection is closed, which is a loss too.
            state_rx.wait_for(|it| it.count != state.count).await.ok();
        }
    }

    /// Resolves with true when the connection is up, and with false when it is closed for good.
    /// Cancel safe.
    pub async fn up(&self) -> bool {
        match self.0.clone() {
            Some(mut state_rx) => state_rx.wait_for(|state| !state.down).await.is_ok(),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_hears_of_the_loss_of_its_own_connection() {
        let (recorder, losses) = LossRecorder::new();
        recorder.connected();
        let mut pending_request = Box::pin(losses.next());
        assert!((&mut pending_request).now_or_never().is_none());

        recorder.disconnected();
        recorder.connected();

        assert!(pending_request.now_or_never().is_some());
        assert!(losses.next().now_or_never().is_none());
        assert_eq!((losses.count(), losses.is_down()), (1, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_a_while_for_a_connection_that_is_down() {
        let (recorder, losses) = LossRecorder::new();
        recorder.disconnected();
        let mut first = Box::pin(losses.next());
        assert!((&mut first).now_or_never().is_none());
        recorder.connected();
        assert!(first.now_or_never().is_none(), "the new connection holds");

        recorder.disconnected();
        let begun = tokio::time::Instant::now();
        losses.next().await;

        assert_eq!(begun.elapsed(), RECONNECT);
        assert!(losses.up().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_loss_is_remembered_for_a_while_after_the_connection_is_back() {
        let period = Duration::from_secs(5);
        let (recorder, losses) = LossRecorder::new();
        assert!(!losses.was_lost_within(period), "it is new");

        recorder.disconnected();
        assert!(losses.was_lost_within(period));
        recorder.connected();
        tokio::time::advance(period - Duration::from_millis(1)).await;
        assert!(losses.was_lost_within(period));
        tokio::time::advance(Duration::from_millis(1)).await;

        assert!(!losses.was_lost_within(period));
        assert!(!Losses::default().was_lost_within(period));
    }

    #[tokio::test]
    async fn a_closed_connection_is_lost_and_a_foreign_one_never() {
        let (recorder, losses) = LossRecorder::new();
        drop(recorder);
        losses.next().await;
        assert!(losses.is_down());

        assert!(Losses::default().next().now_or_never().is_none());
        assert!(Losses::default().up().await);
    }
}
