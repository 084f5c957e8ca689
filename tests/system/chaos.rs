//! Two nodes under random faults: every acknowledged workload runs once, what was stopped is gone, every
//! job's end is known, and no message of a stream is missing.
//!
//! ```text
//!   faults   ── SIGKILL or SIGSTOP every 0.2 to 6 s ──> nexlets, nodes, supervisors, nats-server
//!   deployer ── nex workload start ──> services and jobs, on whichever node wins
//!   publisher ── numbers ──> stream ORDERS ──> function `worker` ──> stream DONE
//! ```
//!
//! Afterwards nothing is broken any more, and everything must be right within [`SETTLED`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use async_nats::jetstream::{self, consumer::pull, stream::Config};
use futures_util::StreamExt as _;
use nex_testkit::{Home, NexUp, Process, proc_tree, wait_until};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{ECHO_JS, devrun, file, start_function};

/// The shortest and the longest pause between two faults.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(6));

/// The longest time for which a process is stopped.
const STOPPED: Duration = Duration::from_secs(4);

/// Limit for everything to be right again after the last fault.
const SETTLED: Duration = Duration::from_secs(120);

/// Limit for a node to be ready after it was started again.
const READY: Duration = Duration::from_secs(60);

/// Deploys at the same time: one that hangs does not hold up the others.
const DEPLOYERS: usize = 3;

/// Pause between two deploys of one deployer.
const DEPLOY_EVERY: Duration = Duration::from_millis(1500);

/// Time until a publisher sends a message again whose storage was not confirmed.
const CONFIRMED: Duration = Duration::from_secs(2);

/// The name of the second node.
const SECOND: &str = "second";

/// The size of a run: short in the gate, whole with `NEX_TEST_FULL=1`.
struct Size {
    faults: Duration,
    messages: u64,
    runs: u64,
}

impl Size {
    fn of_environment() -> Self {
        if std::env::var_os("NEX_TEST_FULL").is_some() {
            Self {
                faults: Duration::from_secs(120),
                messages: 20_000,
                runs: 3,
            }
        } else {
            Self {
                faults: Duration::from_secs(30),
                messages: 3_000,
                runs: 1,
            }
        }
    }
}

/// Random numbers of a seed: xorshift64.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn between(&mut self, (least, most): (Duration, Duration)) -> Duration {
        let range = usize::try_from((most - least).as_millis()).unwrap();
        least + Duration::from_millis(self.below(range + 1) as u64)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock paces faults and deploys"
)]
fn pause(time: Duration) {
    thread::sleep(time);
}

#[expect(
    clippy::print_stdout,
    reason = "the course of a run, shown where it fails"
)]
fn say(line: &str) {
    println!("{line}");
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Nexlet,
    Up,
    SecondNode,
    Supervisor,
    Server,
}

const TARGETS: [Target; 5] = [
    Target::Nexlet,
    Target::Up,
    Target::SecondNode,
    Target::Supervisor,
    Target::Server,
];

/// Two nodes: that of a `nex up`, and one that joins it.
struct Nexus {
    up: Option<NexUp>,
    second: Child,
    home: Arc<Home>,
}

impl Nexus {
    fn start() -> Self {
        let up = NexUp::start();
        let home = Arc::clone(up.home());
        let second = start_second(&home);
        Self {
            up: Some(up),
            second,
            home,
        }
    }

    fn up(&self) -> &NexUp {
        self.up.as_ref().expect("it is there between two faults")
    }

    /// Fails the test where a node has ended without having been killed.
    fn check_that_both_run(&mut self) {
        let up = self.up.as_mut().unwrap();
        let ended = up.wait(Duration::ZERO).ok();
        assert_eq!(ended, None, "`nex up` ended by itself: {}", up.log());
        let ended = self.second.try_wait().unwrap();
        assert_eq!(ended, None, "the second node ended by itself");
    }

