//! How workloads end, and the exit code that tells how a job did.

use std::{future::pending, time::Duration};

use nex_client::{Client, ClientError, EventQuery, Events};
use nex_protocol::{
    Tags, WorkloadId, WorkloadState, WorkloadSummary, event::WorkloadEvent,
    workload::INTERRUPTED_METADATA,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::debug;

use super::{fault, logs};
use crate::{
    context::Context,
    error::{CommandError, CommandResult, Exit},
};

/// The event that reports the end of a workload.
const STOPPED: &str = "WORKLOADSTOPPED";

/// How often the list is asked in case an event was lost.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// After how many complete lists without it a workload is gone for good.
const MAX_MISSES: usize = 3;

/// Time for which an event is waited for after a list has shown the end.
const EVENT: Duration = Duration::from_secs(1);

/// Time without an answer of any node, on a connection that is up, before the wait ends: nodes may be
/// restarting.
const NODES_ABSENT: Duration = Duration::from_secs(60);

/// Age of the oldest events that are read, so that a clock ahead of the server's misses none. The id of
/// the workload is new, so that older events are of others.
const CLOCKS: Duration = Duration::from_secs(60);

/// The ends of a namespace's workloads. To be watched before the start, so that the end of a job
/// that is over at once is not missed.
pub(crate) struct Ends {
    client: Client,
    /// `None` where they may not be read: then only lists show an end.
    events: Option<Events>,
    /// The moment since which the workload waits for its node to start it again.
    interrupted: Option<Instant>,
}

/// How a workload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With this exit code.
    Code(u8),
    /// By this signal; its number, and its name where one was told.
    Signal(u8, String),
    /// It failed without either, for this reason.
    Failed(String),
}

impl Ends {
    /// Begins to watch.
    ///
    /// # Errors
    /// When events cannot be read, for another reason than a refusal of the server.
    pub(crate) async fn watch(client: &Client) -> Result<Self, CommandError> {
        let query = EventQuery {
            since: logs::since(Some(CLOCKS))?,
            follow: true,
            ..EventQuery::default()
        };
        let events = match client.events(&query).await {
            Ok(events) => Some(events),
            Err(error) => match fault::cause_of(&error) {
                Some(ClientError::Denied { .. } | ClientError::Unheard { .. }) => None,
                _ => return Err(fault::feed(error)),
            },
        };
        Ok(Self {
            client: client.clone(),
            events,
            interrupted: None,
        })
    }

    /// Waits until a workload has ended for good. Goes on when the connection was lost: what happens
    /// meanwhile is read from the stream of events, or else seen in lists.
    ///
    /// # Errors
    /// When the workload is lost, or no node answers for a minute.
    pub(crate) async fn wait_for(mut self, id: &WorkloadId) -> Result<Outcome, CommandError> {
        let client = self.client.clone();
        let filter = [id.to_string()];
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut misses = 0;
        let mut absent_since = None;
        loop {
            let listed = async {
                look.tick().await;
                client.list(&filter).await
            };
            let answer = tokio::select! {
                // An event is the end itself; the list is only for the case that it was lost.
                biased;
                outcome = self.event(id) => return Ok(outcome),
                answer = listed => answer,
            };
            let answer = match answer {
                Ok(answer) if answer.nobody => Err(ClientError::NoNodes),
                other => other,
            };
            match answer {
                Ok(answer) => {
                    absent_since = None;
                    match answer.workloads.first() {
                        Some((_, summary)) => {
                            misses = 0;
                            if let Some(outcome) = Outcome::of_summary(summary) {
                                // The event follows, and the workload's last lines come before it.
                                let event = timeout(EVENT, self.event(id)).await;
                                return Ok(event.unwrap_or(outcome));
                            }
                        }
                        None if answer.missing.is_empty() => misses += 1,
                        None => {}
                    }
                }
                Err(ClientError::ConnectionLost) => absent_since = None,
                Err(error @ (ClientError::NoNodes | ClientError::NoAnswer { .. })) => {
                    let since = *absent_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= NODES_ABSENT {
                        return Err(fault::client(error));
                    }
                }
                Err(error) => return Err(fault::client(error)),
            }
            let returns = self
                .interrupted
                .is_some_and(|since| since.elapsed() < NODES_ABSENT);
            if misses >= MAX_MISSES && !returns {
                return Err(CommandError::failed(format!(
                    "workload `{id}` is gone, and nobody said how it ended"
                ))
                .hint("`nex events --since 1h` may tell what happened to its node"));
            }
        }
    }

    /// Resolves with the end of a workload when an event reports it. Cancel safe.
    async fn event(&mut self, id: &WorkloadId) -> Outcome {
        while let Some(events) = &mut self.events {
            match events.next().await {
                Ok(Some(entry)) if entry.name == STOPPED => {
                    if let Ok(event) = serde_json::from_value::<WorkloadEvent>(entry.body)
                        && event.id == *id
                    {
                        if !event.metadata.contains_key(INTERRUPTED_METADATA) {
                            return Outcome::of_event(&event);
                        }
                        self.interrupted = Some(Instant::now());
                    }
                }
                Ok(Some(_other)) => {}
                Ok(None) => self.events = None,
                Err(error) => {
                    debug!(%error, "events end; lists show the end of the workload");
                    self.events = None;
                }
            }
        }
        pending().await
    }
}

