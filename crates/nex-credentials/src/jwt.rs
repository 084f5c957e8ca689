//! JWTs as nats-server 2 reads them: signed with an nkey, the claims of version 2.
//!
//! Every function is pure but for the key: the time is an argument.

use std::time::{Duration, SystemTime};

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPair;
use serde::Serialize;
use sha2::{Digest, Sha512_256};

use crate::permissions::Permissions;

const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;

/// The version of the claims that every server since 2.2 takes.
const CLAIMS_VERSION: u8 = 2;

/// What the server reads as no limit.
const UNLIMITED: i64 = -1;

/// A key that cannot sign: it has no seed.
#[derive(Debug, thiserror::Error)]
#[error("failed to sign a JWT with the key `{public}`: want a key with its seed")]
pub struct SignError {
    public: String,
    source: nkeys::error::Error,
}

/// What a user JWT says.
#[derive(Clone, Debug)]
pub struct User<'a> {
    /// Public key of the user.
    pub subject: &'a str,
    /// Name that shows up in the server's lists.
    pub name: &'a str,
    /// Public key of the account, where a signing key of it signs; else the account's key signs.
    pub issuer_account: Option<&'a str>,
    /// What the user may publish and subscribe to.
    pub permissions: &'a Permissions,
    /// Whether the token alone lets in, without a proof that the bearer has the seed.
    pub bearer: bool,
    /// Words about the user that say nothing to the server.
    pub tags: &'a [String],
    /// How long it is valid from now; none for ever.
    pub lifetime: Option<Duration>,
}

/// What an account JWT says. Nothing in it is limited.
#[derive(Clone, Debug)]
pub struct Account<'a> {
    /// Public key of the account.
    pub subject: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Public keys that may sign its users beside its own.
    pub signing_keys: &'a [String],
    /// Whether its users may use JetStream; the system account's may not.
    pub jetstream: bool,
}

/// What an operator JWT says. It is signed with the operator's own key.
#[derive(Clone, Debug)]
pub struct Operator<'a> {
    /// Name of the operator.
    pub name: &'a str,
    /// Public key of the system account.
    pub system_account: &'a str,
}

#[derive(Serialize)]
struct Claims<'a, N> {
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    jti: &'a str,
    iat: u64,
    iss: &'a str,
    name: &'a str,
    sub: &'a str,
    nats: &'a N,
}

#[derive(Serialize)]
struct UserClaims<'a> {
    r#pub: &'a crate::Allow,
    sub: &'a crate::Allow,
    #[serde(skip_serializing_if = "Option::is_none")]
    resp: Option<Response>,
    subs: i64,
    data: i64,
    payload: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    bearer_token: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer_account: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    r#type: &'a str,
    version: u8,
}

/// One message, within the server's own limit of two minutes.
#[derive(Serialize)]
struct Response {
    max: i64,
    ttl: i64,
}

#[derive(Serialize)]
struct AccountClaims<'a> {
    limits: Limits,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    signing_keys: &'a [String],
    r#type: &'a str,
    version: u8,
}

#[derive(Serialize)]
struct Limits {
    subs: i64,
    data: i64,
    payload: i64,
    imports: i64,
    exports: i64,
    wildcards: bool,
    conn: i64,
    leaf: i64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    jetstream: Option<JetStream>,
}

#[derive(Serialize)]
struct JetStream {
    mem_storage: i64,
    disk_storage: i64,
    streams: i64,
    consumer: i64,
    max_ack_pending: i64,
    mem_max_stream_bytes: i64,
    disk_max_stream_bytes: i64,
    max_bytes_required: bool,
}

#[derive(Serialize)]
struct OperatorClaims<'a> {
    system_account: &'a str,
    r#type: &'a str,
    version: u8,
}

