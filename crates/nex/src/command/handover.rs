//! From an old workload to a new one, with no moment without either.
//!
//! A function needs no more than that order: its start is answered when its subscription is live,
//! and its stop answers what it has taken. A program says nothing when it is ready. If NATS micro
//! services were there before, the new program is ready when an instance more of them answers; it
//! gets [`SERVICE_LIMIT`] for that. Else it has to stay up for [`STEADY`]. A new program that
//! does not stay up is stopped, and the old one stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use nex_client::{Client, ClientError, Placed};
use nex_nats::request_many::{Gather, Step};
use nex_protocol::{Lifecycle, WorkloadId, WorkloadState, WorkloadSummary};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::fault;
use crate::error::CommandError;

/// How long a new instance of a micro service may take to answer.
const SERVICE_LIMIT: Duration = Duration::from_secs(3);

/// How long a new program has to stay up where nothing else tells that it is ready.
const STEADY: Duration = Duration::from_secs(1);

/// How often the new program is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// How long the answers to one `$SRV.PING` are gathered.
const PING_WINDOW: Duration = Duration::from_millis(150);

/// How long an old workload may take to end.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// The micro service that every node is.
const NODE_SERVICE: &str = "nexnode";

/// Micro services: the name of each instance, by its id.
type Services = BTreeMap<String, String>;

/// What there was before the new workload was started.
#[derive(Debug)]
pub(super) struct Handover {
    lifecycle: Lifecycle,
    services: Services,
}

impl Handover {
    /// Looks at what there is before a workload of that lifecycle is started.
    pub(super) async fn look(client: &Client, lifecycle: Lifecycle) -> Result<Self, CommandError> {
        let services = if lifecycle == Lifecycle::Service {
            services(client).await?
        } else {
            Services::new()
        };
        Ok(Self {
            lifecycle,
            services,
        })
    }

    /// Waits until the new workload is ready. One that does not stay up is stopped.
    pub(super) async fn ready(&self, client: &Client, placed: &Placed) -> Result<(), CommandError> {
        if self.lifecycle != Lifecycle::Service {
            return Ok(());
        }
        let ready = ready(client, placed, &self.services).await;
        if ready.is_err() {
            client.stop(&placed.id, Some(STOP_WAIT)).await.ok();
        }
        ready
    }
}

/// An old workload that was not stopped.
#[derive(Debug)]
pub(super) enum NotStopped {
    /// Asking failed.
    Client(ClientError),
    /// It did not end in time; what its node says.
    Lives(String),
}

impl NotStopped {
    /// Adds why.
    pub(super) fn explain(self, told: CommandError) -> CommandError {
        match self {
            Self::Client(error) => told.because(&error),
            Self::Lives(message) => told.cause(message),
        }
    }
}

/// Stops the old workload. One that has ended meanwhile will do.
pub(super) async fn stop_old(client: &Client, id: &WorkloadId) -> Result<(), NotStopped> {
    match client.stop(id, Some(STOP_WAIT)).await {
        Ok(response) if response.stopped => Ok(()),
        Ok(response) => Err(NotStopped::Lives(response.message)),
        Err(ClientError::WorkloadNotFound { missing, .. }) if missing.is_empty() => Ok(()),
        Err(error) => Err(NotStopped::Client(error)),
    }
}

/// Waits until the new program answers, or has stayed up.
async fn ready(client: &Client, placed: &Placed, before: &Services) -> Result<(), CommandError> {
    let own = own_services(client, placed).await;
    let watched = before.values().any(|name| !own.contains(name));
    let limit = if watched { SERVICE_LIMIT } else { STEADY };
    let deadline = Instant::now() + limit;
    loop {
        let next_look = Instant::now() + LOOK_EVERY;
        still_up(client, placed).await?;
        if watched {
            let now = services(client).await?;
            if now
                .iter()
                .any(|(id, name)| !before.contains_key(id) && !own.contains(name))
            {
                return Ok(());
            }
        }
        if Instant::now() >= deadline {
            return Ok(());
        }
        sleep_until(next_look.min(deadline)).await;
    }
}

async fn still_up(client: &Client, placed: &Placed) -> Result<(), CommandError> {
    let filter = [placed.id.to_string()];
    let answer = client.list(&filter).await.map_err(fault::client)?;
    let Some((_, summary)) = answer.workloads.first() else {
        // Nobody who could know may have answered; that is no sign of its end.
        return Ok(());
    };
    if is_up(summary) {
        return Ok(());
    }
    let reason = summary.metadata.get("error").cloned();
    Err(CommandError::failed(format!(
        "the new `{}` did not stay up; the old one was not touched",
        placed.name
    ))
    .cause(reason.unwrap_or_default())
    .hint(format!("what it wrote: `nex logs {}`", placed.id)))
}

/// Whether a service runs, and has run since its start. One that fails and is started again runs
/// most of the time too; only its restarts tell.
fn is_up(summary: &WorkloadSummary) -> bool {
    let down = matches!(
        summary.workload_state,
        WorkloadState::Error | WorkloadState::Stopped | WorkloadState::Stopping
    );
    let restarts = summary.metadata.get("restarts").map(String::as_str);
    !down && matches!(restarts, None | Some("0"))
}

/// The names under which Nex itself answers: they say nothing about workloads.
async fn own_services(client: &Client, placed: &Placed) -> BTreeSet<String> {
    let mut own = BTreeSet::from([NODE_SERVICE.to_owned()]);
    if let Some(node) = &placed.node
        && let Ok(info) = client.node_info(node).await
    {
        let nexlets = info.node_agent_summaries.into_iter();
        own.extend(nexlets.map(|nexlet| nexlet.agent_summary.name));
    }
    own
}

/// What is wanted of the answer to `$SRV.PING`.
#[derive(Deserialize)]
struct Pong {
    id: String,
    name: String,
}

/// The micro services that answer.
async fn services(client: &Client) -> Result<Services, CommandError> {
    let gather = Gather::request(client.nats(), "$SRV.PING", Bytes::new(), None).await;
    let mut gather = gather
        .map_err(|error| CommandError::failed("failed to look for services").because(&error))?;
    let deadline = Instant::now() + PING_WINDOW;
    let mut found = Services::new();
    while let Step::Reply(message) = gather.next(deadline).await {
        if let Ok(pong) = serde_json::from_slice::<Pong>(&message.payload) {
            found.insert(pong.id, pong.name);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(lifecycle: &str, state: &str, restarts: &str) -> WorkloadSummary {
        serde_json::from_value(serde_json::json!({
            "id": "w", "name": "n", "runtime": "--", "start_time": "", "tags": {},
            "workload_lifecycle": lifecycle, "workload_state": state,
            "workload_type": "native", "metadata": {"restarts": restarts},
        }))
        .unwrap()
    }

    #[test]
    fn a_service_that_was_started_again_is_not_up() {
        assert!(is_up(&summary("service", "running", "0")));
        assert!(!is_up(&summary("service", "running", "1")));
        assert!(!is_up(&summary("service", "error", "0")));
    }
}