    /// The process that a fault is for; none where there is none at the moment.
    fn victim(&self, target: Target, random: &mut Random) -> Option<u32> {
        let command = match target {
            Target::Up => return Some(self.up().pid()),
            Target::SecondNode => return Some(self.second.id()),
            Target::Nexlet => "nexlet run",
            Target::Server => "nats-server -",
            Target::Supervisor => "nex supervise",
        };
        let mut found = proc_tree(self.up().pid());
        found.extend(proc_tree(self.second.id()));
        found.retain(|process| process.command.contains(command));
        (!found.is_empty()).then(|| found[random.below(found.len())].pid)
    }

    fn fault(&mut self, random: &mut Random) {
        self.check_that_both_run();
        let target = TARGETS[random.below(TARGETS.len())];
        let Some(pid) = self.victim(target, random) else {
            return;
        };
        let stop = random.below(3) == 0;
        let time = random.between((PAUSE.0, STOPPED));
        say(&format!(
            "{target:?} {pid} {}",
            if stop { "SIGSTOP" } else { "SIGKILL" }
        ));
        if stop {
            signal("-STOP", pid);
            thread::spawn(move || {
                pause(time);
                signal("-CONT", pid);
            });
            return;
        }
        match target {
            Target::Up => {
                let home = self.up.take().unwrap().kill();
                self.up = Some(NexUp::builder().home(home).start());
            }
            Target::SecondNode => {
                self.second.kill().unwrap();
                self.second.wait().unwrap();
                self.second = start_second(&self.home);
            }
            _ => signal("-9", pid),
        }
    }

    /// All workloads of both nodes; an error where the answer is not complete.
    fn list(&self) -> Result<Vec<Value>, String> {
        let output = self.home.nex(&["workload", "list", "--json"]);
        if output.code != 0 {
            return Err(output.to_string());
        }
        let nodes: Vec<Vec<Value>> =
            serde_json::from_str(&output.stdout).map_err(|error| error.to_string())?;
        Ok(nodes.into_iter().flatten().collect())
    }
}

impl Drop for Nexus {
    fn drop(&mut self) {
        nex_testkit::terminate(self.second.id()).ok();
        let second = &mut self.second;
        wait_until("the second node ends", READY, || {
            second.try_wait().ok().flatten()
        })
        .ok();
        self.second.kill().ok();
        self.second.wait().ok();
    }
}

/// Starts the second node, again and again until it is ready, as a service manager would: it needs NATS.
fn start_second(home: &Home) -> Child {
    let stdout = home.path().join(format!("{SECOND}.stdout"));
    let spawn = || {
        let mut command = home
            .nex_command(&["node", "up", "--node-name", SECOND, "--context", "nex"])
            .unwrap();
        command
            .arg("--data-dir")
            .arg(home.path().join(SECOND))
            .stdout(fs::File::create(&stdout).unwrap())
            .stderr(
                fs::File::options()
                    .create(true)
                    .append(true)
                    .open(home.path().join(format!("{SECOND}.stderr")))
                    .unwrap(),
            );
        command.spawn().unwrap()
    };
    let mut child = spawn();
    let ready = wait_until("the second node is ready", READY, || {
        if fs::read_to_string(&stdout).is_ok_and(|text| text.contains("ready")) {
            return Ok(());
        }
        let ended = child.try_wait().unwrap();
        if ended.is_some() {
            child = spawn();
        }
        Err(ended)
    });
    ready.unwrap();
    child
}

/// Sends a signal to a process that may be gone.
fn signal(signal: &str, pid: u32) {
    let mut command = Command::new("kill");
    let sent = command.args([signal, &pid.to_string()]).output();
    sent.expect("`kill` is everywhere");
}

/// The ids of acknowledged workloads by their names.
type Acknowledged = BTreeMap<String, String>;

/// The workloads that were acknowledged to the deployer.
#[derive(Default)]
struct Deployed {
    services: Acknowledged,
    jobs: Acknowledged,
    /// Services whose stop was acknowledged.
    stopped: Acknowledged,
}