impl Outcome {
    fn of_event(event: &WorkloadEvent) -> Self {
        if let Some(outcome) = Self::of_metadata(&event.metadata) {
            return outcome;
        }
        match &event.error {
            None => Self::Code(0),
            Some(error) => match error.code.parse() {
                Ok(code) => Self::Code(code),
                Err(_) => Self::Failed(error.message.clone()),
            },
        }
    }

    fn of_summary(summary: &WorkloadSummary) -> Option<Self> {
        if !summary.has_ended() {
            return None;
        }
        Some(Self::of_metadata(&summary.metadata).unwrap_or_else(|| {
            if summary.workload_state == WorkloadState::Stopped {
                return Self::Code(0);
            }
            let reason = summary.metadata.get("error").cloned();
            Self::Failed(reason.unwrap_or_default())
        }))
    }

    fn of_metadata(metadata: &Tags) -> Option<Self> {
        if let Some(signal) = metadata.get("signal") {
            let number = signal_number(signal).unwrap_or(0);
            return Some(Self::Signal(number, signal.clone()));
        }
        let code = metadata.get("exit_code")?;
        Some(match code.parse() {
            Ok(code) => Self::Code(code),
            Err(_) => Self::Failed(format!("exit code {code}")),
        })
    }

    /// Says how a job ended, and makes that our exit code.
    ///
    /// # Errors
    /// When it failed without a code of its own.
    pub(crate) fn tell(self, context: &Context) -> CommandResult {
        match self {
            Self::Code(0) => Ok(Exit::OK),
            Self::Code(code) => {
                context
                    .printer
                    .note(format!("the job ended with exit code {code}"));
                Ok(Exit(code))
            }
            Self::Signal(number, name) => {
                context
                    .printer
                    .note(format!("the job was ended by signal {name}"));
                Ok(Exit(128_u8.saturating_add(number)))
            }
            Self::Failed(reason) => Err(CommandError::failed("the job failed")
                .cause(reason)
                .hint("`nex logs` shows what it wrote")),
        }
    }
}

/// The number of a signal, of its number or its name.
fn signal_number(text: &str) -> Option<u8> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    Some(match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "TRAP" => 5,
        "ABRT" => 6,
        "FPE" => 8,
        "KILL" => 9,
        "SEGV" => 11,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        number => return number.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: serde_json::Value) -> Outcome {
        let mut event = serde_json::json!({
            "id": "w", "namespace": "default", "workload_type": "native",
        });
        event
            .as_object_mut()
            .unwrap()
            .extend(json.as_object().unwrap().clone());
        Outcome::of_event(&serde_json::from_value(event).unwrap())
    }

    fn summary(lifecycle: &str, state: &str, metadata: serde_json::Value) -> Option<Outcome> {
        let summary = serde_json::from_value(serde_json::json!({
            "id": "w", "name": "job", "runtime": "--", "start_time": "", "tags": {},
            "workload_lifecycle": lifecycle, "workload_state": state,
            "workload_type": "native", "metadata": metadata,
        }));
        Outcome::of_summary(&summary.unwrap())
    }

    #[test]
    fn an_event_tells_how_a_job_ended() {
        for (json, outcome) in [
            (serde_json::json!({}), Outcome::Code(0)),
            (
                serde_json::json!({"metadata": {"exit_code": "3"}}),
                Outcome::Code(3),
            ),
            (
                serde_json::json!({"metadata": {"signal": "SIGKILL"}}),
                Outcome::Signal(9, "SIGKILL".into()),
            ),
            // Go tells only this.
            (
                serde_json::json!({"error": {"code": "7", "message": ""}}),
                Outcome::Code(7),
            ),
            (
                serde_json::json!({"error": {"code": "-1", "message": "SYSKILL"}}),
                Outcome::Failed("SYSKILL".into()),
            ),
        ] {
            assert_eq!(event(json.clone()), outcome, "{json}");
        }
    }

    #[test]
    fn a_list_tells_of_an_end_only_when_it_has_come() {
        let none = serde_json::json!({});
        let code = serde_json::json!({"exit_code": "2"});
        let error = serde_json::json!({"error": "no such file"});

        assert_eq!(summary("job", "running", none.clone()), None);
        assert_eq!(
            summary("job", "stopped", none.clone()),
            Some(Outcome::Code(0))
        );
        assert_eq!(summary("job", "error", code), Some(Outcome::Code(2)));
        let failed = Outcome::Failed("no such file".into());
        assert_eq!(summary("job", "error", error), Some(failed));
        assert_eq!(summary("service", "error", none), None);
    }

    #[test]
    fn a_signal_becomes_an_exit_code_as_in_a_shell() {
        assert_eq!(signal_number("SIGTERM"), Some(15));
        assert_eq!(signal_number("9"), Some(9));
        assert_eq!(signal_number("odd"), None);
    }
}
