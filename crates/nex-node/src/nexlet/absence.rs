//! The absence of a nexlet whose answer is awaited: it has died, hangs, or has lost its connection.

use std::time::Instant;

use nex_nats::Presence;
use nex_protocol::{NexletId, Subject};

use crate::{
    shared::Shared,
    timeouts::{FOREIGN_SILENCE, OWN_SILENCE},
};

/// Resolves when a nexlet has missed several pings in a row and several heartbeats. Never resolves while
/// it answers pings or beats, nor while NATS does not answer the node itself. Cancel safe.
pub(crate) async fn absence(shared: &Shared, id: &NexletId) {
    let subject = Subject::NexletPing(shared.id.clone(), id.clone()).to_string();
    let mut pings = Presence::new(&shared.client, subject, "{}".into());
    loop {
        let answer = pings.next().await;
        if answer.is_none() && pings.is_absent() && misses_heartbeats(shared, id) {
            return;
        }
    }
}

fn misses_heartbeats(shared: &Shared, id: &NexletId) -> bool {
    let limit = match shared.registry.tells_ends(id) {
        true => OWN_SILENCE,
        false => FOREIGN_SILENCE,
    };
    let silent_for = shared.registry.silent_for(Instant::now(), id);
    silent_for.is_none_or(|silent_for| silent_for >= limit)
}
