//! The file that a workload came from.
//!
//! The name of a workload is made of its file's, and different files can make the same name: `a b.js` and
//! `a-b.js`, or `index.js` of two folders. A start request says in its metadata which file it is of, so that
//! only the same file replaces a workload whose name nobody typed.

use std::path::{Component, Path, PathBuf};

use nex_client::{Client, ClientError};
use nex_protocol::{ARTIFACT_BUCKET, StartWorkloadRequest, WorkloadSummary};
use serde_json::{Map, Value};

use crate::{command::fault, error::CommandError, host::machine_name, print::table::printable};

/// The metadata key of the file, with all symbolic links followed.
const RESOLVED: &str = "nex.source";
/// The metadata key of the path by which the file was named. It stays the same when a symbolic link in it gets
/// another target, as `current` does at each release.
const NAMED: &str = "nex.source.path";

/// A file, with the machine that it is on: everybody's `/app/main.js` is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    resolved: String,
    named: String,
}

/// The origin of a workload, compared with a file.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// The workload came from the file.
    Same,
    /// The start request does not say, and the workload may have come from the file.
    Unknown,
    /// The workload came from elsewhere, in words.
    Other(String),
}

impl Source {
    /// The file at a path. `shell_folder` is the working folder as the shell names it, with its symbolic links.
    pub(super) fn of_file(path: &Path, shell_folder: Option<&Path>) -> Self {
        let absolute = match working_folder(shell_folder) {
            Some(folder) => folder.join(path),
            None => path.to_owned(),
        };
        let named = cleaned(&absolute);
        let resolved = path.canonicalize().unwrap_or(named.clone());
        let on_machine = |path: &Path| format!("{}:{}", machine_name(), path.display());
        Self {
            resolved: on_machine(&resolved),
            named: on_machine(&named),
        }
    }

    /// The metadata of a workload that comes from the file.
    pub(super) fn metadata(&self) -> Map<String, Value> {
        let members = [(RESOLVED, &self.resolved), (NAMED, &self.named)];
        let members = members.map(|(key, value)| (key.to_owned(), value.as_str().into()));
        members.into_iter().collect()
    }

    fn origin(&self, request: &StartWorkloadRequest) -> Origin {
        let recorded = |key| request.metadata.get(key).and_then(Value::as_str);
        let (resolved, named) = (recorded(RESOLVED), recorded(NAMED));
        if resolved == Some(&self.resolved) || named == Some(&self.named) {
            return Origin::Same;
        }
        match resolved.or(named) {
            Some(source) => Origin::Other(format!("`{}`", printable(source))),
            // Older peers lose the metadata. What was uploaded may be of this file.
            None if is_uploaded(&request.run_request) => Origin::Unknown,
            None => Origin::Other("no `nex devrun`".to_owned()),
        }
    }
}

/// The working folder as the shell names it, where that is true, or as the system does.
fn working_folder(shell_folder: Option<&Path>) -> Option<PathBuf> {
    let current = std::env::current_dir().ok();
    let is_current = |path: &&Path| path.is_absolute() && path.canonicalize().ok() == current;
    let shell_folder = shell_folder.filter(is_current).map(Path::to_owned);
    shell_folder.or(current)
}

/// A path without `.`, doubled separators, and those `..` that lead back out of a plain folder.
fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        let is_way_back = component == Component::ParentDir
            && matches!(clean.components().next_back(), Some(Component::Normal(_)))
            // The parent of a link's target is elsewhere.
            && !clean.is_symlink();
        if is_way_back {
            clean.pop();
        } else if component != Component::CurDir {
            clean.push(component);
        }
    }
    clean
}

