//! `UNDEPLOY`: passes the stop to the node's nexlets and says how it went.
//!
//! Every node answers, in the shape of a success, because a Go client waits for all of them. Only
//! the answer of the node that made the id says for sure that there is no such workload.

use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::Message;
use bytes::Bytes;
use nex_protocol::{
    Namespace, NexletId, Subject, WorkloadId,
    error::WORKLOAD_NOT_FOUND,
    workload::{NO_NEXLET, StopWorkloadRequest, StopWorkloadResponse},
};

use nexlet::Chain;

use super::answer::{Answer, Refusal, check_namespace, decode};
use crate::{
    nexlet::{Heard, Roll, absence, gather},
    order,
    shared::Shared,
    state::StateError,
    timeouts::{MAX_STOP_WAIT, STOP_LIMIT, STOP_MARGIN},
    workloads::Standing,
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
    let holder = shared.workloads.get(&id).and_then(|known| known.holder);
    let gathering = gather(
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
            None if order::is_stop_answer(message) => Heard::Answer,
            None => Heard::Aside,
        },
    );
    // Only the nexlet that has the workload can stop it.
    let (missing, nexlet_ended) = tokio::select! {
        biased;
        gathered = gathering => match gathered {
            Ok(missing) => (missing, false),
            Err(error) => {
                return Err(Refusal::internal("failed to publish stop workload request", &error));
            }
        },
        ended = lost(shared, holder.as_ref()) => (1, ended),
    };

    let mut response = match said {
        Some(response) => response,
        None => unheard(shared, &id, &request, missing, nexlet_ended),
    };
    if response.stopped
        && let Err(error) = forget(shared, &id, &response.workload_type).await
    {
        let unwritten = format!("it is stopped, but may come back: {}", Chain(&error));
        response.message = match response.message.as_str() {
            "" => unwritten,
            nexlets => format!("{nexlets}; {unwritten}"),
        };
    }
    response.id = id.into();
    Answer::json(&response)
}

/// Resolves when a nexlet will not answer: with true when its process has ended, and with false when it
/// answers nothing any more. Cancel safe.
async fn lost(shared: &Shared, nexlet: Option<&NexletId>) -> bool {
    let Some(nexlet) = nexlet else {
        return pending().await;
    };
    let life = shared.registry.registration(nexlet);
    tokio::select! {
        () = shared.registry.ended(nexlet, life) => true,
        () = absence(shared, nexlet) => false,
    }
}

/// Answer for a workload that no nexlet says it has. With `nexlet_ended` the process of its nexlet
/// ended during the stop.
fn unheard(
    shared: &Shared,
    id: &WorkloadId,
    request: &StopWorkloadRequest,
    missing: usize,
    nexlet_ended: bool,
) -> StopWorkloadResponse {
    let said = |stopped: bool, message: String, workload_type: &str| StopWorkloadResponse {
        id: String::new(),
        message,
        stopped,
        workload_type: workload_type.to_owned(),
    };
    let known = shared.workloads.get(id).filter(|workload| {
        let owner = &workload.record.request.namespace;
        request.namespace.is_system() || request.namespace == *owner
    });
    let Some(workload) = known else {
        return if missing > 0 && id.minted_by(&shared.id) {
            let message = format!("{missing} of the node's nexlets did not answer in time");
            said(false, message, "")
        } else {
            said(false, WORKLOAD_NOT_FOUND.to_owned(), "")
        };
    };
    let workload_type = &workload.record.request.workload_type;
    if nexlet_ended || matches!(workload.standing, Standing::HandedOver(_)) {
        shared
            .workloads
            .unwanted(id, &workload.record.request.namespace);
        shared.forget(id);
        let message = "it is being taken up again, and is stopped as soon as it runs";
        return said(false, message.to_owned(), workload_type);
    }
    match &workload.record.remote_nexlet {
        Some(nexlet) if missing > 0 || !shared.surely_gone_or_heard(nexlet) => {
            let message = format!(
                "{NO_NEXLET} `{nexlet}`, which is not heard of and may still run it: stop it again when the \
                 nexlet is back"
            );
            said(false, message, workload_type)
        }
        None if missing > 0 => {
            let message = match &workload.holder {
                Some(nexlet) if shared.registry.is_there(Instant::now(), nexlet) => format!(
                    "{NO_NEXLET} `{nexlet}`, which may still run it: a nexlet that hangs is started \
                     again within a minute, and the workload with it; stop it again then"
                ),
                _ => format!("{missing} of the node's nexlets did not answer in time"),
            };
            said(false, message, workload_type)
        }
        // What was to be taken up again is not, from now on; and should a nexlet that is gone come
        // back with it, it is told to stop it.
        _ => {
            shared
                .workloads
                .unwanted(id, &workload.record.request.namespace);
            said(true, String::new(), workload_type)
        }
    }
}

/// Resolves when it is sure that the workload is not taken up again.
async fn forget(shared: &Shared, id: &WorkloadId, workload_type: &str) -> Result<(), StateError> {
    match shared.workloads.ended(id) {
        Some(record) => {
            let workload_type = &record.request.workload_type;
            let removed = shared.store.remove(id, workload_type).await;
            if removed.is_err() {
                // It is tried again and again.
                shared.forget_tx.send(Arc::clone(&record)).ok();
            }
            removed
        }
        // The nexlet's report of the end came first, and its removal may be under way, or have failed.
        None => shared.store.remove(id, workload_type).await,
    }
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
            purge: false,
        };

        assert_eq!(limit(&request(None)), STOP_LIMIT);
        assert_eq!(
            limit(&request(Some("5s"))),
            Duration::from_secs(5) + STOP_MARGIN
        );
        assert_eq!(limit(&request(Some("100h"))), MAX_STOP_WAIT + STOP_MARGIN);
    }
}
