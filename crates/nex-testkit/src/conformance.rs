//! Whether a nexlet does what nodes rely on, ours and those of Go.
//!
//! The suite starts a nexlet again and again, each time on a server of its own with a fake node
//! that speaks plain NATS, asks what a node asks, and writes down everything that is said. It knows
//! nothing of how the nexlet is made: a program of any language, or an embedded task.
//!
//! ```no_run
//! use nex_testkit::conformance::{self, Candidate, Running};
//!
//! # async fn test() {
//! let request = serde_json::json!({ "every_ms": 1000, "text": "tick" });
//! let candidate = Candidate::new("timer", "service", request, |place| {
//!     let mut nexlet = std::process::Command::new("target/debug/custom-nexlet");
//!     // A local nexlet reads `NEX_AGENT_*` instead: `nexlet.envs(place.variables())`.
//!     nexlet.arg(place.nexus()).env("NATS_URL", place.url());
//!     Running::process(nexlet.spawn().expect("it is built"))
//! });
//! conformance::check(&candidate).await.expect_all_passed();
//! # }
//! ```

mod checks;
mod journal;
mod node;
mod reply;

use std::{fmt, future::Future, process::Child, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::process;
use node::Node;

/// How long anything may take. Nodes wait for less (2 s for an answer, 10 s for a heartbeat), but a
/// busy machine is no fault of a nexlet.
const LIMIT: Duration = Duration::from_secs(20);
/// How long one check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(120);

/// A nexlet to check: how it is started, and something that it runs.
pub struct Candidate {
    workload_type: String,
    lifecycle: String,
    run_request: Value,
    launch: Box<dyn Fn(&Place) -> Running + Send + Sync>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("workload_type", &self.workload_type)
            .field("lifecycle", &self.lifecycle)
            .finish_non_exhaustive()
    }
}

impl Candidate {
    /// A nexlet for a type of workload. `run_request` is a valid start request for a workload of
    /// `lifecycle` that runs until it is stopped, also several times at once; `launch` starts the
    /// nexlet.
    pub fn new(
        workload_type: &str,
        lifecycle: &str,
        run_request: Value,
        launch: impl Fn(&Place) -> Running + Send + Sync + 'static,
    ) -> Self {
        Self {
            workload_type: workload_type.to_owned(),
            lifecycle: lifecycle.to_owned(),
            run_request,
            launch: Box::new(launch),
        }
    }
}

/// Where a nexlet finds its node.
#[derive(Clone, Debug)]
pub struct Place {
    url: String,
    variables: Vec<(&'static str, String)>,
}

impl Place {
    /// The server; it takes connections without credentials.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The nexus whose node takes remote nexlets.
    #[must_use]
    pub fn nexus(&self) -> &'static str {
        node::NEXUS
    }

    /// The environment of a local nexlet: all eight `NEX_AGENT_*` variables.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
    }

    /// One of these variables.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        let mut variables = self.variables();
        variables.find_map(|(known, value)| (known == name).then(|| value.to_owned()))
    }
}

/// A nexlet that runs. Dropped, it is killed.
pub struct Running(Kind);

enum Kind {
    Process(Child),
    Task {
        end: Option<Box<dyn FnOnce() + Send>>,
        task: JoinHandle<Result<(), String>>,
    },
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running")
    }
}

impl Running {
    /// A program. It ends on SIGINT, which nodes of Go send.
    #[must_use]
    pub fn process(child: Child) -> Self {
        Self(Kind::Process(child))
    }

