//! Listens on what triggers a function.

use nex_nats::{Connection, barrier};
use nex_protocol::{
    ErrorCode, StartWorkloadRequest,
    dead_letter::replay_subject,
    function::{StreamTrigger, SubjectTrigger, queue_group},
};
use nexlet::{Refusal, Start};

use crate::{
    dead_letter::DeadLetters,
    request::FunctionRequest,
    stream::{NewConsumer, Pull, StreamSource, ensure},
    subscriptions::Subscriptions,
};

/// What a function listens on.
pub(crate) struct Triggers {
    /// Its subjects, and where it gets dead letters again.
    pub(crate) subscriptions: Subscriptions,
    pub(crate) sources: Vec<StreamSource>,
}

/// Listens on all triggers of a function; returns when the server knows.
///
/// # Errors
/// What is not there, or not allowed.
pub(crate) async fn listen(
    connection: &Connection,
    start: &Start,
    request: &FunctionRequest,
) -> Result<Triggers, Refusal> {
    let subjects: Vec<_> = request.subjects().collect();
    let mut triggers = Triggers {
        subscriptions: subscribe(connection, &start.request, &subjects).await?,
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
        // What was refused leaves nothing behind.
        for consumer in made {
            consumer.remove(connection).await;
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
    made: &mut Vec<NewConsumer>,
) -> Result<(), Refusal> {
    for trigger in streams {
        let name = trigger.consumer(&start.request.namespace, &start.request.name);
        made.extend(NewConsumer::of(connection, trigger, &name).await);
        let delivered = ensure(connection, trigger, &name).await?;
        let pull = Pull::open(connection, trigger.stream.as_str(), &name).await;
        let pull = pull.map_err(|error| Refusal::internal(&error))?;
        let replays = replay_subject(&start.request.namespace, &name);
        let replays = start.host.client().queue_subscribe(replays, name.clone());
        let replays = replays.await.map_err(|error| Refusal::internal(&error))?;
        triggers.subscriptions.add(replays);
        triggers.sources.push(StreamSource {
            trigger: (*trigger).clone(),
            consumer: name,
            delivered,
            pull,
        });
    }
    let known = barrier(start.host.client()).await;
    known.map_err(|error| Refusal::internal(&error))
}

/// Subscribes to subjects, in the queue groups in which replicas share them.
async fn subscribe(
    connection: &Connection,
    request: &StartWorkloadRequest,
    triggers: &[&SubjectTrigger],
) -> Result<Subscriptions, Refusal> {
    let denied_before = connection.permission_violations();
    let mut subscriptions = Subscriptions::default();
    for trigger in triggers {
        let subject = trigger.subject.to_string();
        let subscriber = if trigger.broadcast {
            connection.subscribe(subject).await
        } else {
            let group = queue_group(&request.namespace, &request.name, &trigger.subject);
            connection.queue_subscribe(subject, group).await
        };
        subscriptions.add(subscriber.map_err(|error| Refusal::internal(&error))?);
    }
    barrier(connection)
        .await
        .map_err(|error| Refusal::internal(&error))?;
    if connection.permission_violations() > denied_before {
        let subjects: Vec<_> = triggers.iter().map(|it| it.subject.as_str()).collect();
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
