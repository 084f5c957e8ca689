//! The service against a real nats-server, run as Nex runs it: with an environment and nothing else.

use nex_testkit::{Home, NatsServer, eventually, terminate, wait_until};
use std::{process::Child, time::Duration};

const LIMIT: Duration = Duration::from_secs(20);

fn end(service: &mut Child) -> Option<i32> {
    terminate(service.id()).expect("the service still runs");
    let ended = wait_until("the end of the service", LIMIT, || {
        service.try_wait().ok().flatten()
    });
    ended.expect("SIGTERM ends the service").code()
}

#[tokio::test]
async fn answers_is_discovered_and_ends_cleanly() {
    let (server, home) = (NatsServer::start(), Home::new());
    let client = async_nats::connect(server.url()).await.unwrap();
    let program = env!("CARGO_BIN_EXE_echo-service");
    let mut service = home
        .command(program)
        .env("NATS_URL", server.url())
        .spawn()
        .unwrap();

    let reply = eventually("an answer on svc.echo", LIMIT, || {
        client.request("svc.echo", "h\u{e9}llo\0".into())
    })
    .await;
    let ping = client.request("$SRV.PING.echo", "".into()).await.unwrap();
    let ping: serde_json::Value = serde_json::from_slice(&ping.payload).unwrap();

    assert_eq!(reply.payload, "h\u{e9}llo\0".as_bytes());
    assert_eq!(
        (&ping["name"], &ping["version"]),
        (&"echo".into(), &"1.0.0".into())
    );
    assert_eq!(end(&mut service), Some(0));
}

#[tokio::test]
async fn credentials_that_are_not_there_are_named() {
    let (server, home) = (NatsServer::start(), Home::new());

    let output = home
        .run(
            home.command(env!("CARGO_BIN_EXE_echo-service"))
                .env("NATS_URL", server.url())
                .env("NATS_CREDS", home.path().join("absent.creds")),
        )
        .unwrap()
        .failed();

    assert!(output.stderr.contains("absent.creds"), "{output}");
}
