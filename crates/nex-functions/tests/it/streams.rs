use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{self, consumer::Info, stream::Stream},
};
use futures_util::StreamExt as _;
use nex_functions::Limits;
use nex_protocol::{ErrorCode, WorkloadId, dead_letter};
use nex_testkit::{NatsServer, eventually};

use crate::fake::{Bench, LIMIT};

/// A server with a stream of orders.
async fn orders() -> (NatsServer, Bench, jetstream::Context) {
    let server = NatsServer::builder().jetstream(true).start();
    let bench = Bench::new(&server, Limits::default()).await;
    let context = jetstream::new(bench.client.clone());
    let config = jetstream::stream::Config {
        name: "ORDERS".into(),
        subjects: vec!["orders.>".into()],
        ..jetstream::stream::Config::default()
    };
    context.create_stream(config).await.unwrap();
    (server, bench, context)
}

async fn publish(context: &jetstream::Context, subject: &str, payload: impl Into<bytes::Bytes>) {
    let published = context.publish(subject.to_owned(), payload.into()).await;
    published.unwrap().await.unwrap();
}

/// The only consumer of the stream.
async fn consumer(context: &jetstream::Context) -> Option<Info> {
    let stream: Stream = context.get_stream("ORDERS").await.unwrap();
    let mut all = stream.consumers();
    let first = all.next().await.map(Result::unwrap);
    assert!(all.next().await.is_none(), "more than one consumer");
    first
}

async fn all_acknowledged(context: &jetstream::Context, count: u64) {
    eventually("all to be acknowledged", LIMIT, || async {
        let info = consumer(context).await.unwrap();
        info.ack_floor.stream_sequence == count && info.num_ack_pending == 0
    })
    .await;
}

async fn count_is(bench: &Bench, id: &WorkloadId, name: &str, count: u64) {
    eventually("the counter", LIMIT, || async {
        bench.count(id, name) == count
    })
    .await;
}

async fn dead_letters(context: &jetstream::Context) -> u64 {
    let stream = context.get_stream(dead_letter::DEAD_LETTER_STREAM).await;
    stream.unwrap().cached_info().state.messages
}

