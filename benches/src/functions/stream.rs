//! Messages of a stream, processed by a function and by a bare pull consumer that acknowledges them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::{
    Client,
    jetstream::{self, Context, consumer::pull, stream::Stream},
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use super::{
    Size,
    deploy::Deployer,
    load::PAYLOAD,
    row::{Row, Target, Unit},
};

/// How often is looked how many messages are done.
const LOOK_PERIOD: Duration = Duration::from_millis(10);

/// How long all messages may take.
const LIMIT: Duration = Duration::from_secs(120);

/// How many publishes wait for their acknowledgement at a time.
const PUBLISHES: usize = 500;

pub(super) async fn measure(
    client: &Client,
    deployer: &Deployer,
    size: Size,
) -> anyhow::Result<Row> {
    let context = jetstream::new(client.clone());
    let uri = deployer.file("done.js", b"(subject, payload) => undefined")?;
    let mut row = Row {
        what: "JS function on a stream, messages acknowledged".to_owned(),
        unit: Unit::PerSecond,
        measured: Vec::new(),
        floor: Vec::new(),
        target: Some(Target::ShareOfFloor(0.7)),
    };
    for number in 0..size.alternations {
        let stream = fill(&context, &format!("BENCH{number}"), size.messages).await?;
        row.floor.push(bare(&stream, size.messages).await?);
        let stream = fill(&context, &format!("BENCH{number}F"), size.messages).await?;
        let trigger = json!({ "stream": format!("BENCH{number}F") });
        let name = format!("bench-stream-{number}");
        deployer.start_on("js", &uri, &name, &trigger).await?;
        row.measured.push(watch(&stream, size.messages).await?);
    }
    Ok(row)
}

/// A stream with so many messages.
async fn fill(context: &Context, name: &str, messages: u64) -> anyhow::Result<Stream> {
    let config = jetstream::stream::Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.in")],
        ..jetstream::stream::Config::default()
    };
    let stream = context.create_stream(config).await?;
    let subject = format!("{name}.in");
    let published = futures_util::stream::iter(0..messages)
        .map(|_| async {
            let acknowledged = context.publish(subject.clone(), PAYLOAD.into());
            acknowledged.await?.await?;
            anyhow::Ok(())
        })
        .buffer_unordered(PUBLISHES);
    published.try_collect::<()>().await?;
    Ok(stream)
}

/// What a bare consumer acknowledges in a second.
async fn bare(stream: &Stream, messages: u64) -> anyhow::Result<f64> {
    let config = pull::Config {
        durable_name: Some("bare".to_owned()),
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut coming = consumer.messages().await?;
    let consuming = async {
        while let Some(message) = coming.next().await {
            message?
                .ack()
                .await
                .map_err(|error| anyhow::anyhow!(error))?;
        }
        anyhow::bail!("the bare consumer has ended")
    };
    tokio::select! {
        ended = consuming => ended,
        rate = watch(stream, messages) => rate,
    }
}

/// How many messages the stream's one consumer has acknowledged in a second, from the first on.
async fn watch(stream: &Stream, messages: u64) -> anyhow::Result<f64> {
    let deadline = Instant::now() + LIMIT;
    let mut first = None;
    loop {
        tokio::time::sleep(LOOK_PERIOD).await;
        ensure!(
            Instant::now() < deadline,
            "not all messages are done in {LIMIT:?}"
        );
        let Some(info) = stream.consumers().next().await.transpose()? else {
            continue;
        };
        let done = info.ack_floor.stream_sequence;
        let now = Instant::now();
        if done > 0 && first.is_none() {
            first = Some((now, done));
        }
        if done >= messages {
            let (since, before) = first.context("nothing was seen of its begin")?;
            ensure!(before < messages, "too few messages to measure");
            return Ok((done - before) as f64 / (now - since).as_secs_f64());
        }
    }
}
