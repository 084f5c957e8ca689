//! From an old workload to a new one, with no moment without either.
//!
//! A function needs no more than that order: its start is answered when its subscription is live,
//! and its stop answers what it has taken. A program says nothing when it is ready. If NATS micro
//! services have begun to answer since the old one was started, one of them may be its own: then
//! the new program is ready when an instance more of them answers. Else it has to stay up for
//! [`STEADY`]. A new program that does not stay up, or does not get ready where that is asked for, is
//! stopped, and the old one stays.
//!
//! A service that replaces nothing has to stay up for [`STEADY`] too.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::Duration,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use nex_client::{Client, ClientError, Placed};
use nex_nats::request_many::{Gather, Step};
use nex_protocol::{Lifecycle, NodeId, WorkloadId, WorkloadState, WorkloadSummary};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::{fault, last_lines::LastLines};
use crate::{
    error::{CommandError, Kind},
    print::Printer,
};

/// How long a new program may take to get ready before the old one is kept.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long a new instance of a micro service may take to answer where the old one ends anyway.
const SERVICE_LIMIT: Duration = Duration::from_secs(3);

/// How much clocks of machines may differ.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(5);

/// How long a new program has to stay up where nothing else tells that it is ready.
const STEADY: Duration = Duration::from_secs(1);

/// Time without an answer of the new program's node after which the program is not waited for any more.
const NODE_SILENCE: Duration = Duration::from_secs(12);

/// How often the new program is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// How long the answers to one `$SRV.STATS` are gathered.
const PING_WINDOW: Duration = Duration::from_millis(150);

/// How long an old workload may take to end.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// The micro service that every node is.
const NODE_SERVICE: &str = "nexnode";

/// Micro services, by the id of the instance.
type Services = BTreeMap<String, Service>;

/// One instance, as it answers `$SRV.STATS`.
#[derive(Clone, Debug, Deserialize)]
struct Service {
    id: String,
    name: String,
    started: Option<Timestamp>,
}

/// What becomes of the old workload when the new one runs and is not seen to be ready.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unready<'a> {
    /// It stays; that there is a wait is told.
    Keep(&'a Printer),
    /// It ends all the same: who develops wants to see the new one.
    Replace,
}

/// What there was before the new workload was started.
#[derive(Debug)]
pub(super) struct Handover {
    lifecycle: Lifecycle,
    /// Set where an old workload ends after the new one is ready.
    replaces: bool,
    services: Services,
    lines: LastLines,
}

impl Handover {
    /// Prepares the start of a workload of that lifecycle which replaces none.
    pub(super) async fn fresh(client: &Client, lifecycle: Lifecycle) -> Self {
        Self {
            lifecycle,
            replaces: false,
            services: Services::new(),
            lines: listen(client, lifecycle).await,
        }
    }

    /// Looks at what there is before a workload of that lifecycle is started, in the place of one
    /// that was started then.
    pub(super) async fn look(
        client: &Client,
        lifecycle: Lifecycle,
        old_start: &str,
    ) -> Result<Self, CommandError> {
        let mut services = if lifecycle == Lifecycle::Service {
            services(client).await.map_err(fault::client)?
        } else {
            Services::new()
        };
        if let Ok(old_start) = old_start.parse() {
            services.retain(|_, service| may_be_of(service, old_start));
        }
        Ok(Self {
            lifecycle,
            replaces: true,
            services,
            lines: listen(client, lifecycle).await,
        })
    }

    /// Waits until the new workload is ready. One that is not, or does not stay up, is stopped; the
    /// error says whether it was, and has its last lines.
    pub(super) async fn ready(
        self,
        client: &Client,
        placed: &Placed,
        unready: Unready<'_>,
    ) -> Result<(), CommandError> {
        if self.lifecycle != Lifecycle::Service {
            return Ok(());
        }
        let mut lines = self.lines;
        let ready = tokio::select! {
            ready = ready(client, placed, &self.services, unready) => ready,
            () = lines.collect(&placed.id) => Ok(()),
        };
        let Err(unready) = ready else {
            return Ok(());
        };
        let told = unready.explain(placed, self.replaces);
        let told = match stop(client, &placed.id).await {
            Ok(Err(error)) => told.because_told(error),
            Ok(Ok(())) if self.replaces => told.cause("the new one is stopped"),
            Ok(Ok(())) => told.cause("it is stopped"),
            Err(error) => error.explain(told).hint(format!(
                "it may still run: `nex workload stop {}`",
                placed.id
            )),
        };
        Err(told.lines(lines.take(client, &placed.id).await))
    }
}

