//! Host services of functions, and the examples of the documentation.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use async_nats::jetstream;
use futures_util::StreamExt as _;
use nex_testkit::{NexUp, WebServer, seeds, skip, workspace_root};
use serde_json::{Value, json};

use crate::{devrun, file};

/// A web server that takes alerts; and what it was sent.
fn webhook() -> (WebServer, Arc<Mutex<Vec<Vec<u8>>>>) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let server = WebServer::start({
        let taken = Arc::clone(&taken);
        move |request| {
            let mut taken = taken.lock().unwrap();
            taken.push(request.body.clone());
            b"HTTP/1.1 202 Accepted\r\ncontent-length: 7\r\n\r\nnoticed".to_vec()
        }
    });
    (server, taken)
}

fn ask(up: &NexUp, subject: &str, payload: &str) -> Value {
    let output = up.nex(&["req", subject, payload]).ok();
    serde_json::from_str(&output.stdout).expect("the reply is JSON")
}

#[tokio::test]
async fn the_seeds_telemetry_function_stores_and_alerts() {
    let Some(seeds) = seeds() else {
        return skip("the folder of the seeds is not here");
    };
    let (web, taken) = webhook();
    let up = NexUp::start();
    let script = fs::read_to_string(seeds.join("telemetry.js")).unwrap();
    let url = format!("http://{}/data", web.address());
    let local = script.replace("https://webhooks.app/data", &url);
    assert_ne!(local, script, "the script has another URL by now");
    let path = file(up.home(), "telemetry.js", &local);
    devrun(&up, &path, &["--trigger-subject", "telemetry"]);

    let cold = r#"{"deviceId":"d1","temperature":20}"#;
    let hot = r#"{"deviceId":"d1","temperature":31.5}"#;
    let quiet = ask(&up, "telemetry", cold);
    let alert = ask(&up, "telemetry", hot);

    assert_eq!(quiet["http_alert"], Value::Null);
    assert_eq!(
        alert,
        json!({
            "ok": true, "subject": "telemetry", "device": "d1", "temperature": 31.5,
            "kv_bucket": "iot_devices", "object_bucket": "iot_history",
            "http_alert": { "status": 202, "length": 7 },
        })
    );
    let posted = taken.lock().unwrap().clone();
    let [posted] = &posted[..] else {
        panic!("one alert, not {}", posted.len());
    };
    let posted: Value = serde_json::from_slice(posted).unwrap();
    assert_eq!(posted["temperature"], 31.5);
    assert_eq!(posted["subject"], "telemetry");

    let client = async_nats::connect(up.url()).await.unwrap();
    let jetstream = jetstream::new(client);
    let devices = jetstream.get_key_value("iot_devices").await.unwrap();
    assert_eq!(devices.get("d1").await.unwrap().unwrap(), hot);
    let history = jetstream.get_object_store("iot_history").await.unwrap();
    let names: Vec<_> = history.list().await.unwrap().collect().await;
    let names: Vec<String> = names.into_iter().map(|info| info.unwrap().name).collect();
    assert!(!names.is_empty() && names.len() <= 2, "{names:?}");
    assert!(
        names.iter().all(|name| name.starts_with("d1-")),
        "{names:?}"
    );
}

#[tokio::test]
async fn the_seeds_jokes_function_reads_what_a_plain_client_wrote() {
    let Some(seeds) = seeds() else {
        return skip("the folder of the seeds is not here");
    };
    let up = NexUp::start();
    let client = async_nats::connect(up.url()).await.unwrap();
    let jetstream = jetstream::new(client);
    let config = jetstream::kv::Config {
        bucket: "dad_jokes".to_owned(),
        ..Default::default()
    };
    let bucket = jetstream.create_key_value(config).await.unwrap();
    let jokes = r#"[{"setup":"Why?","punchline":"Because."}]"#;
    bucket.put("jokes", jokes.into()).await.unwrap();
    devrun(
        &up,
        &seeds.join("jokes.js"),
        &["--trigger-subject", "jokes"],
    );

    let joke = ask(&up, "jokes", "");

    assert_eq!(joke, json!({ "joke": "Why?", "punchline": "Because." }));
}

/// An example: files, what is typed, and what is printed last.
#[derive(Default)]
struct Example {
    /// Names and texts.
    files: Vec<(String, String)>,
    commands: Vec<String>,
    output: String,
}

/// The examples of a page: `js` blocks that begin with their file names, an `sh` one, a `text` one.
fn examples(page: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut example = Example::default();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            continue;
        };
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match (
            kind,
            text.first().and_then(|first| first.strip_prefix("// ")),
        ) {
            ("js", Some(name)) => {
                // The name of a JSON file would be no JSON.
                let from = usize::from(name.ends_with(".json"));
                let file = (name.to_owned(), text[from..].join("\n"));
                example.files.push(file);
            }
            ("sh", _) => example.commands = text.iter().map(|&line| line.to_owned()).collect(),
            ("text", _) if !example.files.is_empty() => {
                example.output = text.join("\n");
                examples.push(std::mem::take(&mut example));
            }
            _ => example = Example::default(),
        }
    }
    examples
}

#[test]
fn the_examples_of_the_documentation_print_what_it_says() {
    const PLACE: &str = "http://127.0.0.1:8080";
    let page = fs::read_to_string(workspace_root().join("docs/functions.md")).unwrap();
    let examples = examples(&page);
    let files = examples.iter().map(|example| example.files.len());
    assert_eq!(page.matches("```js\n").count(), files.sum::<usize>());
    let web = WebServer::start(|_request| {
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\nfine".to_vec()
    });
    let up = NexUp::start();

    for (number, example) in examples.into_iter().enumerate() {
        let Example {
            files,
            commands,
            output,
        } = example;
        // Each has a folder of its own: names come again.
        let folder = up.home().path().join(format!("example-{number}"));
        for (name, text) in &files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let name = &files[0].0;
        let mut printed = String::new();
        for command in commands {
            let command = command.replace(PLACE, &format!("http://{}", web.address()));
            let command = command.replace("./", &format!("{}/", shown(&folder)));
            let words: Vec<&str> = command
                .split(' ')
                .map(|word| word.trim_matches('\''))
                .collect();
            assert_eq!(words[0], "nex", "{name}: {command}");
            printed = up.nex(&words[1..]).ok().stdout;
        }
        assert_eq!(printed.trim_end(), output, "{name}");
    }
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a home is named in plain text")
}