/// Makes a user JWT, signed by its account or a signing key of it.
///
/// # Errors
/// The key has no seed.
pub fn user(user: &User<'_>, signer: &KeyPair, now: SystemTime) -> Result<String, SignError> {
    let claims = UserClaims {
        r#pub: &user.permissions.publish,
        sub: &user.permissions.subscribe,
        resp: user
            .permissions
            .response
            .then_some(Response { max: 1, ttl: 0 }),
        subs: UNLIMITED,
        data: UNLIMITED,
        payload: UNLIMITED,
        bearer_token: user.bearer,
        issuer_account: user.issuer_account,
        tags: user.tags,
        r#type: "user",
        version: CLAIMS_VERSION,
    };
    let expires = user.lifetime.map(|lifetime| now + lifetime);
    sign(&claims, user.subject, user.name, signer, now, expires)
}

/// Makes an account JWT, signed by its operator.
///
/// # Errors
/// The key has no seed.
pub fn account(
    account: &Account<'_>,
    operator: &KeyPair,
    now: SystemTime,
) -> Result<String, SignError> {
    let jetstream = account.jetstream.then_some(JetStream {
        mem_storage: UNLIMITED,
        disk_storage: UNLIMITED,
        streams: UNLIMITED,
        consumer: UNLIMITED,
        max_ack_pending: UNLIMITED,
        mem_max_stream_bytes: UNLIMITED,
        disk_max_stream_bytes: UNLIMITED,
        max_bytes_required: false,
    });
    let claims = AccountClaims {
        limits: Limits {
            subs: UNLIMITED,
            data: UNLIMITED,
            payload: UNLIMITED,
            imports: UNLIMITED,
            exports: UNLIMITED,
            wildcards: true,
            conn: UNLIMITED,
            leaf: UNLIMITED,
            jetstream,
        },
        signing_keys: account.signing_keys,
        r#type: "account",
        version: CLAIMS_VERSION,
    };
    sign(&claims, account.subject, account.name, operator, now, None)
}

/// Makes an operator JWT, signed by the operator itself.
///
/// # Errors
/// The key has no seed.
pub fn operator(
    operator: &Operator<'_>,
    key: &KeyPair,
    now: SystemTime,
) -> Result<String, SignError> {
    let claims = OperatorClaims {
        system_account: operator.system_account,
        r#type: "operator",
        version: CLAIMS_VERSION,
    };
    sign(&claims, &key.public_key(), operator.name, key, now, None)
}

fn sign<N: Serialize>(
    nats: &N,
    subject: &str,
    name: &str,
    signer: &KeyPair,
    now: SystemTime,
    expires: Option<SystemTime>,
) -> Result<String, SignError> {
    let public = signer.public_key();
    let mut claims = Claims {
        exp: expires.map(seconds),
        jti: "",
        iat: seconds(now),
        iss: &public,
        name,
        sub: subject,
        nats,
    };
    // The id of a JWT is the hash of its claims without the id.
    let id = BASE32_NOPAD.encode(&Sha512_256::digest(json(&claims)));
    claims.jti = &id;

    let mut token = BASE64URL_NOPAD.encode(HEADER.as_bytes());
    token.push('.');
    token.push_str(&BASE64URL_NOPAD.encode(&json(&claims)));
    let signature = signer.sign(token.as_bytes()).map_err(|source| SignError {
        public: public.clone(),
        source,
    })?;
    token.push('.');
    token.push_str(&BASE64URL_NOPAD.encode(&signature));
    Ok(token)
}

fn json<N: Serialize>(claims: &Claims<'_, N>) -> Vec<u8> {
    serde_json::to_vec(claims).expect("claims are plain data with text keys")
}

