//! `nex workload start`.

use nex_client::{Placed, StartSpec};
use nex_protocol::Lifecycle;
use serde_json::json;

use super::{fault, job, types};
use crate::{
    cli::{StartArgs, value},
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit},
};

/// Starts a workload; a job may be waited for.
pub(crate) async fn run(args: StartArgs, context: &Context) -> CommandResult {
    let spec = spec(&args)?;
    let client = connect::client(context, context.deploy_namespace()?).await?;
    let ends = if args.wait {
        Some(job::Ends::watch(&client).await?)
    } else {
        None
    };
    let placed = client.start(spec).await.map_err(fault::start)?;
    started(&placed, context)?;
    match ends {
        Some(ends) => ends.wait_for(&placed.id).await?.tell(context),
        None => Ok(Exit::OK),
    }
}

/// Says that it runs.
pub(super) fn started(placed: &Placed, context: &Context) -> Result<(), CommandError> {
    if context.printer.is_json() {
        return context.printer.json(&json!({
            "id": placed.id,
            "name": placed.name,
            "node_id": placed.node,
        }));
    }
    context.printer.line(format!(
        "Workload {} [{}] successfully started",
        placed.name, placed.id
    ))
}

fn spec(args: &StartArgs) -> Result<StartSpec, CommandError> {
    let workload_type = types::checked(&args.workload_type)?;
    let lifecycle = args.lifecycle.unwrap_or(types::lifecycle(workload_type));
    if args.wait && lifecycle != Lifecycle::Job {
        return Err(
            CommandError::usage(format!("a {lifecycle} has no end to wait for"))
                .hint("`--wait` is for jobs: add `--lifecycle job`"),
        );
    }
    if !args.name.is_empty() {
        types::checked_name(&args.name)?;
    }
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&args.start_request) {
        return Err(CommandError::usage("`--start-request` is not JSON")
            .because(&error)
            .hint(r#"for example: --start-request '{"uri":"file:///bin/date"}'"#));
    }
    Ok(StartSpec {
        workload_type: workload_type.to_owned(),
        lifecycle,
        name: args.name.clone(),
        description: args.description.clone(),
        tags: value::tags(&args.tags),
        run_request: args.start_request.clone(),
        metadata: serde_json::Map::new(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, WorkloadCommand};

    fn checked(line: &[&str]) -> Result<StartSpec, String> {
        let line = ["nex", "workload", "start"].iter().chain(line);
        let Command::Workload(workload) = Cli::try_parse_from(line).unwrap().command else {
            panic!("no workload command");
        };
        let WorkloadCommand::Start(args) = workload.command else {
            panic!("no start");
        };
        spec(&args).map_err(|error| error.text())
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
    fn what_cannot_be_started_is_refused_before_anybody_is_asked() {
        for (line, wanted) in [
            (
                ["--start-request", "{"].as_slice(),
                "error: `--start-request` is not JSON\n  caused by: EOF while parsing an object at line 1 column 1",
            ),
            (
                &["--start-request", "{}", "--wait"],
                "add `--lifecycle job`",
            ),
            (&["--start-request", "{}", "--type", ""], "invalid type"),
            (&["--start-request", "{}", "--name", "a b"], "invalid name"),
        ] {
            let text = checked(line).unwrap_err();
            assert!(text.contains(wanted), "{text}");
        }
    }
}
