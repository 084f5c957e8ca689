//! The subscriptions of one function, read many messages at a time.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use async_nats::{Message, Subscriber};
use futures_util::Stream as _;

/// A count of messages after which to unsubscribe that makes the server do so at once, while the
/// client goes on to hand out what is on its way.
///
/// The client's own ways, `unsubscribe` and `drain`, both forget the subscription before the server
/// has heard of it, and drop what it sends meanwhile: replacing a function under load then loses a
/// request now and then. nats-server reads counts of nine digits at most, and takes a longer one
/// for none. One that read it would only lose what is on its way, as those do.
pub(crate) const LEAVE: u64 = u64::MAX;

/// All that a function listens on. Few, so that each is looked at whenever one has something.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    open: Vec<Subscriber>,
}

impl Subscriptions {
    pub(crate) fn add(&mut self, subscriber: Subscriber) {
        self.open.push(subscriber);
    }

    /// Waits for messages and adds as many as there are to `messages`, at most `most`, which is not 0;
    /// returns how many, 0 once all subscriptions have ended.
    ///
    /// Cancel safe: nothing is taken before it returns.
    pub(crate) async fn recv_many(&mut self, messages: &mut Vec<Message>, most: usize) -> usize {
        poll_fn(|cx| self.poll_many(cx, messages, most)).await
    }

    fn poll_many(
        &mut self,
        cx: &mut Context<'_>,
        messages: &mut Vec<Message>,
        most: usize,
    ) -> Poll<usize> {
        let before = messages.len();
        let mut taken = 0;
        let mut index = 0;
        while index < self.open.len() && taken < most {
            match Pin::new(&mut self.open[index]).poll_next(cx) {
                Poll::Ready(Some(message)) => messages.push(message),
                Poll::Ready(None) => drop(self.open.remove(index)),
                Poll::Pending => index += 1,
            }
            taken = messages.len() - before;
        }
        if taken == most && index < self.open.len() {
            // What comes after it is looked at first the next time.
            self.open.rotate_left(index + 1);
        }
        match taken {
            0 if !self.open.is_empty() => Poll::Pending,
            taken => Poll::Ready(taken),
        }
    }

    /// Makes the server send no more messages. Those on their way still come, until a round trip
    /// later.
    pub(crate) async fn leave(&mut self) {
        for subscription in &mut self.open {
            // Where the connection is closed nothing comes any more, which ends it too.
            subscription.unsubscribe_after(LEAVE).await.ok();
        }
    }

    /// Ends them; what is in their buffers still comes out.
    pub(crate) async fn close(&mut self) {
        for subscription in &mut self.open {
            subscription.unsubscribe().await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use nex_nats::barrier;
    use nex_testkit::NatsServer;

    use super::*;

    #[tokio::test]
    async fn none_starves_beside_a_busy_one_and_all_come_out() {
        let server = NatsServer::start();
        let client = async_nats::connect(server.url()).await.unwrap();
        let mut subscriptions = Subscriptions::default();
        for subject in ["a", "b", "c"] {
            subscriptions.add(client.subscribe(subject).await.unwrap());
        }
        for (subject, count) in [("a", 10), ("b", 10), ("c", 1)] {
            for _ in 0..count {
                client.publish(subject, "".into()).await.unwrap();
            }
        }
        barrier(&client).await.unwrap();
        subscriptions.close().await;

        let mut batches = Vec::new();
        let mut messages = Vec::new();
        while subscriptions.recv_many(&mut messages, 4).await > 0 {
            let subjects = messages.drain(..);
            batches.push(
                subjects
                    .map(|it| it.subject.to_string())
                    .collect::<String>(),
            );
        }

        assert_eq!(batches[..3], ["aaaa", "bbbb", "caaa"], "{batches:?}");
        assert_eq!(batches.concat().len(), 21, "{batches:?}");
    }

    #[tokio::test]
    async fn the_server_takes_leave_at_once_and_the_client_does_not() {
        let server = NatsServer::start();
        let client = async_nats::connect(server.url()).await.unwrap();
        let mut subscriber = client.subscribe("a").await.unwrap();

        client.publish("a", "before".into()).await.unwrap();
        subscriber.unsubscribe_after(LEAVE).await.unwrap();
        client.publish("a", "after".into()).await.unwrap();
        barrier(&client).await.unwrap();
        subscriber.unsubscribe().await.unwrap();

        let messages: Vec<Message> = subscriber.collect().await;
        let payloads: Vec<_> = messages.iter().map(|message| &message.payload).collect();
        assert_eq!(payloads, ["before"]);
    }
}
