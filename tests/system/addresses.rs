//! The way to NATS: addresses, TLS settings, and the files that flags and variables name.

use std::time::{Duration, Instant};

use nex_testkit::{Home, NatsServer, NexUp, Output, skip};

use crate::{agents::make_certificates, file, refusals::refused};

/// Runs a command with these variables.
fn run(home: &Home, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = home.nex_command(args).unwrap();
    command.envs(variables.iter().copied());
    home.run(&mut command).unwrap()
}

/// A certificate of nobody.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBejCCAR+gAwIBAgIUZQ==
-----END CERTIFICATE-----
";

#[test]
fn tls_is_refused_at_once_by_a_server_without_it() {
    let up = NexUp::start();
    let home = up.home();
    let ca = file(home, "ca.pem", CERTIFICATE);
    let junk = file(home, "junk.pem", "junk");
    let (ca, junk) = (ca.to_str().unwrap(), junk.to_str().unwrap());
    let settings = serde_json::json!({ "nats": { "tlsca": ca } }).to_string();
    let settings = file(home, "tls.json", &settings);
    let settings = settings.to_str().unwrap();
    let list = ["node", "list"];
    let at = ["node", "list", "-s", up.url()];
    let began = Instant::now();

    let setting = |args: &[&str], variables: &[(&str, &str)], name: &str| {
        let refusal = run(home, args, variables);
        refused(refusal, 2, &["speaks no TLS", name, "hint: "]);
    };
    setting(&list, &[("NATS_CA", ca)], "`NATS_CA`");
    setting(&at, &[("NATS_CA", ca)], "`NATS_CA`");
    setting(
        &[&at[..], &["--nats.tlsca", junk]].concat(),
        &[],
        "`--nats.tlsca`",
    );
    setting(
        &[&at[..], &["--nats.tlsfirst"]].concat(),
        &[],
        "`--nats.tlsfirst`",
    );
    setting(
        &[&list[..], &["--config", settings]].concat(),
        &[],
        settings,
    );
    let elapsed = began.elapsed();
    assert!(elapsed < Duration::from_secs(8), "{elapsed:?}");
}

