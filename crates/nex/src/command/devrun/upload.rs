//! Brings the file into the object store, with a bar for a person who watches.

use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nex_artifact::{Kind as ArtifactKind, UploadError, Uploaded};
use nex_nats::Connection;
use nex_protocol::ARTIFACT_BUCKET;

use crate::{
    command::fault,
    context::Context,
    error::{CommandError, Kind},
};

/// What it takes to deploy a file.
const PERMISSIONS_HINT: &str =
    "who deploys needs JetStream and the bucket `NEXCLIFILES` in its permissions";

/// Uploads a file, unless it is there already.
pub(super) async fn upload(
    connection: &Connection,
    file: &Path,
    context: &Context,
) -> Result<Uploaded, CommandError> {
    let bar = bar(context);
    let progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let denied = connection.denials().of_stream(ARTIFACT_BUCKET);
    let lost = connection.losses().next();
    let result = tokio::select! {
        biased;
        result = nex_artifact::upload(connection.client(), ARTIFACT_BUCKET, file, progress) => {
            result.map_err(|error| explain(&error))
        }
        // Nobody answers what the server refuses.
        subject = denied => Err(CommandError::failed(format!(
            "NATS does not let you send to `{subject}`, which keeping the file takes"
        ))
        .hint(PERMISSIONS_HINT)
        .refused()),
        () = lost => Err(CommandError::new(
            Kind::Unreachable,
            "lost the connection to NATS while the file was uploaded",
        )
        .hint("nothing was started: try again")),
    };
    bar.finish_and_clear();
    result
}

/// A bar on standard error; hidden where that is no terminal, or where JSON was asked for.
fn bar(context: &Context) -> ProgressBar {
    let target = if context.env.terminals.stderr && !context.printer.is_json() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("uploading {bar:30} {bytes}/{total_bytes}")
        .expect("the template is a constant that the tests draw");
    ProgressBar::with_draw_target(None, target).with_style(style)
}

fn explain(error: &UploadError) -> CommandError {
    if error.kind() == ArtifactKind::Unavailable
        && let Some(told) = fault::of_stream(error, "OBJ_NEXCLIFILES")
    {
        return told;
    }
    let told = CommandError::from_error(Kind::Failed, error);
    match error.kind() {
        ArtifactKind::JetStreamOff => told.hint(
            "artifacts are kept in an object store: switch JetStream on in the server (`jetstream {}`), or use `nex up`, where it is on",
        ),
        ArtifactKind::TooLarge => told.hint(
            "put it where the node can read it, and name it: `nex workload start --start-request '{\"uri\":\"file:///…\"}'`",
        ),
        ArtifactKind::NoSpace => told.hint(
            "free space on the disk of the NATS server and try again; that of `nex up` keeps its data in the folder that `nex up` names when it is ready",
        ),
        ArtifactKind::Unavailable => told.hint(PERMISSIONS_HINT),
        ArtifactKind::NotFound | ArtifactKind::Io => {
            told.hint("check the path, and that nothing writes to the file meanwhile")
        }
        ArtifactKind::Link => {
            told.hint("find out who made the link, and delete it with `nats object rm`")
        }
        ArtifactKind::Damaged => told,
    }
}

#[cfg(test)]
mod tests {
    use nex_artifact::StoreError;

    use super::*;

    #[test]
    fn without_jetstream_a_person_reads_what_to_do() {
        let text = explain(&StoreError::JetStreamOff.into()).text();
        assert!(text.starts_with("error: JetStream is off"), "{text}");
        assert!(
            text.contains("\nhint: artifacts are kept in an object store"),
            "{text}"
        );
    }

    #[test]
    fn a_file_that_is_too_large_can_be_named_instead() {
        let error = UploadError::TooLarge {
            bucket: "B".into(),
            size: 2,
            limit: 1,
        };
        let text = explain(&error).text();
        assert!(text.contains(r#"{"uri":"file:///…"}"#), "{text}");
    }

    #[test]
    fn the_bar_can_be_drawn() {
        let context = Context::new(
            crate::environment::Environment::fake("/", &[]),
            crate::cli::GlobalArgs::default(),
        );
        let bar = bar(&context);
        bar.set_length(10);
        bar.set_position(5);
        assert!(bar.is_hidden());
    }
}
