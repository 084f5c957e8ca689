//! The owner of one workload: a task that alone starts, restarts and ends it.

use std::{future::Future, io, sync::Arc, time::Duration};

use jiff::Timestamp;
use nex_process::{Ended, Exit, Identity, Tree};
use nex_protocol::{
    ErrorCode, Lifecycle, LogStream, WorkloadId, WorkloadState, event::WorkloadError,
};
use nexlet::{LogWriter, Refusal, Start};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tracing::{Instrument as _, debug, info, info_span, warn};

use crate::{
    Parts,
    backoff::Backoff,
    finished::{self, Finished},
    program::{self, Program},
    registry::Handle,
    request::StartRequest,
    status::{End, Status, failure},
    workloads_dir,
};

mod output;

/// One workload, from its start to the moment it is forgotten.
pub(crate) struct Workload {
    parts: Arc<Parts>,
    start: Start,
    run: StartRequest,
    log: LogWriter,
    /// Never read itself: each clone sees an order that came before as a change.
    stop_rx: watch::Receiver<Option<Duration>>,
    status_tx: watch::Sender<Status>,
    /// Hears once whether it runs.
    ready_tx: Option<oneshot::Sender<Result<(), Refusal>>>,
}

/// How one run went.
enum Outcome {
    /// The tree has ended by itself.
    Ended(Ended),
    /// A stop was ordered; the tree is dead, if there was one.
    Stopped(Option<Exit>),
}

impl Workload {
    /// Takes an id. The receiver hears when the first process runs, or why none does.
    pub(crate) fn new(
        parts: Arc<Parts>,
        start: Start,
        run: StartRequest,
    ) -> Result<(Self, oneshot::Receiver<Result<(), Refusal>>), Refusal> {
        let (stop_tx, stop_rx) = watch::channel(None);
        let (status_tx, status_rx) = watch::channel(Status::starting());
        let (ready_tx, ready_rx) = oneshot::channel();
        let handle = Handle::new(
            start.id.clone(),
            start.request.clone(),
            run.stop_grace,
            stop_tx,
            status_rx,
        );
        parts.registry.add(handle)?;
        let log = start.host.log(&start.request.namespace, &start.id);
        let ready_tx = Some(ready_tx);
        Ok((
            Self {
                parts,
                start,
                run,
                log,
                stop_rx,
                status_tx,
                ready_tx,
            },
            ready_rx,
        ))
    }

    /// Runs until the workload has ended for good and is forgotten.
    pub(crate) async fn run(mut self) {
        let span =
            info_span!("workload", id = %self.start.id, namespace = %self.start.request.namespace);
        async {
            if let Some(exit) = self.recorded_exit().await {
                self.tell_ready(Ok(()));
                return self.finish(Some(exit), failure(exit), false).await;
            }
            match self.begin().await {
                Ok((program, tree)) => self.live(program, tree).await,
                Err(refusal) => self.give_up(refusal).await,
            }
        }
        .instrument(span)
        .await;
    }

    /// The exit of a restored job whose process ended before its end was reported.
    async fn recorded_exit(&self) -> Option<Exit> {
        if !(self.start.existing && self.is_job()) {
            return None;
        }
        self.parts.alone().await.get(&self.start.id).copied()
    }

    async fn begin(&mut self) -> Result<(Program, Tree), Refusal> {
        // Not `busy`: a client would try another node, and start again what was to stop.
        let stopped = |_grace| {
            Refusal::new(
                ErrorCode::Nexlet,
                "the workload was stopped while it started",
            )
        };
        let mut stop_rx = self.stop_rx.clone();
        let fetching = async {
            self.parts.alone().await;
            program::fetch(&self.parts, &self.start, &self.run).await
        };
        let fetched = unless_stopped(&mut stop_rx, fetching)
            .await
            .map_err(stopped)??;
        // Not cancelled: who gives up removes what this makes.
        let program = Program::set_up(&self.parts, &self.start, &self.run, fetched).await?;
        let mut stop_rx = self.stop_rx.clone();
        let spawning = self.parts.launcher.spawn(program.command(&self.run));
        let spawned = unless_stopped(&mut stop_rx, spawning)
            .await
            .map_err(stopped)?;
        let tree = spawned.map_err(|error| program.refuse_spawn(&error))?;
        Ok((program, tree))
    }

    /// Ends what never ran.
    async fn give_up(&mut self, refusal: Refusal) {
        info!(%refusal, "workload does not start");
        // First: a workload that never ran is in no list as an ended one.
        self.parts.registry.remove(&self.start.id);
        self.status_tx.send_modify(|status| {
            status.state = WorkloadState::Error;
            status.end = Some(End {
                exit: None,
                at: Timestamp::now(),
            });
        });
        self.remove_folder().await;
        self.tell_ready(Err(refusal));
    }

