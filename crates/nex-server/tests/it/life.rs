//! Starts, restarts and ends.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Instant, SystemTime};

use async_nats::jetstream;
use nex_credentials::{Permissions, jwt, mint_user};
use nex_process::{Exit, Identity, Launcher};
use nex_server::{
    Announcement, Config, DataDir, NotReady, Port, ServerBinary, StartError, UpStatus,
};
use nkeys::KeyPair;

use crate::peer::Peer;
use crate::{GRACE, LIMIT, Up, binary, helper, start_with};

#[tokio::test]
async fn a_server_is_ready_found_and_ended() {
    let up = Up::start(true).await;
    let registry = up.home.path().join("registry");
    let pid = up.server.pid();
    let server = Identity::of(pid).unwrap();

    let announcement = Announcement::starting(&up.data_dir, &registry, Port::Free).unwrap();
    announcement.ready(&up.server.running()).unwrap();

    let found = UpStatus::find(&registry);
    assert_eq!(found.len(), 1);
    let running = found[0].running.as_ref().unwrap();
    assert_eq!(running.url, up.server.url());
    assert_eq!(running.creds, up.server.creds_path());
    assert!(up.server.url().starts_with("nats://127.0.0.1:"));
    let mode = fs::metadata(up.server.creds_path()).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    drop(announcement);
    let asked = Instant::now();
    assert_eq!(up.server.stop(GRACE).await, Exit::Code(0));
    assert!(!server.is_alive());
    // Half of the grace is when a server that ignores the first signal gets the second.
    assert!(asked.elapsed() < GRACE / 2, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_restart_keeps_port_node_and_streams() {
    let up = Up::start(true).await;
    let (port, node) = (up.server.port(), up.data_dir.node_identity());
    let client = Peer::with(&up.server.node_creds()).await.client;
    let config = jetstream::kv::Config {
        bucket: "kept".into(),
        ..Default::default()
    };
    let kept = jetstream::new(client)
        .create_key_value(config)
        .await
        .unwrap();
    kept.put("key", "value".into()).await.unwrap();

    let up = up.restart(true).await;

    assert_eq!(up.server.port(), port);
    assert_eq!(up.data_dir.node_identity(), node);
    let client = Peer::with(&up.server.node_creds()).await.client;
    let kept = jetstream::new(client).get_key_value("kept").await.unwrap();
    assert_eq!(kept.get("key").await.unwrap().unwrap(), "value");
    up.end().await;
}

#[tokio::test]
async fn a_server_that_is_restarted_keeps_port_and_credentials() {
    let mut up = Up::start(true).await;
    let (url, pid) = (up.server.url().to_owned(), up.server.pid());
    let mut creds = Peer::with(&up.server.node_creds()).await;

    // A running one is replaced, and one that has ended is started.
    for _ in 0..2 {
        up.server.restart(&up.data_dir, GRACE).await.unwrap();
        let killed = std::process::Command::new("kill")
            .args(["-9", &up.server.pid().to_string()])
            .status();
        assert!(killed.unwrap().success());
        assert_eq!(up.server.wait().await, Exit::Signal(9));
    }
    up.server.restart(&up.data_dir, GRACE).await.unwrap();

    assert_eq!(up.server.url(), url);
    assert_ne!(up.server.pid(), pid);
    // A node that was connected comes back with what it was given.
    creds.can_talk_on("$NEX.SVC.x.agent.y").await;
    up.end().await;
}

/// Each of these ended `nex up`: what a first start reads and writes, a restart can do without.
#[tokio::test]
async fn a_restart_needs_no_file_but_its_configuration() {
    let mut up = Up::start(true).await;
    let (data, port) = (up.data_dir.path().to_owned(), up.server.port());
    for damage in ["port", "ports", "server.json", "cli.creds"] {
        let path = data.join(damage);
        fs::remove_dir_all(&path)
            .or_else(|_| fs::remove_file(&path))
            .unwrap();
        // Neither readable nor writable as what it should be.
        match damage {
            "ports" => fs::write(&path, "a file").unwrap(),
            _ => fs::create_dir(&path).unwrap(),
        }

        up.server.restart(&up.data_dir, GRACE).await.unwrap();

        assert_eq!(up.server.port(), port, "{damage}");
        let anonymous = Peer::anonymous(up.server.url()).await;
        anonymous.client.flush().await.unwrap();
    }
    up.end().await;
}

#[tokio::test]
async fn a_restart_whose_port_is_taken_succeeds_when_it_is_free() {
    let mut up = Up::start(true).await;
    let port = up.server.port();
    let pid = up.server.pid().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid])
        .status();
    assert!(killed.unwrap().success());
    up.server.wait().await;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();

    let error = up.server.restart(&up.data_dir, GRACE).await.unwrap_err();
    assert!(
        matches!(error, StartError::PortInUse { port: taken } if taken == port),
        "{error}"
    );
    drop(taken);
    up.server.restart(&up.data_dir, GRACE).await.unwrap();

    assert_eq!(up.server.port(), port);
    up.end().await;
}

