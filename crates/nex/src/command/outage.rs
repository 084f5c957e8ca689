//! Losses of the connection under a command that goes on after them.

use std::pin::pin;

use nex_client::Client;

use crate::print::Printer;

/// Runs `work`, and reports each loss of the connection, and its return, on standard error
/// meanwhile. `missed` says what may be missing after a return.
pub(super) async fn reported<T>(
    client: &Client,
    printer: &Printer,
    missed: Option<&str>,
    work: impl Future<Output = T>,
) -> T {
    let reports = async {
        loop {
            client.losses().next().await;
            if !client.losses().is_down() {
                printer.note(returned("lost the connection to NATS for a moment", missed));
                continue;
            }
            printer.note("lost the connection to NATS, waiting for it");
            if !client.losses().up().await {
                // Closed for good: `work` ends by itself, with its own error.
                return std::future::pending().await;
            }
            printer.note(returned("connected to NATS again", missed));
        }
    };
    let (mut work, mut reports) = (pin!(work), pin!(reports));
    tokio::select! {
        biased;
        done = &mut work => done,
        never = &mut reports => never,
    }
}

fn returned(what: &str, missed: Option<&str>) -> String {
    match missed {
        Some(missed) => format!("{what}; {missed}"),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_missing_is_said_where_nothing_is_kept() {
        assert_eq!(returned("back", None), "back");
        assert_eq!(
            returned("back", Some("lines may be missing")),
            "back; lines may be missing"
        );
    }
}
