//! What a nexlet answered, taken apart.

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::RawMessage;

/// Reads headers by their names, letter by letter, as Go does.
pub(super) fn header(message: &RawMessage, name: &str) -> Option<String> {
    let block = String::from_utf8_lossy(&message.headers);
    let mut lines = block.lines().skip(1);
    lines.find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then(|| value.trim().to_owned())
    })
}

/// The code and the text of an error.
pub(super) fn error(message: &RawMessage) -> Option<(String, String)> {
    let code = header(message, "Nats-Service-Error-Code")?;
    let text = header(message, "Nats-Service-Error").unwrap_or_default();
    Some((code, text))
}

/// Insists on an error with a code that is a number, and a text.
pub(super) fn expect_error(message: &RawMessage) -> anyhow::Result<(String, String)> {
    let Some((code, text)) = error(message) else {
        bail!("no error header, but: {}", shown(message));
    };
    ensure!(code.parse::<u16>().is_ok(), "the error code is `{code}`");
    ensure!(!text.is_empty(), "an error without a text");
    Ok((code, text))
}

/// Insists on a success, and reads its body.
pub(super) fn expect_success(message: &RawMessage) -> anyhow::Result<Value> {
    if let Some((code, text)) = error(message) {
        bail!("refused with {code}: {text}");
    }
    body(message)
}

pub(super) fn body(message: &RawMessage) -> anyhow::Result<Value> {
    serde_json::from_slice(&message.payload)
        .with_context(|| format!("not JSON: {}", shown(message)))
}

fn shown(message: &RawMessage) -> String {
    String::from_utf8_lossy(&message.payload).into_owned()
}

/// A field that must be there, with a text.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    let found = value.get(field).and_then(Value::as_str);
    found.with_context(|| format!("no text in `{field}` of {value}"))
}

/// A field that must be there, with a text of at least one letter.
pub(super) fn word<'a>(value: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    let found = text(value, field)?;
    ensure!(!found.is_empty(), "`{field}` is empty in {value}");
    Ok(found)
}

/// A list, for which `null` stands too.
pub(super) fn list(value: Value) -> anyhow::Result<Vec<Value>> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => Ok(list),
        other => bail!("not an array: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &str) -> RawMessage {
        RawMessage {
            subject: "reply".into(),
            reply: None,
            headers: headers.as_bytes().to_vec(),
            payload: b"{}".to_vec(),
        }
    }

    #[test]
    fn an_error_needs_a_number_and_a_text_under_the_exact_names() {
        let good = "NATS/1.0\r\nNats-Service-Error: no\r\nNats-Service-Error-Code: 100\r\n\r\n";
        let found = expect_error(&message(good)).unwrap();
        assert_eq!(found, ("100".to_owned(), "no".to_owned()));
        expect_success(&message(good)).unwrap_err();

        expect_success(&message("")).unwrap();
        for wrong in [
            "",
            "NATS/1.0\r\nnats-service-error-code: 100\r\nNats-Service-Error: no\r\n\r\n",
            "NATS/1.0\r\nNats-Service-Error-Code: 100\r\n\r\n",
            "NATS/1.0\r\nNats-Service-Error-Code: bad\r\nNats-Service-Error: no\r\n\r\n",
        ] {
            expect_error(&message(wrong)).unwrap_err();
        }
    }

    #[test]
    fn null_is_an_empty_list_and_an_object_is_none() {
        assert!(list(Value::Null).unwrap().is_empty());
        list(serde_json::json!({})).unwrap_err();
    }
}
