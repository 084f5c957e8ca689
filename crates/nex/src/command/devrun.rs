//! `nex devrun`: from a file to something that answers.
//!
//! ```text
//! plan (no network) ─> is there a nexlet? ─> upload ─> start ─> alone? ─> ready? ─> stop the one before
//! ```

mod detect;
mod file;
mod follow;
mod plan;
mod replace;
mod source;
mod upload;

use std::path::Path;

use nex_client::{Client, Placed, StartSpec};
use nex_nats::Connection;
use nex_protocol::{Namespace, WorkloadId, function::Trigger};
use serde_json::{Value, json};

use super::{fault, placement::told};
use crate::{
    cli::DevrunArgs,
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit},
};
use follow::Follow;
use plan::{Kind, Plan};
use replace::Before;
use source::Source;

/// Deploys a file.
pub(crate) async fn run(args: DevrunArgs, context: &Context) -> CommandResult {
    let mut plan = Plan::new(&args)?;
    // A configuration file gives all files the same name.
    plan.is_named = args.name.is_some() && context.settings.origin("name").is_none();
    let shell_folder = context.env.var("PWD").map(Path::new);
    plan.source = Source::of_file(&args.file, shell_folder);
    let connection = connect::connect(context).await?;
    let client = Client::new(&connection, context.deploy_namespace()?);
    // Asked before the upload: that may take minutes, a refusal not.
    let (options, explain) = (args.placement.options(), args.placement.explain);
    let offered = client.would_place(&spec(&plan, ""), &options).await;
    // Of a place that there is, the start tells.
    let refused = explain && offered.outcome.is_err();
    let (workload_type, _) = told(offered, refused, context, fault::start)?;
    plan.check_size(&workload_type)?;
    let mut before = Before::look(&client, &plan).await?;
    for note in &before.notes {
        context.printer.note(note);
    }
    let (uri, fresh) = uploaded(&connection, &plan, context).await?;
    let follow = match args.follow {
        true => Some(Follow::begin(&client).await?),
        false => None,
    };

    let placed = client.place(spec(&plan, &uri), &options).await;
    let (placed, explanation) = told(placed, explain, context, fault::start)?;
    before.yield_to_rivals(&client, &plan, &placed).await?;
    let (replaced, replacement) = before.replace(&client, &placed).await?;

    let deployed = Deployed {
        plan: &plan,
        placed: &placed,
        namespace: client.namespace(),
        replaced: &replaced,
        uri: &uri,
        fresh,
    };
    deployed.tell(args.follow, explanation, context)?;
    // It runs, and that was said first; an older one may go on beside it, or come back.
    match follow {
        Some(follow) => {
            if let Err(error) = &replacement {
                context.printer.error(error);
            }
            follow.run(&client, &placed, plan.lifecycle, context).await
        }
        None => replacement.map(|()| Exit::OK),
    }
}

async fn uploaded(
    connection: &Connection,
    plan: &Plan,
    context: &Context,
) -> Result<(String, bool), CommandError> {
    let uploaded = match &plan.packed {
        None => upload::upload(connection, &plan.file, context).await?,
        Some(archive) => {
            let failed = |error: std::io::Error| {
                CommandError::failed("failed to write the archive of the folder").because(&error)
            };
            let file = tempfile::NamedTempFile::new().map_err(failed)?;
            std::fs::write(file.path(), archive).map_err(failed)?;
            upload::upload(connection, file.path(), context).await?
        }
    };
    Ok((uploaded.uri, uploaded.fresh))
}

fn spec(plan: &Plan, uri: &str) -> StartSpec {
    StartSpec {
        workload_type: plan.workload_type.clone(),
        lifecycle: plan.lifecycle,
        run_request: plan.run_request(uri),
        name: plan.name.clone(),
        description: plan.description.clone(),
        tags: plan.tags.clone(),
        metadata: plan.source.metadata(),
    }
}

/// What was done, for the person who asked for it.
struct Deployed<'a> {
    plan: &'a Plan,
    placed: &'a Placed,
    namespace: &'a Namespace,
    replaced: &'a [WorkloadId],
    uri: &'a str,
    fresh: bool,
}

