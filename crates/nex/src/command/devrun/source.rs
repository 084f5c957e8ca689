//! The file that a workload came from.
//!
//! The name of a workload is made of its file's, and different files can make the same name: `a b.js` and
//! `a-b.js`, or `index.js` of two folders. A start request says in its metadata which file it is of, so that
//! only the same file replaces a workload whose name nobody typed.

use std::path::Path;

use nex_client::{Client, ClientError};
use nex_protocol::{ARTIFACT_BUCKET, StartWorkloadRequest, WorkloadSummary};
use serde_json::Value;

use crate::{command::fault, error::CommandError, host::machine_name, print::table::printable};

/// The key of the file in a start request's metadata.
pub(super) const METADATA: &str = "nex.source";

/// The file, with the machine that it is on: everybody's `/app/main.js` is another one.
pub(super) fn of_file(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or(path.to_owned());
    let path = path.canonicalize().unwrap_or(path);
    format!("{}:{}", machine_name(), path.display())
}

/// Refuses to run a file beside, or in the place of, a workload that has its name and came from another file.
/// `replaced` says of each such workload whether it would be replaced.
///
/// # Errors
/// Names the workload and its file; or its node did not say what the workload was started with.
pub(super) async fn check(
    client: &Client,
    own: &str,
    named: &[WorkloadSummary],
    replaced: impl Fn(&WorkloadSummary) -> bool,
) -> Result<(), CommandError> {
    for workload in named {
        let request = match client.start_request(&workload.id).await {
            Ok(request) => request,
            // The workload has ended since it was listed.
            Err(ClientError::WorkloadNotFound { missing, .. }) if missing.is_empty() => continue,
            Err(error) => return Err(fault::client(error)),
        };
        let Some(other) = other_source(own, &request) else {
            continue;
        };
        let (id, name) = (&workload.id, printable(&workload.name));
        let mut error =
            CommandError::failed(format!("a workload of another file has the name `{name}`"))
                .cause(format!("[{id}] came from {other}"))
                .hint("to run both, give this one another name: `--name NAME`");
        if replaced(workload) {
            error = error.hint(format!("to replace it, say so: `--name {name}`"));
        }
        return Err(error);
    }
    Ok(())
}

/// The origin of a workload, in words, where it is not this file.
fn other_source(own: &str, request: &StartWorkloadRequest) -> Option<String> {
    match request.metadata.get(METADATA).and_then(Value::as_str) {
        Some(source) if source == own => None,
        Some(source) => Some(format!("`{}`", printable(source))),
        // Older peers lose the metadata. What was uploaded may be of this file.
        None if is_uploaded(&request.run_request) => None,
        None => Some("no `nex devrun`".to_owned()),
    }
}

/// Returns `true` where the artifact of a start request is in the bucket of `nex devrun`.
fn is_uploaded(run_request: &str) -> bool {
    let request: Option<Value> = serde_json::from_str(run_request).ok();
    let uri = request.as_ref().and_then(|request| request["uri"].as_str());
    let path = uri.and_then(|uri| uri.strip_prefix("nats://"));
    path.is_some_and(|path| path.split('/').next() == Some(ARTIFACT_BUCKET))
}

#[cfg(test)]
mod tests {
    use nex_protocol::{Lifecycle, Namespace, Tags};

    use super::*;

    fn request(source: Option<&str>, uri: &str) -> StartWorkloadRequest {
        let metadata = source.map(|source| (METADATA.to_owned(), source.into()));
        StartWorkloadRequest {
            description: String::new(),
            metadata: metadata.into_iter().collect(),
            name: "a".into(),
            namespace: Namespace::default_tenant(),
            reference: String::new(),
            run_request: serde_json::json!({ "uri": uri }).to_string(),
            tags: Tags::new(),
            workload_lifecycle: Lifecycle::Function,
            workload_type: "js".into(),
        }
    }

    #[test]
    fn only_what_may_be_of_the_same_file_is_not_of_another() {
        let uploaded = "nats://NEXCLIFILES/abc";
        for (source, uri, other) in [
            (Some("m:/a.js"), uploaded, None),
            (Some("m:/b.js"), uploaded, Some("`m:/b.js`")),
            (Some("n:/a.js"), uploaded, Some("`n:/a.js`")),
            (None, uploaded, None),
            (None, "nats://NEXCLIFILESX/abc", Some("no `nex devrun`")),
            (None, "file:///bin/date", Some("no `nex devrun`")),
        ] {
            let found = other_source("m:/a.js", &request(source, uri));
            assert_eq!(found.as_deref(), other, "{source:?} {uri}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_one_however_it_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.js");
        std::fs::write(&path, "x").unwrap();
        std::os::unix::fs::symlink(&path, dir.path().join("link.js")).unwrap();

        let source = of_file(&path);

        assert!(source.ends_with("/a.js"), "{source}");
        assert_eq!(of_file(&dir.path().join("link.js")), source);
        assert_eq!(of_file(&dir.path().join("./a.js")), source);
        assert_ne!(of_file(&dir.path().join("b.js")), source);
    }
}
