//! `nex workload validate`.

use nex_client::{StartError, StartSpec};
use nex_protocol::nexfile::NEXFILE_SCHEMA;
use serde_json::{Value, json};

use super::{nexfile::Document, workload_start::not_started};
use crate::{
    cli::{ValidateArgs, home::in_start_request},
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit, Kind},
};

/// How much of a file was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checked {
    /// Its form alone.
    Form,
    /// The start request too, with the schema of a nexlet that would run it.
    StartRequest,
}

impl Checked {
    /// The word in JSON. Stable.
    fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::StartRequest => "start_request",
        }
    }
}

/// Says whether a file could be started.
pub(crate) async fn run(args: ValidateArgs, context: &Context) -> CommandResult {
    if args.schema {
        context.printer.bytes(NEXFILE_SCHEMA.as_bytes())?;
        return Ok(Exit::OK);
    }
    let name = args.nexfile.display().to_string();
    let tell = |valid, checked, error: Option<&CommandError>| {
        if context.printer.is_json() {
            context.printer.json(&verdict(&name, valid, checked, error))
        } else {
            Ok(())
        }
    };
    let opened = Document::open(&args.nexfile);
    let (document, mut spec) = match opened.and_then(|document| Ok((document.spec()?, document))) {
        Ok((spec, document)) => (document, spec),
        Err(error) => {
            tell(Some(false), Checked::Form, Some(&error))?;
            return Err(error);
        }
    };
    spec.run_request = in_start_request(spec.run_request, context.env.home());
    let checked = match args.offline {
        true => Checked::Form,
        false => match ask(&document, &spec, context).await {
            Asked::Fits => Checked::StartRequest,
            Asked::Unfit(error) => {
                tell(Some(false), Checked::StartRequest, Some(&error))?;
                return Err(error);
            }
            Asked::Nobody(error) => {
                tell(None, Checked::Form, None)?;
                return Err(form_only(&document, error));
            }
        },
    };
    if context.printer.is_json() {
        tell(Some(true), checked, None)?;
    } else {
        context.printer.line(match checked {
            Checked::Form => {
                format!("`{name}` has the right form; its start request was not checked")
            }
            Checked::StartRequest => format!("`{name}` is valid"),
        })?;
    }
    Ok(Exit::OK)
}

/// What the nodes say.
enum Asked {
    /// A nexlet would take it.
    Fits,
    /// No nexlet takes such a start request.
    Unfit(CommandError),
    /// Nobody could say, for this reason.
    Nobody(CommandError),
}

async fn ask(document: &Document, spec: &StartSpec, context: &Context) -> Asked {
    let client = match context.deploy_namespace() {
        Ok(namespace) => connect::client(context, namespace).await,
        Err(error) => Err(error),
    };
    let client = match client {
        Ok(client) => client,
        Err(error) => return Asked::Nobody(error),
    };
    match client.check_start(spec).await {
        Ok(_workload_type) => Asked::Fits,
        Err(error @ StartError::Unfit { .. }) => Asked::Unfit(not_started(error, Some(document))),
        Err(error) => Asked::Nobody(not_started(error, Some(document))),
    }
}

/// What is known where no nexlet's schema could be had.
fn form_only(document: &Document, why: CommandError) -> CommandError {
    let name = document.name();
    let message = format!("only the form of `{name}` was checked; its start request was not");
    CommandError::new(Kind::Incomplete, message)
        .because_told(why)
        .hint("`--offline` checks the form alone")
}

/// The result for a program. What is not known is null.
fn verdict(
    name: &str,
    valid: Option<bool>,
    checked: Checked,
    error: Option<&CommandError>,
) -> Value {
    let problems = error.and_then(|error| error.json().get("problems").cloned());
    json!({
        "file": name,
        "valid": valid,
        "checked": checked.name(),
        "problems": problems.unwrap_or_else(|| json!([])),
    })
}
