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

use tokio::{sync::watch, time::timeout};

/// Time for which a request waits for a connection that is down when the request is made.
pub const RECONNECT: Duration = Duration::from_secs(2);

/// The losses of a connection. Cheap to clone. The default never reports one.
#[derive(Clone, Debug, Default)]
pub struct Losses(Option<watch::Receiver<State>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// Number of losses since the connection was made.
    count: u64,
    /// `true` while the client is reconnecting.
    down: bool,
}

/// Records losses. Dropped, it reports that the connection is closed for good.
#[derive(Debug)]
pub(crate) struct LossRecorder(watch::Sender<State>);

impl LossRecorder {
    pub(crate) fn new() -> (Self, Losses) {
        let (state_tx, state_rx) = watch::channel(State::default());
        (Self(state_tx), Losses(Some(state_rx)))
    }

    pub(crate) fn disconnected(&self) {
        self.0.send_modify(|state| {
            state.count += 1;
            state.down = true;
        });
    }

    pub(crate) fn connected(&self) {
        self.0.send_modify(|state| state.down = false);
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
