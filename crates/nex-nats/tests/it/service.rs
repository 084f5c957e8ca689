use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use nex_nats::{
    Connection, read_error,
    request_many::{Gather, Step},
    service::{Endpoint, Requests, Service, ServiceError},
};
use nex_protocol::ErrorCode;
use nex_testkit::NatsServer;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::{LIMIT, connected};

fn endpoints() -> Vec<Endpoint> {
    let endpoint = |name, subject: &str| Endpoint {
        name,
        subject: subject.to_owned(),
    };
    vec![
        endpoint("Zebra", "svc.*.zebra"),
        endpoint("Ant", "svc.*.ant.*"),
        endpoint("Bee", "svc.bee"),
    ]
}

async fn started(connection: &Connection, group: &str) -> Requests {
    Service::builder(connection, "zoo", "1.2.3", "animals")
        .queue_group(group)
        .queue_group_of("Bee", "hive")
        .start(endpoints())
        .await
        .unwrap()
}

async fn asked(connection: &Connection, subject: &str) -> Value {
    let request = connection.request(subject.to_owned(), "".into());
    let reply = timeout(LIMIT, request).await.unwrap().unwrap();
    serde_json::from_slice(&reply.payload).unwrap()
}

#[tokio::test]
async fn requests_carry_the_name_of_their_endpoint() {
    let server = NatsServer::start();
    let connection = connected(server.url()).await;
    let mut requests = started(&connection, "g").await;
    let serve = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let mut headers = HeaderMap::new();
            headers.insert("X", "y");
            let text = format!("{} {}", request.endpoint, request.subject());
            request.respond(Some(headers), text.into()).await.unwrap();
        }
    });
    let asker = connected(server.url()).await;

    let zebra = asker.request("svc.a.zebra", "".into()).await.unwrap();
    let ant = asker.request("svc.b.ant.1", "".into()).await.unwrap();

    assert_eq!(zebra.payload, "Zebra svc.a.zebra");
    assert_eq!(zebra.headers.unwrap().get("X").unwrap().as_str(), "y");
    assert_eq!(ant.payload, "Ant svc.b.ant.1");
    serve.abort();
}

#[tokio::test]
async fn discovery_lists_the_endpoints_in_order() {
    let server = NatsServer::start();
    let connection = connected(server.url()).await;
    let _requests = started(&connection, "g").await;
    let asker = connected(server.url()).await;

    let ping = asked(&asker, "$SRV.PING").await;
    let id = ping["id"].as_str().unwrap();
    let info = asked(&asker, &format!("$SRV.INFO.zoo.{id}")).await;

    assert_eq!(ping["type"], "io.nats.micro.v1.ping_response");
    assert_eq!(
        (&ping["name"], &ping["version"]),
        (&"zoo".into(), &"1.2.3".into())
    );
    assert_eq!(info["type"], "io.nats.micro.v1.info_response");
    assert_eq!(info["description"], "animals");
    let listed: Vec<_> = info["endpoints"].as_array().unwrap().iter().collect();
    let fields = |key: &str| listed.iter().map(|e| e[key].clone()).collect::<Vec<_>>();
    assert_eq!(fields("name"), ["Zebra", "Ant", "Bee"]);
    assert_eq!(fields("queue_group"), ["g", "g", "hive"]);
    assert_eq!(fields("subject"), ["svc.*.zebra", "svc.*.ant.*", "svc.bee"]);
}

