//! `nex events`.

use nex_client::{EventEntry, EventQuery};
use serde_json::{Value, json};

use super::{
    fault,
    logs::{check_source, missed, since},
    outage,
};
use crate::{
    cli::FeedArgs,
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit},
    print::{Colour, Printer, line::short, table::printable},
};

/// Prints what happened to nodes, nexlets and workloads.
pub(crate) async fn run(args: FeedArgs, context: &Context) -> CommandResult {
    let client = connect::client(context, context.look_namespace()?).await?;
    let query = EventQuery {
        since: since(args.since.map(|since| since.0))?,
        follow: args.follow,
        ..EventQuery::default()
    };
    let mut events = client.events(&query).await.map_err(fault::feed)?;
    check_source(events.source(), args.follow, query.since.is_some(), context)?;
    let missed = missed(events.source());
    let printing = async {
        while let Some(event) = events.next().await.map_err(fault::feed)? {
            print(&event, &context.printer)?;
        }
        Ok(Exit::OK)
    };
    outage::reported(&client, &context.printer, missed, printing).await
}

fn print(event: &EventEntry, printer: &Printer) -> Result<(), CommandError> {
    if printer.is_json() {
        return printer.json(&json!({
            "time": event.time,
            "from": event.from,
            "event": event.name,
            "body": event.body,
        }));
    }
    let time = printer.coloured(Colour::Dim, &format!("{:.3}", event.time));
    let colour = if failed(&event.body) {
        Colour::Red
    } else if event.name.ends_with("STARTED") {
        Colour::Green
    } else {
        Colour::Yellow
    };
    let name = printer.coloured(colour, &printable(&event.name));
    let from = printable(short(&event.from));
    printer.line(format!("{time} {from} {name} | {}", details(&event.body)))
}

fn failed(body: &Value) -> bool {
    body.get("error").is_some_and(|error| !error.is_null())
}

/// The body on one line: `key=value` of everything in it, what is nested in the form `a.b=value`.
fn details(body: &Value) -> String {
    let mut parts = Vec::new();
    flatten("", body, &mut parts);
    parts.join(" ")
}

fn flatten(path: &str, value: &Value, parts: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(&path, value, parts);
            }
        }
        Value::String(text) if text.is_empty() => {}
        Value::String(text) if path.is_empty() => parts.push(printable(text)),
        Value::String(text) => parts.push(printable(&format!("{path}={text}"))),
        Value::Null => {}
        other => parts.push(printable(&format!("{path}={other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let body = json!({
            "id": "w1", "error": {"code": "3", "message": ""},
            "metadata": {"name": "web\n"}, "restarts": 2, "none": null,
        });
        let line = details(&body);
        let mut parts: Vec<&str> = line.split(' ').collect();
        parts.sort_unstable();
        assert_eq!(
            parts,
            [
                "error.code=3",
                "id=w1",
                "metadata.name=web\u{fffd}",
                "restarts=2"
            ]
        );
        assert!(failed(&body));
        assert_eq!(details(&json!("plain")), "plain");
    }
}
