//! Who may do what.

use async_nats::jetstream;
use futures_util::StreamExt;
use nex_protocol::{Namespace, NexletId, NexusName, NodeId, WorkloadId};

use tokio::time::timeout;

use crate::Up;
use crate::peer::Peer;

fn node(up: &Up) -> NodeId {
    NodeId::new(up.data_dir.node_identity().public).unwrap()
}

/// Denied to everybody but Nex.
const ADMINISTRATION: [&str; 4] = [
    "$SYS.REQ.SERVER.PING",
    "$JS.API.STREAM.DELETE.NEX_FEEDS",
    "$JS.API.STREAM.PURGE.OBJ_NEXCLIFILES",
    "$O.NEXCLIFILES.M.x",
];

#[tokio::test]
async fn anonymous_clients_talk_and_are_kept_from_nexlets_and_server() {
    let up = Up::start(true).await;
    let mut peer = Peer::anonymous(up.server.url()).await;

    let listener = Peer::with(&up.server.node_creds()).await;

    peer.can_talk_on("echo").await;
    peer.can_publish("$NEX.SVC.default.control.AUCTION", &listener)
        .await;
    for subject in ADMINISTRATION {
        peer.cannot_publish(subject).await;
    }
    for subject in [
        "$NEX.SVC.x.agent.y",
        "$NEX.SVC.system.control.HEARTBEAT.x",
        "$NEX.FEED.default.logs.w.stdout",
    ] {
        peer.cannot_publish(subject).await;
    }
    for subject in [
        "$NEX.SVC.x.agent.y",
        "$NEX.SVC.*.agent.>",
        "$NEX.SVC.default.control.AUCTION",
        "$JS.API.>",
        "_INBOX.NEX.>",
        "$SYS.>",
    ] {
        peer.cannot_subscribe(subject).await;
    }
    peer.can_talk_on("echo").await;
    up.end().await;
}

#[tokio::test]
async fn bad_credentials_get_no_more_than_none() {
    let up = Up::start(true).await;
    let options =
        async_nats::ConnectOptions::with_user_and_password("admin".into(), "guess".into());

    let mut peer = Peer::connect(options, up.server.url()).await;

    peer.cannot_publish("$NEX.SVC.x.agent.y").await;
    peer.cannot_publish("$SYS.REQ.SERVER.PING").await;
    up.end().await;
}

#[tokio::test]
async fn without_anonymous_access_nobody_gets_in_without_credentials() {
    let up = Up::start(false).await;

    let anonymous = async_nats::connect(up.server.url()).await;

    assert!(anonymous.is_err());
    Peer::with(&up.server.node_creds())
        .await
        .can_talk_on("echo")
        .await;
    up.end().await;
}

#[tokio::test]
async fn the_node_and_the_command_line_may_do_everything_in_the_account() {
    let up = Up::start(true).await;
    let creds = std::fs::read_to_string(up.server.creds_path()).unwrap();
    let cli = async_nats::ConnectOptions::with_credentials(&creds).unwrap();

    for mut peer in [
        Peer::with(&up.server.node_creds()).await,
        Peer::connect(cli, up.server.url()).await,
    ] {
        peer.can_talk_on("$NEX.SVC.x.agent.y").await;
        peer.can_talk_on("$NEX.FEED.default.logs.w.stdout").await;
        peer.cannot_publish("$SYS.REQ.SERVER.PING").await;
        let jetstream = jetstream::new(peer.client.clone());
        jetstream.query_account().await.unwrap();
    }
    up.end().await;
}

#[tokio::test]
async fn a_workload_is_kept_from_nex() {
    let up = Up::start(true).await;
    let minter = up.server.minter();
    let data = minter
        .workload(&Namespace::default_tenant(), &WorkloadId::mint(&node(&up)))
        .unwrap();
    assert_eq!(data.nats_servers, [up.server.url()]);

    let mut peer = Peer::with(&data).await;

    peer.can_talk_on("svc.echo").await;
    // The anonymous user may do this: it is not who this is.
    peer.cannot_publish("$NEX.SVC.default.control.AUCTION")
        .await;
    for subject in ["$NEX.FEED.>", "$JS.API.>", "_INBOX.NEX.a.b"] {
        peer.cannot_subscribe(subject).await;
    }
    peer.cannot_publish("$JS.API.CONSUMER.CREATE.NEX_FEEDS.c.>")
        .await;
    peer.cannot_publish("$JS.API.DIRECT.GET.NEX_FEEDS").await;
    for subject in ADMINISTRATION {
        peer.cannot_publish(subject).await;
    }
    let streams = jetstream::new(peer.client.clone());
    let config = jetstream::stream::Config {
        name: "MINE".into(),
        subjects: vec!["mine.>".into()],
        ..Default::default()
    };
    streams.create_stream(config).await.unwrap();
    up.end().await;
}

