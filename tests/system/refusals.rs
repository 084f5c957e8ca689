//! Bad input: each refusal has a cause, a next step and an exit code that is not 0.

use std::{fs, path::Path};

use nex_testkit::{Home, NexUp, Output};

use crate::{ECHO_JS, devrun, file, script, start_shell};

/// Checks that a command failed with that code, and that its message has all of these words.
#[track_caller]
pub(crate) fn refused(output: Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, code, "{output}");
    assert_eq!(output.stdout, "", "{output}");
    for word in words {
        assert!(
            output.stderr.contains(word),
            "`{word}` is missing: {output}"
        );
    }
    let first = output.stderr.lines().next().unwrap_or_default();
    assert!(first.starts_with("error: "), "{output}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

#[test]
fn what_is_wrong_with_a_file_is_said_before_anything_is_sent() {
    let up = NexUp::start();
    let home = up.home();

    refused(
        up.nex(&["devrun", "missing.js"]),
        1,
        &["missing.js", "hint: "],
    );
    refused(
        up.nex(&["devrun", text(home.path())]),
        1,
        &["none of `main.mjs`", "hint: "],
    );
    let notes = file(home, "notes.txt", "just text");
    refused(
        up.nex(&["devrun", text(&notes)]),
        2,
        &["notes.txt", "--type"],
    );
    let untriggered = file(home, "untriggered.js", ECHO_JS);
    refused(
        up.nex(&["devrun", text(&untriggered)]),
        2,
        &["--trigger-subject"],
    );
}

#[test]
fn a_syntax_error_has_its_line_and_column() {
    let up = NexUp::start();
    let broken = file(
        up.home(),
        "broken.js",
        "(subject, payload) => {\n  return );\n};\n",
    );

    let output = up.nex(&["devrun", text(&broken), "--trigger-subject", "x"]);

    refused(output, 1, &["syntax error", "broken.js:2:10"]);
}

#[test]
fn a_script_that_is_no_function_is_refused() {
    let up = NexUp::start();
    let number = file(up.home(), "number.js", "41 + 1");

    let output = up.nex(&["devrun", text(&number), "--trigger-subject", "x"]);

    refused(output, 1, &["function"]);
}

#[test]
fn a_type_that_nobody_runs_is_refused_at_once() {
    let up = NexUp::start();

    let output = up.nex(&[
        "workload",
        "start",
        "--type",
        "cobol",
        "--start-request",
        "{}",
    ]);

    refused(output, 4, &["cobol", "hint: ", "native"]);
}

#[test]
fn names_and_subjects_are_checked() {
    let up = NexUp::start();
    let echo = file(up.home(), "echo.js", ECHO_JS);
    let deploy = |more: &[&str]| {
        let mut args = vec!["devrun", text(&echo)];
        args.extend(more);
        up.nex(&args)
    };

    refused(
        deploy(&["--namespace", "a.b", "--trigger-subject", "x"]),
        2,
        &["namespace", "a.b"],
    );
    refused(
        deploy(&["--trigger-subject", "a b"]),
        2,
        &["subject", "a b"],
    );
    for reserved in ["$SYS.x", "$JS.API.x", "$NEX.x", ">", "*.x"] {
        refused(
            deploy(&["--trigger-subject", reserved]),
            2,
            &["subject", reserved],
        );
    }
}

#[test]
fn a_reserved_subject_is_refused_in_a_start_request_too() {
    let up = NexUp::start();
    let echo = file(up.home(), "echo.js", ECHO_JS);
    let request = serde_json::json!({
        "uri": format!("file://{}", text(&echo)),
        "triggers": [{ "subject": "$NEX.SVC.default.control.AUCTION" }],
    })
    .to_string();

    let output = up.nex(&[
        "workload",
        "start",
        "--type",
        "js",
        "--lifecycle",
        "function",
        "--start-request",
        &request,
    ]);

    refused(
        output,
        2,
        &["`/triggers/0`", "$NEX.SVC.default.control.AUCTION"],
    );
}

#[test]
fn an_unreachable_nats_is_said_with_where_it_was_sought() {
    let home = Home::new();

    let output = home.nex(&["workload", "list", "-s", "nats://127.0.0.1:1"]);

    refused(output, 3, &["nats://127.0.0.1:1", "refused", "hint: "]);
}

#[test]
fn payloads_and_artifacts_over_the_limits_are_refused() {
    let up = NexUp::start();
    let echo = file(up.home(), "echo.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "echo"]);
    let large = up.home().path().join("large");
    fs::write(&large, vec![b'x'; 2 << 20]).unwrap();
    let mut command = up.home().nex_command(&["req", "echo", "-"]).unwrap();
    command.stdin(fs::File::open(&large).unwrap());

    refused(
        up.home().run(&mut command).unwrap(),
        1,
        &["payload", "1048576"],
    );

    let source = file(
        up.home(),
        "large.js",
        &format!("// {}\n{ECHO_JS}", "x".repeat(8 << 20)),
    );
    let output = up.nex(&["devrun", text(&source), "--trigger-subject", "large"]);
    refused(output, 1, &["large"]);

    // Before anything of it is sent: there is not even a bucket for it.
    let module = up.home().path().join("large.wasm");
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.resize((16 << 20) + 1, 0);
    fs::write(&module, bytes).unwrap();
    let output = up.nex(&["devrun", text(&module), "--trigger-subject", "large"]);
    refused(output, 1, &["a module may have 16777216", "hint: "]);
}

#[test]
fn an_import_that_is_no_file_is_refused_with_its_own_place() {
    let up = NexUp::start();
    for (name, import, part) in [
        ("bundle.mjs", "https", "hint: `fetch`, `URL`"),
        ("other.js", "node:fs", "hint: `fetch`, `URL`"),
        ("url.mjs", "https://esm.sh/x", "hint: a function imports"),
        ("package.mjs", "left-pad", "hint: bundle it"),
        ("alone.mjs", "./data.json", "hint: deploy its folder"),
    ] {
        let code = format!("// {name}\nimport x from '{import}';\nexport default () => 1;\n");
        let path = file(up.home(), name, &code);

        let output = up.nex(&[
            "devrun",
            text(&path),
            "--name",
            "f",
            "--trigger-subject",
            "f",
        ]);

        let named = format!("cannot import `{import}`");
        // The hint is said once.
        let said = part.trim_start_matches("hint: ");
        assert_eq!(output.stderr.matches(said).count(), 1, "{output}");
        refused(output, 1, &[&format!("{name}:2:15"), &named, part]);
    }
}

#[test]
fn code_for_node_is_refused_with_what_to_do() {
    let up = NexUp::start();
    for (name, code, words) in [
        (
            "require.js",
            "const fs = require('fs');\n(subject, payload) => payload",
            [
                "require is not defined",
                "hint: a function imports files",
                "`npx esbuild --bundle",
            ],
        ),
        (
            "exports.js",
            "module.exports = (subject, payload) => payload",
            [
                "module is not defined",
                "hint: a function is no CommonJS module",
                "`export default",
            ],
        ),
        (
            "value.js",
            "({ handler: 1 })",
            [
                "no function but object",
                "hint: want a script that ends in",
                "=> …`",
            ],
        ),
    ] {
        let path = file(up.home(), name, code);
        let output = up.nex(&["devrun", text(&path), "--trigger-subject", "f"]);
        refused(output, 1, &words);
    }
    for (name, hint) in [
        (
            "f.cjs",
            "hint: functions are no CommonJS modules: `npx esbuild ",
        ),
        ("f.ts", "hint: functions are JavaScript: `npx esbuild "),
        (
            "job.py",
            "hint: begin it with a line that names its interpreter",
        ),
    ] {
        let path = file(up.home(), name, "x");
        let output = up.nex(&["devrun", text(&path), "--trigger-subject", "f"]);
        assert!(!output.stderr.contains("--type"), "{output}");
        refused(output, 2, &[name, hint]);
    }
    let late = "(subject, payload) => require('fs')";
    let late = file(up.home(), "late.js", late);
    devrun(&up, &late, &["--trigger-subject", "late"]);
    let called = up.nex(&["req", "late", ""]).failed();
    assert!(
        called
            .stderr
            .contains("require is not defined; a function imports"),
        "{called}"
    );
}

#[test]
fn a_result_over_the_servers_limit_is_answered_at_once() {
    let up = NexUp::start();
    let large = file(up.home(), "large.js", "() => 'x'.repeat(2 << 20)");
    devrun(&up, &large, &["--trigger-subject", "large"]);

    let output = up.nex(&["req", "large", ""]);

    refused(output, 1, &["413", "bytes"]);
}

#[test]
fn an_error_of_many_lines_reaches_the_caller_on_one() {
    let up = NexUp::start();
    let throws = file(
        up.home(),
        "throws.js",
        "(subject) => {\n  throw new Error('first line\\r\\nsecond: line');\n}",
    );
    devrun(&up, &throws, &["--trigger-subject", "throws"]);

    let output = up.nex(&["req", "throws", ""]);

    refused(output, 1, &["first line  second: line"]);
    nex_testkit::wait_until("it is logged", crate::LIMIT, || {
        let logs = up.nex(&["logs", "throws"]).ok().stdout;
        (logs.contains("throws.js:2:")).then_some(()).ok_or(logs)
    })
    .unwrap();
}

#[test]
fn what_cannot_be_executed_is_refused_with_the_reason() {
    let up = NexUp::start();
    let missing = r#"{"uri":"file:///no/such/program"}"#;
    let output = up.nex(&["workload", "start", "--start-request", missing]);
    refused(output, 1, &["/no/such/program"]);

    let plain = file(up.home(), "plain", "not executable");
    let request = format!(r#"{{"uri":"file://{}"}}"#, text(&plain));
    let output = up.nex(&["workload", "start", "--start-request", &request]);
    refused(output, 1, &["no permission to execute", "plain"]);
    assert!(crate::list(&up).is_empty(), "{:?}", crate::list(&up));
}

#[test]
fn a_start_request_that_fits_no_schema_is_refused() {
    let up = NexUp::start();

    let output = up.nex(&["workload", "start", "--start-request", r#"{"argv":[]}"#]);
    refused(output, 2, &["uri"]);
    let output = up.nex(&["workload", "start", "--start-request", "{"]);
    refused(output, 2, &["--start-request"]);
}

#[test]
fn what_is_not_there_is_not_found() {
    let up = NexUp::start();

    refused(up.nex(&["workload", "stop", "nobody"]), 4, &["nobody"]);
    refused(up.nex(&["workload", "info", "nobody"]), 4, &["nobody"]);
    refused(
        up.nex(&["req", "nobody.listens", "x"]),
        4,
        &["nobody.listens", "hint: "],
    );
    refused(
        start_shell(&up, "x", "function", "true", &[]),
        4,
        &["function"],
    );
}

/// A Go program sends `null` for slices and maps that it has not made.
#[tokio::test]
async fn null_is_taken_for_every_optional_field_of_a_start() {
    let up = NexUp::start();
    let echo = file(up.home(), "echo.js", ECHO_JS);
    devrun(&up, &echo, &["--trigger-subject", "echo"]);
    let uri = format!("file://{}", text(&echo));
    let native = r#"{"uri":"file:///bin/sleep","argv":null,"environment":null,"description":null,"expose_ports":null,"stop_grace":null}"#;
    let native_job = native.replace("sleep", "true");
    let function = format!(
        r#"{{"uri":"{uri}","triggers":[{{"subject":"nulls","stream":null,"broadcast":null}}],"environment":null,"isolation":null,"timeout":null,"services":null}}"#
    );
    for (kind, request) in [("native", native_job.as_str()), ("js", &function)] {
        let lifecycle = if kind == "js" { "function" } else { "job" };
        let start = [
            "workload",
            "start",
            "--type",
            kind,
            "--lifecycle",
            lifecycle,
        ];
        up.nex(&[&start[..], &["--start-request", request]].concat())
            .ok();
    }
    up.nex(&["req", "nulls", "x"]).ok();

    let nexfile = r#"{"name":"nulls","type":"native","lifecycle":"job","description":null,"tags":null,
        "start_request":{"uri":"file:///bin/true","argv":null,"environment":null}}"#;
    let nexfile = file(up.home(), "nulls.json", nexfile);
    up.nex(&["workload", "validate", text(&nexfile)]).ok();
    up.nex(&["workload", "start", "-f", text(&nexfile)]).ok();
}

#[test]
fn a_script_of_an_editor_of_windows_is_refused_with_its_interpreter() {
    let up = NexUp::start();
    let home = up.home();
    let broken = script(home, "broken.sh", "exit 0");
    fs::write(&broken, "#!/bin/sh\r\n").unwrap();
    for (name, content, words) in [
        (
            "crlf.sh",
            "#!/bin/sh\r\nexit 0\r\n",
            [
                r"`/bin/sh\r`",
                "hint: save it with the line breaks of Unix (LF, not CRLF)",
            ],
        ),
        (
            "env.py",
            "#!/usr/bin/env python3\r\n",
            [
                r"`/usr/bin/env python3\r`",
                "hint: save it with the line breaks",
            ],
        ),
        (
            "mark.sh",
            "\u{feff}#!/bin/sh\n",
            ["byte order mark", "hint: save it as UTF-8"],
        ),
        (
            "gone.sh",
            "#!/opt/none/bash -e\n",
            ["`/opt/none/bash -e`", "hint: install it"],
        ),
        (
            "folder.sh",
            "#!/tmp\n",
            ["`/tmp`, which is a folder", "hint: name a program"],
        ),
        (
            "plain.sh",
            "#!/etc/passwd\n",
            ["`/etc/passwd`, which is no program", "hint: name a program"],
        ),
        (
            "outer.sh",
            &format!("#!{}\n", text(&broken)),
            [text(&broken), "hint: save it with the line breaks"],
        ),
    ] {
        let script = file(home, name, content);

        let refusal = up.nex(&["devrun", text(&script)]);
        assert!(!refusal.stderr.contains("/.nex/"), "{refusal}");
        refused(refusal, 1, &words);
    }
}

#[test]
fn files_of_an_editor_of_windows_are_read() {
    let up = NexUp::start();
    let home = up.home();
    let windows = |text: &str| format!("\u{feff}{}", text.replace('\n', "\r\n"));

    let echo = file(home, "echo.js", &windows(ECHO_JS));
    devrun(&up, &echo, &["--trigger-subject", "echo"]);
    assert!(up.nex(&["req", "echo", "hi"]).ok().stdout.contains("hi"));

    let folder = home.path().join("shop");
    fs::create_dir(&folder).unwrap();
    let main = "import data from './data.json'\nexport default () => data.price\n";
    fs::write(folder.join("main.mjs"), windows(main)).unwrap();
    fs::write(folder.join("data.json"), windows("{\"price\": 7}\n")).unwrap();
    devrun(&up, &folder, &["--trigger-subject", "price"]);
    assert_eq!(up.nex(&["req", "price", ""]).ok().stdout.trim(), "7");

    let creds = fs::read_to_string(up.data_dir().join("cli.creds")).unwrap();
    let creds = file(home, "windows.creds", &windows(&creds));
    let config = format!(
        "{{\n\"nats\": {{\"creds_file\": \"{}\"}}\n}}\n",
        text(&creds)
    );
    let config = file(home, "windows.json", &windows(&config));
    let listed = up.nex(&[
        "workload",
        "list",
        "--config",
        text(&config),
        "-s",
        up.url(),
    ]);
    assert!(listed.ok().stdout.contains("shop"));

    let nexfile =
        "name: once\ntype: native\nlifecycle: job\nstart_request:\n  uri: file:///bin/true\n";
    let nexfile = file(home, "once.yaml", &windows(nexfile));
    up.nex(&["workload", "start", "--wait", "-f", text(&nexfile)])
        .ok();
}

#[test]
fn the_home_folder_is_meant_by_a_tilde_everywhere() {
    let up = NexUp::builder().arg("--no-anonymous").start();
    let home = up.home();
    let url = up.url();
    fs::copy(up.data_dir().join("cli.creds"), home.path().join("k.creds")).unwrap();
    let run = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = home.nex_command(args).unwrap();
        // Else the command would find the credentials of the running `nex up`.
        command.env("XDG_STATE_HOME", home.path().join("elsewhere"));
        command.envs(variables.iter().copied());
        home.run(&mut command).unwrap()
    };
    let list = ["workload", "list", "-s", url];

    run(&list, &[]).failed();
    run(&list, &[("NATS_CREDS", "~/k.creds")]).ok();
    run(&[&list[..], &["--creds=~/k.creds"]].concat(), &[]).ok();
    let config = r#"{"nats":{"creds_file":"~/k.creds"}}"#;
    file(home, "home.json", config);
    run(&[&list[..], &["--config=~/home.json"]].concat(), &[]).ok();
    let job = script(home, "job.sh", "exit 0");
    assert!(job.starts_with(home.path()));
    let nexfile = r#"{"name":"once","type":"native","lifecycle":"job","start_request":{"uri":"file://~/job.sh"}}"#;
    file(home, "once.json", nexfile);
    let start = [
        "workload",
        "start",
        "--wait",
        "-s",
        url,
        "--creds=~/k.creds",
        "--nexfile=~/once.json",
    ];
    run(&start, &[]).ok();
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let up = NexUp::start();
    let run = |args: &[&str], output: &str| {
        let mut command = up.home().nex_command(args).unwrap();
        command.stdout(fs::File::options().write(true).open(output).unwrap());
        command.stderr(std::process::Stdio::piped());
        command.output().unwrap()
    };
    for args in [
        &["--version"][..],
        &["--help"],
        &["help", "devrun"],
        &["completions", "bash"],
        &["node", "list"],
        &["node", "list", "--json"],
        &["workload", "list"],
        &["workload", "validate", "--schema"],
        &["events", "--json"],
        &["dlq", "list"],
    ] {
        let full = run(args, "/dev/full");
        let said = String::from_utf8_lossy(&full.stderr);
        assert_eq!(full.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains("failed to write the output"),
            "{args:?}: {said}"
        );
        assert_eq!(run(args, "/dev/null").status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_news() {
    let home = Home::new();
    for args in [&["--version"][..], &["--help"], &["completions", "zsh"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = home.nex_command(args).unwrap();
        command.stdout(writer).stderr(std::process::Stdio::piped());

        let output = command.output().unwrap();

        assert_eq!(output.status.code(), Some(141), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn a_command_of_a_slide_is_answered_with_what_to_type() {
    let home = Home::new();
    let echo = file(&home, "echo.js", ECHO_JS);
    let echo = text(&echo);

    let dash = home.nex(&["devrun", echo, "–trigger_subject=echo"]);
    refused(
        dash,
        2,
        &[
            "`–trigger_subject=echo`",
            "hint: type it anew: `--trigger_subject=echo`",
        ],
    );
    let quotes = home.nex(&["workload", "start", "--start-request", "“{}”"]);
    refused(
        quotes,
        2,
        &["typographic quote (U+201C)", "hint: type it anew: `'{}'`"],
    );
    let echo_with = |more: &[&str]| home.nex(&[&["devrun", echo][..], more].concat());
    for (more, words) in [
        (
            &["“A=x”"][..],
            ["`“A` has a typographic quote (U+201C)", "type it anew"],
        ),
        (
            &["--name", "“echo"],
            ["(U+201C)", "hint: type it anew: `'echo'`"],
        ),
        (
            &["--name=«echo»"],
            ["(U+00AB)", "hint: type it anew: `'echo'`"],
        ),
        (
            &["--name=″echo″"],
            ["(U+2033)", "hint: type it anew: `'echo'`"],
        ),
        (
            &["--name=echo\u{200b}"],
            ["(U+200B)", "hint: type it anew: `'echo'`"],
        ),
        (
            &["--follow\u{a0}"],
            ["(U+00A0)", "hint: type it anew: `--follow`"],
        ),
        (
            &["ーーfollow"],
            ["(U+30FC)", "hint: type it anew: `--follow`"],
        ),
        (
            &["--trig\u{ad}ger_subject=echo"],
            ["(U+00AD)", "hint: type it anew: `--trigger_subject=echo`"],
        ),
    ] {
        refused(echo_with(more), 2, &words);
    }
    let space = format!("{echo}\u{a0}--trigger_subject=echo");
    refused(
        home.nex(&["devrun", &space]),
        1,
        &["a non-breaking space (U+00A0)"],
    );
    refused(
        home.nex(&["workload\u{a0}list"]),
        2,
        &["a non-breaking space"],
    );
}

#[test]
fn what_is_taken_in_one_place_is_taken_in_the_other() {
    let up = NexUp::start();
    let servers = format!("{},", up.url());
    up.nex(&["node", "list", "-s", &servers]).ok();
    let run = [
        "devrun",
        "/usr/bin/env",
        "a.b__X=5",
        "2-a=1",
        "--lifecycle",
        "job",
        "--follow",
    ];
    let run = up.nex(&run).ok();
    for line in ["a.b__X=5", "2-a=1"] {
        assert!(run.stdout.contains(line), "{run}");
    }
    for since in ["1d", "1w2d3h", "1.5d"] {
        let logs = up.nex(&["logs", "env", "--since", since]).ok();
        assert!(logs.stdout.contains("a.b__X=5"), "{since}: {logs}");
    }
}
