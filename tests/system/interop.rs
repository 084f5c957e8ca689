//! Peers made of the NATS libraries for Go, which ask, answer and decode as Go Nex does: a client
//! against our node, here; a nexlet on it, and a node with nexlets of ours, in the modules below.
//! What they stand for and what they do not: docs/interop.md.

mod go_nexlet;
mod go_node;

use std::{
    cell::Cell,
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
};

use nex_testkit::{
    Home, NexUp, NexUpBuilder, Output, Process, exchanges, skip, terminate, wait_until,
    workspace_root,
};
use serde_json::{Value, json};

use crate::LIMIT;

/// How long the peer waits for a first reply where silence is expected.
const SILENCE: &str = "2s";

/// What the NATS library for Go says when nobody answered in time, though somebody listened.
const NO_REPLY: &str = "context deadline exceeded";

/// The Go client takes no reply to a broadcast that comes later than this after the first.
const STALL_MS: u64 = 2000;

/// The peer, built, and the nexus that it talks to.
struct Peer {
    url: String,
    /// The credentials of who asks; a server without them takes everybody.
    creds: Option<PathBuf>,
    /// Ends before its home is looked at for what it left.
    up: Option<NexUp>,
    home: Arc<Home>,
    program: PathBuf,
    exchanges: Cell<u64>,
}

impl Peer {
    /// Builds it and starts a `nex up` for it; `None`, said loudly, where there is no Go.
    fn start() -> Option<Self> {
        Self::start_with(|_| Vec::new())
    }

    /// The same, with more arguments of `nex up`, which may name the peer's program.
    fn start_with(more: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        let home = Arc::new(Home::new());
        let program = build(&home)?;
        let up = NexUp::builder().home(Arc::clone(&home));
        let up = more(&program)
            .into_iter()
            .fold(up, NexUpBuilder::arg)
            .start();
        Some(Self {
            url: up.url().to_owned(),
            creds: Some(up.data_dir().join("cli.creds")),
            home,
            up: Some(up),
            program,
            exchanges: Cell::new(0),
        })
    }

    /// Builds it for a server that somebody else has started.
    fn on(url: &str) -> Option<Self> {
        let home = Arc::new(Home::new());
        let program = build(&home)?;
        Some(Self {
            url: url.to_owned(),
            creds: None,
            up: None,
            home,
            program,
            exchanges: Cell::new(0),
        })
    }

    fn command(&self, flags: &[&str], method: &str, arguments: &Value) -> Command {
        let mut command = self.home.command(&self.program);
        command.args(["-url", &self.url]);
        if let Some(creds) = &self.creds {
            command.arg("-creds").arg(creds);
        }
        command.args(flags).args([method, &arguments.to_string()]);
        command
    }

    /// Starts a method that goes on until it is told to end.
    fn spawn(&self, name: &str, method: &str, arguments: &Value) -> Running {
        let said = self.home.path().join(format!("{name}.said"));
        let child = self
            .command(&[], method, arguments)
            .stdout(fs::File::create(&said).unwrap())
            .spawn();
        Running {
            child: child.unwrap(),
            said,
        }
    }

    /// How many requests the nexlets and nodes of the peer were asked, of those that ended in order.
    fn served(&self) -> u64 {
        let files = fs::read_dir(self.home.path()).into_iter().flatten();
        let paths = files.flatten().map(|file| file.path());
        let said = paths.filter(|path| path.extension().is_some_and(|name| name == "said"));
        let said = said.map(|path| fs::read_to_string(path).unwrap_or_default());
        let said: String = said.collect();
        let lines = said.lines().map(serde_json::from_str::<Value>);
        lines
            .flatten()
            .filter_map(|line| line["served"].as_u64())
            .sum()
    }

    /// Our own command line, on the same nexus.
    fn nex(&self, args: &[&str]) -> Output {
        match &self.creds {
            Some(_) => self.home.nex(args),
            None => self.home.nex(&[args, &["-s", &self.url]].concat()),
        }
    }

