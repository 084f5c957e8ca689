use futures_util::StreamExt as _;
use nex_nats::{
    barrier,
    request_many::{Gather, Step},
};
use nex_testkit::NatsServer;
use tokio::time::Instant;

use crate::{LIMIT, connected};

#[tokio::test]
async fn all_replies_come_and_then_the_deadline() {
    let server = NatsServer::start();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let connection = connected(server.url()).await;
        let mut requests = connection.subscribe("ask").await.unwrap();
        barrier(&connection).await.unwrap();
        tasks.push(tokio::spawn(async move {
            let request = requests.next().await.unwrap();
            let reply = request.reply.unwrap();
            connection.publish(reply, "me".into()).await.unwrap();
            requests.next().await
        }));
    }
    let asker = connected(server.url()).await;

    let mut gather = Gather::request(&asker, "ask", "".into(), None)
        .await
        .unwrap();

    for _ in 0..3 {
        match gather.next(Instant::now() + LIMIT).await {
            Step::Reply(message) => assert_eq!(message.payload, "me"),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(gather.next(Instant::now()).await, Step::TimedOut));
    for task in tasks {
        task.abort();
    }
}

#[tokio::test]
async fn nobody_there_is_known_at_once() {
    let server = NatsServer::start();
    let asker = connected(server.url()).await;

    let mut gather = Gather::request(&asker, "ask", "".into(), None)
        .await
        .unwrap();

    let step = gather.next(Instant::now() + LIMIT).await;
    assert!(matches!(step, Step::NoResponders), "{step:?}");
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused() {
    let server = NatsServer::start();
    let asker = connected(server.url()).await;
    let large = vec![0u8; asker.max_payload() + 1];

    assert!(
        Gather::request(&asker, "ask", large.into(), None)
            .await
            .is_err()
    );
}