impl Deployed<'_> {
    fn tell(
        &self,
        followed: bool,
        explanation: Option<Value>,
        context: &Context,
    ) -> Result<(), CommandError> {
        if context.printer.is_json() {
            let mut said = json!({
                "id": self.placed.id,
                "name": self.placed.name,
                "node_id": self.placed.node,
                "uri": self.uri,
                "uploaded": self.fresh,
                "replaced": self.replaced,
            });
            if let Some(explanation) = explanation {
                said["explanation"] = explanation;
            }
            return context.printer.json(&said);
        }
        context.printer.line(self.text(followed))
    }

    fn text(&self, followed: bool) -> String {
        let Placed { id, name, .. } = self.placed;
        let mut text = format!("Workload {name} [{id}] successfully started");
        for old in self.replaced {
            text.push_str(&format!("\nIt replaces [{old}], which was stopped"));
        }
        if followed {
            return text;
        }
        let scope = if *self.namespace == Namespace::default_tenant() {
            String::new()
        } else {
            format!(" --namespace {}", self.namespace)
        };
        text.push('\n');
        if let Kind::Function { triggers, .. } = &self.plan.kind
            && let Some(subject) = triggers.iter().find_map(callable)
        {
            text.push_str(&format!("\n  call it    nex req {subject} 'hello'"));
        }
        text.push_str(&format!("\n  its logs   nex logs -f {name}{scope}"));
        text.push_str(&format!("\n  stop it    nex workload stop {name}{scope}"));
        text
    }
}

/// The subject of a trigger to which a request can be sent.
fn callable(trigger: &Trigger) -> Option<&str> {
    match trigger {
        Trigger::Subject(trigger) => Some(trigger.subject.as_str()).filter(|it| is_literal(it)),
        Trigger::Stream(_) => None,
    }
}

/// Whether a request can be sent to a subject: one without wildcards, which no shell reads
/// otherwise.
fn is_literal(subject: &str) -> bool {
    subject.bytes().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/' | b':')
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nex_protocol::{Lifecycle, Tags, function::TriggerSubject};

    use super::*;

    fn text(kind: Kind, namespace: &str, replaced: &[WorkloadId], followed: bool) -> String {
        let plan = Plan {
            file: PathBuf::from("echo"),
            packed: None,
            workload_type: "js".into(),
            lifecycle: Lifecycle::Function,
            name: "echo".into(),
            is_named: false,
            source: Source::of_file(Path::new("/echo"), None),
            size_bytes: 1,
            description: String::new(),
            tags: Tags::new(),
            kind,
        };
        let placed = Placed {
            id: WorkloadId::new("w1").unwrap(),
            name: "echo".into(),
            workload_type: "js".into(),
            node: None,
        };
        let deployed = Deployed {
            plan: &plan,
            placed: &placed,
            namespace: &Namespace::new(namespace).unwrap(),
            replaced,
            uri: "nats://B/x",
            fresh: true,
        };
        deployed.text(followed)
    }

    fn function(subjects: &[&str]) -> Kind {
        let triggers = subjects
            .iter()
            .map(|text| TriggerSubject::new(*text).unwrap().into());
        Kind::Function {
            triggers: triggers.collect(),
            environment: Tags::new(),
        }
    }

    #[test]
    fn a_person_is_told_what_to_type_next() {
        assert_eq!(
            text(function(&["a.*", "echo"]), "default", &[], false),
            "\
Workload echo [w1] successfully started

  call it    nex req echo 'hello'
  its logs   nex logs -f echo
  stop it    nex workload stop echo"
        );
    }

    #[test]
    fn a_tenant_is_part_of_what_to_type() {
        let old = [WorkloadId::new("w0").unwrap()];
        let text = text(function(&["$x.y"]), "shop", &old, false);

        assert!(
            text.contains("\nIt replaces [w0], which was stopped\n"),
            "{text}"
        );
        assert!(!text.contains("call it"), "{text}");
        assert!(
            text.ends_with("nex workload stop echo --namespace shop"),
            "{text}"
        );
    }

    #[test]
    fn who_follows_needs_no_advice() {
        let text = text(function(&["echo"]), "default", &[], true);
        assert_eq!(text, "Workload echo [w1] successfully started");
    }
}
