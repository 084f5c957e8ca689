//! The life of a tree whose owner and supervisor live.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nex_process::{Exit, Output};

use crate::support::{
    STUBBORN, STUBBORN_SIZE, alive, exists, launcher, new_mark, read_all, shell, wait, wait_for,
};

#[tokio::test]
async fn a_stop_ends_what_ignores_signals_and_what_left_the_session() {
    let mark = new_mark();
    let mut tree = launcher().spawn(shell(STUBBORN, &mark)).await.unwrap();
    wait_for(&mark, STUBBORN_SIZE);
    let grace = Duration::from_millis(600);

    let start = Instant::now();
    tree.stopper().stop(grace);
    let ended = wait(&mut tree).await;

    assert_eq!(alive(&mark), Vec::<u32>::new());
    assert!(!exists(tree.supervisor_pid()), "the supervisor is left");
    assert_eq!(ended.exit, Exit::Signal(libc::SIGKILL));
    assert!(!ended.supervisor_lost);
    assert!(
        start.elapsed() >= grace,
        "killed before its grace: {:?}",
        start.elapsed()
    );
    assert!(
        start.elapsed() < grace + Duration::from_secs(1),
        "took {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_program_that_obeys_ends_long_before_its_grace() {
    for (script, exit) in [
        (
            "trap 'exit 5' INT; echo up; while :; do sleep 0.01; done",
            Exit::Code(5),
        ),
        (
            "trap '' INT; trap 'exit 6' TERM; echo up; while :; do sleep 0.01; done",
            Exit::Code(6),
        ),
        ("echo up; exec sleep 1000", Exit::Signal(libc::SIGINT)),
    ] {
        let mark = new_mark();
        let mut command = shell(script, &mark);
        command.stdout = Output::Pipe;
        let mut tree = launcher().spawn(command).await.unwrap();
        let mut stdout = tree.take_stdout().unwrap();
        tokio::io::AsyncReadExt::read_u8(&mut stdout).await.unwrap();

        let start = Instant::now();
        tree.stopper().stop(Duration::from_secs(4));
        let ended = wait(&mut tree).await;

        assert_eq!(ended.exit, exit, "{script}");
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "{script}: {:?}",
            start.elapsed()
        );
        assert_eq!(alive(&mark), Vec::<u32>::new());
    }
}

