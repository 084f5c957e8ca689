//! Links of object stores: they lead to an object within a few steps, or are refused. No process
//! ends of one.

use std::time::{Duration, Instant};

use async_nats::{
    Client, ConnectOptions,
    jetstream::{self, object_store},
};
use data_encoding::{BASE64URL, HEXLOWER};
use nex_testkit::{NexUp, Output};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{devrun, file, refusals::refused};

/// Limit for a refusal, here on a busy machine.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);

/// Reads the object that the payload names, and returns its text or the error.
const READ_MJS: &str = r#"
export default async (request, nex) => {
  try {
    return { text: new TextDecoder().decode(await nex.objectStore("apps").get(request.text())) };
  } catch (error) {
    return { code: error.code, message: error.message };
  }
};
"#;

/// Two buckets of objects, and what leads from one to the other.
struct Store {
    client: Client,
    jetstream: jetstream::Context,
}

impl Store {
    async fn new(up: &NexUp) -> Self {
        // Anonymous programs may not write to the bucket of artifacts.
        let options = ConnectOptions::new()
            .credentials_file(up.data_dir().join("cli.creds"))
            .await
            .unwrap();
        let client = options.connect(up.url()).await.unwrap();
        let jetstream = jetstream::new(client.clone());
        for bucket in ["apps", "more"] {
            let config = object_store::Config {
                bucket: bucket.to_owned(),
                ..Default::default()
            };
            let store = jetstream.create_object_store(config).await.unwrap();
            store
                .put("content", &mut &b"(s, p) => 'ran'"[..])
                .await
                .unwrap();
        }
        Self { client, jetstream }
    }

    /// Makes an object that is a link. Clients refuse some of these; whoever may publish can make them.
    async fn link(&self, bucket: &str, name: &str, target: Value) {
        let info = json!({
            "name": name, "bucket": bucket, "nuid": "none", "size": 0, "chunks": 0,
            "mtime": "2026-01-01T00:00:00Z", "options": { "link": target },
        });
        let subject = format!("$O.{bucket}.M.{}", BASE64URL.encode(name.as_bytes()));
        let stored = self.jetstream.publish(subject, info.to_string().into());
        stored.await.unwrap().await.unwrap();
    }

    /// Makes the same links for a function that reads `<name>`, and for an artifact `apps/<name>`.
    async fn links(&self, bucket: &str, name: &str, to: &str, target: &str) {
        for tag in ["", "_latest"] {
            let target = json!({ "bucket": to, "name": format!("{target}{tag}") });
            self.link(bucket, &format!("{name}{tag}"), target).await;
        }
    }

    /// Returns the function's answer about an object.
    async fn read(&self, subject: &str, name: &str) -> Value {
        let reply = self
            .client
            .request(subject.to_owned(), name.to_owned().into());
        let reply = reply.await.unwrap();
        serde_json::from_slice(&reply.payload)
            .unwrap_or_else(|_| panic!("{name}: {:?} {:?}", reply.payload, reply.headers))
    }
}

/// Links that lead nowhere, from `apps`, with the code of the refusal and a part of its text.
async fn make_dead_ends(store: &Store) -> Vec<(&'static str, &'static str, &'static str)> {
    store.links("apps", "self", "apps", "self").await;
    store.links("apps", "one", "apps", "two").await;
    store.links("apps", "two", "apps", "one").await;
    store.links("apps", "here", "more", "there").await;
    store.links("more", "there", "more", "yonder").await;
    store.links("more", "yonder", "apps", "here").await;
    for number in 0..1000 {
        let (name, next) = (format!("chain{number}"), format!("chain{}", number + 1));
        store.links("apps", &name, "apps", &next).await;
    }
    store.links("apps", "chain1000", "apps", "content").await;
    store.links("apps", "missing", "more", "nothing").await;
    store.links("apps", "lost", "nowhere", "nothing").await;
    for name in ["bucket", "bucket_latest"] {
        store.link("apps", name, json!({ "bucket": "more" })).await;
    }
    store.links("apps", "strange", "a.b", "c").await;
    vec![
        ("self", "bad_link", "apps/self -> apps/self"),
        ("one", "bad_link", "apps/one -> apps/two -> apps/one"),
        (
            "here",
            "bad_link",
            "apps/here -> more/there -> more/yonder -> apps/here",
        ),
        ("chain0", "bad_link", "apps/chain0 -> apps/chain1 -> "),
        ("missing", "not_found", "apps/missing -> more/nothing"),
        ("lost", "not_found", "apps/lost -> nowhere/nothing"),
        ("bucket", "bad_link", "`more`"),
        ("strange", "bad_request", "apps/strange -> a.b/c"),
    ]
}

/// The processes that have to be the same at the end.
fn nexlets(up: &NexUp) -> Vec<u32> {
    let mut nexlets = up.processes();
    nexlets.retain(|process| format!("{process:?}").contains("nexlet"));
    nexlets.iter().map(|process| process.pid).collect()
}