    /// Performs one method and returns the line that it prints.
    #[track_caller]
    fn call(&self, flags: &[&str], method: &str, arguments: &Value) -> Value {
        let mut command = self.command(flags, method, arguments);
        let output = self.home.run(&mut command).unwrap().ok();
        let line: Value = serde_json::from_str(&output.stdout).expect("one line of JSON");
        assert_eq!(line["method"], method);
        let sent = line["exchanges"].as_u64().expect("a count");
        self.exchanges.set(self.exchanges.get() + sent);
        line
    }

    /// [`call`](Self::call) of a method that is to succeed, and its result.
    #[track_caller]
    fn result(&self, flags: &[&str], method: &str, arguments: &Value) -> Value {
        let mut line = self.call(flags, method, arguments);
        assert_eq!(line["ok"], true, "{line}");
        line["result"].take()
    }

    /// [`call`](Self::call) of a method that is to fail, and its error.
    #[track_caller]
    fn error(&self, flags: &[&str], method: &str, arguments: &Value) -> Value {
        let mut line = self.call(flags, method, arguments);
        assert_eq!(line["ok"], false, "{line}");
        line["error"].take()
    }

    /// The id of the one node.
    fn node(&self) -> String {
        let nodes = self.result(SYSTEM, "ListNodes", &json!({}));
        assert_eq!(nodes.as_array().map(Vec::len), Some(1), "{nodes}");
        text(&nodes[0]["node_id"])
    }

    /// The one bid for a type.
    fn bid_of(&self, workload_type: &str) -> Value {
        let bids = self.result(&[], "Auction", &json!({ "type": workload_type }));
        assert_eq!(bids.as_array().map(Vec::len), Some(1), "{bids}");
        bids[0].clone()
    }

    /// A bid for a native workload.
    fn bid(&self) -> Value {
        self.bid_of("native")
    }

    /// Auctions and starts a workload of any type, and returns its id.
    fn start_of(&self, workload_type: &str, name: &str, lifecycle: &str, run: &Value) -> String {
        let bid = self.bid_of(workload_type);
        let mut request = start_request(name, lifecycle, "", "5s");
        request["run_request"] = run.to_string().into();
        request["workload_type"] = workload_type.into();
        let arguments = json!({ "bid": bid["bidder_id"], "request": request });
        let started = self.result(&[], "StartWorkload", &arguments);
        assert_eq!(started["name"], name);
        text(&started["id"])
    }

    /// Auctions and starts a shell command, and returns the id of the workload.
    fn start_shell(&self, name: &str, lifecycle: &str, shell: &str, grace: &str) -> String {
        let run = json!({ "uri": "file:///bin/sh", "argv": ["-c", shell], "stop_grace": grace });
        self.start_of("native", name, lifecycle, &run)
    }

    /// How many nexlets of a type the nodes may use.
    fn healthy(&self, workload_type: &str) -> usize {
        let nodes = self.result(SYSTEM, "ListNodes", &json!({}));
        let nodes = nodes.as_array().unwrap().iter();
        let each = nodes.map(|node| {
            let arguments = json!({ "node": node["node_id"] });
            let info = self.result(SYSTEM, "GetNodeInfo", &arguments);
            let nexlets = info["node_agent_summaries"].as_array().cloned();
            let nexlets = nexlets.unwrap_or_default().into_iter();
            let usable = nexlets.filter(|nexlet| {
                nexlet["agent_health"] == "healthy"
                    && nexlet["agent_summary"]["type"] == workload_type
            });
            usable.count()
        });
        each.sum()
    }

    /// Waits until that many nexlets of a type can be used.
    #[track_caller]
    fn wait_healthy(&self, workload_type: &str, count: usize) {
        wait_until("the nexlets are healthy", LIMIT, || {
            let found = self.healthy(workload_type);
            (found == count).then_some(()).ok_or(found)
        })
        .unwrap();
    }

