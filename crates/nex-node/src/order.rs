//! Starts as the node gives them to its nexlets.

use std::{sync::Arc, time::Instant};

use async_nats::{Message, RequestError, RequestErrorKind};
use bytes::Bytes;
use nex_credentials::MintError;
use nex_nats::{RETURN_PAUSE, RETURN_PERIOD};
use nex_protocol::{
    Namespace, NexletId, StartWorkloadRequest, Subject, WorkloadId,
    workload::{
        NexletStartWorkloadRequest, StartWorkloadResponse, StopWorkloadRequest,
        StopWorkloadResponse,
    },
};
use tracing::warn;

use crate::{
    nexlet::{Heard, Roll, absence, gather},
    shared::Shared,
    timeouts::{START_LIMIT, STOP_LIMIT},
};

/// Why a nexlet did not answer a start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    /// There is nothing to start it with.
    #[error("failed to mint credentials for the workload")]
    Mint(#[from] MintError),
    /// It cannot be written down.
    #[error("failed to encode the start")]
    Encode(#[from] serde_json::Error),
    /// The nexlet is not there, or silent.
    #[error("failed to ask nexlet `{nexlet}`")]
    Ask {
        nexlet: NexletId,
        /// Whether it is sure that it does not run.
        off: bool,
        #[source]
        source: RequestError,
    },
    /// The nexlet stopped answering, and may have started it.
    #[error("nexlet `{nexlet}` does not answer any more")]
    Absent { nexlet: NexletId },
    /// The process of the nexlet ended before it answered; what it had started ends with it.
    #[error("nexlet `{nexlet}` ended while it started the workload")]
    Ended { nexlet: NexletId },
}

impl OrderError {
    /// Returns whether the nexlet may have started it after all.
    pub(crate) fn is_unanswered(&self) -> bool {
        match self {
            Self::Ask { source, .. } => source.kind() == RequestErrorKind::TimedOut,
            Self::Absent { .. } => true,
            Self::Mint(_) | Self::Encode(_) | Self::Ended { .. } => false,
        }
    }
}

/// An answer to a start that does not say that the workload runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStarted {
    /// The nexlet refuses.
    #[error("{0}")]
    Refused(String),
    /// The answer is no answer to a start, and perhaps not the nexlet's.
    #[error("failed to read the nexlet's answer to the start")]
    Unreadable(#[source] serde_json::Error),
}

/// Reads the answer to a start.
pub(crate) fn started(answer: &Message) -> Result<StartWorkloadResponse, NotStarted> {
    match nex_nats::read_error(answer) {
        Some((_, text)) => Err(NotStarted::Refused(text)),
        None => serde_json::from_slice(&answer.payload).map_err(NotStarted::Unreadable),
    }
}

/// A start with new credentials.
pub(crate) fn make(
    shared: &Shared,
    id: &WorkloadId,
    request: StartWorkloadRequest,
    existing: bool,
) -> Result<NexletStartWorkloadRequest, MintError> {
    let namespace = &request.namespace;
    Ok(NexletStartWorkloadRequest {
        workload_creds: shared.minter.workload(namespace, id)?,
        namespace_creds: Some(shared.minter.namespace(namespace)?),
        existing,
        request,
    })
}

/// Gives a start to a nexlet, and waits for its answer: a yes or a no.
///
/// A nexlet that is not there is not bid with until it is heard of. A new start that is not
/// answered in time, or whose nexlet stops answering, is called off.
pub(crate) async fn give(
    shared: &Arc<Shared>,
    nexlet: &NexletId,
    id: &WorkloadId,
    request: StartWorkloadRequest,
    existing: bool,
) -> Result<Message, OrderError> {
    let namespace = request.namespace.clone();
    let order = serde_json::to_vec(&make(shared, id, request, existing)?)?;
    let subject = Subject::StartWorkload(shared.id.clone(), nexlet.clone(), id.clone());
    let asking = ask(shared, subject.to_string(), order.into());
    let life = shared.registry.registration(nexlet);
    let asked = tokio::select! {
        biased;
        asked = asking => asked,
        () = shared.registry.ended(nexlet, life) => {
            return Err(OrderError::Ended { nexlet: nexlet.clone() });
        }
        () = absence(shared, nexlet) => {
            if !existing {
                call_off_without(shared, namespace, id.clone(), nexlet).await;
            }
            return Err(OrderError::Absent { nexlet: nexlet.clone() });
        }
    };
    let source = match asked {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    let off = match source.kind() {
        RequestErrorKind::NoResponders => {
            shared.registry.unreachable(nexlet);
            true
        }
        // What is handed back may run by now, and is to: a list tells.
        _ if existing => false,
        RequestErrorKind::TimedOut | RequestErrorKind::Other => {
            call_off(shared, namespace, id.clone()).await
        }
        // It was not sent.
        _ => true,
    };
    Err(OrderError::Ask {
        nexlet: nexlet.clone(),
        off,
        source,
    })
}

/// Sends a start. After a restart of NATS the nexlet may not be back yet: then it is tried again.
async fn ask(shared: &Shared, subject: String, order: Bytes) -> Result<Message, RequestError> {
    loop {
        let lost_lately = shared.losses.was_lost_within(RETURN_PERIOD);
        let order = async_nats::Request::new()
            .payload(order.clone())
            .timeout(Some(START_LIMIT));
        match shared.client.send_request(subject.clone(), order).await {
            Err(error) if lost_lately && error.kind() == RequestErrorKind::NoResponders => {
                tokio::time::sleep(RETURN_PAUSE).await;
            }
            answer => return answer,
        }
    }
}

/// Returns whether a message is a nexlet's answer to a stop, a refusal included.
pub(crate) fn is_stop_answer(message: &Message) -> bool {
    nex_nats::read_error(message).is_some()
        || serde_json::from_slice::<StopWorkloadResponse>(&message.payload).is_ok()
}

/// Stops what may have started after all, although it was said that it did not. Resolves when the
/// nexlets have answered, or when it takes too long, and answers whether it is sure that it is off;
/// where it is not, it is stopped when a list shows it.
pub(crate) async fn call_off(shared: &Shared, namespace: Namespace, id: WorkloadId) -> bool {
    let living = shared.registry.living(Instant::now());
    call_off_among(shared, namespace, id, living).await
}

/// Calls off a start that was given to a nexlet which does not answer. That nexlet is told too, and is
/// not waited for: the workload is stopped as soon as a list shows it.
async fn call_off_without(
    shared: &Shared,
    namespace: Namespace,
    id: WorkloadId,
    absent: &NexletId,
) {
    let mut living = shared.registry.living(Instant::now());
    living.retain(|nexlet| nexlet != absent);
    call_off_among(shared, namespace, id, living).await;
}

async fn call_off_among(
    shared: &Shared,
    namespace: Namespace,
    id: WorkloadId,
    nexlets: Vec<NexletId>,
) -> bool {
    let subject = Subject::StopWorkload(shared.id.clone(), id.clone());
    let stop = StopWorkloadRequest {
        namespace: namespace.clone(),
        wait: None,
        purge: false,
    };
    let Ok(stop) = serde_json::to_vec(&stop) else {
        return false;
    };
    // Until it is sure that it does not run.
    shared.workloads.unwanted(&id, &namespace);
    let mut stopped = false;
    let read = |message: &Message| {
        let response: Result<StopWorkloadResponse, _> = serde_json::from_slice(&message.payload);
        match response {
            Ok(response) if response.stopped => {
                stopped = true;
                Heard::Enough
            }
            _ if is_stop_answer(message) => Heard::Answer,
            _ => Heard::Aside,
        }
    };
    let roll = Roll::new(nexlets);
    let gathered = gather(&shared.client, subject, stop.into(), roll, STOP_LIMIT, read).await;
    match gathered {
        Ok(0) if stopped => {
            shared.workloads.no_longer_unwanted(&id);
            return true;
        }
        Ok(0) => {}
        Ok(missing) => warn!(workload = %id, missing, "a start may not be called off"),
        Err(error) => warn!(workload = %id, %error, "failed to call off a start"),
    }
    false
}
