//! Heartbeats: at once, again soon in case the node was not listening yet, then regularly, and
//! whenever something changed.

use std::{sync::Arc, time::Duration};

use async_nats::Message;
use futures_util::StreamExt as _;
use nex_protocol::{
    NODE_HEADER, NodeId, Subject,
    registration::{NexletHeartbeat, NexletState},
};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::shared::Shared;
use crate::contract::Nexlet;

/// When the first heartbeats are sent, after the start.
const FIRST: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
];
/// How often the later ones are sent. A Go node calls a nexlet degraded after 10 s.
const INTERVAL: Duration = Duration::from_secs(5);
/// The shortest time between two heartbeats that changes cause: a burst of them is one.
const SPACING: Duration = Duration::from_millis(50);
/// How long one may take while the connection is down; the next one says the same.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// The same where the nexlet stops: workloads have little time, and must not lose it to a connection
/// that is down.
const STOPPING_TIMEOUT: Duration = Duration::from_millis(500);

/// Beats until the runner ends.
pub(super) async fn beat<N: Nexlet>(shared: Arc<Shared<N>>) {
    let mut heard = match shared
        .host
        .client()
        .subscribe(format!("{}.*", shared.heard))
        .await
    {
        Ok(heard) => heard.left_stream(),
        Err(error) => {
            // Ends are then told some times more.
            debug!(%error, "the node cannot say what it has heard");
            futures_util::stream::pending().right_stream()
        }
    };
    let start = Instant::now();
    let mut first = FIRST.iter().map(|after| start + *after);
    let mut due = first.next().unwrap_or(start);
    loop {
        tokio::select! {
            biased;
            () = shared.ended.cancelled() => return,
            Some(message) = heard.next() => {
                if let Some(number) = confirmed(&message, shared.host.node()) {
                    shared.host.ends_are_heard(number);
                }
                continue;
            }
            () = sleep_until(due) => {
                due = first.next().unwrap_or_else(|| Instant::now() + INTERVAL);
            }
            () = shared.host.wait_changed() => {}
        }
        once(&shared).await;
        tokio::time::sleep(SPACING).await;
    }
}

/// The number of the heartbeat whose ends a message confirms; `None` where the message is no
/// confirmation of this node. Others write to the reply subject of a heartbeat too: the server where
/// nobody is subscribed to heartbeats, and a stream that keeps them.
fn confirmed(message: &Message, node: &NodeId) -> Option<u64> {
    let headers = message.headers.as_ref()?;
    let sender = headers.get(NODE_HEADER)?.as_str();
    if message.status.is_some() || sender != node.as_str() {
        return None;
    }
    message.subject.rsplit('.').next()?.parse().ok()
}

/// Sends one heartbeat; one that cannot be sent is left out.
pub(super) async fn once<N: Nexlet>(shared: &Shared<N>) {
    within(SEND_TIMEOUT, shared).await;
}

/// Says that the nexlet stops. When this returns, everything that is published afterwards comes
/// after it.
pub(super) async fn stopping<N: Nexlet>(shared: &Shared<N>) {
    shared.set_state(NexletState::Stopping);
    within(STOPPING_TIMEOUT, shared).await;
}

async fn within<N: Nexlet>(limit: Duration, shared: &Shared<N>) {
    let host = &shared.host;
    let (number, ended) = host.take_ends();
    let tells = !ended.is_empty();
    let heartbeat = NexletHeartbeat {
        data: String::new(),
        ended,
        summary: shared.summary(),
    };
    let body = serde_json::to_vec(&heartbeat).expect("a heartbeat is made of texts and numbers");
    let subject = Subject::NexletHeartbeat(host.node().clone(), host.nexlet().clone()).to_string();
    let sending = async {
        let client = host.client();
        if tells {
            let reply = format!("{}.{number}", shared.heard);
            client.publish_with_reply(subject, reply, body.into()).await
        } else {
            client.publish(subject, body.into()).await
        }
    };
    match timeout(limit, sending).await {
        Ok(Ok(())) => return host.ends_are_sent(),
        Ok(Err(error)) => debug!(%error, "heartbeat is not sent"),
        Err(_elapsed) => debug!("heartbeat is not sent: NATS takes no messages"),
    }
    host.untake_ends(number);
}
