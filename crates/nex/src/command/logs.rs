//! `nex logs`, and how a line of a workload is printed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nex_client::{
    Client, ClientError, EventEntry, EventQuery, FeedSource, FindError, LogLine, LogQuery,
};
use nex_protocol::{LogStream, NodeId, WorkloadId, event::WorkloadEvent};
use serde_json::json;

use super::{fault, outage, workload_stop::owner};
use crate::{
    cli::LogsArgs,
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit},
    print::{
        Colour, Printer,
        line::{safe, short},
        table::printable,
    },
};

/// How many names are kept of the workloads of a node, and for how long: it lives long, and so may
/// what was once not answered.
const MAX_NAMES: usize = 10_000;
const ASK_AGAIN: Duration = Duration::from_secs(300);

/// Prints what workloads wrote.
pub(crate) async fn run(args: LogsArgs, context: &Context) -> CommandResult {
    let client = connect::client(context, context.look_namespace()?).await?;
    let mut query = LogQuery {
        since: since(args.feed.since.map(|since| since.0))?,
        follow: args.feed.follow,
        ..LogQuery::default()
    };
    let mut names = Names::default();
    match &args.workload {
        Some(workload) => names.only(&client, workload, &mut query).await?,
        None => names.all(&client).await,
    }
    let mut lines = client.logs(&query).await.map_err(fault::feed)?;
    check_source(
        lines.source(),
        args.feed.follow,
        query.since.is_some(),
        context,
    )?;
    let missed = missed(lines.source());
    let printing = async {
        while let Some(line) = lines.next().await.map_err(fault::feed)? {
            let name = names.name(&client, &line.id).await;
            print(&line, &name, &context.printer)?;
        }
        Ok(Exit::OK)
    };
    outage::reported(&client, &context.printer, missed, printing).await
}

/// Returns a description of the lines that may be missing after a loss of the connection.
pub(super) fn missed(source: FeedSource) -> Option<&'static str> {
    match source {
        FeedSource::Stored => None,
        FeedSource::Live => {
            Some("what was written meanwhile is missing, for this NATS keeps no logs and no events")
        }
    }
}

/// Prints what the workloads of a node write from now on, for as long as the connection lives.
///
/// # Errors
/// When reading fails, or nobody takes the lines any more.
pub(crate) async fn follow_node(
    client: &Client,
    node: &NodeId,
    printer: &Printer,
) -> Result<(), CommandError> {
    let query = LogQuery {
        since: Some(Timestamp::now()),
        follow: true,
        ..LogQuery::default()
    };
    let (mut names, mut asked) = (Names::default(), Instant::now());
    let mut lines = client.logs(&query).await.map_err(fault::feed)?;
    while let Some(line) = lines.next().await.map_err(fault::feed)? {
        // An id begins with what its node makes of its own.
        if line.id.minted_by(node) {
            if names.known.len() >= MAX_NAMES || asked.elapsed() >= ASK_AGAIN {
                (names, asked) = (Names::default(), Instant::now());
            }
            let name = names.name(client, &line.id).await;
            print(&line, &name, printer)?;
        }
    }
    Ok(())
}

/// When a duration ago was.
pub(super) fn since(ago: Option<Duration>) -> Result<Option<Timestamp>, CommandError> {
    ago.map(|ago| {
        Timestamp::now()
            .checked_sub(ago)
            .map_err(|error| CommandError::usage("`--since` is too long ago").because(&error))
    })
    .transpose()
}

/// Says what cannot be seen where nothing is kept.
pub(super) fn check_source(
    source: FeedSource,
    follow: bool,
    since: bool,
    context: &Context,
) -> Result<(), CommandError> {
    match source {
        FeedSource::Stored => Ok(()),
        FeedSource::Live if !follow => Err(CommandError::failed(
            "this NATS keeps no logs and no events",
        )
        .hint("`--follow` prints what comes from now on; `nex up` keeps what was before")),
        FeedSource::Live => {
            if since {
                context
                    .printer
                    .note("nothing is kept on this NATS: this is only what comes from now on");
            }
            Ok(())
        }
    }
}

/// Prints one line.
pub(super) fn print(line: &LogLine, name: &str, printer: &Printer) -> Result<(), CommandError> {
    if printer.is_json() {
        return printer.json(&json!({
            "time": line.time,
            "namespace": line.namespace,
            "id": line.id,
            "name": name,
            "stream": line.stream.as_str(),
            "line": line.line,
        }));
    }
    let time = printer.coloured(Colour::Dim, &format!("{:.3}", line.time));
    let name = printer.coloured(Colour::Cyan, &printable(name));
    let stream = match line.stream {
        LogStream::Stdout => "stdout".to_owned(),
        LogStream::Stderr => printer.coloured(Colour::Yellow, "stderr"),
    };
    let text = if printer.is_terminal() {
        safe(&line.line)
    } else {
        line.line.clone()
    };
    printer.line(format!("{time} {name} {stream} | {text}"))
}

