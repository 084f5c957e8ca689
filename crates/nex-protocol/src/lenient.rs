//! Decoding helpers for what Go encoders send.

use serde::{Deserialize, Deserializer};

/// Takes `null` for the type's empty value, as Go decoders do.
pub(crate) fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
