//! The configuration that a node hands to a local nexlet.

use nex_nats::ConnectOptions;
use nex_protocol::{InvalidId, NatsConnectionData, NexletId, NodeId, registration::env};

use super::RunnerConfig;

/// What is wrong with the environment of a local nexlet.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEnvironment {
    /// A variable is missing.
    #[error("`{0}` is not set: a local nexlet is started by its node")]
    Missing(&'static str),
    /// A variable holds no id.
    #[error("failed to read `{name}`")]
    Id {
        /// The variable.
        name: &'static str,
        /// What is wrong.
        #[source]
        source: InvalidId,
    },
    /// The JWT is no base64 of a text.
    #[error("failed to read `{}`: want standard base64 of a JWT", env::B64_JWT)]
    Jwt,
}

impl RunnerConfig {
    /// Reads what a node puts into the environment of its local nexlets. `variable` looks one up.
    ///
    /// # Errors
    /// [`InvalidEnvironment`] names the variable.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidEnvironment> {
        let text = |name| variable(name).unwrap_or_default();
        let required = |name| {
            let value = variable(name).filter(|value| !value.is_empty());
            value.ok_or(InvalidEnvironment::Missing(name))
        };
        let invalid = |name| move |source| InvalidEnvironment::Id { name, source };

        let servers = required(env::SERVERS)?;
        let data = NatsConnectionData {
            nats_servers: servers
                .split(',')
                .map(|server| server.trim().to_owned())
                .collect(),
            nats_user_jwt: decode_jwt(&text(env::B64_JWT))?,
            nats_user_name: text(env::USER),
            nats_user_nkey: text(env::NKEY),
            nats_user_password: text(env::PASSWORD),
            nats_user_seed: text(env::SEED),
            tls_ca: text(env::TLS_CA),
            tls_cert: text(env::TLS_CERT),
            tls_first: text(env::TLS_FIRST) == "true",
            tls_key: text(env::TLS_KEY),
            ..NatsConnectionData::default()
        };
        let node = required(env::NODE_ID)?;
        let id = required(env::ASSIGNED_ID)?;
        let id = NexletId::new(id).map_err(invalid(env::ASSIGNED_ID))?;
        Ok(Self {
            node: NodeId::new(node).map_err(invalid(env::NODE_ID))?,
            registration: ConnectOptions::from_data(&data, &format!("nexlet {id} (registration)")),
            id,
            route: None,
        })
    }
}

fn decode_jwt(text: &str) -> Result<String, InvalidEnvironment> {
    let bytes = data_encoding::BASE64.decode(text.as_bytes());
    let bytes = bytes.map_err(|_| InvalidEnvironment::Jwt)?;
    String::from_utf8(bytes).map_err(|_| InvalidEnvironment::Jwt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn variables() -> HashMap<&'static str, String> {
        HashMap::from([
            (
                env::SERVERS,
                "nats://127.0.0.1:4222, nats://127.0.0.1:4223".to_owned(),
            ),
            (env::NODE_ID, format!("N{}", "A".repeat(55))),
            (env::ASSIGNED_ID, "nexlet".to_owned()),
            (env::B64_JWT, String::new()),
        ])
    }

    fn read(variables: &HashMap<&str, String>) -> Result<RunnerConfig, InvalidEnvironment> {
        RunnerConfig::from_environment(|name| variables.get(name).cloned())
    }

    #[test]
    fn what_a_node_sets_is_read() {
        let config = read(&variables()).unwrap();

        assert_eq!(config.id.as_str(), "nexlet");
        assert_eq!(
            config.registration.servers,
            ["nats://127.0.0.1:4222", "nats://127.0.0.1:4223"]
        );
    }

    #[test]
    fn a_private_ca_is_read() {
        let mut variables = variables();
        variables.insert(env::TLS_CA, "/ca.pem".to_owned());
        variables.insert(env::TLS_FIRST, "true".to_owned());

        let tls = read(&variables).unwrap().registration.tls;

        assert_eq!(tls.ca.as_deref(), Some(std::path::Path::new("/ca.pem")));
        assert!(tls.first && tls.cert.is_none());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let mut missing = variables();
        missing.remove(env::NODE_ID);
        assert!(
            read(&missing)
                .unwrap_err()
                .to_string()
                .contains(env::NODE_ID)
        );

        let mut wrong = variables();
        wrong.insert(env::B64_JWT, "?".to_owned());
        assert!(read(&wrong).unwrap_err().to_string().contains(env::B64_JWT));
    }
}