/// The names of workloads, as far as nodes tell them; else the beginning of the id.
#[derive(Debug, Default)]
struct Names {
    known: BTreeMap<WorkloadId, String>,
    /// Set when a node did not answer: to ask again for each id would take seconds each time.
    given_up: bool,
}

impl Names {
    /// Makes the query one for the workload that a person means.
    async fn only(
        &mut self,
        client: &Client,
        text: &str,
        query: &mut LogQuery,
    ) -> Result<(), CommandError> {
        match client.find(text).await {
            Ok(found) => {
                query.namespace = Some(owner(&found, client.namespace().clone()));
                query.id = Some(found.id.clone());
                self.known.insert(found.id, found.name);
                Ok(())
            }
            Err(
                error @ (FindError::NotFound { .. }
                | FindError::Client(
                    ClientError::NoNodes
                    | ClientError::NoAnswer { .. }
                    | ClientError::Denied { .. },
                )),
            ) => {
                // Nobody knows a workload for long after its end, but its lines are kept.
                let (id, name) = match WorkloadId::new(text) {
                    Ok(id) if looks_like_id(text) => (id, short(text).to_owned()),
                    _ => match gone(client, text).await? {
                        Some(id) => (id, text.to_owned()),
                        None => return Err(fault::find(error)),
                    },
                };
                self.known.insert(id.clone(), name);
                query.id = Some(id);
                Ok(())
            }
            Err(error) => Err(fault::find(error)),
        }
    }

    async fn all(&mut self, client: &Client) {
        self.ask(client, &[]).await;
    }

    async fn ask(&mut self, client: &Client, filter: &[String]) {
        match client.list(filter).await {
            Ok(answer) => {
                self.given_up = !answer.missing.is_empty();
                let workloads = answer.workloads.into_iter();
                self.known
                    .extend(workloads.map(|(_, each)| (each.id, each.name)));
            }
            Err(_) => self.given_up = true,
        }
    }

    async fn name(&mut self, client: &Client, id: &WorkloadId) -> String {
        if !self.known.contains_key(id) && !self.given_up {
            self.ask(client, &[id.to_string()]).await;
        }
        let name = self.known.entry(id.clone());
        name.or_insert_with(|| short(id.as_str()).to_owned())
            .clone()
    }
}

/// The latest workload of that name whose start is among the events that are kept.
async fn gone(client: &Client, name: &str) -> Result<Option<WorkloadId>, CommandError> {
    let mut events = client
        .events(&EventQuery::default())
        .await
        .map_err(fault::feed)?;
    if events.source() == FeedSource::Live {
        return Ok(None);
    }
    let mut latest = None;
    while let Some(entry) = events.next().await.map_err(fault::feed)? {
        latest = started_as(name, entry).or(latest);
    }
    Ok(latest)
}

/// The workload that an event says was started under that name.
fn started_as(name: &str, entry: EventEntry) -> Option<WorkloadId> {
    if entry.name != "WORKLOADSTARTED" {
        return None;
    }
    let event: WorkloadEvent = serde_json::from_value(entry.body).ok()?;
    (event.metadata.get("name")? == name).then_some(event.id)
}

/// Whether a text has the form of a whole id: 22 letters and digits.
fn looks_like_id(text: &str) -> bool {
    text.len() == 22 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_id_is_taken_for_one_that_has_ended() {
        assert!(looks_like_id("4WhCsjz0123456789abcde"));
        assert!(!looks_like_id("web"));
        assert!(!looks_like_id("4WhCsjz0123456789abcd-"));
    }

    #[test]
    fn a_start_tells_whose_name_it_was() {
        let entry = |name: &str, body| EventEntry {
            time: Timestamp::UNIX_EPOCH,
            from: "default".to_owned(),
            name: name.to_owned(),
            body,
        };
        let web = json!({
            "id": "w1", "namespace": "default", "workload_type": "js", "metadata": {"name": "web"},
        });

        let started = entry("WORKLOADSTARTED", web.clone());
        assert_eq!(started_as("web", started.clone()).unwrap().as_str(), "w1");
        assert_eq!(started_as("db", started), None);
        assert_eq!(started_as("web", entry("WORKLOADSTOPPED", web)), None);
        assert_eq!(
            started_as("web", entry("WORKLOADSTARTED", "?".into())),
            None
        );
    }

    #[test]
    fn since_counts_back_from_now() {
        let then = since(Some(Duration::from_secs(60))).unwrap().unwrap();
        let ago = Timestamp::now().duration_since(then).as_secs();
        assert!((60..65).contains(&ago), "{ago}");
        assert_eq!(since(None).unwrap(), None);
        assert!(since(Some(Duration::from_secs(u64::MAX / 2))).is_err());
    }
}