impl Deployed {
    fn join(&mut self, other: Self) {
        self.services.extend(other.services);
        self.jobs.extend(other.jobs);
        self.stopped.extend(other.stopped);
    }
}

/// Deploys jobs, and some services of which it stops every second, until it is told to end.
fn deploy(home: &Home, next: &AtomicUsize, over: &AtomicBool) -> Deployed {
    let mut deployed = Deployed::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if over.load(Ordering::Relaxed) {
            break;
        }
        let is_service = number.is_multiple_of(4);
        let (lifecycle, name) = if is_service {
            ("service", format!("s{number}"))
        } else {
            ("job", format!("j{number}"))
        };
        let shell = if is_service {
            format!("sleep 1000; : mark-{name}-")
        } else {
            let marks = home.path().join("jobs").join(&name);
            let marks = marks.display();
            // One in three fails: it has ended, too.
            let code = if number.is_multiple_of(3) { 3 } else { 0 };
            format!("echo began >>{marks}; sleep 0.4; echo {code} >>{marks}; exit {code}")
        };
        let request = json!({ "uri": "file:///bin/sh", "argv": ["-c", shell] }).to_string();
        let start = [
            "workload",
            "start",
            "--json",
            "--name",
            &name,
            "--lifecycle",
        ];
        let start = [&start[..], &[lifecycle, "--start-request", &request]].concat();
        let started = match home.try_nex(&start) {
            Ok(started) => started,
            Err(error) => {
                say(&format!("not started: {name}: {error:#}"));
                continue;
            }
        };
        if started.code != 0 {
            say(&format!("not started: {name}: {}", started.stderr.trim()));
            pause(DEPLOY_EVERY);
            continue;
        }
        let placed: Value = serde_json::from_str(&started.stdout).unwrap();
        let id = placed["id"].as_str().unwrap().to_owned();
        pause(DEPLOY_EVERY);
        if !is_service {
            deployed.jobs.insert(name, id);
        } else if !number.is_multiple_of(8) {
            deployed.services.insert(name, id);
        } else if home
            .try_nex(&["workload", "stop", &id])
            .is_ok_and(|it| it.code == 0)
        {
            deployed.stopped.insert(name, id);
        }
    }
    deployed
}

/// JetStream, as soon as it answers.
async fn jetstream(url: &str) -> jetstream::Context {
    loop {
        if let Ok(client) = async_nats::connect(url).await {
            return jetstream::new(client);
        }
        tokio::time::sleep(PAUSE.0).await;
    }
}

async fn make_stream(context: &jetstream::Context, name: &str, subjects: &str) {
    let config = Config {
        name: name.to_owned(),
        subjects: vec![subjects.to_owned()],
        ..Config::default()
    };
    context.create_stream(config).await.unwrap();
}

/// Stores numbers in the stream, spread over `during`; each again until its storage is confirmed.
async fn publish(url: String, count: u64, during: Duration) {
    let context = jetstream(&url).await;
    let batches = 100.min(count);
    let pause = during / u32::try_from(batches).unwrap();
    let numbers: Vec<u64> = (0..count).collect();
    for batch in numbers.chunks(usize::try_from(count.div_ceil(batches)).unwrap()) {
        let confirmed = batch.iter().map(|number| store(&context, *number));
        futures_util::future::join_all(confirmed).await;
        tokio::time::sleep(pause).await;
    }
}

async fn store(context: &jetstream::Context, number: u64) {
    loop {
        // The server drops a second copy of this id.
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", number.to_string());
        let stored = async {
            let payload = number.to_string().into();
            let published = context.publish_with_headers("orders.new", headers, payload);
            published.await.ok()?.await.ok()
        };
        if let Ok(Some(_)) = tokio::time::timeout(CONFIRMED, stored).await {
            return;
        }
    }
}

