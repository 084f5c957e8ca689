//! Answers of functions to those who called them.

use std::time::Duration;

use async_nats::{Client, HeaderMap, HeaderValue, Subject, client::PublishErrorKind};
use bytes::Bytes;
use nex_protocol::{
    ErrorCode, GoDuration,
    function::{FAILURE_HEADER, reply_headers},
    header_value,
};
use tracing::debug;

use crate::{
    engine::{Failure, FailureKind},
    function::Function,
    trace::TRACEPARENT,
};

/// An invocation that went wrong, as its caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallError {
    pub(crate) code: ErrorCode,
    pub(crate) text: String,
}

impl CallError {
    /// What a failure means for the caller of a function that may run for so long.
    pub(crate) fn new(failure: &Failure, timeout: Duration) -> Self {
        let text = match failure.kind {
            FailureKind::Deadline => {
                format!("timed out after {}: {failure}", GoDuration(timeout))
            }
            _ => failure.to_string(),
        };
        Self {
            code: failure.kind.code(),
            text,
        }
    }
}

/// Sends the answers of one function.
pub(crate) struct Replies {
    client: Client,
    headers: HeaderMap,
    /// The same as they go over the wire: most replies have no others.
    encoded: Bytes,
}

impl Replies {
    pub(crate) fn new(client: Client, function: &Function) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in reply_headers(&function.id, &function.request.namespace) {
            headers.insert(name, header_value(value));
        }
        Self {
            client,
            encoded: headers.encode(),
            headers,
        }
    }

    /// The headers of every reply, and the trace of the message that is answered.
    fn headers(&self, trace: Option<&HeaderValue>) -> HeaderMap {
        let mut headers = self.headers.clone();
        if let Some(traceparent) = trace {
            headers.insert(TRACEPARENT, traceparent.clone());
        }
        headers
    }

    /// Sends a result. A result that the server does not take is told to the caller as an error,
    /// which is returned then.
    pub(crate) async fn result(
        &self,
        reply: Subject,
        trace: Option<&HeaderValue>,
        result: Bytes,
    ) -> Result<(), CallError> {
        let bytes = result.len();
        let (client, to) = (&self.client, reply.clone());
        let sent = match trace {
            None => {
                let headers = self.encoded.clone();
                client
                    .publish_with_encoded_headers(to, headers, result)
                    .await
            }
            Some(_) => {
                let headers = self.headers(trace);
                client.publish_with_headers(to, headers, result).await
            }
        };
        match sent {
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                let max = self.client.max_payload();
                let error = CallError {
                    code: ErrorCode::TooLarge,
                    text: format!(
                        "the result has {bytes} bytes: the server takes {max}, headers included"
                    ),
                };
                self.error(reply, trace, &error).await;
                Err(error)
            }
            Err(error) => {
                debug!(%reply, %error, "a result cannot be sent");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Sends an error: in headers for programs, and as JSON for people who see only the body.
    pub(crate) async fn error(
        &self,
        reply: Subject,
        trace: Option<&HeaderValue>,
        error: &CallError,
    ) {
        let mut headers = self.headers(trace);
        headers.insert(FAILURE_HEADER, header_value(&error.text));
        for (name, values) in nex_nats::error_headers(error.code, &error.text).iter() {
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
        let body = serde_json::json!({ "error": error.text }).to_string();
        let sent = self
            .client
            .publish_with_headers(reply.clone(), headers, body.into());
        if let Err(error) = sent.await {
            debug!(%reply, %error, "an error cannot be sent");
        }
    }
}
