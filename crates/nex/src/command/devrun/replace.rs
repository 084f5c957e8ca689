//! A second deploy of the same name: the new one has to run before the old one ends.
//!
//! Deploys at the same time see nothing of each other before their starts. So each looks again when its workload runs:
//! of any two, the one that runs later sees the other.
//!
//! ```text
//!   list ─> start ─> list again ─> rival? ─ no ────────────────────────> replace the old ones
//!                                     └─ yes ─> same file: replace it too; another file: stop the own one
//! ```
//!
//! Two that both see each other must not both give way. The one with the smaller id waits for a moment until the
//! other has done so.

use std::time::Duration;

use nex_client::{Client, ListAnswer, Placed};
use nex_protocol::{WorkloadId, WorkloadSummary};
use tokio::time::{Instant, sleep};

use super::{plan::Plan, source};
use crate::{
    command::{
        fault,
        handover::{Handover, Unready, stop},
        types,
    },
    error::CommandError,
};

/// Limit for another deploy of the name at the same time to give way.
const RIVAL_LIMIT: Duration = Duration::from_secs(3);
/// Period of the look for it meanwhile.
const RIVAL_PAUSE: Duration = Duration::from_millis(100);

/// What there was before the new workload.
#[derive(Debug)]
pub(super) struct Before {
    old: Vec<WorkloadId>,
    /// All that had the name.
    seen: Vec<WorkloadId>,
    /// Whether all nodes said what they run; if not, an old one may go on unseen.
    complete: Result<(), CommandError>,
    handover: Handover,
    /// Workloads of other files that have the name and are left alone, in words.
    pub(super) notes: Vec<String>,
}

impl Before {
    /// Looks at what the plan will replace.
    ///
    /// # Errors
    /// When the name was not typed, and only workloads of other files have it.
    pub(super) async fn look(client: &Client, plan: &Plan) -> Result<Self, CommandError> {
        let filter = [plan.name.clone()];
        let answer = client.list(&filter).await.map_err(fault::client)?;
        let complete = fault::complete(&answer.missing, &answer.failed);
        let mut old = named(answer, &plan.name);
        let seen = old.iter().map(|old| old.id.clone()).collect();
        let mut notes = Vec::new();
        if !plan.is_named {
            let sorted = source::own(client, &plan.source, old, |old| replaces(plan, old)).await?;
            (old, notes) = sorted;
        }
        old.retain(|old| replaces(plan, old));
        let first = old.iter().map(|old| &old.start_time).min();
        let handover = match first {
            None => Handover::fresh(client, plan.lifecycle).await,
            Some(start) => Handover::look(client, plan.lifecycle, start).await?,
        };
        let old = old.into_iter().map(|old| old.id).collect();
        Ok(Self {
            old,
            seen,
            complete,
            handover,
            notes,
        })
    }

    /// Looks for workloads of the name that were deployed at the same time. The new workload replaces those of its own
    /// file, or all of them where its name was typed.
    ///
    /// # Errors
    /// Another file is deployed under the name; the new workload is stopped then.
    pub(super) async fn yield_to_rivals(
        &mut self,
        client: &Client,
        plan: &Plan,
        placed: &Placed,
    ) -> Result<(), CommandError> {
        let began = Instant::now();
        loop {
            let filter = [plan.name.clone()];
            // What cannot be listed is told of by the list before.
            let Ok(answer) = client.list(&filter).await else {
                return Ok(());
            };
            let is_rival = |it: &WorkloadSummary| it.id != placed.id && !self.seen.contains(&it.id);
            let mut rivals = named(answer, &plan.name);
            let is_gone = !rivals.iter().any(|it| it.id == placed.id);
            rivals.retain(is_rival);
            if rivals.is_empty() || is_gone {
                return Ok(());
            }
            let is_first = rivals.iter().all(|rival| placed.id < rival.id);
            if is_first && began.elapsed() < RIVAL_LIMIT {
                sleep(RIVAL_PAUSE).await;
                continue;
            }
            if !plan.is_named {
                let sorted =
                    source::own(client, &plan.source, rivals, |rival| replaces(plan, rival));
                match sorted.await {
                    Ok((own, _)) => rivals = own,
                    Err(error) => return Err(given_up(client, placed, error).await),
                }
            }
            rivals.retain(|rival| replaces(plan, rival));
            self.old.extend(rivals.into_iter().map(|rival| rival.id));
            return Ok(());
        }
    }

    /// Waits until the new workload is ready, then stops the old ones and returns their ids, with
    /// an error where a node did not say whether it runs one too, or could not finish a stop.
    pub(super) async fn replace(
        self,
        client: &Client,
        placed: &Placed,
    ) -> Result<(Vec<WorkloadId>, Result<(), CommandError>), CommandError> {
        let ready = self.handover.ready(client, placed, Unready::Replace);
        ready.await?;
        let mut finished = self.complete.map_err(|error| {
            error.cause(format!("an older `{}` there is not replaced", placed.name))
        });
        for id in &self.old {
            let stopped = stop(client, id).await.map_err(|error| {
                let told = CommandError::failed(format!(
                    "`{}` runs, but the one that it replaces, `{id}`, was not stopped",
                    placed.name
                ));
                error
                    .explain(told)
                    .hint(format!("stop it: `nex workload stop {id}`"))
            })?;
            finished = match (finished, stopped) {
                (Err(first), Err(error)) => Err(first.because_told(error)),
                (finished, stopped) => finished.and(stopped),
            };
        }
        Ok((self.old, finished))
    }
}

/// The workloads of a list that have a name and have not ended.
fn named(answer: ListAnswer, name: &str) -> Vec<WorkloadSummary> {
    let workloads = answer.workloads.into_iter().map(|(_, summary)| summary);
    let is_named = |it: &WorkloadSummary| it.name == name && !it.has_ended();
    workloads.filter(is_named).collect()
}

/// Stops the new workload in favour of another one.
async fn given_up(client: &Client, placed: &Placed, error: CommandError) -> CommandError {
    match stop(client, &placed.id).await {
        Ok(Ok(())) => error,
        Ok(Err(unfinished)) => error.because_told(unfinished),
        Err(not_stopped) => not_stopped
            .explain(error.cause("the new one was started at the same time, and was not stopped"))
            .hint(format!("stop it: `nex workload stop {}`", placed.id)),
    }
}

/// Whether a workload is an earlier deploy of the plan.
fn replaces(plan: &Plan, summary: &WorkloadSummary) -> bool {
    summary.name == plan.name
        && types::canonical(&summary.workload_type) == types::canonical(&plan.workload_type)
        && summary.workload_lifecycle == plan.lifecycle.as_str()
        && !summary.has_ended()
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
}
