//! What a function may reach: what it asks for, as far as the policy of its nexlet goes.

use std::net::IpAddr;

use nex_protocol::{NodeId, null_default};
use serde::Deserialize;

use super::{
    error::{ServiceCode, ServiceError},
    http::{Network, network},
};

/// First tokens of subjects that belong to the server, to JetStream and to Nex. `$KV` and `$O` have
/// services of their own, with grants by bucket.
const SYSTEM: [&str; 6] = ["$SYS", "$JS", "$NEX", "$KV", "$O", "$G"];
/// The object store with what was deployed, of all namespaces.
const ARTIFACTS: &str = "NEXCLIFILES";
/// How the buckets begin in which nodes note what should run.
const JOURNAL_PREFIX: &str = "nex-";
/// The longest subject of a message, in bytes, as for triggers.
const MAX_SUBJECT_BYTES: usize = 512;

/// What a nexlet lets its functions do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether they may call addresses of this machine and of private networks.
    pub private_http: bool,
    /// Whether a bucket that is not there is made when it is first used.
    pub create_buckets: bool,
}

impl Policy {
    /// For a machine of one's own: everything.
    pub const LOCAL: Self = Self {
        private_http: true,
        create_buckets: true,
    };
}

/// What a start request asks for: `"services": {…}`. A service that is not named is not wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Asked {
    /// Subjects to publish to and ask on, with wildcards.
    #[serde(default, deserialize_with = "null_default")]
    pub messaging: Vec<String>,
    /// Buckets; `*` at the end stands for anything.
    #[serde(default, deserialize_with = "null_default")]
    pub kv: Vec<String>,
    /// Buckets of objects; `*` at the end stands for anything.
    #[serde(default, deserialize_with = "null_default")]
    pub object_store: Vec<String>,
    /// Hosts; `*.` at the beginning stands for any name below, `*` for any host.
    #[serde(default, deserialize_with = "null_default")]
    pub http: Vec<String>,
}

impl Asked {
    /// Its part of the JSON Schema of a start request.
    pub(crate) fn schema() -> serde_json::Value {
        let names = |description: &str| {
            serde_json::json!({
                "type": ["array", "null"],
                "items": { "type": "string" },
                "description": description,
            })
        };
        serde_json::json!({
            "type": ["object", "null"],
            "description": "the host services that it wants, and nothing else; without this, all",
            "properties": {
                "messaging": names("subjects to publish to and ask on; wildcards are allowed"),
                "kv": names("buckets; `*` at the end stands for anything"),
                "objectStore": names("buckets of objects; `*` at the end stands for anything"),
                "http": names("hosts; `*.` at the beginning stands for any name below"),
            },
            "additionalProperties": false,
        })
    }
}

/// What one function may reach.
#[derive(Clone, Debug)]
pub(crate) struct Grants {
    /// `None` asks for everything.
    asked: Option<Asked>,
    policy: Policy,
}

impl Grants {
    pub(crate) fn new(asked: Option<Asked>, policy: Policy) -> Self {
        Self { asked, policy }
    }

    /// Whether a missing bucket is made.
    pub(crate) fn create_buckets(&self) -> bool {
        self.policy.create_buckets
    }

