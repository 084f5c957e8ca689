//! `UNDEPLOY`: passes the stop to the node's nexlets and says how it went.
//!
//! Every node answers, in the shape of a success, because a Go client waits for all of them. Only
//! the answer of the node that made the id says for sure that there is no such workload.

use std::time::{Duration, Instant};

use async_nats::Message;
use bytes::Bytes;
use nex_protocol::{
    Namespace, Subject, WorkloadId,
    error::WORKLOAD_NOT_FOUND,
    workload::{StopWorkloadRequest, StopWorkloadResponse},
};

use super::answer::{Answer, Refusal, check_namespace, decode};
use crate::{
    nexlet::{Heard, Roll, gather},
    shared::Shared,
    timeouts::{MAX_STOP_WAIT, STOP_LIMIT, STOP_MARGIN},
};

pub(super) async fn stop(
    shared: &Shared,
    namespace: Namespace,
    id: WorkloadId,
    body: &Bytes,
) -> Result<Answer, Refusal> {
    let request: StopWorkloadRequest = decode(body, "stop workload request")?;
    check_namespace(&namespace, &request.namespace)?;

    let ours = id.minted_by(&shared.id);
    // To say for sure that there is no such workload takes all nexlets, not only those that were
    // heard of lately.
    let roll = if ours {
        Roll::new(shared.registry.ids())
    } else {
        Roll::new(shared.registry.living(Instant::now()))
    };
    let mut said = None;
    let missing = gather(
        &shared.client,
        Subject::StopWorkload(shared.id.clone(), id.clone()),
        body.clone(),
        roll,
        limit(&request),
        |message| match read(message) {
            Some(response) if response.stopped => {
                said = Some(response);
                Heard::Enough
            }
            // The owner could not stop it; the others do not know it.
            Some(response) => {
                said = Some(response);
                Heard::Answer
            }
            None => Heard::Answer,
        },
    )
    .await
    .map_err(|error| Refusal::internal("failed to publish stop workload request", &error))?;

    let mut response = said.unwrap_or_else(|| StopWorkloadResponse {
        id: String::new(),
        message: if missing > 0 && ours {
            format!("{missing} of the node's nexlets did not answer in time")
        } else {
            WORKLOAD_NOT_FOUND.to_owned()
        },
        stopped: false,
        workload_type: String::new(),
    });
    response.id = id.into();
    Answer::json(&response)
}

/// How long the nexlets may take.
fn limit(request: &StopWorkloadRequest) -> Duration {
    request
        .wait
        .map_or(STOP_LIMIT, |wait| wait.0.min(MAX_STOP_WAIT) + STOP_MARGIN)
}

/// What the workload's own nexlet says; `None` from any other.
fn read(message: &Message) -> Option<StopWorkloadResponse> {
    let response: StopWorkloadResponse = serde_json::from_slice(&message.payload).ok()?;
    let owners = response.stopped
        || !(response.message.is_empty() || response.message == WORKLOAD_NOT_FOUND);
    owners.then_some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> Message {
        Message {
            subject: "s".into(),
            reply: None,
            payload: body.to_owned().into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn only_the_owner_s_answer_is_one() {
        let stopped = r#"{"id":"w","message":"","stopped":true,"workload_type":"t"}"#;
        let unable = r#"{"id":"w","message":"still alive","stopped":false,"workload_type":"t"}"#;
        let not_mine =
            r#"{"id":"w","message":"workload not found","stopped":false,"workload_type":"t"}"#;

        assert!(read(&message(stopped)).unwrap().stopped);
        assert_eq!(read(&message(unable)).unwrap().message, "still alive");
        for other in [not_mine, "", "null", "{}"] {
            assert_eq!(read(&message(other)), None, "{other}");
        }
    }

    #[test]
    fn the_nexlets_get_the_time_that_the_caller_waits() {
        let request = |wait: Option<&str>| StopWorkloadRequest {
            namespace: Namespace::default_tenant(),
            wait: wait.map(|wait| wait.parse().unwrap()),
        };

        assert_eq!(limit(&request(None)), STOP_LIMIT);
        assert_eq!(
            limit(&request(Some("5s"))),
            Duration::from_secs(5) + STOP_MARGIN
        );
        assert_eq!(limit(&request(Some("100h"))), MAX_STOP_WAIT + STOP_MARGIN);
    }
}
