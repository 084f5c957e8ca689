//! `nex invoke`: calls a function by its name, and prints what each call came to.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use nex_client::{Called, ClientError, FindError, InvokeError};
use nex_protocol::{LogStream, function::WORKLOAD_HEADER};
use serde_json::{Value, json};

use super::{fault, req};
use crate::{
    cli::InvokeArgs,
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit, Kind},
    print::{Colour, line::safe, table::printable},
};

/// Calls it, and prints replies on standard output, everything about them on standard error.
pub(crate) async fn run(args: InvokeArgs, context: &Context) -> CommandResult {
    if let Some(subject) = &args.subject {
        req::check_subject(subject)?;
    }
    let client = connect::client(context, context.look_namespace()?).await?;
    let limit = client.nats().server_info().max_payload;
    let payload = match &args.file {
        Some(file) => read(file, limit)?,
        None => req::payload(args.payload.as_deref(), context, limit).await?,
    };
    let timeout = context.global.nats.timeout.map_or(req::TIMEOUT, |it| it.0);
    let callee = client.callee(&args.function, args.subject.as_deref()).await;
    let mut callee = callee.map_err(not_callable)?;
    let (mut times, mut failures) = (Vec::new(), 0_u32);
    let mut last_error = None;
    for _ in 0..args.repeat.get() {
        let called = callee.call(payload.clone(), timeout).await;
        let called = called.map_err(|error| unanswered(error, callee.subject()))?;
        times.push(called.took);
        if let Err(error) = print(&called, context)? {
            failures += 1;
            last_error = Some(error);
        }
    }
    if args.repeat.get() > 1 {
        context.printer.note(summary(&mut times, failures));
    }
    last_error.map_or(Ok(Exit::OK), Err)
}

/// Prints one call. The error within is the function's.
fn print(called: &Called, context: &Context) -> Result<Result<(), CommandError>, CommandError> {
    let refused = match called.check() {
        Ok(()) => None,
        Err(ClientError::Refused(refused)) => Some(refused),
        Err(other) => return Err(fault::client(other)),
    };
    let printer = &context.printer;
    if printer.is_json() {
        let mut shown = req::as_json(&called.reply);
        shown["duration_ms"] = ms(called.took).into();
        shown["logs"] = called.lines.iter().map(as_json).collect();
        shown["logs_complete"] = called.complete.into();
        if let Some(refused) = &refused {
            shown["error"] = json!({ "code": refused.code.number(), "error": refused.text });
        }
        printer.json(&shown)?;
    } else {
        for (stream, line) in &called.lines {
            let stream = match stream {
                LogStream::Stdout => "stdout".to_owned(),
                LogStream::Stderr => printer.coloured(Colour::Yellow, "stderr"),
            };
            printer.note(format!("{stream} | {}", safe(line)));
        }
        if !called.complete {
            printer.note("there may be more lines: `nex logs` has all");
        }
        let headers = called.reply.headers.as_ref();
        let replica = headers.and_then(|headers| headers.get(WORKLOAD_HEADER));
        let replica =
            replica.map_or_else(String::new, |id| format!(" by {}", printable(id.as_str())));
        printer.note(format!("answered{replica} in {} ms", ms(called.took)));
        if refused.is_none() {
            printer.bytes(&called.reply.payload)?;
            if !called.reply.payload.ends_with(b"\n") {
                printer.bytes(b"\n")?;
            }
        }
    }
    Ok(match refused {
        None => Ok(()),
        Some(refused) => {
            let (text, code) = (printable(&refused.text), refused.code);
            let error = CommandError::failed(format!("the function failed: {text} ({code})"));
            Err(error.cause(req::body_of_error(&called.reply.payload, &refused.text)))
        }
    })
}

fn as_json((stream, line): &(LogStream, String)) -> Value {
    json!({ "stream": stream.as_str(), "line": line })
}

/// In milliseconds, to a thousandth.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// How long several calls took, and how many failed.
fn summary(times: &mut [Duration], failures: u32) -> String {
    times.sort_unstable();
    let at = |share: f64| ms(times[((times.len() - 1) as f64 * share).round() as usize]);
    format!(
        "{} calls, {failures} failed: {} ms at the least, {} median, {} 99th percentile, {} at the most",
        times.len(),
        at(0.0),
        at(0.5),
        at(0.99),
        at(1.0),
    )
}

fn read(file: &Path, limit: usize) -> Result<Bytes, CommandError> {
    let failed = || CommandError::failed(format!("failed to read `{}`", file.display()));
    let size = std::fs::metadata(file)
        .map_err(|error| failed().because(&error))?
        .len();
    req::check_size(usize::try_from(size).unwrap_or(usize::MAX), limit)?;
    let bytes = std::fs::read(file).map_err(|error| failed().because(&error))?;
    req::check_size(bytes.len(), limit)?;
    Ok(bytes.into())
}

fn not_callable(error: InvokeError) -> CommandError {
    match error {
        InvokeError::NotFound { ref missing, .. } if !missing.is_empty() => {
            fault::not_all_answered(&error.to_string(), missing)
        }
        InvokeError::NotFound { .. } => CommandError::from_error(Kind::NotFound, &error)
            .hint("`nex workload list` shows what runs"),
        InvokeError::Ambiguous { text, candidates } => {
            fault::find(FindError::Ambiguous { text, candidates })
        }
        InvokeError::NoSubject(_) => CommandError::from_error(Kind::Failed, &error).hint(
            "only functions with a subject can be called; `nex workload info` shows what it has",
        ),
        InvokeError::Subjects { .. } => {
            CommandError::from_error(Kind::Usage, &error).hint("say which: `--subject SUBJECT`")
        }
        InvokeError::Client(error) => fault::client(error),
    }
}

fn unanswered(error: ClientError, subject: &str) -> CommandError {
    match error {
        ClientError::NoNodes => CommandError::not_found(format!("nobody listens on `{subject}`"))
            .hint("`nex workload list` shows what runs"),
        ClientError::TimedOut { after } => {
            CommandError::failed(format!("no answer on `{subject}` within {after:?}"))
                .hint("`--timeout DURATION` waits longer; `nex logs` may tell why")
        }
        other => fault::client(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_calls_are_summed_up() {
        let mut times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(
            summary(&mut times, 2),
            "100 calls, 2 failed: 1 ms at the least, 51 median, 99 99th percentile, 100 at the most"
        );
    }
}
