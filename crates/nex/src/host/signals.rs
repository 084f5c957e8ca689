//! The person's wish to end: Ctrl-C or SIGTERM; a second one means now.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CommandError;

/// The two signals that ask a program to end.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes them over from the default action, which would end us at once.
    ///
    /// # Errors
    /// When the system has no room for handlers.
    pub(crate) fn install() -> Result<Self, CommandError> {
        let take = |kind| {
            signal(kind).map_err(|error| {
                CommandError::failed("failed to take over the signals that end us").because(&error)
            })
        };
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one and returns the exit code of a program that it ends. Cancel safe.
    pub(crate) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}