#[tokio::test]
async fn an_error_is_answered_and_counted() {
    let server = NatsServer::start();
    let connection = connected(server.url()).await;
    let mut requests = started(&connection, "g").await;
    let serve = tokio::spawn(async move {
        let request = requests.next().await.unwrap();
        let error = request.respond_error(ErrorCode::NotFound, "no\nbee", "body".into());
        error.await.unwrap();
        requests
    });
    let asker = connected(server.url()).await;

    let reply = asker.request("svc.bee", "".into()).await.unwrap();

    assert_eq!(
        read_error(&reply),
        Some((ErrorCode::NotFound, "no bee".to_owned()))
    );
    assert_eq!(reply.payload, "body");
    let _requests = serve.await.unwrap();
    let stats = asked(&asker, "$SRV.STATS.zoo").await;
    assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
    let bee = &stats["endpoints"][2];
    assert_eq!(
        (&bee["num_requests"], &bee["num_errors"]),
        (&1.into(), &1.into())
    );
    assert_eq!(bee["last_error"], "404:no bee");
}

#[tokio::test]
async fn one_of_a_queue_group_answers_and_each_of_different_groups() {
    let server = NatsServer::start();
    let mut tasks = Vec::new();
    for group in ["one", "two"] {
        let connection = connected(server.url()).await;
        let mut requests = started(&connection, group).await;
        tasks.push(tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                request.respond(None, "x".into()).await.unwrap();
            }
            drop(connection);
        }));
    }
    let asker = connected(server.url()).await;
    for (subject, wanted) in [("svc.a.zebra", 2), ("svc.bee", 1)] {
        let mut gather = Gather::request(&asker, subject, "".into(), None)
            .await
            .unwrap();
        for _ in 0..wanted {
            let step = gather.next(Instant::now() + LIMIT).await;
            assert!(matches!(step, Step::Reply(_)), "{subject}: {step:?}");
        }
        // A second request that both answer has gone through both services after the first one.
        let mut second = Gather::request(&asker, "svc.a.zebra", "".into(), None)
            .await
            .unwrap();
        for _ in 0..2 {
            second.next(Instant::now() + LIMIT).await;
        }
        assert!(matches!(gather.next(Instant::now()).await, Step::TimedOut));
    }
    for task in tasks {
        task.abort();
    }
}

#[tokio::test]
async fn an_endpoint_that_was_left_has_no_responders() {
    let server = NatsServer::start();
    let connection = connected(server.url()).await;
    let mut requests = started(&connection, "g").await;
    let asker = connected(server.url()).await;

    requests.leave("Bee").await;
    nex_nats::barrier(&connection).await.unwrap();

    let mut gather = Gather::request(&asker, "svc.bee", "".into(), None)
        .await
        .unwrap();
    assert!(matches!(
        gather.next(Instant::now() + LIMIT).await,
        Step::NoResponders
    ));
    requests.leave_all().await;
    assert!(timeout(LIMIT, requests.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn an_answer_is_not_lent_to_a_subject_of_the_system() {
    let server = NatsServer::start();
    let connection = connected(server.url()).await;
    let mut requests = started(&connection, "g").await;
    let serve = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            request.respond(None, "answer".into()).await.unwrap();
        }
    });
    let asker = connected(server.url()).await;
    let mut forged = asker.subscribe("$NEX.>").await.unwrap();

    for subject in ["svc.bee", "$SRV.PING", "$SRV.INFO.zoo"] {
        let reply = "$NEX.FEED.default.logs.w.stdout";
        asker
            .publish_with_reply(subject, reply, "".into())
            .await
            .unwrap();
        // Both are answered in the order in which they come, this one where it may be.
        asker.request(subject, "".into()).await.unwrap();
    }

    asker.publish("$NEX.last", "".into()).await.unwrap();
    let heard = timeout(LIMIT, forged.next()).await.unwrap().unwrap();
    assert_eq!(heard.subject.as_str(), "$NEX.last");
    serve.abort();
}

#[tokio::test]
async fn a_bad_name_is_refused() {
    let server = NatsServer::start();
    let connection = connected(server.url()).await;

    let refused = Service::builder(&connection, "a b", "1.0.0", "")
        .start(Vec::new())
        .await;

    assert!(
        matches!(refused, Err(ServiceError::InvalidName(_))),
        "{refused:?}"
    );
}
