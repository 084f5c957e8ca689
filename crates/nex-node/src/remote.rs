//! Remote nexlets of Go over restarts of the node. They register once in their life, so the node keeps
//! their registrations; nexlets of ours register again.

use std::{sync::Arc, time::Instant};

use futures_util::future::join_all;
use nex_protocol::{
    NexletId, Subject,
    registration::{NexletHeartbeat, NexletSummary, RegisterRequest},
};
use nex_schema::Schema;
use nexlet::Chain;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    heartbeat, nexlet::Registration, shared::Shared, state::StateError, timeouts::LIST_LIMIT,
};

/// Takes in the nexlets that were there before the node was started again.
pub(crate) async fn restore(shared: &Shared) -> Result<Vec<NexletId>, StateError> {
    let mut restored = Vec::new();
    for (id, request) in shared.store.load_nexlets().await? {
        let schema = match Schema::compile(&request.start_request_schema) {
            Ok(schema) => schema,
            Err(error) => {
                warn!(nexlet = %id, error = %Chain(&error), "ignored a remembered nexlet");
                continue;
            }
        };
        info!(nexlet = %id, workload_type = request.register_type, "remote nexlet is remembered");
        let registration = Registration {
            id: id.clone(),
            request,
            schema,
        };
        shared.registry.remember(Instant::now(), registration);
        shared.workloads.remembered(&id);
        restored.push(id);
    }
    Ok(restored)
}

/// Asks remembered nexlets how they are, so that they take work before their next heartbeats. Until
/// `cancel`.
pub(crate) async fn greet(shared: Arc<Shared>, nexlets: Vec<NexletId>, cancel: CancellationToken) {
    let greeting = join_all(nexlets.iter().map(|id| greet_one(&shared, id)));
    cancel.run_until_cancelled(greeting).await;
}

async fn greet_one(shared: &Shared, id: &NexletId) {
    let subject = Subject::NexletPing(shared.id.clone(), id.clone()).to_string();
    let ping = async_nats::Request::new()
        .payload("{}".into())
        .timeout(Some(LIST_LIMIT));
    let Ok(answer) = shared.client.send_request(subject, ping).await else {
        // It may be gone: it is, if no heartbeat comes.
        return;
    };
    if let Ok(summary) = serde_json::from_slice::<NexletSummary>(&answer.payload) {
        let heartbeat = NexletHeartbeat {
            data: String::new(),
            ended: Vec::new(),
            summary,
        };
        heartbeat::take(shared, id.clone(), heartbeat).await;
    }
}

/// Keeps the registration of a remote nexlet that does not register again.
pub(crate) async fn keep(shared: &Shared, id: &NexletId, request: &RegisterRequest) {
    if request.tells_ends || shared.registry.is_planned(id) {
        return;
    }
    if let Err(error) = shared.store.put_nexlet(id, request).await {
        let error = Chain(&error);
        warn!(nexlet = %id, %error, "a remote nexlet will be forgotten when the node is restarted");
    }
}

/// Forgets a remote nexlet that is gone.
pub(crate) async fn forget(shared: &Shared, id: &NexletId, request: &RegisterRequest) {
    if request.tells_ends {
        return;
    }
    if let Err(error) = shared.store.remove_nexlet(id).await {
        warn!(nexlet = %id, error = %Chain(&error), "failed to forget a remote nexlet");
    }
}