/// Sorts workloads that have the name of a file: returns the ones that may have come from it, and a note about each of
/// the others where one that would be replaced came from the file for certain. `replaced` says of each workload
/// whether it would be replaced.
///
/// # Errors
/// All that would be replaced came from elsewhere; names one and its file. Or a node did not say what a workload was
/// started with.
pub(super) async fn own(
    client: &Client,
    source: &Source,
    named: Vec<WorkloadSummary>,
    replaced: impl Fn(&WorkloadSummary) -> bool,
) -> Result<(Vec<WorkloadSummary>, Vec<String>), CommandError> {
    let (mut own, mut others, mut is_known) = (Vec::new(), Vec::new(), false);
    for workload in named {
        let request = match client.start_request(&workload.id).await {
            Ok(request) => request,
            // The workload has ended since it was listed.
            Err(ClientError::WorkloadNotFound { missing, .. }) if missing.is_empty() => continue,
            Err(error) => return Err(fault::client(error)),
        };
        match source.origin(&request) {
            Origin::Same => {
                is_known |= replaced(&workload);
                own.push(workload);
            }
            Origin::Unknown => own.push(workload),
            Origin::Other(origin) => others.push((workload, origin)),
        }
    }
    match others.first() {
        Some((workload, origin)) if !is_known => {
            Err(of_another_file(workload, origin, replaced(workload)))
        }
        _ => Ok((
            own,
            others.iter().map(|(it, origin)| left(it, origin)).collect(),
        )),
    }
}

fn of_another_file(workload: &WorkloadSummary, origin: &str, replaced: bool) -> CommandError {
    let (id, name) = (&workload.id, printable(&workload.name));
    let error = CommandError::failed(format!("a workload of another file has the name `{name}`"))
        .cause(format!("[{id}] came from {origin}"))
        .hint("to run both, give this one another name: `--name NAME`");
    match replaced {
        true => error.hint(format!("to replace it, say so: `--name {name}`")),
        false => error,
    }
}

fn left(workload: &WorkloadSummary, origin: &str) -> String {
    let (id, name) = (&workload.id, printable(&workload.name));
    format!("[{id}] is named `{name}` too, and stays: it came from {origin}")
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
        let metadata = source.map(|source| (RESOLVED.to_owned(), source.into()));
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
    fn a_workload_of_the_same_file_or_path_is_not_of_another() {
        let uploaded = "nats://NEXCLIFILES/abc";
        let own = Source {
            resolved: "m:/v2/a.js".to_owned(),
            named: "m:/current/a.js".to_owned(),
        };
        let other = |text: &str| Origin::Other(text.to_owned());
        for (resolved, named, uri, origin) in [
            (Some("m:/v2/a.js"), None, uploaded, Origin::Same),
            (
                Some("m:/v2/a.js"),
                Some("m:/x/a.js"),
                uploaded,
                Origin::Same,
            ),
            (
                Some("m:/v1/a.js"),
                Some("m:/current/a.js"),
                uploaded,
                Origin::Same,
            ),
            (
                Some("m:/v1/a.js"),
                Some("m:/v1/a.js"),
                uploaded,
                other("`m:/v1/a.js`"),
            ),
            (
                Some("m:/current/a.js"),
                None,
                uploaded,
                other("`m:/current/a.js`"),
            ),
            (
                Some("n:/v2/a.js"),
                Some("n:/current/a.js"),
                uploaded,
                other("`n:/v2/a.js`"),
            ),
            (None, None, uploaded, Origin::Unknown),
            (
                None,
                None,
                "nats://NEXCLIFILESX/abc",
                other("no `nex devrun`"),
            ),
            (None, None, "file:///bin/date", other("no `nex devrun`")),
        ] {
            let mut request = request(resolved, uri);
            let named = named.map(|named| (NAMED.to_owned(), named.into()));
            request.metadata.extend(named);
            assert_eq!(own.origin(&request), origin, "{resolved:?} {uri}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_one_however_it_is_reached() {
        use std::os::unix::fs::symlink;

        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| Source::of_file(&dir.path().join(path), None);
        std::fs::create_dir_all(dir.path().join("deep/v1")).unwrap();
        std::fs::write(dir.path().join("a.js"), "x").unwrap();
        symlink(dir.path().join("a.js"), dir.path().join("link.js")).unwrap();
        symlink(dir.path().join("deep/v1"), dir.path().join("current")).unwrap();

        let source = at("a.js");

        assert!(source.resolved.ends_with("/a.js"), "{source:?}");
        assert_eq!(at("link.js").resolved, source.resolved);
        assert_eq!(at("./a.js"), source);
        assert_ne!(at("b.js"), source);
        assert_eq!(at("deep/.././/b.js"), at("b.js"));
        // A link's parent is that of its target.
        assert_ne!(at("current/../a.js").named, source.named);
    }
}
