//! Error codes, the envelope that carries them, and safe header values.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lenient::null_default;

/// Header with the code of an error. Go peers match the name with its case.
pub const ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";
/// Header with the text of an error.
pub const ERROR_HEADER: &str = "Nats-Service-Error";
/// Header with the next step for the person who asked, where an error has one. Its text ends with the same, for peers
/// that show the text alone. Extension.
pub const HINT_HEADER: &str = "Nex-Hint";
/// Extension: field of an error's body with a reason for a fault of the node that the caller may read.
pub const REASON_FIELD: &str = "reason";
/// What a workload's owner answers, letter by letter, where it does not know an id.
pub const WORKLOAD_NOT_FOUND: &str = "workload not found";
/// What a nexlet answers, letter by letter, where it does not know a namespace.
pub const NAMESPACE_NOT_FOUND: &str = "namespace not found";

/// The code of an error on the wire. It stays; texts may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 100: a nexlet failed or refused. The only code that nexlets of the Go SDK send.
    Nexlet,
    /// 400: the request cannot be read or asks for something impossible.
    BadRequest,
    /// 403: the caller may not do this in that namespace.
    Forbidden,
    /// 404: what was named does not exist, or nobody runs that type.
    NotFound,
    /// 408: the work did not end before its deadline.
    Timeout,
    /// 413: an answer, a payload or an artifact is larger than the server takes.
    TooLarge,
    /// 500: a fault of ours; the log has its id.
    Internal,
    /// 503: no capacity at the moment; trying again, or elsewhere, may help.
    Busy,
    /// A code that this version does not know.
    Other(u16),
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Nexlet => 100,
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Timeout => 408,
            Self::TooLarge => 413,
            Self::Internal => 500,
            Self::Busy => 503,
            Self::Other(number) => number,
        }
    }

    /// Reads a header's text; what is no number becomes `Other(0)`, as in the Go client.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.trim().parse().unwrap_or(0) {
            100 => Self::Nexlet,
            400 => Self::BadRequest,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            408 => Self::Timeout,
            413 => Self::TooLarge,
            500 => Self::Internal,
            503 => Self::Busy,
            number => Self::Other(number),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

/// Body of a node's error reply. What a nexlet sends instead, a reply of the endpoint's own type,
/// reads as one of empty texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ErrorBody {
    /// Names the line in the node's log.
    #[serde(default, deserialize_with = "null_default")]
    pub error_id: String,
    /// What went wrong; for a fault of the node only `internal server error`.
    #[serde(default, deserialize_with = "null_default")]
    pub error: String,
}

/// The longest header value that we write, in bytes.
const MAX_HEADER_BYTES: usize = 1024;

/// Makes any text safe as a header value: one line, bounded.
///
/// Line breaks and other control characters become spaces (a stack trace has them, and a client
/// library may panic on them); what is longer than 1 KiB ends in `…`.
#[must_use]
pub fn header_value(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let clean = clean.trim();
    if clean.len() <= MAX_HEADER_BYTES {
        return clean.to_owned();
    }
    let mut end = MAX_HEADER_BYTES - '…'.len_utf8();
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &clean[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_value_is_one_bounded_line() {
        assert_eq!(header_value(" a\r\nb\tc\0 "), "a  b c");
        let long = header_value(&"ü".repeat(4000));
        assert!(long.len() <= MAX_HEADER_BYTES && long.ends_with('…'));
    }

    #[test]
    fn codes_read_back() {
        for number in [0, 100, 400, 403, 404, 408, 413, 418, 500, 503] {
            assert_eq!(ErrorCode::parse(&number.to_string()).number(), number);
        }
        assert_eq!(ErrorCode::parse("no number").number(), 0);
    }
}
