//! Start requests, summaries, lifecycles and states of workloads.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Tags,
    connection::NatsConnectionData,
    duration::GoDuration,
    ids::{Namespace, WorkloadId},
    lenient::null_default,
};

/// How long a workload is meant to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// Kept running.
    Service,
    /// Runs to its end once.
    Job,
    /// Runs when it is triggered.
    Function,
}

impl Lifecycle {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Job => "job",
            Self::Function => "function",
        }
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no lifecycle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid lifecycle `{0}`: want `service`, `job` or `function`")]
pub struct InvalidLifecycle(String);

impl FromStr for Lifecycle {
    type Err = InvalidLifecycle;

    fn from_str(text: &str) -> Result<Self, InvalidLifecycle> {
        match text {
            "service" => Ok(Self::Service),
            "job" => Ok(Self::Job),
            "function" => Ok(Self::Function),
            _ => Err(InvalidLifecycle(text.to_owned())),
        }
    }
}

/// What a workload was last seen to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WorkloadState {
    /// Being set up.
    Starting,
    /// Running.
    Running,
    /// A function that is ready and has nothing to do.
    Warm,
    /// Told to stop, not dead yet.
    Stopping,
    /// Ended.
    Stopped,
    /// Failed; a service in this state waits for its next start.
    Error,
}

impl WorkloadState {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Warm => "warm",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for WorkloadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Asks for a workload: body of a deploy, reply of a clone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StartWorkloadRequest {
    /// For people; may be empty.
    #[serde(deserialize_with = "null_default")]
    pub description: String,
    /// Carried, not interpreted.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "serde_json::Map::is_empty"
    )]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// May be empty: the nexlet then makes one up.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// The tenant that owns it.
    pub namespace: Namespace,
    /// A free reference to documentation.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub reference: String,
    /// The nexlet's own start request: a JSON document as text.
    #[serde(deserialize_with = "null_default")]
    pub run_request: String,
    /// The placement tags that were asked for.
    #[serde(deserialize_with = "null_default")]
    pub tags: Tags,
    /// How long it is meant to live.
    pub workload_lifecycle: Lifecycle,
    /// The type, and so the nexlet.
    #[serde(deserialize_with = "null_default")]
    pub workload_type: String,
}

/// The longest name of a workload, in bytes. It becomes a part of a queue group, an environment
/// variable, and text on a terminal; a line of the NATS protocol has at most 4,096 bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// A name that no workload can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It is too long.
    #[error("invalid workload name of {0} bytes: want at most {MAX_NAME_BYTES}")]
    TooLong(usize),
    /// It has a line break or the like in it.
    #[error("invalid workload name `{0}`: want no control characters")]
    Control(String),
}

impl StartWorkloadRequest {
    /// Checks the name; an empty one will do.
    ///
    /// # Errors
    /// [`InvalidName`] says what is wrong with it.
    pub fn check_name(&self) -> Result<(), InvalidName> {
        if self.name.len() > MAX_NAME_BYTES {
            return Err(InvalidName::TooLong(self.name.len()));
        }
        if self.name.contains(char::is_control) {
            return Err(InvalidName::Control(self.name.clone()));
        }
        Ok(())
    }
}

/// Extension: beginning of the message of a stop that is under way when its caller waits no longer.
pub const STILL_STOPPING: &str = "still stopping after";

/// Extension: beginning of the message of a stop whose outcome nobody knows, since the nexlet that has the
/// workload does not answer.
pub const NO_NEXLET: &str = "no answer from nexlet";

/// Extension: what a node says, as the header's text of a code 500, where a start failed and it could
/// not call it off. Whoever reads it must not start the workload elsewhere.
pub const MAY_RUN: &str = "the start failed, and may not be called off: the workload may run";

/// A workload that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StartWorkloadResponse {
    /// Its id.
    pub id: WorkloadId,
    /// Its name, made up where the request had none.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
}

/// What a node tells a nexlet to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NexletStartWorkloadRequest {
    /// The client's request.
    pub request: StartWorkloadRequest,
    /// Credentials of this workload alone.
    #[serde(deserialize_with = "null_default")]
    pub workload_creds: NatsConnectionData,
    /// Extension: credentials with the rights of the namespace, for a nexlet that hosts many
    /// functions on one connection. Go nodes do not send them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_creds: Option<NatsConnectionData>,
    /// Extension: whether it ran before, and is handed back. Go nodes do so only in their answer
    /// to a registration.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub existing: bool,
}

/// Asks to stop a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StopWorkloadRequest {
    /// The tenant that owns it.
    pub namespace: Namespace,
    /// Extension: answer when it is dead, or after this long with the reason why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<GoDuration>,
    /// Extension: what it would find again after another start is to go too, like the place of a
    /// function in a stream.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub purge: bool,
}

