//! Why a host service said no.

use std::{error::Error, fmt};

use nex_nats::jetstream::{self, Reason};

/// What kind of refusal or failure it was. The text form is what functions compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceCode {
    /// The request makes no sense: a name or a URL that is none.
    BadRequest,
    /// The function may not reach that.
    Denied,
    /// No such bucket, key or object.
    NotFound,
    /// The object is a link that leads to no object.
    BadLink,
    /// The content of the object is not the one that its metadata describes.
    Damaged,
    /// The key has a value already.
    Exists,
    /// The key has another revision.
    Conflict,
    /// More bytes, or entries, than are taken.
    TooLarge,
    /// The bucket, the account or the server has no room left.
    Full,
    /// Nobody listens on the subject.
    NoResponders,
    /// No answer in time.
    Timeout,
    /// Who answered says that it failed.
    RemoteError,
    /// The service cannot be reached.
    Unavailable,
    /// The invocation that asked is over.
    Ended,
}

impl ServiceCode {
    /// The stable text of the code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::BadLink => "bad_link",
            Self::Damaged => "damaged",
            Self::Exists => "exists",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Full => "full",
            Self::NoResponders => "no_responders",
            Self::Timeout => "timeout",
            Self::RemoteError => "remote_error",
            Self::Unavailable => "unavailable",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for ServiceCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a host service refused or failed. `Display` is for the function and its log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ServiceError {
    /// What kind it was.
    pub code: ServiceCode,
    /// What went wrong: one sentence.
    pub text: String,
}

impl ServiceError {
    /// An error.
    #[must_use]
    pub fn new(code: ServiceCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { code, text }
    }

    /// A failure of a bucket, which is a stream: the reason in plain words with the next step where it
    /// is JetStream's, else the causes.
    pub(crate) fn of_stream(what: &str, stream: &str, error: &(dyn Error + 'static)) -> Self {
        let Some(refusal) = jetstream::explain(error, stream) else {
            return Self::unavailable(what, error);
        };
        let code = match refusal.reason {
            Reason::TooLarge => ServiceCode::TooLarge,
            Reason::Full => ServiceCode::Full,
            Reason::Missing => ServiceCode::NotFound,
            Reason::Silent => ServiceCode::Timeout,
            Reason::Off | Reason::TooMany | Reason::Sealed | Reason::Offline => {
                ServiceCode::Unavailable
            }
        };
        Self::new(code, format!("{what}: {refusal}"))
    }

    /// Something that cannot be reached, with the causes.
    pub(crate) fn unavailable(what: &str, error: &(dyn Error + 'static)) -> Self {
        let text = format!("{what}: {}", nexlet::Chain(error));
        Self::new(ServiceCode::Unavailable, text)
    }
}
