use std::time::Duration;

use nex_client::ClientError;
use nex_protocol::{ErrorCode, Tags};
use nex_testkit::NatsServer;

use crate::{
    client,
    fake::{Fake, node_id},
};

#[tokio::test]
async fn a_node_is_told_when_to_end() {
    let server = NatsServer::start();
    let tags = Tags::from([("region".to_owned(), "lab".to_owned())]);
    let node = Fake {
        tags: tags.clone(),
        ..Fake::new('A', &['A'])
    };
    let _a = node.start(server.url()).await;
    let client = client(server.url(), "system").await;

    let minute = Duration::from_secs(60);
    let told = client.lameduck(&node_id('A'), minute, tags).await.unwrap();

    assert!(told.success);
    assert_eq!(told.message, "1m0s", "the delay as Go writes it");
}

#[tokio::test]
async fn who_is_not_there_and_who_refuses_is_told_apart() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A']).start(server.url()).await;
    let client = client(server.url(), "system").await;
    let client = &client;
    let order = async |fill| {
        let node = node_id(fill);
        client.lameduck(&node, Duration::ZERO, Tags::new()).await
    };

    let refused = order('A').await.unwrap_err();
    let absent = order('B').await.unwrap_err();

    assert_eq!(refused.code(), Some(ErrorCode::BadRequest), "{refused:?}");
    assert!(
        matches!(absent, ClientError::NodeNotFound(ref node) if *node == node_id('B')),
        "{absent:?}"
    );
}

#[tokio::test]
async fn a_lame_duck_is_called_back_unless_it_is_a_go_node() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A', 'G']).start(server.url()).await;
    let _g = Fake::go('G').start(server.url()).await;
    let client = client(server.url(), "system").await;
    let client = &client;
    let order = async |fill| client.cancel_lameduck(&node_id(fill), Tags::new()).await;

    let told = order('A').await.unwrap();
    let go = order('G').await.unwrap_err();
    let absent = order('B').await.unwrap_err();

    assert_eq!((told.success, told.message.as_str()), (true, "called back"));
    assert!(
        matches!(go, ClientError::GoNode(ref node) if *node == node_id('G')),
        "{go:?}"
    );
    assert!(matches!(absent, ClientError::NodeNotFound(_)), "{absent:?}");
}