    /// Whether a message may go there.
    pub(crate) fn subject(&self, subject: &str) -> Result<(), ServiceError> {
        if subject.len() > MAX_SUBJECT_BYTES {
            let text = format!("the subject is longer than {MAX_SUBJECT_BYTES} bytes");
            return Err(ServiceError::new(ServiceCode::BadRequest, text));
        }
        let valid = subject.split('.').all(|token| {
            !token.is_empty()
                && !token.contains(|c: char| c.is_whitespace() || c.is_control())
                && !matches!(token, "*" | ">")
        });
        if !valid {
            let text = format!(
                "invalid subject `{subject}`: want tokens joined by `.`, without spaces or wildcards"
            );
            return Err(ServiceError::new(ServiceCode::BadRequest, text));
        }
        let first = subject.split('.').next().unwrap_or_default();
        let private = subject
            .strip_prefix(nex_protocol::subject::PRIVATE_INBOX)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if private || SYSTEM.contains(&first) {
            return Err(denied(format!("subject `{subject}` is the system's own")));
        }
        match &self.asked {
            Some(asked) if !asked.messaging.iter().any(|one| covers(one, subject)) => {
                Err(not_asked("subject", subject, "messaging"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it may use a key-value bucket.
    pub(crate) fn kv(&self, bucket: &str) -> Result<(), ServiceError> {
        valid_bucket(bucket)?;
        let journal = bucket.strip_prefix(JOURNAL_PREFIX);
        if journal.is_some_and(|node| NodeId::new(node).is_ok()) {
            return Err(denied(format!("bucket `{bucket}` is the system's own")));
        }
        match &self.asked {
            Some(asked) if !asked.kv.iter().any(|one| matches(one, bucket)) => {
                Err(not_asked("bucket", bucket, "kv"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it may use a bucket of objects.
    pub(crate) fn objects(&self, bucket: &str) -> Result<(), ServiceError> {
        valid_bucket(bucket)?;
        if bucket == ARTIFACTS {
            return Err(denied(format!("bucket `{bucket}` is the system's own")));
        }
        match &self.asked {
            Some(asked) if !asked.object_store.iter().any(|one| matches(one, bucket)) => {
                Err(not_asked("bucket", bucket, "objectStore"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it may call a host, wherever that is.
    pub(crate) fn host(&self, host: &str) -> Result<(), ServiceError> {
        match &self.asked {
            Some(asked) if !asked.http.iter().any(|one| covers_host(one, host)) => {
                Err(not_asked("host", host, "http"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it may connect to an address. Addresses of the link, where clouds tell machines
    /// their secrets, want to be asked for as such.
    pub(crate) fn address(&self, address: IpAddr) -> bool {
        match network(address) {
            Network::Public => true,
            Network::Private => self.policy.private_http,
            Network::Link => {
                let text = address.to_string();
                let asked = self.asked.as_ref();
                self.policy.private_http && asked.is_some_and(|asked| asked.http.contains(&text))
            }
            Network::Nowhere => false,
        }
    }
}

fn denied(text: String) -> ServiceError {
    ServiceError::new(ServiceCode::Denied, text)
}

fn not_asked(kind: &str, name: &str, service: &str) -> ServiceError {
    denied(format!(
        "{kind} `{name}` is not among the `services.{service}` of the start request"
    ))
}

fn valid_bucket(bucket: &str) -> Result<(), ServiceError> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if bucket.is_empty() || bucket.len() > 200 || !bucket.bytes().all(valid) {
        let text = format!("invalid bucket `{bucket}`: want 1 to 200 letters, digits, `-` and `_`");
        return Err(ServiceError::new(ServiceCode::BadRequest, text));
    }
    Ok(())
}

/// Whether a subject with wildcards covers one without.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in pattern.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

fn covers_host(pattern: &str, host: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    match pattern.strip_prefix('*') {
        Some("") => true,
        // The dot stays: `*.a.b` is not for `xa.b`.
        Some(end) => end.starts_with('.') && host.ends_with(end),
        None => pattern == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(asked: &str, policy: Policy) -> Grants {
        let asked = (!asked.is_empty()).then(|| serde_json::from_str(asked).unwrap());
        Grants::new(asked, policy)
    }

    fn code(result: Result<(), ServiceError>) -> Option<ServiceCode> {
        result.err().map(|error| error.code)
    }

    #[test]
    fn what_belongs_to_the_system_is_never_reached() {
        for asked in ["", r#"{"messaging":[">"],"kv":["*"],"objectStore":["*"]}"#] {
            let grants = grants(asked, Policy::LOCAL);
            for subject in [
                "$SYS.REQ.SERVER.PING",
                "$JS.API.INFO",
                "$NEX.SVC.x",
                "$KV.bucket.key",
                "$O.bucket.M.x",
                "_INBOX.NEX",
                "_INBOX.NEX.abc",
            ] {
                let refused = code(grants.subject(subject));
                assert_eq!(refused, Some(ServiceCode::Denied), "{subject}");
            }
            let node = format!("nex-N{}", "A".repeat(55));
            assert_eq!(code(grants.kv(&node)), Some(ServiceCode::Denied));
            assert_eq!(code(grants.objects(ARTIFACTS)), Some(ServiceCode::Denied));
            for subject in ["a", "orders.new", "_INBOX.NEXT", "$SRV.PING"] {
                assert_eq!(code(grants.subject(subject)), None, "{subject}");
            }
            assert_eq!(code(grants.kv("nex-data")), None);
        }
    }

    #[test]
    fn what_is_no_name_is_a_bad_request() {
        let grants = grants("", Policy::LOCAL);
        for subject in [
            "",
            ".",
            "a..b",
            "a b",
            "a.*",
            ">",
            "a\r\nPUB x",
            &"a".repeat(513),
        ] {
            let refused = code(grants.subject(subject));
            assert_eq!(refused, Some(ServiceCode::BadRequest), "{subject:?}");
        }
        for bucket in ["", "a.b", "a b", "*", ">", "ü"] {
            assert_eq!(code(grants.kv(bucket)), Some(ServiceCode::BadRequest));
            assert_eq!(code(grants.objects(bucket)), Some(ServiceCode::BadRequest));
        }
    }

    #[test]
    fn who_asks_gets_what_was_asked_for_and_nothing_else() {
        let asked =
            r#"{"messaging":["a.*","b.>"],"kv":["iot_*","k"],"http":["*.example.com","h"]}"#;
        let grants = grants(asked, Policy::LOCAL);

        for subject in ["a.x", "b.x.y"] {
            assert_eq!(code(grants.subject(subject)), None, "{subject}");
        }
        for subject in ["a", "a.x.y", "b", "c"] {
            assert_eq!(
                code(grants.subject(subject)),
                Some(ServiceCode::Denied),
                "{subject}"
            );
        }
        assert_eq!(code(grants.kv("iot_devices")), None);
        assert_eq!(code(grants.kv("k")), None);
        assert_eq!(code(grants.kv("kk")), Some(ServiceCode::Denied));
        assert_eq!(code(grants.objects("k")), Some(ServiceCode::Denied));
        assert_eq!(code(grants.host("api.example.com")), None);
        assert_eq!(code(grants.host("h")), None);
        assert_eq!(
            code(grants.host("badexample.com")),
            Some(ServiceCode::Denied)
        );
    }

    #[test]
    fn addresses_are_reached_as_the_policy_says() {
        let address = |text: &str| text.parse().unwrap();
        let open = grants("", Policy::LOCAL);
        let closed = grants("", Policy::default());
        for (text, when_open, when_closed) in [
            ("1.1.1.1", true, true),
            ("2606:4700::1111", true, true),
            ("127.0.0.1", true, false),
            ("10.1.2.3", true, false),
            ("::1", true, false),
            ("fd12::1", true, false),
            ("169.254.169.254", false, false),
            ("fe80::1", false, false),
            ("0.0.0.0", false, false),
            ("224.0.0.1", false, false),
        ] {
            assert_eq!(open.address(address(text)), when_open, "{text}");
            assert_eq!(closed.address(address(text)), when_closed, "{text}");
        }
        let link = r#"{"http":["169.254.169.254"]}"#;
        assert!(grants(link, Policy::LOCAL).address(address("169.254.169.254")));
        assert!(!grants(link, Policy::default()).address(address("169.254.169.254")));
    }
}