/// Seconds since 1970; a clock that is before that is at it.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Allow;
    use serde_json::{Value, json};

    /// The claims of a token whose signature was checked against its issuer.
    pub(crate) fn decode(token: &str) -> Value {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, body) = signed.split_once('.').unwrap();
        let part = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        assert_eq!(part(header), HEADER.as_bytes());
        let claims: Value = serde_json::from_slice(&part(body)).unwrap();
        let issuer = KeyPair::from_public_key(claims["iss"].as_str().unwrap()).unwrap();
        issuer.verify(signed.as_bytes(), &part(signature)).unwrap();
        claims
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_user_has_the_claims_of_go() {
        let key = KeyPair::new_account();
        let permissions = Permissions {
            publish: Allow::only(["a.*"]),
            subscribe: Allow {
                allow: vec![">".into()],
                deny: vec!["$SYS.>".into()],
            },
            response: true,
        };
        let spec = User {
            subject: "UXYZ",
            name: "name",
            issuer_account: Some("AXYZ"),
            permissions: &permissions,
            bearer: false,
            tags: &[],
            lifetime: Some(Duration::from_secs(60)),
        };

        let mut claims = decode(&user(&spec, &key, at(1000)).unwrap());

        let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
        assert_eq!(id.as_str().unwrap().len(), 52, "{id}");
        assert_eq!(
            claims,
            json!({
                "exp": 1060, "iat": 1000, "iss": key.public_key(), "name": "name", "sub": "UXYZ",
                "nats": {
                    "pub": {"allow": ["a.*"]},
                    "sub": {"allow": [">"], "deny": ["$SYS.>"]},
                    "resp": {"max": 1, "ttl": 0},
                    "subs": -1, "data": -1, "payload": -1,
                    "issuer_account": "AXYZ", "type": "user", "version": 2,
                },
            })
        );
    }

    #[test]
    fn a_bearer_without_end_says_so() {
        let spec = User {
            subject: "UXYZ",
            name: "anonymous",
            issuer_account: None,
            permissions: &Permissions::default(),
            bearer: true,
            tags: &["b".into()],
            lifetime: None,
        };

        let claims = decode(&user(&spec, &KeyPair::new_account(), at(0)).unwrap());

        assert_eq!(claims.get("exp"), None);
        assert_eq!(claims["nats"]["bearer_token"], true);
        assert_eq!(claims["nats"]["tags"], json!(["b"]));
        assert_eq!(claims["nats"].get("issuer_account"), None);
        assert_eq!(claims["nats"].get("resp"), None);
    }

    #[test]
    fn an_account_has_jetstream_without_limits() {
        let operator = KeyPair::new_operator();
        let spec = Account {
            subject: "AXYZ",
            name: "NEX",
            signing_keys: &["ASIGN".into()],
            jetstream: true,
        };

        let claims = decode(&account(&spec, &operator, at(5)).unwrap());

        assert_eq!(claims["iss"], operator.public_key());
        assert_eq!(
            claims["nats"],
            json!({
                "limits": {
                    "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
                    "wildcards": true, "conn": -1, "leaf": -1,
                    "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
                    "max_ack_pending": -1, "mem_max_stream_bytes": -1,
                    "disk_max_stream_bytes": -1, "max_bytes_required": false,
                },
                "signing_keys": ["ASIGN"], "type": "account", "version": 2,
            })
        );
    }

    #[test]
    fn a_system_account_has_no_jetstream() {
        let spec = Account {
            subject: "ASYS",
            name: "SYS",
            signing_keys: &[],
            jetstream: false,
        };

        let claims = decode(&account(&spec, &KeyPair::new_operator(), at(5)).unwrap());

        assert_eq!(claims["nats"]["limits"].get("disk_storage"), None);
        assert_eq!(claims["nats"].get("signing_keys"), None);
    }

    #[test]
    fn an_operator_signs_itself() {
        let key = KeyPair::new_operator();

        let claims = decode(
            &operator(
                &Operator {
                    name: "nex",
                    system_account: "ASYS",
                },
                &key,
                at(5),
            )
            .unwrap(),
        );

        assert_eq!(claims["iss"], claims["sub"]);
        assert_eq!(
            claims["nats"],
            json!({"system_account": "ASYS", "type": "operator", "version": 2})
        );
    }

    #[test]
    fn a_key_without_seed_cannot_sign() {
        let public = KeyPair::from_public_key(&KeyPair::new_operator().public_key()).unwrap();

        let error = operator(
            &Operator {
                name: "nex",
                system_account: "A",
            },
            &public,
            at(5),
        );

        assert!(
            error
                .unwrap_err()
                .to_string()
                .starts_with("failed to sign a JWT with the key `O")
        );
    }
}
