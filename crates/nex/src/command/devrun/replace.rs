//! A second deploy of the same name: the new one has to run before the old one ends.
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
use nex_client::{Client, Placed};
use nex_nats::request_many::{Gather, Step};
use nex_protocol::{Lifecycle, WorkloadId, WorkloadState, WorkloadSummary};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::plan::Plan;
use crate::{
    command::{fault, types},
    error::CommandError,
};

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

/// What there was before the new workload.
#[derive(Debug)]
pub(super) struct Before {
    old: Vec<WorkloadId>,
    /// Whether all nodes said what they run; if not, an old one may go on unseen.
    complete: Result<(), CommandError>,
    services: Services,
    lifecycle: Lifecycle,
}

impl Before {
    /// Looks at what the plan will replace.
    pub(super) async fn look(client: &Client, plan: &Plan) -> Result<Self, CommandError> {
        let filter = [plan.name.clone()];
        let answer = client.list(&filter).await.map_err(fault::client)?;
        let complete = fault::complete(&answer.missing, &answer.failed);
        let old: Vec<WorkloadId> = answer
            .workloads
            .into_iter()
            .filter(|(_, summary)| replaces(plan, summary))
            .map(|(_, summary)| summary.id)
            .collect();
        let services = if old.is_empty() || plan.lifecycle != Lifecycle::Service {
            Services::new()
        } else {
            services(client).await?
        };
        Ok(Self {
            old,
            complete,
            services,
            lifecycle: plan.lifecycle,
        })
    }

    /// Waits until the new workload is ready, then stops the old ones and returns their ids, with
    /// an error where a node did not say whether it runs one too.
    pub(super) async fn replace(
        self,
        client: &Client,
        placed: &Placed,
    ) -> Result<(Vec<WorkloadId>, Result<(), CommandError>), CommandError> {
        if self.old.is_empty() {
            return Ok((self.old, self.complete));
        }
        if self.lifecycle == Lifecycle::Service
            && let Err(error) = ready(client, placed, &self.services).await
        {
            client.stop(&placed.id, Some(STOP_WAIT)).await.ok();
            return Err(error);
        }
        for id in &self.old {
            let failed = || {
                CommandError::failed(format!(
                    "`{}` runs, but the one that it replaces, `{id}`, was not stopped",
                    placed.name
                ))
                .hint(format!("stop it: `nex workload stop {id}`"))
            };
            match client.stop(id, Some(STOP_WAIT)).await {
                Ok(response) if response.stopped => {}
                Ok(response) => return Err(failed().cause(response.message)),
                Err(error) => return Err(failed().because(&error)),
            }
        }
        Ok((self.old, self.complete))
    }
}

/// Whether a workload is an earlier deploy of the plan.
fn replaces(plan: &Plan, summary: &WorkloadSummary) -> bool {
    summary.name == plan.name
        && types::canonical(&summary.workload_type) == types::canonical(&plan.workload_type)
        && summary.workload_lifecycle == plan.lifecycle.as_str()
        && !summary.has_ended()
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
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn replaced(name: &str, workload_type: &str, lifecycle: &str, state: &str) -> bool {
        let file = tempfile::Builder::new().suffix(".js").tempfile().unwrap();
        std::fs::write(file.path(), "(s, p) => p").unwrap();
        let file = file.path().to_str().unwrap();
        let line = [
            "nex",
            "devrun",
            file,
            "--name",
            "echo",
            "--trigger-subject",
            "echo",
        ];
        let Command::Devrun(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("no devrun");
        };
        let summary = serde_json::from_value(serde_json::json!({
            "id": "w", "name": name, "runtime": "--", "start_time": "", "tags": {},
            "workload_lifecycle": lifecycle, "workload_state": state,
            "workload_type": workload_type,
        }));
        replaces(&Plan::new(&args).unwrap(), &summary.unwrap())
    }

    #[test]
    fn only_an_earlier_deploy_of_the_same_is_replaced() {
        assert!(replaced("echo", "js", "function", "warm"));
        assert!(replaced("echo", "v8", "function", "running"));
        assert!(!replaced("other", "js", "function", "warm"));
        assert!(!replaced("echo", "native", "service", "running"));
        assert!(!replaced("echo", "js", "function", "stopped"));
    }

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
