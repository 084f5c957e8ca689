//! The last lines that a workload wrote before it failed.
//!
//! Logs that a stream keeps are read after the failure. On a NATS without that stream a line reaches
//! only subscribers of that moment, so the subscription begins before the start.

use std::{collections::VecDeque, time::Duration};

use nex_client::{Client, FeedSource, LogLine, LogQuery, Logs};
use nex_protocol::WorkloadId;
use tokio::time::{Instant, timeout_at};

use super::logs;

/// Upper bound of the lines that are shown.
const SHOWN: usize = 20;

/// Age of the oldest line that is read: a job may have written for hours.
const RECENT: Duration = Duration::from_secs(60);

/// Upper bound of the time for reading them.
const LIMIT: Duration = Duration::from_secs(2);

/// Reader of the last lines of one workload.
#[derive(Debug)]
pub(super) struct LastLines {
    live: Option<Logs>,
    seen: VecDeque<LogLine>,
}

impl LastLines {
    /// Subscribes before the start, when the id is not known yet. Where logs may not be read there will be
    /// no lines; that is no reason to fail.
    pub(super) async fn begin(client: &Client) -> Self {
        let query = LogQuery {
            since: logs::since(Some(Duration::ZERO)).unwrap_or_default(),
            follow: true,
            ..LogQuery::default()
        };
        let live = client.logs(&query).await.ok();
        Self {
            live: live.filter(|live| live.source() == FeedSource::Live),
            seen: VecDeque::new(),
        }
    }

    /// Subscribes to nothing: only lines that a stream keeps are found.
    pub(super) fn kept() -> Self {
        Self {
            live: None,
            seen: VecDeque::new(),
        }
    }

    /// Keeps the last lines of a workload while something else is waited for. Never resolves; cancel
    /// safe.
    pub(super) async fn collect(&mut self, id: &WorkloadId) {
        while let Some(live) = &mut self.live {
            match live.next().await {
                Ok(Some(line)) => remember(&mut self.seen, line, id),
                Ok(None) | Err(_) => self.live = None,
            }
        }
        std::future::pending().await
    }

    /// The last lines of a workload that has ended.
    pub(super) async fn take(mut self, client: &Client, id: &WorkloadId) -> Vec<LogLine> {
        let deadline = Instant::now() + LIMIT;
        let mut lines = match self.live {
            Some(mut live) => {
                live.finish().await;
                live
            }
            None => {
                let query = LogQuery {
                    id: Some(id.clone()),
                    since: logs::since(Some(RECENT)).unwrap_or_default(),
                    ..LogQuery::default()
                };
                let Ok(Ok(kept)) = timeout_at(deadline, client.logs(&query)).await else {
                    return self.seen.into();
                };
                kept
            }
        };
        while let Ok(Ok(Some(line))) = timeout_at(deadline, lines.next()).await {
            remember(&mut self.seen, line, id);
        }
        self.seen.into()
    }
}

fn remember(seen: &mut VecDeque<LogLine>, line: LogLine, id: &WorkloadId) {
    if line.id != *id {
        return;
    }
    if seen.len() == SHOWN {
        seen.pop_front();
    }
    seen.push_back(line);
}
