//! Answers to `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, of all services, of this one by its name,
//! and of this instance by its id.

use std::sync::Arc;

use async_nats::{Client, Message};
use futures_util::{StreamExt as _, stream::SelectAll};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tracing::debug;

use super::{ServiceError, stats::EndpointStats};
use crate::reply::reply_subject;

/// Who the service is.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) version: String,
    pub(super) description: String,
    pub(super) started: jiff::Timestamp,
}

#[derive(Clone, Copy)]
enum Verb {
    Ping,
    Info,
    Stats,
}

impl Verb {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Ping, "PING"),
        (Self::Info, "INFO"),
        (Self::Stats, "STATS"),
    ];

    fn parse(subject: &str) -> Option<Self> {
        let word = subject.split('.').nth(1)?;
        let found = Self::ALL.iter().find(|(_, text)| *text == word);
        found.map(|(verb, _)| *verb)
    }
}

/// The task that answers; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Discovery {
    task: JoinHandle<()>,
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Answers {
    identity: Identity,
    endpoints: Vec<Arc<EndpointStats>>,
}

impl Discovery {
    pub(super) async fn start(
        client: Client,
        identity: Identity,
        endpoints: Vec<Arc<EndpointStats>>,
    ) -> Result<Self, ServiceError> {
        let mut questions = SelectAll::new();
        for (_, word) in Verb::ALL {
            let name = &identity.name;
            let subjects = [
                format!("$SRV.{word}"),
                format!("$SRV.{word}.{name}"),
                format!("$SRV.{word}.{name}.{}", identity.id),
            ];
            for subject in subjects {
                let subscribed = client.subscribe(subject.clone()).await;
                questions.push(
                    subscribed.map_err(|source| ServiceError::Subscribe { subject, source })?,
                );
            }
        }

        let answers = Answers {
            identity,
            endpoints,
        };
        let task = tokio::spawn(async move {
            while let Some(question) = questions.next().await {
                answers.answer(&client, question).await;
            }
        });
        Ok(Self { task })
    }
}

impl Answers {
    async fn answer(&self, client: &Client, question: Message) {
        let reply = reply_subject(&question);
        let Some((verb, reply)) = Verb::parse(&question.subject).zip(reply) else {
            return;
        };
        let body = self.body(verb).to_string();
        if let Err(error) = client.publish(reply, body.into()).await {
            debug!(%error, "failed to answer a service discovery");
        }
    }

    fn body(&self, verb: Verb) -> Value {
        let Identity {
            name,
            id,
            version,
            description,
            started,
        } = &self.identity;
        let entries = |entry: fn(&EndpointStats) -> Value| -> Vec<Value> {
            self.endpoints.iter().map(|stats| entry(stats)).collect()
        };
        let mut body = json!({ "name": name, "id": id, "version": version, "metadata": {} });
        match verb {
            Verb::Ping => body["type"] = "io.nats.micro.v1.ping_response".into(),
            Verb::Info => {
                body["type"] = "io.nats.micro.v1.info_response".into();
                body["description"] = description.as_str().into();
                body["endpoints"] = entries(EndpointStats::info).into();
            }
            Verb::Stats => {
                body["type"] = "io.nats.micro.v1.stats_response".into();
                body["started"] = started.to_string().into();
                body["endpoints"] = entries(EndpointStats::counters).into();
            }
        }
        body
    }
}