/// Listens for the lines of a service; the beginning of other workloads is not waited for.
async fn listen(client: &Client, lifecycle: Lifecycle) -> LastLines {
    match lifecycle {
        Lifecycle::Service => LastLines::begin(client).await,
        Lifecycle::Job | Lifecycle::Function => LastLines::kept(),
    }
}

/// Reason why a new program does not count as running.
#[derive(Debug)]
enum NotReady {
    /// Asking failed.
    Unclear(CommandError),
    /// The program has ended or was restarted, for this reason.
    Down(String),
    /// The program was not ready in time. Names the micro services of which a new instance was expected.
    Late(String),
}

impl NotReady {
    fn explain(self, placed: &Placed, replaces: bool) -> CommandError {
        let name = &placed.name;
        let failed = |what: &str| {
            CommandError::failed(match replaces {
                true => format!("the new `{name}` {what}; the old one was not touched"),
                false => format!("`{name}` {what}"),
            })
        };
        match self {
            Self::Unclear(error) => error,
            Self::Down(reason) => failed("did not stay up")
                .cause(reason)
                .hint(format!("all that it wrote: `nex logs {}`", placed.id))
                .hint("if it is meant to end by itself: `--lifecycle job`"),
            Self::Late(watched) => {
                let limit = READY_LIMIT.as_secs();
                let told = failed(&format!("was not ready within {limit} s"));
                if watched.is_empty() {
                    return told.cause("its node does not list it as running");
                }
                told.cause(format!("no new instance of `{watched}` answered"))
                    .hint(
                        "if it is none of these: clone it without `--stop`, then stop the old one",
                    )
            }
        }
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
            Self::Client(error @ ClientError::ConnectionLost) => {
                told.of_kind(Kind::Unreachable).because(&error)
            }
            Self::Client(error) => told.because(&error),
            Self::Lives(message) => told.cause(message),
        }
    }
}

/// Stops a workload. One that has ended meanwhile will do. The inner result is that of
/// [`fault::finished_stop`].
pub(super) async fn stop(
    client: &Client,
    id: &WorkloadId,
) -> Result<Result<(), CommandError>, NotStopped> {
    match client.stop(id, Some(STOP_WAIT)).await {
        Ok(response) if response.stopped => Ok(fault::finished_stop(id, &response)),
        Ok(response) => Err(NotStopped::Lives(response.message)),
        Err(ClientError::WorkloadNotFound { missing, .. }) if missing.is_empty() => Ok(Ok(())),
        Err(error) => Err(NotStopped::Client(error)),
    }
}

/// Waits until the new program answers, or has stayed up.
async fn ready(
    client: &Client,
    placed: &Placed,
    before: &Services,
    unready: Unready<'_>,
) -> Result<(), NotReady> {
    let own = own_services(client, placed).await;
    let names: BTreeSet<&String> = before.values().map(|service| &service.name).collect();
    let names: Vec<&str> = names
        .into_iter()
        .filter(|name| !own.contains(*name))
        .map(String::as_str)
        .collect();
    let watched = names.join("`, `");
    let limit = match unready {
        Unready::Replace if !names.is_empty() => SERVICE_LIMIT,
        _ => READY_LIMIT,
    };
    if let (Unready::Keep(printer), false) = (unready, names.is_empty()) {
        printer.note(format!(
            "waiting until a new instance of `{watched}` answers, {} s at most",
            limit.as_secs()
        ));
    }
    let begun = Instant::now();
    let mut up_since = None;
    let mut silent_since = None;
    loop {
        let now = Instant::now();
        let next_look = now + LOOK_EVERY;
        match look(client, placed).await? {
            Seen::Up => {
                up_since.get_or_insert(now);
                silent_since = None;
            }
            Seen::NotYet => silent_since = None,
            Seen::NodeSilent(node) => {
                let since: Instant = *silent_since.get_or_insert(now);
                let after = since.elapsed();
                if after >= NODE_SILENCE {
                    let absent = ClientError::NodeAbsent { node, after };
                    return Err(NotReady::Unclear(fault::client(absent)));
                }
            }
        }
        let answers = || async {
            let is_new = |(id, service): (&String, &Service)| {
                !before.contains_key(id) && names.contains(&service.name.as_str())
            };
            match services(client).await {
                Ok(services) => Ok(services.iter().any(is_new)),
                // The next look may find it.
                Err(ClientError::ConnectionLost) => Ok(false),
                Err(error) => Err(NotReady::Unclear(fault::client(error))),
            }
        };
        let ready = match up_since {
            Some(_) if !names.is_empty() => answers().await?,
            Some(since) => since.elapsed() >= STEADY,
            None => false,
        };
        if ready {
            return Ok(());
        }
        // A program that runs is enough after its limit; one that does not never is.
        if begun.elapsed() >= limit && matches!(unready, Unready::Replace) && up_since.is_some() {
            return Ok(());
        }
        if begun.elapsed() >= READY_LIMIT {
            return Err(NotReady::Late(watched));
        }
        sleep_until(next_look).await;
    }
}

