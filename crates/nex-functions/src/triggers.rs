//! Listens on what triggers a function.

use futures_util::FutureExt as _;
use nex_nats::{Connection, barrier};
use nex_protocol::{
    ErrorCode, StartWorkloadRequest,
    dead_letter::replay_subject,
    function::{StreamTrigger, SubjectTrigger, queue_group},
};
use nexlet::{Refusal, Start};
use tokio::runtime::Handle;
use tracing::warn;

use crate::{
    dead_letter::DeadLetters,
    request::FunctionRequest,
    stream::{Pull, StreamSource, ensure, is_missing, mismatch, purge},
    subscriptions::Subscriptions,
};

/// What a function listens on.
pub(crate) struct Triggers {
    /// Its subjects, and where it gets dead letters again.
    pub(crate) subscriptions: Subscriptions,
    pub(crate) sources: Vec<StreamSource>,
}

/// Listens on all triggers of a function; returns when the server knows. The connection is on that
/// runtime.
///
/// # Errors
/// What is not there, or not allowed.
pub(crate) async fn listen(
    connection: &Connection,
    runtime: &Handle,
    start: &Start,
    request: &FunctionRequest,
) -> Result<Triggers, Refusal> {
    let subjects: Vec<_> = request.subjects().collect();
    let mut triggers = Triggers {
        subscriptions: subscribe(connection, runtime, &start.request, &subjects).await?,
        sources: Vec::new(),
    };
    let streams: Vec<_> = request.streams().collect();
    if streams.is_empty() {
        return Ok(triggers);
    }
    DeadLetters::new(start.host.client()).ensure().await?;
    let mut made = Vec::new();
    let consuming = consume_all(connection, start, &streams, &mut triggers, &mut made);
    if let Err(refusal) = consuming.await {
        // What was refused leaves nothing behind, unless a replica has begun to use it.
        drop(triggers);
        barrier(start.host.client()).await.ok();
        for (stream, consumer) in made {
            let namespace = &start.request.namespace;
            let client = start.host.client();
            if let Err(why) = purge(connection, client, namespace, &stream, &consumer).await {
                warn!(%stream, %consumer, %why, "failed to remove a consumer");
            }
        }
        return Err(refusal);
    }
    Ok(triggers)
}

async fn consume_all(
    connection: &Connection,
    start: &Start,
    streams: &[&StreamTrigger],
    triggers: &mut Triggers,
    made: &mut Vec<(String, String)>,
) -> Result<(), Refusal> {
    let Start { host, request, .. } = start;
    for trigger in streams {
        let name = trigger.consumer(&request.namespace, &request.name);
        // First, for that tells others that the consumer is used.
        let replays = replay_subject(&request.namespace, &name);
        let replays = host.client().queue_subscribe(replays, name.clone()).await;
        let replays = replays.map_err(|error| Refusal::internal(&error))?;
        triggers.subscriptions.add(replays);
        let mismatch = mismatch(connection, trigger).await;
        let mut warning = None;
        if is_missing(connection, trigger, &name).await {
            if let Some(refusal) = mismatch {
                return Err(refusal);
            }
            made.push((trigger.stream.as_str().to_owned(), name.clone()));
        } else if let Some(refusal) = mismatch {
            // The stream was another one when the consumer was made: its function runs on.
            warning = Some(refusal.text);
        }
        let delivered = ensure(connection, trigger, &name).await?;
        let pull = Pull::open(connection, trigger.stream.as_str(), &name).await;
        triggers.sources.push(StreamSource {
            trigger: (*trigger).clone(),
            consumer: name,
            delivered,
            pull: pull.map_err(|error| Refusal::internal(&error))?,
            warning,
        });
    }
    let known = barrier(host.client()).await;
    known.map_err(|error| Refusal::internal(&error))
}

/// Subscribes to subjects, in the queue groups in which replicas share them.
async fn subscribe(
    connection: &Connection,
    runtime: &Handle,
    request: &StartWorkloadRequest,
    triggers: &[&SubjectTrigger],
) -> Result<Subscriptions, Refusal> {
    let mut denied = Vec::new();
    let mut subscriptions = Subscriptions::default();
    for trigger in triggers {
        let subject = trigger.subject.to_string();
        denied.push((subject.clone(), Box::pin(connection.denials().of(&subject))));
        let subscriber = if trigger.broadcast {
            connection.subscribe(subject).await
        } else {
            let group = queue_group(&request.namespace, &request.name, &trigger.subject);
            connection.queue_subscribe(subject, group).await
        };
        subscriptions.add(subscriber.map_err(|error| Refusal::internal(&error))?);
    }
    // Where the connection is: what the server said before its answer is known there before that.
    let client = connection.client().clone();
    let known = runtime.spawn(async move { barrier(&client).await });
    let known = known.await.map_err(|error| Refusal::internal(&error))?;
    known.map_err(|error| Refusal::internal(&error))?;
    let subjects: Vec<_> = denied
        .into_iter()
        .filter_map(|(subject, denied)| denied.now_or_never().map(|()| subject))
        .collect();
    if !subjects.is_empty() {
        return Err(Refusal::new(
            ErrorCode::Forbidden,
            format!(
                "the workload's credentials do not allow to subscribe to `{}`; another subject may do",
                subjects.join("`, `")
            ),
        ));
    }
    Ok(subscriptions)
}
