//! Calls of functions, with what they wrote meanwhile.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use async_nats::{HeaderMap, Message, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{SelectAll, select_all},
};
use nex_protocol::{
    Lifecycle, LogStream, NodeId, WorkloadSummary,
    function::{INVOCATION_END_HEADER, INVOCATION_HEADER},
    ids::unique,
    subject::pattern,
};
use tokio::time::timeout_at;

use crate::{
    client::Client,
    error::{ClientError, check},
    find::{matching, one_name},
    limits,
};

/// A function that cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// There is none of that id or name.
    #[error("no function `{text}`")]
    NotFound {
        /// What was asked for.
        text: String,
        /// Nodes that did not answer, and might have it.
        missing: Vec<NodeId>,
    },
    /// Several functions are called so, or their ids begin so.
    #[error("`{text}` is ambiguous: {} workloads match", candidates.len())]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// All of them.
        candidates: Vec<WorkloadSummary>,
    },
    /// It runs when a stream has messages, or is no function, so that nobody can call it.
    #[error("`{0}` has no subject on which it can be called")]
    NoSubject(String),
    /// Its subject has a wildcard, and which one to call was not said; or it has several.
    #[error("`{name}` is called on several subjects: {}", subjects.join(", "))]
    Subjects {
        /// The function.
        name: String,
        /// All on which it can be called.
        subjects: Vec<String>,
    },
    /// Asking failed.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A function, with what its replicas write.
#[derive(Debug)]
pub struct Callee {
    client: Client,
    /// Where it is called.
    subject: String,
    lines: SelectAll<Subscriber>,
}

/// How a call went.
#[derive(Clone, Debug)]
pub struct Called {
    /// The answer, which is an error where [`Refused`](crate::Refused) says so.
    pub reply: Message,
    /// From the request to the answer.
    pub took: Duration,
    /// The lines of this call alone.
    pub lines: Vec<(LogStream, String)>,
    /// Whether these are all. A nexlet that does not tell the end of a call's lines, or a
    /// connection that may not read them, leaves that open.
    pub complete: bool,
}

impl Called {
    /// Whether the function did what it was asked for.
    ///
    /// # Errors
    /// Its error.
    pub fn check(&self) -> Result<(), ClientError> {
        Ok(check(&self.reply)?)
    }
}

impl Client {
    /// Gets ready to call a function of this client's namespace, named by its id, its name or the
    /// beginning of its id (three characters at least). Its replicas, those of its name in its
    /// namespace, share the calls. `subject` says where, if there are several or a wildcard.
    ///
    /// # Errors
    /// When there is no such function, or it is not clear on which subject to call it.
    pub async fn callee(&self, text: &str, subject: Option<&str>) -> Result<Callee, InvokeError> {
        let answer = self.list(&[]).await?;
        if answer.nobody {
            return Err(ClientError::NoNodes.into());
        }
        let workloads = answer.workloads.into_iter().map(|(_, workload)| workload);
        let live: Vec<WorkloadSummary> = workloads.filter(|each| !each.has_ended()).collect();
        let found = matching(&live, text);
        let Some(first) = found.first() else {
            let (text, missing) = (text.to_owned(), answer.missing);
            return Err(InvokeError::NotFound { text, missing });
        };
        if !one_name(&found) {
            let (text, candidates) = (text.to_owned(), found);
            return Err(InvokeError::Ambiguous { text, candidates });
        }
        let (name, namespace) = (&first.name, &first.namespace);
        let replicas: Vec<WorkloadSummary> = live
            .into_iter()
            .filter(|each| each.name == *name && each.namespace == *namespace)
            .collect();
        let subject = match subject {
            Some(subject) => subject.to_owned(),
            None => only_subject(name, &replicas)?,
        };
        let mut lines = Vec::new();
        for replica in &replicas {
            let namespace = replica.namespace.as_ref().unwrap_or(self.namespace());
            let lines_of = pattern::logs_of(namespace, &replica.id);
            let subscribed = self.nats.subscribe(lines_of).await;
            lines.push(subscribed.map_err(|error: SubscribeError| self.unsent(error))?);
        }
        nex_nats::barrier_or_denial(&self.nats, &self.denials)
            .await
            .map_err(|error| self.unsent(error))?;
        Ok(Callee {
            client: self.clone(),
            subject,
            lines: select_all(lines),
        })
    }
}