/// The subject of the next message but JetStream's own, which tells of requests whenever it gets to it.
async fn next_said(heard: &mut async_nats::Subscriber) -> String {
    loop {
        let message = timeout(crate::LIMIT, heard.next()).await.unwrap().unwrap();
        if !message.subject.starts_with("$JS.EVENT.") {
            return message.subject.to_string();
        }
    }
}

#[tokio::test]
async fn who_listens_on_everything_does_not_hear_what_is_denied() {
    let up = Up::start(true).await;
    let workload = up
        .server
        .minter()
        .workload(&Namespace::default_tenant(), &WorkloadId::mint(&node(&up)))
        .unwrap();
    let node = Peer::with(&up.server.node_creds()).await;
    // A queue for each: the subscriptions of the first may outlive its turn.
    for (queue, peer) in [
        ("first", Peer::anonymous(up.server.url()).await),
        ("second", Peer::with(&workload).await),
    ] {
        let mut heard = [
            peer.client.subscribe(">").await.unwrap(),
            peer.client.subscribe("*.>").await.unwrap(),
            peer.client
                .queue_subscribe(">", queue.into())
                .await
                .unwrap(),
        ];
        // Its own message says that the server knows the subscriptions.
        peer.client.publish("the.first", "".into()).await.unwrap();
        for heard in &mut heard {
            assert_eq!(next_said(heard).await, "the.first");
        }

        for subject in [
            "_INBOX.NEX.a.b",
            "$NEX.SVC.x.agent.y",
            "$NEX.SVC.default.control.AUCTION",
            "$JS.API.INFO",
            "the.last",
        ] {
            node.client.publish(subject, "".into()).await.unwrap();
        }

        for heard in &mut heard {
            assert_eq!(next_said(heard).await, "the.last");
        }
    }
    up.end().await;
}

#[tokio::test]
async fn a_nexlet_may_do_its_work_and_nothing_else() {
    let up = Up::start(true).await;
    let (node, nexlet) = (node(&up), NexletId::mint());
    let nexus = NexusName::new("nexus").unwrap();
    let data = up
        .server
        .minter()
        .nexlet(&node, &nexus, &nexlet, "native")
        .unwrap();
    let listener = Peer::with(&up.server.node_creds()).await;

    let mut peer = Peer::with(&data).await;

    let heartbeat = format!("$NEX.SVC.{node}.agent.HEARTBEAT.{nexlet}");
    peer.can_publish(&heartbeat, &listener).await;
    peer.can_publish("$NEX.FEED.default.logs.w.stdout", &listener)
        .await;
    peer.cannot_publish(&format!("$NEX.SVC.{node}.agent.HEARTBEAT.other"))
        .await;
    peer.cannot_publish("echo").await;
    peer.cannot_publish("$JS.API.STREAM.DELETE.OBJ_NEXCLIFILES")
        .await;
    peer.cannot_subscribe(">").await;
    peer.cannot_subscribe("$NEX.SVC.other.agent.STOPWORKLOAD.*")
        .await;
    up.end().await;
}

#[tokio::test]
async fn a_nexlet_reads_artifacts_from_the_object_store() {
    let up = Up::start(true).await;
    let nexus = NexusName::new("nexus").unwrap();
    let data = up
        .server
        .minter()
        .nexlet(&node(&up), &nexus, &NexletId::mint(), "native")
        .unwrap();
    let owner = jetstream::new(Peer::with(&up.server.node_creds()).await.client);
    let config = jetstream::object_store::Config {
        bucket: nex_protocol::ARTIFACT_BUCKET.to_owned(),
        ..Default::default()
    };
    let bucket = owner.create_object_store(config).await.unwrap();
    let artifact = vec![7; 300_000];
    bucket
        .put("name_tag", &mut artifact.as_slice())
        .await
        .unwrap();

    let nexlet = jetstream::new(Peer::with(&data).await.client);
    let bucket = nexlet
        .get_object_store(nex_protocol::ARTIFACT_BUCKET)
        .await
        .unwrap();
    let mut object = bucket.get("name_tag").await.unwrap();
    let mut read = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut object, &mut read);
    tokio::time::timeout(crate::LIMIT, reading)
        .await
        .unwrap()
        .unwrap();

    assert_eq!(read, artifact);
    up.end().await;
}

#[tokio::test]
async fn who_registers_can_only_register() {
    let up = Up::start(true).await;
    let (node, nexlet) = (node(&up), NexletId::mint());
    let data = up.server.minter().registration(&node, &nexlet).unwrap();
    let listener = Peer::with(&up.server.node_creds()).await;

    let mut peer = Peer::with(&data).await;

    let register = format!("$NEX.SVC.{node}.agent.REGISTER.{nexlet}");
    peer.can_publish(&register, &listener).await;
    peer.cannot_publish(&format!("$NEX.SVC.{node}.agent.REGISTER.other"))
        .await;
    peer.cannot_publish("echo").await;
    peer.cannot_subscribe("echo").await;
    up.end().await;
}
