//! Text files that people write. Editors of Windows put a byte order mark before the text, or write UTF-16.

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

/// Reads the bytes of a file as text, without its byte order mark.
///
/// # Errors
/// When they are not UTF-8.
pub fn decode(bytes: Vec<u8>) -> Result<String, NotUtf8> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(NotUtf8::Utf16);
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        NotUtf8::Invalid { line, at }
    })?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.remove(0);
    }
    Ok(text)
}

/// A text without its byte order mark.
#[must_use]
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
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
        assert_eq!(without_mark("\u{feff}a"), "a");
        assert_eq!(without_mark("a\u{feff}"), "a\u{feff}");
    }

    #[test]
    fn what_is_no_utf_8_is_named() {
        for bytes in [b"\xff\xfe{\0}\0".as_slice(), b"\xfe\xff\0{\0}"] {
            assert_eq!(decode(bytes.to_vec()), Err(NotUtf8::Utf16));
        }
        let broken = decode(b"a\nb\xff".to_vec());
        assert_eq!(broken, Err(NotUtf8::Invalid { line: 2, at: 3 }));
    }
}
