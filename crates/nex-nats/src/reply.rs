//! Where requests may be answered.

use async_nats::{Message, Subject};

/// What acknowledges a message of a JetStream consumer.
const ACKNOWLEDGEMENTS: &str = "$JS.ACK.";

/// The longest subject that is answered, in bytes; inboxes have less than a tenth of it. The server
/// ends the connection of whoever sends a line of more than 4,096 bytes, and the line of an answer
/// can be longer than that of its request.
const MAX_REPLY_BYTES: usize = 1024;

/// Where the answer to a request goes; `None` where nobody waits for one, or it may not go there.
///
/// The server checks who publishes to a subject, never whom the asker names for the answer. So an
/// answer by somebody with more rights than the asker must not go to a system's own subject: it
/// would be a forged log line, an order to a nexlet, a call of JetStream.
#[must_use]
pub fn reply_subject(message: &Message) -> Option<Subject> {
    let reply = message.reply.as_ref()?;
    let reserved = reply.starts_with('$') && !reply.starts_with(ACKNOWLEDGEMENTS);
    (!reserved && reply.len() <= MAX_REPLY_BYTES).then(|| reply.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(reply: Option<&str>) -> Option<String> {
        let message = Message {
            subject: "s".into(),
            reply: reply.map(Into::into),
            payload: "".into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        reply_subject(&message).map(|reply| reply.to_string())
    }

    #[test]
    fn no_answer_goes_to_a_subject_of_a_system() {
        for good in ["_INBOX.a.b", "mine.x", "_R_.1", "$JS.ACK.s.c.1.1.1.1.1"] {
            assert_eq!(answered(Some(good)).as_deref(), Some(good));
        }
        for bad in [
            "$NEX.FEED.default.logs.w.stdout",
            "$NEX.SVC.N.agent.SETLAMEDUCK",
            "$JS.API.STREAM.PURGE.S",
            "$SYS.REQ.SERVER.PING",
            "$SRV.PING",
            "$KV.bucket.key",
        ] {
            assert_eq!(answered(Some(bad)), None, "{bad}");
        }
        assert_eq!(answered(Some(&"x".repeat(4000))), None);
        assert_eq!(answered(None), None);
    }
}