#[tokio::test]
async fn a_kill_does_not_wait_for_the_grace_of_an_earlier_stop() {
    let mark = new_mark();
    let mut tree = launcher().spawn(shell(STUBBORN, &mark)).await.unwrap();
    wait_for(&mark, STUBBORN_SIZE);

    let start = Instant::now();
    tree.stopper().stop(Duration::from_secs(600));
    tree.stopper().kill();
    wait(&mut tree).await;

    assert_eq!(alive(&mark), Vec::<u32>::new());
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "took {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn of_two_graces_the_shorter_wins() {
    let mark = new_mark();
    let mut tree = launcher().spawn(shell(STUBBORN, &mark)).await.unwrap();
    wait_for(&mark, STUBBORN_SIZE);

    let start = Instant::now();
    tree.stopper().stop(Duration::MAX);
    tree.stopper().stop(Duration::from_millis(100));
    tree.stopper().stop(Duration::from_secs(600));
    wait(&mut tree).await;

    assert!(
        start.elapsed() < Duration::from_secs(5),
        "took {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn exit_codes_and_signals_are_told() {
    for (script, exit) in [
        ("exit 0", Exit::Code(0)),
        ("exit 3", Exit::Code(3)),
        ("kill -9 $$", Exit::Signal(9)),
        ("kill -15 $$", Exit::Signal(15)),
    ] {
        let mut tree = launcher().spawn(shell(script, &new_mark())).await.unwrap();

        assert_eq!(wait(&mut tree).await.exit, exit, "{script}");
        assert_eq!(wait(&mut tree).await.exit, exit, "asked again: {script}");
    }
}

#[tokio::test]
async fn a_daemon_does_not_outlive_the_main_process() {
    let mark = new_mark();
    let folder = tempfile::tempdir().unwrap();
    // The inner shell ends at once, so that its child is an orphan.
    let script = r#"setsid sh -c 'setsid sleep 1000 & echo $! > pid.new; mv pid.new pid' &
        until [ -e pid ]; do sleep 0.01; done; exit 4"#;
    let mut command = shell(script, &mark);
    command.cwd = folder.path().to_owned();
    let mut tree = launcher().spawn(command).await.unwrap();

    let ended = wait(&mut tree).await;

    let daemon: u32 = std::fs::read_to_string(folder.path().join("pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(ended.exit, Exit::Code(4));
    assert!(!exists(daemon), "the daemon is alive");
    assert_eq!(alive(&mark), Vec::<u32>::new());
}

#[tokio::test]
async fn a_tree_that_keeps_forking_is_killed() {
    let mark = new_mark();
    let script = "trap '' INT TERM; f() { while :; do setsid sleep 1000 & sleep 0.001; done; }; f & f & f & wait";
    let mut tree = launcher().spawn(shell(script, &mark)).await.unwrap();
    crate::support::eventually("dozens of processes", || alive(&mark).len() > 40);

    tree.stopper().kill();
    wait(&mut tree).await;

    assert_eq!(alive(&mark), Vec::<u32>::new());
}

#[tokio::test]
async fn the_environment_is_exactly_what_was_given() {
    let mut command = nex_process::Command::new("/usr/bin/env");
    command.env = vec![("B".into(), "2 \" \n3".into()), ("A".into(), "ü".into())];
    command.stdout = Output::Pipe;
    let mut tree = launcher().spawn(command).await.unwrap();

    let stdout = read_all(tree.take_stdout()).await;
    wait(&mut tree).await;

    // In which order a program sees its variables is not promised.
    let lines: BTreeSet<&str> = stdout.lines().collect();
    assert_eq!(lines, BTreeSet::from(["A=ü", "B=2 \" ", "3"]));
}

#[tokio::test]
async fn a_workload_has_its_own_session_no_foreign_descriptor_and_no_ignored_signal() {
    let script = "ls /proc/self/fd | tr '\\n' ' '; echo; cat /proc/self/stat; grep -E 'Sig(Ign|Blk)' /proc/self/status";
    let mut command = shell(script, &new_mark());
    command.stdout = Output::Pipe;
    let mut tree = launcher().spawn(command).await.unwrap();

    let stdout = read_all(tree.take_stdout()).await;
    wait(&mut tree).await;

    let lines: Vec<&str> = stdout.lines().collect();
    // `ls` itself holds 3, to list the folder.
    assert_eq!(lines[0].trim(), "0 1 2 3");
    let session: u32 = lines[1].split(' ').nth(5).unwrap().parse().unwrap();
    assert_eq!(session, tree.pid());
    // The C library keeps 32 and 33 for itself, and lets nobody reset them.
    const OF_THE_LIBRARY: u64 = 0b11 << 31;
    for line in &lines[2..] {
        let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        assert_eq!(mask & !OF_THE_LIBRARY, 0, "{line}");
    }
}

#[tokio::test]
async fn pipes_end_when_the_tree_has_ended_and_streams_are_kept_apart() {
    let mut command = shell(
        "echo out; echo err >&2; setsid sleep 1000 & exit 0",
        &new_mark(),
    );
    command.stdout = Output::Pipe;
    command.stderr = Output::Pipe;
    let mut tree = launcher().spawn(command).await.unwrap();
    let (stdout, stderr) = (tree.take_stdout(), tree.take_stderr());

    let (stdout, stderr) = tokio::join!(read_all(stdout), read_all(stderr));

    assert_eq!((stdout.as_str(), stderr.as_str()), ("out\n", "err\n"));
    assert!(wait(&mut tree).await.exit.success());
}

#[tokio::test]
async fn output_can_go_to_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = shell("echo into the file", &new_mark());
    command.stdout = Output::File(file.reopen().unwrap());
    let mut tree = launcher().spawn(command).await.unwrap();

    wait(&mut tree).await;

    assert_eq!(
        std::fs::read_to_string(file.path()).unwrap(),
        "into the file\n"
    );
}

#[tokio::test]
async fn twenty_trees_start_and_end_at_once() {
    let launcher = launcher();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let launcher = launcher.clone();
        tasks.spawn(async move {
            let command = shell(&format!("sleep 0.1; exit {number}"), &new_mark());
            let mut tree = launcher.spawn(command).await.unwrap();
            (number, wait(&mut tree).await.exit)
        });
    }

    let ends = tasks.join_all().await;

    assert_eq!(ends.len(), 20);
    for (number, exit) in ends {
        assert_eq!(exit, Exit::Code(number));
    }
}

#[tokio::test]
async fn waiting_can_be_cancelled_and_resumed() {
    let mark = new_mark();
    let mut tree = launcher().spawn(shell(STUBBORN, &mark)).await.unwrap();
    wait_for(&mark, STUBBORN_SIZE);
    tree.stopper().stop(Duration::from_millis(300));

    let mut cancelled = 0;
    let ended = loop {
        match tokio::time::timeout(Duration::from_millis(1), tree.wait()).await {
            Ok(ended) => break ended,
            Err(_) => cancelled += 1,
        }
        assert!(cancelled < 20_000, "never ends");
    };

    assert!(cancelled > 0);
    assert_eq!(ended.exit, Exit::Signal(libc::SIGKILL));
    assert_eq!(alive(&mark), Vec::<u32>::new());
}
