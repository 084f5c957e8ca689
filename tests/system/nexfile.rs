//! Nexfiles: started, overridden, checked, and refused with line and column.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use nex_testkit::{Home, NexUp, Output};
use serde_json::{Value, json};

use crate::{file, find, list, refusals::refused};

const SLEEPER: &str = "\
# A service that does nothing.
name: sleeper
type: native
lifecycle: service
description: does nothing
start_request:
  uri: file:///bin/sleep
  argv: [\"1000\"]
";

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// Runs a command in a folder of the home, for what looks at the working directory.
#[track_caller]
fn nex_in(home: &Home, folder: &Path, args: &[&str]) -> Output {
    let mut command = home.nex_command(args).expect("an executable");
    home.run(command.current_dir(folder)).expect("it runs")
}

/// Runs a command with that on its standard input.
#[track_caller]
fn nex_with_input(home: &Home, args: &[&str], input: &str) -> std::process::Output {
    let mut command: Command = home.nex_command(args).expect("an executable");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_file_says_what_to_start_and_flags_win() {
    let up = NexUp::start();
    let path = file(up.home(), "sleeper.yaml", SLEEPER);

    let first = up
        .nex(&["workload", "start", "-f", text(&path), "--json"])
        .ok();
    let flags = ["--name", "other", "--namespace", "shop"];
    let mut second = vec!["workload", "run", "--nexfile", text(&path)];
    second.extend(flags);
    up.nex(&second).ok();

    let printed: Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(printed["name"], "sleeper");
    let sleeper = find(&up, "sleeper").unwrap();
    assert_eq!(sleeper["id"], printed["id"]);
    assert_eq!(sleeper["namespace"], "default");
    assert_eq!(find(&up, "other").unwrap()["namespace"], "shop");
}

#[test]
fn a_file_named_nexfile_is_used_and_announced_and_wins_over_no_flag() {
    let up = NexUp::start();
    let folder = up.home().path().join("project");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("Nexfile"), SLEEPER).unwrap();
    let start = |more: &[&str]| {
        let mut args = vec!["workload", "start"];
        args.extend(more);
        nex_in(up.home(), &folder, &args).ok()
    };

    let implied = start(&["--name", "mine"]);
    let request = r#"{"uri":"file:///bin/true"}"#;
    let said = start(&[
        "--name",
        "said",
        "--lifecycle",
        "job",
        "--start-request",
        request,
    ]);

    assert_eq!(implied.stderr, "using `./Nexfile`\n", "{implied}");
    assert!(implied.stdout.contains("Workload mine ["), "{implied}");
    assert_eq!(said.stderr, "", "{said}");
    let listed = list(&up);
    assert!(
        !listed.iter().any(|workload| workload["name"] == "sleeper"),
        "{listed:?}"
    );
}

#[test]
fn without_a_file_or_a_request_it_is_said_what_to_type() {
    let up = NexUp::start();

    let output = nex_in(up.home(), up.home().path(), &["workload", "start"]);

    refused(
        output,
        2,
        &["nothing to start", "--start-request", "-f FILE"],
    );
}

#[test]
fn a_file_is_read_from_standard_input() {
    let up = NexUp::start();
    let job = json!({
        "name": "job", "type": "native", "lifecycle": "job",
        "start_request": {"uri": "file:///bin/sh", "argv": ["-c", "exit 7"]},
    });

    let args = ["workload", "start", "-f", "-", "--wait"];
    let output = nex_with_input(up.home(), &args, &job.to_string());

    assert_eq!(output.status.code(), Some(7), "{output:?}");
}

#[test]
fn what_is_wrong_has_its_line_and_nothing_is_started() {
    let up = NexUp::start();
    let start = |name: &str, text_of_it: &str| {
        let path = file(up.home(), name, text_of_it);
        up.nex(&["workload", "start", "-f", text(&path)])
    };

    let slip = SLEEPER.replace("lifecycle", "lifecyle");
    refused(
        start("slip", &slip),
        2,
        &[
            "line 4, column 1: unknown key `lifecyle`",
            "4 | lifecyle: service",
            "hint: did you mean `lifecycle`?",
        ],
    );
    refused(
        start("unfit", &SLEEPER.replace("[\"1000\"]", "[1000]")),
        2,
        &[
            "line 8, column 10: at `/start_request/argv/0`: want a string, found a number",
            "8 |   argv: [1000]",
        ],
    );
    refused(
        start("twice", &format!("{SLEEPER}name: again\n")),
        2,
        &["line 9, column 1: duplicate mapping key `name`"],
    );
    refused(
        start(
            "none.json",
            r#"{"name":"a","type":"native","lifecycle":"job"}"#,
        ),
        2,
        &["missing key `start_request`"],
    );
    refused(
        up.nex(&["workload", "start", "-f", "nowhere"]),
        2,
        &["failed to read `nowhere`", "hint: "],
    );
    assert_eq!(list(&up), Vec::<Value>::new());
}

#[test]
fn a_start_request_that_does_not_fit_is_refused_before_it_is_sent() {
    let up = NexUp::start();

    let output = up.nex(&["workload", "start", "--start-request", r#"{"argv":[1]}"#]);

    refused(
        output,
        2,
        &[
            "does not fit `native` workloads",
            "at `/argv/0`: want a string",
            "missing key `uri`",
        ],
    );
}

#[test]
fn a_file_is_checked_by_form_and_by_the_nexlets_schema() {
    let up = NexUp::start();
    let good = file(up.home(), "good", SLEEPER);
    let unfit = file(up.home(), "unfit", &SLEEPER.replace("uri", "url"));
    let other = file(up.home(), "other", &SLEEPER.replace("native", "cobol"));
    let validate = |path: &Path, more: &[&str]| {
        let mut args = vec!["workload", "validate", text(path)];
        args.extend(more);
        up.nex(&args)
    };

    let valid = validate(&good, &["--json"]).ok();
    let wrong = validate(&unfit, &["--json"]);
    let nobody = validate(&other, &["--json"]);
    let form = validate(&other, &["--offline", "--json"]).ok();

    let object = |output: &Output| -> Value { serde_json::from_str(&output.stdout).unwrap() };
    let (wrong_object, nobody_object) = (object(&wrong), object(&nobody));
    assert_eq!(
        object(&valid),
        json!({"file": text(&good), "valid": true, "checked": "start_request", "problems": []})
    );
    assert_eq!(wrong.code, 2, "{wrong}");
    assert_eq!(wrong_object["valid"], false);
    assert_eq!(wrong_object["problems"][0]["line"], 7, "{wrong}");
    assert_eq!(nobody.code, 5, "{nobody}");
    assert_eq!(nobody_object["valid"], Value::Null);
    assert!(nobody.stderr.contains("no node runs `cobol`"), "{nobody}");
    assert_eq!(object(&form)["checked"], "form");
    assert_eq!(list(&up), Vec::<Value>::new());
}

#[test]
fn without_a_nexus_only_the_form_is_checked_and_that_is_said() {
    let home = Home::new();
    let good = file(&home, "good", SLEEPER);
    let nowhere = ["-s", "nats://127.0.0.1:1"];
    let validate = |more: &[&str]| {
        let mut args = vec!["workload", "validate", text(&good)];
        args.extend(more);
        home.nex(&args)
    };

    let output = validate(&nowhere);
    let offline = validate(&["--offline"]).ok();

    refused(
        output,
        5,
        &[
            "only the form of",
            "caused by: ",
            "`--offline` checks the form",
        ],
    );
    assert!(offline.stdout.contains("was not checked"), "{offline}");
}

#[test]
fn the_schema_for_editors_is_the_published_one() {
    let home = Home::new();

    let printed = home.nex(&["workload", "validate", "--schema"]).ok().stdout;

    let published = nex_testkit::workspace_root().join("schemas/nexfile.json");
    assert_eq!(printed, std::fs::read_to_string(published).unwrap());
}

#[test]
fn the_examples_have_the_right_form() {
    let home = Home::new();
    let examples = nex_testkit::workspace_root().join("examples");
    let folders = std::fs::read_dir(examples).unwrap();
    let files: Vec<_> = folders
        .map(|folder| folder.unwrap().path().join("Nexfile"))
        .filter(|path| path.is_file())
        .collect();

    assert!(!files.is_empty());
    for path in files {
        home.nex(&["workload", "validate", "--offline", text(&path)])
            .ok();
    }
}

/// `null` for a value of a map of strings: the check and the start say the same about it.
#[test]
fn null_in_a_map_of_strings_is_refused_by_the_check_and_by_the_start() {
    let up = NexUp::start();
    let script = file(up.home(), "echo.js", "(subject, payload) => payload");
    let uri = format!("file://{}", text(&script));
    for (workload_type, lifecycle, request, place) in [
        (
            "native",
            "job",
            "{uri: \"file:///bin/date\", environment: {DEBUG: }}".to_owned(),
            "/start_request/environment/DEBUG",
        ),
        (
            "js",
            "function",
            format!("{{uri: \"{uri}\", triggers: [{{subject: a}}], environment: {{DEBUG: null}}}}"),
            "/start_request/environment/DEBUG",
        ),
        (
            "wasm",
            "function",
            "{uri: \"file:///x\", triggers: [{subject: a}], environment: {DEBUG: ~}}".to_owned(),
            "/start_request/environment/DEBUG",
        ),
        (
            "js",
            "function",
            format!("{{uri: \"{uri}\", triggers: [{{subject: null}}]}}"),
            "missing key `subject` or `stream`",
        ),
        (
            "js",
            "function",
            format!("{{uri: \"{uri}\", triggers: [{{subject: a, stream: b}}]}}"),
            "/start_request/triggers/0",
        ),
    ] {
        let nexfile = format!(
            "name: x\ntype: {workload_type}\nlifecycle: {lifecycle}\nstart_request: {request}\n"
        );
        let path = file(up.home(), "x.yaml", &nexfile);
        let places = ["line 4, column ", place];
        refused(up.nex(&["workload", "validate", text(&path)]), 2, &places);
        refused(
            up.nex(&["workload", "start", "-f", text(&path)]),
            2,
            &places,
        );
    }

    let tags = "name: x\ntype: native\nlifecycle: job\ntags: {region: }\nstart_request: {uri: \"file:///bin/date\"}\n";
    let path = file(up.home(), "tags.yaml", tags);
    let validated = up.nex(&["workload", "validate", text(&path), "--json"]);
    let answer: Value = serde_json::from_str(&validated.stdout).unwrap();
    assert_eq!(answer["problems"][0]["line"], 4, "{answer}");
    refused(
        up.nex(&["workload", "start", "-f", text(&path)]),
        2,
        &["line 4, column 14", "hint: "],
    );
}

/// Days and weeks are durations in a start request as on the command line; the check knows what is none.
#[test]
fn a_duration_is_the_same_for_the_check_and_for_the_start() {
    let up = NexUp::start();
    let nexfile = |grace: &str| {
        let text = SLEEPER.replace("argv:", &format!("stop_grace: {grace}\n  argv:"));
        file(up.home(), "sleeper.yaml", &text)
    };

    for grace in ["1d", "1w2d", "5s"] {
        let path = nexfile(grace);
        up.nex(&["workload", "validate", text(&path)]).ok();
        up.nex(&["workload", "start", "-f", text(&path)]).ok();
    }
    for grace in ["1y", "\"5\"", "soon"] {
        let path = nexfile(grace);
        let places = ["line 8, column 15", "want a text such as `5s`"];
        refused(up.nex(&["workload", "validate", text(&path)]), 2, &places);
        refused(
            up.nex(&["workload", "start", "-f", text(&path)]),
            2,
            &places,
        );
    }
}

#[test]
fn limits_of_start_requests_are_known_to_the_check() {
    let up = NexUp::start();
    let code = file(up.home(), "echo.js", "(subject, payload) => payload");
    let check = |workload_type: &str, lifecycle: &str, request: &Value, words: &[&str]| {
        let nexfile = json!({
            "name": "w",
            "type": workload_type,
            "lifecycle": lifecycle,
            "start_request": request,
        });
        let path = file(up.home(), "w.json", &nexfile.to_string());
        refused(up.nex(&["workload", "validate", text(&path)]), 2, words);
        path
    };
    let uri = format!("file://{}", code.display());
    let long = "a".repeat(513);
    let function = |key: &str, value: Value, words: &[&str]| {
        let mut request = json!({ "uri": uri, "triggers": [{ "subject": "echo" }] });
        request[key] = value;
        check("js", "function", &request, words)
    };
    let words = ["/timeout`", "at most 1m0s"];
    let path = function("timeout", json!("61s"), &words);
    refused(up.nex(&["workload", "start", "-f", text(&path)]), 2, &words);
    function("timeout", json!("0s"), &["/timeout`", "more than 0s"]);
    function(
        "timeout",
        json!("9999999999h"),
        &["/timeout`", "invalid duration"],
    );
    function(
        "uri",
        json!("echo.js"),
        &["/uri`", "`file:///absolute/path`"],
    );
    function(
        "uri",
        json!("nats://a.b/c"),
        &["/uri`", "`nats://BUCKET/NAME:TAG`"],
    );
    for (trigger, words) in [
        (
            json!({"subject": "$SYS.x"}),
            ["not for functions", "/triggers/0`"],
        ),
        (
            json!({"subject": "a b"}),
            ["invalid subject `a b`", "/triggers/0`"],
        ),
        (
            json!({"subject": long}),
            ["want at most 512", "/triggers/0`"],
        ),
        (
            json!({"subject": "a", "filter": "b"}),
            ["`filter` is for", "/triggers/0`"],
        ),
        (
            json!({"stream": "NEX_FEEDS"}),
            ["the system's own", "/triggers/0`"],
        ),
        (
            json!({"stream": "a.b"}),
            ["invalid stream `a.b`", "/triggers/0`"],
        ),
        (
            json!({"stream": "S", "broadcast": true}),
            ["`broadcast` is for", "/triggers/0`"],
        ),
        (
            json!({"stream": "S", "filter": "a..b"}),
            ["invalid subject `a..b`", "/triggers/0`"],
        ),
        (
            json!({"stream": "S", "ack_wait": "500ms"}),
            ["at least 1s", "/triggers/0/ack_wait`"],
        ),
        (
            json!({"stream": "S", "back_off": ["25h"]}),
            ["at most 24h0m0s", "/triggers/0/back_off/0`"],
        ),
    ] {
        function("triggers", json!([trigger]), &words);
    }
    let twice = json!([{"subject": "a"}, {"subject": "a", "broadcast": true}]);
    function("triggers", twice, &["two triggers differ", "/triggers`"]);

    let program = |key: &str, value: Value, words: &[&str]| {
        let mut request = json!({ "uri": "file:///bin/true" });
        request[key] = value;
        check("native", "job", &request, words)
    };
    program(
        "uri",
        json!("/bin/true"),
        &["/uri`", "`file:///absolute/path`"],
    );
    program(
        "stop_grace",
        json!("9999999999h"),
        &["/stop_grace`", "invalid duration"],
    );
    program("argv", json!(["a\u{0}"]), &["/argv/0`", "NUL"]);
    program("argv", json!(["secret://a"]), &["/argv/0`", "secret store"]);
    program(
        "environment",
        json!({"A": "secret://a"}),
        &["/environment/A`", "secret store"],
    );
    program(
        "environment",
        json!({"A=B": "c"}),
        &["/environment`", "A=B"],
    );
    program("environment", json!({"": "c"}), &["/environment`"]);
    program(
        "environment",
        json!({"NEX_WORKLOAD_ID": "c"}),
        &["/environment`", "NEX_WORKLOAD_ID"],
    );

    let home =
        json!({ "uri": "file://~/echo.js", "triggers": [{ "subject": "echo" }], "timeout": "1m" });
    let nexfile =
        json!({"name": "w", "type": "js", "lifecycle": "function", "start_request": home});
    let path = file(up.home(), "w.json", &nexfile.to_string());
    up.nex(&["workload", "validate", text(&path)]).ok();
    up.nex(&["workload", "start", "-f", text(&path)]).ok();
}
