//! Records of finished jobs, so that lists show how they ended although the nexlet was killed since.
//! Everything here blocks.
//!
//! ```text
//! <data folder>/finished/<id>.json   for its owner alone: the start request may hold secrets
//! ```

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use nex_protocol::{StartWorkloadRequest, WorkloadId};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::status::Status;

/// Time for which a list shows a job after its end.
pub(crate) const LISTED: Duration = Duration::from_secs(600);

/// A job that has ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Finished {
    pub(crate) id: WorkloadId,
    pub(crate) request: StartWorkloadRequest,
    pub(crate) start_time: Timestamp,
    /// The last state of the job; it has an end.
    pub(crate) status: Status,
}

impl Finished {
    /// Time for which lists still show the job; zero where that is over.
    pub(crate) fn remaining(&self) -> Duration {
        let Some(end) = self.status.end else {
            return Duration::ZERO;
        };
        let age = Timestamp::now().duration_since(end.at);
        // A clock that was set back gives a negative age.
        let age = Duration::try_from(age).unwrap_or_default();
        LISTED.saturating_sub(age)
    }

    /// Writes the record; a reader sees all of it or nothing.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub(crate) fn write(&self, data_dir: &Path) -> io::Result<()> {
        let path = path(data_dir, &self.id);
        let new = path.with_extension("new");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir(data_dir))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(new, path)
    }
}

fn dir(data_dir: &Path) -> PathBuf {
    data_dir.join("finished")
}

fn path(data_dir: &Path, id: &WorkloadId) -> PathBuf {
    dir(data_dir).join(format!("{id}.json"))
}

/// Deletes the record of a job.
pub(crate) fn remove(data_dir: &Path, id: &WorkloadId) {
    remove_file(&path(data_dir, id));
}

fn remove_file(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), %error, "failed to delete the record of a finished job");
        }
        _ => {}
    }
}

/// Reads the records that lists still show, and deletes all others.
pub(crate) fn load(data_dir: &Path) -> Vec<Finished> {
    let Ok(entries) = fs::read_dir(dir(data_dir)) else {
        // There is none before the first job has ended.
        return Vec::new();
    };
    let read = |path: PathBuf| {
        let record = fs::read(&path).ok();
        let record: Option<Finished> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let listed = record.filter(|record| !record.remaining().is_zero());
        if listed.is_none() {
            remove_file(&path);
        }
        listed
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use nex_process::Exit;
    use serde_json::json;

    use super::*;
    use crate::status::End;

    fn finished(id: &str, at: Timestamp) -> Finished {
        let request = json!({
            "description": "", "name": id, "namespace": "default", "tags": {},
            "run_request": "{}", "workload_lifecycle": "job", "workload_type": "native",
        });
        Finished {
            id: WorkloadId::new(id).unwrap(),
            request: serde_json::from_value(request).unwrap(),
            start_time: at,
            status: Status {
                end: Some(End {
                    exit: Some(Exit::Code(3)),
                    at,
                }),
                ..Status::starting()
            },
        }
    }

    #[test]
    fn a_record_is_read_again_until_its_time_is_over() {
        let data = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        finished("new", now).write(data.path()).unwrap();
        finished("old", now - LISTED).write(data.path()).unwrap();
        fs::write(dir(data.path()).join("torn.new"), "{").unwrap();

        let loaded = load(data.path());

        let [record] = loaded.as_slice() else {
            panic!("{loaded:?}");
        };
        assert_eq!(record.id.as_str(), "new");
        assert_eq!(record.status.metadata()["exit_code"], "3");
        let left = fs::read_dir(dir(data.path())).unwrap();
        assert_eq!(left.count(), 1, "the others are deleted");
        let mode = fs::metadata(path(data.path(), &record.id)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        remove(data.path(), &record.id);
        assert!(load(data.path()).is_empty());
    }

    #[test]
    fn a_clock_that_was_set_back_hides_no_job() {
        let future = Timestamp::now() + LISTED;
        assert_eq!(finished("w", future).remaining(), LISTED);
    }
}