fn start(up: &NexUp, kind: &str, name: &str, request: Value) -> Output {
    let lifecycle = if kind == "native" {
        "service"
    } else {
        "function"
    };
    up.nex(&[
        "workload",
        "start",
        "--type",
        kind,
        "--lifecycle",
        lifecycle,
        "--name",
        name,
        "--start-request",
        &request.to_string(),
    ])
}

#[tokio::test]
async fn links_that_lead_nowhere_are_refused_and_end_no_process() {
    let up = NexUp::start();
    let store = Store::new(&up).await;
    let read = file(up.home(), "read.mjs", READ_MJS);
    devrun(&up, &read, &["--trigger-subject", "read"]);
    let dead_ends = make_dead_ends(&store).await;
    store.links("apps", "first", "more", "second").await;
    store.links("more", "second", "more", "content").await;
    let before = nexlets(&up);
    assert!(before.len() >= 3, "{before:?}");

    for (name, code, part) in &dead_ends {
        let asked = Instant::now();
        let answer = store.read("read", name).await;
        assert_eq!(answer["code"], *code, "{name}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(part), "{name}: {message}");
        assert!(asked.elapsed() < REFUSED_WITHIN, "{:?}", asked.elapsed());
    }
    assert_eq!(store.read("read", "first").await["text"], "(s, p) => 'ran'");
    assert_eq!(nexlets(&up), before);

    for kind in ["js", "wasm", "native"] {
        for (name, _, part) in &dead_ends {
            let uri = format!("nats://apps/{name}");
            let request = json!({ "uri": uri, "triggers": [{ "subject": "x" }] });
            let asked = Instant::now();
            let output = start(&up, kind, "linked", request);
            // In keys of artifacts each name has its tag.
            let words: Vec<String> = part
                .split(" -> ")
                .filter(|word| word.contains('/'))
                .map(|word| format!("{word}_latest"))
                .collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            refused(output, 1, &words);
            assert!(asked.elapsed() < REFUSED_WITHIN, "{:?}", asked.elapsed());
        }
    }
    assert_eq!(nexlets(&up), before);
    assert!(crate::list(&up).iter().all(|one| one["name"] == "read"));
}

#[tokio::test]
async fn an_upload_does_not_follow_a_link_in_its_place() {
    let up = NexUp::start();
    let store = Store::new(&up).await;
    let first = file(up.home(), "first.js", "() => 'first'");
    devrun(&up, &first, &["--trigger-subject", "first"]);
    let before = nexlets(&up);

    for (number, target) in [
        json!({ "bucket": "NEXCLIFILES", "name": "KEY" }),
        json!({ "bucket": "NEXCLIFILES", "name": "nothing" }),
        json!({ "bucket": "more", "name": "content" }),
        json!({ "bucket": "more" }),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("() => '{number}'");
        let key = format!("{}_latest", HEXLOWER.encode(&Sha256::digest(&text)));
        let target = serde_json::from_str(&target.to_string().replace("KEY", &key)).unwrap();
        store.link("NEXCLIFILES", &key, target).await;
        let path = file(up.home(), &format!("linked{number}.js"), &text);
        let asked = Instant::now();

        let output = up.nex(&[
            "devrun",
            path.to_str().unwrap(),
            "--trigger-subject",
            "linked",
        ]);

        refused(output, 1, &["is a link", &key, "hint: "]);
        assert!(asked.elapsed() < REFUSED_WITHIN, "{:?}", asked.elapsed());
    }
    assert_eq!(nexlets(&up), before);
}

#[tokio::test]
async fn a_function_reads_no_bucket_by_a_link_that_it_did_not_ask_for() {
    let up = NexUp::start();
    let store = Store::new(&up).await;
    let read = file(up.home(), "read.mjs", READ_MJS);
    let request = json!({
        "uri": format!("file://{}", read.display()),
        "triggers": [{ "subject": "read" }],
        "services": { "objectStore": ["apps"] },
    });
    start(&up, "js", "read", request).ok();
    store.links("apps", "direct", "more", "content").await;
    // Out and back: to read where it leads is to read of the other bucket.
    store.links("apps", "detour", "more", "back").await;
    store.links("more", "back", "apps", "content").await;
    store.links("apps", "artifacts", "NEXCLIFILES", "x").await;
    store.links("apps", "inside", "apps", "content").await;
    // What an object says of itself is not where it is.
    let lies = json!({
        "name": "liar", "bucket": "apps", "nuid": "none", "size": 0, "chunks": 0, "digest": "",
        "mtime": "2026-01-01T00:00:00Z",
    });
    let subject = format!("$O.more.M.{}", BASE64URL.encode(b"liar"));
    let stored = store.jetstream.publish(subject, lies.to_string().into());
    stored.await.unwrap().await.unwrap();
    store.links("apps", "lies", "more", "liar").await;

    for name in ["detour", "direct", "artifacts", "lies"] {
        let answer = store.read("read", name).await;
        assert_eq!(answer["code"], "denied", "{name}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(&format!("apps/{name} -> ")), "{message}");
    }
    assert_eq!(
        store.read("read", "inside").await["text"],
        "(s, p) => 'ran'"
    );
}