    fn tell_ready(&mut self, ready: Result<(), Refusal>) {
        if let Some(ready_tx) = self.ready_tx.take() {
            // A caller that stopped listening has nothing to learn.
            ready_tx.send(ready).ok();
        }
    }

    async fn live(&mut self, program: Program, tree: Tree) {
        let mut backoff = Backoff::default();
        let mut next = Some(tree);
        loop {
            let began = Instant::now();
            let text = match next.take() {
                Some(tree) => match self.run_supervised(&program, tree).await {
                    Outcome::Stopped(exit) => return self.finish(exit, None, true).await,
                    Outcome::Ended(ended) if self.is_job() => return self.finish_job(ended).await,
                    Outcome::Ended(ended) => describe(&ended),
                },
                None => match self.spawn_again(&program).await {
                    Ok(Some(tree)) => {
                        next = Some(tree);
                        continue;
                    }
                    Ok(None) => return self.finish(None, None, true).await,
                    Err(refusal) => refusal.text,
                },
            };
            let pause = backoff.after(began.elapsed());
            self.wait_for_restart(&text, pause).await;
        }
    }

    fn is_job(&self) -> bool {
        self.start.request.workload_lifecycle == Lifecycle::Job
    }

    /// Runs one tree, whose supervisor is written down for a successor of this nexlet.
    async fn run_supervised(&mut self, program: &Program, tree: Tree) -> Outcome {
        let (folder, pid) = (program.folder.clone(), tree.supervisor_pid());
        let writing = tokio::task::spawn_blocking(move || {
            Identity::of(pid).and_then(|supervisor| folder.write_supervisor(&supervisor))
        });
        match writing.await {
            Ok(Ok(())) => {}
            // It may have ended already.
            Ok(Err(error)) => debug!(pid, %error, "the supervisor is not written down"),
            Err(error) => warn!(pid, %error, "the supervisor is not written down"),
        }
        self.run_once(tree).await
    }

    /// Runs one tree to its end, until its last output is sent.
    async fn run_once(&mut self, mut tree: Tree) -> Outcome {
        let copying = output::copy(&self.log, &mut tree);
        let pid = tree.pid();
        self.status_tx.send_modify(|status| {
            status.state = WorkloadState::Running;
            status.pid = Some(pid);
            status.error = None;
        });
        self.tell_ready(Ok(()));
        info!(pid, "workload runs");
        self.tell_started().await;

        let stopper = tree.stopper();
        let mut stop_rx = self.stop_rx.clone();
        let mut stopped = false;
        let ended = loop {
            tokio::select! {
                biased;
                // First, so that what ended by itself is not said to be stopped.
                ended = tree.wait() => break ended,
                grace = next_stop(&mut stop_rx) => {
                    stopped = true;
                    self.status_tx.send_modify(|status| status.state = WorkloadState::Stopping);
                    stopper.stop(grace);
                }
            }
        };
        self.status_tx.send_modify(|status| status.pid = None);
        copying.finish(&self.log).await;
        if ended.supervisor_lost {
            warn!(pid, "the supervisor of a workload was lost");
        }
        if stopped {
            Outcome::Stopped(Some(ended.exit))
        } else {
            Outcome::Ended(ended)
        }
    }

    async fn tell_started(&self) {
        let mut metadata = self.status_tx.borrow().metadata();
        metadata.insert("name".to_owned(), self.start.request.name.clone());
        self.start
            .host
            .workload_started(&self.start.id, &self.start.request, metadata)
            .await;
    }

    /// Says that a service failed, and waits for its next start or for a stop.
    async fn wait_for_restart(&mut self, text: &str, pause: Duration) {
        let text = format!("{text}; starting again in {pause:?}");
        info!(%text, "service has ended");
        self.status_tx.send_modify(|status| {
            status.state = WorkloadState::Error;
            status.error = Some(text.clone());
        });
        self.start.host.changed();
        let waiting = async {
            // In its own log too: that is where its owner looks first.
            self.log
                .line(LogStream::Stderr, &format!("nex: {text}"))
                .await;
            tokio::time::sleep(pause).await;
        };
        let mut stop_rx = self.stop_rx.clone();
        // A stop ends the wait; the next step meets it again.
        unless_stopped(&mut stop_rx, waiting).await.ok();
    }

    /// Starts the program again; none where a stop is ordered.
    async fn spawn_again(&mut self, program: &Program) -> Result<Option<Tree>, Refusal> {
        let mut stop_rx = self.stop_rx.clone();
        let spawning = self.parts.launcher.spawn(program.command(&self.run));
        match unless_stopped(&mut stop_rx, spawning).await {
            Err(_grace) => Ok(None),
            Ok(spawned) => {
                self.status_tx.send_modify(|status| status.restarts += 1);
                spawned
                    .map(Some)
                    .map_err(|error| program.refuse_spawn(&error))
            }
        }
    }

