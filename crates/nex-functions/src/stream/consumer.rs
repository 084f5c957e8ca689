//! The durable consumer of a trigger: made with the first replica, shared by all, and kept until
//! somebody says that it is not wanted any more.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{
        self, ErrorCode as JetStreamCode,
        consumer::{AckPolicy, DeliverPolicy, pull},
        stream::{ConsumerError, ConsumerErrorKind},
    },
};
use nex_protocol::{ErrorCode, function::StreamTrigger};
use nexlet::{Chain, Refusal};

/// How long JetStream may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// JetStream with our limit on its answers.
pub(crate) fn context(client: &Client) -> jetstream::Context {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(ANSWER_TIMEOUT);
    context
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
        ack_wait: trigger.ack_wait.0,
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
            format!("stream `{stream}` takes no consumer: {}", Chain(error)),
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

/// Removes the consumer, unless others take messages from it; tells whether it is gone.
pub(crate) async fn purge(client: &Client, stream: &str, name: &str) -> Result<bool, String> {
    let text = |error: &(dyn std::error::Error + 'static)| Chain(error).to_string();
    let context = context(client);
    let stream = context.get_stream(stream).await;
    let stream = stream.map_err(|error| text(&error))?;
    let info = match stream.consumer_info(name).await {
        Ok(info) => info,
        Err(error) if error.to_string().contains("not found") => return Ok(true),
        Err(error) => return Err(text(&error)),
    };
    if info.num_waiting > 0 {
        return Ok(false);
    }
    let deleted = stream.delete_consumer(name).await;
    deleted.map(|_| true).map_err(|error| text(&error))
}
