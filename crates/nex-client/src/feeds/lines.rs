//! Puts lines together from messages that hold any bytes: many lines, or a part of one.

use std::collections::HashMap;

use jiff::Timestamp;

/// The longest line that is put together; a longer one comes in pieces of this size.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// How many subjects may have a line begun at a time; beyond, all are handed out as they are.
const MAX_PARTIAL: usize = 4096;

/// Beginnings of lines, per subject.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: HashMap<String, (Timestamp, Vec<u8>)>,
}

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) subject: String,
    pub(super) time: Timestamp,
    pub(super) text: String,
}

fn line(subject: &str, time: Timestamp, bytes: &[u8]) -> Line {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    Line {
        subject: subject.to_owned(),
        time,
        text: String::from_utf8_lossy(bytes).into_owned(),
    }
}

impl Lines {
    /// Takes a message; hands every line that it completes to `out`.
    pub(super) fn push(
        &mut self,
        subject: &str,
        time: Timestamp,
        payload: &[u8],
        mut out: impl FnMut(Line),
    ) {
        let (mut begun_at, mut begun) = self
            .partial
            .remove(subject)
            .unwrap_or_else(|| (time, Vec::new()));
        for piece in payload.split_inclusive(|byte| *byte == b'\n') {
            let whole = piece.strip_suffix(b"\n");
            begun.extend_from_slice(whole.unwrap_or(piece));
            while begun.len() > MAX_LINE_BYTES {
                let rest = begun.split_off(MAX_LINE_BYTES);
                out(line(subject, begun_at, &begun));
                begun = rest;
            }
            if whole.is_some() {
                out(line(subject, begun_at, &begun));
                begun.clear();
            }
            if begun.is_empty() {
                begun_at = time;
            }
        }
        if begun.is_empty() {
            return;
        }
        if self.partial.len() >= MAX_PARTIAL {
            self.flush(&mut out);
        }
        self.partial.insert(subject.to_owned(), (begun_at, begun));
    }

    /// Whether a line is begun and not complete.
    pub(super) fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Hands out every line that is begun, the oldest first.
    pub(super) fn flush(&mut self, mut out: impl FnMut(Line)) {
        let mut begun: Vec<_> = self.partial.drain().collect();
        begun.sort_by_key(|(_, (time, _))| *time);
        for (subject, (time, bytes)) in begun {
            out(line(&subject, time, &bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(messages: &[(&str, &[u8])]) -> (Vec<String>, Vec<String>) {
        let mut lines = Lines::default();
        let (mut whole, mut rest) = (Vec::new(), Vec::new());
        for (second, (subject, payload)) in messages.iter().enumerate() {
            let time = Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
            lines.push(subject, time, payload, |line| {
                whole.push(format!(
                    "{}@{} {}",
                    line.subject,
                    line.time.as_second(),
                    line.text
                ));
            });
        }
        lines.flush(|line| rest.push(format!("{} {}", line.subject, line.text)));
        (whole, rest)
    }

    #[test]
    fn a_message_may_hold_many_lines_or_a_part_of_one() {
        let (whole, rest) = pushed(&[("a", b"one\ntwo\nth"), ("a", b"ree\r\n\nfo"), ("a", b"ur")]);

        assert_eq!(whole, ["a@0 one", "a@0 two", "a@0 three", "a@1 "]);
        assert_eq!(rest, ["a four"]);
    }

    #[test]
    fn subjects_do_not_mix() {
        let (whole, rest) = pushed(&[("a", b"x"), ("b", b"y\n"), ("a", b"z\n")]);

        assert_eq!(whole, ["b@1 y", "a@0 xz"]);
        assert!(rest.is_empty());
    }

    #[test]
    fn a_character_may_be_cut_in_two_and_nonsense_is_replaced() {
        let (whole, _) = pushed(&[("a", b"gr\xc3"), ("a", b"\xbc\xc3\x9f \xff\n")]);

        assert_eq!(whole, ["a@0 gr\u{fc}\u{df} \u{fffd}"]);
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        let long = vec![b'x'; 3 * MAX_LINE_BYTES / 2];
        let (whole, rest) = pushed(&[("a", &long), ("a", &long)]);

        assert_eq!(whole.len(), 2);
        assert_eq!(rest[0].len(), "a ".len() + MAX_LINE_BYTES);
    }
}
