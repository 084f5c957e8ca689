//! Text files that people write. Editors of Windows put a byte order mark before the text, or write UTF-16.
//! Every such file is read with [`decode`].

use std::io;

/// The byte order mark, as UTF-8 has it.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// Bytes that are no text of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUtf8 {
    /// The text has two bytes for each character.
    #[error("the text is UTF-16: save it as UTF-8")]
    Utf16,
    /// A byte cannot stand where it does.
    #[error("line {line}: not UTF-8: byte {at} is invalid")]
    Invalid {
        /// From 1.
        line: usize,
        /// From 0.
        at: usize,
    },
}

impl From<NotUtf8> for io::Error {
    fn from(error: NotUtf8) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Returns `true` for UTF-16, with or without its byte order mark: pairs of bytes, and the first character of a text that people
/// write is ASCII, so that one of its two bytes is zero.
#[must_use]
pub fn is_utf16(bytes: &[u8]) -> bool {
    let pairs = bytes.len().is_multiple_of(2);
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [0, 1..=255, ..] | [1..=255, 0, ..] => pairs,
        _ => false,
    }
}

/// Reads the bytes of a file as text, without the byte order marks before it; some editors add one to another.
///
/// # Errors
/// When they are not UTF-8.
pub fn decode(bytes: Vec<u8>) -> Result<String, NotUtf8> {
    if is_utf16(&bytes) {
        return Err(NotUtf8::Utf16);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        NotUtf8::Invalid { line, at }
    })?;
    let plain = without_mark(&text);
    Ok(if plain.len() == text.len() {
        text
    } else {
        plain.to_owned()
    })
}

/// A text without the byte order marks before it.
#[must_use]
pub fn without_mark(text: &str) -> &str {
    text.trim_start_matches(BYTE_ORDER_MARK)
}

/// The bytes of a text without the byte order marks before it, for formats that need not be UTF-8 elsewhere.
#[must_use]
pub fn bytes_without_mark(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_before_a_text_is_no_part_of_it() {
        assert_eq!(
            decode(b"\xef\xbb\xbf{}\r\n".to_vec()),
            Ok("{}\r\n".to_owned())
        );
        assert_eq!(decode(b"{}".to_vec()), Ok("{}".to_owned()));
        let doubled = b"\xef\xbb\xbf\xef\xbb\xbf{}".to_vec();
        assert_eq!(decode(doubled), Ok("{}".to_owned()));
        assert_eq!(without_mark("\u{feff}\u{feff}a"), "a");
        assert_eq!(decode(Vec::new()), Ok(String::new()));
        assert_eq!(without_mark("\u{feff}a"), "a");
        assert_eq!(without_mark("a\u{feff}"), "a\u{feff}");
        assert_eq!(bytes_without_mark("\u{feff}\u{feff}a".as_bytes()), b"a");
        assert_eq!(bytes_without_mark(b"a\xff"), b"a\xff");
    }

    #[test]
    fn what_is_no_utf_8_is_named() {
        for bytes in [
            b"\xff\xfe{\0}\0".as_slice(),
            b"\xfe\xff\0{\0}",
            b"{\0}\0",
            b"\0{\0}",
        ] {
            assert_eq!(decode(bytes.to_vec()), Err(NotUtf8::Utf16));
        }
        let broken = decode(b"a\nb\xff".to_vec());
        assert_eq!(broken, Err(NotUtf8::Invalid { line: 2, at: 3 }));
    }
}
