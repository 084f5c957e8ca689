//! What comes back: nothing, a body, several, or an error with its envelope.

use std::error::Error;

use async_nats::HeaderMap;
use bytes::Bytes;
use nex_nats::service::Request;
use nex_protocol::{
    ErrorBody, ErrorCode, MORE_HEADER, NODE_HEADER, Namespace, error::REASON_FIELD, ids::unique,
};
use nexlet::Chain;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tracing::{debug, warn};

use crate::shared::Shared;

/// What callers read where the fault is the node's; the log has the rest.
const INTERNAL: &str = "internal server error";

/// An answer that is no error.
#[derive(Debug)]
pub(super) enum Answer {
    /// None: others may answer, or nobody.
    Silence,
    /// One body.
    Body(Bytes),
    /// One body with headers of its own, an error perhaps.
    Forwarded(HeaderMap, Bytes),
    /// A list in several messages.
    Chunks(Vec<Bytes>),
}

impl Answer {
    pub(super) fn json(body: &impl Serialize) -> Result<Self, Refusal> {
        match serde_json::to_vec(body) {
            Ok(body) => Ok(Self::Body(body.into())),
            Err(error) => Err(Refusal::internal("failed to encode the answer", &error)),
        }
    }
}

/// An error for the caller.
#[derive(Debug)]
pub(super) struct Refusal {
    code: ErrorCode,
    /// The header's text.
    text: String,
    /// The body's text, where it says more than the header's.
    detail: Option<String>,
    /// For the log alone.
    cause: Option<String>,
    /// More fields of the body.
    fields: Map<String, Value>,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            detail: None,
            cause: None,
            fields: Map::new(),
        }
    }

    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, text)
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, text)
    }

    pub(super) fn busy(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::Busy, text)
    }

    /// A fault of the node's; only the log says what it was.
    pub(super) fn internal(text: impl Into<String>, cause: &(dyn Error + 'static)) -> Self {
        let mut refusal = Self::new(ErrorCode::Internal, text);
        refusal.cause = Some(Chain(cause).to_string());
        refusal
    }

    /// With a longer text for the body.
    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With a reason that the caller may read although the fault is the node's.
    pub(super) fn reason(mut self, reason: &str) -> Self {
        self.fields
            .insert(REASON_FIELD.to_owned(), reason.to_owned().into());
        self
    }

    /// With more fields in the body, for peers that read it as a success's.
    pub(super) fn fields(mut self, fields: Map<String, Value>) -> Self {
        self.fields = fields;
        self
    }

    /// What the caller reads.
    pub(super) fn message(&self) -> &str {
        match self.code {
            ErrorCode::Internal => INTERNAL,
            _ => self.detail.as_deref().unwrap_or(&self.text),
        }
    }

    fn body(&self, error_id: &str) -> Bytes {
        let envelope = ErrorBody {
            error_id: error_id.to_owned(),
            error: self.message().to_owned(),
        };
        let mut body = self.fields.clone();
        body.insert("error_id".to_owned(), envelope.error_id.into());
        body.insert("error".to_owned(), envelope.error.into());
        Value::Object(body).to_string().into()
    }
}

/// Reads a request's body.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::bad_request(format!("failed to unmarshal {what}")).detail(error.to_string())
    })
}

/// The namespace of the subject rules; that of the body must be the same, except for `system`.
pub(super) fn check_namespace(subject: &Namespace, body: &Namespace) -> Result<(), Refusal> {
    if subject.is_system() || subject == body {
        return Ok(());
    }
    let text = format!("namespace mismatch: {subject} != {body}");
    Err(Refusal::new(ErrorCode::Forbidden, text).detail("namespace mismatch"))
}

/// Sends an answer, and logs an error once, with the id that the caller gets.
pub(super) async fn send(shared: &Shared, request: &Request, answer: Result<Answer, Refusal>) {
    let sent = match answer {
        Ok(Answer::Silence) => Ok(()),
        Ok(Answer::Body(body)) => request.respond(Some(own_headers(shared)), body).await,
        Ok(Answer::Forwarded(mut headers, body)) => {
            headers.insert(NODE_HEADER, shared.id.as_str());
            request.respond(Some(headers), body).await
        }
        Ok(Answer::Chunks(chunks)) => send_chunks(shared, request, chunks).await,
        Err(refusal) => {
            let error_id = unique();
            log(request, &refusal, &error_id);
            let body = refusal.body(&error_id);
            let headers = own_headers(shared);
            request
                .respond_error_with(refusal.code, &refusal.text, headers, body)
                .await
        }
    };
    if let Err(error) = sent {
        warn!(endpoint = request.endpoint, %error, "failed to answer");
    }
}

async fn send_chunks(
    shared: &Shared,
    request: &Request,
    chunks: Vec<Bytes>,
) -> Result<(), async_nats::PublishError> {
    let last = chunks.len().saturating_sub(1);
    for (place, chunk) in chunks.into_iter().enumerate() {
        let mut headers = own_headers(shared);
        if place < last {
            headers.insert(MORE_HEADER, "true");
        }
        request.respond(Some(headers), chunk).await?;
    }
    Ok(())
}

fn own_headers(shared: &Shared) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NODE_HEADER, shared.id.as_str());
    headers
}

fn log(request: &Request, refusal: &Refusal, error_id: &str) {
    let endpoint = request.endpoint;
    let text = &refusal.text;
    if refusal.code == ErrorCode::Internal {
        let cause = refusal.cause.as_deref().unwrap_or_default();
        warn!(endpoint, error_id, cause, "{text}");
    } else {
        debug!(endpoint, error_id, code = %refusal.code, "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_node_tells_no_cause() {
        let cause = std::io::Error::other("the secret path");
        let refusal = Refusal::internal("failed to mint", &cause);

        let body: ErrorBody = serde_json::from_slice(&refusal.body("id")).unwrap();

        assert_eq!(
            (body.error_id.as_str(), body.error.as_str()),
            ("id", INTERNAL)
        );
        assert_eq!(refusal.cause.as_deref(), Some("the secret path"));
    }

    #[test]
    fn the_body_can_say_more_than_the_header() {
        let refusal = Refusal::bad_request("short").detail("long");
        let body: ErrorBody = serde_json::from_slice(&refusal.body("id")).unwrap();

        assert_eq!(body.error, "long");
    }

    #[test]
    fn only_system_acts_for_others() {
        let (a, b) = (Namespace::new("a").unwrap(), Namespace::new("b").unwrap());

        assert!(check_namespace(&a, &a).is_ok());
        assert!(check_namespace(&Namespace::system(), &b).is_ok());
        let refusal = check_namespace(&a, &b).unwrap_err();
        assert_eq!(refusal.text, "namespace mismatch: a != b");
        assert_eq!(refusal.message(), "namespace mismatch");
        assert!(check_namespace(&a, &Namespace::system()).is_err());
    }
}