/// How a stop went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StopWorkloadResponse {
    /// The workload.
    #[serde(deserialize_with = "null_default")]
    pub id: String,
    /// Empty, or why it was not stopped, or what else of the stop failed where it was.
    #[serde(deserialize_with = "null_default")]
    pub message: String,
    /// Whether it is dead; the only thing that Go callers test.
    #[serde(deserialize_with = "null_default")]
    pub stopped: bool,
    /// The type, or empty where it was not found.
    #[serde(deserialize_with = "null_default")]
    pub workload_type: String,
}

/// Asks for workloads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ListWorkloadsRequest {
    /// Only workloads whose id or name is one of these; all where empty.
    #[serde(deserialize_with = "null_default")]
    pub filter: Vec<String>,
    /// The tenant; `system` means all.
    pub namespace: Namespace,
}

impl ListWorkloadsRequest {
    /// Whether a workload is asked for.
    #[must_use]
    pub fn wants(&self, id: &WorkloadId, name: &str, namespace: &Namespace) -> bool {
        (self.namespace.is_system() || self.namespace == *namespace)
            && (self.filter.is_empty()
                || self
                    .filter
                    .iter()
                    .any(|wanted| wanted == id.as_str() || wanted == name))
    }
}

/// One workload in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkloadSummary {
    /// Its id.
    pub id: WorkloadId,
    /// What its nexlet says about it. Ours say `exit_code` or `signal` and `ended` of what has
    /// ended, `pid` of what runs as a process, `restarts`, `error`, and `subjects` of functions.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Tags::is_empty"
    )]
    pub metadata: Tags,
    /// Its name.
    #[serde(deserialize_with = "null_default")]
    pub name: String,
    /// The tenant that owns it; older peers leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Execution time of a function as text; `--` for others.
    #[serde(deserialize_with = "null_default")]
    pub runtime: String,
    /// RFC 3339 by convention, not parsed.
    #[serde(deserialize_with = "null_default")]
    pub start_time: String,
    /// The tags of its start request.
    #[serde(deserialize_with = "null_default")]
    pub tags: Tags,
    /// A lifecycle by convention, free text on the wire.
    #[serde(deserialize_with = "null_default")]
    pub workload_lifecycle: String,
    /// What it was last seen to do.
    pub workload_state: WorkloadState,
    /// The type.
    #[serde(deserialize_with = "null_default")]
    pub workload_type: String,
}

/// Metadata of a summary: a state that [`WorkloadState`] does not have, because Go programs refuse a
/// list with a word that they do not know. The summary's own state is then `error`.
pub const STATE_METADATA: &str = "nex.state";

/// Metadata of a summary: why the workload is in its state.
pub const REASON_METADATA: &str = "nex.reason";

/// Metadata of a `WORKLOADSTOPPED` event: the workload was stopped because its nexlet ends, and its node
/// starts it again. The value is `true`.
pub const INTERRUPTED_METADATA: &str = "nex.interrupted";

/// [`STATE_METADATA`] of a workload that should run, and of which nobody knows whether it does.
pub const UNKNOWN_STATE: &str = "unknown";

impl WorkloadSummary {
    /// Whether it should run and nobody knows whether it does: its nexlet does not answer.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.metadata.get(STATE_METADATA).map(String::as_str) == Some(UNKNOWN_STATE)
    }

    /// Whether it stays in the list only to tell how it ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match self.workload_state {
            _ if self.is_unknown() => false,
            WorkloadState::Stopped => true,
            // A service in this state waits for its next start.
            WorkloadState::Error if self.workload_lifecycle == "job" => true,
            _ => self.metadata.contains_key("ended"),
        }
    }
}

/// A list reply, as far as it can be read.
#[derive(Debug, Default)]
pub struct WorkloadList {
    /// The workloads that can be read.
    pub workloads: Vec<WorkloadSummary>,
    /// The others.
    pub unreadable: Option<Unreadable>,
}

/// Elements of a list that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{count} of the listed workloads cannot be read: {first}")]
pub struct Unreadable {
    /// The number of them.
    pub count: usize,
    /// The reason for the first one.
    pub first: serde_json::Error,
}

/// Reads a list reply: an array, or `null` from an empty Go nexlet. An element that cannot be read
/// does not keep the others from being read.
///
/// # Errors
/// It is no list.
pub fn read_list(body: &[u8]) -> Result<WorkloadList, serde_json::Error> {
    if let Ok(workloads) = serde_json::from_slice::<Option<Vec<WorkloadSummary>>>(body) {
        return Ok(WorkloadList {
            workloads: workloads.unwrap_or_default(),
            unreadable: None,
        });
    }
    let elements: Vec<serde_json::Value> = serde_json::from_slice(body)?;
    let mut list = WorkloadList::default();
    for element in elements {
        match (serde_json::from_value(element), &mut list.unreadable) {
            (Ok(workload), _) => list.workloads.push(workload),
            (Err(_), Some(unreadable)) => unreadable.count += 1,
            (Err(first), none) => *none = Some(Unreadable { count: 1, first }),
        }
    }
    Ok(list)
}

