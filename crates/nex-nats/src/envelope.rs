//! The error envelope: a code and a text in headers.

use async_nats::{HeaderMap, Message};
use nex_protocol::{
    ErrorCode,
    error::{ERROR_CODE_HEADER, ERROR_HEADER},
    header_value,
};

/// What stands for a text that is empty: peers take an error without text for none.
const NO_TEXT: &str = "error";

/// Headers of an error reply. The text becomes one bounded line.
#[must_use]
pub fn error_headers(code: ErrorCode, text: &str) -> HeaderMap {
    let text = header_value(text);
    let text = if text.is_empty() { NO_TEXT } else { &text };
    let mut headers = HeaderMap::new();
    headers.insert(ERROR_CODE_HEADER, code.to_string());
    headers.insert(ERROR_HEADER, text);
    headers
}

/// Code and text of an error reply; `None` where it is none.
#[must_use]
pub fn read_error(message: &Message) -> Option<(ErrorCode, String)> {
    let headers = message.headers.as_ref()?;
    let code = headers.get(ERROR_CODE_HEADER)?.as_str();
    if code.is_empty() {
        return None;
    }
    let text = headers
        .get(ERROR_HEADER)
        .map(ToString::to_string)
        .unwrap_or_default();
    Some((ErrorCode::parse(code), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: Option<HeaderMap>) -> Message {
        Message {
            subject: "s".into(),
            reply: None,
            payload: "".into(),
            headers,
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn an_error_reads_back_as_one_line() {
        let message = message(Some(error_headers(ErrorCode::NotFound, "a\r\nb")));

        let (code, text) = read_error(&message).unwrap();

        assert_eq!((code, text.as_str()), (ErrorCode::NotFound, "a  b"));
    }

    #[test]
    fn an_error_always_has_a_text() {
        let message = message(Some(error_headers(ErrorCode::Internal, "\n")));
        assert_eq!(read_error(&message).unwrap().1, "error");
    }

    #[test]
    fn a_success_is_no_error() {
        assert_eq!(read_error(&message(None)), None);
        assert_eq!(read_error(&message(Some(HeaderMap::new()))), None);
    }
}
