//! `nex req`: one request, one reply; for a machine without the NATS CLI.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use async_nats::{Message, Request, RequestErrorKind};
use bytes::Bytes;
use nex_client::ClientError;
use serde_json::{Value, json};

use crate::{
    cli::ReqArgs,
    command::fault,
    connect::connect,
    context::Context,
    error::{CommandError, CommandResult, Exit},
    print::{headers, table::printable},
};

/// How long a reply may take unless `--timeout` says otherwise.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// How much of an error reply's body is shown, in characters.
const SHOWN_BODY_CHARS: usize = 1000;

/// Sends the request and prints the reply.
pub(crate) async fn run(args: ReqArgs, context: &Context) -> CommandResult {
    check_subject(&args.subject)?;
    let connection = connect(context).await?;
    let payload = payload(args.payload.as_deref(), context, connection.max_payload()).await?;
    let timeout = context
        .global
        .nats
        .timeout
        .map_or(TIMEOUT, |wanted| wanted.0);
    let request = Request::new().payload(payload).timeout(Some(timeout));
    let denied = connection.denials().of(&args.subject);
    let (deaf, lost) = (connection.denials().of_inbox(), connection.losses().next());
    let reply = tokio::select! {
        biased;
        reply = connection.send_request(args.subject.clone(), request) => {
            reply.map_err(|error| explain(&error, &args.subject, timeout))?
        }
        () = denied => {
            let subject = args.subject.clone();
            return Err(fault::client(ClientError::Denied { subject }));
        }
        subject = deaf => return Err(fault::client(ClientError::Unheard { subject })),
        () = lost => return Err(fault::connection_lost()),
    };

    if args.headers {
        for (name, value) in reply.headers.iter().flat_map(headers::pairs) {
            context
                .printer
                .note(format!("{name}: {}", printable(&value)));
        }
    }
    if let Some((code, text)) = nex_nats::read_error(&reply) {
        let error = CommandError::failed(format!(
            "the request was refused: {} ({code})",
            printable(&text)
        ));
        return Err(error.cause(body_of_error(&reply.payload, &text)));
    }
    print(&reply, &args, context)?;
    Ok(Exit::OK)
}

/// What the body of an error says beyond its header; of the object that ours are, the text.
pub(super) fn body_of_error(body: &[u8], header: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        error: String,
    }
    let text = match serde_json::from_slice::<Body>(body) {
        Ok(body) => body.error,
        Err(_no_object) => String::from_utf8_lossy(body).into_owned(),
    };
    if nex_protocol::header_value(&text) == header {
        return String::new();
    }
    text.chars().take(SHOWN_BODY_CHARS).collect()
}

fn print(reply: &Message, args: &ReqArgs, context: &Context) -> Result<(), CommandError> {
    if context.printer.is_json() {
        return context.printer.json(&as_json(reply));
    }
    context.printer.bytes(&reply.payload)?;
    if !args.raw && !reply.payload.ends_with(b"\n") {
        context.printer.bytes(b"\n")?;
    }
    Ok(())
}

pub(super) fn as_json(reply: &Message) -> Value {
    let headers = reply.headers.as_ref().map(headers::json);
    let headers = headers.unwrap_or_else(|| json!({}));
    let mut shown = json!({ "subject": reply.subject.as_str(), "headers": headers });
    let (key, data) = match std::str::from_utf8(&reply.payload) {
        Ok(text) => ("data", text.to_owned()),
        Err(_) => ("data_base64", data_encoding::BASE64.encode(&reply.payload)),
    };
    shown[key] = data.into();
    shown
}

/// Refuses what no request can be sent to, before anybody is asked.
pub(super) fn check_subject(subject: &str) -> Result<(), CommandError> {
    let token = |token: &str| {
        !token.is_empty()
            && !matches!(token, "*" | ">")
            && !token.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    if subject.split('.').all(token) {
        return Ok(());
    }
    Err(CommandError::usage(format!(
        "invalid subject `{}`: want tokens joined by `.`, without spaces and wildcards",
        subject.escape_debug()
    )))
}

/// The payload of the command line, or what is piped in.
pub(super) async fn payload(
    text: Option<&str>,
    context: &Context,
    limit: usize,
) -> Result<Bytes, CommandError> {
    let payload = match text {
        Some("-") => piped(limit).await?,
        None if !context.env.terminals.stdin => piped(limit).await?,
        Some(text) => text.as_bytes().to_vec(),
        None => Vec::new(),
    };
    check_size(payload.len(), limit)?;
    Ok(payload.into())
}

/// Refuses what the server would not take.
pub(super) fn check_size(bytes: usize, limit: usize) -> Result<(), CommandError> {
    if bytes <= limit {
        return Ok(());
    }
    Err(CommandError::failed(format!(
        "the payload is larger than the server takes: {limit} bytes"
    ))
    .hint("put it into an object store (`nats object put`) and send its name"))
}

/// What comes on standard input, up to one byte more than `limit`.
async fn piped(limit: usize) -> Result<Vec<u8>, CommandError> {
    let read = move || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let most = limit as u64 + 1;
        io::stdin().lock().take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let failed = || CommandError::failed("failed to read standard input");
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result.map_err(|error| failed().because(&error)),
        Err(error) => Err(failed().because(&error)),
    }
}

fn explain(error: &async_nats::RequestError, subject: &str, timeout: Duration) -> CommandError {
    match error.kind() {
        RequestErrorKind::NoResponders => {
            CommandError::not_found(format!("nobody listens on `{subject}`"))
                .hint("`nex workload list` shows what runs, `nex logs` what it wrote")
        }
        RequestErrorKind::TimedOut => {
            CommandError::failed(format!("no reply on `{subject}` within {timeout:?}"))
                .hint("`--timeout DURATION` waits longer; `nex logs` may tell why")
        }
        RequestErrorKind::Other => fault::connection_lost(),
        _ => CommandError::failed(format!("failed to send the request to `{subject}`"))
            .because(error),
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    fn message(payload: &'static [u8], headers: Option<HeaderMap>) -> Message {
        Message {
            subject: "_INBOX.1".into(),
            reply: None,
            payload: Bytes::from_static(payload),
            headers,
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn a_request_goes_to_one_subject() {
        for good in ["echo", "$NEX.SVC.system.control.PING", "a.b*c"] {
            assert!(check_subject(good).is_ok(), "{good}");
        }
        for bad in ["", "a..b", "a.*", ">", "a b", "a\n"] {
            assert!(check_subject(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_body_of_an_error_is_not_told_twice() {
        for (body, header, told) in [
            (r#"{"error":"bad\nnews"}"#, "bad news", ""),
            (
                r#"{"error":"at `/`: no `uri`"}"#,
                "invalid",
                "at `/`: no `uri`",
            ),
            ("plain", "invalid", "plain"),
            ("", "invalid", ""),
        ] {
            assert_eq!(body_of_error(body.as_bytes(), header), told, "{body}");
        }
    }

    #[test]
    fn a_reply_becomes_json_whatever_its_bytes_are() {
        let mut headers = HeaderMap::new();
        headers.insert("workload_id", "w1");
        let text = as_json(&message(b"hi", Some(headers)));
        let bytes = as_json(&message(b"\xff\x00", None));

        assert_eq!(
            text,
            json!({"subject": "_INBOX.1", "headers": {"workload_id": "w1"}, "data": "hi"})
        );
        assert_eq!(bytes["data_base64"], "/wA=");
    }
}
