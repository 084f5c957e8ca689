//! Every time that a node waits for, in one table.

use std::time::Duration;

/// How often a node says that it lives, as in Go.
pub(crate) const HEARTBEAT_PERIOD: Duration = Duration::from_secs(10);

/// The shortest time between two heartbeats for nexlets that do not know that they are unknown.
pub(crate) const STRANGERS_SPACING: Duration = Duration::from_secs(1);

/// A node not heard of for three of its periods is no peer any more.
pub(crate) const PEER_LIMIT: Duration = Duration::from_secs(30);

/// How long a nexlet may take to start a workload; a client waits 60 seconds for the answer.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(55);

/// How long the nexlets may take to list their workloads. A Go client waits 2 seconds after the
/// fastest node's answer.
pub(crate) const LIST_LIMIT: Duration = Duration::from_millis(1500);

/// How long the nexlets may take to hand out a start request, for the same reason.
pub(crate) const CLONE_LIMIT: Duration = Duration::from_millis(1500);

/// How long the nexlets may take to answer a stop whose caller named no time: they say `stopping`
/// after 1.5 seconds, and a Go client gives up after 2.
pub(crate) const STOP_LIMIT: Duration = Duration::from_millis(1800);

/// What a nexlet gets beyond the time that the caller of a stop wants to wait.
pub(crate) const STOP_MARGIN: Duration = Duration::from_millis(500);

/// The longest time that a caller of a stop can wait; a request slot is held meanwhile.
pub(crate) const MAX_STOP_WAIT: Duration = Duration::from_secs(600);

/// Time without a heartbeat after which a nexlet of ours that answers no pings counts as absent, while
/// its answer is awaited: such a nexlet beats every 5 seconds.
pub(crate) const OWN_SILENCE: Duration = Duration::from_secs(5);

/// Limit for a nexlet of another make. One of Go beats every 10 seconds; others may not answer pings.
pub(crate) const FOREIGN_SILENCE: Duration = Duration::from_secs(12);

/// How soon a nexlet has to confirm what was handed over to it, by a list, before it is looked for.
pub(crate) const CONFIRM_LIMIT: Duration = Duration::from_secs(5);

/// How often what should run is compared with what the nexlets list, and after what time something
/// handed over that nobody lists is handed over again.
pub(crate) const RECONCILE_PERIOD: Duration = Duration::from_secs(60);

/// When a remote nexlet that is not heard of is surely gone: it is offline by then.
pub(crate) const REMOTE_GONE_LIMIT: Duration = Duration::from_secs(31);

/// How long a drained node may take to forget what ran on it.
pub(crate) const FORGET_LIMIT: Duration = Duration::from_secs(30);

/// How long requests in work may take to end when the node stops.
pub(crate) const LAST_REQUESTS_LIMIT: Duration = Duration::from_secs(2);

/// How long publishing an event may take. Without a connection messages wait in a queue, and when
/// that is full, for ever; a stop of the node must not.
pub(crate) const EVENT_LIMIT: Duration = Duration::from_secs(2);

/// How long remote nexlets may take to stop their workloads at the end of a lame duck.
pub(crate) const REMOTE_STOP_DELAY: Duration = Duration::from_secs(5);

/// How long a bid is good where the operator says nothing.
pub(crate) const AUCTION_TTL: Duration = Duration::from_secs(10);

/// Period at which the heartbeats of a nexlet that the node started are checked, and limit for one ping
/// to it.
pub(crate) const HUNG_LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Limit for the answer to a ping of a nexlet whose heartbeats are missing; after it the nexlet is killed.
pub(crate) const HUNG_PING_LIMIT: Duration = Duration::from_secs(15);

/// Limit for the registration of a built-in nexlet after its start.
pub(crate) const REGISTER_LIMIT: Duration = Duration::from_secs(90);
