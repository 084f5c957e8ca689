//! What a workload was last seen to do.

use jiff::Timestamp;
use nex_process::Exit;
use nex_protocol::{Tags, WorkloadState, event::WorkloadError};
use serde::{Deserialize, Serialize};

/// The state of a workload; only its owner changes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) state: WorkloadState,
    /// The main process, while there is one.
    pub(crate) pid: Option<u32>,
    /// How often it was started again.
    pub(crate) restarts: u64,
    /// What is wrong, in words.
    pub(crate) error: Option<String>,
    /// How it ended for good.
    pub(crate) end: Option<End>,
}

/// How a workload ended for good.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct End {
    /// How its last process ended; none where there was none any more.
    pub(crate) exit: Option<Exit>,
    pub(crate) at: Timestamp,
}

impl Status {
    pub(crate) fn starting() -> Self {
        Self {
            state: WorkloadState::Starting,
            pid: None,
            restarts: 0,
            error: None,
            end: None,
        }
    }

    /// As it stands in lists and events.
    pub(crate) fn metadata(&self) -> Tags {
        let mut metadata = Tags::new();
        let mut set = |name: &str, value: Option<String>| {
            metadata.extend(value.map(|value| (name.to_owned(), value)));
        };
        set("pid", self.pid.map(|pid| pid.to_string()));
        set("restarts", Some(self.restarts.to_string()));
        set("error", self.error.clone());
        if let Some(end) = self.end {
            match end.exit {
                Some(Exit::Code(code)) => set("exit_code", Some(code.to_string())),
                Some(Exit::Signal(signal)) => set("signal", Some(signal.to_string())),
                None => {}
            }
            set("ended", Some(end.at.to_string()));
        }
        metadata
    }
}

/// How a failure stands in an event, as in Go: the exit code, or `-1` for a signal.
pub(crate) fn failure(exit: Exit) -> Option<WorkloadError> {
    let (code, message) = match exit {
        Exit::Code(0) => return None,
        Exit::Code(code) => (code.to_string(), String::new()),
        Exit::Signal(_) => ("-1".to_owned(), exit.to_string()),
    };
    Some(WorkloadError { code, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_by_code_or_signal() {
        let mut status = Status::starting();
        assert!(!status.metadata().contains_key("ended"));

        for (exit, name, value) in [
            (Exit::Code(3), "exit_code", "3"),
            (Exit::Signal(9), "signal", "9"),
        ] {
            status.end = Some(End {
                exit: Some(exit),
                at: Timestamp::UNIX_EPOCH,
            });
            let metadata = status.metadata();
            assert_eq!(metadata[name], value);
            assert_eq!(metadata["ended"], "1970-01-01T00:00:00Z");
        }
    }

    #[test]
    fn a_failure_reads_as_in_go() {
        assert_eq!(failure(Exit::Code(0)), None);
        assert_eq!(failure(Exit::Code(3)).unwrap().code, "3");
        assert_eq!(failure(Exit::Signal(9)).unwrap().code, "-1");
    }
}
