//! What the subject tells on which a delivery is acknowledged.

/// One delivery of a message of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Delivery {
    /// How often the message was delivered, this time included.
    pub(crate) attempt: u64,
    /// Its number in the stream.
    pub(crate) sequence: u64,
    /// The number that its consumer gave to this delivery.
    pub(crate) number: u64,
    /// When it was stored, in nanoseconds since 1970: a stream that was made anew begins its numbers
    /// again, but not its times.
    pub(crate) stored: u64,
}

impl Delivery {
    /// Reads `$JS.ACK.<stream>.<consumer>.<attempt>.<sequence>.<consumer's>.<stored>.<pending>`, or
    /// the longer form, which has a domain and an account before the stream, and may have more at
    /// the end (ADR-15 of NATS).
    pub(crate) fn parse(ack: &str) -> Option<Self> {
        let tokens = || ack.strip_prefix("$JS.ACK.").map(|rest| rest.split('.'));
        let before = match tokens()?.count() {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        let mut numbers = tokens()?.skip(before);
        let mut number = || numbers.next()?.parse().ok();
        Some(Self {
            attempt: number()?,
            sequence: number()?,
            number: number()?,
            stored: number()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_nothing_else() {
        let delivery = Some(Delivery {
            attempt: 2,
            sequence: 7,
            number: 9,
            stored: 1_700_000_000_000_000_001,
        });
        for (ack, read) in [
            ("$JS.ACK.S.c.2.7.9.1700000000000000001.3", delivery),
            ("$JS.ACK.hub.HASH.S.c.2.7.9.1700000000000000001.3", delivery),
            (
                "$JS.ACK._.HASH.S.c.2.7.9.1700000000000000001.3.random",
                delivery,
            ),
            ("$JS.ACK.S.c.2.7.9.1700000000000000001", None),
            ("$JS.ACK.S.c.x.7.9.1700000000000000001.3", None),
            ("$JS.ACK.S.c.-2.7.9.1700000000000000001.3", None),
            ("_INBOX.S.c.2.7.9.1700000000000000001.3", None),
            ("", None),
        ] {
            assert_eq!(Delivery::parse(ack), read, "{ack}");
        }
    }
}
