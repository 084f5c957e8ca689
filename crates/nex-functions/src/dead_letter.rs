//! Dead letters: where messages go on which a function has failed too often.

use async_nats::{
    Client, HeaderMap, Message, Subject,
    jetstream::{
        self, ErrorCode as JetStreamCode,
        context::{CreateStreamErrorKind, GetStreamErrorKind, PublishError},
        stream::{Config, DiscardPolicy, StorageType},
    },
};
use bytes::Bytes;
use nex_protocol::{
    dead_letter::{
        ATTEMPTS_HEADER, CODE_HEADER, DEAD_LETTER_STREAM, DEAD_LETTERS, NAME_HEADER,
        NAMESPACE_HEADER, REASON_HEADER, SEQUENCE_HEADER, STREAM_HEADER, SUBJECT_HEADER,
        WORKLOAD_HEADER, dead_letter_subject, kept_header, original_header,
    },
    header_value,
};
use nexlet::{Chain, Refusal};

use crate::{
    engine::Invocation,
    function::Function,
    reply::CallError,
    stream::{Delivery, context},
};

/// How long the server knows that it has a dead letter already.
const DUPLICATE_WINDOW: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// Sizes of a new stream of dead letters, in bytes: it takes the first for which the
/// server has room.
const SIZES: [i64; 6] = [1 << 30, 1 << 28, 1 << 26, 1 << 24, 1 << 22, 1 << 20];

/// Writes the dead letters of one function, with the nexlet's own rights: functions have none there.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    context: jetstream::Context,
}

impl DeadLetters {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            context: context(client),
        }
    }

    /// Makes the stream of all dead letters, if it is not there, as large as the server has room for.
    /// A full one refuses new dead letters rather than to forget old ones; their messages then stay
    /// in the streams that they come from.
    pub(crate) async fn ensure(&self) -> Result<(), Refusal> {
        let refusal = |error: &(dyn std::error::Error + 'static)| {
            let cause = match nex_nats::jetstream::explain(error, DEAD_LETTER_STREAM) {
                Some(refusal) => refusal.to_string(),
                None => Chain(error).to_string(),
            };
            Refusal::busy(format!(
                "stream `{DEAD_LETTER_STREAM}` cannot be made, in which messages wait that the \
                 function fails on: {cause}"
            ))
        };
        match self.context.get_stream(DEAD_LETTER_STREAM).await {
            Ok(_stream) => return Ok(()),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == JetStreamCode::STREAM_NOT_FOUND => {}
                _ => return Err(refusal(&error)),
            },
        }
        let mut sizes = SIZES.into_iter().peekable();
        while let Some(max_bytes) = sizes.next() {
            let created = self.context.create_stream(Config {
                name: DEAD_LETTER_STREAM.to_owned(),
                description: Some("Messages that functions of Nex have failed on".to_owned()),
                subjects: vec![DEAD_LETTERS.to_owned()],
                max_bytes,
                discard: DiscardPolicy::New,
                storage: StorageType::File,
                duplicate_window: DUPLICATE_WINDOW,
                allow_direct: true,
                ..Config::default()
            });
            match created.await {
                Ok(_stream) => break,
                Err(error) => match error.kind() {
                    CreateStreamErrorKind::JetStream(answer)
                        if is_full(answer.error_code()) && sizes.peek().is_some() => {}
                    // Another nexlet may have made it in this moment, in another size.
                    CreateStreamErrorKind::JetStream(answer)
                        if answer.error_code() == JetStreamCode::STREAM_NAME_EXIST =>
                    {
                        break;
                    }
                    _ => return Err(refusal(&error)),
                },
            }
        }
        Ok(())
    }

    /// Writes one; it is there for good when this returns.
    pub(crate) async fn write(&self, letter: Letter) -> Result<(), PublishError> {
        let Letter {
            subject,
            headers,
            invocation,
        } = letter;
        let published =
            self.context
                .publish_with_headers(subject, headers, invocation.payload.clone());
        published.await?.await.map(drop)
    }
}

/// Returns whether the server has no room for a stream of that size.
fn is_full(code: JetStreamCode) -> bool {
    const FULL: [JetStreamCode; 3] = [
        JetStreamCode::STORAGE_RESOURCES_EXCEEDED,
        JetStreamCode::INSUFFICIENT_RESOURCES,
        JetStreamCode::ACCOUNT_RESOURCES_EXCEEDED,
    ];
    FULL.contains(&code)
}

/// A dead letter to write.
pub(crate) struct Letter {
    subject: String,
    headers: HeaderMap,
    invocation: Invocation,
}

impl Letter {
    /// The message of an invocation, and why the function will not get it again by itself.
    pub(crate) fn new(
        function: &Function,
        consumer: &str,
        stream: &str,
        delivery: Delivery,
        invocation: Invocation,
        error: &CallError,
    ) -> Self {
        let mut headers = HeaderMap::new();
        for (name, values) in invocation.headers.iter() {
            for value in values {
                headers.append(kept_header(name.as_ref()), value.clone());
            }
        }
        let namespace = &function.request.namespace;
        for (name, value) in [
            (REASON_HEADER, error.text.clone()),
            (CODE_HEADER, error.code.number().to_string()),
            (SUBJECT_HEADER, invocation.subject.to_string()),
            (STREAM_HEADER, stream.to_owned()),
            (SEQUENCE_HEADER, delivery.sequence.to_string()),
            (ATTEMPTS_HEADER, delivery.attempt.to_string()),
            (WORKLOAD_HEADER, function.id.to_string()),
            (NAME_HEADER, function.request.name.clone()),
            (NAMESPACE_HEADER, namespace.to_string()),
        ] {
            headers.insert(name, header_value(&value));
        }
        // The same message again, should its end be unknown to the stream that it comes from.
        let id = format!("{consumer}.{}.{}", delivery.sequence, delivery.stored);
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
        Self {
            subject: dead_letter_subject(namespace, consumer),
            headers,
            invocation,
        }
    }
}

/// The message that a dead letter was.
#[derive(Debug)]
pub(crate) struct Revived {
    pub(crate) subject: Subject,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
    /// How often it was tried, this time included.
    pub(crate) attempt: u64,
}

/// Makes a message of a dead letter again; `None` where it is none.
pub(crate) fn revive(letter: Message) -> Option<Revived> {
    let headers = letter.headers?;
    let text = |name| Some(headers.get(name)?.as_str());
    let subject = text(SUBJECT_HEADER).filter(|subject| !subject.is_empty())?;
    let attempts: u64 = text(ATTEMPTS_HEADER)?.parse().ok()?;
    let mut original = HeaderMap::new();
    for (name, values) in headers.iter() {
        let Some(name) = original_header(name.as_ref()) else {
            continue;
        };
        for value in values {
            original.append(name, value.clone());
        }
    }
    Some(Revived {
        subject: subject.to_owned().into(),
        headers: original,
        payload: letter.payload,
        attempt: attempts.saturating_add(1),
    })
}