/// The state of a new program as a list shows it.
#[derive(Debug)]
enum Seen {
    Up,
    NotYet,
    /// The node of the program does not answer.
    NodeSilent(NodeId),
}

/// Looks whether the new program is listed, and runs.
async fn look(client: &Client, placed: &Placed) -> Result<Seen, NotReady> {
    let filter = [placed.id.to_string()];
    let answer = match client.list(&filter).await {
        Ok(answer) => answer,
        Err(ClientError::ConnectionLost) => return Ok(Seen::NotYet),
        Err(error) => return Err(NotReady::Unclear(fault::client(error))),
    };
    let Some((_, summary)) = answer.workloads.first() else {
        // Nobody who could know may have answered; that is no sign of its end.
        return Ok(match &placed.node {
            Some(node) if answer.nobody || answer.missing.contains(node) => {
                Seen::NodeSilent(node.clone())
            }
            _ => Seen::NotYet,
        });
    };
    if is_unknown(summary) {
        return Ok(Seen::NotYet);
    }
    if is_up(summary) {
        return Ok(match summary.workload_state {
            WorkloadState::Running => Seen::Up,
            _ => Seen::NotYet,
        });
    }
    let reason = summary.metadata.get("error").cloned();
    Err(NotReady::Down(reason.unwrap_or_default()))
}

/// Whether its node has not heard of its nexlet.
fn is_unknown(summary: &WorkloadSummary) -> bool {
    let state = summary.metadata.get("nex.state");
    state.is_some_and(|state| state == "unknown")
}

/// Whether an instance may belong to a workload that was started then.
fn may_be_of(service: &Service, old_start: Timestamp) -> bool {
    let since = |started: Timestamp| started.duration_since(old_start);
    service
        .started
        .is_none_or(|started| since(started) >= -CLOCK_SLACK)
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

/// The micro services that answer.
async fn services(client: &Client) -> Result<Services, ClientError> {
    let mut lost = pin!(client.losses().next());
    let gather = Gather::request(client.nats(), "$SRV.STATS", Bytes::new(), None).await;
    let mut gather = gather.map_err(|error| ClientError::Send(error.into()))?;
    let deadline = Instant::now() + PING_WINDOW;
    let mut found = Services::new();
    loop {
        let step = tokio::select! {
            biased;
            step = gather.next(deadline) => step,
            () = &mut lost => return Err(ClientError::ConnectionLost),
        };
        let Step::Reply(message) = step else { break };
        if let Ok(service) = serde_json::from_slice::<Service>(&message.payload) {
            found.insert(service.id.clone(), service);
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
    fn what_answered_before_the_old_one_was_started_is_not_its_own() {
        let old_start = Timestamp::from_second(1_000).unwrap();
        let service = |started: Option<i64>| Service {
            id: "i".into(),
            name: "n".into(),
            started: started.map(|second| Timestamp::from_second(second).unwrap()),
        };
        assert!(may_be_of(&service(Some(1_001)), old_start));
        assert!(may_be_of(&service(Some(996)), old_start));
        assert!(!may_be_of(&service(Some(900)), old_start));
        assert!(may_be_of(&service(None), old_start));
    }

    #[test]
    fn a_service_that_was_started_again_is_not_up() {
        assert!(is_up(&summary("service", "running", "0")));
        assert!(!is_up(&summary("service", "running", "1")));
        assert!(!is_up(&summary("service", "error", "0")));
    }
}