/// The numbers in the stream DONE.
async fn done(context: &jetstream::Context) -> Option<BTreeSet<u64>> {
    let stream = context.get_stream("DONE").await.ok()?;
    let total = stream.cached_info().state.messages;
    let consumer = stream.create_consumer(pull::OrderedConfig::default());
    let mut messages = consumer.await.ok()?.messages().await.ok()?;
    let mut seen = BTreeSet::new();
    for _ in 0..total {
        let message = messages.next().await?.ok()?;
        seen.insert(std::str::from_utf8(&message.payload).ok()?.parse().ok()?);
    }
    Some(seen)
}

#[test]
fn nothing_that_was_accepted_is_lost_or_doubled_whatever_fails() {
    let size = Size::of_environment();
    let seed = std::env::var("NEX_CHAOS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let first = seed.unwrap_or_else(|| u64::from(now.unwrap().subsec_millis()));
    for seed in first..first + size.runs {
        say(&format!("NEX_CHAOS_SEED={seed}"));
        run(&size, seed);
    }
}

fn run(size: &Size, seed: u64) {
    let mut nexus = Nexus::start();
    let home = Arc::clone(&nexus.home);
    let url = nexus.up().url().to_owned();
    let runtime = Runtime::new().unwrap();
    let context = runtime.block_on(async {
        let context = jetstream(&url).await;
        make_stream(&context, "ORDERS", "orders.>").await;
        make_stream(&context, "DONE", "done").await;
        context
    });
    let echo = file(&home, "echo.js", ECHO_JS);
    devrun(nexus.up(), &echo, &["--trigger-subject", "echo"]);
    // Succeeds only when its result is stored.
    let worker = r#"
        (subject, payload) => {
          const stored = JSON.parse(String.fromCharCode(...this.messaging.request("done", payload)));
          if (!stored.seq) throw new Error(JSON.stringify(stored));
        };
    "#;
    let worker = file(&home, "worker.js", worker);
    let trigger = json!({ "stream": "ORDERS", "max_deliver": 1000, "back_off": ["100ms"] });
    start_function(nexus.up(), "worker", &worker, &trigger).ok();

    let over = Arc::new(AtomicBool::new(false));
    fs::create_dir_all(home.path().join("jobs")).unwrap();
    let next = Arc::new(AtomicUsize::new(0));
    let deployers = [(); DEPLOYERS].map(|()| {
        let (home, next, over) = (Arc::clone(&home), Arc::clone(&next), Arc::clone(&over));
        thread::spawn(move || deploy(&home, &next, &over))
    });
    let publisher = runtime.spawn(publish(url, size.messages, size.faults * 9 / 10));
    let mut random = Random::new(seed);
    let began = Instant::now();
    let mut faults = 0;
    while began.elapsed() < size.faults {
        pause(random.between(PAUSE));
        nexus.fault(&mut random);
        faults += 1;
    }
    pause(STOPPED);
    over.store(true, Ordering::Relaxed);
    let mut deployed = Deployed::default();
    for deployer in deployers {
        deployed.join(deployer.join().unwrap());
    }
    let published = runtime.block_on(async { tokio::time::timeout(SETTLED, publisher).await });
    published.expect("all messages are stored in time").unwrap();
    let (services, jobs) = (deployed.services.len(), deployed.jobs.len());
    let stopped = deployed.stopped.len();
    say(&format!(
        "{faults} faults in {:?}; {services} services, {jobs} jobs and {stopped} stops acknowledged",
        began.elapsed()
    ));
    assert!(services > 0 && jobs > 0);

    let settled = Instant::now();
    let complaints = || format!("seed {seed}\n{}\n{}", nexus.up().log(), second_log(&home));
    let mut running = deployed.services.clone();
    for name in ["echo", "worker"] {
        running.insert(name.to_owned(), String::new());
    }
    wait_until("every acknowledged workload runs once", SETTLED, || {
        runs_once(&nexus, &running)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", complaints()));
    wait_until("every stopped service is gone", SETTLED, || {
        are_gone(&nexus, &deployed.stopped)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", complaints()));
    wait_until("the end of every job is known", SETTLED, || {
        ends_known(&nexus, &deployed.jobs)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", complaints()));
    let missing = wait_until("every message is processed", SETTLED, || {
        let done =
            runtime.block_on(async { tokio::time::timeout(CONFIRMED, done(&context)).await });
        let done = done.ok().flatten().unwrap_or_default();
        let missing: Vec<u64> = (0..size.messages).filter(|it| !done.contains(it)).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err((
                missing.len(),
                missing.into_iter().take(10).collect::<Vec<_>>(),
            ))
        }
    });
    missing.unwrap_or_else(|error| panic!("{error:#}\n{}", complaints()));
    let answer = home.nex(&["req", "echo", "x"]).ok();
    assert!(answer.stdout.contains("triggered_on"), "{answer}");
    nexus.check_that_both_run();
    say(&format!(
        "all is right {:?} after the last fault",
        settled.elapsed()
    ));
}

fn second_log(home: &Home) -> String {
    fs::read_to_string(home.path().join(format!("{SECOND}.stderr"))).unwrap_or_default()
}

/// Fails unless each of these is listed once and running; for services, with one process.
fn runs_once(nexus: &Nexus, wanted: &Acknowledged) -> Result<(), String> {
    let all = nexus.list()?;
    let processes = nexus.home.processes();
    let mut wrong = Vec::new();
    for (name, id) in wanted {
        let listed: Vec<&Value> = all
            .iter()
            .filter(|it| it["name"] == name.as_str())
            .collect();
        let runs = |it: &&Value| {
            ["running", "warm"]
                .iter()
                .any(|state| it["workload_state"] == *state)
        };
        let same = |it: &&Value| id.is_empty() || it["id"] == id.as_str();
        if listed.len() != 1 || !listed.iter().all(runs) || !listed.iter().all(same) {
            wrong.push(format!("{name} ({id}) is listed as {listed:?}"));
        }
        if id.is_empty() {
            continue;
        }
        let mark = format!("mark-{name}-");
        let marked =
            |it: &&Process| it.command.contains(&mark) && !it.command.contains("supervise");
        let count = processes.iter().filter(marked).count();
        if count != 1 {
            wrong.push(format!("{name} ({id}) has {count} processes"));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

/// Fails where one of these is listed or has a process.
fn are_gone(nexus: &Nexus, stopped: &Acknowledged) -> Result<(), String> {
    let all = nexus.list()?;
    let processes = nexus.home.processes();
    let mut wrong = Vec::new();
    for (name, id) in stopped {
        let mark = format!("mark-{name}-");
        let listed = all.iter().filter(|it| it["id"] == id.as_str());
        let running = processes.iter().filter(|it| it.command.contains(&mark));
        wrong.extend(listed.map(|it| format!("{name} ({id}) is listed: {it}")));
        wrong.extend(running.map(|it| format!("{name} ({id}) runs: {it}")));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

/// Fails where the end of a job is unknown, or one ran again after it had ended with 0.
fn ends_known(nexus: &Nexus, jobs: &Acknowledged) -> Result<(), String> {
    let events = nexus.home.nex(&["events", "--since", "1h", "--json"]);
    let events: Vec<Value> = events
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let all = nexus.list()?;
    let mut wrong = Vec::new();
    for (name, id) in jobs {
        let told = events
            .iter()
            .filter(|it| it["event"] == "WORKLOADSTOPPED" && it["body"]["id"] == id.as_str())
            .count();
        let listed = all.iter().any(|it| {
            it["id"] == id.as_str()
                && ["stopped", "error"]
                    .iter()
                    .any(|state| it["workload_state"] == *state)
        });
        let marks = marks(&nexus.home.path().join("jobs").join(name));
        if told == 0 && !listed {
            wrong.push(format!(
                "nobody says how {name} ({id}) ended; it wrote {marks:?}"
            ));
        }
        let good = marks.iter().filter(|mark| *mark == "0").count();
        assert!(
            good <= 1,
            "{name} ({id}) ended with 0 and ran again: {marks:?}"
        );
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

fn marks(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}
