//! Fuzz targets for every decoder of `nex-protocol`, one for each of its modules.
//!
//! `cargo +nightly fuzz run control` runs one; it ends at the first input that makes a decoder
//! panic, or that is taken and cannot be sent on. `cargo check` with the stable compiler, in this
//! folder, tells whether they still fit the protocol.

use std::{fmt::Display, str::FromStr};

use serde::{Serialize, de::DeserializeOwned};

/// Reads a message; what is taken must be readable by the next peer too.
pub fn message<T: Serialize + DeserializeOwned>(body: &[u8]) {
    if let Ok(taken) = serde_json::from_slice::<T>(body) {
        let sent_on = serde_json::to_vec(&taken).expect("what was read can be written");
        serde_json::from_slice::<T>(&sent_on).expect("what was written can be read");
    }
}

/// Reads a text; what is taken must read back from what it is shown as.
pub fn text<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(taken) = text.parse::<T>() {
        let again = taken.to_string().parse::<T>();
        assert!(again.is_ok_and(|again| again == taken), "{taken}");
    }
}

/// Makes a fuzz target that reads its input as each of some types.
#[macro_export]
macro_rules! messages {
    ($($message:ty),* $(,)?) => {
        libfuzzer_sys::fuzz_target!(|body: &[u8]| {
            $($crate::message::<$message>(body);)*
        });
    };
}