/// The subject of a function whose replicas have one, without wildcards.
fn only_subject(name: &str, replicas: &[WorkloadSummary]) -> Result<String, InvokeError> {
    let name = name.to_owned();
    let functions = replicas
        .iter()
        .filter(|replica| replica.workload_lifecycle == Lifecycle::Function.as_str());
    let subjects: BTreeSet<&str> = functions
        .filter_map(|function| function.metadata.get("subjects"))
        .flat_map(|subjects| subjects.split(','))
        .filter(|subject| !subject.is_empty())
        .collect();
    let subjects: Vec<String> = subjects.into_iter().map(ToOwned::to_owned).collect();
    let is_wild = |subject: &str| subject.split('.').any(|token| matches!(token, "*" | ">"));
    match subjects.as_slice() {
        [] => Err(InvokeError::NoSubject(name)),
        [only] if !is_wild(only) => Ok(only.clone()),
        _ => Err(InvokeError::Subjects { name, subjects }),
    }
}

impl Callee {
    /// Where it is called.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Calls it once, and waits for the answer, at most for `limit`, and then for the lines that it
    /// wrote, at most for [`LAST_LINES`](limits::LAST_LINES).
    ///
    /// Dropped before it is over, the function may have run, or run on; a later call is not disturbed by
    /// its lines.
    ///
    /// # Errors
    /// [`ClientError::NoNodes`] when nobody listens on the subject, [`ClientError::TimedOut`] when no
    /// answer came within `limit`. An error of the function's is an answer.
    pub async fn call(&mut self, payload: Bytes, limit: Duration) -> Result<Called, ClientError> {
        let id = unique();
        let mut headers = HeaderMap::new();
        headers.insert(INVOCATION_HEADER, id.as_str());
        let request = || {
            async_nats::Request::new()
                .headers(headers.clone())
                .payload(payload.clone())
                .timeout(Some(limit))
        };
        let started = Instant::now();
        let asked = self.client.send(&self.subject, request, limit);
        let reply = asked.await?;
        let mut called = Called {
            reply,
            took: started.elapsed(),
            lines: Vec::new(),
            complete: false,
        };
        let end = tokio::time::Instant::now() + limits::LAST_LINES;
        while let Ok(Some(message)) = timeout_at(end, self.lines.next()).await {
            let header = |name| message.headers.as_ref().and_then(|all| all.get(name));
            if header(INVOCATION_HEADER).is_none_or(|value| value.as_str() != id) {
                continue;
            }
            if header(INVOCATION_END_HEADER).is_some() {
                called.complete = true;
                break;
            }
            called.lines.extend(lines(&message));
        }
        Ok(called)
    }
}

/// The lines of a message, which has whole ones.
fn lines(message: &Message) -> Vec<(LogStream, String)> {
    let stream = match message.subject.rsplit('.').next() {
        Some("stdout") => LogStream::Stdout,
        _ => LogStream::Stderr,
    };
    let text = String::from_utf8_lossy(&message.payload);
    let lines = text.lines().map(|line| (stream, line.to_owned()));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lifecycle: &str, subjects: &str) -> WorkloadSummary {
        serde_json::from_value(serde_json::json!({
            "id": "w1", "name": "web", "runtime": "--", "start_time": "t", "tags": {},
            "workload_lifecycle": lifecycle, "workload_state": "warm", "workload_type": "js",
            "metadata": {"subjects": subjects},
        }))
        .unwrap()
    }

    #[test]
    fn a_function_is_called_on_its_only_subject() {
        let subject = |lifecycle, subjects| only_subject("web", &[function(lifecycle, subjects)]);
        assert_eq!(subject("function", "a.b").unwrap(), "a.b");
        for (lifecycle, subjects, told) in [
            ("function", "", "`web` has no subject"),
            ("service", "a", "`web` has no subject"),
            (
                "function",
                "a.*",
                "`web` is called on several subjects: a.*",
            ),
            (
                "function",
                "a,b",
                "`web` is called on several subjects: a, b",
            ),
        ] {
            let error = subject(lifecycle, subjects).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
