//! The start request: the JSON document inside `run_request`.

use std::{collections::BTreeMap, time::Duration};

use nex_artifact::{ArtifactUri, InvalidUri, URI_EXAMPLES, URI_PATTERN};
use nex_protocol::{DURATION_PATTERN, GoDuration};
use serde::Deserialize;

/// How long a program may take to end when it is told to, where its request does not say.
const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(5);
/// What names begin with that the nexlet sets itself.
const RESERVED: &str = "NEX_WORKLOAD_";
/// How Go requests name a value that the node is to look up.
const SECRET: &str = "secret://";

/// A start request that was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartRequest {
    pub(crate) uri: ArtifactUri,
    /// Arguments without the program's own name.
    pub(crate) argv: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) stop_grace: Duration,
}

/// What is wrong with a start request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidRequest {
    #[error("failed to read the start request")]
    Json(#[source] serde_json::Error),
    #[error(transparent)]
    Uri(InvalidUri),
    #[error("invalid argument {number}: it has a NUL character")]
    Argument { number: usize },
    #[error(
        "invalid environment variable `{0}`: want a name without `=` and NUL, and a value without NUL"
    )]
    Variable(String),
    #[error(
        "environment variable `{0}` is set by Nex: names beginning with `{RESERVED}` are reserved"
    )]
    Reserved(String),
    #[error("`{0}` asks for a secret: this node has no secret store")]
    Secret(String),
}

/// The document. What it has beside these fields is not for us, as in Go.
#[derive(Deserialize)]
struct Document {
    uri: String,
    argv: Option<Vec<String>>,
    environment: Option<BTreeMap<String, String>>,
    stop_grace: Option<GoDuration>,
}

impl StartRequest {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidRequest> {
        let document: Document = serde_json::from_str(text).map_err(InvalidRequest::Json)?;
        let argv = document.argv.unwrap_or_default();
        for (index, argument) in argv.iter().enumerate() {
            check_argument(index + 1, argument)?;
        }
        let environment = document.environment.unwrap_or_default();
        for (name, value) in &environment {
            check_variable(name, value)?;
        }
        Ok(Self {
            uri: document.uri.parse().map_err(InvalidRequest::Uri)?,
            argv,
            environment,
            stop_grace: document
                .stop_grace
                .map_or(DEFAULT_STOP_GRACE, |grace| grace.0),
        })
    }
}

fn check_argument(number: usize, argument: &str) -> Result<(), InvalidRequest> {
    if argument.contains('\0') {
        return Err(InvalidRequest::Argument { number });
    }
    if argument.starts_with(SECRET) {
        return Err(InvalidRequest::Secret(argument.to_owned()));
    }
    Ok(())
}

fn check_variable(name: &str, value: &str) -> Result<(), InvalidRequest> {
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        return Err(InvalidRequest::Variable(name.to_owned()));
    }
    if name.starts_with(RESERVED) {
        return Err(InvalidRequest::Reserved(name.to_owned()));
    }
    if value.starts_with(SECRET) {
        return Err(InvalidRequest::Secret(value.to_owned()));
    }
    Ok(())
}

/// The JSON Schema by which clients and nodes check a start request before it comes here. Go programs encode
/// slices and maps that they never made as `null`.
pub(crate) fn schema() -> serde_json::Value {
    let text = serde_json::json!({
        "type": "string",
        "pattern": "^[^\\x00]*$",
        "examples": ["a text without NUL"],
        "not": { "pattern": format!("^{SECRET}"), "description": "this node has no secret store" },
    });
    serde_json::json!({
        "title": "StartRequest",
        "type": "object",
        "required": ["uri"],
        "properties": {
            "uri": {
                "type": "string",
                "pattern": URI_PATTERN,
                "examples": URI_EXAMPLES,
                "description": "The program: file:///absolute/path or nats://BUCKET/NAME[:TAG]",
            },
            "argv": {
                "type": ["array", "null"],
                "items": text,
                "description": "Arguments, without the program's own name",
            },
            "environment": {
                "type": ["object", "null"],
                "propertyNames": {
                    "pattern": "^[^=\\x00]+$",
                    "examples": ["LOG_LEVEL"],
                    "not": {
                        "pattern": format!("^{RESERVED}"),
                        "description": "Nex sets the variables whose names begin so",
                    },
                },
                "additionalProperties": text,
                "description": "Environment variables",
            },
            "description": { "type": ["string", "null"] },
            "expose_ports": {
                "type": ["array", "null"],
                "items": { "type": "integer" },
                "description": "Taken for the sake of other peers, and not used",
            },
            "stop_grace": {
                "type": ["string", "null"],
                "pattern": DURATION_PATTERN,
                "examples": ["5s"],
                "x-nex-duration": {},
                "description": "How long the program may take to end when it is stopped, such as 5s",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_request_is_read() {
        let text = r#"{"uri":"nats://apps/web:v2","argv":["-p","80"],"environment":{"LEVEL":"info"},"expose_ports":[80],"later":1}"#;
        let request = StartRequest::parse(text).unwrap();
        assert_eq!(request.argv, ["-p", "80"]);
        assert_eq!(request.environment["LEVEL"], "info");
        assert_eq!(request.stop_grace, DEFAULT_STOP_GRACE);

        let bare = r#"{"uri":"file:///bin/true","argv":null,"environment":null,"stop_grace":"1m"}"#;
        let bare = StartRequest::parse(bare).unwrap();
        assert!(bare.argv.is_empty() && bare.environment.is_empty());
        assert_eq!(bare.stop_grace, Duration::from_secs(60));

        let day = StartRequest::parse(r#"{"uri":"file:///a","stop_grace":"1d"}"#).unwrap();
        assert_eq!(day.stop_grace, Duration::from_secs(24 * 3600));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("{", "failed to read"),
            (r#"{"argv":[]}"#, "uri"),
            (r#"{"uri":"web"}"#, "invalid artifact URI `web`"),
            (
                r#"{"uri":"file:///a","argv":["a","b\u0000"]}"#,
                "argument 2",
            ),
            (r#"{"uri":"file:///a","environment":{"A=B":"c"}}"#, "`A=B`"),
            (r#"{"uri":"file:///a","environment":{"A":"\u0000"}}"#, "`A`"),
            (
                r#"{"uri":"file:///a","environment":{"NEX_WORKLOAD_ID":"x"}}"#,
                "reserved",
            ),
            (
                r#"{"uri":"file:///a","environment":{"A":"secret://x"}}"#,
                "secret store",
            ),
            (
                r#"{"uri":"file:///a","stop_grace":"5"}"#,
                "invalid duration `5`",
            ),
        ];
        for (text, wanted) in cases {
            let error = StartRequest::parse(text).unwrap_err();
            let line = nexlet::Chain(&error).to_string();
            assert!(line.contains(wanted), "{text}: {line}");
        }
    }
}