    /// The ids of all workloads, in order, as the Go client and our command line see them.
    #[track_caller]
    fn everything(&self) -> Vec<String> {
        let sorted = |all: &[Value]| {
            let mut ids: Vec<String> = all.iter().map(|one| text(&one["id"])).collect();
            ids.sort();
            ids
        };
        let all = self.result(SYSTEM, "ListWorkloads", &json!({}));
        let all = sorted(all.as_array().unwrap());
        let ours = self.nex(&["workload", "list", "--namespace", "system", "--json"]);
        let ours: Vec<Vec<Value>> = serde_json::from_str(&ours.ok().stdout).unwrap();
        assert_eq!(sorted(&ours.concat()), all);
        all
    }

    /// The workload of that id as a list shows it; `Err` with the whole list where it is not there.
    fn listed(&self, id: &str) -> Result<Value, Value> {
        let all = self.result(&[], "ListWorkloads", &json!({}));
        let found = all.as_array().into_iter().flatten();
        let found = found.into_iter().find(|one| one["id"] == id).cloned();
        found.ok_or(all)
    }

    /// The processes that run `sleep` for so many seconds.
    fn sleepers(&self, seconds: &str) -> Vec<Process> {
        let mut found = self.home.processes();
        found.retain(|process| format!("{process:?}").contains(&format!("sleep {seconds}")));
        found
    }
}

/// A method that goes on; dropped, it is told to end.
struct Running {
    child: Child,
    said: PathBuf,
}

impl Running {
    /// Waits until it says something that `wanted` takes, and returns that.
    #[track_caller]
    fn says(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_until("it says so", LIMIT, || {
            let said = fs::read_to_string(&self.said).unwrap();
            let lines = said
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            lines.into_iter().find(|line| wanted(line)).ok_or(said)
        })
        .unwrap()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            terminate(self.child.id()).ok();
            self.child.wait().ok();
        }
    }
}

