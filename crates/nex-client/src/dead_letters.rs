//! Dead letters: messages on which a function has failed too often.

use std::time::Duration;

use async_nats::{
    HeaderMap, HeaderValue,
    client::Request,
    jetstream::{
        self, ErrorCode as JetStreamCode,
        context::GetStreamErrorKind,
        message::StreamMessage,
        stream::{DirectGetErrorKind, Stream},
    },
};
use bytes::Bytes;
use jiff::Timestamp;
use nex_protocol::{
    ErrorCode,
    dead_letter::{
        self, ATTEMPTS_HEADER, CODE_HEADER, DEAD_LETTER_STREAM, NAME_HEADER, NAMESPACE_HEADER,
        REASON_HEADER, SEQUENCE_HEADER, STREAM_HEADER, SUBJECT_HEADER, WORKLOAD_HEADER,
        consumer_of, original_header, replay_subject,
    },
    function,
};

use crate::{Client, ClientError, feeds::stream::context};

/// How long a function may take with a dead letter: the longest that one may run, and its wait.
const REPLAY_LIMIT: Duration = Duration::from_secs(65);

/// A message that a function failed on, as it was, and what happened to it.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its number among the dead letters.
    pub number: u64,
    /// When it became one.
    pub time: Timestamp,
    /// Why.
    pub reason: String,
    /// The code of the last failure, as text.
    pub code: String,
    /// The name of the function.
    pub name: String,
    /// The id that the function had.
    pub workload: String,
    /// Its namespace, as text.
    pub namespace: String,
    /// The stream that the message came from.
    pub stream: String,
    /// Its number there, as text.
    pub sequence: String,
    /// How often it was delivered, as text.
    pub attempts: String,
    /// The subject of the message.
    pub subject: String,
    /// The message's own headers.
    pub headers: HeaderMap,
    /// Its body.
    pub payload: Bytes,
    consumer: String,
    stored: HeaderMap,
}

/// The dead letters of a namespace.
#[derive(Clone, Debug, Default)]
pub struct DeadLetters {
    /// The dead letters, the oldest first.
    pub letters: Vec<DeadLetter>,
    /// The numbers of messages of their stream that are none.
    pub unreadable: Vec<u64>,
}

/// What went wrong with dead letters.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// There is none with this number, in this namespace.
    #[error("there is no dead letter `{0}`")]
    NotFound(u64),
    /// The function does not run, so that nobody can have it.
    #[error("function `{name}` does not run in namespace `{namespace}`")]
    NotRunning {
        /// The function.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The function has failed on it again.
    #[error("the function failed again: {text} ({code})")]
    Failed {
        /// The code.
        code: ErrorCode,
        /// Why.
        text: String,
    },
    /// Something answered that is not the function.
    #[error("the answer is not the function's: it may have run")]
    NotTheFunction,
    /// The function said nothing; it may have run.
    #[error("no answer of the function within {0:?}: it may have run")]
    NoAnswer(Duration),
    /// NATS or JetStream does not do what it should.
    #[error("failed to {0}")]
    Nats(
        &'static str,
        #[source] Box<dyn std::error::Error + Send + Sync>,
    ),
}

impl DeadLetter {
    fn read(message: StreamMessage) -> Option<Self> {
        let text = |name: &str| {
            let value = message.headers.get(name);
            value.map(ToString::to_string).unwrap_or_default()
        };
        let mut headers = HeaderMap::new();
        for (name, values) in message.headers.iter() {
            if let Some(name) = original_header(name.as_ref()) {
                for value in values {
                    headers.append(name, value.clone());
                }
            }
        }
        Some(Self {
            number: message.sequence,
            time: Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).ok()?,
            reason: text(REASON_HEADER),
            code: text(CODE_HEADER),
            name: text(NAME_HEADER),
            workload: text(WORKLOAD_HEADER),
            namespace: text(NAMESPACE_HEADER),
            stream: text(STREAM_HEADER),
            sequence: text(SEQUENCE_HEADER),
            attempts: text(ATTEMPTS_HEADER),
            subject: text(SUBJECT_HEADER),
            headers,
            consumer: consumer_of(&message.subject)?.to_owned(),
            payload: message.payload,
            stored: message.headers,
        })
    }

    /// The headers with which its function gets it again.
    fn to_send(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in self.stored.iter() {
            let name: &str = name.as_ref();
            // What the stream added, and what it must not take for its own.
            if !name.to_ascii_lowercase().starts_with("nats-") {
                let values: Vec<HeaderValue> = values.to_vec();
                for value in values {
                    headers.append(name, value);
                }
            }
        }
        headers
    }
}

impl Client {
    /// All dead letters of the namespace, or, in the namespace `system`, of all of them; the oldest
    /// first.
    ///
    /// # Errors
    /// JetStream does not answer.
    pub async fn dead_letters(&self) -> Result<DeadLetters, DeadLetterError> {
        let mut all = DeadLetters::default();
        let Some(stream) = self.dead_letter_stream().await? else {
            return Ok(all);
        };
        let mut next = 1;
        loop {
            let getting = stream.direct_get_next_for_subject(dead_letter::DEAD_LETTERS, Some(next));
            let message = match self.asking("read dead letters", getting).await? {
                Ok(message) => message,
                Err(error) if is_none(error.kind()) => return Ok(all),
                Err(error) => {
                    return Err(DeadLetterError::Nats("read dead letters", error.into()));
                }
            };
            let number = message.sequence;
            next = number + 1;
            let token = message.subject.split('.').nth(2).unwrap_or_default();
            let is_ours = self.namespace.is_system() || token == self.namespace.as_str();
            match DeadLetter::read(message) {
                Some(letter) if self.sees(&letter) => all.letters.push(letter),
                Some(letter) if !letter.namespace.is_empty() => {}
                _ if is_ours => all.unreadable.push(number),
                _ => {}
            }
        }
    }