/// Reads a list reply of which every element is to be read, as in Go.
///
/// # Errors
/// It is no list, or one element cannot be read.
pub fn parse_list(body: &[u8]) -> Result<Vec<WorkloadSummary>, serde_json::Error> {
    let WorkloadList {
        workloads,
        unreadable,
    } = read_list(body)?;
    unreadable.map_or(Ok(workloads), |unreadable| Err(unreadable.first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO_START: &str = r#"{"description":"","name":"web","namespace":"default","run_request":"{\"uri\":\"file:///usr/bin/web\"}","tags":null,"workload_lifecycle":"service","workload_type":"native"}"#;

    #[test]
    fn a_go_start_request_is_read_and_sent_with_all_its_keys() {
        let request: StartWorkloadRequest = serde_json::from_str(GO_START).unwrap();
        let sent = serde_json::to_value(&request).unwrap();

        for key in [
            "description",
            "name",
            "namespace",
            "run_request",
            "tags",
            "workload_lifecycle",
            "workload_type",
        ] {
            assert!(sent.get(key).is_some(), "{key}");
        }
        assert!(sent.get("metadata").is_none());
    }

    #[test]
    fn a_missing_key_is_refused_as_in_go() {
        let without = GO_START.replace(r#""name":"web","#, "");
        let error = serde_json::from_str::<StartWorkloadRequest>(&without).unwrap_err();
        assert!(error.to_string().contains("name"), "{error}");
    }

    #[test]
    fn a_name_is_one_line_of_bounded_length() {
        let check = |name: &str| {
            let mut request: StartWorkloadRequest = serde_json::from_str(GO_START).unwrap();
            request.name = name.to_owned();
            request.check_name()
        };

        for good in ["", "web", "größe 2/3", &"x".repeat(MAX_NAME_BYTES)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["a\nb", "a\0", "\x1b[31m"] {
            assert_eq!(check(bad), Err(InvalidName::Control(bad.into())));
        }
        assert_eq!(check(&"x".repeat(129)), Err(InvalidName::TooLong(129)));
    }

    #[test]
    fn an_object_is_no_run_request() {
        let object = GO_START.replace(r#""{\"uri\":\"file:///usr/bin/web\"}""#, "{}");
        assert!(serde_json::from_str::<StartWorkloadRequest>(&object).is_err());
    }

    #[test]
    fn a_failed_job_has_ended_and_a_failed_service_will_start_again() {
        let ended = |lifecycle: &str, state: &str, metadata: &str| {
            let summary = format!(
                r#"{{"id":"w","name":"n","runtime":"--","start_time":"","tags":{{}},"workload_lifecycle":"{lifecycle}","workload_state":"{state}","workload_type":"native","metadata":{metadata}}}"#
            );
            serde_json::from_str::<WorkloadSummary>(&summary)
                .unwrap()
                .has_ended()
        };

        assert!(ended("job", "error", "{}"));
        assert!(ended("service", "stopped", "{}"));
        assert!(ended(
            "service",
            "error",
            r#"{"ended":"2026-01-02T03:04:05Z"}"#
        ));
        assert!(!ended("service", "error", r#"{"restarts":"3"}"#));
        assert!(!ended("job", "error", r#"{"nex.state":"unknown"}"#));
        assert!(!ended("job", "running", "{}"));
    }

    #[test]
    fn one_bad_element_is_counted_and_does_not_hide_the_others() {
        let good = r#"{"id":"w","name":"n","runtime":"--","start_time":"","tags":{},"workload_lifecycle":"job","workload_state":"running","workload_type":"native"}"#;
        for (bad, count) in [
            (good.replace("running", "dancing"), 1),
            (good.replace("\"w\"", "7"), 1),
            ("null,{},[]".to_owned(), 3),
        ] {
            let body = format!("[{good},{bad},{good}]");
            let list = read_list(body.as_bytes()).unwrap();
            assert_eq!(list.workloads.len(), 2, "{bad}");
            assert_eq!(list.unreadable.unwrap().count, count, "{bad}");
            assert!(parse_list(body.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_null_list_is_empty() {
        assert!(parse_list(b"null").unwrap().is_empty());
        assert!(parse_list(b"[]").unwrap().is_empty());
        assert!(parse_list(b"{}").is_err());
        assert!(read_list(b"{}").is_err());
    }

    #[test]
    fn system_sees_every_namespace() {
        let id = WorkloadId::new("w").unwrap();
        let tenant = Namespace::new("tenant").unwrap();
        let request = |namespace: &str, filter: &[&str]| ListWorkloadsRequest {
            filter: filter.iter().map(ToString::to_string).collect(),
            namespace: Namespace::new(namespace).unwrap(),
        };

        assert!(request("system", &[]).wants(&id, "web", &tenant));
        assert!(request("tenant", &["web"]).wants(&id, "web", &tenant));
        assert!(!request("tenant", &["other"]).wants(&id, "web", &tenant));
        assert!(!request("default", &[]).wants(&id, "web", &tenant));
    }
}
