//! `nex invoke`: a function called by its name.

use std::process::Stdio;

use futures_util::StreamExt as _;
use nex_testkit::{NexUp, Output};
use serde_json::Value;

use crate::{devrun, file, refusals::refused, start_shell};

const JS: &str = r#"
let calls = 0;
(subject, payload) => {
  const text = String.fromCharCode(...payload);
  console.log(`call ${++calls} with ${text}`);
  console.error("and a warning");
  if (text === "no") throw new Error("it said no");
  return { subject, text };
};
"#;

#[track_caller]
fn parsed(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
}

#[test]
fn a_function_is_called_by_its_name_and_its_lines_are_shown() {
    let up = NexUp::start();
    let script = file(up.home(), "web.js", JS);
    devrun(&up, &script, &["--trigger-subject", "tell.*"]);

    // Not on a subject with a wildcard.
    refused(
        up.nex(&["invoke", "web", "x"]),
        2,
        &["tell.*", "--subject SUBJECT"],
    );
    let call = |more: &[&str]| up.nex(&[&["invoke", "web", "--subject", "tell.me"], more].concat());

    let told = call(&["yes"]).ok();
    assert_eq!(told.stdout, "{\"subject\":\"tell.me\",\"text\":\"yes\"}\n");
    for part in [
        "stdout | call ",
        "with yes\n",
        "stderr | and a warning\n",
        "answered by ",
    ] {
        assert!(told.stderr.contains(part), "{part}: {told}");
    }
    assert!(!told.stderr.contains("there may be more"), "{told}");

    let told = parsed(&call(&["yes", "--json"]).ok());
    assert_eq!(told["data"], r#"{"subject":"tell.me","text":"yes"}"#);
    assert_eq!(told["logs"][1]["line"], "and a warning");
    assert_eq!(
        (&told["logs_complete"], told["duration_ms"].is_f64()),
        (&true.into(), true)
    );

    let failed = call(&["no", "--json"]);
    assert_eq!(failed.code, 1, "{failed}");
    let told = parsed(&failed);
    assert_eq!(told["error"]["code"], 500);
    let lines = told["logs"].as_array().unwrap().iter();
    let lines: Vec<&str> = lines.map(|line| line["line"].as_str().unwrap()).collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert!(lines[2].contains("it said no at web.js:7"), "{told}");
}

#[test]
fn a_file_is_a_payload_and_calls_are_repeated() {
    let up = NexUp::start();
    let script = file(up.home(), "echo.js", "(subject, payload) => payload");
    devrun(&up, &script, &["--trigger-subject", "echo"]);
    let bytes: Vec<u8> = (0..=255).collect();
    let payload = up.home().path().join("payload");
    std::fs::write(&payload, &bytes).unwrap();

    let mut command = up
        .home()
        .nex_command(&["invoke", "echo", "--file"])
        .unwrap();
    let output = command
        .arg(&payload)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.stdout, [&bytes[..], b"\n"].concat());

    let many = up.nex(&["invoke", "echo", "x", "--repeat", "20"]).ok();
    assert_eq!(many.stdout, "x\n".repeat(20));
    assert!(many.stderr.contains("20 calls, 0 failed: "), "{many}");
}

/// From `system`, which sees both.
#[test]
fn of_two_namespaces_nobody_is_called_by_the_name_of_both() {
    let up = NexUp::start();
    for namespace in ["east", "west"] {
        let code = format!("() => ({{ namespace: '{namespace}' }})");
        let script = file(up.home(), "same.js", &code);
        let more = ["--trigger-subject", namespace, "--namespace", namespace];
        devrun(&up, &script, &more);
    }

    refused(
        up.nex(&["invoke", "same", "x"]),
        1,
        &[
            "`same` is ambiguous: 2 workloads match",
            "enough of its beginning",
        ],
    );

    let west = up.nex(&["invoke", "same", "x", "--namespace", "west"]).ok();
    assert_eq!(west.stdout, "{\"namespace\":\"west\"}\n");
    let listed = up.nex(&["workload", "list", "--namespace", "east", "--json"]);
    let id = parsed(&listed.ok())[0][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    // Ids of one node begin alike, with a mark of it.
    let east = up.nex(&["invoke", &id[..20], "x"]).ok();
    assert_eq!(east.stdout, "{\"namespace\":\"east\"}\n");
}

#[test]
fn who_cannot_be_called_is_told_so() {
    let up = NexUp::start();
    start_shell(&up, "service", "service", "sleep 1000", &[]).ok();

    refused(
        up.nex(&["invoke", "nobody", "x"]),
        4,
        &["no function `nobody`"],
    );
    refused(
        up.nex(&["invoke", "service", "x"]),
        1,
        &["`service` has no subject"],
    );
    let both = up.nex(&["invoke", "service", "x", "--file", "y"]);
    assert_eq!(both.code, 2, "{both}");
}

#[tokio::test]
async fn json_has_every_value_of_a_header() {
    let up = NexUp::start();
    let client = async_nats::connect(up.url()).await.unwrap();
    let mut asked = client.subscribe("tagged").await.unwrap();
    client.flush().await.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(request) = asked.next().await {
            let mut headers = async_nats::HeaderMap::new();
            for value in ["a", "b"] {
                headers.append("x-tag", value);
            }
            headers.append("x-one", "1");
            let inbox = request.reply.expect("a request");
            let reply = client.publish_with_headers(inbox, headers, "hi".into());
            reply.await.unwrap();
        }
    });
    let mut command = up
        .home()
        .nex_command(&["req", "tagged", "", "--json"])
        .unwrap();
    let replied = tokio::task::spawn_blocking(move || command.output());
    let replied = replied.await.unwrap().unwrap();
    answering.abort();

    let reply: Value = serde_json::from_slice(&replied.stdout).unwrap();
    assert_eq!(
        reply["headers"]["x-tag"],
        serde_json::json!(["a", "b"]),
        "{reply}"
    );
    assert_eq!(reply["headers"]["x-one"], "1", "{reply}");
}
