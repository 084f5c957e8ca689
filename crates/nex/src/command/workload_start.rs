//! `nex workload start`.

use nex_client::{Placed, StartError, StartSpec};
use nex_protocol::{Lifecycle, Tags, text::without_mark};
use serde_json::{Value, json};

use super::{
    fault,
    handover::{Handover, Unready},
    job::{Ends, Outcome},
    last_lines::LastLines,
    nexfile::Document,
    outage,
    placement::told,
    types,
};
use crate::{
    cli::{StartArgs, home::in_start_request, value},
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit, last_line},
};

/// The type that is meant where neither a flag nor a file says one.
const DEFAULT_TYPE: &str = "native";

/// Starts a workload. With `--wait`, waits until a job has ended or a service has stayed up.
pub(crate) async fn run(args: StartArgs, context: &Context) -> CommandResult {
    let document = document(&args, context)?;
    let args = match document {
        Some(_) => typed(args, &|key| context.settings.origin(key).is_some()),
        None => args,
    };
    let mut spec = spec(&args, document.as_ref())?;
    spec.run_request = in_start_request(spec.run_request, context.env.home());
    let client = connect::client(context, context.deploy_namespace()?).await?;
    let lifecycle = spec.lifecycle;
    let ends = match args.wait && lifecycle == Lifecycle::Job {
        true => Some(Ends::watch(&client).await?),
        false => None,
    };
    let handover = match args.wait {
        true => Some(Handover::fresh(&client, lifecycle).await),
        false => None,
    };
    let placed = client.place(spec, &args.placement.options()).await;
    let (placed, explanation) = told(placed, args.placement.explain, context, |error| {
        not_started(error, document.as_ref())
    })?;
    if let Some(handover) = handover {
        handover.ready(&client, &placed, Unready::Replace).await?;
    }
    started(&placed, explanation, context)?;
    let Some(ends) = ends else {
        return Ok(Exit::OK);
    };
    let ended = ends.wait_for(&placed.id);
    let outcome = outage::reported(&client, &context.printer, None, ended).await?;
    if outcome != Outcome::Code(0) && !context.printer.is_json() {
        for line in LastLines::kept().take(&client, &placed.id).await {
            context.printer.note(last_line(&line));
        }
    }
    outcome.tell(context)
}

/// The error of a start; what does not fit is told with its place in the file.
pub(super) fn not_started(error: StartError, document: Option<&Document>) -> CommandError {
    match (error, document) {
        (
            StartError::Unfit {
                workload_type,
                complaints,
            },
            Some(document),
        ) => document.unfit(&workload_type, &complaints),
        (error, _) => fault::start(error),
    }
}

/// Says that it runs, and how its place was chosen where that is given.
pub(super) fn started(
    placed: &Placed,
    explanation: Option<Value>,
    context: &Context,
) -> Result<(), CommandError> {
    if context.printer.is_json() {
        let mut said = json!({
            "id": placed.id,
            "name": placed.name,
            "node_id": placed.node,
        });
        if let Some(explanation) = explanation {
            said["explanation"] = explanation;
        }
        return context.printer.json(&said);
    }
    context.printer.line(format!(
        "Workload {} [{}] successfully started",
        placed.name, placed.id
    ))
}

