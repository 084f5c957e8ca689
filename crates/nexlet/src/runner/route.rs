//! The way of a remote nexlet to NATS.
//!
//! A node knows the addresses by which it reaches NATS itself. On another machine they may lead
//! nowhere, or to another server: `127.0.0.1` does. So a remote nexlet keeps its own way, for
//! itself and for its workloads, and takes only credentials from the node.

use std::path::PathBuf;

use nex_nats::{ConnectOptions, Tls, split_user};
use nex_protocol::NatsConnectionData;

/// The servers and the TLS settings with which a remote nexlet was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    servers: Vec<String>,
    tls: Tls,
}

impl Route {
    /// The way of a connection.
    #[must_use]
    pub fn of(own: &ConnectOptions) -> Self {
        // A user in a URL is for that connection alone.
        let servers = own.servers.iter().map(|url| split_user(url).0);
        Self {
            servers: servers.collect(),
            tls: own.tls.clone(),
        }
    }

    /// Credentials from the node, to be used on this way.
    pub(super) fn replace_in(&self, data: &mut NatsConnectionData) {
        let text = |path: &Option<PathBuf>| {
            let path = path.as_deref();
            path.map(|path| path.display().to_string())
                .unwrap_or_default()
        };
        data.nats_servers.clone_from(&self.servers);
        data.tls_ca = text(&self.tls.ca);
        data.tls_cert = text(&self.tls.cert);
        data.tls_key = text(&self.tls.key);
        data.tls_first = self.tls.first;
    }
}
