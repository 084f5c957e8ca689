//! Reads lists from the server completely, over its restarts.

use std::time::Duration;

use async_nats::Client;
use tokio::time::sleep;

use super::{
    buckets::connects,
    error::{ServiceCode, ServiceError},
};

/// Attempts to read something on one connection before it is given up. The deadline of the invocation may
/// end them earlier.
pub(super) const MAX_READS: usize = 5;
/// The pause before it is read again.
const PAUSE: Duration = Duration::from_millis(250);

impl Incomplete {
    /// Classifies an error from before the list began: that of a server that does not answer at the
    /// moment says nothing about the list.
    pub(super) fn at_start(error: ServiceError) -> Self {
        match error.code {
            ServiceCode::Unavailable | ServiceCode::Timeout => Self::Broken(error),
            _ => Self::Refused(error),
        }
    }
}

/// The reason why a list was not read to its end.
pub(super) enum Incomplete {
    /// The consumer or the connection broke off.
    Broken(ServiceError),
    /// The server refuses the list.
    Refused(ServiceError),
}

/// Reads a list; begins again where it breaks off, or where the client has connected anew meanwhile:
/// the client library then goes on somewhere, entries may be missing or come twice, and the end may
/// never come.
pub(super) async fn whole<T, F>(client: &Client, read: impl Fn() -> F) -> Result<T, ServiceError>
where
    F: Future<Output = Result<T, Incomplete>>,
{
    let mut broken = 0;
    loop {
        let before = connects(client);
        let read = tokio::select! {
            read = read() => read,
            () = reconnected(client, before) => continue,
        };
        match read {
            _ if connects(client) != before => {}
            Ok(list) => return Ok(list),
            Err(Incomplete::Refused(error)) => return Err(error),
            Err(Incomplete::Broken(error)) => {
                broken += 1;
                if broken == MAX_READS {
                    return Err(error);
                }
            }
        }
        sleep(PAUSE).await;
    }
}

/// Returns when the client has connected anew.
async fn reconnected(client: &Client, before: u64) {
    while connects(client) == before {
        sleep(PAUSE).await;
    }
}
