//! Configuration files, as the commands find them.

use std::fs;

use nex_testkit::{Home, NatsServer, NexUp, Output};
use serde_json::{Value, json};

use crate::{file, node::NodeUp, refusals::refused, start_shell};

/// Writes the user's configuration file.
fn user_file(home: &Home, content: &Value) {
    let folder = home.path().join(".config/nex");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.json"), content.to_string()).unwrap();
}

/// Runs a command while `NATS_URL` names a NATS that is not there.
fn nex(home: &Home, args: &[&str]) -> Output {
    let mut command = home.nex_command(args).unwrap();
    command.env("NATS_URL", "nats://127.0.0.1:1");
    home.run(&mut command).unwrap()
}

#[test]
fn files_name_the_node_and_its_nats_before_the_environment_does() {
    let home = Home::new();
    let server = NatsServer::start();
    user_file(&home, &json!({ "nats": { "servers": [server.url()] } }));
    let node = json!({ "nexus": "lab", "tags": { "rack": 7 }, "node_name": "from the file" });
    let config = file(&home, "node.json", &node.to_string());

    let config = config.to_str().unwrap();
    let _node = NodeUp::start(&home, "typed", &["--config", config]);

    let listed = nex(&home, &["node", "list", "--json"]).ok().stdout;
    let nodes: Vec<Value> = serde_json::from_str(&listed).unwrap();
    assert_eq!(nodes.len(), 1, "{listed}");
    let tags = &nodes[0]["tags"];
    assert_eq!(tags["nex.nexus"], "lab", "{tags}");
    assert_eq!(tags["nex.node"], "typed", "{tags}");
    assert_eq!(tags["rack"], "7", "{tags}");
    let typed = nex(&home, &["node", "list", "-s", "nats://127.0.0.1:1"]).failed();
    assert_eq!(typed.code, 3, "{typed}");
}

#[test]
fn who_looks_for_the_reason_is_told_of_the_file() {
    let home = Home::new();
    user_file(
        &home,
        &json!({ "nats": { "servers": "nats://127.0.0.1:1" } }),
    );

    let unreachable = home.nex(&["node", "list"]).failed();

    assert_eq!(unreachable.code, 3, "{unreachable}");
    let file = ".config/nex/config.json";
    assert!(unreachable.stderr.contains(file), "{unreachable}");
}

#[test]
fn a_refused_value_is_named_with_the_place_where_it_stands() {
    let home = Home::new();
    let script = file(&home, "web.sh", "#!/bin/sh\n");
    let script = script.to_str().unwrap();
    let list: &[&str] = &["node", "list"];
    let user = ".config/nex/config.json`";
    for (content, args, key) in [
        (json!({"nats": {"servers": ""}}), list, "nats.servers"),
        (
            json!({"nats": {"servers": ["", " "]}}),
            list,
            "nats.servers",
        ),
        (
            json!({"nats": {"context": "nowhere"}}),
            list,
            "nats.context",
        ),
        (json!({"logger": {"target": "file"}}), list, "logger.target"),
        (json!({"name": "a b"}), &["devrun", script], "name"),
        (json!({"type": "a b"}), &["devrun", script], "type"),
        (
            json!({"nexfile": "no.yaml"}),
            &["workload", "start"],
            "nexfile",
        ),
        (
            json!({"start_request": "{"}),
            &["workload", "start"],
            "start_request",
        ),
        (
            json!({"trigger_subject": "a"}),
            &["devrun", script],
            "trigger_subject",
        ),
        (json!({"node_seed": "SN"}), &["node", "up"], "node_seed"),
        (
            json!({"node_xkey_seed": "SX"}),
            &["node", "up"],
            "node_xkey_seed",
        ),
        (json!({"events": "logs"}), &["node", "up"], "events"),
    ] {
        user_file(&home, &content);
        let refusal = home.nex(args);
        refused(refusal, 2, &[&format!("`{key}`"), user]);
    }
    user_file(&home, &json!({"data_dir": "/dev/null"}));
    for command in [["up"].as_slice(), &["node", "up"]] {
        refused(home.nex(command), 1, &["`data_dir`", user]);
    }
    user_file(&home, &json!({"nats": {"servers": "nats://a:x"}}));
    refused(home.nex(list), 2, &["nats://a:x", user]);

    user_file(&home, &json!({}));
    for (name, value) in [
        ("NATS_URL", ","),
        ("NATS_URL", "nats://a:x"),
        ("NATS_CONTEXT", "nowhere"),
        ("NATS_CERT", "/c.pem"),
        ("NATS_KEY", "/k.pem"),
        ("NEX_NAMESPACE", "a.b"),
    ] {
        let mut command = home.nex_command(list).unwrap();
        let refusal = home.run(command.env(name, value)).unwrap();
        refused(refusal, 2, &[&format!("`{name}`")]);
    }
    let typed = home.nex(&["node", "list", "--nats.context", "nowhere"]);
    refused(typed, 2, &["`--nats.context`"]);
    let typed = home.nex(&["node", "list", "-s", ""]);
    refused(typed, 2, &["`-s` names no server"]);
}

#[test]
fn a_broken_file_is_told_as_json_too() {
    let home = Home::new();
    let broken = file(&home, "broken.json", "{\n \"tags\": [}");

    let args = [
        "node",
        "list",
        "--json",
        "--config",
        broken.to_str().unwrap(),
    ];
    let refused = home.nex(&args).failed();

    assert_eq!(refused.code, 2, "{refused}");
    let error: Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!(error["kind"], "usage", "{error}");
    assert!(
        error["causes"][0].as_str().unwrap().contains("line 2"),
        "{error}"
    );
}

