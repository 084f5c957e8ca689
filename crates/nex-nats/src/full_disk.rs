//! Errors of a disk, or a quota, that is used up.

/// Texts of a system's error for that, in lower case. A nats-server repeats them in its answers.
const TEXTS: [&str; 2] = ["no space left on device", "disk quota exceeded"];

/// Returns whether a text says that a disk or a quota is used up.
#[must_use]
pub fn tells_full_disk(text: &str) -> bool {
    let text = text.to_lowercase();
    TEXTS.iter().any(|full| text.contains(full))
}
