//! The connection under a client.

use nex_nats::{Connection, Denials};

/// A connection to NATS, and what the server refuses on it where that is known.
///
/// One made by [`nex_nats::connect`] tells a refusal at once; with another client of async-nats a
/// request that the server refuses runs out of time.
#[derive(Clone, Debug)]
pub struct Link {
    pub(crate) nats: async_nats::Client,
    pub(crate) denials: Denials,
}

impl From<async_nats::Client> for Link {
    fn from(nats: async_nats::Client) -> Self {
        Self {
            nats,
            denials: Denials::default(),
        }
    }
}

impl From<&Connection> for Link {
    fn from(connection: &Connection) -> Self {
        Self {
            nats: connection.client().clone(),
            denials: connection.denials().clone(),
        }
    }
}

impl From<Connection> for Link {
    fn from(connection: Connection) -> Self {
        Self::from(&connection)
    }
}
