//! Dead letters: messages of a stream on which a function has failed too often.
//!
//! A dead letter is the message as it was, with headers that say what happened to it. It waits in
//! the stream [`DEAD_LETTER_STREAM`] until a person lets the function have it again, or drops it.
//!
//! Letting the function have it again is a request to the function alone, on [`replay_subject`]:
//! other consumers of the stream have nothing to do with it.

use crate::{
    function::{escape, is_subject},
    ids::Namespace,
};

/// The stream of all dead letters.
pub const DEAD_LETTER_STREAM: &str = "NEX_DLQ";
/// All their subjects.
pub const DEAD_LETTERS: &str = "$NEX.DLQ.>";
/// The subjects on which functions get a dead letter again.
pub const REPLAYS: &str = "$NEX.SVC.*.function.REPLAY.*";

/// Header: why it is one, on one line.
pub const REASON_HEADER: &str = "Nex-Dlq-Reason";
/// Header: the code of the last failure.
pub const CODE_HEADER: &str = "Nex-Dlq-Code";
/// Header: the subject that the message had.
pub const SUBJECT_HEADER: &str = "Nex-Dlq-Subject";
/// Header: the stream that it came from.
pub const STREAM_HEADER: &str = "Nex-Dlq-Stream";
/// Header: its number there.
pub const SEQUENCE_HEADER: &str = "Nex-Dlq-Sequence";
/// Header: how often it was delivered.
pub const ATTEMPTS_HEADER: &str = "Nex-Dlq-Attempts";
/// Header: the id of the workload that failed last.
pub const WORKLOAD_HEADER: &str = "Nex-Dlq-Workload";
/// Header: its name.
pub const NAME_HEADER: &str = "Nex-Dlq-Name";
/// Header: its namespace.
pub const NAMESPACE_HEADER: &str = "Nex-Dlq-Namespace";
/// What stands before a header of the message that would mean something to the server, or that is
/// named like one of ours.
pub const KEPT_PREFIX: &str = "Nex-Dlq-Kept-";

/// The subject of the dead letters of a function's trigger, which goes by its consumer.
#[must_use]
pub fn dead_letter_subject(namespace: &Namespace, consumer: &str) -> String {
    format!("$NEX.DLQ.{}.{consumer}", escape(namespace.as_str()))
}

/// The subject on which a function gets its dead letters again.
#[must_use]
pub fn replay_subject(namespace: &Namespace, consumer: &str) -> String {
    format!("$NEX.SVC.{namespace}.function.REPLAY.{consumer}")
}

/// Whether a message on that subject is a dead letter for its function.
#[must_use]
pub fn is_replay(subject: &str) -> bool {
    let mut tokens = subject.split('.');
    tokens.next() == Some("$NEX") && tokens.nth(2) == Some("function")
}

/// The consumer in the subject of a dead letter.
#[must_use]
pub fn consumer_of(subject: &str) -> Option<&str> {
    let (_namespace, consumer) = subject.strip_prefix("$NEX.DLQ.")?.split_once('.')?;
    (is_subject(consumer) && !consumer.contains(['.', '*', '>'])).then_some(consumer)
}

/// The name under which a dead letter keeps a header of the message.
#[must_use]
pub fn kept_header(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.starts_with("nats-") || lower.starts_with("nex-dlq-") {
        true => format!("{KEPT_PREFIX}{name}"),
        false => name.to_owned(),
    }
}

/// The name that a header of a dead letter had in the message; `None` for what it did not have.
#[must_use]
pub fn original_header(name: &str) -> Option<&str> {
    if let Some(kept) = name.strip_prefix(KEPT_PREFIX) {
        return Some(kept);
    }
    let lower = name.to_ascii_lowercase();
    let ours = lower.starts_with("nats-") || lower.starts_with("nex-dlq-");
    (!ours).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        for name in [
            "x-a",
            "Nats-Msg-Id",
            "nats-rollup",
            "Nex-Dlq-Reason",
            "Nex-Node",
        ] {
            assert_eq!(original_header(&kept_header(name)), Some(name));
        }
        for name in ["Nex-Dlq-Reason", "Nats-Msg-Id", "Nats-Sequence"] {
            assert_eq!(original_header(name), None, "{name}");
        }
    }

    #[test]
    fn subjects_tell_what_they_are_for() {
        let namespace = Namespace::new("default").unwrap();

        let subject = dead_letter_subject(&namespace, "nex-default-a-1");
        assert_eq!(subject, "$NEX.DLQ.default.nex-default-a-1");
        assert_eq!(consumer_of(&subject), Some("nex-default-a-1"));
        for other in ["$NEX.DLQ.default", "$NEX.DLQ.a.b.c", "$NEX.DLQ.a.>", "a"] {
            assert_eq!(consumer_of(other), None, "{other}");
        }
        assert!(is_replay(&replay_subject(&namespace, "nex-default-a-1")));
        assert!(!is_replay("$NEX.SVC.default.control.AUCTION"));
        assert!(!is_replay("function.REPLAY"));
    }
}
