//! Names and ids: each is one subject token, checked once, where it enters the program.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A text that cannot be one subject token of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} `{text}`: want {wanted}")]
pub struct InvalidId {
    kind: &'static str,
    text: String,
    wanted: &'static str,
}

/// The longest token that is taken for a name or an id, in bytes.
const MAX_TOKEN_BYTES: usize = 128;

pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_TOKEN_BYTES
        && text
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '.' | '*' | '>'))
}

fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_TOKEN_BYTES
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn is_node_id(text: &str) -> bool {
    text.len() == 56
        && text.starts_with('N')
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:ident, $wanted:literal, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[cfg_attr(test, schemars(extend("pattern" = $pattern)))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks the text and takes it.
            ///
            /// # Errors
            /// [`InvalidId`] says what was wanted.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                if $check(&text) {
                    Ok(Self(text.into_boxed_str()))
                } else {
                    Err(InvalidId { kind: $kind, text, wanted: $wanted })
                }
            }

            /// The text as it stands in subjects and messages.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into_string()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

token! {
    /// A tenant: one subject token. Never empty, never a wildcard.
    Namespace, "namespace", is_token, "one subject token without `.`, `*`, `>` or spaces",
    r"^[^\s.*>]{1,128}$"
}
token! {
    /// The name that all nodes of a nexus share: one subject token.
    NexusName, "nexus name", is_token, "one subject token without `.`, `*`, `>` or spaces",
    r"^[^\s.*>]{1,128}$"
}
token! {
    /// A node: its public server nkey.
    NodeId, "node id", is_node_id, "a public server nkey: `N` and 55 characters of base 32",
    "^N[A-Z2-7]{55}$"
}
token! {
    /// A nexlet, as its node named it.
    NexletId, "nexlet id", is_id, "letters, digits, `-` and `_`",
    "^[A-Za-z0-9_-]{1,128}$"
}
token! {
    /// A workload, as its node named it. See [`WorkloadId::mint`].
    WorkloadId, "workload id", is_id, "letters, digits, `-` and `_`",
    "^[A-Za-z0-9_-]{1,128}$"
}
token! {
    /// A bid: the token that turns an auction's answer into a deploy.
    BidId, "bid id", is_id, "letters, digits, `-` and `_`",
    "^[A-Za-z0-9_-]{1,128}$"
}

impl Namespace {
    /// The administrative namespace, from which all others are seen.
    #[must_use]
    pub fn system() -> Self {
        Self("system".into())
    }

    /// Where workloads go when nobody says otherwise.
    #[must_use]
    pub fn default_tenant() -> Self {
        Self("default".into())
    }

    /// Whether this is the administrative namespace.
    #[must_use]
    pub fn is_system(&self) -> bool {
        &*self.0 == "system"
    }
}

/// How many characters of an id name its node.
const OWNER_CHARS: usize = 6;
/// How long our ids are, as in Go.
const ID_CHARS: usize = 22;

const BASE_62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl NodeId {
    /// The six characters with which the ids begin that this node mints.
    fn owner_tag(&self) -> String {
        let digest = Sha256::digest(self.0.as_bytes());
        let (head, _) = digest.split_at(8);
        let mut number = head
            .iter()
            .fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
        (0..OWNER_CHARS)
            .map(|_| {
                let digit = (number % 62) as usize;
                number /= 62;
                char::from(BASE_62[digit])
            })
            .collect()
    }

    fn mint(&self, unique: &str) -> String {
        let tail = &unique[unique.len() - (ID_CHARS - OWNER_CHARS)..];
        format!("{}{tail}", self.owner_tag())
    }

    fn minted(&self, id: &str) -> bool {
        id.len() == ID_CHARS && id.starts_with(&self.owner_tag())
    }
}

impl WorkloadId {
    /// Makes a new id that names its node: 22 characters, the first six a hash of the node's id.
    #[must_use]
    pub fn mint(node: &NodeId) -> Self {
        // All by chance: people type the beginning of an id.
        let unique = nuid::NUID::new().next();
        Self(node.mint(&unique).into())
    }

    /// Whether `node` made this id, up to the odds of a hash of six characters.
    #[must_use]
    pub fn minted_by(&self, node: &NodeId) -> bool {
        node.minted(&self.0)
    }
}

impl BidId {
    /// Makes a new id that names its node, as [`WorkloadId::mint`] does.
    #[must_use]
    pub fn mint(node: &NodeId) -> Self {
        // In sequence: a new generator asks the kernel for chance a dozen times, and each auction
        // takes a bid of every node.
        Self(node.mint(&unique()).into())
    }

    /// Whether `node` made this id, up to the odds of a hash of six characters.
    #[must_use]
    pub fn minted_by(&self, node: &NodeId) -> bool {
        node.minted(&self.0)
    }
}

impl NexletId {
    /// Makes a new id.
    #[must_use]
    pub fn mint() -> Self {
        Self(unique().into())
    }
}

/// A new unique text of 22 letters and digits, for auctions and errors.
#[must_use]
pub fn unique() -> String {
    nuid::next().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(fill: char) -> NodeId {
        NodeId::new(format!("N{}", fill.to_string().repeat(55))).unwrap()
    }

    #[test]
    fn a_namespace_is_one_token() {
        for good in ["default", "a-b_c", "größe"] {
            assert!(Namespace::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "a b", "*", ">", "a\n", "a\0", &"x".repeat(129)] {
            assert!(Namespace::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refused_name_says_what_was_wanted() {
        assert_eq!(
            Namespace::new("a.b").unwrap_err().to_string(),
            "invalid namespace `a.b`: want one subject token without `.`, `*`, `>` or spaces"
        );
    }

    #[test]
    fn minted_ids_name_their_node_and_differ() {
        let (a, b) = (node('A'), node('B'));
        let first = WorkloadId::mint(&a);
        let second = WorkloadId::mint(&a);

        assert_eq!(first.as_str().len(), 22);
        assert!(first.as_str().bytes().all(|c| c.is_ascii_alphanumeric()));
        assert!(first.minted_by(&a) && !first.minted_by(&b));
        assert_ne!(first, second);
    }

    #[test]
    fn the_owner_tag_never_changes() {
        // Ids outlive the program that made them: a new hash would orphan them.
        assert_eq!(node('A').owner_tag(), "4WhCsj");
    }

    #[test]
    fn ids_are_checked_when_they_are_decoded() {
        assert!(serde_json::from_str::<WorkloadId>("\"a.b\"").is_err());
        assert!(serde_json::from_str::<WorkloadId>("\"ab\"").is_ok());
    }
}
