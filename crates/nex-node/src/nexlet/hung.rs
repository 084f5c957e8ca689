//! Notices that the process of a nexlet is there and does nothing any more.

use std::time::Instant;

use nex_protocol::{NexletId, Subject, registration::NexletSummary};

use crate::{
    hearing::Hearing,
    shared::Shared,
    timeouts::{HUNG_LOOK_PERIOD, HUNG_PING_LIMIT, REGISTER_LIMIT},
};

use super::health::DEGRADE_LIMIT;

/// The limit for a nexlet's registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Prompt,
    Unhurried,
}

/// Resolves with the reason when a nexlet that was started just now is hung: its heartbeats are missing,
/// and it answers no ping. A node without a connection to NATS cannot tell, nor can one that was
/// suspended itself, nor one whose server hangs: round trips and the ping decide. Cancel safe.
pub(super) async fn hung(shared: &Shared, id: &NexletId, arrival: Arrival) -> String {
    let started = Instant::now();
    let mut hearing = Hearing::begin(shared);
    loop {
        tokio::time::sleep(HUNG_LOOK_PERIOD).await;
        let now = Instant::now();
        let heard_for = hearing.lasts(shared, now);
        let Some(silent) = shared.registry.silent_for(now, id) else {
            if arrival == Arrival::Prompt && heard_for.min(now - started) > REGISTER_LIMIT {
                return format!("not registered after {}s", REGISTER_LIMIT.as_secs());
            }
            continue;
        };
        let suspect = silent.min(heard_for) > DEGRADE_LIMIT;
        if suspect && !answers(shared, id, &mut hearing).await {
            let waited = HUNG_PING_LIMIT.as_secs();
            return format!(
                "no heartbeat for {}s, then no answer to a ping for {waited}s",
                silent.as_secs()
            );
        }
    }
}

/// Pings a nexlet until it answers, a heartbeat comes, or the time for it is over. Where NATS does not
/// answer the node itself, the nexlet counts as one that answers.
async fn answers(shared: &Shared, id: &NexletId, hearing: &mut Hearing) -> bool {
    let subject = Subject::NexletPing(shared.id.clone(), id.clone()).to_string();
    let asked = Instant::now();
    while asked.elapsed() < HUNG_PING_LIMIT {
        if nex_nats::barrier(&shared.client).await.is_err() {
            return true;
        }
        let ping = async_nats::Request::new()
            .payload("{}".into())
            .timeout(Some(HUNG_LOOK_PERIOD));
        let answer = shared.client.send_request(subject.clone(), ping).await;
        let answer = answer.ok().map(|answer| answer.payload);
        if answer.is_some_and(|body| serde_json::from_slice::<NexletSummary>(&body).is_ok()) {
            return true;
        }
        let now = Instant::now();
        let silent = shared.registry.silent_for(now, id);
        if silent.is_none_or(|silent| silent <= DEGRADE_LIMIT)
            || hearing.lasts(shared, now) <= DEGRADE_LIMIT
        {
            return true;
        }
        // Nobody listens: the answer came at once, and the nexlet may be about to connect again.
        tokio::time::sleep(HUNG_LOOK_PERIOD).await;
    }
    false
}
