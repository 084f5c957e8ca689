//! Decoding helpers for what Go encoders send.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::control::zero_time;

/// Takes `null` for the type's empty value, as Go decoders do: for `#[serde(deserialize_with)]`.
///
/// # Errors
/// When the value is neither `null` nor one of the type.
pub fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Takes `null` for Go's zero time, as Go decoders do.
pub(crate) fn null_time<'de, D>(deserializer: D) -> Result<Timestamp, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(zero_time))
}
