//! How a receiver connects to NATS.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lenient::null_default;

/// Servers and one way to authenticate: seed and JWT, else nkey and seed, else name and password,
/// else anonymous. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NatsConnectionData {
    /// Name of the connection, for the server's list; may be empty.
    #[serde(default, deserialize_with = "null_default")]
    pub conn_name: String,
    /// URLs of the servers.
    #[serde(default, deserialize_with = "null_default")]
    pub nats_servers: Vec<String>,
    /// User JWT, or empty.
    #[serde(default, deserialize_with = "null_default")]
    pub nats_user_jwt: String,
    /// User name, or empty.
    #[serde(default, deserialize_with = "null_default")]
    pub nats_user_name: String,
    /// Public nkey of the user, or empty.
    #[serde(default, deserialize_with = "null_default")]
    pub nats_user_nkey: String,
    /// Password, or empty.
    #[serde(default, deserialize_with = "null_default")]
    pub nats_user_password: String,
    /// Seed of the JWT's or the nkey's user, or empty.
    #[serde(default, deserialize_with = "null_default")]
    pub nats_user_seed: String,
    /// Path of a CA file on the receiver's machine, or empty.
    #[serde(default, deserialize_with = "null_default")]
    pub tls_ca: String,
    /// Path of a client certificate on the receiver's machine, or empty.
    #[serde(default, deserialize_with = "null_default")]
    pub tls_cert: String,
    /// Whether the TLS handshake comes before the server's first line.
    #[serde(default, deserialize_with = "null_default")]
    pub tls_first: bool,
    /// Path of the certificate's key on the receiver's machine, or empty.
    #[serde(default, deserialize_with = "null_default")]
    pub tls_key: String,
}

impl fmt::Debug for NatsConnectionData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConnectionData")
            .field("nats_servers", &self.nats_servers)
            .field("nats_user_nkey", &self.nats_user_nkey)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_eleven_keys_are_sent() {
        let sent = serde_json::to_value(NatsConnectionData::default()).unwrap();
        assert_eq!(sent.as_object().unwrap().len(), 11);
    }

    #[test]
    fn null_servers_are_none() {
        let read: NatsConnectionData = serde_json::from_str(r#"{"nats_servers":null}"#).unwrap();
        assert!(read.nats_servers.is_empty());
    }

    #[test]
    fn debug_shows_no_secret() {
        let data = NatsConnectionData {
            nats_user_seed: "SECRET".into(),
            nats_user_jwt: "SECRET".into(),
            nats_user_password: "SECRET".into(),
            ..NatsConnectionData::default()
        };
        assert!(!format!("{data:?}").contains("SECRET"));
    }
}
