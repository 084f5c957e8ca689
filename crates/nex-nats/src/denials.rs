//! What the server refuses on a connection.
//!
//! It says so apart from the request, to which nobody answers then: who waits for an answer alone
//! waits for silence.

use std::{collections::VecDeque, future::pending};

use tokio::sync::watch;

/// How many refusals are remembered.
const KEPT: usize = 256;

/// The refusals of a connection. Cheap to clone. The default is that of one nobody listens to.
#[derive(Clone, Debug)]
pub struct Denials(watch::Receiver<Told>);

/// Takes down what the server says.
#[derive(Debug)]
pub(crate) struct Recorder {
    told_tx: watch::Sender<Told>,
    /// What the inboxes of the connection begin with.
    inbox_prefix: String,
}

#[derive(Debug, Default)]
struct Told {
    count: u64,
    /// The subjects of the last ones.
    last: VecDeque<String>,
    /// The inbox on which we may not listen, so that no answer is heard.
    deaf: Option<String>,
}

impl Default for Denials {
    fn default() -> Self {
        Self(watch::channel(Told::default()).1)
    }
}

impl Recorder {
    pub(crate) fn new(inbox_prefix: Option<&str>) -> (Self, Denials) {
        let (told_tx, told_rx) = watch::channel(Told::default());
        let recorder = Self {
            told_tx,
            inbox_prefix: format!("{}.", inbox_prefix.unwrap_or("_INBOX")),
        };
        (recorder, Denials(told_rx))
    }

    /// Takes down an error of the server; returns whether it is a refusal.
    pub(crate) fn note(&self, text: &str) -> bool {
        let words = text.to_lowercase();
        if !words.contains("permissions violation") {
            return false;
        }
        let subject = subject(text).to_owned();
        let listens = words.contains("for subscription to");
        self.told_tx.send_modify(|told| {
            if listens && subject.starts_with(&self.inbox_prefix) {
                told.deaf = Some(subject.clone());
            }
            told.count += 1;
            told.last.truncate(KEPT - 1);
            told.last.push_front(subject);
        });
        true
    }

    /// Forgets that inboxes are refused: after a reconnect they are subscribed to anew.
    pub(crate) fn reconnected(&self) {
        self.told_tx.send_modify(|told| told.deaf = None);
    }
}

/// The first subject that it names; nothing where it names none.
fn subject(text: &str) -> &str {
    text.split('"').nth(1).unwrap_or_default()
}

impl Denials {
    /// How many there were so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.borrow().count
    }

    /// Resolves when the server has refused this subject, after this was called. Cancel safe.
    pub fn of(&self, subject: &str) -> impl Future<Output = ()> + Send + use<> {
        let subject = subject.to_owned();
        let denied = first(self.0.clone(), move |told| told == subject);
        async move {
            denied.await;
        }
    }

    /// Resolves with the inbox when the server has refused to let us listen on one, at any time since
    /// the connection was made: the answers to all its requests may come to the same. Cancel safe.
    pub fn of_inbox(&self) -> impl Future<Output = String> + Send + use<> {
        let mut told_rx = self.0.clone();
        async move {
            let deaf = told_rx.wait_for(|told| told.deaf.is_some()).await;
            let deaf = deaf.ok().and_then(|told| told.deaf.clone());
            match deaf {
                Some(inbox) => inbox,
                None => pending().await,
            }
        }
    }

    /// Resolves with the subject when the server has refused one of JetStream that is about `stream`,
    /// or of the stream itself, after this was called. Cancel safe.
    pub fn of_stream(&self, stream: &str) -> impl Future<Output = String> + Send + use<> {
        let stream = stream.to_owned();
        let is_meant = move |told: &str| told.starts_with('$') && told.contains(&stream);
        first(self.0.clone(), is_meant)
    }
}

/// The first of the refusals from now on that is meant.
fn first(
    mut told_rx: watch::Receiver<Told>,
    is_meant: impl Fn(&str) -> bool + Send,
) -> impl Future<Output = String> + Send {
    let mut seen = told_rx.borrow().count;
    async move {
        loop {
            {
                let told = told_rx.borrow_and_update();
                let new = usize::try_from(told.count - seen).unwrap_or(usize::MAX);
                let mut last = told.last.iter().take(new);
                if let Some(subject) = last.find(|subject| is_meant(subject)) {
                    return subject.clone();
                }
                seen = told.count;
            }
            if told_rx.changed().await.is_err() {
                return pending().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn refusal(subject: &str) -> String {
        format!("Permissions Violation for Publish to \"{subject}\"")
    }

    #[test]
    fn only_a_new_refusal_of_that_subject_counts() {
        let (recorder, denials) = Recorder::new(None);
        assert!(recorder.note(&refusal("Foo.bar")));
        let mut denied = Box::pin(denials.of("Foo.bar"));
        assert!((&mut denied).now_or_never().is_none(), "that was before");

        assert!(recorder.note(&refusal("Foo.bar.more")));
        assert!(!recorder.note("Maximum Payload Violation for \"Foo.bar\""));
        assert!((&mut denied).now_or_never().is_none());

        recorder.note(&refusal("Foo.bar"));
        for _ in 0..KEPT - 1 {
            recorder.note(&refusal("other"));
        }
        assert!(denied.now_or_never().is_some());
        assert_eq!(denials.count(), 2 + KEPT as u64);

        let of_stream = denials.of_stream("FOO");
        recorder.note("Permissions Violation for Subscription to \"bar\" using queue \"$FOO\"");
        recorder.note(&refusal("FOO"));
        recorder.note(&refusal("$JS.API.STREAM.INFO.FOO"));
        let told = of_stream.now_or_never();
        assert_eq!(told.as_deref(), Some("$JS.API.STREAM.INFO.FOO"));
    }

    #[test]
    fn an_inbox_that_is_refused_stays_so_until_a_reconnect() {
        let (recorder, denials) = Recorder::new(Some("_INBOX.NEX"));
        recorder.note("Permissions Violation for Publish to \"_INBOX.NEX.a\"");
        recorder.note("Permissions Violation for Subscription to \"_INBOX.b\"");
        assert!(denials.of_inbox().now_or_never().is_none());

        recorder.note("Permissions Violation for Subscription to \"_INBOX.NEX.c.*\"");

        let told = denials.of_inbox().now_or_never();
        assert_eq!(told.as_deref(), Some("_INBOX.NEX.c.*"));

        recorder.reconnected();
        assert!(denials.of_inbox().now_or_never().is_none());
    }

    #[test]
    fn of_a_connection_that_is_gone_nothing_is_heard_any_more() {
        let (recorder, denials) = Recorder::new(None);
        let denied = denials.of("foo");
        drop(recorder);
        assert!(denied.now_or_never().is_none());
        assert!(Denials::default().of("foo").now_or_never().is_none());
    }
}
