//! Every wait on somebody else.

use std::time::Duration;

/// How long a request to all waits while nobody has said anything, and for nodes that have said
/// that they live. A machine that is busy with something else takes seconds to answer, and an
/// answer that was not waited for would read as one that does not exist.
pub const SILENCE: Duration = Duration::from_secs(10);

/// How long after the first sign of life a list, a ping or a stop waits for nodes that others know
/// and that say nothing. A Go node with a nexlet that is gone takes 2 s for each list and stop.
pub const BROADCAST: Duration = Duration::from_millis(2500);

/// The same for an auction, while nobody bids.
pub const AUCTION: Duration = Duration::from_millis(1500);

/// How long an auction waits for more bids after the first one, and a broadcast for more nodes
/// where none says whom it knows.
pub const QUIET: Duration = Duration::from_millis(300);

/// Pause after the last answer before a request ends without the wanted result: a stop or a clone of a
/// workload that no node has. A node that the others do not know yet may
/// answer meanwhile. So ends a list, too, to which a node has answered that the others do not know.
pub const NEWCOMER: Duration = Duration::from_millis(100);

/// Time after the first answer to a list or a ping for nodes that are unknown to the others; twice the time
/// until the first answer where that is more. A Go node is unknown for its first seconds where the others
/// miss its start; it answers about as fast as they do. All lists take that long at least, so it is short.
pub const SETTLE: Duration = Duration::from_millis(2);

/// Pause after the last answer to an auction in which nobody bids, for nodes that are unknown to the others.
pub const UNKNOWN_BIDDERS: Duration = Duration::from_millis(20);

/// How long an auction among nodes that were there a moment ago hears nothing and goes on, before it
/// asks again who is there.
pub const TRUST: Duration = Duration::from_millis(250);

/// How long nothing is heard, of those who answer a ping and of the few who are to tell whom they
/// know, before all are asked for that.
pub const TELLING: Duration = Duration::from_millis(250);

/// How long a deploy may take: the artifact may have to be fetched first.
pub const DEPLOY: Duration = Duration::from_secs(60);

/// A deploy is not tried on a further node with less time than this left: it would end with nobody
/// knowing whether the workload runs.
pub const ATTEMPT: Duration = Duration::from_secs(5);

/// How long one node may take to answer about itself.
pub const NODE: Duration = Duration::from_secs(5);

/// How long a node may take to name the id of a nexlet. It says nothing where it has none of that
/// name, so this long takes every such answer.
pub const NEXLET_ID: Duration = Duration::from_secs(2);

/// How long a node may take to answer the order to drain: one of Go Nex tells its nexlets first.
pub const LAMEDUCK: Duration = Duration::from_secs(15);

/// How long a stop waits for the workload to die, where the caller does not say.
pub const STOP_GRACE: Duration = Duration::from_secs(15);

/// How much longer than a workload's grace its owner may take to answer.
pub const STOP_MARGIN: Duration = Duration::from_secs(2);

/// How long JetStream may take to answer about the stream of the feeds.
pub const JETSTREAM: Duration = Duration::from_secs(3);

/// How long after an answer the lines that its function wrote are waited for, where nobody says that
/// they are all there.
pub const LAST_LINES: Duration = Duration::from_secs(2);

/// How long the beginning of a line is held back while nothing follows it.
pub const PARTIAL_LINE: Duration = Duration::from_millis(300);

/// Limit for resuming a feed after the connection has come back; also the time for which a reader
/// that does not follow waits for the connection.
pub const RESUME: Duration = Duration::from_secs(15);

/// The pause between two attempts to resume a feed.
pub const RESUME_PAUSE: Duration = Duration::from_millis(100);
