use async_nats::{HeaderMap, Message};
use futures_util::StreamExt as _;
use nex_functions::Limits;
use nex_protocol::function::{INVOCATION_END_HEADER, INVOCATION_HEADER};
use nex_testkit::NatsServer;

use crate::fake::{Bench, LIMIT};

fn id(message: &Message) -> Option<&str> {
    let headers = message.headers.as_ref()?;
    Some(headers.get(INVOCATION_HEADER)?.as_str())
}

fn is_end(message: &Message) -> bool {
    let headers = message.headers.as_ref();
    headers.is_some_and(|headers| headers.get(INVOCATION_END_HEADER).is_some())
}

#[tokio::test]
async fn who_names_an_invocation_finds_its_lines_and_their_end() {
    let server = NatsServer::start();
    let bench = Bench::new(&server, Limits::default()).await;
    let workload = bench.start("say", "a").await;
    let lines = format!("$NEX.FEED.tenant.logs.{workload}.*");
    let mut lines = bench.client.subscribe(lines).await.unwrap();

    bench.call("a", "unnamed").await;
    for (name, payload) in [("one", "hello"), ("not an id", "odd"), ("two", "fail")] {
        let mut headers = HeaderMap::new();
        headers.insert(INVOCATION_HEADER, name);
        let asked = bench
            .client
            .request_with_headers("a", headers, payload.into());
        tokio::time::timeout(LIMIT, asked).await.unwrap().unwrap();
    }

    let mut seen = Vec::new();
    while !seen.last().is_some_and(|(id, end, _)| *end && id == "two") {
        let message = tokio::time::timeout(LIMIT, lines.next())
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8(message.payload.to_vec()).unwrap();
        seen.push((
            id(&message).unwrap_or("").to_owned(),
            is_end(&message),
            text,
        ));
    }
    let expected = [
        ("", false, "unnamed\n"),
        ("one", false, "hello\n"),
        ("one", true, ""),
        ("", false, "odd\n"),
        ("two", false, "failed on a: Error: a\\r\\nb at f:1:2\n"),
        ("two", true, ""),
    ];
    let expected = expected.map(|(id, end, text)| (id.to_owned(), end, text.to_owned()));
    assert_eq!(seen, expected);
}
