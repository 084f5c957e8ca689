//! From what a person types to a workload.

use jiff::Timestamp;
use nex_protocol::{NodeId, WorkloadSummary};

use crate::{client::Client, error::ClientError};

/// The shortest beginning of an id that is taken for it.
const MIN_PREFIX: usize = 3;

/// No workload, or too many.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// None has that id or name.
    #[error("no workload `{text}`")]
    NotFound {
        /// What was asked for.
        text: String,
        /// Nodes that did not answer, and might have it.
        missing: Vec<NodeId>,
    },
    /// Several have that name, or begin so.
    #[error("`{text}` is ambiguous: {} workloads match", candidates.len())]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// All of them.
        candidates: Vec<WorkloadSummary>,
    },
    /// Asking failed.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The only one that has not ended, else the only one, else of one name in one namespace the latest.
fn only(mut found: Vec<WorkloadSummary>) -> Result<WorkloadSummary, Vec<WorkloadSummary>> {
    let live = |workload: &WorkloadSummary| !workload.has_ended();
    let position = match found.iter().filter(|workload| live(workload)).count() {
        1 => found.iter().position(live),
        0 if one_name(&found) => latest(&found),
        _ => None,
    };
    match position {
        Some(position) => Ok(found.swap_remove(position)),
        None => Err(found),
    }
}

/// Whether they are runs of the same.
pub(crate) fn one_name(found: &[WorkloadSummary]) -> bool {
    found
        .windows(2)
        .all(|pair| pair[0].name == pair[1].name && pair[0].namespace == pair[1].namespace)
}

fn latest(found: &[WorkloadSummary]) -> Option<usize> {
    // A time that cannot be read is older than all.
    let started = |workload: &WorkloadSummary| workload.start_time.parse::<Timestamp>().ok();
    let ended =
        |workload: &WorkloadSummary| workload.metadata.get("ended")?.parse::<Timestamp>().ok();
    (0..found.len()).max_by_key(|&each| (started(&found[each]), ended(&found[each])))
}

/// Finds by exact id, else by exact name, else by the beginning of an id. Where several match, one
/// that has not ended is meant before those that have, and of ended runs of one name the latest.
fn pick(
    workloads: &[WorkloadSummary],
    text: &str,
) -> Option<Result<WorkloadSummary, Vec<WorkloadSummary>>> {
    let found = matching(workloads, text);
    (!found.is_empty()).then(|| only(found))
}

/// All of that exact id, else of that exact name, else those whose ids begin so.
pub(crate) fn matching(workloads: &[WorkloadSummary], text: &str) -> Vec<WorkloadSummary> {
    let ways: [fn(&WorkloadSummary, &str) -> bool; 3] = [
        |workload, text| workload.id.as_str() == text,
        |workload, text| workload.name == text,
        |workload, text| text.len() >= MIN_PREFIX && workload.id.as_str().starts_with(text),
    ];
    for way in ways {
        let found = workloads.iter().filter(|each| way(each, text));
        let found: Vec<_> = found.cloned().collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

impl Client {
    /// Finds the workload that a person means by an id, a name or the beginning of an id (three
    /// characters at least), in this client's namespace.
    ///
    /// # Errors
    /// When none or several match, or asking failed.
    pub async fn find(&self, text: &str) -> Result<WorkloadSummary, FindError> {
        let answer = self.list(&[]).await?;
        if answer.nobody {
            return Err(ClientError::NoNodes.into());
        }
        let workloads = answer.workloads.into_iter().map(|(_, each)| each);
        match pick(&workloads.collect::<Vec<_>>(), text) {
            Some(Ok(found)) => Ok(found),
            Some(Err(candidates)) => Err(FindError::Ambiguous {
                text: text.to_owned(),
                candidates,
            }),
            None => Err(FindError::NotFound {
                text: text.to_owned(),
                missing: answer.missing,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use nex_protocol::{Tags, WorkloadId, WorkloadState};

    use super::*;

    fn workload(id: &str, name: &str, state: WorkloadState) -> WorkloadSummary {
        WorkloadSummary {
            id: WorkloadId::new(id).unwrap(),
            metadata: Tags::new(),
            name: name.into(),
            namespace: None,
            runtime: "--".into(),
            start_time: String::new(),
            tags: Tags::new(),
            workload_lifecycle: "service".into(),
            workload_state: state,
            workload_type: "native".into(),
        }
    }

    fn job(id: &str, name: &str, state: WorkloadState, started: &str) -> WorkloadSummary {
        WorkloadSummary {
            workload_lifecycle: "job".into(),
            start_time: started.into(),
            ..workload(id, name, state)
        }
    }

    #[test]
    fn of_runs_that_ended_the_latest_is_meant() {
        use WorkloadState::{Error, Running, Stopped};
        let picked = |workloads: &[WorkloadSummary], text| {
            pick(workloads, text)
                .unwrap()
                .map(|w| w.id.to_string())
                .map_err(|c| c.len())
        };
        let mut runs = vec![
            job("run1", "report", Error, "2026-01-02T03:04:05Z"),
            job("run2", "report", Stopped, "2026-01-02T11:00:00+07:00"),
            job("run3", "report", Error, "2026-01-02T03:30:00Z"),
            job("run4", "report", Stopped, "unreadable"),
        ];

        assert_eq!(picked(&runs, "report"), Ok("run2".to_owned()));
        assert_eq!(picked(&runs, "run"), Ok("run2".to_owned()));
        runs.push(job("run5", "other", Error, "2026-01-02T05:00:00Z"));
        assert_eq!(picked(&runs, "run"), Err(5));
        runs.push(job("run6", "report", Running, "2026-01-01T00:00:00Z"));
        assert_eq!(picked(&runs, "report"), Ok("run6".to_owned()));
    }

    fn picked(text: &str) -> Option<Result<String, usize>> {
        use WorkloadState::{Running, Stopped};
        let workloads = vec![
            workload("abc1", "web", Running),
            workload("abc2", "abc1", Running),
            workload("xyz1", "old", Stopped),
            workload("xyz2", "twice", Stopped),
            workload("xyw3", "twice", Running),
            workload("q1", "pair", Running),
            workload("q2", "pair", Running),
        ];
        let result = pick(&workloads, text)?;
        Some(result.map(|w| w.id.to_string()).map_err(|c| c.len()))
    }

    #[test]
    fn an_id_goes_before_a_name_before_a_prefix() {
        assert_eq!(picked("abc1"), Some(Ok("abc1".into())));
        assert_eq!(picked("web"), Some(Ok("abc1".into())));
        assert_eq!(picked("xyw"), Some(Ok("xyw3".into())));
        assert_eq!(picked("nothing"), None);
    }

    #[test]
    fn two_letters_are_no_prefix() {
        assert_eq!(picked("xy"), None);
    }

    #[test]
    fn the_live_one_is_meant() {
        assert_eq!(picked("twice"), Some(Ok("xyw3".into())));
        assert_eq!(picked("old"), Some(Ok("xyz1".into())));
    }

    #[test]
    fn several_are_ambiguous() {
        assert_eq!(picked("pair"), Some(Err(2)));
        assert_eq!(picked("abc"), Some(Err(2)));
    }
}
