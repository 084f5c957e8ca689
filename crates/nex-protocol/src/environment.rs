//! Environment variables that only one nexlet can read.

use serde::{Deserialize, Serialize};

use crate::lenient::null_default;

/// An environment, sealed for a nexlet's curve key: what a start request may hold in place of
/// secrets in clear text. Sealing and opening is the work of who has the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EncryptedEnvironment {
    /// Standard base64 of a sealed JSON object of strings, in the format `xkv1`.
    #[serde(deserialize_with = "null_default")]
    pub base64_encrypted_env: String,
    /// The sender's public curve key.
    #[serde(deserialize_with = "null_default")]
    pub encrypted_by: String,
}
