//! A NATS client that sees what it is denied.
//!
//! With a sentinel every bad credential connects too, so that a connection proves nothing: only
//! what single subjects answer does.

use async_nats::{Client, ConnectOptions, Event, ServerError};
use futures_util::StreamExt;
use nex_protocol::NatsConnectionData;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::LIMIT;

pub(crate) struct Peer {
    pub(crate) client: Client,
    denials: mpsc::Receiver<String>,
}

impl Peer {
    pub(crate) async fn anonymous(url: &str) -> Self {
        Self::connect(ConnectOptions::new(), url).await
    }

    pub(crate) async fn with(data: &NatsConnectionData) -> Self {
        let creds = nex_credentials::creds_file(&data.nats_user_jwt, &data.nats_user_seed);
        let options = ConnectOptions::with_credentials(&creds).unwrap();
        Self::connect(options, &data.nats_servers[0]).await
    }

    pub(crate) async fn connect(options: ConnectOptions, url: &str) -> Self {
        let (denials_tx, denials) = mpsc::channel(64);
        let options = options.event_callback(move |event| {
            let denials_tx = denials_tx.clone();
            async move {
                if let Event::ServerError(ServerError::Other(text)) = event {
                    denials_tx.send(text).await.ok();
                }
            }
        });
        let client = options.connect(url).await.unwrap();
        Self { client, denials }
    }

    /// The next thing that the server denies it.
    async fn denial(&mut self) -> String {
        let denial = timeout(LIMIT, self.denials.recv()).await;
        denial.expect("the server denies nothing").unwrap()
    }

    /// Publishes, and expects that exactly this is denied.
    pub(crate) async fn cannot_publish(&mut self, subject: &str) {
        self.client
            .publish(subject.to_owned(), "".into())
            .await
            .unwrap();
        let denial = self.denial().await.to_lowercase();
        let expected = format!("publish to \"{}\"", subject.to_lowercase());
        assert!(denial.contains(&expected), "{subject}: {denial}");
    }

    /// Subscribes, and expects that exactly this is denied.
    pub(crate) async fn cannot_subscribe(&mut self, subject: &str) {
        let _subscription = self.client.subscribe(subject.to_owned()).await.unwrap();
        let denial = self.denial().await.to_lowercase();
        let expected = format!("subscription to \"{}\"", subject.to_lowercase());
        assert!(denial.contains(&expected), "{subject}: {denial}");
    }

    /// Sends itself a message, and expects it.
    pub(crate) async fn can_talk_on(&mut self, subject: &str) {
        let mut subscription = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.client
            .publish(subject.to_owned(), "hello".into())
            .await
            .unwrap();
        let message = timeout(LIMIT, subscription.next()).await;
        let message = message.unwrap_or_else(|_| panic!("nothing came on {subject}"));
        assert_eq!(message.unwrap().payload, "hello");
    }

    /// Publishes, and expects that a listener who may hear all gets it.
    pub(crate) async fn can_publish(&mut self, subject: &str, listener: &Self) {
        let mut subscription = listener.client.subscribe(subject.to_owned()).await.unwrap();
        // Its own message says that the server knows the subscription.
        listener
            .client
            .publish(subject.to_owned(), "mine".into())
            .await
            .unwrap();
        let mine = timeout(LIMIT, subscription.next()).await.unwrap().unwrap();
        assert_eq!(mine.payload, "mine");
        self.client
            .publish(subject.to_owned(), "theirs".into())
            .await
            .unwrap();
        let theirs = timeout(LIMIT, subscription.next()).await;
        let theirs = theirs.unwrap_or_else(|_| panic!("nothing came on {subject}"));
        assert_eq!(theirs.unwrap().payload, "theirs");
    }
}