    async fn finish_job(&mut self, ended: Ended) {
        let error = failure(ended.exit).map(|mut error| {
            if ended.supervisor_lost {
                error.message = describe(&ended);
            }
            error
        });
        self.finish(Some(ended.exit), error, false).await;
    }

    /// Ends the workload for good: says so, and forgets it, a job after a while.
    async fn finish(&mut self, exit: Option<Exit>, error: Option<WorkloadError>, stopped: bool) {
        let good = stopped || error.is_none();
        let mut status = self.status_tx.borrow().clone();
        status.state = if good {
            WorkloadState::Stopped
        } else {
            WorkloadState::Error
        };
        status.pid = None;
        status.error = error
            .as_ref()
            .map(|error| error.message.clone())
            .filter(|m| !m.is_empty());
        status.end = Some(End {
            exit,
            at: Timestamp::now(),
        });
        info!(?exit, stopped, "workload has ended");

        let mut metadata = status.metadata();
        metadata.insert("name".to_owned(), self.start.request.name.clone());
        let (id, request) = (&self.start.id, &self.start.request);
        self.start
            .host
            .workload_stopped(id, request, metadata, error)
            .await;
        // A job that is stopped because the nexlet ends is restored: it has not ended.
        let interrupted = stopped && self.parts.closing.is_cancelled();
        let is_finished_job = self.is_job() && !interrupted;
        if is_finished_job {
            self.record(&status).await;
        } else {
            self.parts.registry.remove(&self.start.id);
        }
        // Only now is a stop answered: the event is on its way, and the output before it.
        self.status_tx.send_replace(status);
        self.start.host.changed();
        self.remove_folder().await;
        if is_finished_job {
            // A task of its own is small; this one held all that a run needs.
            let (parts, id) = (Arc::clone(&self.parts), self.start.id.clone());
            let forgetting = forget_later(parts, id, finished::LISTED);
            self.parts.tasks.spawn(forgetting);
        }
    }

    /// Records how a job ended.
    async fn record(&self, status: &Status) {
        let Some(handle) = self.parts.registry.find(&self.start.id) else {
            return;
        };
        let finished = Finished {
            id: self.start.id.clone(),
            request: self.start.request.clone(),
            start_time: handle.start_time(),
            status: status.clone(),
        };
        let data_dir = self.parts.data_dir.clone();
        let writing = tokio::task::spawn_blocking(move || finished.write(&data_dir));
        let written = writing
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = written {
            warn!(%error, "failed to record the end of a job: a list shows it until the nexlet ends");
        }
    }

    async fn remove_folder(&self) {
        let path = workloads_dir(&self.parts.data_dir).join(self.start.id.as_str());
        // It can only fail where the runtime is being shut down.
        tokio::task::spawn_blocking(move || crate::folder::remove(&path))
            .await
            .ok();
    }
}

/// Takes a job that has ended from the lists after a while. Its record stays where the nexlet ends
/// before that.
pub(crate) async fn forget_later(parts: Arc<Parts>, id: WorkloadId, after: Duration) {
    let elapsed = parts
        .closing
        .run_until_cancelled(tokio::time::sleep(after))
        .await;
    parts.registry.remove(&id);
    if elapsed.is_some() {
        let data_dir = parts.data_dir.clone();
        let removing = tokio::task::spawn_blocking(move || finished::remove(&data_dir, &id));
        // It can only fail where the runtime is being shut down.
        removing.await.ok();
    }
}

/// How a run ended, in words.
fn describe(ended: &Ended) -> String {
    if ended.supervisor_lost {
        format!("ended with {}, its supervisor was lost", ended.exit)
    } else {
        format!("ended with {}", ended.exit)
    }
}

/// Resolves with the grace of the next order to stop, first with that of one that came before
/// this receiver was cloned. Cancel safe.
async fn next_stop(stop_rx: &mut watch::Receiver<Option<Duration>>) -> Duration {
    loop {
        if stop_rx.changed().await.is_err() {
            // Nobody is left who could order one.
            return std::future::pending().await;
        }
        if let Some(grace) = *stop_rx.borrow_and_update() {
            return grace;
        }
    }
}

/// Does something unless a stop is ordered, before or meanwhile; then that stop's grace.
async fn unless_stopped<T>(
    stop_rx: &mut watch::Receiver<Option<Duration>>,
    work: impl Future<Output = T>,
) -> Result<T, Duration> {
    tokio::select! {
        biased;
        grace = next_stop(stop_rx) => Err(grace),
        done = work => Ok(done),
    }
}