#[tokio::test]
async fn each_message_is_acknowledged_after_its_run() {
    let (_server, bench, context) = orders().await;
    for number in 0..1000 {
        publish(&context, "orders.new", number.to_string()).await;
    }

    let id = bench
        .start_triggers("echo", r#"[{"stream":"ORDERS"}]"#)
        .await
        .unwrap();

    all_acknowledged(&context, 1000).await;
    assert_eq!(bench.count(&id, "calls"), 1000);
    assert_eq!(bench.count(&id, "redelivered"), 0);
}

#[tokio::test]
async fn what_fails_too_often_is_a_dead_letter() {
    let (_server, bench, context) = orders().await;
    let trigger =
        r#"[{"stream":"ORDERS","filter":"orders.bad","max_deliver":3,"back_off":["10ms"]}]"#;
    let id = bench.start_triggers("echo", trigger).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-color", "blue");
    headers.insert("Nats-Msg-Id", "order-1");
    let published = context.publish_with_headers("orders.bad", headers, "fail".into());
    published.await.unwrap().await.unwrap();
    publish(&context, "orders.good", "not ours").await;

    count_is(&bench, &id, "dead_letters", 1).await;

    assert_eq!(
        (bench.count(&id, "calls"), bench.count(&id, "errors")),
        (3, 3)
    );
    assert_eq!(bench.count(&id, "redelivered"), 2);
    all_acknowledged(&context, 1).await;
    let stream = context.get_stream(dead_letter::DEAD_LETTER_STREAM).await;
    let letter = stream.unwrap().get_raw_message(1).await.unwrap();
    let name = consumer(&context).await.unwrap().name;
    let header = |name: &str| letter.headers.get(name).unwrap().as_str();
    assert_eq!(letter.payload, "fail");
    assert_eq!(
        dead_letter::consumer_of(&letter.subject),
        Some(name.as_str())
    );
    for (header_name, value) in [
        (dead_letter::REASON_HEADER, "Error: a  b at f:1:2"),
        (dead_letter::CODE_HEADER, "500"),
        (dead_letter::SUBJECT_HEADER, "orders.bad"),
        (dead_letter::STREAM_HEADER, "ORDERS"),
        (dead_letter::SEQUENCE_HEADER, "1"),
        (dead_letter::ATTEMPTS_HEADER, "3"),
        (dead_letter::WORKLOAD_HEADER, id.as_str()),
        (dead_letter::NAME_HEADER, "echo"),
        (dead_letter::NAMESPACE_HEADER, "tenant"),
        ("x-color", "blue"),
        ("Nex-Dlq-Kept-Nats-Msg-Id", "order-1"),
    ] {
        assert_eq!(header(header_name), value, "{header_name}");
    }
}

/// Without a bound it takes the whole disk; what it has no room for is refused.
#[tokio::test]
async fn the_stream_of_dead_letters_is_as_large_as_the_server_has_room_for() {
    for (room, max_bytes) in [
        ("max_file_store: 2GB", 1 << 30),
        ("max_file_store: 100MB", 1 << 26),
    ] {
        let server = NatsServer::builder()
            .jetstream(true)
            .config(format!("jetstream {{ {room} }}"))
            .start();
        let bench = Bench::new(&server, Limits::default()).await;
        let context = jetstream::new(bench.client.clone());
        let orders = jetstream::stream::Config {
            name: "ORDERS".into(),
            ..jetstream::stream::Config::default()
        };
        context.create_stream(orders).await.unwrap();

        let trigger = r#"[{"stream":"ORDERS"}]"#;
        bench.start_triggers("echo", trigger).await.unwrap();

        let stream = context.get_stream(dead_letter::DEAD_LETTER_STREAM).await;
        let config = stream.unwrap().cached_info().config.clone();
        assert_eq!(config.max_bytes, max_bytes, "{room}");
        assert_eq!(config.discard, jetstream::stream::DiscardPolicy::New);
    }
}

#[tokio::test]
async fn a_replay_sees_the_message_as_it_was() {
    let (_server, bench, _context) = orders().await;
    bench
        .start_triggers("show", r#"[{"stream":"ORDERS"}]"#)
        .await
        .unwrap();
    let namespace = nex_protocol::Namespace::new("tenant").unwrap();
    let stream = nex_protocol::function::StreamName::new("ORDERS").unwrap();
    let trigger = nex_protocol::function::StreamTrigger::new(stream);
    let subject = dead_letter::replay_subject(&namespace, &trigger.consumer(&namespace, "show"));
    let mut headers = HeaderMap::new();
    headers.insert(dead_letter::SUBJECT_HEADER, "orders.bad");
    headers.insert(dead_letter::ATTEMPTS_HEADER, "3");
    headers.insert("x-color", "blue");

    let asked = bench
        .client
        .request_with_headers(subject.clone(), headers, "".into());
    let reply = tokio::time::timeout(LIMIT, asked).await.unwrap().unwrap();
    let none = bench.error(&subject, "no headers at all").await;

    let text = String::from_utf8(reply.payload.to_vec()).unwrap();
    assert!(text.ends_with(" 4 blue"), "{text}");
    assert_eq!(none.0, ErrorCode::BadRequest);
}

#[tokio::test]
async fn what_has_not_begun_when_it_stops_is_handed_back() {
    let (_server, bench, context) = orders().await;
    for number in 0..100 {
        publish(&context, "orders.new", number.to_string()).await;
    }
    let trigger = r#"[{"stream":"ORDERS"}]"#;
    let id = bench.start_triggers("gate", trigger).await.unwrap();
    eventually("messages at the gate", LIMIT, || async {
        bench.gate.arrived() > 0
    })
    .await;

    // It stops when those that have begun are done.
    let handed_back = "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.ORDERS.>";
    let mut handed_back = bench.client.subscribe(handed_back).await.unwrap();
    nex_nats::barrier(&bench.client).await.unwrap();
    let others_come_back = async {
        let mut count = 0;
        while count < 100 - bench.gate.arrived() {
            let next = tokio::time::timeout(LIMIT, handed_back.next()).await;
            next.unwrap().unwrap();
            count += 1;
        }
        bench.gate.open();
    };
    tokio::join!(bench.stop(&id), others_come_back);
    let begun = bench.gate.arrived();
    let next = bench.start_triggers("gate", trigger).await.unwrap();

    all_acknowledged(&context, 100).await;
    assert_eq!(bench.gate.arrived(), 100, "none is run twice");
    assert_eq!(bench.count(&next, "calls"), 100 - begun as u64);
}

#[tokio::test]
async fn a_run_may_take_longer_than_the_stream_waits() {
    let (_server, bench, context) = orders().await;
    publish(&context, "orders.new", "slow").await;
    let trigger = r#"[{"stream":"ORDERS","ack_wait":"1s"}]"#;
    let mut signs = bench.client.subscribe("$JS.ACK.ORDERS.>").await.unwrap();
    nex_nats::barrier(&bench.client).await.unwrap();
    let id = bench.start_triggers("gate", trigger).await.unwrap();

    // Three for each time that the stream waits: it runs for longer than three of those.
    for _ in 0..10 {
        let sign = tokio::time::timeout(LIMIT, signs.next()).await.unwrap();
        assert_eq!(sign.unwrap().payload, "+WPI", "it is said to be in work");
    }
    bench.gate.open();

    all_acknowledged(&context, 1).await;
    assert_eq!(bench.gate.arrived(), 1, "it was delivered again");
    assert_eq!(bench.count(&id, "redelivered"), 0);
}

#[tokio::test]
async fn a_consumer_outlives_its_function_unless_it_is_purged() {
    let (_server, bench, context) = orders().await;
    let trigger = r#"[{"stream":"ORDERS"}]"#;
    let replicas = [
        bench.start_triggers("echo", trigger).await.unwrap(),
        bench.start_triggers("echo", trigger).await.unwrap(),
    ];
    publish(&context, "orders.new", "one").await;
    all_acknowledged(&context, 1).await;

    bench.end(&replicas[0], true).await;
    assert!(consumer(&context).await.is_some(), "another uses it");
    bench.end(&replicas[1], false).await;
    assert!(
        consumer(&context).await.is_some(),
        "nobody said that it should go"
    );
    publish(&context, "orders.new", "two").await;
    let again = bench.start_triggers("echo", trigger).await.unwrap();
    all_acknowledged(&context, 2).await;
    assert_eq!(bench.count(&again, "calls"), 1, "it goes on where it was");
    assert_eq!(bench.count(&again, "deliveries"), 2, "of all starts");
    bench.end(&again, true).await;

    assert!(consumer(&context).await.is_none());
}

#[tokio::test]
async fn a_consumer_that_a_busy_replica_uses_is_not_purged() {
    let (_server, bench, context) = orders().await;
    let trigger = r#"[{"stream":"ORDERS"}]"#;
    let busy = bench.start_triggers("gate", trigger).await.unwrap();
    // As many as it takes, and one more: it asks the stream for nothing.
    for _ in 0..257 {
        publish(&context, "orders.new", "x").await;
    }
    eventually("it to have enough", LIMIT, || async {
        consumer(&context)
            .await
            .filter(|info| info.num_ack_pending == 256)
    })
    .await;
    let other = bench.start_triggers("gate", trigger).await.unwrap();
    eventually("all to be here", LIMIT, || async {
        consumer(&context)
            .await
            .filter(|info| info.num_ack_pending == 257)
    })
    .await;
    let purging = bench.end(&other, true);
    let opening = async {
        eventually("its calls to have begun", LIMIT, || async {
            bench.gate.arrived() > 0
        })
        .await;
        bench.gate.open();
    };

    tokio::join!(purging, opening);

    assert!(consumer(&context).await.is_some(), "another uses it");
    all_acknowledged(&context, 257).await;
    bench.end(&busy, true).await;
    assert!(consumer(&context).await.is_none());
}

#[tokio::test]
async fn a_consumer_whose_stream_is_gone_is_purged() {
    let (_server, bench, context) = orders().await;
    let id = bench
        .start_triggers("echo", r#"[{"stream":"ORDERS"}]"#)
        .await
        .unwrap();
    context.delete_stream("ORDERS").await.unwrap();

    bench.end(&id, true).await;
}

#[tokio::test]
async fn a_refused_start_leaves_no_consumer_and_takes_none_away() {
    let (_server, bench, context) = orders().await;
    let both = r#"[{"stream":"ORDERS"},{"stream":"NOWHERE"}]"#;

    let refused = bench.start_triggers("echo", both).await.unwrap_err();

    assert_eq!(refused.code, ErrorCode::NotFound, "{refused}");
    assert!(consumer(&context).await.is_none());

    let one = bench
        .start_triggers("echo", r#"[{"stream":"ORDERS"}]"#)
        .await;
    bench.end(&one.unwrap(), false).await;
    bench.start_triggers("echo", both).await.unwrap_err();
    assert!(consumer(&context).await.is_some(), "it was there before");
}

#[tokio::test]
async fn what_is_not_there_is_refused_with_the_next_step() {
    let (_server, bench, _context) = orders().await;
    let trigger = r#"[{"stream":"NONE"}]"#;
    let refusal = bench.start_triggers("echo", trigger).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::NotFound);
    assert!(
        refusal.text.contains("`nats stream add NONE` makes it"),
        "{refusal}"
    );

    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let refusal = bench.start_triggers("echo", trigger).await.unwrap_err();
    assert!(refusal.text.contains("NEX_DLQ"), "{refusal}");
    assert!(bench.host.list().is_empty());
}

#[tokio::test]
async fn a_filter_that_fits_no_subject_of_its_stream_is_refused() {
    let (_server, bench, context) = orders().await;
    let start = async |stream: &str, filter: &str| {
        let trigger = format!(r#"[{{"stream":"{stream}","filter":"{filter}"}}]"#);
        bench.start_triggers("echo", &trigger).await
    };
    for filter in [
        "order.new",
        "orders",
        "*",
        "shop.orders.new",
        "orders_new.>",
    ] {
        let refusal = start("ORDERS", filter).await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::BadRequest, "{refusal}");
        for part in [filter, "`orders.>`"] {
            assert!(refusal.text.contains(part), "{part}: {refusal}");
        }
    }
    assert!(consumer(&context).await.is_none());
    for filter in ["orders.new", "orders.*", "*.new", "orders.>", ">"] {
        let id = start("ORDERS", filter).await.unwrap();
        bench.end(&id, true).await;
    }
    // A copy has the subjects of what it copies.
    let source = jetstream::stream::Source {
        name: "ORDERS".into(),
        ..jetstream::stream::Source::default()
    };
    let copy = jetstream::stream::Config {
        name: "COPY".into(),
        sources: Some(vec![source]),
        ..jetstream::stream::Config::default()
    };
    context.create_stream(copy).await.unwrap();
    start("COPY", "anything").await.unwrap();
}

#[tokio::test]
async fn a_stream_that_gets_other_subjects_does_not_end_its_functions() {
    let (_server, bench, context) = orders().await;
    let trigger = r#"[{"stream":"ORDERS","filter":"orders.new"}]"#;
    let id = bench.start_triggers("echo", trigger).await.unwrap();
    publish(&context, "orders.new", "one").await;
    all_acknowledged(&context, 1).await;
    bench.end(&id, false).await;
    publish(&context, "orders.new", "two").await;
    let stream = context.get_stream("ORDERS").await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.subjects = vec!["other.>".into()];
    context.update_stream(&config).await.unwrap();

    let again = bench.start_triggers("echo", trigger).await.unwrap();

    all_acknowledged(&context, 2).await;
    assert_eq!(bench.count(&again, "calls"), 1);
}

#[tokio::test]
async fn the_server_waits_shortly_whatever_the_trigger_allows() {
    let (_server, bench, context) = orders().await;
    let namespace = nex_protocol::Namespace::new("tenant").unwrap();
    let stream = nex_protocol::function::StreamName::new("ORDERS").unwrap();
    let name = nex_protocol::function::StreamTrigger::new(stream).consumer(&namespace, "echo");
    let minutes = Duration::from_secs(600);
    let old = jetstream::consumer::pull::Config {
        durable_name: Some(name.clone()),
        ack_wait: minutes,
        ..jetstream::consumer::pull::Config::default()
    };
    let made = context.create_consumer_on_stream(old, "ORDERS").await;
    assert_eq!(made.unwrap().cached_info().config.ack_wait, minutes);

    for (asked, waits) in [("10m", 10), ("2s", 2), ("24h", 10)] {
        let trigger = format!(r#"[{{"stream":"ORDERS","ack_wait":"{asked}"}}]"#);
        let id = bench.start_triggers("echo", &trigger).await.unwrap();
        let info = consumer(&context).await.unwrap();
        assert_eq!(info.name, name);
        assert_eq!(info.config.ack_wait, Duration::from_secs(waits), "{asked}");
        bench.end(&id, false).await;
    }
}

#[tokio::test]
async fn messages_come_on_after_the_server_was_away() {
    let (mut server, bench, context) = orders().await;
    let trigger = r#"[{"stream":"ORDERS","ack_wait":"1s"}]"#;
    bench.start_triggers("echo", trigger).await.unwrap();
    publish(&context, "orders.new", "before").await;
    all_acknowledged(&context, 1).await;

    server.kill();
    server.restart();
    eventually("the client to be back", LIMIT, || async {
        let published = context.publish("orders.new", "after".into()).await;
        published.ok()?.await.ok()
    })
    .await;

    eventually("all to be acknowledged", LIMIT, || async {
        let stream: Stream = context.get_stream("ORDERS").await.ok()?;
        let mut all = stream.consumers();
        let info = all.next().await?.ok()?;
        let last = stream.cached_info().state.last_sequence;
        (last > 1 && info.ack_floor.stream_sequence == last).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_somebody_deletes_is_made_again() {
    let (_server, bench, context) = orders().await;
    bench
        .start_triggers("echo", r#"[{"stream":"ORDERS"}]"#)
        .await
        .unwrap();
    publish(&context, "orders.new", "before").await;
    all_acknowledged(&context, 1).await;

    let name = consumer(&context).await.unwrap().name;
    let stream = context.get_stream("ORDERS").await.unwrap();
    stream.delete_consumer(&name).await.unwrap();

    eventually("the consumer", LIMIT, || async {
        consumer(&context).await.is_some()
    })
    .await;
    publish(&context, "orders.new", "after").await;
    all_acknowledged(&context, 2).await;
}

#[tokio::test]
async fn a_broadcast_runs_every_replica() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let trigger = r#"[{"subject":"news","broadcast":true}]"#;
    let replicas = [
        bench.start_triggers("echo", trigger).await.unwrap(),
        bench.start_triggers("echo", trigger).await.unwrap(),
    ];

    bench.client.publish("news", "x".into()).await.unwrap();

    for id in &replicas {
        count_is(&bench, id, "calls", 1).await;
    }
}

#[tokio::test]
async fn nothing_is_given_up_before_its_dead_letter_is_stored() {
    let (_server, bench, context) = orders().await;
    let trigger = r#"[{"stream":"ORDERS","max_deliver":1,"back_off":["10ms"]}]"#;
    let id = bench.start_triggers("echo", trigger).await.unwrap();
    // From now on there is no room for dead letters.
    let mut stream = context
        .get_stream(dead_letter::DEAD_LETTER_STREAM)
        .await
        .unwrap();
    let mut config = stream.info().await.unwrap().config.clone();
    config.max_messages = 1;
    context.update_stream(&config).await.unwrap();
    publish(&context, "$NEX.DLQ.a.b", "in the way").await;

    publish(&context, "orders.new", "fail").await;
    count_is(&bench, &id, "calls", 1).await;
    assert_eq!(
        consumer(&context).await.unwrap().ack_floor.stream_sequence,
        0
    );
    stream.purge().await.unwrap();

    count_is(&bench, &id, "dead_letters", 1).await;
    all_acknowledged(&context, 1).await;
    assert_eq!(dead_letters(&context).await, 1);
}

/// The nexlet of the other replica has not come back yet.
#[tokio::test]
async fn a_purge_after_a_restart_of_the_server_keeps_what_another_replica_uses() {
    let (mut server, bench, context) = orders().await;
    let late =
        Bench::returning_after(&server, Limits::default(), Duration::from_millis(3500)).await;
    let trigger = r#"[{"stream":"ORDERS"}]"#;
    let one = bench.start_triggers("echo", trigger).await.unwrap();
    let other = late.start_triggers("echo", trigger).await.unwrap();

    server.restart();
    bench.end(&one, true).await;

    assert!(consumer(&context).await.is_some(), "another uses it");
    publish(&context, "orders.new", "x").await;
    all_acknowledged(&context, 1).await;
    late.end(&other, true).await;
    assert!(consumer(&context).await.is_none());
}
