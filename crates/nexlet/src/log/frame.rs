//! Cuts a stream of bytes into messages of whole lines. Pure.

use bytes::{Bytes, BytesMut};

/// Bytes that are not sent yet.
#[derive(Debug)]
pub(super) struct Framer {
    buffer: BytesMut,
    max_bytes: usize,
}

impl Framer {
    /// Messages of at most `max_bytes`, at least 1.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            max_bytes,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next message of whole lines, or a piece of a line that fits in no message.
    pub(super) fn next_lines(&mut self) -> Option<Bytes> {
        let window = &self.buffer[..self.buffer.len().min(self.max_bytes)];
        let end = match window.iter().rposition(|byte| *byte == b'\n') {
            Some(line_feed) => line_feed + 1,
            None if self.buffer.len() > self.max_bytes => char_end(window),
            None => return None,
        };
        Some(self.buffer.split_to(end).freeze())
    }

    /// What is left after [`next_lines`](Self::next_lines): part of a line that fits.
    pub(super) fn take_rest(&mut self) -> Option<Bytes> {
        (!self.is_empty()).then(|| self.buffer.split().freeze())
    }
}

/// Where to cut without splitting a character; the whole where it is no UTF-8.
fn char_end(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(max_bytes: usize, chunks: &[&str]) -> Vec<String> {
        let mut framer = Framer::new(max_bytes);
        let mut frames = Vec::new();
        for chunk in chunks {
            framer.push(chunk.as_bytes());
            while let Some(frame) = framer.next_lines() {
                frames.push(String::from_utf8(frame.to_vec()).unwrap());
            }
        }
        let rest = framer.take_rest();
        frames.extend(rest.map(|rest| String::from_utf8(rest.to_vec()).unwrap()));
        frames
    }

    #[test]
    fn lines_that_came_together_travel_together() {
        assert_eq!(frames(64, &["a\nb\nc", "d\ne"]), ["a\nb\n", "cd\n", "e"]);
    }

    #[test]
    fn a_message_ends_at_the_last_line_that_fits() {
        assert_eq!(frames(6, &["ab\ncd\nef\n"]), ["ab\ncd\n", "ef\n"]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(frames(5, &["äöüß\n"]), ["äö", "üß\n"]);
        assert_eq!(frames(4, &["abcdefgh\n"]), ["abcd", "efgh", "\n"]);
    }

    #[test]
    fn every_byte_arrives_whatever_it_is() {
        let all: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let mut framer = Framer::new(7);
        let mut seen = Vec::new();
        for chunk in all.chunks(13) {
            framer.push(chunk);
            while let Some(frame) = framer.next_lines() {
                assert!(frame.len() <= 7 && !frame.is_empty());
                seen.extend_from_slice(&frame);
            }
        }
        seen.extend_from_slice(&framer.take_rest().unwrap());
        assert_eq!(seen, all);
    }
}
