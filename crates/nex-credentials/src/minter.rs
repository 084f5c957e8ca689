//! Makes the connection data that a node hands to others.

use std::time::{Duration, SystemTime};

use nex_protocol::{Namespace, NatsConnectionData, NexletId, NexusName, NodeId, WorkloadId};
use nkeys::KeyPair;

use crate::jwt::{self, SignError};
use crate::permissions::Permissions;

/// How long a minted user is valid, as in Go.
const USER_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Why no credentials could be made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The new user's key has no seed; keys are made with one.
    #[error("failed to read the seed of a new key")]
    Seed(#[source] nkeys::error::Error),
    /// The signing key cannot sign.
    #[error("failed to mint a user")]
    Sign(#[source] SignError),
}

/// What a workload may do, and what a nexlet may do for the functions of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadGrant {
    /// Requests and its namespace's logs, as in Go.
    Narrow,
    /// Everything but `$SYS`, `$NEX` and the administration of Nex's streams.
    Open,
}

/// Where the receiver finds the files for TLS; all empty without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Path of a CA file, or empty.
    pub ca: String,
    /// Path of a client certificate, or empty.
    pub cert: String,
    /// Path of the certificate's key, or empty.
    pub key: String,
    /// Whether the TLS handshake comes before the server's first line.
    pub first: bool,
}

/// Makes connection data for nexlets and workloads. `Debug` shows no secret.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process has one, and it is moved once"
)]
pub enum Minter {
    /// A new user for each, signed by a signing key of the account.
    SigningKey {
        /// The key, with its seed.
        signing_key: KeyPair,
        /// Public key of the account that it is a signing key of.
        account: String,
        /// URLs of the servers that the node is connected to.
        servers: Vec<String>,
        /// The node's own TLS files, for nexlets on its machine.
        tls: TlsFiles,
        /// What workloads get.
        grant: WorkloadGrant,
    },
    /// What the node itself connects with, for all: full access.
    PassThrough(NatsConnectionData),
}

impl Minter {
    /// For a nexlet that is about to register.
    ///
    /// # Errors
    /// The signing key cannot sign.
    pub fn registration(
        &self,
        node: &NodeId,
        nexlet: &NexletId,
    ) -> Result<NatsConnectionData, MintError> {
        self.mint(nexlet.as_str(), &[], || {
            Permissions::registration(node, nexlet)
        })
    }

    /// For a registered nexlet. Its type becomes a tag, by which an operator tells users apart.
    ///
    /// # Errors
    /// The signing key cannot sign.
    pub fn nexlet(
        &self,
        node: &NodeId,
        nexus: &NexusName,
        nexlet: &NexletId,
        workload_type: &str,
    ) -> Result<NatsConnectionData, MintError> {
        let tags = [format!("nexlet:{workload_type}")];
        self.mint(nexlet.as_str(), &tags, || {
            Permissions::nexlet(node, nexus, nexlet)
        })
    }

    /// For a workload.
    ///
    /// # Errors
    /// The signing key cannot sign.
    pub fn workload(
        &self,
        namespace: &Namespace,
        id: &WorkloadId,
    ) -> Result<NatsConnectionData, MintError> {
        self.mint(id.as_str(), &[], || match self {
            Self::SigningKey {
                grant: WorkloadGrant::Narrow,
                ..
            } => Permissions::narrow_workload(namespace),
            _ => Permissions::open_workload(),
        })
    }

    /// For a nexlet that hosts the functions of a namespace on one connection. It is as open as
    /// functions need, whatever workloads get: the nexlet keeps it, and holds each function to the
    /// function's own rights.
    ///
    /// # Errors
    /// The signing key cannot sign.
    pub fn namespace(&self, namespace: &Namespace) -> Result<NatsConnectionData, MintError> {
        self.mint(namespace.as_str(), &[], Permissions::open_workload)
    }

    fn mint(
        &self,
        name: &str,
        tags: &[String],
        permissions: impl FnOnce() -> Permissions,
    ) -> Result<NatsConnectionData, MintError> {
        let (signing_key, account, servers, tls) = match self {
            Self::SigningKey {
                signing_key,
                account,
                servers,
                tls,
                ..
            } => (signing_key, account, servers, tls),
            Self::PassThrough(data) => return Ok(data.clone()),
        };
        let permissions = permissions();
        let user = jwt::User {
            // The new key's, filled in by `mint_user`.
            subject: "",
            name,
            issuer_account: Some(account),
            permissions: &permissions,
            bearer: false,
            tags,
            lifetime: Some(USER_LIFETIME),
        };
        let mut data = mint_user(user, signing_key, SystemTime::now())?;
        data.nats_servers.clone_from(servers);
        data.tls_ca.clone_from(&tls.ca);
        data.tls_cert.clone_from(&tls.cert);
        data.tls_key.clone_from(&tls.key);
        data.tls_first = tls.first;
        Ok(data)
    }
}