/// The account is given another signing key through the server, as a revocation would be.
#[tokio::test]
async fn an_update_of_the_account_survives_a_restart() {
    let up = Up::start(true).await;
    let stored = fs::read(up.data_dir.path().join("identities.json")).unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&stored).unwrap();
    let operator = KeyPair::from_seed(stored["operator"].as_str().unwrap()).unwrap();
    let account = up.data_dir.account();
    let first = KeyPair::from_seed(&account.signing_seed).unwrap();
    let second = KeyPair::new_account();
    let updated = jwt::account(
        &jwt::Account {
            subject: &account.public,
            name: "NEX",
            signing_keys: &[first.public_key(), second.public_key()],
            jetstream: true,
        },
        &operator,
        SystemTime::now(),
    )
    .unwrap();

    let system = Peer::with(&up.server.system_creds()).await.client;
    let answer = system
        .request("$SYS.REQ.CLAIMS.UPDATE", updated.into())
        .await
        .unwrap();
    let answer = String::from_utf8_lossy(&answer.payload).into_owned();
    assert!(answer.contains("\"code\":200"), "{answer}");
    let up = up.restart(true).await;

    let user = jwt::User {
        subject: "",
        name: "of the second key",
        issuer_account: Some(&account.public),
        permissions: &Permissions::full(),
        bearer: false,
        tags: &[],
        lifetime: None,
    };
    let mut data = mint_user(user, &second, SystemTime::now()).unwrap();
    data.nats_servers = vec![up.server.url().to_owned()];
    // The sentinel, with whose rights an unknown user would connect, may not do this.
    Peer::with(&data)
        .await
        .can_talk_on("$NEX.SVC.x.agent.y")
        .await;
    up.end().await;
}

#[tokio::test]
async fn a_server_that_is_killed_is_noticed_and_starts_again() {
    let mut up = Up::start(true).await;
    let pid = up.server.pid().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid])
        .status();
    assert!(killed.unwrap().success());

    let exit = tokio::time::timeout(LIMIT, up.server.wait()).await.unwrap();

    assert_eq!(exit, Exit::Signal(9));
    let port = up.server.port();
    let up = up.restart(true).await;
    assert_eq!(up.server.port(), port);
    Peer::anonymous(up.server.url())
        .await
        .can_talk_on("echo")
        .await;
    up.end().await;
}

#[tokio::test]
async fn a_server_that_an_earlier_run_left_is_ended_first() {
    let home = tempfile::tempdir().unwrap();
    let data_dir = DataDir::open(&home.path().join("data")).unwrap();
    let mut left = std::process::Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let identity = Identity::of(left.id()).unwrap();
    let record = serde_json::to_vec(&identity).unwrap();
    fs::write(data_dir.path().join("server.json"), record).unwrap();

    let server = start_with(&data_dir, Port::Free, true).await.unwrap();

    assert!(!identity.is_alive());
    left.wait().unwrap();
    // What is written down now is the new server.
    let record = fs::read(data_dir.path().join("server.json")).unwrap();
    let identity: Identity = serde_json::from_slice(&record).unwrap();
    assert_eq!(identity.pid(), server.pid());
    server.stop(GRACE).await;
}

#[tokio::test]
async fn a_port_in_use_is_said_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let data_dir = DataDir::open(&home.path().join("data")).unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();

    let error = start_with(&data_dir, Port::Fixed(port), true)
        .await
        .unwrap_err();

    assert_eq!(
        error.to_string(),
        format!("port {port} of 127.0.0.1 is in use")
    );
    let hint = error.hint();
    assert!(
        hint.contains(&format!("nex node up -s nats://127.0.0.1:{port}")),
        "{hint}"
    );
    assert!(hint.contains("--port 0"), "{hint}");
}

#[tokio::test]
async fn a_kept_port_that_somebody_took_is_not_changed_silently() {
    let up = Up::start(true).await;
    let port = up.server.port();
    up.server.stop(GRACE).await;
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();

    let error = start_with(&up.data_dir, Port::Free, true)
        .await
        .unwrap_err();

    assert!(
        matches!(error, StartError::KeptPortInUse { port: kept, .. } if kept == port),
        "{error}"
    );
    assert!(error.hint().contains("data/port"));
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_is_said_with_the_servers_words() {
    let home = tempfile::tempdir().unwrap();
    let data_dir = DataDir::open(&home.path().join("data")).unwrap();
    fs::create_dir(data_dir.path().join("nats")).unwrap();
    fs::write(data_dir.path().join("nats/jetstream"), "not a folder").unwrap();

    let error = start_with(&data_dir, Port::Free, true).await.unwrap_err();

    let StartError::NotReady { why, log } = &error else {
        panic!("{error}");
    };
    assert_eq!(*why, NotReady::NoJetStream, "{log}");
    assert!(log.contains("JetStream"), "{log}");
    assert!(error.hint().contains("disk"), "{}", error.hint());
}

#[tokio::test]
async fn a_server_that_ends_at_once_is_said_with_its_words() {
    let home = tempfile::tempdir().unwrap();
    let data_dir = DataDir::open(&home.path().join("data")).unwrap();
    let config = Config {
        port: Port::Free,
        anonymous: true,
        binary: ServerBinary {
            path: "/bin/sh".into(),
            ..binary().await
        },
        launcher: Launcher::new(helper()),
    };

    let error = nex_server::start(config, &data_dir).await.unwrap_err();

    let StartError::NotReady { why, log } = &error else {
        panic!("{error}");
    };
    assert!(matches!(why, NotReady::Ended(Exit::Code(2))), "{error}");
    assert!(
        log.contains("Illegal option") || log.contains("invalid option"),
        "{log}"
    );
    assert!(error.to_string().contains(log.as_str()), "{error}");
    assert!(error.hint().contains("--nats-server"), "{}", error.hint());
}