/// Builds the peer into a home; `None`, said loudly, where there is no Go.
fn build(home: &Home) -> Option<PathBuf> {
    if Command::new("go").arg("version").output().is_err() {
        skip("`go` is not on this machine");
        return None;
    }
    let program = home.path().join("go-peer");
    let built = Command::new("go")
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&program)
        .arg(".")
        .env("CGO_ENABLED", "0")
        .current_dir(workspace_root().join("interop/go-peer"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    Some(program)
}

impl Drop for Peer {
    fn drop(&mut self) {
        exchanges(self.exchanges.get() + self.served());
    }
}

/// The namespace of the operator, in which alone nodes can be asked about themselves.
const SYSTEM: &[&str] = &["-namespace", "system"];

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn start_request(name: &str, lifecycle: &str, shell: &str, grace: &str) -> Value {
    let run = json!({ "uri": "file:///bin/sh", "argv": ["-c", shell], "stop_grace": grace });
    json!({
        "description": "",
        "name": name,
        "namespace": "default",
        "run_request": run.to_string(),
        "tags": null,
        "workload_lifecycle": lifecycle,
        "workload_type": "native",
    })
}

#[test]
fn a_go_peer_learns_of_the_node() {
    let Some(peer) = Peer::start() else { return };

    let tags = peer.result(SYSTEM, "GetNexusPTags", &json!({}));
    let nodes = peer.result(SYSTEM, "ListNodes", &json!({}));
    let node = peer.node();
    let info = peer.result(SYSTEM, "GetNodeInfo", &json!({ "node": node }));

    for tag in [
        "nex.arch",
        "nex.cpucount",
        "nex.nexus",
        "nex.node",
        "nex.os",
    ] {
        assert!(tags[tag].is_string(), "`{tag}` is missing: {tags}");
    }
    assert_eq!(tags["nex.lameduck"], "false");
    assert_eq!(nodes[0]["state"], "running");
    assert_eq!(nodes[0]["tags"], tags);
    assert_eq!(info["node_id"], node);
    assert_eq!(info["xkey"], nodes[0]["xkey"]);
    assert!(text(&info["xkey"]).starts_with('X'), "{info}");
    let version = text(&info["version"]);
    let numbers = version.split(['-', '+']).next().unwrap().split('.');
    assert!(numbers.clone().count() == 3 && numbers.into_iter().all(|n| n.parse::<u64>().is_ok()));
    let nexlets = info["node_agent_summaries"].as_array().unwrap();
    assert_eq!(nodes[0]["agent_count"], nexlets.len());
    let native = nexlets
        .iter()
        .find(|nexlet| nexlet["agent_summary"]["type"] == "native")
        .unwrap_or_else(|| panic!("{info}"));
    assert_eq!(native["agent_health"], "healthy");
    assert_eq!(native["agent_health_stoplight"], "🟢");
    assert_eq!(native["agent_summary"]["state"], "running");
}

#[test]
fn a_go_peer_starts_lists_clones_and_stops() {
    let Some(peer) = Peer::start() else { return };

    let nothing = peer.result(&[], "ListWorkloads", &json!({}));
    let bid = peer.bid();
    let service = peer.start_shell("web", "service", "exec sleep 1001", "5s");
    let job = peer.start_shell("report", "job", "exec sleep 1002", "5s");

    assert_eq!(nothing, json!([]));
    assert!(text(&bid["xkey"]).is_empty() || text(&bid["xkey"]).starts_with('X'));
    let lifecycles = bid["supported_lifecycles"].as_array().unwrap();
    assert!(lifecycles.contains(&json!("service")) && lifecycles.contains(&json!("job")));
    let schema: Value = serde_json::from_str(&text(&bid["start_request_schema"])).unwrap();
    assert!(schema["properties"]["uri"].is_object(), "{schema}");
    for (id, lifecycle) in [(&service, "service"), (&job, "job")] {
        let found = wait_until("it is listed as running", LIMIT, || {
            let found = peer.listed(id)?;
            if found["workload_state"] == "running" {
                Ok(found)
            } else {
                Err(found)
            }
        })
        .unwrap();
        assert_eq!(found["namespace"], "default");
        assert_eq!(found["workload_type"], "native");
        assert_eq!(found["workload_lifecycle"], lifecycle);
    }
    let filtered = peer.result(&[], "ListWorkloads", &json!({ "filter": [job] }));
    assert_eq!(filtered.as_array().map(Vec::len), Some(1), "{filtered}");
    let all = peer.result(SYSTEM, "ListWorkloads", &json!({}));
    assert_eq!(all.as_array().map(Vec::len), Some(2), "{all}");

    let clone = peer.result(&[], "CloneWorkload", &json!({ "id": service }));
    let cloned = text(&clone["id"]);
    assert_ne!(cloned, service);
    assert_eq!(clone["name"], "web");
    wait_until("both run", LIMIT, || {
        let found = peer.sleepers("1001");
        (found.len() == 2).then_some(()).ok_or(found)
    })
    .unwrap();

    let stopped = peer.result(&[], "StopWorkload", &json!({ "id": service }));
    assert_eq!(
        stopped,
        json!({ "id": service, "message": "", "stopped": true, "workload_type": "native" })
    );
    assert_eq!(peer.sleepers("1001").len(), 1, "the clone runs on");
    assert!(peer.listed(&service).is_err());

    // In the namespace `system` the client first looks up whose it is.
    let stopped = peer.result(SYSTEM, "StopWorkload", &json!({ "id": cloned }));
    assert_eq!(stopped["stopped"], true, "{stopped}");
    assert!(peer.sleepers("1001").is_empty());
    let stopped = peer.result(&[], "StopWorkload", &json!({ "id": job }));
    assert_eq!(stopped["stopped"], true, "{stopped}");
    assert!(peer.sleepers("1002").is_empty());
}

#[test]
fn a_go_peers_stop_of_what_takes_three_seconds_to_die_succeeds() {
    let Some(peer) = Peer::start() else { return };
    let shell = r#"trap "" INT TERM; sleep 1003"#;
    let id = peer.start_shell("slow", "service", shell, "3s");
    wait_until("it ignores signals", LIMIT, || {
        let found = peer.sleepers("1003");
        (!found.is_empty()).then_some(()).ok_or(found)
    })
    .unwrap();

    let line = peer.call(&[], "StopWorkload", &json!({ "id": id }));

    assert_eq!(line["ok"], true, "{line}");
    assert_eq!(line["result"]["stopped"], true, "{line}");
    assert_eq!(line["result"]["message"], "stopping", "{line}");
    let took = line["took_ms"].as_u64().unwrap();
    assert!(took < STALL_MS, "{line}");
    wait_until("it is dead and gone", LIMIT, || {
        let found = peer.sleepers("1003");
        let listed = peer.listed(&id);
        (found.is_empty() && listed.is_err())
            .then_some(())
            .ok_or((found, listed))
    })
    .unwrap();
}

#[test]
fn a_go_peer_meets_silence_and_refusals_where_it_expects_them() {
    let Some(peer) = Peer::start() else { return };
    let short = &["-timeout", SILENCE];
    let node = peer.node();
    let request = start_request("never", "service", "exec sleep 1004", "5s");

    // Silence: of nobody, of a bid that nobody made, of a workload that nobody has.
    let short_system = &[short, SYSTEM].concat();
    let other = json!({ "tags": { "nex.node": "another" } });
    assert_eq!(peer.result(short_system, "ListNodes", &other), json!([]));
    let unknown = json!({ "type": "cobol" });
    assert_eq!(peer.result(short, "Auction", &unknown), json!([]));
    let elsewhere = json!({ "type": "native", "tags": { "nex.node": "another" } });
    assert_eq!(peer.result(short, "Auction", &elsewhere), json!([]));
    let nobodys = json!({ "bid": "0000000000000000000000", "request": request });
    let error = peer.error(short, "StartWorkload", &nobodys);
    assert_eq!(error["text"], NO_REPLY, "{error}");
    let error = peer.error(short, "CloneWorkload", &json!({ "id": "nobodys" }));
    assert_eq!(error["text"], "workload not found", "{error}");
    assert!(error["id"].is_null(), "no node answered: {error}");
    let error = peer.error(
        short_system,
        "GetNodeInfo",
        &json!({ "node": format!("N{}", "A".repeat(55)) }),
    );
    assert_eq!(error["text"], "node not found", "{error}");
    let tagged = json!({ "node": node, "delay": "1m0s", "tags": { "nex.node": "another" } });
    let error = peer.error(short_system, "SetLameduck", &tagged);
    assert_eq!(error["text"], NO_REPLY, "{error}");

    // A stop of what is not there is an answer, not an error.
    let stopped = peer.result(&[], "StopWorkload", &json!({ "id": "nobodys" }));
    assert_eq!(stopped["stopped"], false, "{stopped}");
    assert_eq!(stopped["message"], "workload not found", "{stopped}");

    // Refusals: a type that no nexlet has, a start request that its schema does not allow.
    let deploy = |change: &dyn Fn(&mut Value)| {
        let mut request = request.clone();
        change(&mut request);
        let bid = peer.bid();
        let arguments = json!({ "bid": bid["bidder_id"], "request": request });
        peer.error(&[], "StartWorkload", &arguments)
    };
    let error = deploy(&|request| request["workload_type"] = json!("cobol"));
    assert_eq!(error["status"], 404, "{error}");
    assert_eq!(error["text"], "workload type not found", "{error}");
    let error = deploy(&|request| request["run_request"] = json!("{}"));
    assert_eq!(error["status"], 400, "{error}");
    assert_eq!(error["text"], "failed to validate run request", "{error}");
    assert!(text(&error["raw"]).contains("uri"), "{error}");
    let error = deploy(&|request| request["run_request"] = json!("{"));
    assert_eq!(error["status"], 400, "{error}");
    assert_eq!(text(&error["id"]).len(), 22, "{error}");
    // The nexlet's own refusal is handed on as it is.
    let run = json!({ "uri": "file:///no/such/program" }).to_string();
    let error = deploy(&|request| request["run_request"] = json!(run));
    assert_eq!(error["status"], 404, "{error}");
    assert!(text(&error["text"]).contains("/no/such/program"), "{error}");
    assert_eq!(peer.result(&[], "ListWorkloads", &json!({})), json!([]));
}

#[test]
fn a_go_peer_sets_a_lame_duck() {
    let Some(peer) = Peer::start() else { return };
    let node = peer.node();
    let id = peer.start_shell("web", "service", "exec sleep 1005", "5s");

    let arguments = json!({ "node": node, "delay": "1m0s" });
    let answer = peer.result(SYSTEM, "SetLameduck", &arguments);

    assert_eq!(answer["success"], true, "{answer}");
    assert!(text(&answer["message"]).contains("lameduck"), "{answer}");
    let nodes = peer.result(SYSTEM, "ListNodes", &json!({}));
    assert_eq!(nodes[0]["state"], "lameduck", "{nodes}");
    assert_eq!(nodes[0]["tags"]["nex.lameduck"], "true", "{nodes}");
    let auction = json!({ "type": "native" });
    let bids = peer.result(&["-timeout", SILENCE], "Auction", &auction);
    assert_eq!(bids, json!([]), "no bids from that moment");
    let found = peer.listed(&id).expect("it runs on until the delay");
    assert_eq!(found["workload_state"], "running", "{found}");
}

/// The functions in a file of Rust that are tests.
fn tests_in(source: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let mut lines = source.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line != "#[test]" && !line.starts_with("#[tokio::test") {
            continue;
        }
        let name = lines.find_map(|line| {
            let (_, rest) = line.split_once("fn ")?;
            rest.split_once('(').map(|(name, _)| name.to_owned())
        });
        tests.extend(name);
    }
    tests
}

