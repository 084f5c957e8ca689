//! Draining: no new workloads from now on, and an end of the others after the delay.

use std::{sync::Arc, time::Duration};

use nex_nats::service::Request;
use nex_protocol::{
    ErrorCode, GoDuration,
    control::{LameduckRequest, LameduckResponse},
    registration::NexletState,
};
use tokio_util::task::TaskTracker;

use super::{
    end::End,
    reply::{own_header, send, send_error, send_unreadable},
    shared::Shared,
};
use crate::contract::Nexlet;

/// Begins to drain and answers at once; workloads run on until the delay is over.
pub(super) async fn answer<N: Nexlet>(
    shared: Arc<Shared<N>>,
    tasks: TaskTracker,
    request: Request,
) {
    let order: LameduckRequest = match serde_json::from_slice(request.payload()) {
        Ok(order) => order,
        Err(error) => return send_unreadable(&request, &error).await,
    };
    let delay = match GoDuration::parse_go(&order.delay) {
        Ok(delay) => delay,
        Err(error) => {
            let text = error.to_string();
            let body = LameduckResponse {
                message: text.clone(),
                success: false,
            };
            return send_error(&request, ErrorCode::BadRequest, &text, &body).await;
        }
    };
    shared.set_state(NexletState::Lameduck);
    tasks.spawn(shut_down_after(Arc::clone(&shared), delay.0));
    let body = LameduckResponse {
        message: String::new(),
        success: true,
    };
    send(&request, Some(own_header(&shared)), &body).await;
}

async fn shut_down_after<N: Nexlet>(shared: Arc<Shared<N>>, delay: Duration) {
    tokio::select! {
        biased;
        // The runner shuts down by itself.
        () = shared.ended.cancelled() => {}
        () = tokio::time::sleep(delay) => shared.nexlet.shutdown(End::GRACE).await,
    }
}
