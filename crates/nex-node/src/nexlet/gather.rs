//! Questions to all nexlets of the node at once.

use std::{collections::BTreeSet, time::Duration};

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use nex_nats::request_many::{Gather, GatherError, Step};
use nex_protocol::{
    MORE_HEADER, NODE_HEADER, NexletId, NodeId, Subject, WorkloadSummary, workload::read_list,
};
use tokio::time::Instant;
use tracing::warn;

/// Header by which a nexlet names itself in a reply. Go nexlets send it only for a ping.
const AGENT_HEADER: &str = "agentId";

/// What one reply means for the gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is its nexlet's answer.
    Answer,
    /// Another one of the same nexlet follows: the rest of a long list, or, as Go nexlets do, an
    /// answer after an error.
    Aside,
    /// No other answer matters.
    Enough,
}

/// Who has answered: one account per nexlet, not per message.
///
/// A nexlet that names itself is counted by its name, so that a leftover of an earlier node cannot
/// use up the place of another. Replies without a name count as one nexlet each, but only for those
/// that do not name themselves.
#[derive(Debug)]
pub(crate) struct Roll {
    expected: BTreeSet<NexletId>,
    answered: BTreeSet<NexletId>,
    unnamed: usize,
    /// How many of them do not name themselves.
    nameless: usize,
}

impl Roll {
    pub(crate) fn new(expected: impl IntoIterator<Item = NexletId>) -> Self {
        let expected: BTreeSet<NexletId> = expected.into_iter().collect();
        Self {
            nameless: expected.len(),
            expected,
            answered: BTreeSet::new(),
            unnamed: 0,
        }
    }

    /// For answers in which only `nameless` of them do not name themselves.
    pub(crate) fn naming(expected: impl IntoIterator<Item = NexletId>, nameless: usize) -> Self {
        Self {
            nameless,
            ..Self::new(expected)
        }
    }

    /// Whether a reply is to be read: not one of a stranger, nor a second one.
    fn admits(&self, name: Option<&NexletId>) -> bool {
        name.is_none_or(|name| self.expected.contains(name) && !self.answered.contains(name))
    }

    fn answer(&mut self, name: Option<NexletId>) {
        match name {
            Some(name) => {
                self.answered.insert(name);
            }
            None => self.unnamed += 1,
        }
    }

    /// How many have not answered.
    fn missing(&self) -> usize {
        let open = self.expected.len() - self.answered.len();
        open.saturating_sub(self.unnamed.min(self.nameless))
    }
}

/// Asks all nexlets of the node, and hands each reply to `read` until those in `roll` have
/// answered, `read` has heard enough, or `limit` is over.
///
/// Answers how many are missing.
pub(crate) async fn gather(
    client: &async_nats::Client,
    subject: Subject,
    body: Bytes,
    roll: Roll,
    limit: Duration,
    read: impl FnMut(&Message) -> Heard,
) -> Result<usize, GatherError> {
    gather_with(client, subject, None, body, roll, limit, read).await
}

async fn gather_with(
    client: &async_nats::Client,
    subject: Subject,
    headers: Option<HeaderMap>,
    body: Bytes,
    mut roll: Roll,
    limit: Duration,
    mut read: impl FnMut(&Message) -> Heard,
) -> Result<usize, GatherError> {
    let deadline = Instant::now() + limit;
    let asking = Gather::request(client, subject.to_string(), body, headers);
    // Without a connection it waits for a place in a queue.
    let Ok(asked) = tokio::time::timeout_at(deadline, asking).await else {
        return Ok(roll.missing());
    };
    let mut replies = asked?;
    while roll.missing() > 0 {
        let Step::Reply(message) = replies.next(deadline).await else {
            break;
        };
        let name = sender(&message);
        if !roll.admits(name.as_ref()) {
            continue;
        }
        match read(&message) {
            Heard::Answer => roll.answer(name),
            Heard::Aside => {}
            Heard::Enough => return Ok(0),
        }
    }
    Ok(roll.missing())
}

/// Asks all nexlets of the node for their workloads, and hands each list, or part of one, to `read`,
/// with the name of the nexlet where it says it.
///
/// Answers how many nexlets are missing.
pub(crate) async fn gather_lists(
    client: &async_nats::Client,
    node: &NodeId,
    query: Bytes,
    roll: Roll,
    limit: Duration,
    mut read: impl FnMut(Option<NexletId>, Vec<WorkloadSummary>) -> Heard,
) -> Result<usize, GatherError> {
    // Says that a long list may come in parts; to a Go node it must not.
    let mut headers = HeaderMap::new();
    headers.insert(NODE_HEADER, node.as_str());
    let subject = Subject::QueryWorkloads(node.clone());
    gather_with(
        client,
        subject,
        Some(headers),
        query,
        roll,
        limit,
        |message| {
            let list = match read_list(&message.payload) {
                Ok(list) if nex_nats::read_error(message).is_none() => {
                    if let Some(unreadable) = &list.unreadable {
                        let nexlet = sender(message);
                        warn!(?nexlet, %unreadable, "left workloads out of a nexlet's list");
                    }
                    list.workloads
                }
                // A Go nexlet sends its list after an error too.
                _ => return Heard::Aside,
            };
            match read(sender(message), list) {
                Heard::Answer if has_more(message) => Heard::Aside,
                heard => heard,
            }
        },
    )
    .await
}

/// Whether it is a part of a long list, and not the last one.
fn has_more(message: &Message) -> bool {
    let headers = message.headers.as_ref();
    headers.is_some_and(|headers| headers.get(MORE_HEADER).is_some())
}

fn sender(message: &Message) -> Option<NexletId> {
    let value = message.headers.as_ref()?.get(AGENT_HEADER)?;
    NexletId::new(value.as_str()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> NexletId {
        NexletId::new(name).unwrap()
    }

    fn hear(roll: &mut Roll, name: Option<&str>) -> bool {
        let name = name.map(id);
        let admitted = roll.admits(name.as_ref());
        if admitted {
            roll.answer(name);
        }
        admitted
    }

    #[test]
    fn unnamed_replies_count_as_one_nexlet_each() {
        let mut roll = Roll::new([id("a"), id("b")]);

        hear(&mut roll, None);
        assert_eq!(roll.missing(), 1);
        hear(&mut roll, None);
        assert_eq!(roll.missing(), 0);
        hear(&mut roll, None);
        assert_eq!(roll.missing(), 0);
    }

    #[test]
    fn a_named_nexlet_counts_once() {
        let mut roll = Roll::new([id("a"), id("b")]);

        assert!(hear(&mut roll, Some("a")));
        assert!(!hear(&mut roll, Some("a")));
        assert_eq!(roll.missing(), 1);
    }

    #[test]
    fn an_answer_without_a_name_is_not_that_of_one_who_has_one() {
        let mut roll = Roll::naming([id("ours"), id("go")], 1);

        roll.answer(None);
        roll.answer(None);
        assert_eq!(roll.missing(), 1);

        roll.answer(Some(id("ours")));
        assert_eq!(roll.missing(), 0);
    }

    #[test]
    fn a_stranger_does_not_count() {
        let mut roll = Roll::new([id("a")]);

        assert!(!hear(&mut roll, Some("stranger")));

        assert_eq!(roll.missing(), 1);
    }
}
