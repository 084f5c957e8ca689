//! The trace that an invocation belongs to, handed on as it came: <https://www.w3.org/TR/trace-context/>.

use async_nats::{HeaderMap, HeaderValue};

/// The header that names a trace and the place in it.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// How a `traceparent` of version 00 looks: where its dashes are.
const DASHES: [usize; 3] = [2, 35, 52];
const LENGTH: usize = 55;

/// The `traceparent` of a message; one that is none is not handed on.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<&HeaderValue> {
    if headers.is_empty() {
        return None;
    }
    let value = headers.get(TRACEPARENT)?;
    let text = value.as_str().as_bytes();
    // Versions to come may append to it, after another dash.
    let length = text.len() == LENGTH
        || (text.len() > LENGTH && text.len() <= 2 * LENGTH && text[LENGTH] == b'-');
    let valid = length
        && text[..LENGTH]
            .iter()
            .enumerate()
            .all(|(index, byte)| match DASHES.contains(&index) {
                true => *byte == b'-',
                false => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            })
        && text.iter().all(u8::is_ascii_graphic);
    valid.then_some(value)
}

/// The trace of an invocation, if it has one. Its host services send it along.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Option<HeaderValue>);

impl Trace {
    /// The trace that a message belongs to.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(traceparent(headers).cloned())
    }

    /// Headers for a message that is sent within it.
    pub(crate) fn headers(&self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, self.0.clone()?);
        Some(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_handed_on_and_anything_else_is_not() {
        let version_0 = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (text, taken) in [
            (version_0.to_owned(), true),
            (format!("{version_0}-later"), true),
            (format!("{version_0}x"), false),
            (format!("{version_0}-a b"), false),
            (version_0.to_uppercase(), false),
            (version_0.replace('-', "_"), false),
            (String::new(), false),
            ("x".repeat(10_000), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, text.as_str());

            assert_eq!(traceparent(&headers).is_some(), taken, "{text}");
        }
        assert!(traceparent(&HeaderMap::new()).is_none());
    }
}
