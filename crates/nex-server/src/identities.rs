//! The keys of a data folder, made once: who the operator, the accounts and the node are.

use std::fmt;
use std::path::Path;

use nkeys::{KeyPair, KeyPairType, XKey};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum IdentitiesError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not what was once written. It is never replaced: the node's id and everything
    /// in JetStream hang on it.
    #[error("the keys in `{path}` are damaged: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A new key has no seed; keys are made with one.
    #[error("failed to read the seed of a new key")]
    Seed(#[source] nkeys::error::Error),
}

/// All keys. `Debug` shows none.
pub(crate) struct Identities {
    pub(crate) operator: KeyPair,
    pub(crate) system_account: KeyPair,
    pub(crate) account: KeyPair,
    pub(crate) signing_key: KeyPair,
    pub(crate) node: KeyPair,
    pub(crate) stored: Stored,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities")
            .field("account", &self.account.public_key())
            .field("node", &self.node.public_key())
            .finish_non_exhaustive()
    }
}

/// The file: seeds by their owner. One file, so that all are there or none.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stored {
    operator: String,
    system_account: String,
    account: String,
    pub(crate) account_signing_key: String,
    pub(crate) node: String,
    pub(crate) node_curve: String,
}

impl Identities {
    /// Reads the keys, or makes them where there is no file. The caller holds the folder's lock.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, IdentitiesError> {
        let damaged = |what: String| IdentitiesError::Damaged {
            path: path.display().to_string(),
            what,
        };
        let stored = match files::read(path)? {
            Some(text) => {
                serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?
            }
            None => {
                let stored = Stored::create().map_err(IdentitiesError::Seed)?;
                let text = serde_json::to_vec_pretty(&stored).expect("seeds are plain text");
                files::write(path, &text)?;
                stored
            }
        };
        Self::parse(stored).map_err(damaged)
    }

    fn parse(stored: Stored) -> Result<Self, String> {
        let key = |name: &str, seed: &str, kind: KeyPairType| {
            let key = KeyPair::from_seed(seed).map_err(|error| format!("`{name}`: {error}"))?;
            if key.key_pair_type() == kind {
                Ok(key)
            } else {
                Err(format!("`{name}` is not of type {kind:?}"))
            }
        };
        XKey::from_seed(&stored.node_curve).map_err(|error| format!("`node_curve`: {error}"))?;
        Ok(Self {
            operator: key("operator", &stored.operator, KeyPairType::Operator)?,
            system_account: key(
                "system_account",
                &stored.system_account,
                KeyPairType::Account,
            )?,
            account: key("account", &stored.account, KeyPairType::Account)?,
            signing_key: key(
                "account_signing_key",
                &stored.account_signing_key,
                KeyPairType::Account,
            )?,
            node: key("node", &stored.node, KeyPairType::Server)?,
            stored,
        })
    }
}

impl Stored {
    fn create() -> Result<Self, nkeys::error::Error> {
        Ok(Self {
            operator: KeyPair::new_operator().seed()?,
            system_account: KeyPair::new_account().seed()?,
            account: KeyPair::new_account().seed()?,
            account_signing_key: KeyPair::new_account().seed()?,
            node: KeyPair::new_server().seed()?,
            node_curve: XKey::new().seed()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identities.json");

        let first = Identities::load_or_create(&path).unwrap();
        let second = Identities::load_or_create(&path).unwrap();

        assert_eq!(first.node.public_key(), second.node.public_key());
        assert_eq!(first.stored.node_curve, second.stored.node_curve);
        assert_ne!(
            first.account.public_key(),
            first.system_account.public_key()
        );
    }

    #[test]
    fn damaged_keys_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identities.json");
        Identities::load_or_create(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let swapped = text
            .replace("\"node\"", "\"x\"")
            .replace("\"account\"", "\"node\"")
            .replace("\"x\"", "\"account\"");

        for bad in ["", "{}", &swapped] {
            std::fs::write(&path, bad).unwrap();
            let error = Identities::load_or_create(&path).unwrap_err();
            assert!(error.to_string().contains("are damaged"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
        }
    }

    #[test]
    fn debug_shows_no_seed() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Identities::load_or_create(&folder.path().join("identities.json")).unwrap();

        let shown = format!("{keys:?}");

        assert!(shown.contains(&keys.node.public_key()), "{shown}");
        assert!(!shown.contains(&keys.stored.node), "{shown}");
    }
}
