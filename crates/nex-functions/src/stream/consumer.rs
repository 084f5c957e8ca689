//! The durable consumer of a trigger: made with the first replica, shared by all, and kept until
//! somebody says that it is not wanted any more.

use std::time::Duration;

use async_nats::{
    Client, RequestErrorKind,
    jetstream::{
        self, ErrorCode as JetStreamCode,
        consumer::{AckPolicy, Consumer, DeliverPolicy, pull},
        stream::{ConsumerError, ConsumerErrorKind},
    },
};
use nex_nats::{Connection, Losses, RETURN_PAUSE, RETURN_PERIOD};
use nex_protocol::{ErrorCode, Namespace, dead_letter::replay_subject, function::StreamTrigger};
use nexlet::{Chain, Refusal};

use crate::limits::MAX_ACK_WAIT;

/// How long JetStream may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// JetStream with our limit on its answers.
pub(crate) fn context(client: &Client) -> jetstream::Context {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(ANSWER_TIMEOUT);
    context
}

/// The time without an acknowledgement after which the server delivers a message of a trigger again.
///
/// It is short even if the trigger allows for more: what a nexlet holds it says again and again, so
/// the time is only that for which a killed nexlet's messages wait.
pub(crate) fn ack_wait(trigger: &StreamTrigger) -> Duration {
    trigger.ack_wait.0.min(MAX_ACK_WAIT)
}

/// Makes the consumer of a trigger, or brings one that is there to what the trigger says; tells how
/// often it has delivered a message so far.
///
/// It never gives up a message by itself: that is done when the message has become a dead letter.
pub(crate) async fn ensure(
    client: &Client,
    trigger: &StreamTrigger,
    name: &str,
) -> Result<u64, Refusal> {
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        description: Some(
            "a function's trigger; `nex workload stop --purge` removes it".to_owned(),
        ),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ack_wait(trigger),
        max_deliver: -1,
        filter_subject: trigger
            .filter
            .as_ref()
            .map_or_else(String::new, |filter| filter.as_str().to_owned()),
        ..pull::Config::default()
    };
    let stream = trigger.stream.as_str();
    let context = context(client);
    match context.create_consumer_on_stream(config, stream).await {
        Ok(consumer) => Ok(consumer.cached_info().delivered.consumer_sequence),
        Err(error) => Err(refusal(trigger, &error)),
    }
}

/// Whether there is no such consumer yet; where that cannot be told, there may be one.
pub(crate) async fn is_missing(client: &Client, trigger: &StreamTrigger, name: &str) -> bool {
    let stream = trigger.stream.as_str();
    let context = context(client);
    let found: Result<Consumer<pull::Config>, _> =
        context.get_consumer_from_stream(name, stream).await;
    found.is_err_and(|error| says_missing(&error))
}

/// Whether the server says that there is no such consumer, or no stream for it.
fn says_missing(error: &ConsumerError) -> bool {
    let ConsumerErrorKind::JetStream(error) = error.kind() else {
        return false;
    };
    [
        JetStreamCode::CONSUMER_NOT_FOUND,
        JetStreamCode::STREAM_NOT_FOUND,
    ]
    .contains(&error.error_code())
}

fn refusal(trigger: &StreamTrigger, error: &ConsumerError) -> Refusal {
    let stream = trigger.stream.as_str();
    let code = match error.kind() {
        ConsumerErrorKind::JetStream(error) => Some(error.error_code()),
        _ => None,
    };
    match code {
        Some(JetStreamCode::STREAM_NOT_FOUND) => Refusal::not_found(format!(
            "stream `{stream}` does not exist; `nats stream add {stream}` makes it"
        )),
        Some(
            JetStreamCode::JETSTREAM_NOT_ENABLED | JetStreamCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT,
        ) => Refusal::new(
            ErrorCode::BadRequest,
            "JetStream is off, and triggers on streams need it; turn it on in the nats-server",
        ),
        Some(_) => Refusal::new(
            ErrorCode::BadRequest,
            match nex_nats::jetstream::explain(error, stream) {
                Some(refusal) => refusal.to_string(),
                None => format!("stream `{stream}` takes no consumer: {}", Chain(error)),
            },
        ),
        None => Refusal::new(
            ErrorCode::Busy,
            format!(
                "stream `{stream}` cannot be reached: {}; JetStream may be starting, or the \
                 workload's credentials do not allow a consumer there",
                Chain(error)
            ),
        ),
    }
}

/// Removes the consumer of a function that does not listen any more, unless others run of it; tells
/// whether it is gone. `nexlet` is the connection on which functions get dead letters again.
pub(crate) async fn purge(
    connection: &Connection,
    nexlet: &Client,
    namespace: &Namespace,
    stream: &str,
    name: &str,
) -> Result<bool, String> {
    if is_used(connection.losses(), nexlet, namespace, name).await? {
        return Ok(false);
    }
    match context(connection)
        .delete_consumer_from_stream(name, stream)
        .await
    {
        Ok(_) => Ok(true),
        // It went, alone or with its stream.
        Err(error) if says_missing(&error) => Ok(true),
        Err(error) => Err(Chain(&error).to_string()),
    }
}

/// Whether a replica runs that takes messages from the consumer: each listens for its dead letters.
/// What the consumer itself says is no sign, since a replica that has enough to do asks for nothing.
/// After a restart of the server replicas on other nexlets get the time to come back.
async fn is_used(
    losses: &Losses,
    nexlet: &Client,
    namespace: &Namespace,
    name: &str,
) -> Result<bool, String> {
    loop {
        let others_may_be_away = losses.was_lost_within(RETURN_PERIOD);
        // Refused by whoever is there, for it is no dead letter.
        let probe = async_nats::Request::new().timeout(Some(ANSWER_TIMEOUT));
        let subject = replay_subject(namespace, name);
        match nexlet.send_request(subject, probe).await {
            Ok(_) => return Ok(true),
            Err(error) => match error.kind() {
                RequestErrorKind::NoResponders if others_may_be_away => {}
                RequestErrorKind::NoResponders => return Ok(false),
                // Somebody is there, and busy.
                RequestErrorKind::TimedOut => return Ok(true),
                _ => return Err(Chain(&error).to_string()),
            },
        }
        tokio::time::sleep(RETURN_PAUSE).await;
    }
}