#[test]
fn a_server_of_others_without_tls_is_named_so() {
    let home = Home::new();
    let server = NatsServer::start();
    let port = server.port();
    for args in [
        ["-s", &format!("nats://127.0.0.1:{port}"), "--nats.tlsfirst"],
        ["-s", &format!("tls://127.0.0.1:{port}"), "--json"],
    ] {
        let output = home.nex(&[&["node", "list"][..], &args].concat());
        assert_eq!(output.code, 2, "{output}");
        assert!(output.stderr.contains("speaks no TLS"), "{output}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_names_it() {
    let home = Home::new();
    let server = NatsServer::start();
    let list = ["node", "list", "-s", server.url()];
    let junk = file(&home, "junk.pem", "junk");
    let junk = junk.to_str().unwrap();
    let missing = home.path().join("no.pem").display().to_string();

    for (flags, variables, words) in [
        (
            vec![],
            vec![("NATS_CA", "~/no.pem")],
            ["`NATS_CA`", &missing],
        ),
        (
            vec!["--nats.tlsca", "/nope.pem"],
            vec![],
            ["`--nats.tlsca`", "`/nope.pem`"],
        ),
        (vec!["--nats.tlsca", junk], vec![], ["`--nats.tlsca`", junk]),
        (
            vec!["--nats.tlsca", "/tmp"],
            vec![],
            ["`--nats.tlsca`", "`/tmp`"],
        ),
        (
            vec!["--nats.tlscert", "/nope.pem", "--nats.tlskey", "/nope.key"],
            vec![],
            ["`--nats.tlscert`", "`/nope.pem`"],
        ),
        (
            vec![],
            vec![("NATS_CERT", "/nope.pem"), ("NATS_KEY", "/nope.key")],
            ["`NATS_CERT`", "`/nope.pem`"],
        ),
        (
            vec!["--creds", "/no.creds"],
            vec![],
            ["`--nats.creds-file`", "`/no.creds`"],
        ),
        (vec!["--creds", junk], vec![], ["`--nats.creds-file`", junk]),
        (
            vec![],
            vec![("NATS_CREDS", "/no.creds")],
            ["`NATS_CREDS`", "`/no.creds`"],
        ),
        (vec![], vec![("NATS_CREDS", junk)], ["`NATS_CREDS`", junk]),
        (
            vec![],
            vec![("NATS_NKEY", "/no.nk")],
            ["`NATS_NKEY`", "`/no.nk`"],
        ),
        (vec![], vec![("NATS_NKEY", junk)], ["`NATS_NKEY`", junk]),
    ] {
        let refusal = run(&home, &[&list[..], &flags].concat(), &variables);
        refused(refusal, 2, &[words[0], words[1], "hint: "]);
    }
}

#[test]
fn files_with_a_byte_order_mark_are_read() {
    let home = Home::new();
    if !make_certificates(home.path()) {
        return skip("`openssl` is not on this machine");
    }
    let path = |name: &str| home.path().join(name).display().to_string();
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
        path("server.pem"),
        path("server.key"),
        path("ca.pem")
    );
    let server = NatsServer::builder().config(tls).start();
    let url = format!("nats://127.0.0.1:{}", server.port());
    let list = ["node", "list", "--json", "-s", &url];
    for mark in ["\u{feff}", "\u{feff}\u{feff}"] {
        let marked = ["ca.pem", "server.pem", "server.key"].map(|name| {
            let text = std::fs::read_to_string(path(name)).unwrap();
            let text = format!("{mark}{}", text.replace('\n', "\r\n"));
            let marked = file(&home, &format!("marked-{name}"), &text);
            marked.display().to_string()
        });
        let [ca, cert, key] = marked.each_ref().map(String::as_str);
        let flags = [
            "--nats.tlsca",
            ca,
            "--nats.tlscert",
            cert,
            "--nats.tlskey",
            key,
        ];
        let by_flag = run(&home, &[&list[..], &flags].concat(), &[]).ok();
        assert_eq!(by_flag.stdout.trim(), "[]", "{by_flag}");
        let variables = [("NATS_CA", ca), ("NATS_CERT", cert), ("NATS_KEY", key)];
        run(&home, &list, &variables).ok();
    }

    let up = NexUp::builder().arg("--no-anonymous").start();
    let creds = std::fs::read_to_string(up.data_dir().join("cli.creds")).unwrap();
    let marked = file(&home, "marked.creds", &format!("\u{feff}{creds}"));
    let flags = ["-s", up.url(), "--creds", marked.to_str().unwrap()];
    home.nex(&[&["node", "list"][..], &flags].concat()).ok();
}

#[test]
fn the_owner_of_nex_up_is_known_at_every_spelling_of_its_address() {
    let up = NexUp::builder().arg("--no-anonymous").start();
    let port = up.url().rsplit(':').next().unwrap();
    for host in [
        "0.0.0.0",
        "127.1",
        "[::ffff:127.0.0.1]",
        "127.0.0.2",
        "2130706433",
    ] {
        let address = format!("{host}:{port}");
        up.nex(&["node", "list", "-s", &address]).ok();
    }
}

#[test]
fn utf_16_is_named_in_each_file_on_the_way_to_nats() {
    let home = Home::new();
    let server = NatsServer::start();
    let utf16 = |text: &str, mark: bool| {
        let units = mark.then_some(0xfeff).into_iter();
        let units = units.chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()
    };
    let contexts = home.path().join(".config/nats/context");
    std::fs::create_dir_all(&contexts).unwrap();
    let path = home.path().join("k");
    let path = path.to_str().unwrap();
    let list = ["node", "list", "-s", server.url()];
    for mark in [true, false] {
        std::fs::write(path, utf16("-----BEGIN NATS USER JWT-----\n", mark)).unwrap();
        let context = format!("{{\"url\":\"{}\"}}", server.url());
        std::fs::write(contexts.join("c.json"), utf16(&context, mark)).unwrap();
        for (flags, variables) in [
            (vec!["--creds", path], vec![]),
            (vec!["--nats.tlsca", path], vec![]),
            (vec!["--config", path], vec![]),
            (vec![], vec![("NATS_CREDS", path)]),
            (vec![], vec![("NATS_NKEY", path)]),
        ] {
            let refusal = run(&home, &[&list[..], &flags].concat(), &variables);
            refused(refusal, 2, &["UTF-16", path, "hint: "]);
        }
        let refusal = home.nex(&["node", "list", "--nats.context", "c"]);
        refused(refusal, 2, &["UTF-16", "c.json", "hint: "]);
    }

    let doubled = format!("\u{feff}\u{feff}{{\"url\":\"{}\"}}", server.url());
    std::fs::write(contexts.join("c.json"), doubled).unwrap();
    let found = home.nex(&["node", "list", "--nats.context", "c"]);
    assert!(!found.stderr.contains("expected value"), "{found}");
    std::fs::write(contexts.join("c.json"), "[").unwrap();
    let refusal = home.nex(&["node", "list", "--nats.context", "c"]);
    refused(refusal, 2, &["`c`", "hint: "]);
}
