//! What a workload does, in a word. A node that has lost sight of one says so in its metadata: peers
//! written in Go refuse a list with a state that they do not know.

use nex_protocol::{
    WorkloadSummary,
    workload::{REASON_METADATA, STATE_METADATA, UNKNOWN_STATE},
};

/// The state of a workload as a person gets it.
pub(super) fn word(summary: &WorkloadSummary) -> String {
    if summary.is_unknown() {
        return UNKNOWN_STATE.to_owned();
    }
    summary.workload_state.to_string()
}

/// Why it is in its state, where somebody says so.
pub(super) fn reason(summary: &WorkloadSummary) -> Option<&str> {
    summary.metadata.get(REASON_METADATA).map(String::as_str)
}

/// Whether a key of the metadata is one of those that are told in words of their own.
pub(super) fn is_told(key: &str) -> bool {
    key == STATE_METADATA || key == REASON_METADATA
}

#[cfg(test)]
mod tests {
    use nex_protocol::Tags;

    use super::*;

    fn summary(metadata: &[(&str, &str)]) -> WorkloadSummary {
        let metadata: Tags = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        serde_json::from_value(serde_json::json!({
            "id": "w1", "name": "web", "runtime": "--", "start_time": "t", "tags": {},
            "workload_lifecycle": "service", "workload_state": "error",
            "workload_type": "native", "metadata": metadata,
        }))
        .unwrap()
    }

    #[test]
    fn a_workload_out_of_sight_is_unknown() {
        let lost = summary(&[("nex.state", "unknown"), ("nex.reason", "no heartbeat")]);
        assert_eq!(word(&lost), "unknown");
        assert_eq!(reason(&lost), Some("no heartbeat"));

        for other in [summary(&[]), summary(&[("nex.state", "gone")])] {
            assert_eq!((word(&other).as_str(), reason(&other)), ("error", None));
        }
    }
}