    /// A task, which is spawned; `end` tells it to end. Must be called within a runtime, of several
    /// threads where the nexlet needs them.
    pub fn task<E: fmt::Display>(
        end: impl FnOnce() + Send + 'static,
        nexlet: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Self {
        let task = tokio::spawn(async move { nexlet.await.map_err(|error| error.to_string()) });
        Self(Kind::Task {
            end: Some(Box::new(end)),
            task,
        })
    }

    fn end(&mut self) -> anyhow::Result<()> {
        match &mut self.0 {
            Kind::Process(child) => process::interrupt(child.id()),
            Kind::Task { end, .. } => {
                end.take().context("it was told to end before")?();
                Ok(())
            }
        }
    }

    /// Waits for the end that it was told.
    async fn ended(&mut self) -> anyhow::Result<()> {
        match &mut self.0 {
            Kind::Process(child) => {
                crate::eventually("the end of its process", LIMIT, || {
                    let ended = child.try_wait().map(|status| status.is_some());
                    async move { ended.unwrap_or(true) }
                })
                .await;
                Ok(())
            }
            Kind::Task { task, .. } => match tokio::time::timeout(LIMIT, task).await {
                Ok(Ok(Ok(()))) => Ok(()),
                Ok(Ok(Err(error))) => bail!("it ended with an error: {error}"),
                Ok(Err(error)) => bail!("it panicked: {error}"),
                Err(_elapsed) => bail!("it did not end within {LIMIT:?}"),
            },
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match &mut self.0 {
            Kind::Process(child) => {
                child.kill().ok();
                child.wait().ok();
            }
            Kind::Task { task, .. } => task.abort(),
        }
    }
}

/// What was found, check by check. `Display` is for people.
#[derive(Debug)]
pub struct Report(Vec<(&'static str, Result<(), String>)>);

impl Report {
    /// The names of the checks that failed.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        let failed = self.0.iter().filter(|(_, found)| found.is_err());
        failed.map(|(name, _)| *name).collect()
    }

    /// For the last line of a test.
    ///
    /// # Panics
    /// With the whole report, when a check failed.
    #[track_caller]
    pub fn expect_all_passed(&self) {
        assert!(
            self.failed().is_empty(),
            "the nexlet does not conform:\n{self}"
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, found) in &self.0 {
            match found {
                Ok(()) => writeln!(f, "    ok  {name}")?,
                Err(error) => writeln!(f, "FAILED  {name}: {error}")?,
            }
        }
        Ok(())
    }
}

/// Runs every check, one after the other, each with a nexlet of its own. A nexlet that does not
/// even get to its first heartbeat is not asked further.
pub async fn check(candidate: &Candidate) -> Report {
    let mut found = Vec::new();
    macro_rules! run {
        ($($name:literal => $module:ident :: $check:ident on $setup:expr;)*) => {$(
            found.push(($name, one($setup, candidate, async |stage| {
                checks::$module::$check(stage).await
            }).await));
        )*};
    }
    let first = one(PLAIN, candidate, async |_stage| Ok(())).await;
    let arrived = first.is_ok();
    found.push((
        "registers, beats `running`, and ends when it is told",
        first,
    ));
    if !arrived {
        return Report(found);
    }
    run! {
        "registers once, with all that a node needs" => arrival::registers on PLAIN;
        "is a micro service with seven endpoints" => arrival::is_a_service on PLAIN;
        "beats its heart after its endpoints are there" => arrival::beats on PLAIN;
        "shares its endpoints in the queue group of its id" => arrival::shares on PLAIN;
        "answers pings with its id and summary" => arrival::pings on PLAIN;
        "starts a workload and tells it" => workloads::starts on PLAIN;
        "lists by namespace, id and name" => workloads::lists on PLAIN;
        "hands out start requests, and is silent about others" => workloads::gets on PLAIN;
        "refuses starts with the body that nodes read" => workloads::refuses on PLAIN;
        "does not know foreign workloads when it stops" => workloads::stops_no_others on PLAIN;
        "stops a workload, answers, and tells it" => workloads::stops on PLAIN;
        "takes up what ran before, once" => workloads::takes_up on HANDS_OVER;
        "drains: no starts, and an end of what runs" => workloads::drains on PLAIN;
        "survives garbage on every endpoint" => trouble::survives_garbage on PLAIN;
        "works with the rights that a Go node gives" => trouble::works_for_go on AS_GO;
        "comes back when the server was away" => trouble::reconnects on PLAIN;
        "registers again with a node that forgot it" => trouble::registers_again on PLAIN;
        "says `stopping` before its workloads end" => trouble::ends_in_order on PLAIN;
    }
    Report(found)
}

/// Sets the stage for one check, and clears it.
async fn one<'a>(
    setup: Setup,
    candidate: &'a Candidate,
    check: impl AsyncFnOnce(&mut Stage<'a>) -> anyhow::Result<()>,
) -> Result<(), String> {
    let checking = async {
        let mut stage = Stage::set(candidate, setup).await?;
        check(&mut stage).await?;
        stage.clear().await
    };
    match tokio::time::timeout(CHECK_LIMIT, checking).await {
        Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
        Err(_elapsed) => Err(format!("not done within {CHECK_LIMIT:?}")),
    }
}

/// What is special about the node of a check.
#[derive(Clone, Copy, Debug)]
struct Setup {
    /// Workloads that the registration hands over.
    existing: &'static [&'static str],
    /// Whether the working credentials are as narrow as those of Go nodes.
    go_rights: bool,
}

const PLAIN: Setup = Setup {
    existing: &[],
    go_rights: false,
};
const HANDS_OVER: Setup = Setup {
    existing: &["old"],
    ..PLAIN
};
const AS_GO: Setup = Setup {
    go_rights: true,
    ..PLAIN
};

/// A node and a nexlet that serves it.
struct Stage<'a> {
    candidate: &'a Candidate,
    node: Node,
    nexlet: Running,
}

impl<'a> Stage<'a> {
    /// Starts both, and waits until the node may use the nexlet.
    async fn set(candidate: &'a Candidate, setup: Setup) -> anyhow::Result<Self> {
        let node = Node::start(candidate, setup).await?;
        let nexlet = (candidate.launch)(&node.place());
        node.registered(1).await?;
        node.heartbeat("running").await?;
        Ok(Self {
            candidate,
            node,
            nexlet,
        })
    }

    /// Ends the nexlet, and looks at what holds for every exchange.
    async fn clear(mut self) -> anyhow::Result<()> {
        if self.nexlet.is_running() {
            self.nexlet.end()?;
        }
        self.nexlet.ended().await?;
        self.node.sync().await?;
        for (inbox, subject, most) in self.node.asked() {
            let replies = self.node.journal.count(|message| message.subject == inbox);
            ensure!(
                replies <= most,
                "{replies} replies to a request to `{subject}`, where {most} is right"
            );
        }
        Ok(())
    }
}

impl Running {
    /// Whether nobody told it to end.
    fn is_running(&mut self) -> bool {
        match &mut self.0 {
            Kind::Process(child) => matches!(child.try_wait(), Ok(None)),
            Kind::Task { end, .. } => end.is_some(),
        }
    }
}