/// All tests below a folder, but those of other people's crates.
fn tests_below(folder: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        let skipped = ["target", "vendor", ".git"]
            .iter()
            .any(|skip| name == *skip);
        if entry.file_type().unwrap().is_dir() {
            if !skipped {
                tests_below(&path, tests);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests.extend(tests_in(&fs::read_to_string(path).unwrap()));
        }
    }
}

#[test]
fn every_test_that_the_page_on_interop_names_exists() {
    let page = fs::read_to_string(workspace_root().join("docs/interop.md")).unwrap();
    let mut tests = BTreeSet::new();
    tests_below(&workspace_root(), &mut tests);

    // Names of tests are sentences; what else is in code has a dot, a space or upper case.
    let sentence = |name: &str| {
        name.matches('_').count() >= 1
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let (_, checklist) = page.split_once("(Annex B)").unwrap();
    let rows = checklist.lines().filter(|line| line.starts_with("| "));
    for row in rows.filter(|row| row.as_bytes()[2].is_ascii_digit()) {
        let (_, holders) = row.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        let held = holders.split('`').any(|name| tests.contains(name));
        assert!(held, "no test holds: {row}");
    }
    // Words of the protocol, of which there are no tests.
    let words = ["existing_state", "registration_creds"];
    let quoted = page.split('`').skip(1).step_by(2);
    let named = quoted.filter(|name| sentence(name) && !words.contains(name));
    let missing: Vec<&str> = named.filter(|name| !tests.contains(*name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