/// Makes a new user with a key of its own, which becomes the subject of its JWT. The answer has
/// the JWT and the seed, and no servers.
///
/// # Errors
/// The signing key cannot sign.
pub fn mint_user(
    user: jwt::User<'_>,
    signing_key: &KeyPair,
    now: SystemTime,
) -> Result<NatsConnectionData, MintError> {
    let key = KeyPair::new_user();
    let public = key.public_key();
    let user = jwt::User {
        subject: &public,
        ..user
    };
    Ok(NatsConnectionData {
        nats_user_jwt: jwt::user(&user, signing_key, now).map_err(MintError::Sign)?,
        nats_user_seed: key.seed().map_err(MintError::Seed)?,
        ..NatsConnectionData::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::tests::decode;
    use serde_json::json;

    fn minter(grant: WorkloadGrant) -> (Minter, KeyPair, KeyPair) {
        let (account, signing_key) = (KeyPair::new_account(), KeyPair::new_account());
        let minter = Minter::SigningKey {
            signing_key: signing_key.clone(),
            account: account.public_key(),
            servers: vec!["nats://127.0.0.1:4222".into()],
            tls: TlsFiles {
                ca: "/ca.pem".into(),
                ..TlsFiles::default()
            },
            grant,
        };
        (minter, account, signing_key)
    }

    fn node() -> NodeId {
        NodeId::new(KeyPair::new_server().public_key()).unwrap()
    }

    #[test]
    fn a_user_is_issued_by_the_signing_key_for_the_account() {
        let (minter, account, signing_key) = minter(WorkloadGrant::Narrow);
        let nexlet = NexletId::mint();

        let data = minter.registration(&node(), &nexlet).unwrap();

        let claims = decode(&data.nats_user_jwt);
        let user = KeyPair::from_seed(&data.nats_user_seed).unwrap();
        assert_eq!(claims["iss"], signing_key.public_key());
        assert_eq!(claims["nats"]["issuer_account"], account.public_key());
        assert_eq!(claims["sub"], user.public_key());
        assert_eq!(claims["name"], nexlet.as_str());
        let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(lifetime, 31_536_000);
        assert_eq!(data.nats_servers, ["nats://127.0.0.1:4222"]);
        assert_eq!(data.tls_ca, "/ca.pem");
        assert_eq!(data.conn_name, "");
    }

    #[test]
    fn every_user_has_its_own_key() {
        let (minter, ..) = minter(WorkloadGrant::Open);
        let id = WorkloadId::mint(&node());

        let first = minter.workload(&Namespace::default_tenant(), &id).unwrap();
        let second = minter.workload(&Namespace::default_tenant(), &id).unwrap();

        assert_ne!(first.nats_user_seed, second.nats_user_seed);
    }

    #[test]
    fn the_grant_decides_what_a_workload_gets() {
        let id = WorkloadId::mint(&node());
        let tenant = Namespace::new("tenant").unwrap();
        let publish = |grant| {
            let data = minter(grant).0.workload(&tenant, &id).unwrap();
            decode(&data.nats_user_jwt)["nats"]["pub"]["allow"].clone()
        };

        assert_eq!(publish(WorkloadGrant::Open), json!([">"]));
        assert_eq!(publish(WorkloadGrant::Narrow)[0], "_INBOX.>");
    }

    #[test]
    fn functions_of_a_namespace_can_subscribe_whatever_the_grant() {
        let data = minter(WorkloadGrant::Narrow)
            .0
            .namespace(&Namespace::default_tenant());

        let claims = decode(&data.unwrap().nats_user_jwt);

        assert_eq!(claims["name"], "default");
        assert_eq!(
            claims["nats"]["sub"],
            json!({"allow": [">"], "deny": ["$SYS.>", "$NEX.>", "$JS.API.>", "_INBOX.NEX.>"]})
        );
    }

    #[test]
    fn a_nexlet_is_tagged_with_its_type() {
        let nexus = NexusName::new("nexus").unwrap();
        let minter = minter(WorkloadGrant::Open).0;

        let data = minter
            .nexlet(&node(), &nexus, &NexletId::mint(), "native")
            .unwrap();

        let claims = decode(&data.nats_user_jwt);
        assert_eq!(claims["nats"]["tags"], json!(["nexlet:native"]));
        assert_eq!(claims["nats"]["resp"], json!({"max": 1, "ttl": 0}));
    }

    #[test]
    fn without_a_signing_key_all_get_what_the_node_has() {
        let own = NatsConnectionData {
            nats_user_name: "me".into(),
            ..Default::default()
        };
        let minter = Minter::PassThrough(own.clone());

        assert_eq!(
            minter.registration(&node(), &NexletId::mint()).unwrap(),
            own
        );
        assert_eq!(minter.namespace(&Namespace::default_tenant()).unwrap(), own);
    }

    #[test]
    fn debug_shows_no_seed() {
        let (minter, _, signing_key) = minter(WorkloadGrant::Open);
        let data = minter.registration(&node(), &NexletId::mint()).unwrap();
        let seed = data.nats_user_seed.clone();
        let pass = Minter::PassThrough(data.clone());

        let shown = format!("{minter:?} {data:?} {pass:?}");

        assert!(!shown.contains(&seed), "{shown}");
        assert!(!shown.contains(&signing_key.seed().unwrap()), "{shown}");
        assert!(!shown.contains(&data.nats_user_jwt), "{shown}");
    }

    #[test]
    fn a_creds_file_has_both_parts() {
        let text = crate::creds_file("JWT", "SEED");

        assert!(
            text.starts_with("-----BEGIN NATS USER JWT-----\nJWT\n------END NATS USER JWT------\n")
        );
        assert!(
            text.contains("-----BEGIN USER NKEY SEED-----\nSEED\n------END USER NKEY SEED------\n")
        );
    }
}
