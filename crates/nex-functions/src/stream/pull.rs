//! Takes messages from a consumer, as many as there is room for.
//!
//! The client library's own stream keeps messages in a buffer that nobody can give back. This one
//! asks for no more than there is room for, and when it leaves, hands out all that was sent to it.

use std::{mem, time::Duration};

use async_nats::{Client, Message, StatusCode, Subject, SubscribeError};
use tokio::time::Instant;

use crate::{services::connects, subscriptions::Subscriptions};

/// How long the server keeps a request for messages.
const EXPIRES: Duration = Duration::from_secs(30);
/// How often it says that it still does, when there are no messages.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How many bytes one request may bring; at least two messages.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Tells how many messages of a request will not come any more.
const PENDING_HEADER: &str = "Nats-Pending-Messages";

/// What came.
#[derive(Debug)]
pub(crate) enum Pulled {
    /// A message.
    Message(Message),
    /// Word from the server; there may be room to ask again.
    Word,
    /// The consumer, the stream or JetStream is not there.
    Nobody(String),
}

/// Requests to one consumer, and the inbox for what they bring.
#[derive(Debug)]
pub(crate) struct Pull {
    client: Client,
    next: Subject,
    inbox: Subject,
    messages: Subscriptions,
    /// What was read of them and not looked at.
    came: Vec<Message>,
    /// How many messages the server may still send.
    asked: usize,
    heard: Instant,
    /// How often the client had connected when that was looked at last.
    connects: u64,
}

impl Pull {
    /// Asks for nothing yet.
    pub(crate) async fn open(
        client: &Client,
        stream: &str,
        consumer: &str,
    ) -> Result<Self, SubscribeError> {
        let inbox = Subject::from(client.new_inbox());
        let mut messages = Subscriptions::default();
        messages.add(client.subscribe(inbox.clone()).await?);
        Ok(Self {
            client: client.clone(),
            next: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}").into(),
            messages,
            came: Vec::new(),
            inbox,
            asked: 0,
            heard: Instant::now(),
            connects: connects(client),
        })
    }

    /// Asks for as many messages as `room` takes, unless most of them were asked for before.
    pub(crate) async fn ask(&mut self, room: usize) {
        if self.asked > room / 2 || self.asked >= room {
            return;
        }
        let batch = room - self.asked;
        let max_bytes = MAX_BYTES.max(2 * self.client.max_payload());
        let request = serde_json::json!({
            "batch": batch,
            "max_bytes": max_bytes,
            "expires": u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX),
            "idle_heartbeat": u64::try_from(HEARTBEAT.as_nanos()).unwrap_or(u64::MAX),
        });
        let asking = self.client.publish_with_reply(
            self.next.clone(),
            self.inbox.clone(),
            request.to_string().into(),
        );
        // Where the connection is closed no answer comes, which ends the messages.
        if asking.await.is_ok() {
            if self.asked == 0 {
                self.heard = Instant::now();
            }
            self.asked += batch;
        }
    }

    /// Waits for what comes, and adds it to `pulled`, at most `most`; returns how much that was, 0
    /// after [`close`](Self::close). Cancel safe.
    pub(crate) async fn recv_many(&mut self, pulled: &mut Vec<Pulled>, most: usize) -> usize {
        let count = self.messages.recv_many(&mut self.came, most).await;
        self.heard = Instant::now();
        let mut came = mem::take(&mut self.came);
        pulled.extend(came.drain(..).map(|message| self.read(message)));
        self.came = came;
        count
    }

    fn read(&mut self, message: Message) -> Pulled {
        let Some(status) = message.status.filter(|status| *status != StatusCode::OK) else {
            self.asked = self.asked.saturating_sub(1);
            return Pulled::Message(message);
        };
        if status == StatusCode::IDLE_HEARTBEAT {
            return Pulled::Word;
        }
        let pending = message.headers.as_ref().and_then(|headers| {
            let pending = headers.get(PENDING_HEADER)?;
            pending.as_str().parse::<usize>().ok()
        });
        let text = message.description.unwrap_or_default();
        match pending {
            Some(pending) => {
                self.asked = self.asked.saturating_sub(pending);
                Pulled::Word
            }
            None if status == StatusCode::TIMEOUT || status == StatusCode::NOT_FOUND => {
                self.asked = 0;
                Pulled::Word
            }
            None => {
                self.asked = 0;
                Pulled::Nobody(format!("{status} {text}").trim().to_owned())
            }
        }
    }

    /// Forgets what was asked for where the server does so too: on a connection that has ended, or
    /// that nothing is heard on any more.
    ///
    /// Where it is kept nevertheless, twice as many messages come as there is room for, at most.
    pub(crate) fn forget_if_lost(&mut self) {
        let connects = connects(&self.client);
        let anew = mem::replace(&mut self.connects, connects) != connects;
        if anew || self.heard.elapsed() > 2 * HEARTBEAT {
            self.asked = 0;
        }
    }

    /// Makes the server send no more messages; those on their way still come, until a round trip
    /// later.
    pub(crate) async fn leave(&mut self) {
        self.messages.leave().await;
    }

    /// Ends it; what is in its buffer still comes out.
    pub(crate) async fn close(&mut self) {
        self.messages.close().await;
    }
}
