//! Owners and supervisors that are killed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nex_process::{Exit, Output};

use crate::support::{
    HELPER, LONG, STUBBORN, STUBBORN_SIZE, alive, eventually, exists, kill_9, launcher, new_mark,
    parent_of, resume, runs, shell, suspend, wait, wait_for,
};

/// What the product promises for whatever is killed.
const PROMISE: Duration = Duration::from_secs(5);

struct Host {
    process: std::process::Child,
    mark: String,
}

impl Host {
    /// A process that hosts the stubborn workload, once all of it runs.
    fn start(mode: &str) -> Self {
        let mark = new_mark();
        let mut command = Command::new(HELPER);
        let process = command
            .args([mode, &mark, STUBBORN])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(&mark, STUBBORN_SIZE);
        Self { process, mark }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The supervisor: the parent of the only process whose parent is unmarked
    /// and which leads its workload.
    fn supervisor(&self) -> u32 {
        let marked = alive(&self.mark);
        let mut parents = marked.iter().map(|pid| parent_of(*pid));
        parents.find(|parent| !marked.contains(parent)).unwrap()
    }

    fn assert_dead_within_promise(&self) {
        let took = eventually("the workload is dead", || alive(&self.mark).is_empty());
        assert!(took < PROMISE, "took {took:?}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Already reaped where the test went well.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn nothing_outlives_a_killed_owner() {
    let mut owner = Host::start("owner");
    let supervisor = owner.supervisor();

    owner.kill();

    owner.assert_dead_within_promise();
    eventually("the supervisor ends", || !runs(supervisor));
}

#[test]
fn nothing_outlives_an_owner_and_a_supervisor_that_are_killed_together() {
    let mut node = Host::start("node");
    let supervisor = node.supervisor();
    let nexlet = parent_of(supervisor);
    assert_eq!(parent_of(nexlet), node.process.id());

    kill_9(nexlet);
    kill_9(supervisor);

    node.assert_dead_within_promise();
    node.kill();
}

#[test]
fn nothing_outlives_a_killed_nexlet_whose_node_lives() {
    let mut node = Host::start("node");
    let supervisor = node.supervisor();

    kill_9(parent_of(supervisor));

    node.assert_dead_within_promise();
    eventually("the node reaps the supervisor", || !exists(supervisor));
    node.kill();
}

#[test]
fn nothing_outlives_a_killed_node() {
    let mut node = Host::start("node");
    let supervisor = node.supervisor();
    let nexlet = parent_of(supervisor);

    node.kill();

    node.assert_dead_within_promise();
    eventually("supervisor and nexlet end", || {
        !runs(supervisor) && !runs(nexlet)
    });
}

#[test]
fn nothing_outlives_a_killed_owner_whose_supervisor_is_suspended() {
    let mut owner = Host::start("owner");
    let supervisor = owner.supervisor();

    suspend(supervisor);
    owner.kill();

    owner.assert_dead_within_promise();
    eventually("the supervisor ends", || !runs(supervisor));
}

#[test]
fn nothing_outlives_a_killed_node_whose_nexlet_is_suspended() {
    let mut node = Host::start("node");
    let supervisor = node.supervisor();
    let nexlet = parent_of(supervisor);

    suspend(nexlet);
    node.kill();

    node.assert_dead_within_promise();
    eventually("supervisor and nexlet end", || {
        !runs(supervisor) && !runs(nexlet)
    });
}

#[tokio::test]
async fn a_killed_supervisor_leaves_nothing_and_is_told() {
    let mark = new_mark();
    let mut tree = launcher().spawn(shell(STUBBORN, &mark)).await.unwrap();
    wait_for(&mark, STUBBORN_SIZE);

    let start = Instant::now();
    kill_9(tree.supervisor_pid());
    let ended = wait(&mut tree).await;

    assert_eq!(alive(&mark), Vec::<u32>::new());
    assert!(ended.supervisor_lost);
    assert!(
        !exists(tree.supervisor_pid()),
        "the supervisor was not reaped"
    );
    assert!(start.elapsed() < PROMISE, "took {:?}", start.elapsed());
}

#[tokio::test]
async fn a_tree_whose_supervisor_is_suspended_can_be_stopped() {
    let mark = new_mark();
    let mut tree = launcher().spawn(shell("sleep 1000", &mark)).await.unwrap();
    suspend(tree.supervisor_pid());

    tree.stopper().kill();
    wait(&mut tree).await;

    assert!(alive(&mark).is_empty());
}

#[tokio::test]
async fn a_supervisor_that_is_asked_to_end_stops_its_tree() {
    let mark = new_mark();
    let mut command = shell(STUBBORN, &mark);
    command.orphan_grace = Duration::from_millis(200);
    let mut tree = launcher().spawn(command).await.unwrap();
    wait_for(&mark, STUBBORN_SIZE);

    let supervisor = i32::try_from(tree.supervisor_pid()).unwrap();
    let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::TERM).unwrap();
    let ended = wait(&mut tree).await;

    assert!(!ended.supervisor_lost);
    assert_eq!(alive(&mark), Vec::<u32>::new());
}

#[tokio::test]
async fn a_dropped_tree_ends() {
    let mark = new_mark();
    let mut command = shell(STUBBORN, &mark);
    command.orphan_grace = Duration::from_millis(200);
    let tree = launcher().spawn(command).await.unwrap();
    wait_for(&mark, STUBBORN_SIZE);
    let supervisor = tree.supervisor_pid();
    let stopper = tree.stopper();

    drop(tree);

    eventually("the workload is dead", || alive(&mark).is_empty());
    eventually("the supervisor is reaped", || !exists(supervisor));
    // A handle that is left over does nothing.
    stopper.kill();
}

#[tokio::test]
async fn an_exit_is_recorded_although_the_owner_died_in_the_same_moment() {
    for (script, exit) in [
        ("exit 0", Exit::Code(0)),
        ("exit 3", Exit::Code(3)),
        ("kill -9 $$", Exit::Signal(libc::SIGKILL)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (gate, file) = (folder.path().join("gate"), folder.path().join("exit.json"));
        let made = Command::new("mkfifo").arg(&gate).status();
        assert!(made.unwrap().success());
        let mark = new_mark();
        let mut command = shell(&format!("read go <{}; {script}", gate.display()), &mark);
        command.exit_file = Some(file.clone());
        let tree = launcher().spawn(command).await.unwrap();
        let supervisor = tree.supervisor_pid();
        suspend(supervisor);

        std::fs::write(&gate, "go\n").unwrap();
        eventually("the process has ended", || alive(&mark).is_empty());
        drop(tree);
        resume(supervisor);

        eventually("the exit is recorded", || Exit::read(&file) == Some(exit));
    }
}

#[tokio::test]
async fn an_exit_after_a_stop_is_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("exit.json");
    let mut command = shell(
        "trap 'exit 0' INT; echo up; while :; do sleep 0.01; done",
        &new_mark(),
    );
    command.exit_file = Some(file.clone());
    command.stdout = Output::Pipe;
    let mut tree = launcher().spawn(command).await.unwrap();
    let mut stdout = tree.take_stdout().unwrap();
    tokio::io::AsyncReadExt::read_u8(&mut stdout).await.unwrap();

    tree.stopper().stop(LONG);
    let ended = wait(&mut tree).await;

    assert_eq!((ended.exit, Exit::read(&file)), (Exit::Code(0), None));
}

#[tokio::test]
async fn a_spawn_that_is_cancelled_leaves_nothing() {
    for millis in 0..20 {
        let mark = new_mark();
        let launcher = launcher();
        let mut command = shell(STUBBORN, &mark);
        command.orphan_grace = Duration::from_millis(50);
        let spawning = launcher.spawn(command);

        // Cancelled at whatever point it has come to; a tree that made it is
        // dropped.
        drop(tokio::time::timeout(Duration::from_millis(millis), spawning).await);

        eventually("nothing is left", || alive(&mark).is_empty());
    }
}

#[tokio::test]
async fn children_that_others_start_here_are_left_alone() {
    let mut foreign = Command::new("sleep").arg("1000").spawn().unwrap();
    let mark = new_mark();
    let mut tree = launcher().spawn(shell(STUBBORN, &mark)).await.unwrap();

    // The loss of a supervisor is when everything adopted is killed at once.
    kill_9(tree.supervisor_pid());
    wait(&mut tree).await;

    assert!(
        foreign.try_wait().unwrap().is_none(),
        "a foreign child was killed"
    );
    foreign.kill().unwrap();
    foreign.wait().unwrap();
}

#[test]
fn an_owner_may_have_many_files_and_its_workload_the_usual_number() {
    let status = Command::new(HELPER).arg("files").status().unwrap();

    assert!(status.success(), "{status}");
}