    /// One dead letter.
    ///
    /// # Errors
    /// There is none with this number here, or JetStream does not answer.
    pub async fn dead_letter(&self, number: u64) -> Result<DeadLetter, DeadLetterError> {
        let missing = || DeadLetterError::NotFound(number);
        let stream = self.dead_letter_stream().await?.ok_or_else(missing)?;
        let getting = stream.direct_get(number);
        let message = match self.asking("read a dead letter", getting).await? {
            Ok(message) => message,
            Err(error) if is_none(error.kind()) => return Err(missing()),
            Err(error) => return Err(DeadLetterError::Nats("read a dead letter", error.into())),
        };
        let letter = DeadLetter::read(message).filter(|letter| self.sees(letter));
        letter.ok_or_else(missing)
    }

    /// Lets the function have a dead letter again, and it alone; removes it when the function has
    /// succeeded. Returns what the function returned.
    ///
    /// Where the connection breaks between the two, the function may get it once more.
    ///
    /// # Errors
    /// The function does not run, or fails again: then the dead letter stays.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<Bytes, DeadLetterError> {
        let missing = || DeadLetterError::NotFound(letter.number);
        let namespace = letter.namespace.parse().map_err(|_invalid| missing())?;
        let request = || {
            Request::new()
                .headers(letter.to_send())
                .payload(letter.payload.clone())
                .timeout(Some(REPLAY_LIMIT))
        };
        let subject = replay_subject(&namespace, &letter.consumer);
        let reply = match self.send(&subject, request, REPLAY_LIMIT).await {
            Ok(reply) => reply,
            Err(error) => {
                return Err(match error {
                    ClientError::NoNodes => DeadLetterError::NotRunning {
                        name: letter.name.clone(),
                        namespace: letter.namespace.clone(),
                    },
                    ClientError::TimedOut { after } => DeadLetterError::NoAnswer(after),
                    other => DeadLetterError::Nats("ask the function", other.into()),
                });
            }
        };
        if let Some((code, text)) = nex_nats::read_error(&reply) {
            return Err(DeadLetterError::Failed { code, text });
        }
        // A stream that keeps the subject answers too.
        let headers = reply.headers.as_ref();
        if headers.is_none_or(|headers| headers.get(function::WORKLOAD_HEADER).is_none()) {
            return Err(DeadLetterError::NotTheFunction);
        }
        match self.drop_dead_letter(letter).await {
            // Somebody else removed it meanwhile, which is all that was left to do.
            Ok(()) | Err(DeadLetterError::NotFound(_)) => Ok(reply.payload),
            Err(error) => Err(error),
        }
    }

    /// Removes a dead letter for good; returns when the server has confirmed that.
    ///
    /// # Errors
    /// It is gone already, or JetStream does not answer.
    pub async fn drop_dead_letter(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        let missing = || DeadLetterError::NotFound(letter.number);
        let stream = self.dead_letter_stream().await?.ok_or_else(missing)?;
        let removing = stream.delete_message(letter.number);
        match self.asking("remove a dead letter", removing).await? {
            Ok(true) => Ok(()),
            Ok(false) => Err(missing()),
            // What the server says of one that is not there depends on its store.
            Err(error) => Err(match self.dead_letter(letter.number).await {
                Err(missing @ DeadLetterError::NotFound(_)) => missing,
                _ => DeadLetterError::Nats("remove a dead letter", error.into()),
            }),
        }
    }

    async fn asking<T>(
        &self,
        what: &'static str,
        asking: impl Future<Output = T>,
    ) -> Result<T, DeadLetterError> {
        let asked = self.unless_denied(DEAD_LETTER_STREAM, asking).await;
        asked.map_err(|denied| DeadLetterError::Nats(what, denied.into()))
    }

    fn sees(&self, letter: &DeadLetter) -> bool {
        self.namespace.is_system() || letter.namespace == self.namespace.as_str()
    }

    /// The stream, if there ever was a dead letter or a function that could make one.
    async fn dead_letter_stream(&self) -> Result<Option<Stream>, DeadLetterError> {
        let context: jetstream::Context = context(&self.nats);
        match self
            .asking(
                "look for dead letters",
                context.get_stream(DEAD_LETTER_STREAM),
            )
            .await?
        {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(cause)
                    if cause.error_code() == JetStreamCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(DeadLetterError::Nats("look for dead letters", error.into())),
            },
        }
    }
}

fn is_none(kind: DirectGetErrorKind) -> bool {
    match kind {
        DirectGetErrorKind::NotFound => true,
        DirectGetErrorKind::ErrorResponse(status, _) => status.as_u16() == 404,
        _ => false,
    }
}
