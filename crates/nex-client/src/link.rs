//! The connection under a client.

use nex_nats::{Connection, Denials, Losses};

/// A connection to NATS, with the refusals of its server and the losses of the connection.
///
/// One made by [`nex_nats::connect`] reports both at once; with another client of async-nats a
/// request that the server refuses, or that is lost with its connection, runs out of time.
#[derive(Clone, Debug)]
pub struct Link {
    pub(crate) nats: async_nats::Client,
    pub(crate) denials: Denials,
    pub(crate) losses: Losses,
}

impl From<async_nats::Client> for Link {
    fn from(nats: async_nats::Client) -> Self {
        Self {
            nats,
            denials: Denials::default(),
            losses: Losses::default(),
        }
    }
}

impl From<&Connection> for Link {
    fn from(connection: &Connection) -> Self {
        Self {
            nats: connection.client().clone(),
            denials: connection.denials().clone(),
            losses: connection.losses().clone(),
        }
    }
}

impl From<Connection> for Link {
    fn from(connection: Connection) -> Self {
        Self::from(&connection)
    }
}