#[test]
fn a_file_of_something_else_in_the_working_folder_breaks_nothing() {
    let home = Home::new();
    let server = NatsServer::start();
    file(&home, "config.json", "module.exports = {}\n");
    let url = server.url();

    let ignored = home.nex(&["node", "list", "-s", url, "--json"]).ok();

    assert_eq!(ignored.stdout.trim(), "[]", "{ignored}");
    assert!(
        ignored.stderr.contains("ignored `./config.json`"),
        "{ignored}"
    );
    let own = json!({ "nexus": "nexus", "json": true });
    file(&home, "config.json", &own.to_string());
    let listed = home.nex(&["node", "list", "-s", url]).ok();
    assert_eq!(listed.stdout.trim(), "[]", "{listed}");
    assert!(
        listed.stderr.contains("`./config.json` sets `json`\n"),
        "{listed}"
    );
}

#[test]
fn the_file_of_a_node_project_hides_no_workload() {
    let up = NexUp::start();
    start_shell(&up, "web", "service", "exec sleep 1000", &[]).ok();

    for (text, key) in [
        (r#"{"type":"module"}"#, "`type`"),
        (
            r#"{"namespace":"prod","nats":{"servers":"nats://127.0.0.1:1"},"logger":{"level":"debug"}}"#,
            "`logger.level`, `namespace`, `nats.servers`",
        ),
        (
            r#"{"nats":{"servers":"nats://127.0.0.1:1","maxReconnectAttempts":3}}"#,
            "`nats.servers`",
        ),
    ] {
        file(up.home(), "config.json", text);
        let listed = up.nex(&["workload", "list", "--json"]).ok();

        assert!(listed.stdout.contains("\"web\""), "{listed}");
        let left = format!("warning: {key} in `./config.json` is left out");
        for said in [left.as_str(), "--config"] {
            assert!(listed.stderr.contains(said), "{listed}");
        }
    }
}

#[test]
fn a_nexfile_of_another_program_is_said_to_be_used_because_of_its_place() {
    let home = Home::new();
    file(&home, "Nexfile", "FROM alpine\nRUN true\n");

    let refused = home.nex(&["workload", "start"]).failed();

    assert_eq!(refused.code, 2, "{refused}");
    for said in ["failed to read `Nexfile`", "another program", "`-f FILE`"] {
        assert!(refused.stderr.contains(said), "{refused}");
    }
}

/// A server that takes one user, or nobody at all who may do nothing.
fn guarded() -> NatsServer {
    NatsServer::builder()
        .config("authorization { user: ann, password: secret }")
        .start()
}

#[test]
fn a_refusal_says_which_credentials_were_left_out() {
    let home = Home::new();
    let server = guarded();
    let url = server.url();
    let contexts = home.path().join(".config/nats/context");
    fs::create_dir_all(&contexts).unwrap();
    let context = json!({ "url": url, "user": "ann", "password": "secret" });
    fs::write(contexts.join("prod.json"), context.to_string()).unwrap();
    let run = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = home.nex_command(args).unwrap();
        command.envs(variables.iter().copied());
        home.run(&mut command).unwrap()
    };
    let (alone, typed) = (["node", "list"], ["node", "list", "-s", url]);
    let exported = [("NATS_CONTEXT", "prod")];

    run(&alone, &exported).ok();
    let refused = run(&typed, &exported).failed();
    for said in ["`NATS_CONTEXT`", "`--nats.context prod`", "`--creds FILE`"] {
        assert!(refused.stderr.contains(said), "{refused}");
    }
    let plain = run(&typed, &[]).failed();
    assert!(!plain.stderr.contains("counts for nothing"), "{plain}");
    assert!(plain.stderr.contains("there are no credentials"), "{plain}");
    let wrong = [("NATS_USER", "ann"), ("NATS_PASSWORD", "x")];
    let refused = run(&typed, &wrong).failed();
    assert!(refused.stderr.contains("those of `NATS_USER`"), "{refused}");
    let typed_wrong = [&typed[..], &["--nats.user", "bob"]].concat();
    let refused = run(&typed_wrong, &[]).failed();
    assert!(
        refused.stderr.contains("those of `--nats.user`"),
        "{refused}"
    );
    user_file(&home, &json!({ "nats": { "user": "bob" } }));
    let refused = run(&typed, &[]).failed();
    let place = "those of `nats.user` in `";
    assert!(refused.stderr.contains(place), "{refused}");
    let in_url = url.replace("nats://", "nats://bob:x@");
    let refused = run(&["node", "list", "-s", &in_url], &[]).failed();
    assert!(refused.stderr.contains("those of"), "{refused}");
    user_file(&home, &json!({ "nats": { "context": "prod" } }));
    run(&alone, &[]).ok();
    let refused = run(&typed, &[]).failed();
    for said in [
        "the context of `",
        ".config/nex/config.json`",
        "leave `-s` out",
    ] {
        assert!(refused.stderr.contains(said), "{refused}");
    }
}

#[test]
fn a_refusal_elsewhere_says_where_the_credentials_of_nex_up_are_for() {
    let up = NexUp::start();
    let server = guarded();
    let denying = NatsServer::builder()
        .config(
            "authorization { users: [{ user: nobody, password: x, permissions: { publish: \"a\" } }] }\nno_auth_user: nobody",
        )
        .start();

    for server in [&server, &denying] {
        let refused = up.nex(&["node", "list", "-s", server.url()]).failed();

        for said in ["the running `nex up`", up.url(), "`--creds FILE`"] {
            assert!(refused.stderr.contains(said), "{refused}");
        }
    }
    let named = up.nex(&["node", "list", "-s", server.url(), "--user", "bob"]);
    let named = named.failed();
    assert!(!named.stderr.contains("the running `nex up`"), "{named}");
}