/// The file that says what to start, unless the command line does.
fn document(args: &StartArgs, context: &Context) -> Result<Option<Document>, CommandError> {
    if args.start_request.is_some() {
        return Ok(None);
    }
    if let Some(path) = &args.nexfile {
        return Document::open(path).map(Some);
    }
    match Document::here(context)? {
        Some(document) => Ok(Some(document)),
        None => Err(CommandError::usage(
            "nothing to start: no `--start-request`, no `--nexfile`, and no file `Nexfile` in this folder",
        )
        .hint(r#"for example: nex workload start --lifecycle job --start-request '{"uri":"file:///bin/date"}'"#)
        .hint("`nex workload start -f FILE` starts what a file says; docs/nexfile.md has its form")),
    }
}

/// Without what a configuration file says: that is meant for many workloads, a Nexfile for one.
fn typed(args: StartArgs, from_file: &dyn Fn(&str) -> bool) -> StartArgs {
    StartArgs {
        workload_type: args.workload_type.filter(|_| !from_file("type")),
        name: args.name.filter(|_| !from_file("name")),
        lifecycle: args.lifecycle.filter(|_| !from_file("lifecycle")),
        description: args.description.filter(|_| !from_file("description")),
        tags: if from_file("tags") {
            Vec::new()
        } else {
            args.tags
        },
        ..args
    }
}

/// What to start. Flags win over the file.
fn spec(args: &StartArgs, document: Option<&Document>) -> Result<StartSpec, CommandError> {
    let mut spec = match document {
        Some(document) => document.spec()?,
        None => bare(args)?,
    };
    if let Some(workload_type) = &args.workload_type {
        spec.workload_type = types::checked(workload_type)?.to_owned();
    }
    if let Some(name) = args.name.as_ref().filter(|name| !name.is_empty()) {
        spec.name = types::checked_name(name)?.to_owned();
    }
    if let Some(description) = &args.description {
        spec.description.clone_from(description);
    }
    if !args.tags.is_empty() {
        spec.tags = value::tags(&args.tags);
    }
    spec.lifecycle = args.lifecycle.unwrap_or(spec.lifecycle);
    Ok(spec)
}

/// What to start where there is no file.
fn bare(args: &StartArgs) -> Result<StartSpec, CommandError> {
    let request = without_mark(args.start_request.as_deref().unwrap_or_default());
    if let Err(error) = serde_json::from_str::<serde_json::Value>(request) {
        return Err(CommandError::usage("`--start-request` is not JSON")
            .because(&error)
            .hint(r#"for example: --start-request '{"uri":"file:///bin/date"}'"#));
    }
    let workload_type = args.workload_type.as_deref().unwrap_or(DEFAULT_TYPE);
    Ok(StartSpec {
        workload_type: workload_type.to_owned(),
        lifecycle: types::lifecycle(workload_type),
        run_request: request.to_owned(),
        name: String::new(),
        description: String::new(),
        tags: Tags::new(),
        metadata: serde_json::Map::new(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, WorkloadCommand};

    fn args(line: &[&str]) -> StartArgs {
        let line = ["nex", "workload", "start"].iter().chain(line);
        let Command::Workload(workload) = Cli::try_parse_from(line).unwrap().command else {
            panic!("no workload command");
        };
        let WorkloadCommand::Start(args) = workload.command else {
            panic!("no start");
        };
        args
    }

    fn checked(line: &[&str]) -> Result<StartSpec, String> {
        spec(&args(line), None).map_err(|error| error.text())
    }

    #[test]
    fn the_lifecycle_follows_the_type() {
        let lifecycle = |line: &[&str]| checked(line).unwrap().lifecycle;
        let request = ["--start-request", "{}"];
        assert_eq!(lifecycle(&request), Lifecycle::Service);
        let js = ["--start-request", "{}", "--type", "v8"];
        assert_eq!(lifecycle(&js), Lifecycle::Function);
    }

    #[test]
    fn a_start_request_out_of_a_file_of_windows_is_read() {
        let spec = checked(&["--start-request", "\u{feff}{}\r\n"]).unwrap();
        assert_eq!(spec.run_request, "{}\r\n");
    }

    #[test]
    fn flags_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yaml");
        let text = "{name: web, type: native, lifecycle: service, description: d, tags: {a: b}, start_request: {uri: x}}";
        std::fs::write(&path, text).unwrap();
        let document = Document::open(&path).unwrap();
        let spec = |line: &[&str]| spec(&args(line), Some(&document)).unwrap();

        let plain = spec(&[]);
        let flags = [
            "--name=other",
            "--type=js",
            "--lifecycle=function",
            "--description=",
            "--tags=c=d",
        ];
        let flagged = spec(&flags);

        assert_eq!(
            (plain.name.as_str(), plain.workload_type.as_str()),
            ("web", "native")
        );
        assert_eq!((plain.lifecycle, plain.tags.len()), (Lifecycle::Service, 1));
        assert_eq!(plain.run_request, r#"{"uri":"x"}"#);
        assert_eq!(
            (flagged.name.as_str(), flagged.workload_type.as_str()),
            ("other", "js")
        );
        assert_eq!(
            (flagged.lifecycle, flagged.description.as_str()),
            (Lifecycle::Function, "")
        );
        assert_eq!(flagged.tags, Tags::from([("c".into(), "d".into())]));
        assert_eq!(flagged.run_request, plain.run_request);
    }

    #[test]
    fn what_a_configuration_file_says_does_not_win_over_the_file() {
        let line = ["--name=egg", "--tags=a=b", "--type=js"];

        let typed = typed(args(&line), &|key| key == "name" || key == "tags");

        assert_eq!((typed.name, typed.tags.len()), (None, 0));
        assert_eq!(typed.workload_type.as_deref(), Some("js"));
    }

    #[test]
    fn what_cannot_be_started_is_refused_before_anybody_is_asked() {
        for (line, wanted) in [
            (
                ["--start-request", "{"].as_slice(),
                "error: `--start-request` is not JSON\n  caused by: EOF while parsing an object at line 1 column 1",
            ),
            (&["--start-request", "{}", "--type", ""], "invalid type"),
            (&["--start-request", "{}", "--name", "a b"], "invalid name"),
        ] {
            let text = checked(line).unwrap_err();
            assert!(text.contains(wanted), "{text}");
        }
    }
}
